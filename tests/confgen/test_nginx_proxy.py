"""nginx-proxy's own expectations of hosts, ports and paths, its variables as they are: a row for each of its tests."""

from __future__ import annotations

import json

import pytest

from tests.confgen.virtual import Case, Row, port, web, wrong_in

UNKNOWN = "no container asks for this host: it is not there (404), rather than broken (503)"
BY_NAME = "hosts are told apart by name and by a wildcard in front, so that it is plain who has which"
NOT_READY = "a container is asked before it is served: who never answered is not tried at each request"
ADDRESS = "hosts have names; who comes by an address is told so"

TLD, TEST, EXAMPLE = "nginx-proxy.tld", "nginx-proxy.test", "nginx-proxy.example"


def unknown(name, url, why=UNKNOWN):
    """A host that nobody has."""
    return Row(name, url, 404, theirs="503", why=why)


def multiports(**hosts):
    return json.dumps(hosts)


STRIPPED = {"VIRTUAL_DEST": "/"}

HOSTS = [
    Case(
        "test_multiple-hosts",
        (web("web", 81, VIRTUAL_HOST=f"webA.{TLD},webB.{TLD}"),),
        (
            unknown("test_unknown_virtual_host_is_503", f"http://unknown.{TLD}/port"),
            Row("test_webA_is_forwarded", f"http://webA.{TLD}/port", text=port(81)),
            Row("test_webB_is_forwarded", f"http://webB.{TLD}/port", text=port(81)),
        ),
    ),
    Case(
        "test_nominal, test_dockergen, test_composev2, test_docker-unix-socket, test_multiple-networks",
        (web("web1", 81, VIRTUAL_HOST=f"web1.{TLD}"), web("web2", 82, VIRTUAL_HOST=f"web2.{TLD}")),
        (
            unknown("test_unknown_virtual_host", "http://nginx-proxy/"),
            Row("test_forwards_to_web1", f"http://web1.{TLD}/port", text=port(81)),
            Row("test_forwards_to_web2", f"http://web2.{TLD}/port", text=port(82)),
            Row("test_forwards_to_whoami", f"http://web1.{TLD}/", text="I'm web1\n"),
        ),
    ),
    Case(
        "test_wildcard-host",
        (
            web("web1", 81, VIRTUAL_HOST=f"*.{TEST}"),
            web("web2", 82, VIRTUAL_HOST="test.nginx-proxy.*"),
            web("web3", 83, VIRTUAL_HOST=r"~^web3\..*\.nginx-proxy\.regexp"),
        ),
        (
            *(
                Row(f"test_wildcard_prefix[{one}]", f"http://{one}.{TEST}/port", text=port(81))
                for one in ("f00", "bar")
            ),
            *(
                Row(f"test_wildcard_prefix[{one}]", f"http://{one}/port", 404, theirs="200", why=BY_NAME)
                for one in ("test.nginx-proxy.f00", "web3.123.nginx-proxy.regexp", "web3.123-ABC.nginx-proxy.regexp")
            ),
            unknown("test_non_matching_host_is_503", f"http://unexpected.{TLD}/port"),
        ),
    ),
    Case(
        "test_default-host",
        (web("web", 81, VIRTUAL_HOST=f"web1.{TLD}"),),
        (
            Row(
                "test_fallback_on_default",
                f"http://unknown.{TLD}/port",
                404,
                theirs="200",
                why="no container answers for hosts that are not its own",
            ),
        ),
    ),
    Case(
        "test_raw-ip-vhost",
        (web("web1", 80, VIRTUAL_HOST="172.20.0.4"),),
        (Row("test_raw_ipv4_vhost_forwards_to_web1", "http://172.20.0.4/", 404, theirs="200", why=ADDRESS),),
    ),
    Case(
        "test_vhost-empty-string",
        (
            web("web1", 81, VIRTUAL_HOST=""),
            web("web2", 82, VIRTUAL_HOST=f",web2.{TEST}"),
            web("web4", 84, VIRTUAL_HOST=f"web4a.{TEST},,web4b.{TEST}"),
        ),
        (
            Row("test_vhost_empty_string[web2]", f"http://web2.{TEST}/port", text=port(82)),
            Row("test_vhost_empty_string[web4a]", f"http://web4a.{TEST}/port", text=port(84)),
            Row("test_vhost_empty_string[web4b]", f"http://web4b.{TEST}/port", text=port(84)),
        ),
    ),
]

