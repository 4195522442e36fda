"""nginx-proxy's own expectations of headers, guards, files of the admin's and servers: a row for each of its tests."""

from __future__ import annotations

import pytest

from tests.confgen.asking import login
from tests.confgen.test_nginx_proxy import EXAMPLE, TLD, unknown
from tests.confgen.virtual import Case, Row, port, web, wrong_in

SPOOFED = "only balancers of --trusted-proxies are believed: applications take these headers for the truth"
WORDS = "a balancer's word counts if it is http or https"
OWN_HOST = "the host is the one that chose the container: balancers pass on whatever their clients say of it"
NO_VERSION = "no answer tells nginx's version"
ALL_SERVE = "all that are ready share the load, by WEIGHT; who is to serve alone is tagged so, or shifted to"
OWN_STATE = "what is served is told at /api/state, to admins alone"
BY_ADDRESS = "a host that nobody has is 404, rather than 503"

CERTS = {TLD: (f"*.{TLD}",)}
WEB = web("web", 80, VIRTUAL_HOST=f"web.{TLD}", HTTPS_METHOD="noredirect")


def spoofs(scheme):
    """Header, what a client says, what we say."""
    return (
        ("X-Forwarded-Proto", "f00", scheme),
        ("X-Forwarded-Port", "1234", f"{{{scheme}}}"),
        ("X-Forwarded-Host", "foo.bar.baz", f"web.{TLD}"),
    )


def headers(scheme, tls):
    """What the application is told, over http or https."""
    url = f"{scheme}://web.{TLD}/headers"
    sent, ours = {"X-Forwarded-For": "1.2.3.4"}, f"X-Forwarded-Ssl: {tls}\n"
    return (
        Row("test_arbitrary_headers_are_passed_on", url, text="Foo: Bar\n", send={"Foo": "Bar"}),
        Row("test_X_Forwarded_For_is_generated", url, text="X-Forwarded-For:"),
        Row("test_X_Forwarded_For_is_passed_on", url, text="X-Forwarded-For: 1.2.3.4, ", send=sent),
        *(Row(f"test_{name}_is_generated", url, text=f"{name}: {ours}\n") for name, _, ours in spoofs(scheme)),
        *(
            Row(f"test_{name}_is_passed_on", url, 200, f"{name}: {ours}\n", send={name: said}, theirs=said, why=SPOOFED)
            for name, said, ours in spoofs(scheme)
        ),
        Row("test_X_Forwarded_Ssl_is_generated", url, text=ours),
        Row("test_X_Forwarded_Ssl_is_overwritten", url, text=ours, send={"X-Forwarded-Ssl": "f00"}),
        Row("test_X_Real_IP_is_generated", url, text="X-Real-IP: "),
        Row("test_Host_is_passed_on", url, text=f"Host: web.{TLD}"),
        Row("test_httpoxy_safe", url, lacks="Proxy:", send={"Proxy": "tcp://some.hacker.com"}),
        Row("docs: X-Original-URI", url, text="X-Original-URI: /headers\n", send={"X-Original-URI": "/admin"}),
        Row("test_server_tokens_on", url, has={"Server": "nginx"}, theirs="nginx/<version>", why=NO_VERSION),
        Row("test_server_tokens_off", url, has={"Server": "nginx"}),
    )


def downstream(*, told):
    """What a proxy in front of ours says, by whether it is trusted."""
    rows = []
    for scheme in ("http", "https"):
        url = f"{scheme}://web.{TLD}/headers"
        for name, said, ours in spoofs(scheme):
            believed = told and name == "X-Forwarded-Port"
            differs = {"theirs": said, "why": WORDS if name == "X-Forwarded-Proto" else OWN_HOST}
            rows += [
                Row(f"test_downstream_proxy_header[{scheme}-{name}-None]", url, text=f"{name}: {ours}\n"),
                Row(
                    f"test_downstream_proxy_header[{scheme}-{name}-{said}]",
                    url,
                    text=f"{name}: {said if believed else ours}\n",
                    send={name: said},
                    **(differs if told and not believed else {}),
                ),
            ]
    return tuple(rows)


HEADERS = [
    Case("test_headers/test_http", (WEB,), headers("http", "off"), certs=CERTS),
    Case("test_headers/test_https", (WEB,), headers("https", "on"), certs=CERTS),
    Case(
        "test_headers: no host",
        (WEB,),
        (Row("test_no_host", "http://172.17.0.9/", 404, has={"Server": "nginx"}, theirs="503", why=BY_ADDRESS),),
    ),
    Case("test_trust-downstream-proxy/test_disabled", (WEB,), downstream(told=False), certs=CERTS),
    Case(
        "test_trust-downstream-proxy/test_enabled, test_default",
        (WEB,),
        (
            *downstream(told=True),
            Row(
                "docs: X-Forwarded-Ssl follows X-Forwarded-Proto",
                f"http://web.{TLD}/headers",
                text="X-Forwarded-Proto: https\nX-Forwarded-Host: ",
                send={"X-Forwarded-Proto": "https"},
            ),
        ),
        certs=CERTS,
        flags={"trusted": ("127.0.0.1/32",)},
    ),
]

