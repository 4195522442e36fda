"""Our own names, found by question: the typed catalog with the indexes that a DNS server needs.

Pure. Fed with the differences of /pilotfish/v1/; says which names each one changed. What a name says is decided in
`names`; here is where to look. Work for a difference is in proportion to what it touched; what stands behind a name is
arranged when it is first asked for, and kept until it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dnsserver import dname, names
from dnsserver.dname import BadName
from dnsserver.names import Own, Proxies, View, Wanted
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.registry import Registry, Touched
from pilotfish.catalog.route import Place
from pilotfish.catalog.verdict import How, Placed, judge_route, published

PROXIES = b"\x00proxies"  # stands for "who the proxies are"; no wire name goes on after a zero
MAX_REMEMBERED = 10_000  # names whose endpoints are all gone, and that are still known: NODATA, never NXDOMAIN
NODE_LABEL, DNS_LABEL, NS_LABEL = "node", "dns", "ns"
PROTOCOLS = {"_tcp": "tcp", "_udp": "udp"}


class Domain(NamedTuple):
    """One domain that we are authoritative for.

    Attributes:
        text: in lower case, without its last dot.
        name: as wire name.
        reverse: below in-addr.arpa or ip6.arpa: it holds no services.
    """

    text: str
    name: bytes
    reverse: bool = False


class Existing:
    """Names that exist, and so all between them and their domain (RFC 4592 §2.2.2)."""

    def __init__(self) -> None:
        self._members: set[bytes] = set()
        self._below: dict[bytes, int] = {}

    def __contains__(self, name: bytes) -> bool:
        return name in self._members or name in self._below

    def itself(self, name: bytes) -> bool:
        """True for a name that was put, not only one that has such below it."""
        return name in self._members

    def put(self, name: bytes) -> None:
        """It exists."""
        if name not in self._members:
            self._members.add(name)
            for ancestor in dname.suffixes(dname.parent(name)):
                self._below[ancestor] = self._below.get(ancestor, 0) + 1

    def drop(self, name: bytes) -> None:
        """It is gone."""
        if name in self._members:
            self._members.discard(name)
            for ancestor in dname.suffixes(dname.parent(name)):
                self._below[ancestor] -= 1
                if not self._below[ancestor]:
                    del self._below[ancestor]


class OwnNames:
    """All names that come from our own records.

    Args:
        domains: what we are authoritative for.
        proxy_name: the name, under every domain, that stands for all proxies.
        served_at: addresses at which this server answers others; may be empty.
    """

    def __init__(self, domains: Sequence[Domain], proxy_name: str, served_at: Iterable[str] = ()) -> None:
        self.registry = Registry()
        self.domains = tuple(domain for domain in domains if not domain.reverse)
        self._texts = tuple(domain.text for domain in self.domains)
        self._proxy_name = proxy_name.lower()
        self._served_at = tuple(served_at)
        self._views: dict[str, View | None] = {}
        self._proxies = Proxies()
        self._hosts: dict[str, dict[str, str]] = {}  # claimed host -> path -> service
        self._hosts_of: dict[str, set[str]] = {}  # service -> hosts that it claims
        self._served: dict[str, bool] = {}  # claimed host -> does its service ask for it
        self._nodes: dict[str, tuple[str, ...]] = {}  # node in lower case -> addresses
        self._pointers: dict[bytes, tuple[bytes, ...]] = {}  # reverse name -> hosts
        self._existing = Existing()  # names and nodes
        self._claimed = Existing()
        self._pointed = Existing()  # reverse names
        self._gone: dict[str, None] = {}
        reserved = ("dns", "ns.dns", self._proxy_name)
        self._reserved = {
            full for domain in self.domains for label in reserved for full in _wire(f"{label}.{domain.text}")
        }

    # --- changes

    def apply(self, difference: Difference) -> set[bytes]:
        """Take in a difference of /pilotfish/v1/; returns the names whose answers changed, and PROXIES if they did."""
        touched = self.registry.apply(difference)
        changed: set[bytes] = set()
        self._touch_names(touched, changed)
        for place in touched.places:
            self._claim(place, changed)
        for service in touched.services:
            for host in self._hosts_of.get(service, ()):
                self._served.pop(host, None)
                changed.update(_wire(host))
        for node in touched.nodes | touched.proxies:
            self._touch_node(node, changed)
        if touched.proxies or self._proxy_name in touched.names:
            self._touch_proxies(changed)
        return changed

    def _touch_names(self, touched: Touched, changed: set[bytes]) -> None:
        for name in touched.names | touched.services:
            self._views.pop(name, None)
            spelled = [full for domain in self.domains for full in _wire(f"{name}.{domain.text}")]
            changed.update(spelled)
            for full in spelled:
                self._existing.put(full)
            self._gone.pop(name, None)
            if not self.registry.knows(name):
                self._forget_later(name)

    # A name stays known for a while after its last endpoint: a service that is being made anew is no NXDOMAIN.
    def _forget_later(self, name: str) -> None:
        self._gone[name] = None
        while len(self._gone) > MAX_REMEMBERED:
            oldest = next(iter(self._gone))
            del self._gone[oldest]
            for domain in self.domains:
                for full in _wire(f"{oldest}.{domain.text}"):
                    self._existing.drop(full)

    def _claim(self, place: Place, changed: set[bytes]) -> None:
        host, path = place
        claim = self.registry.claims.get(place)
        paths = self._hosts.setdefault(host, {})
        former = paths.pop(path, None)
        if claim is not None:
            paths[path] = claim.service.lower()
            self._hosts_of.setdefault(paths[path], set()).add(host)
        if former is not None and former not in paths.values():
            self._hosts_of[former].discard(host)
            if not self._hosts_of[former]:
                del self._hosts_of[former]
        if not paths:
            del self._hosts[host]
        self._served.pop(host, None)
        for full in _wire(host):
            changed.add(full)
            (self._claimed.put if paths else self._claimed.drop)(full)

    def _touch_node(self, node: str, changed: set[bytes]) -> None:
        here, there = self.registry.nodes.get(node), self.registry.proxies.get(node)
        ips = tuple(dict.fromkeys([*(here.addresses if here else ()), *(there.addresses if there else ())]))
        before = self._nodes.pop(node.lower(), ())
        if ips:
            self._nodes[node.lower()] = ips
        if ips == before:
            return
        for domain in self.domains:
            changed.add(b"\x02ns\x03dns" + domain.name)  # the hosts are its addresses, unless we were told better
            full = names.host_name(node, domain.name)
            if full is not None:
                changed.add(full)
                (self._existing.put if ips else self._existing.drop)(full)
        self._point(node, before, ips, changed)

    def _point(self, node: str, before: Sequence[str], after: Sequence[str], changed: set[bytes]) -> None:
        target = names.host_name(node, self.domains[0].name) if self.domains else None
        if target is None:
            return
        for ip in {*before, *after}:
            reverse = _reverse(ip)
            if reverse is None:
                continue
            hosts = [host for host in self._pointers.pop(reverse, ()) if host != target]
            hosts += [target] if ip in after else []
            if hosts:
                self._pointers[reverse] = tuple(sorted(hosts))
            (self._pointed.put if hosts else self._pointed.drop)(reverse)
            changed.add(reverse)

    def _touch_proxies(self, changed: set[bytes]) -> None:
        hosts = tuple(names.proxy_host(self.registry.proxies[node]) for node in sorted(self.registry.proxies))
        found = Proxies(hosts, self._tagged_proxies())
        if found != self._proxies:
            self._proxies = found
            changed.add(PROXIES)

    def _tagged_proxies(self) -> tuple[Placed, ...]:
        standing = self.registry.standing(self._proxy_name)
        return published(placed for how, placed in standing if how is How.TAGGED)

    # --- questions

    def exists(self, name: bytes) -> bool:
        """True when a name (wire, lower case) or something below it is ours; instances and ports are not looked at."""
        return name in self._existing or name in self._claimed

    def denies_below(self, parent):
        if not any(d.name == parent for d in self.domains):
            return None
        return lambda name: not self.exists(name) and name not in self._reserved

    def pointers(self, reverse: bytes) -> tuple[bytes, ...]:
        """The hosts whose address a reverse name stands for."""
        return self._pointers.get(reverse, ())

    def find(self, name: bytes, domain: Domain) -> Own | None:
        """What a name in a domain says; None when it is not ours.

        Args:
            name: wire name in lower case, the domain's or below it.
            domain: the one it is in.
        """
        if domain.reverse:
            return Own() if name in self._pointed else None
        if not self._is_near(name):
            return None
        labels = _texts(name, domain)
        if labels is None:
            return None
        if self._is_served(_host(labels, domain)):
            return self._proxied(self._wanted(".".join(labels))._replace(http=True), domain)
        if labels and labels[-1] in {NODE_LABEL, DNS_LABEL}:
            found = self._special(labels)
        else:
            found = self._named(labels, domain, name) or self._below_named(labels, domain)
        if found is None and self.exists(name):
            return Own()
        return found

    # What a name brings with it is at most two labels below it; most names that do not exist are near none of ours.
    def _is_near(self, name: bytes) -> bool:
        above = dname.parent(name)
        return (
            name in self._reserved
            or self.exists(name)
            or self._existing.itself(above)
            or above in self._reserved
            or self._existing.itself(dname.parent(above))
        )

    def wildcard(self, name: bytes, domain: Domain) -> Own | None:
        """What `*.<name>` says, if a service serves all hosts below `name`; None if none claims it."""
        if domain.reverse or b"\x01*" + name not in self._claimed:
            return None
        labels = _texts(name, domain)
        if labels is None:
            return None
        host = _host(("*", *labels), domain)
        if host not in self._hosts:
            return None
        return self._proxied(Wanted(), domain) if self._is_served(host) else Own()

    def servers(self) -> tuple[str, ...]:
        """Addresses of name servers: where we answer others, else the hosts'."""
        return self._served_at or tuple(dict.fromkeys(ip for node in sorted(self._nodes) for ip in self._nodes[node]))

    def view(self, name: str) -> View | None:
        """Who stands behind a name relative to our domains, in lower case."""
        if name not in self._views:
            standing = self.registry.standing(name)
            if not standing:
                return None
            self._views[name] = names.view_of(standing)
        return self._views[name]

    def _special(self, labels: tuple[str, ...]) -> Own | None:
        match labels:
            case (node, "node") if node in self._nodes:
                return Own(names.addressed(self._nodes[node], names.ENDPOINT_TTL))
            case ("dns",) if self.servers():
                return Own()
            case ("ns", "dns") if self.servers():
                return Own(names.addressed(self.servers(), names.PROXY_TTL), yields=True)
        return None

    def _named(self, labels: tuple[str, ...], domain: Domain, name: bytes) -> Own | None:
        relative = ".".join(labels)
        if relative == self._proxy_name:
            return self._proxied(Wanted(), domain)
        view = self.view(relative)
        if view is None:
            return None
        if view.how is How.PROXIED:
            return self._proxied(self._wanted(relative), domain)
        return names.of_endpoints(view.members, name)

    def _wanted(self, relative: str) -> Wanted:
        view = self.view(relative)
        return names.wanted_of(view.members if view is not None and view.how is How.PROXIED else ())

    # `<label>.<name>` and `_<port>._<proto>.<name>`: everything that a name brings with it.
    def _below_named(self, labels: tuple[str, ...], domain: Domain) -> Own | None:
        first, rest = labels[:1], labels[1:]
        view = self.view(".".join(rest))
        found: Own | None = None
        if view is not None and first[0] in view.labels:
            found = names.of_endpoints(view.labels[first[0]], _full(rest, domain))
        elif view is not None and any(proto == PROTOCOLS.get(first[0]) for _, proto in view.ports):
            found = Own()
        elif rest and rest[0] in PROTOCOLS:
            rest = rest[1:]
            found = self._port(first[0], PROTOCOLS[labels[1]], rest, domain)
        return found._replace(depends=frozenset({_full(rest, domain)})) if found else None

    def _port(self, port: str, protocol: str, rest: tuple[str, ...], domain: Domain) -> Own | None:
        view = self.view(".".join(rest))
        digits = port.removeprefix("_")
        if view is None or digits == port or not (digits.isascii() and digits.isdigit()) or len(digits) > 5:
            return None
        placed = view.ports.get((int(digits), protocol))
        if placed is None or str(int(digits)) != digits:
            return None
        return Own(services=names.of_endpoints(placed, _full(rest, domain)).services)

    def _proxied(self, wanted: Wanted, domain: Domain) -> Own:
        proxy_name = _full(tuple(self._proxy_name.split(".")), domain)
        found = names.of_proxies(self._proxies, wanted, domain.name, proxy_name)
        return found._replace(depends=frozenset({PROXIES}))

    def _is_served(self, host: str) -> bool:
        if host not in self._hosts:
            return False
        if host not in self._served:
            services = set(self._hosts[host].values())
            self._served[host] = any(self._asks(service, host) for service in services)
        return self._served[host]

    def _asks(self, service: str, host: str) -> bool:
        return any(
            place.host == host
            for placed in self.registry.service(service)
            for place in judge_route(placed.endpoint, self.registry.claims, self._texts).granted
        )


def _texts(name: bytes, domain: Domain) -> tuple[str, ...] | None:
    """The labels in front of the domain, as text; None when one of them cannot be in a name of ours."""
    labels = dname.labels_of(name[: len(name) - len(domain.name)] + dname.ROOT)
    if any(b"." in label or not label.isascii() for label in labels):
        return None
    return tuple(label.decode() for label in labels)


def _host(labels: Sequence[str], domain: Domain) -> str:
    return ".".join((*labels, domain.text))


def _full(labels: Sequence[str], domain: Domain) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in labels) + domain.name


def _wire(text: str) -> list[bytes]:
    """The wire name of a host in lower case; nothing when it is too long to be asked for."""
    try:
        return [dname.from_text(text.lower())]
    except BadName:
        return []


def _reverse(ip: str) -> bytes | None:
    try:
        return dname.reverse(ip)
    except ValueError:
        return None