PORTS = [
    Case(
        "test_ports",
        (
            web("chosen", 80, 90, VIRTUAL_HOST=f"web.{TLD}", VIRTUAL_PORT="90"),
            web("eighty", 80, 81, VIRTUAL_HOST=f"eighty.{TLD}"),
            web("only", 81, VIRTUAL_HOST=f"only.{TLD}"),
            web("other", 80, VIRTUAL_HOST=f"other.{TLD}", VIRTUAL_PORT="90"),
        ),
        (
            Row("test_answer_is_served_from_chosen_port", f"http://web.{TLD}/port", text=port(90)),
            Row("test_answer_is_served_from_port_80_by_default", f"http://eighty.{TLD}/port", text=port(80)),
            Row("test_answer_is_served_from_exposed_port_even_if_not_80", f"http://only.{TLD}/port", text=port(81)),
            Row(
                "test_answer_is_served_from_virtual_port_which_is_ureachable",
                f"http://other.{TLD}/port",
                503,
                theirs="502",
                why=NOT_READY,
            ),
        ),
    ),
    Case(
        "test_multiports-base-json, -yaml",
        (
            web(
                "skipvirtualhost",
                81,
                VIRTUAL_HOST=f"skipped.{TLD}",
                VIRTUAL_HOST_MULTIPORTS=multiports(**{f"notskipped.{TLD}": {}}),
            ),
            web(
                "defaultport",
                80,
                8080,
                VIRTUAL_HOST_MULTIPORTS=multiports(
                    **{f"port80.a.{TLD}": {}, f"port80.b.{TLD}": {}, f"port80.c.{TLD}": {"/": {}}}
                ),
            ),
            web(
                "multiports",
                8080,
                9000,
                VIRTUAL_HOST_MULTIPORTS=multiports(
                    **{f"port8080.{TLD}": {"/": {"port": 8080}}, f"port9000.{TLD}": {"/": {"port": 9000}}}
                ),
            ),
            web(
                "virtualpath",
                10001,
                10002,
                VIRTUAL_HOST_MULTIPORTS=multiports(
                    **{
                        f"virtualpaths.{TLD}": {
                            "/rootdest": {"port": 10001, "dest": "/"},
                            "/customdest": {"port": 10002, "dest": "/port"},
                        }
                    }
                ),
            ),
        ),
        (
            Row("test_virtual_host_is_dropped_when_using_multiports", f"http://notskipped.{TLD}/port", text=port(81)),
            unknown("test_virtual_host_is_dropped_when_using_multiports[skipped]", f"http://skipped.{TLD}/"),
            *(
                Row(
                    f"test_answer_is_served_from_port_80_by_default[{one}]",
                    f"http://port80.{one}.{TLD}/port",
                    200,
                    port(80),
                )
                for one in "abc"
            ),
            Row("test_answer_is_served_from_chosen_ports[8080]", f"http://port8080.{TLD}/port", text=port(8080)),
            Row("test_answer_is_served_from_chosen_ports[9000]", f"http://port9000.{TLD}/port", text=port(9000)),
            Row(
                "test_answer_is_served_from_chosen_ports_and_dest[rootdest]",
                f"http://virtualpaths.{TLD}/rootdest/port",
                text=port(10001),
            ),
            Row(
                "test_answer_is_served_from_chosen_ports_and_dest[customdest]",
                f"http://virtualpaths.{TLD}/customdest",
                text=port(10002),
            ),
        ),
    ),
    Case(
        "test_multiports-merge",
        (
            web("one", 80, VIRTUAL_HOST=f"merged.{TLD}"),
            web("two", 9090, VIRTUAL_HOST=f"merged.{TLD}", VIRTUAL_PORT="9090", VIRTUAL_PATH="/foo", VIRTUAL_DEST="/"),
        ),
        (
            Row("test_multiports_and_legacy_configs_should_be_merged[/]", f"http://merged.{TLD}/port", text=port(80)),
            Row(
                "test_multiports_and_legacy_configs_should_be_merged[/foo]",
                f"http://merged.{TLD}/foo/port",
                text=port(9090),
            ),
        ),
    ),
]


def at(number, path, dest="/", host=TEST):
    """A container of theirs at a path of the host."""
    return web(f"web{number - 80}", number, VIRTUAL_HOST=host, VIRTUAL_PATH=path, VIRTUAL_DEST=dest)


