"""The command line as a user meets it: help, errors, exit codes. Every message here is one that a user has seen."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pilotfish.catalog.settings import known
from pilotfish.cli import INSPECT_FLAGS, LINT_FLAGS, run
from pilotfish.flags import PARTS, with_double_dashes
from pilotfish.reference import settings_page
from tests.parts.ports import free_port

ROOT = Path(__file__).parents[1]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTFISH_", "ETCD", "DOCKER"))}


def pilotfish(*arguments: str, env: dict[str, str] | None = None, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "pilotfish", *arguments]
    return subprocess.run(
        command, env=CLEAN | (env or {}), input=given, capture_output=True, text=True, timeout=60, check=False
    )


class Running:
    """A part that goes on running; its lines are read as they come."""

    def __init__(self, log: Path, *arguments: str):
        command = [sys.executable, "-m", "pilotfish", *arguments]
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, env=CLEAN, stdout=output, stderr=output)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)

    def until(self, pattern: str) -> str:
        """The first line that matches; fails when the part ends or 20 s have passed."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for line in self.log.read_text().splitlines():
                if re.search(pattern, line):
                    return line
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"no {pattern!r} in:\n{self.log.read_text()}")


@pytest.mark.parametrize(
    "command", [[], ["up"], ["registrator"], ["dns"], ["confgen"], ["console"], ["inspect"], ["lint"], ["endpoints"]]
)
def test_help(command):
    """Every command explains itself and exits with 0."""
    done = pilotfish(*command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: pilotfish")


@pytest.mark.parametrize("part", PARTS)
def test_every_flag_is_in_help_and_reference(part):
    """--help and the reference page come from one table, and neither leaves a flag out."""
    help_text, page = pilotfish(part, "--help").stdout, settings_page()
    flags = [setting.option.flag for setting in known(PARTS[part]) if setting.option.flag]
    assert [flag for flag in flags if flag not in help_text or f"`{flag}" not in page] == []


@pytest.mark.parametrize(
    ("command", "shown"), [("inspect", INSPECT_FLAGS), ("lint", LINT_FLAGS)], ids=["inspect", "lint"]
)
def test_help_shows_the_flags_that_matter(command, shown):
    """Of the registrator's; the others are taken all the same."""
    flags = {setting.option.flag for setting in known(PARTS["registrator"])}
    assert shown <= flags
    help_text = pilotfish(command, "--help").stdout
    assert {flag for flag in flags if flag and re.search(rf"^ +{flag}\b(?!-)", help_text, re.MULTILINE)} == shown
    given = [command, "--resync", "9s", "-"]
    done = pilotfish(*given, given="[]")
    assert done.returncode == 0, done.stderr


def test_reference_page_is_up_to_date():
    """docs/settings.md is what `pilotfish reference` prints; renew it with that."""
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page()


BAD = {
    "unknown flag": (["up", "--lisen", "x"], {}, 2, "No such option '--lisen'. Did you mean '--listen'?"),
    "flag without its value": (["confgen", "--once", "--confdir"], {}, 2, "Option '--confdir' requires an argument"),
    "repeatable flag without its value": (["dns", "--listen"], {}, 2, "Option '--listen' requires an argument"),
    "unknown command": (["upp"], {}, 2, "No such command 'upp'"),
    "wrong value": (["dns", "--ttl", "0"], {}, 2, "pilotfish: --ttl: '0' is no TTL: a whole number from 1 to 86400"),
    "wrong variable": (
        ["dns"],
        {"SKYDNS_ADDR": "here:53"},
        2,
        "pilotfish: SKYDNS_ADDR: 'here:53' is no address and port: 127.0.0.1:53 or [::1]:53",
    ),
    "unknown variable": (
        ["dns"],
        {"PILOTFISH_TLL": "1"},
        2,
        "pilotfish: 'PILOTFISH_TLL' is no setting; did you mean PILOTFISH_TTL?",
    ),
    "no such settings file": (["dns", "--config", "/nowhere.toml"], {}, 2, "--config '/nowhere.toml': No such file"),
    "certificate without key": (["dns", "--etcd-cert", "x"], {}, 2, "--etcd-cert and --etcd-key go together"),
    "password file missing": (["dns", "--etcd-password-file", "/nowhere"], {}, 2, "--etcd-password-file /nowhere"),
    "inspect: no such file": (["inspect", "/nowhere.json"], {}, 1, "pilotfish: /nowhere.json: No such file"),
    "inspect: nothing named": (["inspect", ""], {}, 2, "'' is neither a file nor a container: name one"),
    "inspect: neither a file nor an engine": (
        ["inspect", "web.json", "--docker", "unix:///nowhere.sock"],
        {},
        3,
        "; and there is no file 'web.json'",
    ),
    "inspect: no engine": (
        ["inspect", "web", "--docker", "unix:///nowhere.sock"],
        {},
        3,
        "cannot reach the Docker engine at unix:///nowhere.sock",
    ),
    "inspect: no engine over TCP": (
        ["inspect", "web", "--docker", "tcp://127.0.0.1:1"],
        {},
        3,
        "cannot reach the Docker engine at tcp://127.0.0.1:1: nobody listens there: is Docker running?",
    ),
    "endpoints: no etcd": (
        ["endpoints", "--etcd", "127.0.0.1:1"],
        {},
        3,
        "Connection refused; is it running, and is --etcd right?",
    ),
    "drain: no etcd": (
        ["drain", "web", "--etcd", "127.0.0.1:1"],
        {},
        3,
        "Connection refused; is it running, and is --etcd right?",
    ),
    "endpoints: no up": (
        ["endpoints", "--data", "/nowhere"],
        {},
        3,
        "is `pilotfish up` running there? Else name the cluster with --etcd, or the folder of",
    ),
    "nginx missing": (["confgen", "--nginx-bin", "no-such-nginx"], {}, 3, "no nginx: 'no-such-nginx' is not a program"),
    "registrator once without an engine": (
        ["registrator", "--once", "--docker", "unix:///nowhere.sock", "--status", "127.0.0.1:0"],
        {},
        3,
        "cannot reach the Docker engine at unix:///nowhere.sock",
    ),
    "a key template that cannot be read": (
        ["registrator", "--status", "127.0.0.1:0"],
        {"ETCD_TMPL_A": "{{if .x}}"},
        2,
        "ETCD_TMPL_A",
    ),
}


@pytest.mark.parametrize(("arguments", "env", "code", "message"), BAD.values(), ids=BAD.keys())
def test_bad_use(arguments, env, code, message):
    """The message names what is wrong; the exit code tells usage from failure from a missing dependency."""
    done = pilotfish(*arguments, env=env)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_all_wrong_settings_at_once(tmp_path):
    """Three places, four mistakes, one start."""
    config = tmp_path / "pilotfish.toml"
    config.write_text('domian = "x"\n[dns]\nlisen = 1\n')
    done = pilotfish("dns", "--config", str(config), "--ttl", "0", env={"PILOTFISH_TLL": "1"})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 4
    assert done.stderr.count(f"pilotfish: {config}, ") == 2


def test_settings_that_are_no_text(tmp_path):
    """The file is named, and what is wrong with it."""
    config = tmp_path / "pilotfish.toml"
    config.write_bytes(b"ttl = \xff\n")
    done = pilotfish("dns", "--config", str(config))
    assert (done.returncode, done.stderr) == (2, f"pilotfish: --config '{config}': no text: octet 6 is not UTF-8\n")


def test_shared_settings_of_up_belong_at_the_top(tmp_path):
    """In [up] they would hold for its store and its words, and not for its parts."""
    file = tmp_path / "pilotfish.toml"
    file.write_text('[up]\ndomain = ["one.example"]\ndata = "x"\nstatus = "127.0.0.1:0"\n')
    done = pilotfish("up", "--config", str(file), "--data", str(tmp_path / "data"), "--nginx", "off")
    assert done.returncode == 2
    assert done.stderr == f"pilotfish: {file}, [up] 'domain' is shared by all parts: write it at the top of the file\n"


def test_wrong_settings_make_no_folder(monkeypatch, capsys):
    """Nothing is left behind by a command that could not begin."""
    made = []
    monkeypatch.setattr("pilotfish.cli.data_folder", made.append)
    with pytest.raises(SystemExit) as ended:
        run(["up", "--log-level", "loud"])
    assert (ended.value.code, made) == (2, [])
    assert "'loud' is none of" in capsys.readouterr().err


def test_no_nginx_is_needed_where_none_is_run(tmp_path):
    """--nginx off only writes files."""
    folder = ["--nginx-dir", str(tmp_path / "nginx"), "--status", "127.0.0.1:0"]
    none = ["--nginx", "off", "--nginx-bin", "no-such-nginx"]
    with Running(tmp_path / "log", "confgen", "--etcd", "127.0.0.1:1", *none, *folder) as part:
        part.until("cannot reach|etcd")


def test_unreachable_etcd_is_waited_for(tmp_path):
    """Without etcd a part starts, says what it waits for, and is alive but not ready."""
    port, status = free_port(), free_port()
    arguments = ["dns", "--etcd", f"127.0.0.1:{port}", "--listen", f"127.0.0.1:{free_port()}"]
    with Running(tmp_path / "log", *arguments, "--status", f"127.0.0.1:{status}") as dns:
        dns.until(rf"warning dns: store: etcd http://127\.0\.0\.1:{port}.*Connection refused")
        assert pilotfish("health", "--status", f"127.0.0.1:{status}").returncode == 0
        ready = pilotfish("health", "--ready", "--status", f"127.0.0.1:{status}")
        assert ready.returncode == 1
        assert "store /pilotfish/v1/" in json.loads(ready.stdout)["missing"]


def test_unreachable_docker_is_waited_for(tmp_path):
    """Without an engine the registrator starts and says where it looks."""
    arguments = ["registrator", "--docker", f"unix://{tmp_path}/docker.sock", "--status", "127.0.0.1:0"]
    with Running(tmp_path / "log", *arguments) as registrator:
        registrator.until(r"warning registrator: docker: cannot reach the Docker engine at unix://.*docker\.sock")


def test_taken_port_is_named():
    """A DNS server that gets none of its addresses ends with a message that names them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = pilotfish("dns", "--listen", f"127.0.0.1:{port}", "--status", "127.0.0.1:0")
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_taken_status_port_is_named():
    """The status address is named with its flag."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = pilotfish("console", "--status", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"--status 127.0.0.1:{port}: address already in use; choose another" in done.stderr.lower()


def test_inspect_reads_standard_input():
    """Saved JSON is judged offline; hostile tags are refused by name, and the port stays."""
    document = {
        "Id": "ab" * 32,
        "Name": "/web",
        "Config": {"Image": "web:1", "Env": ["SERVICE_80_PROXY=http", "SERVICE_80_PROXY_HOST=a;b", "PASSWORD=canary"]},
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}},
    }
    done = pilotfish(
        "inspect", "-", "--json", "--ip", "10.0.0.1", "--node-name", "h1", given=json.dumps([document]), env={}
    )
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout
    (container,) = json.loads(done.stdout)["containers"]
    (endpoint,) = container["endpoints"]
    assert (endpoint["service"], endpoint["id"], endpoint["address"], endpoint["port"]) == (
        "web", "h1:web:80", "10.0.0.1", 8080,
    )  # fmt: skip
    assert any("SERVICE_80_PROXY_HOST (env): 'a;b' is no host" in notice for notice in container["notices"])


