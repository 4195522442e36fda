"""Facts as zone files, by the rules of docs/dns.md and no code of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pilotfish.catalog.record import Endpoint
from tests.dnsserver.generated import DEFAULT_TTL, DOMAINS, NEGATIVE_TTL, REVERSE, Facts, behind, hosts_of, standing

SOUGHT = ("http", "https", "domain", "80", "53", "9200")  # services and ports that are asked for


def zone_file(made: Facts, domain: str, serial: int) -> str:
    """The zone of a domain."""
    lines = [f"@ {NEGATIVE_TTL} SOA ns.dns.{domain}. hostmaster.{domain}. {serial} 28800 7200 604800 {NEGATIVE_TTL}"]
    if domain == REVERSE:
        lines += [f"{_reversed(ip)} 5 PTR {host}.node.{DOMAINS[0]}." for host, ip in _v4(made)]
    else:
        lines.append(f"@ 10 NS ns.dns.{domain}.")
        own = list(_own(made, domain))
        said = {line.split()[0] for line in own if " TYPE65280 " not in line}
        lines += own + list(_others(made, domain, said))
    return "\n".join([f"$ORIGIN {domain}.", *dict.fromkeys(_one_ttl(lines))]) + "\n"


def _v4(made: Facts) -> Iterator[tuple[str, str]]:
    held = {(host, ip) for host, ips in made.nodes.items() for ip in ips}
    held |= {(host, ip) for host, (ips, _, _) in made.proxies.items() for ip in ips}
    return ((host, ip) for host, ip in sorted(held) if ":" not in ip)


def _reversed(ip: str) -> str:
    return ".".join(reversed(ip.split("."))) + ".in-addr.arpa."


class _Serving(NamedTuple):
    """As what the proxies serve a name."""

    http: bool
    https: bool
    streams: tuple[int, ...] = ()


def _own(made: Facts, domain: str) -> Iterator[str]:
    servers = dict.fromkeys(ip for host in sorted(made.nodes) for ip in made.nodes[host])
    yield from _addresses("ns.dns", 10, servers)
    for host, ips in made.nodes.items():
        yield from _addresses(f"{host}.node", 5, ips)
    for name in {*made.remembered, *(endpoint.service for _, endpoint in made.endpoints)}:
        yield _nothing(name)
        if not behind(made, name):  # nobody knows any more which ports it had
            asked = [f"_{one}._{protocol}" for one in SOUGHT for protocol in ("tcp", "udp")]
            yield from (_nothing(f"{one}.{name}") for one in asked)
    claimed = [host for host in made.claims if host == domain or host.endswith(f".{domain}")]
    relative = [host.removesuffix(domain).rstrip(".") or "@" for host in claimed]
    for name in dict.fromkeys(["proxy", *relative, *(name for name, _ in standing(made))]):
        yield _nothing(name)
        yield from _name(made, name, domain)
        if "*" not in name:
            yield from _brought(made, name, domain)


def _serving(made: Facts, name: str, domain: str) -> _Serving | None:
    if name == "proxy":
        return _Serving(http=True, https=False)
    host = domain if name == "@" else f"{name}.{domain}"
    asking = [
        one for _, one in made.endpoints if not one.route or one.route.scheme != "tcp"
    ]  # a stream asks for a port
    claiming = [one for one in asking if made.claims.get(host) == one.service and host in hosts_of(one)]
    proxied = [one for how, one in behind(made, name) if how == 3]
    if not claiming and not proxied:
        return None
    schemes = [one.route.scheme if one.route else "http" for one in (*claiming, *proxied)]
    streams = {one.route.port for one in (*claiming, *proxied) if one.route and one.route.scheme == "tcp"}
    http = bool(claiming) or bool({"http", "https"} & set(schemes))
    return _Serving(http, "https" in schemes, tuple(sorted(streams)))


def _name(made: Facts, name: str, domain: str) -> Iterator[str]:
    serving, found = _serving(made, name, domain), behind(made, name)
    if serving:
        yield from _proxies(made, name, domain, serving)
    elif found:
        how = max(its for its, _ in found)
        yield from _instances(name, [endpoint for its, endpoint in found if its == how], name, domain)


def _brought(made: Facts, name: str, domain: str) -> Iterator[str]:
    """Instances, ports, services by name."""
    serving, endpoints = _serving(made, name, domain), [endpoint for _, endpoint in behind(made, name)]
    for one in endpoints:
        label, port = f"{one.label}.{name}", f"_{one.port}._{one.protocol}.{name}"
        yield from (_nothing(label), _nothing(port))
        yield from _instances(label, [one], name, domain)
        yield from _services(port, [one], name, domain)
    for service in ("http", "domain"):
        for protocol in ("tcp", "udp"):
            speaking = [one for one in endpoints if one.protocol == protocol and _speaks(one, service)]
            owner = _below(f"_{service}._{protocol}", name)
            if (service, protocol) == ("http", "tcp") and serving and serving.http:
                yield _nothing(owner)
                yield from _at_proxies(made, owner, domain, {host: http for host, (_, http, _) in made.proxies.items()})
            elif speaking:
                yield _nothing(owner)
                yield from _services(owner, speaking, name, domain)
    if serving and serving.https:
        secure = {host: https for host, (_, _, https) in made.proxies.items()}
        yield from (_nothing(_below("_https._tcp", name)), _nothing(_below("_8443._https", name)))
        yield from _at_proxies(made, _below("_https._tcp", name), domain, secure)
        yield from _bindings(made, _below("_8443._https", name), domain, 8443, _full(name, domain))


def _speaks(endpoint: Endpoint, service: str) -> bool:
    routed = endpoint.route is not None and endpoint.route.scheme in {"http", "https"}
    return endpoint.port == {"http": 80, "domain": 53}[service] or (service == "http" and routed)


def _below(label: str, name: str) -> str:
    return label if name == "@" else f"{label}.{name}"


def _full(name: str, domain: str) -> str:
    return f"{domain}." if name == "@" else f"{name}.{domain}."


def _at_proxies(made: Facts, owner: str, domain: str, ports: dict[str, int]) -> Iterator[str]:
    yield from (f"{owner} 10 SRV 10 100 {ports[host]} {host}.node.{domain}." for host in made.proxies if ports[host])


def _proxies(made: Facts, owner: str, domain: str, serving: _Serving) -> Iterator[str]:
    for host, (ips, http, https) in made.proxies.items():
        yield from _addresses(owner, 10, ips)
        ports = [*((http, https) if serving.http else ()), *serving.streams]
        yield from (f"{owner} 10 SRV 10 100 {port} {host}.node.{domain}." for port in ports if port)
    if serving.https:
        yield from _bindings(made, owner, domain, 0, ".")


def _bindings(made: Facts, owner: str, domain: str, at: int, target: str) -> Iterator[str]:
    """HTTPS records: one for all proxies when these are alike, else one for each."""
    ports = {host: https for host, (_, _, https) in made.proxies.items() if https and at in {0, https}}
    alike = len(set(ports.values())) == 1 and len(ports) == len(made.proxies)
    for host, port in list(ports.items())[: 1 if alike else None]:
        told = "" if port == 443 else f" port={port}"
        yield f"{owner} 10 HTTPS 1 {target if alike else f'{host}.node.{domain}.'} alpn=http/1.1{told}"


def _instances(owner: str, endpoints: list[Endpoint], name: str, domain: str) -> Iterator[str]:
    for endpoint in endpoints:
        if endpoint.state == "passing" and endpoint.weight:
            reached = [address.ip for address in endpoint.addresses if address.scope == "lan"]
            yield from _addresses(owner, endpoint.ttl or 5, reached)
    yield from _services(owner, endpoints, name, domain)


def _services(owner: str, endpoints: list[Endpoint], name: str, domain: str) -> Iterator[str]:
    for endpoint in endpoints:
        if endpoint.state == "passing" and endpoint.weight:
            for port in {address.port for address in endpoint.addresses if address.scope == "lan"}:
                says = f"{endpoint.priority} {endpoint.weight} {port} {endpoint.label}.{name}.{domain}."
                yield f"{owner} {endpoint.ttl or 5} SRV {says}"


def _others(made: Facts, domain: str, taken: set[str]) -> Iterator[str]:
    for name, held in made.foreign.items():
        if not name.endswith(f".{domain}"):
            continue
        relative = name.removesuffix(f".{domain}")
        total: dict[int, int] = {}
        for record in held:
            total[_priority(record)] = total.get(_priority(record), 0) + _weight(record)
        for at, record in enumerate(held, start=1):
            own = relative if len(held) == 1 else f"i{at}.{relative}"
            for owner in {relative, own} - taken if "text" not in record else {relative}:
                alone = owner == own
                share = 100 if alone else int(100.0 / total[_priority(record)] * _weight(record))
                yield from _other(owner, record, share, f"{own}.{domain}.")


def _priority(record: dict[str, object]) -> int:
    return int(str(record.get("priority") or 10))


def _weight(record: dict[str, object]) -> int:
    return int(str(record.get("weight") or 100))


def _other(owner: str, record: dict[str, object], share: int, target: str) -> Iterator[str]:
    ttl, host = record["ttl"] or DEFAULT_TTL, str(record.get("host", ""))
    if "text" in record:
        text = str(record["text"])
        yield f"{owner} {ttl} TXT " + " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))
    elif ":" in host or host[0].isdigit():
        yield from _addresses(owner, ttl, [host])
        if "*" in target:
            return  # services of a stored wildcard are at the name that was asked for, which no zone can say
        yield f"{owner} {ttl} SRV {_priority(record)} {share} {record['port']} {target}"
        if record.get("mail"):
            yield f"{owner} {ttl} MX {_priority(record)} {target}"
    else:
        yield f"{owner} {ttl} CNAME {host}."


def _addresses(owner: str, ttl: object, ips: object) -> Iterator[str]:
    yield from (f"{owner} {ttl} {'AAAA' if ':' in ip else 'A'} {ip}" for ip in ips)  # type: ignore[attr-defined]


def _nothing(owner: str) -> str:
    """A name that exists and has no data that anybody asks for."""
    return f"{owner} 2 TYPE65280 \\# 0"


def _one_ttl(lines: list[str]) -> Iterator[str]:
    """The lowest TTL for each RRset."""
    split = [line.split(" ", 3) for line in lines]
    lowest: dict[tuple[str, str], int] = {}
    for owner, ttl, rtype, _ in split:
        lowest[owner, rtype] = min(int(ttl), lowest.get((owner, rtype), int(ttl)))
    return (f"{owner} {lowest[owner, rtype]} {rtype} {data}" for owner, _, rtype, data in split)
