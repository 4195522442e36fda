"""confd's command lines and settings files, as they are, on a real etcd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from confgen.resources import confd_flags, confd_toml
from confgen.settings import ConfgenSettings
from pilotfish.catalog.settings import BadSettings
from pilotfish.flags import Given, confd_defaults
from tests.confgen.confd_kit import ANSWERS
from tests.parts.etcd_server import EtcdCluster, wait_until

SEED = next(row for row in ANSWERS if row["title"] == "seed: two services")


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture
def confd(etcd, tmp_path):
    """Runs the program on a confdir with one resource, /reg/proxy -> out, rendered by the seed's template."""
    etcd.members[0].ctl("del", "", "--prefix")
    for key, value in SEED["keys"].items():
        etcd.members[0].ctl("put", key, value)
    for name in ("conf.d", "templates"):
        (tmp_path / "c" / name).mkdir(parents=True)
    (tmp_path / "c/templates/nginx.tmpl").write_text(SEED["template"])
    (tmp_path / "c/conf.d/nginx.toml").write_text(
        f'[template]\nsrc = "nginx.tmpl"\ndest = "{tmp_path}/out"\nprefix = "/reg"\nkeys = ["/proxy"]\n'
        f'check_cmd = "grep -q server {{{{.src}}}}"\nreload_cmd = "echo {{{{.dest}}}} >> {tmp_path}/log"\n'
    )
    return Confd(etcd, tmp_path)


class Confd:
    def __init__(self, etcd, path):
        self.etcd, self.path = etcd, path

    @property
    def out(self):
        return (self.path / "out").read_text()

    def command(self, *words):
        place = ["-confdir", str(self.path / "c"), "--state-dir", str(self.path / "state")]
        return [sys.executable, "-c", "from pilotfish.cli import confgen_main; confgen_main()", *place, *words]

    def run(self, *words, **env):
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **env}
        )


def test_the_seed_renders_byte_for_byte(confd):
    """The seed's own flags; -onetime ends with 0 and without a status server."""
    done = confd.run("-onetime", "-backend", "etcdv3", "-node", confd.etcd.urls[0], "-interval=5", "-verbose")

    assert (done.returncode, done.stderr.count("error")) == (0, 0), done.stderr
    assert confd.out == SEED["output"]
    assert (confd.path / "log").read_text() == f"{confd.path}/out\n"


def test_flags_of_the_image(confd):
    """CONFD_OPTS stands before the arguments."""
    done = confd.run("-onetime", CONFD_OPTS=f"-backend=etcdv3 -node {confd.etcd.urls[0]} -log-level warn -watch=true")

    assert (done.returncode, confd.out) == (0, SEED["output"]), done.stderr


def test_a_failure_is_exit_code_1(confd):
    (confd.path / "c/templates/nginx.tmpl").write_text("a\n{{getv `/nope`}}")
    done = confd.run("-onetime", "-node", confd.etcd.urls[0])

    assert done.returncode == 1
    assert "nginx.toml: template nginx.tmpl, line 2, column 3: calling getv: key does not exist: /nope" in done.stderr


def test_a_store_that_is_away_is_exit_code_3(confd):
    done = confd.run("-onetime", "-node", "http://127.0.0.1:9", "--etcd-timeout", "1s")

    assert done.returncode == 3
    assert "is --etcd (or -node) right?" in done.stderr


def test_noop_prints_the_diff(confd):
    done = confd.run("-onetime", "-noop", "-node", confd.etcd.urls[0])

    assert (done.returncode, (confd.path / "out").exists()) == (0, False)
    assert "+upstream host-a {\n" in done.stdout


def test_the_command_line_beats_the_file(confd):
    """confd.toml says noop and a prefix without keys; what the file alone says holds, a flag is stronger."""
    (confd.path / "confd.toml").write_text(
        f'backend = "etcdv3"\nnodes = ["{confd.etcd.urls[0]}"]\nprefix = "/none"\ninterval = 5\nscheme = "http"\n'
    )
    file = ("-onetime", "-config-file", str(confd.path / "confd.toml"))
    refused = confd.run(*file)
    assert (refused.returncode, "check_cmd refused it" in refused.stderr) == (1, True)  # nothing is below /none/proxy

    done = confd.run(*file, "-prefix", "/reg")

    assert (done.returncode, confd.out) == (0, SEED["output"]), done.stderr


def test_it_stays_and_follows(confd):
    """Until SIGTERM, which ends it with 0; SIGHUP reads the folder again."""
    status = ("--status", "127.0.0.1:0", "-watch", "-interval", "600")
    process = subprocess.Popen(confd.command("-node", confd.etcd.urls[0], *status))
    try:
        wait_until(lambda: (confd.path / "out").exists() and confd.out == SEED["output"], "rendered")
        confd.etcd.members[0].ctl("del", "/reg/proxy/http/b/1")
        wait_until(lambda: "host-b" not in confd.out, "b is gone")
        stamp = time.time_ns() - 10**12
        (confd.path / "out").write_text("mine")
        os.utime(confd.path / "out", ns=(stamp, stamp))
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "host-a" in confd.out, "restored")
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


SPELLED = [
    ("switch", ["-onetime"], ["-onetime"]),
    ("switch with a value", ["--watch=true", "-noop=1"], ["--watch", "--noop"]),
    ("switched off", ["-noop=false", "-watch=0"], []),
    ("old words for the log", ["-debug", "-quiet", "-verbose=false"], ["--log-level=debug", "--log-level=error"]),
    ("of other backends", ["-scheme", "https", "--table=t", "-noop", "-filter", "-watch"], ["--noop"]),
    ("basic auth", ["-basic-auth=false", "-basic-auth", "-username", "u"], ["-username", "u"]),
    ("version before all else", ["confgen", "-srv-domain", "x", "-version"], ["--version"]),
    ("not asked for", ["-srv-domain", "", "-srv-record=", "-client-insecure=false"], []),
    ("values", ["-prefix=/a", "-node", "http://h:1"], ["-prefix=/a", "-node", "http://h:1"]),
]


