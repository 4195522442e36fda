"""nginx's error lines name a file; a file names a service."""

from __future__ import annotations

import pytest

from confgen.applying.blame import blame, graves, lines_of

SERVICES = {"services/web.conf": "web", "parts/api@www.test.conf": "api"}
T = "2026/11/21 10:01:10 [emerg] 19404#19404: "
BASE = "/var/lib/pilotfish/nginx/generations/0123456789abcdef0123456789abcdef"
ROWS = [
    (
        "service file",
        f'{T}invalid parameter "x" in {BASE}/services/web.conf:2\nnginx: configuration file nginx.conf test failed\n',
        ("web", "services/web.conf", 2, 'invalid parameter "x" in services/web.conf:2'),
    ),
    (
        "short form",
        f"nginx: [emerg] duplicate location in {BASE}/parts/api@www.test.conf:7",
        ("api", "parts/api@www.test.conf", 7, "duplicate location in parts/api@www.test.conf:7"),
    ),
    (
        "a warning before it",
        f"nginx: [warn] conflicting name\n{T}no port in {BASE}/services/web.conf:9\n",
        ("web", "services/web.conf", 9, "no port in services/web.conf:9"),
    ),
    (
        "our own file",
        f"{T}unknown directive in {BASE}/nginx.conf:3",
        ("", "nginx.conf", 3, "unknown directive in nginx.conf:3"),
    ),
    (
        "no file",
        f"{T}bind() to 0.0.0.0:80 failed (98: Address already in use)\n{T}still could not bind()\n",
        (
            "",
            "",
            0,
            (
                "bind() to 0.0.0.0:80 failed (98: Address already in use)"
                "; end who has it, or choose another --http-port or --https-port"
            ),
        ),
    ),
    ("other words", "nginx did not end and was killed", ("", "", 0, "nginx did not end and was killed")),
    ("silence", "", ("", "", 0, "nginx said nothing")),
    (
        "control characters",
        f"{T}bad \x1b[31m in {BASE}/services/web.conf:1",
        ("web", "services/web.conf", 1, "bad ?[31m in services/web.conf:1"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("said", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_culprit_and_nginx_own_line_are_found(said, expected):
    assert tuple(blame(said, SERVICES)) == expected


def test_a_long_line_is_shortened():
    assert len(blame(f"nginx: [emerg] {'x' * 10000}", {}).message) == 500


def test_a_log_is_grave_only_when_nginx_gave_up():
    waiting = f"{T}bind() to 0.0.0.0:80 failed (98: Address already in use)\n"
    assert graves(waiting) == []
    assert graves(f"{waiting}{T}still could not bind()\n") == ["still could not bind()"]


# What a client can get into one line of a log that requests share with nginx, as before its first reload.
SENT = {
    "a level": "[emerg] 1#1: go away",
    "a level and a file": f"{'A' * 1500}[emerg] 1#1: boo in {BASE}/services/web.conf:11",
    "a line": f"2026/11/21 10:01:10 [emerg] 1#1: boo in {BASE}/services/web.conf:11",
    "a line of the program's": f"nginx: [emerg] boo in {BASE}/services/web.conf:11",
    "dead workers": "[alert] 1#1: worker process 2 exited with fatal code 2 and cannot be respawned",
    "ends of lines that are none": f"\r\v\f\x1c\x85\u2028{T}boo in {BASE}/services/web.conf:11",
}


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
def test_what_a_client_sent_is_not_nginx_own_word(sent):
    line = f'2026/11/21 10:01:10 [error] 7#7: *1 connect() failed, client: 192.0.2.1, referrer: "{sent}'
    assert graves(line) == []
    assert lines_of(line, ("emerg", "alert")) == []
    assert blame(f"{line}\n{T}no port in {BASE}/parts/api@www.test.conf:9", SERVICES).service == "api"
