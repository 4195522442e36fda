"""Our own names, found by question: the typed catalog with the indexes that a DNS server needs.

Pure. Fed with the differences of /pilotfish/v1/; says which names each one changed. What a name says is decided in
`names`; here is where to look. Work for a difference is in proportion to what it touched; what stands behind a name is
arranged when it is first asked for, and kept until it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dnsserver.message import dname, svcb
from dnsserver.own import names, spoken
from dnsserver.own.claimed import Claimed
from dnsserver.own.domain import Domain
from dnsserver.own.existing import Denial, Existing
from dnsserver.own.names import Own, Proxies, View, Wanted
from dnsserver.own.nodes import Nodes
from dnsserver.own.sought import Only, Sought, texts_of
from dnsserver.own.views import Views
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.registry import Registry, Touched
from pilotfish.catalog.values import NEAREST, is_reserved
from pilotfish.catalog.verdict import How, Placed, published
from pilotfish.catalog.wishes import Kind, Subject

PROXIES = b"\x00proxies"  # stands for "who the proxies are"; no wire name goes on after a zero
MAX_REMEMBERED = 10_000  # names whose endpoints are all gone, and that are still known: NODATA, never NXDOMAIN
SPECIAL = {"node", "dns"}  # last labels with rules of their own
PROTOCOLS = {"_tcp": "tcp", "_udp": "udp"}
HTTPS = "_https"  # stands where a protocol does, in names of HTTPS records; RFC 9460 §9.1
BETWEEN = {*PROTOCOLS, HTTPS}
_NEAREST = bytes((len(NEAREST),)) + NEAREST.encode()
_NAME_SERVER = b"\x02ns\x03dns"


class OwnNames:
    """All names that come from our own records.

    Args:
        domains: what we are authoritative for.
        proxy_name: the name, under every domain, that stands for all proxies.
        served_at: addresses at which this server answers others; may be empty.
        node: name of the host that this server runs on, for `nearest.<name>`; "": none is near.
    """

    def __init__(
        self, domains: Sequence[Domain], proxy_name: str, served_at: Iterable[str] = (), node: str = ""
    ) -> None:
        self.registry = Registry()
        self.domains = tuple(domain for domain in domains if not domain.reverse)
        self._by_name = {domain.name: domain for domain in domains}
        self._proxy_name, self._node = proxy_name.lower(), node.lower()
        self._served_at = tuple(served_at)
        self._views = Views(self.registry)
        self._proxies = Proxies()
        self._existing = Existing()  # names and hosts
        self._claimed = Claimed(self.registry, [domain.text for domain in self.domains], self._existing)
        self._nodes = Nodes(self.registry, self.domains, self._existing)
        self._gone: dict[str, None] = {}
        self._fixed = Existing(self._existing)  # names that are there whatever the records say
        self._proxy_names = frozenset(self._spelled(self._proxy_name))
        for name in (*self._by_name, *self._proxy_names):
            self._fixed.put(name)
        # These are there as long as there are name servers.
        self._server_names = frozenset(
            one for name in self._by_name for one in (_NAME_SERVER + name, dname.parent(_NAME_SERVER) + name)
        )

    # --- changes

    def apply(self, difference: Difference) -> set[bytes]:
        """Take in a difference of /pilotfish/v1/; returns the names whose answers changed, and PROXIES if they did."""
        touched = self.registry.apply(difference)
        changed = self._touch_names(touched)
        for place in touched.places:
            changed |= self._claimed.touch(place)
        for service in touched.services:
            changed |= self._claimed.touch_service(service)
        moved = {name for node in touched.nodes | touched.proxies for name in self._nodes.touch(node)}
        changed |= moved
        if moved:  # the hosts are our name servers, unless we were told better
            changed |= self._server_names
        if touched.proxies or self._proxy_name in touched.names:
            self._touch_proxies(changed)
        return changed

    def _touch_names(self, touched: Touched) -> set[bytes]:
        changed: set[bytes] = set()
        for name in touched.names | touched.services:
            if is_reserved(name):
                continue
            self._views.drop(name)
            spelled = self._spelled(name)
            changed.update(spelled)
            for full in spelled:
                self._existing.put(full)
            self._gone.pop(name, None)
            if not self.registry.knows(name):
                changed.update(self._forget_later(name))
        return changed

    # A name stays known for a while after its last endpoint: a service that is being made anew is no NXDOMAIN.
    # Returns what is no longer known instead, spelled.
    def _forget_later(self, name: str) -> list[bytes]:
        self._gone[name] = None
        forgotten = []
        while len(self._gone) > MAX_REMEMBERED:
            oldest = next(iter(self._gone))
            del self._gone[oldest]
            forgotten += self._spelled(oldest)
        for full in forgotten:
            self._existing.drop(full)
        return forgotten

    def _touch_proxies(self, changed: set[bytes]) -> None:
        standing = self.registry.standing(self._proxy_name)
        tagged = published(placed for how, placed in standing if how is How.TAGGED)
        nodes, drains = sorted(self.registry.proxies), self.registry.wishes.drains
        kept = [node for node in nodes if Subject(Kind.NODE, node) not in drains]
        # A drained host's proxy gets no new clients, unless no other one is left: a proxy that works beats none.
        hosts = tuple(names.proxy_host(self.registry.proxies[node]) for node in (kept if kept or tagged else nodes))
        found = Proxies(hosts, tagged)
        if found != self._proxies:
            self._proxies = found
            changed.add(PROXIES)

    def _spelled(self, name: str) -> list[bytes]:
        return [full for domain in self.domains for full in dname.asked_as(f"{name}.{domain.text}")]

    # --- questions

    def exists(self, name: bytes) -> bool:
        """True when a name (wire, lower case) or something below it is ours; instances and ports are not looked at."""
        return name in self._existing

    def all_names(self) -> list[bytes]:
        """All names that are ours and those between them and the root, in lower case, without what they bring."""
        return [*self._existing.counts, *self._nodes.pointed.counts]

    @property
    def https_ports(self) -> tuple[int, ...]:
        """The ports of the proxies for https, each once."""
        return tuple({host.https_port: None for host in self._proxies.hosts if host.https_port})

    def pointers(self, reverse: bytes) -> tuple[bytes, ...]:
        """The hosts whose address a reverse name stands for."""
        return self._nodes.pointers(reverse)

    def servers(self) -> tuple[str, ...]:
        """Addresses of name servers: where we answer others, else the hosts'."""
        return self._served_at or self._nodes.all_addresses()

    def view(self, name: str) -> View | None:
        """Who stands behind a name relative to our domains, in lower case."""
        return self._views.at(name)

    def find(self, name: bytes, domain: Domain) -> Own | None:
        """What a name in a domain says; None when it is not ours.

        Args:
            name: wire name in lower case, the domain's or below it.
            domain: the one it is in.
        """
        if not self._is_near(name):
            return None
        labels = texts_of(name, domain)
        if labels is None:
            return None
        sought = Sought(labels, domain)
        if domain.reverse:
            return self._special(sought) or (Own() if name in self._nodes.pointed or name in self._existing else None)
        return self._sorted(sought) if self._asks_nearest(sought) else self._at(sought)

    # What a name brings with it is at most two labels below it; most names that do not exist are near none of ours.
    def _is_near(self, name: bytes) -> bool:
        if name.startswith(_NEAREST):
            name = dname.parent(name)
        if self.exists(name) or name in self._server_names or name in self._nodes.pointed:
            return True
        above = dname.parent(name)
        return any(
            self._existing.itself(one) or self._claimed.existing.itself(one) or one in self._proxy_names
            for one in (above, dname.parent(above))
        )

    def wildcard(self, name: bytes, domain: Domain) -> Own | None:
        """What `*.<name>` says, if a service serves all hosts below `name`; None if none claims it."""
        if domain.reverse or not self._claimed.existing.itself(b"\x01*" + name):
            return None
        labels = texts_of(name, domain)
        if labels is None:
            return None
        sought = Sought(("*", *labels), domain)
        if sought.host not in self._claimed:
            return None
        wanted = self._claimed.wanted(sought.host)
        return self._proxied(sought, wanted) if wanted else Own()

    def denies_below(self, parent: bytes) -> Denial | None:
        """A quick answer to "is there nothing of ours at or below this name", for names one label below `parent`.

        True from it means that `find` and `wildcard` give None for the name and all below it; False means nothing.
        None: it cannot be told quickly there. It holds until something at or below `parent` changes: until `widened`
        of what `apply` returns has `parent` in it.

        Args:
            parent: wire name in lower case, in one of our domains; it exists.
        """
        domain = next((self._by_name[one] for one in dname.suffixes(parent) if one in self._by_name), None)
        labels = texts_of(parent, domain) if domain else None
        if domain is None or labels is None:
            return None
        taken = {name for name in self._server_names if dname.parent(name) == parent} | self._fixed.between(parent)
        if domain.reverse:
            return self._nodes.pointed.denial(taken)
        if labels and (labels[0] == NEAREST or labels[0].startswith("_") or labels[-1] in SPECIAL):
            return None
        if self._is_below_wildcard(parent, domain):
            return None
        view = self.view(".".join(labels))
        taken |= {bytes((len(label),)) + label.encode() + parent for label in view.labels} if view else set()
        return self._existing.denial({*taken, _NEAREST + parent})

    # RFC 4592 §3.3.1: a wildcard further up counts for what is below a name only if that name does not exist.
    def _is_below_wildcard(self, parent: bytes, domain: Domain) -> bool:
        for ancestor in dname.suffixes(parent):
            if self._claimed.existing.itself(b"\x01*" + ancestor):
                return True
            if ancestor == domain.name or self.exists(ancestor):
                return False
        return False

    # An instance that calls itself `nearest` is found as any other: SRV records lead to it.
    def _asks_nearest(self, sought: Sought) -> bool:
        if sought.labels[:1] != (NEAREST,):
            return False
        view = self.view(sought.above().text)
        return view is None or NEAREST not in view.labels

    def _sorted(self, sought: Sought) -> Own | None:
        name = sought.above()
        if name.labels[:1] == (NEAREST,) or SPECIAL.intersection(name.labels[-1:]):
            return None
        near = self._at(name._replace(only=lambda node: node.lower() == self._node))
        far = self._at(name._replace(only=lambda node: node.lower() != self._node))
        if near is None or far is None:
            return None
        found = names.in_front(near, far)
        return found._replace(depends=found.depends | {name.name})

    def _at(self, sought: Sought) -> Own | None:
        claimed = self._claimed.wanted(sought.host)
        if claimed:
            return self._proxied(sought, claimed.also(self._wanted(sought)))
        if SPECIAL.intersection(sought.labels[-1:]):
            found = self._special(sought)
        else:
            found = self._named(sought) or self._brought(sought)
        if found is None and self.exists(sought.name):
            return Own()
        return found

    def _special(self, sought: Sought) -> Own | None:
        match sought.labels:
            case (node, "node") if self._nodes.addresses(node) and not sought.domain.reverse:
                return Own(names.addressed(self._nodes.addresses(node), names.ENDPOINT_TTL))
            case ("dns",) if self.servers():
                return Own()
            case ("ns", "dns") if self.servers():
                return Own(names.addressed(self.servers(), names.PROXY_TTL), yields=True)
        return None

    def _named(self, sought: Sought) -> Own | None:
        if sought.text == self._proxy_name:
            return self._proxied(sought, Wanted(http=True))
        view = self.view(sought.text)
        if view is None:
            return None
        if view.how is How.PROXIED:
            return self._proxied(sought, self._wanted(sought))
        if sought.only is None:
            return view.says(sought.name)
        return names.of_endpoints(_on(view.members, sought.only), sought.name)

    def _wanted(self, sought: Sought) -> Wanted:
        view = self.view(sought.text)
        return names.wanted_of(view.members if view is not None and view.how is How.PROXIED else ())

    # --- what a name brings with it

    def _brought(self, sought: Sought) -> Own | None:
        label, further = (*sought.labels, "", "")[:2]
        above = sought.above()
        view = self.view(above.text)
        if view is not None and label in view.labels:
            found: Own | None = names.of_endpoints(_on(view.labels[label], sought.only), above.name)
        elif further in BETWEEN:
            above = sought.above(2)
            found = self._under(sought, above)
        else:
            found = Own() if label in BETWEEN and self._brings(label, above) else None
        return found._replace(depends=found.depends | {above.name}) if found else None

    def _brings(self, label: str, name: Sought) -> bool:
        """True when ports of a protocol stand below a name."""
        view, served = self.view(name.text), self._served(name)
        if label == HTTPS:
            return served.https
        if served.http and label == "_tcp":
            return True
        if view is None:
            return self._existing.itself(name.name)
        return any(protocol == PROTOCOLS[label] for _, protocol in view.ports)

    def _served(self, name: Sought) -> Wanted:
        """As what the proxies serve a name; they serve https themselves, though not under their own name."""
        if name.text == self._proxy_name:
            return Wanted(http=True)
        return (self._claimed.wanted(name.host) or Wanted()).also(self._wanted(name))

    def _is_served_as(self, scheme: str, name: Sought) -> bool:
        if scheme not in {"http", "https"}:
            return False
        served = self._served(name)
        return served.https if scheme == "https" else served.http

    def _under(self, sought: Sought, name: Sought) -> Own | None:
        """`_<port or service>._<protocol>.<name>`."""
        match sought.labels:
            case (asked, "_https", *_) if asked[:1] == "_" and self._served(name).https:
                return self._https_at(asked[1:], sought, name)
            case (asked, ("_tcp" | "_udp") as label, *_) if asked[:1] == "_":
                return self._port_of(asked[1:], PROTOCOLS[label], name)
        return None

    def _port_of(self, asked: str, protocol: str, name: Sought) -> Own | None:
        if protocol == "tcp" and self._is_served_as(asked, name):
            proxies = self._proxies.only(name.only) if name.only else self._proxies
            offered = names.proxies_speaking(proxies, asked, name.domain.name, self._proxy_at(name.domain))
            return Own(services=offered, depends=frozenset({PROXIES}))
        view, is_port = self.view(name.text), spoken.is_port(asked)
        if view is None:
            known = self._existing.itself(name.name) and (is_port or spoken.is_known(asked))
            return Own() if known else None
        placed = view.ports.get((int(asked), protocol), []) if is_port else view.speaking(asked, protocol)
        return Own(services=names.of_endpoints(_on(placed, name.only), name.name).services) if placed else None

    # RFC 9460 §9.1: https at another port than 443 is looked for under that port.
    def _https_at(self, port: str, sought: Sought, name: Sought) -> Own | None:
        if not spoken.is_port(port):
            return None
        at = int(port) if int(port) != svcb.HTTPS_PORT else -1
        bindings = names.bindings_of(self._proxies, name.domain.name, name.name, at)
        return Own(bindings=() if sought.only else bindings, depends=frozenset({PROXIES}))

    def _proxied(self, sought: Sought, wanted: Wanted) -> Own:
        proxies = self._proxies.only(sought.only) if sought.only else self._proxies
        found = names.of_proxies(proxies, wanted, sought.domain.name, self._proxy_at(sought.domain))
        return found._replace(depends=frozenset({PROXIES}))

    def _proxy_at(self, domain: Domain) -> bytes:
        return Sought(tuple(self._proxy_name.split(".")), domain).name


def _on(placed: Iterable[Placed], only: Only | None) -> Iterable[Placed]:
    return placed if only is None else [one for one in placed if only(one.node)]
