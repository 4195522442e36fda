"""Install and remove as an admin meets them: again, elsewhere, after edits, in part, and only to look."""

import json

import pytest

from pilotfish.catalog.failure import CannotStart
from pilotfish.resolver.io_status import status
from pilotfish.resolver.service import Options, Resolver
from tests.resolver.kit import ALL, HOST, OURS, make, resolver, tree

RECORD = "var/lib/pilotfish/resolver.json"
HERE = Options(servers=((OURS.ip, OURS.port),))
THERE = Options(servers=(("10.0.0.2", 53),))
DROP_IN = "etc/dnsmasq.d/pilotfish.conf"


def test_a_second_install_is_none(place):
    """Nothing is written, and that is said."""
    root, said = make(place), []
    resolver(root).install(ALL)
    before = tree(root)
    resolver(root, said=said).install(ALL)

    assert tree(root) == before
    assert said[-1] == "already so; nothing to change"


def test_without_flags_a_host_stays_with_its_servers(place):
    """Who was named once need not be named again."""
    root, said = make(place), []
    resolver(root).install(ALL)
    before = tree(root)
    resolver(root, said=said).install(Options(kinds=ALL.kinds))

    assert tree(root) == before
    assert said[-1] == "already so; nothing to change"


def test_without_flags_a_host_stays_with_its_domains(place):
    """The same for the names that are ours; whoever names a domain gets that one."""
    root = make(place)
    mine = Options(kinds=("dnsmasq",), servers=((OURS.ip, OURS.port),), domains=("a.example",))
    resolver(root).install(mine)
    before = tree(root)
    resolver(root).install(mine._replace(domains=("svc.internal",), stays=True))

    assert tree(root) == before
    assert status(resolver(root), Options(stays=True)).domains == ("a.example",)
    resolver(root).install(mine._replace(domains=("b.example",)))
    assert "server=/b.example/" in (root / DROP_IN).read_text()


def test_an_edit_elsewhere_is_not_in_the_way(place):
    """What was edited for one kind does not stop another, and is not touched."""
    root, said = make(place), []
    resolver(root).install(ALL)
    (root / DROP_IN).write_text((root / DROP_IN).read_text() + "cache-size=0\n")
    edited = (root / DROP_IN).read_text()
    resolver(root, said=said).install(THERE._replace(kinds=("docker",), force=True))
    resolver(root, said=said).remove(Options(kinds=("unbound",)))

    assert (root / DROP_IN).read_text() == edited
    assert not [line for line in said if "is kept in" in line]


def test_another_server_later(place):
    """The files change, and what is remembered is still what was there before us."""
    root = make(place)
    before = tree(root)
    resolver(root).install(ALL)
    resolver(root).install(THERE._replace(kinds=ALL.kinds))

    assert "10.0.0.2" in (root / DROP_IN).read_text()
    assert json.loads((root / "etc/docker/daemon.json").read_text())["dns"] == ["10.0.0.2"]
    resolver(root).remove(Options())
    assert tree(root) == before


def test_remove_in_part(place):
    """One kind goes, the others stay; then the rest."""
    root = make(place)
    before = tree(root)
    resolver(root).install(ALL)
    resolver(root).remove(Options(kinds=("dnsmasq", "docker")))

    assert not (root / DROP_IN).exists()
    assert (root / "etc/docker/daemon.json").read_text() == HOST["/etc/docker/daemon.json"]
    assert list(json.loads((root / RECORD).read_text())["installed"]) == ["resolv.conf", "systemd-resolved", "unbound"]
    resolver(root).remove(Options())
    assert tree(root) == before


def test_nothing_to_remove(place):
    """Remove where nothing is installed says so."""
    root, said = make(place), []
    resolver(root, said=said).remove(Options(kinds=("docker",)))

    assert said == ["nothing of ours is installed for docker"]


EDITS = {
    "a drop-in": (DROP_IN, lambda text: text + "cache-size=0\n", "+cache-size=0"),
    "the engine's settings": (
        "etc/docker/daemon.json",
        lambda text: text.replace("{", '{\n    "debug": true,', 1),
        '+    "debug": true,',
    ),
    "resolv.conf": ("etc/resolv.conf", lambda text: text + "options rotate\n", "+options rotate"),
}


