"""Service names: what `_http._tcp` and its like stand for (RFC 2782, RFC 6335).

Pure. An endpoint speaks the service that its container's port is assigned to, and what its route says that nginx speaks
with it. The table holds the names that people run in containers, as IANA registers them.
"""

from __future__ import annotations

from pilotfish.catalog.record import Endpoint
from pilotfish.catalog.route import HTTP_SCHEMES

PORTS = {
    "amqp": 5672,
    "amqps": 5671,
    "docker": 2375,
    "docker-s": 2376,
    "domain": 53,
    "domain-s": 853,
    "etcd-client": 2379,
    "etcd-server": 2380,
    "ftp": 21,
    "git": 9418,
    "http": 80,
    "http-alt": 8080,
    "https": 443,
    "imap": 143,
    "imaps": 993,
    "kerberos": 88,
    "ldap": 389,
    "ldaps": 636,
    "memcache": 11211,
    "mongodb": 27017,
    "mqtt": 1883,
    "ms-sql-s": 1433,
    "mysql": 3306,
    "nfs": 2049,
    "ntp": 123,
    "pop3": 110,
    "pop3s": 995,
    "postgresql": 5432,
    "redis": 6379,
    "rsync": 873,
    "rtsp": 554,
    "secure-mqtt": 8883,
    "sip": 5060,
    "sips": 5061,
    "smtp": 25,
    "snmp": 161,
    "ssh": 22,
    "stun": 3478,
    "submission": 587,
    "submissions": 465,
    "syslog": 514,
    "syslog-tls": 6514,
    "telnet": 23,
    "xmpp-client": 5222,
    "xmpp-server": 5269,
}


BACKENDS = frozenset({"http", "https", "grpc", "grpcs"})  # what routes say


def speaks(endpoint: Endpoint, service: str, protocol: str) -> bool:
    """True when an endpoint is what a service name asks for.

    >>> speaks(Endpoint(service="db", id="h:c:5432", label="h-c-5432", port=5432), "postgresql", "tcp")
    True
    """
    if endpoint.protocol != protocol:
        return False
    route = endpoint.route
    if route is not None and route.scheme in HTTP_SCHEMES and service == route.backend:
        return True
    return PORTS.get(service) == endpoint.port


def is_known(service: str) -> bool:
    """True for a service name of the table."""
    return service in PORTS or service in BACKENDS


def is_port(digits: str) -> bool:
    """True for a port as it is spelled in a name: decimal, without zeros in front."""
    return digits.isascii() and digits.isdigit() and len(digits) <= 5 and digits[0] != "0" and 1 <= int(digits) <= 65535
