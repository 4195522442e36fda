"""(facts, wishes) -> what each kind writes, or why it does not, as tables; and which kinds a host uses."""

import json
from pathlib import Path

import pytest

from pilotfish.resolver.facts import Process, Server
from pilotfish.resolver.kinds import KINDS, detected, plan
from pilotfish.resolver.plan import Refused
from pilotfish.resolver.state import FOLDER, File
from tests.resolver.kit import DEAF, DOCKERD, HOST, LOOPBACK, OURS, STUB, facts, wishes

RESOLVED = Process(3, "systemd-resolve", ("/lib/systemd/systemd-resolved",))
DNSMASQ = Process(4, "dnsmasq", ("/usr/sbin/dnsmasq", "-7", "/etc/dnsmasq.d,.dpkg-dist,.dpkg-old"))
VIRT = Process(5, "dnsmasq", ("/usr/sbin/dnsmasq", "--conf-file=/var/lib/libvirt/dnsmasq/default.conf"))
MANAGED = Process(6, "dnsmasq", ("dnsmasq", "--conf-file=/dev/null", "--conf-dir=/etc/NetworkManager/dnsmasq.d"))
UNBOUND = Process(8, "unbound", ("unbound", "-d", "-p"))
SYSTEMD = {"/run/systemd/system/x": ""}
PLAIN = {"/etc/resolv.conf": "nameserver 192.0.2.1\n"}
AT_STUB = {
    "/etc/resolv.conf": Path(STUB),
    "/run/systemd/resolve/stub-resolv.conf": "nameserver 127.0.0.53\n",
    "/run/systemd/resolve/resolv.conf": "nameserver 192.0.2.53\n",
}
SIX = Server("fd00::53", 1053)


def written(proposal):
    """Path -> text of the files that a proposal writes, without the comment on top."""
    found = {change.path: change.after.text for change in proposal.changes if isinstance(change.after, File)}
    return {
        path: "".join(text.splitlines(keepends=True)[2:]) if text[0] == "#" else text for path, text in found.items()
    }


WRITES = {
    "resolved": (
        "systemd-resolved",
        facts(AT_STUB, RESOLVED),
        wishes(LOOPBACK),
        {"/etc/systemd/resolved.conf.d/pilotfish.conf": "[Resolve]\nDNS=127.0.0.1:1053\nDomains=~svc.internal\n"},
    ),
    "resolved, IPv6, several, search": (
        "systemd-resolved",
        facts(AT_STUB, RESOLVED),
        wishes(SIX, OURS, search=True)._replace(domains=("a.example", "b.example")),
        {
            "/etc/systemd/resolved.conf.d/pilotfish.conf": "[Resolve]\nDNS=[fd00::53]:1053 10.0.0.1:53\n"
            "Domains=a.example b.example\n"
        },
    ),
    "dnsmasq": (
        "dnsmasq",
        facts({"/etc/dnsmasq.conf": "", "/etc/dnsmasq.d/README": ""}, DNSMASQ),
        wishes(LOOPBACK),
        {
            "/etc/dnsmasq.d/pilotfish.conf": "server=/svc.internal/127.0.0.1#1053\nrebind-domain-ok=/svc.internal/\n",
        },
    ),
    "dnsmasq, folder named in its file": (
        "dnsmasq",
        facts({"/etc/dnsmasq.conf": "conf-dir=/etc/dm,*.conf\n"}, Process(4, "dnsmasq", ("dnsmasq",))),
        wishes(SIX),
        {"/etc/dm/pilotfish.conf": "server=/svc.internal/fd00::53#1053\nrebind-domain-ok=/svc.internal/\n"},
    ),
    "dnsmasq of NetworkManager": (
        "dnsmasq",
        facts({"/etc/NetworkManager/dnsmasq.d/x": ""}, MANAGED),
        wishes(OURS),
        {
            "/etc/NetworkManager/dnsmasq.d/pilotfish.conf": "server=/svc.internal/10.0.0.1#53\n"
            "rebind-domain-ok=/svc.internal/\n",
        },
    ),
    "unbound at loopback": (
        "unbound",
        facts(
            {
                "/etc/unbound/unbound.conf": 'include-toplevel: "/etc/unbound/unbound.conf.d/*.conf"\n',
                "/etc/unbound/unbound.conf.d/x.conf": "",
            },
            UNBOUND,
        ),
        wishes(LOOPBACK),
        {
            "/etc/unbound/unbound.conf.d/pilotfish.conf": "server:\n"
            '    domain-insecure: "svc.internal."\n    private-domain: "svc.internal."\n'
            '    local-zone: "svc.internal." transparent\n    do-not-query-localhost: no\n'
            'stub-zone:\n    name: "svc.internal."\n    stub-addr: 127.0.0.1@1053\n',
        },
    ),
    "resolv.conf": (
        "resolv.conf",
        facts({"/etc/resolv.conf": "search a.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions rotate\n"}),
        wishes(OURS),
        {"/etc/resolv.conf": "search a.example\nnameserver 10.0.0.1\noptions rotate\n"},
    ),
    "docker": (
        "docker",
        facts({"/etc/docker/daemon.json": '{\n\t"debug": true,\n\t"dns": ["192.0.2.1"]\n}'}, DOCKERD),
        wishes(OURS),
        {"/etc/docker/daemon.json": '{\n\t"debug": true,\n\t"dns": [\n\t\t"10.0.0.1"\n\t]\n}\n'},
    ),
    "docker, without a file": (
        "docker",
        facts({}, DOCKERD),
        wishes(OURS),
        {"/etc/docker/daemon.json": '{\n  "dns": [\n    "10.0.0.1"\n  ]\n}\n'},
    ),
    "docker, its own file": (
        "docker",
        facts({"/srv/d.json": "{}"}, Process(7, "dockerd", ("dockerd", "--config-file", "/srv/d.json"))),
        wishes(OURS),
        {"/srv/d.json": '{\n  "dns": [\n    "10.0.0.1"\n  ]\n}\n'},
    ),
    "docker, search: the host's list goes in front": (
        "docker",
        facts({"/etc/resolv.conf": "search a.example .\n"}, DOCKERD),
        wishes(OURS, search=True),
        {
            "/etc/docker/daemon.json": '{\n  "dns": [\n    "10.0.0.1"\n  ],\n  "dns-search": [\n    "a.example",\n'
            '    "svc.internal"\n  ]\n}\n'
        },
    ),
}