@pytest.mark.parametrize(("path", "edit", "shown"), EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("work", ["install", "remove"])
def test_an_edit_is_not_lost(place, path, edit, shown, work):
    """Both refuse, show what differs and change nothing; with --force they go on, and a copy is kept."""
    root = make(place)
    original = tree(root)
    resolver(root).install(ALL)
    edited = edit((root / path).read_text())
    (root / path).write_text(edited)
    before, said = tree(root), []
    with pytest.raises(CannotStart) as caught:
        getattr(resolver(root), work)(THERE._replace(kinds=ALL.kinds))

    assert shown in str(caught.value)
    assert f"/{path} was changed since" in str(caught.value)
    assert tree(root) == before

    getattr(resolver(root, said=said), work)(THERE._replace(kinds=ALL.kinds, force=True))
    if work == "install":
        resolver(root).remove(Options())
    [copy] = (root / "var/lib/pilotfish/resolver-edited").iterdir()
    assert copy.read_text() == edited
    assert [line for line in said if line.endswith(f"is kept in /{copy.relative_to(root)}")]
    copy.unlink()
    copy.parent.rmdir()
    assert tree(root) == original


OVERWRITTEN = {
    "by a DHCP client": ("etc/resolv.conf", "nameserver 192.0.2.9\n"),
    "by an admin": ("etc/docker/daemon.json", '{"dns": ["192.0.2.9"]}'),
    "put back by hand": ("etc/docker/daemon.json", HOST["/etc/docker/daemon.json"]),
    "removed by hand": (DROP_IN, None),
}


@pytest.mark.parametrize(("path", "text"), OVERWRITTEN.values(), ids=OVERWRITTEN)
def test_what_is_no_longer_ours_is_left_alone(place, path, text):
    """Remove puts back the others, and says which file it leaves as it is."""
    root, said = make(place), []
    resolver(root).install(ALL)
    real = root / path
    real.unlink()
    if text is not None:
        real.write_text(text)
    resolver(root, said=said).remove(Options())

    assert (real.read_text() if real.exists() else None) == text
    assert [line for line in said if f"/{path} has nothing of ours any more" in line]
    assert not (root / RECORD).exists()
    assert not (root / "etc/unbound/unbound.conf").read_text().endswith("@53\n")


def test_install_over_what_a_dhcp_client_wrote(place):
    """What it wrote is what was there before us, from then on."""
    root = make(place)
    resolver(root).install(HERE._replace(kinds=("resolv.conf",)))
    (root / "etc/resolv.conf").write_text("nameserver 192.0.2.9\n")
    resolver(root).install(HERE._replace(kinds=("resolv.conf",)))

    assert "nameserver 10.0.0.1\n" in (root / "etc/resolv.conf").read_text()
    resolver(root).remove(Options())
    assert (root / "etc/resolv.conf").read_text() == "nameserver 192.0.2.9\n"


def test_a_folder_that_others_use_by_now_stays(place):
    """Only an empty folder is taken away again."""
    root = make(place)
    resolver(root).install(ALL)
    other = root / "etc/systemd/resolved.conf.d/other.conf"
    other.write_text("[Resolve]\n")
    resolver(root).remove(Options())

    assert [path.name for path in other.parent.iterdir()] == ["other.conf"]


def test_only_to_look(place):
    """A dry run shows everything, and touches nothing: no file, no folder, no lock."""
    root, said = make(place), []
    Resolver(root, said.append, None).install(ALL)
    text = "\n".join(said)

    assert tree(root) == tree(make(place / "other"))
    assert not (root / "var").exists()
    assert "+DNS=10.0.0.1:53" in text
    assert "- link /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf" in text
    assert '-    "dns": ["192.0.2.1"]' in text
    assert said[-1] == "dry run: nothing was changed"


def test_changed_while_somebody_was_asked(place):
    """What a DHCP client writes while the question stands is not overwritten."""
    root = make(place)

    def slowly():
        (root / "etc/unbound/unbound.conf").write_text("server:\n")
        return True

    before = {path: found for path, found in tree(root).items() if path != "/etc/unbound/unbound.conf"}
    with pytest.raises(CannotStart, match=r"/etc/unbound/unbound\.conf was changed meanwhile; nothing was done"):
        Resolver(root, lambda _: None, slowly).install(ALL)

    assert {path: found for path, found in tree(root).items() if path != "/etc/unbound/unbound.conf"} == before


def test_a_lost_record(place):
    """Nothing is written twice; what cannot be told apart any more is refused by name."""
    root = make(place)
    resolver(root).install(ALL)
    (root / RECORD).unlink()
    before, said = tree(root), []
    with pytest.raises(CannotStart, match=r"unbound\.conf has lines of ours that nobody remembers"):
        resolver(root).install(ALL)
    resolver(root, said=said).install(HERE._replace(kinds=("resolv.conf", "docker", "dnsmasq", "systemd-resolved")))

    assert tree(root) == before
    assert said[-1] == "already so; nothing to change"


@pytest.mark.parametrize("work", ["install", "remove"])
def test_no_is_no(place, work):
    """Whoever does not agree has changed nothing, and --yes is named."""
    root = make(place)
    if work == "remove":
        resolver(root).install(ALL)
    before = tree(root)
    with pytest.raises(CannotStart, match=r"nothing was changed \(--yes"):
        getattr(Resolver(root, lambda _: None, lambda: False), work)(ALL)

    assert tree(root) == before


def test_a_record_that_cannot_be_read(place):
    """It is named, nothing is guessed, nothing is changed."""
    root = make(place)
    resolver(root).install(ALL)
    for text in ("{", '{"format": 2}', '{"installed": {"docker": 1}}'):
        (root / RECORD).write_text(text)
        before = tree(root)
        for work in (lambda: resolver(root).remove(Options()), lambda: status(resolver(root), Options())):
            with pytest.raises(CannotStart, match=r"/var/lib/pilotfish/resolver\.json: "):
                work()
        assert tree(root) == before


@pytest.mark.parametrize("what", ["var", "var/lib/pilotfish", "var/lib/pilotfish/resolver.lock"])
def test_a_place_for_the_record_that_cannot_be_had(place, what):
    """Something else stands where our folder or the lock has to be: it is named, and nothing is changed."""
    root = make(place)
    (root / what).parent.mkdir(parents=True, exist_ok=True)
    if what.endswith("lock"):
        (root / what).mkdir()
    else:
        (root / what).write_text("")
    before = tree(root)
    with pytest.raises(
        CannotStart, match=r"^/var/lib/pilotfish/resolver\.lock: .*; what is installed is remembered in"
    ):
        resolver(root).install(ALL)

    assert tree(root) == before


def test_what_cannot_be_changed_is_named(place):
    """A folder where a file should be."""
    root = make(place)
    (root / "etc/docker/daemon.json").unlink()
    (root / "etc/docker/daemon.json").mkdir()
    before = tree(root)
    with pytest.raises(CannotStart, match=r"/etc/docker/daemon.json"):
        resolver(root).install(ALL)

    assert tree(root) == before


def test_status_of_a_tree(place):
    """Which kinds are used, installed, changed; and the traps."""
    root = make(place)
    resolver(root).install(ALL)
    (root / DROP_IN).write_text("# gone\n")
    found = status(resolver(root), Options())
    kinds = {kind.kind: kind for kind in found.kinds}

    assert not found.wired
    assert [name for name, kind in kinds.items() if kind.installed] == [
        "systemd-resolved", "dnsmasq", "unbound", "resolv.conf", "docker"]  # fmt: skip
    assert [name for name, kind in kinds.items() if not kind.intact] == ["dnsmasq"]
    assert kinds["dnsmasq"].changed == (f"/{DROP_IN}",)
    assert kinds["systemd-resolved"].used
    assert kinds["docker"].servers == ("10.0.0.1:53",)
    assert [note for note in kinds["docker"].notes if "192.0.2.1 is asked no more" in note]
