"""Settings come from flags, environment and file, in this order, and everything wrong is said at once."""

from __future__ import annotations

import pytest

from confgen.settings import ConfgenSettings
from dnsserver.settings import DnsSettings
from pilotfish.catalog import setting_values
from pilotfish.catalog.settings import BadSettings, known, resolve, unknown_in_env, unknown_in_file
from pilotfish.catalog.values import BadValue
from registrator.settings import RegistratorSettings

PRECEDENCE = {
    "nothing given": ({}, {}, {}, 30),
    "file": ({}, {}, {"ttl": 1}, 1),
    "older environment name is not confused": ({}, {"TTL": "9"}, {"ttl": 1}, 1),
    "environment beats file": ({}, {"PILOTFISH_TTL": "2"}, {"ttl": 1}, 2),
    "flag beats environment": ({"ttl": "3"}, {"PILOTFISH_TTL": "2"}, {"ttl": 1}, 3),
    "empty environment counts as unset": ({}, {"PILOTFISH_TTL": ""}, {"ttl": 1}, 1),
}


@pytest.mark.parametrize(("flags", "env", "file", "expected"), PRECEDENCE.values(), ids=PRECEDENCE.keys())
def test_precedence(flags, env, file, expected):
    """A flag beats the environment, which beats the file, which beats the default."""
    assert resolve(DnsSettings, flags, env, file).ttl == expected


SEED_NAMES = {
    "ETCD_MACHINES": (DnsSettings, "http://a:2379,http://b:2379", "etcd", ("http://a:2379", "http://b:2379")),
    "ETCD_ENDPOINTS": (DnsSettings, "a:2379", "etcd", ("http://a:2379",)),
    "SKYDNS_DOMAIN": (DnsSettings, "localnet.local.", "domain", ("localnet.local",)),
    "SKYDNS_ADDR": (DnsSettings, "0.0.0.0:1053", "listen", (("0.0.0.0", 1053),)),
    "SKYDNS_PATH_PREFIX": (DnsSettings, "skydns", "skydns_prefix", "/skydns"),
    "DOCKER_HOST": (RegistratorSettings, "tcp://10.0.0.9:2376", "docker", ("tcp://10.0.0.9:2376",)),
    "DOCKER_TLS_VERIFY": (RegistratorSettings, "1", "docker_tls_verify", True),
    "ETCD_TMPL_ALL": (RegistratorSettings, "/k v", "etcd_tmpl", {"ETCD_TMPL_ALL": "/k v"}),
}


@pytest.mark.parametrize("name", SEED_NAMES)
def test_older_names_are_accepted(name):
    """The names that people have in their compose files mean what they meant."""
    kind, text, field, expected = SEED_NAMES[name]
    assert getattr(resolve(kind, {}, {name: text}, {}), field) == expected


def test_all_errors_at_once():
    """Three wrong settings from three places are three errors, each with its place."""
    with pytest.raises(BadSettings) as raised:
        resolve(DnsSettings, {"listen": ("53",)}, {"PILOTFISH_TTL": "0"}, {"domain": "a b"})
    assert [text.partition(":")[0] for text in raised.value.errors] == ["file, domain", "--listen", "PILOTFISH_TTL"]


UNKNOWN = {
    "at the top": ({"domian": "x"}, "file, 'domian' is no setting; did you mean domain?"),
    "in a table": ({"dns": {"lisen": 1}}, "file, [dns] 'lisen' is no setting; did you mean listen?"),
    "of another part": ({"dns": {"lease-ttl": 1}}, "file, [dns] 'lease-ttl' is no setting"),
    "no near name": ({"zzz": 1}, "file, 'zzz' is no setting"),
}


@pytest.mark.parametrize(("file", "expected"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_unknown_settings_in_a_file_are_errors(file, expected):
    """A typing mistake in a file is not passed over."""
    assert unknown_in_file(file, {"dns": DnsSettings, "registrator": RegistratorSettings})[0].startswith(expected)


def test_unknown_variables_are_errors():
    """A typing mistake in a PILOTFISH_ variable is not passed over; other variables are not ours."""
    errors = unknown_in_env({"PILOTFISH_TLL": "1", "HOME": "/", "PILOTFISH_TTL": "1"}, [DnsSettings])
    assert errors == ["'PILOTFISH_TLL' is no setting; did you mean PILOTFISH_TTL?"]


GOOD = {
    "etcd host and port": (setting_values.etcd_url, "h:2379", "http://h:2379"),
    "etcd url with slash": (setting_values.etcd_url, "https://h:2379/", "https://h:2379"),
    "etcd IPv6": (setting_values.etcd_url, "http://[::1]:2379", "http://[::1]:2379"),
    "loopback by default": (setting_values.address_and_port, ":53", ("127.0.0.1", 53)),
    "domain": (setting_values.domain, "Example.NET.", "example.net"),
    "prefix": (setting_values.skydns_prefix, "/a/b/", "/a/b"),
}


@pytest.mark.parametrize(("parse", "text", "expected"), GOOD.values(), ids=GOOD.keys())
def test_good_values(parse, text, expected):
    """Values come out in one canonical form."""
    assert parse(text) == expected


BAD = {
    "etcd without port": (setting_values.etcd_url, "http://h"),
    "etcd with credentials": (setting_values.etcd_url, "http://u:p@h:2379"),
    "etcd with path": (setting_values.etcd_url, "http://h/x:1"),
    "etcd scheme": (setting_values.etcd_url, "ftp://h:1"),
    "name instead of address": (setting_values.address_and_port, "localhost:53"),
    "port too high": (setting_values.address_and_port, "127.0.0.1:65536"),
    "wildcard domain": (setting_values.domain, "*.example.net"),
    "prefix with dots": (setting_values.skydns_prefix, "/a/../b"),
    "word out of a list": (setting_values.choice("a", "b"), "c"),
}


@pytest.mark.parametrize(("parse", "text"), BAD.values(), ids=BAD.keys())
def test_bad_values_are_refused(parse, text):
    """What cannot be used is refused with a message that quotes it."""
    with pytest.raises(BadValue, match="'"):
        parse(text)


@pytest.mark.parametrize("flag", ["resync", "docker-ping", "docker-timeout", "etcd-timeout", "etcd-stall", "verify"])
@pytest.mark.parametrize("text", ["0", "0s", "1ms", "2d"])
def test_what_is_done_again_and_again_has_a_pause(flag, text):
    """Of 0, which registrator took for "never", a list of all containers after the other would come."""
    with pytest.raises(BadSettings, match=rf"{flag}: '{text}' is out of bounds: from 0.1 s to 86400 s"):
        resolve(RegistratorSettings, {}, {}, {flag: text})


@pytest.mark.parametrize("kind", [RegistratorSettings, DnsSettings, ConfgenSettings])
def test_every_option_is_spelled_once(kind):
    """No two settings of a part share a flag or a variable, and every one has a sentence of help."""
    listed = list(known(kind))
    flags = [setting.option.flag for setting in listed if setting.option.flag]
    variables = [setting.variable for setting in listed]
    assert len(set(flags)) == len(flags)
    assert len(set(variables)) == len(variables)
    assert all(setting.option.help for setting in listed)


def test_secrets_are_not_shown():
    """A password does not come out of repr()."""
    made = resolve(DnsSettings, {}, {"ETCD_PASSWORD": "canary-123"}, {})
    assert made.etcd_password == "canary-123"
    assert "canary-123" not in repr(made)