@pytest.mark.parametrize(("kind", "found", "wished", "files"), WRITES.values(), ids=WRITES)
def test_what_is_written(kind, found, wished, files):
    """Each kind writes exactly this, and nothing else."""
    assert written(KINDS[kind].propose(found, wished)) == files


def test_appended_where_there_is_no_folder():
    """Without drop-ins the main file gets a block at its end, on a line of its own."""
    unbound = KINDS["unbound"].propose(facts({"/etc/unbound/unbound.conf": "server:"}, UNBOUND), wishes(OURS))
    dnsmasq = KINDS["dnsmasq"].propose(
        facts({"/etc/dnsmasq.conf": "port=5353"}, Process(4, "dnsmasq", ("dnsmasq",))), wishes(OURS)
    )

    assert unbound.changes[0].after.text.startswith("server:\n# Written by `pilotfish resolver install`")
    assert dnsmasq.changes[0].after.text.startswith("port=5353\n# Written by")
    assert dnsmasq.changes[0].after.text.endswith("#53\nrebind-domain-ok=/svc.internal/\n")


def test_folders_that_are_missing_are_made_and_known():
    """What is made is also what is taken away again: outer folders first."""
    proposal = KINDS["systemd-resolved"].propose(facts(AT_STUB, RESOLVED), wishes(LOOPBACK))

    assert [change.path for change in proposal.changes if change.after == FOLDER] == [
        "/etc/systemd",
        "/etc/systemd/resolved.conf.d",
    ]


def deaf(server):
    return server._replace(outside=DEAF)