PATHS = [
    Case(
        "test_virtual-path/test_virtual-paths",
        (
            web("foo", 42, VIRTUAL_HOST=f"foo.{TEST}"),
            at(81, "/web1/"),
            at(82, "/web2/"),
            at(83, "/", ""),
            at(84, "/web4/"),
        ),
        (
            Row("test_valid_path[web1]", f"http://{TEST}/web1/port", text=port(81)),
            Row("test_valid_path[web2]", f"http://{TEST}/web2/port", text=port(82)),
            Row("test_valid_path[/]", f"http://{TEST}/port", text=port(83)),
            Row("test_valid_path[foo]", f"http://foo.{TEST}/port", text=port(42)),
            Row("test_invalid_path[path]", f"http://{TEST}/foo/port", 404),
            Row("test_invalid_path[host]", f"http://bar.{TEST}/port", 404),
            Row("test_container_hotplug", f"http://{TEST}/web4/port", text=port(84)),
        ),
    ),
    Case(
        "test_virtual-path/test_forwarding",
        (at(81, "/web1/", host=f"www.{TLD}"),),
        (
            Row(
                "test_root_redirects_to_web1",
                f"http://www.{TLD}/port",
                301,
                has={"Location": f"http://www.{TLD}/web1/port"},
            ),
            Row("test_direct_access", f"http://www.{TLD}/web1/port", text=port(81)),
        ),
        snippets={f"www.{TLD}.conf": "location / { return 301 http://$host/web1$request_uri; }"},
    ),
    Case(
        "test_virtual-path/test_custom-conf",
        (
            web("foo", 42, VIRTUAL_HOST=f"foo.{TEST}"),
            at(81, "/web1/"),
            at(82, "/web2/"),
            at(83, "/web3/"),
            at(84, "~ ^/(web3|alt)/", ""),
        ),
        (
            Row("test_default_root_response", f"http://{TEST}/", 418),
            Row("test_custom_applies[web1]", f"http://{TEST}/web1/port", has={"X-test": "bar"}),
            Row("test_custom_applies[foo]", f"http://foo.{TEST}/port", has={"X-test": "f00"}),
            Row("test_custom_does_not_apply[foo]", f"http://{TEST}/foo/port", 418, has={"X-test": None}),
            Row("test_custom_does_not_apply[web2]", f"http://{TEST}/web2/port", has={"X-test": None}),
            unknown("test_custom_does_not_apply[bar]", f"http://bar.{TEST}/port"),
            Row("test_alternate[web1]", f"http://{TEST}/web1/port", text=port(81)),
            Row("test_alternate[web2]", f"http://{TEST}/web2/port", text=port(82)),
            Row("test_alternate[web3]", f"http://{TEST}/web3/port", text=port(83)),
            Row("test_alternate[alt]", f"http://{TEST}/alt/port", 418, theirs="200", why=BY_NAME),
        ),
        snippets={
            f"{TEST}.conf": "location / { return 418; }",
            f"foo.{TEST}.conf": "add_header X-test f00;",
            f"{TEST}@web1.conf": "add_header X-test bar;",
        },
    ),
    Case(
        "test_virtual-path/test_location-precedence",
        (
            at(81, "/web1/", host=f"foo.{TEST}"),
            at(82, "/web2/", host=f"bar.{TEST}"),
            at(83, "/web3/", host=f"bar.{TEST}"),
        ),
        (
            Row("test_location_precedence_case1", f"http://foo.{TEST}/web1/port", has={"X-test-default": "true"}),
            Row(
                "test_location_precedence_case2",
                f"http://bar.{TEST}/web2/port",
                has={"X-test-host": "true", "X-test-path": None},
            ),
            Row(
                "test_location_precedence_case3",
                f"http://bar.{TEST}/web3/port",
                has={"X-test-host": None, "X-test-path": "true"},
            ),
        ),
        snippets={
            f"foo.{TEST}@web1.conf": "add_header X-test-default true;",
            f"bar.{TEST}@web2.conf": "add_header X-test-host true;",
            f"bar.{TEST}@web3.conf": "add_header X-test-path true;",
        },
    ),
    Case(
        "test_location-override",
        (
            web("root", 81, VIRTUAL_HOST=f"explicit-root.{TEST},explicit-nonroot.{TEST}", VIRTUAL_PATH="/"),
            web(
                "foo",
                82,
                VIRTUAL_HOST=f"explicit-root.{TEST},explicit-nonroot.{TEST}",
                VIRTUAL_PATH="/foo/",
                **STRIPPED,
            ),
            web("implicit", 83, VIRTUAL_HOST=f"implicit-root.{TEST}"),
        ),
        (
            Row("test_explicit_root", f"http://explicit-root.{TEST}/port", 418),
            Row("test_explicit_root[foo]", f"http://explicit-root.{TEST}/foo/port", text=port(82)),
            Row("test_explicit_nonroot", f"http://explicit-nonroot.{TEST}/port", text=port(81)),
            Row("test_explicit_nonroot[foo]", f"http://explicit-nonroot.{TEST}/foo/port", 418),
            Row("test_implicit_root", f"http://implicit-root.{TEST}/port", 418),
        ),
        snippets={
            f"explicit-root.{TEST}@.conf": "return 418;",
            f"explicit-nonroot.{TEST}@foo.conf": "return 418;",
            f"implicit-root.{TEST}@.conf": "return 418;",
        },
    ),
]

CASES = [*HOSTS, *PORTS, *PATHS]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_hosts_ports_and_paths(nginx, folder, authority, case):
    """Every row is answered as theirs is, or as we decided."""
    assert await wrong_in(case, folder, nginx, authority) == {}