@pytest.mark.parametrize(("given", "expected"), [row[1:] for row in SPELLED], ids=[row[0] for row in SPELLED])
def test_spellings(given, expected):
    assert confd_flags.spelled(given) == [one if one != "-onetime" else "--onetime" for one in expected]


NOT_TAKEN = [
    ("-srv-domain example.net", "-srv-domain is not taken; name the etcd endpoints: -node URL"),
    ("-srv-record=_etcd._tcp.x", "-srv-record is not taken; name the etcd endpoints: -node URL"),
    ("-noop=yes", "-noop is a switch: 'yes' is neither true nor false"),
    ("--watch=", "-watch is a switch: '' is neither true nor false"),
    ("-client-insecure", "-client-insecure is not taken; etcd's certificate is always checked"),
    ("--client-insecure=true", "-client-insecure is not taken; etcd's certificate is always checked"),
]


@pytest.mark.parametrize(("given", "said"), NOT_TAKEN)
def test_what_is_not_taken_says_what_to_do(given, said):
    with pytest.raises(BadSettings, match=said):
        confd_flags.spelled(["confgen", *given.split(), "-onetime"])


def test_a_flag_that_is_not_taken_is_bad_usage(confd):
    done = confd.run("-onetime", "-srv-domain", "example.net")

    assert (done.returncode, done.stderr) == (
        2, "pilotfish: -srv-domain is not taken; name the etcd endpoints: -node URL, once for each\n"
    )  # fmt: skip


def test_version(confd):
    done = confd.run("-version")

    assert (done.returncode, done.stdout.split()[:2]) == (0, ["pilotfish,", "version"])


def test_user_and_password(confd):
    """From the command line, as confd has them; the password is shown nowhere."""
    etcd = confd.etcd.members[0]
    etcd.ctl("user", "add", "root:secret")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("auth", "enable")
    try:
        given = ("-onetime", "-node", confd.etcd.urls[0], "-scheme", "http", "-basic-auth", "-username", "root")
        refused = confd.run(*given, "-password", "guessed")
        done = confd.run(*given, "-password", "secret")
    finally:
        etcd.ctl("--user", "root:secret", "auth", "disable")
        etcd.ctl("user", "delete", "root")

    assert (refused.returncode, "guessed" in refused.stderr) == (3, False), refused.stderr
    assert (done.returncode, confd.out) == (0, SEED["output"]), done.stderr


def test_certificates_from_confds_environment():
    found = settings({}, CONFD_CLIENT_CAKEYS="/ca", CONFD_CLIENT_CERT="/cert", CONFD_CLIENT_KEY="/key")

    assert (found.etcd_ca, found.etcd_cert, found.etcd_key) == ("/ca", "/cert", "/key")


FILES = [
    ("all", 'nodes = ["http://a:1"]\nprefix = "/p"\ninterval = 7\nsync-only = true\nlog-level = "warn"\nusername = "u"',
     {"etcd": ["http://a:1"], "prefix": "/p", "interval": 7, "sync-only": True, "log-level": "warn", "etcd-user": "u"}),
    ("empty values", 'prefix = ""\nnodes = []', {}),
    ("mark of an editor", '\ufeffprefix = "/p"', {"prefix": "/p"}),
    ("by the names that confd gives no others", "OneTime = true\nclient_insecure = false", {"once": True}),
    ("of other backends", 'scheme = "http"\ntable = "t"', {}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_confd_toml(text, expected):
    assert confd_toml.defaults("confd.toml", text) == (expected, [])


def test_what_confd_passes_over_in_confd_toml_is_told_of():
    read, notices = confd_toml.defaults("confd.toml", 'nodez = 1\nprefix = "/p"\n[other]\na = 1\n')

    assert read == {"prefix": "/p"}
    assert notices == [
        f"--config-file confd.toml: '{key}' is not known and has no effect" for key in ("nodez", "other")
    ]


WRONG = [("=", "Invalid"), ("client_insecure = true", "client_cakeys"), ('srv_domain = "x"', "nodes")]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_a_wrong_confd_toml_is_refused(text, said):
    with pytest.raises(BadSettings, match=f"--config-file confd.toml: .*{said}"):
        confd_toml.defaults("confd.toml", text)


def settings(flags, **env):
    given = Given(flags, env)
    return given.one("confgen", ConfgenSettings, {"node-name": "h", **confd_defaults(given)})


def test_who_is_stronger(tmp_path):
    """Flag, then environment, then confd.toml, then the default; the folder may come from the file."""
    file = tmp_path / "confd.toml"
    file.write_text(f'confdir = "{tmp_path}"\ninterval = 7\nprefix = "/file"\nlog-level = "warn"\n')

    found = settings({"config_file": str(file), "prefix": "/flag"}, PILOTFISH_INTERVAL="9")

    assert (found.confdir, found.interval_s, found.prefix, found.log_level) == (str(tmp_path), 9.0, "/flag", "warning")
    assert settings({}).confdir == ""


def test_a_settings_file_that_is_not_there_is_named_and_passed_over(tmp_path, capsys):
    found = settings({"config_file": str(tmp_path / "nope"), "confdir": str(tmp_path)})

    assert found.confdir == str(tmp_path)
    assert "nope: there is no such file" in capsys.readouterr().err


def test_a_settings_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(BadSettings, match=r"--config-file .*: Is a directory"):
        settings({"config_file": str(tmp_path)})