REFUSES = {
    "resolv.conf: no forwarder": ("resolv.conf", facts(PLAIN), wishes(deaf(OURS)), "--forward ADDR"),
    "resolv.conf: port": ("resolv.conf", facts(PLAIN), wishes(Server("10.0.0.1", 1053)), "has no ports"),
    "resolv.conf: the stub": ("resolv.conf", facts(PLAIN), wishes(Server("127.0.0.53", 53)), "systemd-resolved itself"),
    "resolv.conf: four servers": (
        "resolv.conf",
        facts(PLAIN),
        wishes(*(Server(f"10.0.0.{last}", 53) for last in range(1, 5))),
        "only the first 3",
    ),
    "resolv.conf: one of two does not answer": (
        "resolv.conf",
        facts(PLAIN),
        wishes(OURS, Server("10.0.0.2", 53, "nothing answers there")),
        "10.0.0.2:53: nothing answers there",
    ),
    "docker: no forwarder": ("docker", facts({}, DOCKERD), wishes(deaf(OURS)), "only resolver of the containers"),
    "docker: loopback": ("docker", facts({}, DOCKERD), wishes(Server("127.0.0.1", 53)), "a container's loopback"),
    "docker: port": ("docker", facts({}, DOCKERD), wishes(Server("10.0.0.1", 1053)), "no ports"),
    "docker: --dns": (
        "docker",
        facts({}, Process(7, "dockerd", ("dockerd", "--dns", "192.0.2.1"))),
        wishes(OURS),
        "started with --dns 192.0.2.1",
    ),
    "docker: no JSON": (
        "docker",
        facts({"/etc/docker/daemon.json": "{,}"}, DOCKERD),
        wishes(OURS),
        "/etc/docker/daemon.json: ",
    ),
    "docker: no object": ("docker", facts({"/etc/docker/daemon.json": "[]"}, DOCKERD), wishes(OURS), "no JSON object"),
    "docker: a key twice": (
        "docker",
        facts({"/etc/docker/daemon.json": '{"dns": [], "dns": []}'}, DOCKERD),
        wishes(OURS),
        "a key is there twice",
    ),
    "resolved: a global server": (
        "systemd-resolved",
        facts({**AT_STUB, "/etc/systemd/resolved.conf": "[Resolve]\nDNS=192.0.2.1\n"}, RESOLVED),
        wishes(LOOPBACK),
        "DNS=192.0.2.1 is set for the whole host",
    ),
    "resolved: a global server in a vendor's drop-in": (
        "systemd-resolved",
        facts({**AT_STUB, "/usr/lib/systemd/resolved.conf.d/10-x.conf": "[Resolve]\nDNS=192.0.2.1\n"}, RESOLVED),
        wishes(LOOPBACK),
        "DNS=192.0.2.1",
    ),
    "resolved: nobody else to ask": (
        "systemd-resolved",
        facts({**AT_STUB, "/run/systemd/resolve/resolv.conf": "# No DNS servers known.\n"}, RESOLVED),
        wishes(deaf(LOOPBACK)),
        "no link has a DNS server",
    ),
    "resolved: nobody but a resolv.conf that is believed only without DNS=": (
        "systemd-resolved",
        facts({**PLAIN, "/run/systemd/resolve/resolv.conf": "nameserver 192.0.2.1\n"}, RESOLVED),
        wishes(deaf(LOOPBACK)),
        "no link has a DNS server",
    ),
    "resolved: domains that would come to us": (
        "systemd-resolved",
        facts({**AT_STUB, "/etc/systemd/resolved.conf": "[Resolve]\nDomains=corp.example\n"}, RESOLVED),
        wishes(deaf(LOOPBACK)),
        "corp.example",
    ),
    "resolved: too old for ports": (
        "systemd-resolved",
        facts(AT_STUB, RESOLVED, versions={"systemd": 245}),
        wishes(LOOPBACK),
        "systemd 245 knows no ports",
    ),
    "resolved: the stub": ("systemd-resolved", facts(AT_STUB), wishes(Server("127.0.0.53", 53)), "itself"),
    "dnsmasq: itself": (
        "dnsmasq",
        facts({"/etc/dnsmasq.conf": "listen-address=127.0.0.1\nport=1053\n"}, Process(4, "dnsmasq", ("dnsmasq",))),
        wishes(LOOPBACK),
        "dnsmasq itself",
    ),
    "dnsmasq: not there": ("dnsmasq", facts({}), wishes(OURS), "is dnsmasq installed?"),
    "unbound: itself": (
        "unbound",
        facts({"/etc/unbound/unbound.conf": "server:\n interface: 0.0.0.0@1053\n"}, UNBOUND),
        wishes(LOOPBACK),
        "unbound itself",
    ),
    "unbound: not there": ("unbound", facts({}), wishes(OURS), "is unbound installed?"),
    "no server": ("unbound", facts(HOST), wishes()._replace(servers=()), "--server"),
}


