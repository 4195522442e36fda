"""What a container should publish: its record, and for every port left out the rule and the reason.

Pure, and the one place where facts, tags, addresses and names come together. `wanted` never raises: bad tags are refused
one by one, each at its own port. What the record says of an untagged port: it has no names and no route, and is listed
under /reg/all only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import msgspec

from pilotfish.catalog.record import MAX_ENDPOINTS, MAX_TEXT, Address, Container, Endpoint
from pilotfish.catalog.route import Backend, Route, Scheme
from pilotfish.catalog.values import BadValue, parse_name, quoted
from registrator import naming, tags
from registrator.address import Ask, BadNetwork, FactsOf, Host, Reach, network_holder, reach, usable
from registrator.container import Facts, PortSpec
from registrator.naming import Naming
from registrator.settings import RegistratorSettings
from registrator.tags import PortTags, Tags