RUBBISH = {
    "nothing": ("", 1, "no JSON as `docker inspect` prints it"),
    "half a document": ("{", 1, "no JSON as `docker inspect` prints it"),
    "a text": ('"x"', 1, "document 1 cannot be used"),
    "a number": ("5", 1, "document 1 cannot be used"),
    "an empty object": ("{}", 1, "document 1 cannot be used"),
    "a list of a number": ("[1]", 1, "document 1 cannot be used"),
    "one of two": (f'[1, {{"Id": "{"ab" * 32}", "Name": "/a"}}]', 0, "document 1 cannot be used"),
    "no document": ("[]", 0, "there is no container to look at"),
    "a NUL": ("\x00", 1, "no JSON as `docker inspect` prints it"),
    "nested too deeply": ("[" * 200_000, 1, "JSON is nested too deeply"),
    "a Compose file": ("services:\n", 1, "; a Compose file is for `pilotfish lint`"),
}


@pytest.mark.parametrize(("given", "code", "said"), RUBBISH.values(), ids=RUBBISH)
def test_inspect_of_rubbish(given, code, said):
    """What is no inspect document is an error of one line, or a container left out by name; never a traceback."""
    done = pilotfish("inspect", "-", given=given)
    assert "Traceback" not in done.stderr
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr


def test_inspect_of_octets_that_are_no_text(tmp_path):
    """The file is named, and what is wrong with it."""
    file = tmp_path / "x.json"
    file.write_bytes(b'["\xff"]')
    done = pilotfish("inspect", str(file))
    assert (done.returncode, f"{file}: no JSON" in done.stderr, "octet" in done.stderr) == (1, True, True), done.stderr


def test_one_dash_is_accepted():
    """Long flags as the older tools spell them, unknown ones too, so that they are refused whole; short ones stay."""
    assert with_double_dashes(["-ip", "1", "-domain=x", "-h", "--ip", "-x", "-cleanup"]) == [
        "--ip", "1", "--domain=x", "-h", "--ip", "-x", "--cleanup",
    ]  # fmt: skip


def test_version():
    """--version names the program."""
    assert pilotfish("--version").stdout.startswith("pilotfish, version 0.")
