"""A moment as Go's time.Time shows it to a template: what `datetime` gives.

Pure: the moment and its zone come in. Layouts are read as Go reads them, by the reference time 2006-01-02 15:04:05.

Differs: printed as it is, it lacks the reading of the monotonic clock (`m=+0.01`) that Go appends.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar

from pilotfish.catalog.gotemplate.values import Struct

_STRING = "2006-01-02 15:04:05.999999999 -0700 MST"
_LAYOUT = re.compile(
    "January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|002|0[1-6]|15|1|2006|__2|_2(?!006)|2|3|4|5|PM|pm"
    "|[-Z]070000|[-Z]07:00:00|[-Z]0700|[-Z]07:00|[-Z]07|[.,](?:0+|9+)(?![0-9])"
)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


class Named(Struct):
    """A month or a day of the week: prints as its name."""

    go_type: ClassVar[str] = "time.Month"

    def __init__(self, name: str) -> None:
        super().__init__({}, text=name)


class Moment(Struct):
    """A time.Time.

    Args:
        nanoseconds: since 1970, UTC.
        zone: in which it is shown.
    """

    go_type: ClassVar[str] = "time.Time"

    def __init__(self, nanoseconds: int, zone: dt.tzinfo) -> None:
        self._ns, self._zone = nanoseconds, zone
        when = dt.datetime.fromtimestamp(nanoseconds // 10**9, zone)
        self._when = when
        super().__init__({}, self._methods(), self.format(_STRING))

    def _methods(self) -> Mapping[str, Callable[..., object]]:
        when = self._when
        return {
            "Format": self.format,
            "String": lambda: self.format(_STRING),
            "IsZero": lambda: False,
            "UTC": lambda: Moment(self._ns, dt.UTC),
            "Local": lambda: self,
            "Unix": lambda: self._ns // 10**9,
            "UnixNano": lambda: self._ns,
            "Year": lambda: when.year,
            "Month": lambda: Named(_MONTHS[when.month - 1]),
            "Day": lambda: when.day,
            "Hour": lambda: when.hour,
            "Minute": lambda: when.minute,
            "Second": lambda: when.second,
            "Nanosecond": lambda: self._ns % 10**9,
            "Weekday": lambda: Named(_DAYS[when.weekday()]),
            "YearDay": lambda: when.timetuple().tm_yday,
        }

    def format(self, layout: str) -> str:
        """Write it as a layout says.

        >>> Moment(0, dt.UTC).format("Jan 2, 2006 at 3:04pm (MST)")
        'Jan 1, 1970 at 12:00am (UTC)'
        """
        if not isinstance(layout, str):
            raise TypeError("the layout must be a string")
        return _LAYOUT.sub(lambda found: self._piece(found[0]), layout)

    def _piece(self, token: str) -> str:
        if token[0] in ".,":
            return self._fraction(token)
        if token[0] in "-Z":
            return self._offset(token)
        return _PIECES[token](self._when)

    def _fraction(self, token: str) -> str:
        digits = f"{self._ns % 10**9:09d}"[: len(token) - 1].ljust(len(token) - 1, "0")
        if token[1] == "9":
            digits = digits.rstrip("0")
            return token[0] + digits if digits else ""
        return token[0] + digits

    def _offset(self, token: str) -> str:
        seconds = int((self._when.utcoffset() or dt.timedelta()).total_seconds())
        if token[0] == "Z" and seconds == 0:
            return "Z"
        sign, seconds = "-" if seconds < 0 else "+", abs(seconds)
        parts = [f"{seconds // 3600:02d}", f"{seconds // 60 % 60:02d}", f"{seconds % 60:02d}"]
        count = {2: 1, 4: 2, 6: 3}[len(token.replace(":", "")) - 1]
        return sign + (":" if ":" in token else "").join(parts[:count])


def _zone(when: dt.datetime) -> str:
    return when.tzname() or ""


_PIECES: Mapping[str, Callable[[dt.datetime], str]] = MappingProxyType(
    {
        "January": lambda when: _MONTHS[when.month - 1],
        "Jan": lambda when: _MONTHS[when.month - 1][:3],
        "Monday": lambda when: _DAYS[when.weekday()],
        "Mon": lambda when: _DAYS[when.weekday()][:3],
        "MST": _zone,
        "2006": lambda when: f"{when.year:04d}",
        "06": lambda when: f"{when.year % 100:02d}",
        "01": lambda when: f"{when.month:02d}",
        "1": lambda when: str(when.month),
        "02": lambda when: f"{when.day:02d}",
        "_2": lambda when: f"{when.day:2d}",
        "2": lambda when: str(when.day),
        "002": lambda when: f"{when.timetuple().tm_yday:03d}",
        "__2": lambda when: f"{when.timetuple().tm_yday:3d}",
        "15": lambda when: f"{when.hour:02d}",
        "03": lambda when: f"{(when.hour - 1) % 12 + 1:02d}",
        "3": lambda when: str((when.hour - 1) % 12 + 1),
        "04": lambda when: f"{when.minute:02d}",
        "4": lambda when: str(when.minute),
        "05": lambda when: f"{when.second:02d}",
        "5": lambda when: str(when.second),
        "PM": lambda when: "PM" if when.hour >= 12 else "AM",
        "pm": lambda when: "pm" if when.hour >= 12 else "am",
    }
)