@pytest.mark.parametrize(("kind", "found", "wished", "message"), REFUSES.values(), ids=REFUSES)
def test_what_is_refused(kind, found, wished, message):
    """The reason names the culprit and what to do."""
    with pytest.raises(Refused) as caught:
        KINDS[kind].propose(found, wished)
    assert message in str(caught.value)


ALLOWED = {
    "resolved: not the only one": ("systemd-resolved", facts(AT_STUB, RESOLVED), deaf(LOOPBACK)),
    "resolved: the only one, and it forwards": (
        "systemd-resolved",
        facts({"/etc/resolv.conf": "nameserver 127.0.0.53\n"}, RESOLVED),
        LOOPBACK,
    ),
    "resolved: a list that is emptied later": (
        "systemd-resolved",
        facts(
            {
                **AT_STUB,
                "/etc/systemd/resolved.conf": "[Resolve]\nDNS=192.0.2.1\n",
                "/run/systemd/resolved.conf.d/9.conf": "[Resolve]\n# none:\nDNS=\n",
            },
            RESOLVED,
        ),
        deaf(LOOPBACK),
    ),
    "resolved: a drop-in hidden by /etc": (
        "systemd-resolved",
        facts(
            {
                **AT_STUB,
                "/usr/lib/systemd/resolved.conf.d/1.conf": "[Resolve]\nDNS=192.0.2.1\n",
                "/etc/systemd/resolved.conf.d/1.conf": Path("/dev/null"),
            },
            RESOLVED,
        ),
        deaf(LOOPBACK),
    ),
    "resolved: port 53 on an old one": (
        "systemd-resolved",
        facts(AT_STUB, RESOLVED, versions={"systemd": 239}),
        deaf(Server("127.0.0.1", 53)),
    ),
    "dnsmasq: without forwarders": ("dnsmasq", facts(HOST, DNSMASQ), deaf(LOOPBACK)),
    "unbound: without forwarders": ("unbound", facts(HOST, UNBOUND), deaf(LOOPBACK)),
}


@pytest.mark.parametrize(("kind", "found", "server"), ALLOWED.values(), ids=ALLOWED)
def test_what_is_allowed(kind, found, server):
    """Where only our names come to us, nobody has to forward."""
    assert KINDS[kind].propose(found, wishes(server)).servers == (server,)


CHOICE = [
    pytest.param("resolv.conf", Server("127.0.0.1", 53), id="the host itself: loopback"),
    pytest.param("docker", Server("10.0.0.1", 53), id="containers: an address of the host"),
    pytest.param("unbound", Server("10.0.0.1", 53), id="unbound: any but its own"),
]


@pytest.mark.parametrize(("kind", "server"), CHOICE)
def test_of_all_that_run_each_kind_takes_what_it_can_use(kind, server):
    """Nobody named a server, and one listens at several addresses."""
    running = (Server("127.0.0.1", 53), Server("10.0.0.1", 53), Server("10.0.0.1", 1053))

    assert KINDS[kind].propose(facts(HOST, DOCKERD, UNBOUND), wishes(*running, chosen=False)).servers == (server,)


DETECTED = {
    "resolved by the stub": (facts(AT_STUB, RESOLVED), ("systemd-resolved",)),
    "resolved by nss": (
        facts({**PLAIN, "/etc/nsswitch.conf": "hosts: files resolve dns\n"}, RESOLVED),
        ("systemd-resolved",),
    ),
    "resolved that nobody asks": (facts(PLAIN, RESOLVED), ("resolv.conf",)),
    "resolved beside dnsmasq": (facts(AT_STUB, RESOLVED, DNSMASQ), ("systemd-resolved",)),
    "dnsmasq": (facts({"/etc/resolv.conf": "nameserver 127.0.0.1\n"}, DNSMASQ), ("dnsmasq",)),
    "dnsmasq of NetworkManager": (facts({"/etc/resolv.conf": "nameserver 127.0.1.1\n"}, MANAGED), ("dnsmasq",)),
    "dnsmasq of a bridge": (facts(PLAIN, VIRT), ("resolv.conf",)),
    "dnsmasq that only does DHCP": (
        facts({**PLAIN, "/etc/dnsmasq.conf": "port=0\n"}, Process(4, "dnsmasq", ("dnsmasq",))),
        ("resolv.conf",),
    ),
    "unbound": (facts({"/etc/resolv.conf": "nameserver 127.0.0.1\n"}, UNBOUND), ("unbound",)),
    "unbound for others": (facts({**PLAIN, "/etc/unbound/unbound.conf": ""}, UNBOUND), ("resolv.conf",)),
    "unbound at an address of the host": (
        facts({**PLAIN, "/etc/unbound/unbound.conf": "server:\n interface: 192.0.2.1\n"}, UNBOUND),
        ("unbound",),
    ),
    "dnsmasq for others": (facts(PLAIN, DNSMASQ), ("resolv.conf",)),
    "another resolver at loopback": (facts({"/etc/resolv.conf": "nameserver 127.0.0.1\n"}), ("resolv.conf",)),
    "plain, and an engine": (facts(PLAIN, DOCKERD), ("resolv.conf", "docker")),
    "nothing at all": (facts({}), ("resolv.conf",)),
    "an image with a stub": (facts(AT_STUB, live=False), ("systemd-resolved",)),
    "an image": (facts({**PLAIN, "/etc/docker/daemon.json": "{}"}, live=False), ("resolv.conf", "docker")),
}