TWO = (web("web1", 81, VIRTUAL_HOST=f"web1.{EXAMPLE}"), web("web2", 82, VIRTUAL_HOST=f"web2.{EXAMPLE}"))
F00 = {"X-test": "f00"}


def custom(web2, where=""):
    """What stands in the answers of two hosts, of which the admin has files for one or for both."""
    return (
        unknown("test_custom_conf_does_not_apply_to_unknown_vhost", "http://nginx-proxy/"),
        Row("test_custom_conf_applies_to_web1", f"http://web1.{EXAMPLE}{where}/port", text=port(81), has=F00),
        Row("test_custom_conf_web2", f"http://web2.{EXAMPLE}{where}/port", text=port(82), has={"X-test": web2}),
    )


CUSTOM = [
    Case("test_custom/test_per-vhost", TWO, custom(None), snippets={f"web1.{EXAMPLE}.conf": "add_header X-test f00;"}),
    Case(
        "test_custom/test_location-per-vhost",
        TWO,
        custom(None),
        snippets={f"web1.{EXAMPLE}@.conf": "add_header X-test f00;"},
    ),
    Case(
        "test_custom/test_defaults, test_proxy-wide: a file for each host",
        TWO,
        custom("f00"),
        snippets={f"web{one}.{EXAMPLE}.conf": "add_header X-test f00;" for one in (1, 2)},
    ),
    Case(
        "test_custom/test_defaults-location: a file for each host",
        TWO,
        custom("bar"),
        snippets={f"web1.{EXAMPLE}@.conf": "add_header X-test f00;", f"web2.{EXAMPLE}@.conf": "add_header X-test bar;"},
    ),
    Case(
        "test_custom/test_per-vpath, test_location-per-vpath",
        (
            web("path1", 81, VIRTUAL_HOST=f"web1.{EXAMPLE}", VIRTUAL_PATH="/path1/", VIRTUAL_DEST="/"),
            web("path2", 82, VIRTUAL_HOST=f"web1.{EXAMPLE}", VIRTUAL_PATH="/path2/", VIRTUAL_DEST="/"),
        ),
        (
            Row("test_custom_conf_applies_to_path1", f"http://web1.{EXAMPLE}/path1/port", text=port(81), has=F00),
            Row("test_custom_conf_does_not_apply_to_path2", f"http://web1.{EXAMPLE}/path2/port", has={"X-test": None}),
            Row(
                "test_custom_conf_does_not_apply_to_unknown_vpath", f"http://web1.{EXAMPLE}/", 404, has={"X-test": None}
            ),
        ),
        snippets={f"web1.{EXAMPLE}@path1.conf": "add_header X-test f00;"},
    ),
    Case(
        "test_internal/test_internal-per-vhost",
        (web("web1", 81, VIRTUAL_HOST=f"web1.{EXAMPLE}", NETWORK_ACCESS="internal"), TWO[1]),
        (
            Row("test_network_web1", f"http://web1.{EXAMPLE}/port", text=port(81)),
            Row("test_network_web2", f"http://web2.{EXAMPLE}/port", text=port(82)),
        ),
    ),
    Case(
        "test_internal/test_internal-per-vpath",
        (
            web("web1", 81, VIRTUAL_HOST=EXAMPLE, VIRTUAL_PATH="/web1/", VIRTUAL_DEST="/", NETWORK_ACCESS="internal"),
            web("web2", 82, VIRTUAL_HOST=EXAMPLE, VIRTUAL_PATH="/web2/", VIRTUAL_DEST="/", NETWORK_ACCESS="external"),
        ),
        (
            Row("test_network_web1", f"http://{EXAMPLE}/web1/port", text=port(81)),
            Row("test_network_web2", f"http://{EXAMPLE}/web2/port", text=port(82)),
        ),
    ),
    Case(
        "docs: who is not internal is denied",
        (
            web("web1", 81, VIRTUAL_HOST=EXAMPLE, VIRTUAL_PATH="/web1/", VIRTUAL_DEST="/", NETWORK_ACCESS="internal"),
            web("web2", 82, VIRTUAL_HOST=EXAMPLE, VIRTUAL_PATH="/web2/", VIRTUAL_DEST="/"),
        ),
        (
            Row("internal", f"http://{EXAMPLE}/web1/port", 403, send={"X-Forwarded-For": "9.9.9.9"}),
            Row("external", f"http://{EXAMPLE}/web2/port", text=port(82), send={"X-Forwarded-For": "9.9.9.9"}),
        ),
        flags={"trusted": ("127.0.0.1/32",)},
    ),
]