@pytest.mark.parametrize(("found", "kinds"), DETECTED.values(), ids=DETECTED)
def test_what_a_host_uses(found, kinds):
    """One kind for its own names, and the engine's if there is one."""
    assert detected(found) == kinds


def test_a_kind_that_cannot_be_does_not_stop_the_others():
    """What is refused is in the plan with its reason, beside what can be done."""
    made = plan(facts(HOST, RESOLVED, DOCKERD), wishes(deaf(LOOPBACK)))

    assert [proposal.kind for proposal in made.proposals] == ["systemd-resolved"]
    assert "loopback" in made.refused["docker"]


RELOADS = {
    "resolved, systemd": ("systemd-resolved", facts(SYSTEMD, RESOLVED, programs=frozenset({"systemctl"})),
                          ("systemctl", "restart", "systemd-resolved.service")),
    "resolved does not run": ("systemd-resolved", facts(SYSTEMD, programs=frozenset({"systemctl"})), None),
    "unbound, systemd": ("unbound", facts(SYSTEMD, UNBOUND, programs=frozenset({"systemctl"})),
                         ("systemctl", "reload-or-restart", "unbound.service")),
    "unbound, nothing": ("unbound", facts({}, UNBOUND), ("sh", "-c", "kill -HUP 8")),
    "unbound does not run": ("unbound", facts(SYSTEMD, programs=frozenset({"systemctl"})), None),
    "dnsmasq, init script": ("dnsmasq", facts({"/etc/init.d/dnsmasq": ""}, DNSMASQ, programs=frozenset({"service"})),
                             ("service", "dnsmasq", "restart")),
    "dnsmasq, OpenRC": ("dnsmasq", facts({"/etc/init.d/dnsmasq": ""}, DNSMASQ,
                                         programs=frozenset({"service", "rc-service"})),
                        ("rc-service", "dnsmasq", "restart")),
    "dnsmasq, nothing": ("dnsmasq", facts({}, DNSMASQ), None),
    "dnsmasq of NetworkManager": ("dnsmasq", facts(SYSTEMD, MANAGED, programs=frozenset({"systemctl", "nmcli"})),
                                  ("nmcli", "general", "reload", "dns-full")),
    "docker is not restarted": ("docker", facts(SYSTEMD, DOCKERD, programs=frozenset({"systemctl"})), None),
    "resolv.conf needs nothing": ("resolv.conf", facts(PLAIN), None),
    "another system's files": ("unbound", facts({**SYSTEMD, "/etc/init.d/unbound": ""}, live=False,
                                                programs=frozenset({"systemctl"})), None),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "found", "argv"), RELOADS.values(), ids=RELOADS)
def test_how_its_program_is_told(kind, found, argv):
    """By the service manager that is there; not at all where nobody can."""
    command = KINDS[kind].reload(found, wishes())

    assert (command.argv if command else None) == argv


@pytest.mark.parametrize("kind", ["systemd-resolved", "dnsmasq", "unbound"])
def test_the_admins_own_way_starts_what_does_not_run(kind):
    """--reload-with is honoured though the program is down, as it is after an interrupted install; not elsewhere."""
    wished, found = wishes(reload_with={kind: ("sv", "restart", kind)}), facts({})

    assert KINDS[kind].reload(found, wished) == (("sv", "restart", kind), KINDS[kind].reload(found, wished).why, True)
    assert KINDS[kind].reload(found._replace(live=False), wished) is None