def guarded(name, url, realm):
    """401 without the password, and the page with it."""
    return (
        Row(f"{name}_is_restricted", url, 401, has={"WWW-Authenticate": f'Basic realm="Restricted {realm}"'}),
        Row(f"{name}_basic_auth", url, text=port(80), send=dict(login())),
    )


SERVERS = [
    Case(
        "test_htpasswd/test_htpasswd-virtual-host",
        (web("web", 80, VIRTUAL_HOST=f"htpasswd.{TLD}", ours=["SERVICE_80_PROXY_AUTH=staff"]),),
        guarded("test_htpasswd_virtual_host", f"http://htpasswd.{TLD}/port", f"htpasswd.{TLD}"),
        users={"staff": "bob:{hashed}\n"},
    ),
    Case(
        "test_htpasswd/test_htpasswd-virtual-path",
        (
            web(
                "web",
                80,
                VIRTUAL_HOST=f"htpasswd.{TLD}",
                VIRTUAL_PATH="/foo/",
                VIRTUAL_DEST="/",
                ours=["SERVICE_80_PROXY_AUTH=staff"],
            ),
        ),
        guarded("test_htpasswd_virtual_path", f"http://htpasswd.{TLD}/foo/port", f"htpasswd.{TLD}/foo/"),
        users={"staff": "bob:{hashed}\n"},
    ),
    Case(
        "test_keepalive",
        (WEB,),
        (
            Row("test_keepalive_enabled", f"http://web.{TLD}/headers", lacks="Connection:"),
            Row("test_keepalive_enabled_other_headers_ok", f"http://web.{TLD}/headers", text="X-Real-IP: "),
            Row("test_keepalive_disabled_other_headers_ok", f"http://web.{TLD}/headers", text="X-Real-IP: "),
        ),
    ),
    Case(
        "test_server-down",
        (web("web", VIRTUAL_HOST=f"web.{TLD}", VIRTUAL_PORT="81"),),
        (Row("test_web_has_server_down", f"http://web.{TLD}/port", 503),),
    ),
    Case(
        "test_backup-server",
        (
            web("web1", VIRTUAL_HOST=f"web1.{TLD}", VIRTUAL_PORT="81", ours=["SERVICE_NAME=one"]),
            web("web1_backup", 91, VIRTUAL_HOST=f"web1.{TLD}", ours=["SERVICE_NAME=one"]),
            web("web2", 82, VIRTUAL_HOST=f"web2.{TLD}", ours=["SERVICE_NAME=two"]),
            web("web2_backup", 92, VIRTUAL_HOST=f"web2.{TLD}", ours=["SERVICE_NAME=two"]),
        ),
        (
            Row("test_web1_is_backup", f"http://web1.{TLD}/port", text=port(91)),
            Row("test_web2_is_production", f"http://web2.{TLD}/port", text="answer from", theirs="82", why=ALL_SERVE),
        ),
    ),
    Case(
        "test_host-network-mode",
        (web("host", 8080, mode="host", VIRTUAL_HOST=f"host-network.{TLD}", VIRTUAL_PORT="8080"), WEB),
        (
            Row("test_forwards_to_bridge_network_container", f"http://web.{TLD}/port", text=port(80)),
            Row("test_forwards_to_host_network_container", f"http://host-network.{TLD}/port", text=port(8080)),
        ),
    ),
    Case(
        "test_debug-endpoint",
        (WEB,),
        (Row("test_debug_endpoint", f"http://web.{TLD}/nginx-proxy-debug", 404, theirs="200", why=OWN_STATE),),
    ),
    Case(
        "test_custom-error-page",
        (WEB,),
        (
            Row(
                "test_custom_error_page",
                f"http://web.{TLD}/",
                503,
                text="Damn, there's some maintenance in progress.",
                has={"Content-Type": "text/html"},
            ),
        ),
        pages={f"web.{TLD}.html": "<p>Damn, there's some maintenance in progress.</p>"},
    ),
]

CASES = [*HEADERS, *CUSTOM, *SERVERS]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_headers_guards_and_servers(nginx, folder, authority, case):
    """Every row is answered as theirs is, or as we decided."""
    assert await wrong_in(case, folder, nginx, authority) == {}