def test_the_admins_own_way_goes_first():
    """--reload-with beats what we would do, and makes the engine's restart wanted."""
    wished = wishes(reload_with={"docker": ("sv", "restart", "docker"), "dnsmasq": ("sv", "restart", "dnsmasq")})
    found = facts(SYSTEMD, DOCKERD, DNSMASQ, programs=frozenset({"systemctl"}))

    assert KINDS["docker"].reload(found, wished).argv == ("sv", "restart", "docker")
    assert KINDS["dnsmasq"].reload(found, wished).argv == ("sv", "restart", "dnsmasq")
    assert KINDS["docker"].reload(found, wishes(restart_docker=True)).argv == ("systemctl", "restart", "docker.service")


NOTES = {
    "a second name server": ("resolv.conf", facts({"/etc/resolv.conf": "nameserver 10.0.0.1\nnameserver 192.0.2.2\n"}),
                             "192.0.2.2 is asked no more"),
    "a link": ("resolv.conf", facts(AT_STUB), f"was a link to {STUB}"),
    "a mount": ("resolv.conf", facts(PLAIN, mounted=frozenset({"/etc/resolv.conf"})), "is a mount"),
    "NetworkManager by its comment": (
        "resolv.conf", facts({"/etc/resolv.conf": "# Generated by NetworkManager\n"}), "NetworkManager writes"),
    "NetworkManager by its link": (
        "resolv.conf", facts({"/etc/resolv.conf": Path("../run/NetworkManager/resolv.conf")}), "NetworkManager writes"),
    "resolvconf": (
        "resolv.conf", facts({"/etc/resolv.conf": Path("/run/resolvconf/resolv.conf")}), "resolvconf writes"),
    "dhclient that runs": ("resolv.conf", facts(PLAIN, Process(9, "dhclient")), "dhclient writes"),
    "dhcpcd": ("resolv.conf", facts({"/etc/resolv.conf": "# Generated by dhcpcd from eth0\n"}), "nohook resolv.conf"),
    "a container": (
        "resolv.conf", facts({"/etc/resolv.conf": "# Generated by Docker Engine.\n"}), "--dns of docker run"),
    "docker's own servers": ("docker", facts({"/etc/docker/daemon.json": '{"dns": ["192.0.2.1"]}'}, DOCKERD),
                             "dns 192.0.2.1 is asked no more"),
    "resolved that is not asked": ("systemd-resolved", facts(PLAIN, RESOLVED), "does not lead to systemd-resolved"),
    "the list of uplinks": (
        "systemd-resolved",
        facts({"/etc/resolv.conf": Path("/run/systemd/resolve/resolv.conf"), "/run/systemd/resolve/resolv.conf": ""},
              RESOLVED),
        "lists name servers without their domains"),
    "dnsmasq that is not asked": ("dnsmasq", facts(HOST, DNSMASQ), "does not name dnsmasq (127.0.0.1)"),
    "unbound that is not asked": ("unbound", facts(HOST, UNBOUND), "does not name unbound (127.0.0.1)"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "found", "note"), NOTES.values(), ids=NOTES)
def test_traps_are_named(kind, found, note):
    """What will go wrong on this host is said before it does."""
    assert [one for one in KINDS[kind].propose(found, wishes()).notes if note in one]


def test_a_domain_of_multicast_dns_is_a_trap_everywhere():
    """Names under .local never reach us where mdns stands in front."""
    found = facts(
        {**HOST, "/etc/nsswitch.conf": "hosts: files mdns4_minimal [NOTFOUND=return] dns\n"}, DNSMASQ, UNBOUND
    )
    wished = wishes()._replace(domains=("svc.local",))

    for kind in ("resolv.conf", "dnsmasq", "unbound", "systemd-resolved"):
        assert [one for one in KINDS[kind].propose(found, wished).notes if "mdns" in one], kind


@pytest.mark.parametrize(("domain", "noted"), [("svc.internal", False), ("svc.example.com", True)])
def test_validation_in_resolved(domain, noted):
    """A domain below a signed one has to be named as unsigned; resolved knows .internal by itself."""
    found = facts({**AT_STUB, "/etc/systemd/resolved.conf": "[Resolve]\nDNSSEC=allow-downgrade\n"}, RESOLVED)
    notes = KINDS["systemd-resolved"].propose(found, wishes()._replace(domains=(domain,))).notes

    assert any(".negative" in note for note in notes) == noted


LATER = {
    "containers stop": ({}, "its containers stop and start"),
    "containers go on": ({"live-restore": True}, "containers go on running"),
}


@pytest.mark.parametrize(("settings", "said"), LATER.values(), ids=LATER)
def test_the_engines_restart_is_left_to_the_admin(settings, said):
    """Name servers are read at the engine's start only; what that does to containers is said."""
    found = facts({"/etc/docker/daemon.json": json.dumps(settings)}, DOCKERD)

    assert said in KINDS["docker"].propose(found, wishes(OURS)).later


def test_checks_run_where_the_program_is():
    """What can check its own files does so before it is told."""
    programs = frozenset({"dnsmasq", "unbound-checkconf", "dockerd"})
    found = facts(HOST, DNSMASQ, UNBOUND, DOCKERD, programs=programs, versions={"docker": 28})
    argv = {kind: [check.argv for check in KINDS[kind].propose(found, wishes(OURS)).checks] for kind in KINDS}

    assert argv["dnsmasq"] == [("dnsmasq", "--test", "--conf-file=/etc/dnsmasq.conf", "--conf-dir=/etc/dnsmasq.d")]
    assert argv["unbound"] == [("unbound-checkconf", "/etc/unbound/unbound.conf")]
    assert argv["docker"] == [("dockerd", "--validate", "--config-file=/etc/docker/daemon.json")]
    assert KINDS["docker"].propose(found._replace(versions={"docker": 20}), wishes(OURS)).checks == ()


PROOFS = {
    "resolved": (
        "systemd-resolved", facts({**AT_STUB, **SYSTEMD}, RESOLVED, programs=frozenset({"systemctl"})), "127.0.0.53"),
    "resolved without its stub": (
        "systemd-resolved",
        facts({**AT_STUB, **SYSTEMD, "/etc/systemd/resolved.conf": "[Resolve]\nDNSStubListener=no\n"}, RESOLVED,
              programs=frozenset({"systemctl"})),
        None),
    "unbound": ("unbound", facts(HOST, UNBOUND), "127.0.0.1"),
    "unbound at all addresses": (
        "unbound", facts({"/etc/unbound/unbound.conf": "server:\n interface: ::0\n"}, UNBOUND), "::1"),
    "nobody was told": ("dnsmasq", facts(HOST, DNSMASQ), None),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "found", "ip"), PROOFS.values(), ids=PROOFS)
def test_who_has_to_prove_it(kind, found, ip):
    """The resolver that was told must then give our answer."""
    proofs = KINDS[kind].propose(found, wishes(LOOPBACK)).proofs

    assert [proof.ip for proof in proofs] == ([ip] if ip else [])


UPLINK = {"/run/systemd/resolve/resolv.conf": "nameserver 192.0.2.53\n"}
NEEDED = {
    "resolv.conf": ("resolv.conf", facts(PLAIN), True),
    "the engine": ("docker", facts(HOST, DOCKERD), True),
    "resolved, a link has a server": ("systemd-resolved", facts({**AT_STUB, **UPLINK}, RESOLVED), False),
    "resolved, no link has one": (
        "systemd-resolved",
        facts({**AT_STUB, "/run/systemd/resolve/resolv.conf": ""}, RESOLVED),
        True,
    ),
    "unbound": ("unbound", facts(HOST, UNBOUND), False),
    "dnsmasq": ("dnsmasq", facts(HOST, DNSMASQ), False),
}


@pytest.mark.parametrize(("kind", "found", "needed"), NEEDED.values(), ids=NEEDED)
def test_who_needs_other_names_of_us(kind, found, needed):
    """What `install` refuses without a forwarder, it proves with one; nothing else."""
    assert KINDS[kind].propose(found, wishes()).needs_outside is needed
    if needed:
        with pytest.raises(Refused):
            KINDS[kind].propose(found, wishes(deaf(OURS)))
    else:
        assert KINDS[kind].propose(found, wishes(deaf(OURS)))
