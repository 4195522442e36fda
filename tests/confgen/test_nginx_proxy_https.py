"""nginx-proxy's own expectations of https, its variables as they are: a row for each of its tests."""

from __future__ import annotations

import pytest

from tests.confgen.test_nginx_proxy import CASES as PLAIN
from tests.confgen.test_nginx_proxy import TEST, TLD, unknown
from tests.confgen.test_nginx_proxy_requests import CASES as REQUESTS
from tests.confgen.virtual import CHALLENGE, REFUSED, Case, Row, port, web, wrong_in

NOBODY = "over http it is as if nobody had this host (404), rather than broken (503)"
NO_DEFAULT = "nobody is shown the certificate of another host"
NOT_YET = "nobody is sent to https before a certificate covers the host"
STILL_SHUT = "who refuses http is not served over http because a certificate is missing"
ALWAYS_308 = "a 308 keeps the method and is kept by clients"
GLOBAL = "ports of the proxies are the same for all hosts"
NOT_THERE = "HTTP/3 is not spoken"

WILD = {TLD: (TLD, f"*.{TLD}")}


def tld(name, number=81, **env):
    """A container at a host below nginx-proxy.tld."""
    return web(name.replace("*", "all"), number, VIRTUAL_HOST=f"{name}.{TLD}", **env)


def sent(name, host, path="/", *, suffix="", method="GET", status=301):
    """Over http he is sent to https."""
    where = {"Location": f"https://{host.partition(':')[0]}{suffix}{path}"}
    return Row(name, f"http://{host}{path}", status, has=where, method=method)


def hsts(value):
    return {"Strict-Transport-Security": value}


YEAR = hsts("max-age=31536000")

METHODS = [
    Case(
        "test_ssl/test_redirect, test_redirect_custom",
        (tld("web1"), tld("web2")),
        (
            *(sent(f"test_web1_{method}_301", f"web1.{TLD}", method=method) for method in ("GET", "HEAD")),
            *(
                sent(f"test_web1_{method}_308", f"web1.{TLD}", method=method, status=308)
                for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS")
            ),
            Row("test_custom_redirect_by_method[TRACE]", f"http://web1.{TLD}/", 405, method="TRACE"),
            *(
                sent(
                    f"test_custom_redirect_by_method[web2-{method}]", f"web2.{TLD}", method=method, status=308
                )._replace(theirs="307", why=ALWAYS_308)
                for method in ("POST", "PUT")
            ),
        ),
        certs=WILD,
    ),
    Case(
        "test_ssl/test_noredirect",
        (tld("web3", 83, HTTPS_METHOD="noredirect"),),
        (
            Row("test_web3_http_is_forwarded", f"http://web3.{TLD}/port", text=port(83)),
            Row("test_web3_https_is_forwarded", f"https://web3.{TLD}/port", text=port(83)),
            Row("test_web2_HSTS_policy_is_inactive", f"https://web3.{TLD}/port", has=hsts(None)),
            Row("test_web3_acme_challenge_does_work", f"http://web3.{TLD}{CHALLENGE}"),
        ),
        certs=WILD,
    ),
    Case(
        "test_ssl/test_nohttp",
        (tld("web2", 82, HTTPS_METHOD="nohttp"),),
        (
            Row("test_web2_http_is_connection_refused", f"http://web2.{TLD}/", 404, theirs="503", why=NOBODY),
            Row("test_web2_http_is_refused_for_acme", f"http://web2.{TLD}{CHALLENGE}", 404, theirs="503", why=NOBODY),
            Row("test_web2_https_is_forwarded", f"https://web2.{TLD}/port", text=port(82)),
            Row("test_web2_HSTS_policy_is_active", f"https://web2.{TLD}/port", has=YEAR),
        ),
        certs=WILD,
    ),
    Case(
        "test_ssl/test_nohttps",
        (tld("web", 83, HTTPS_METHOD="nohttps"), tld("other")),
        (
            Row("test_http_is_forwarded", f"http://web.{TLD}/port", text=port(83)),
            Row("test_https_is_disabled", f"https://web.{TLD}/", REFUSED),
        ),
        certs=WILD,
    ),
    Case(
        "test_ssl/test_hsts",
        (
            tld("web1"),
            tld("web2", HSTS="off"),
            tld("web3", HSTS="max-age=86400; includeSubDomains; preload"),
            tld("web4", HSTS="off", HTTPS_METHOD="noredirect"),
        ),
        (
            Row("test_web1_HSTS_default", f"https://web1.{TLD}/port", text=port(81), has=YEAR),
            Row("test_web1_HSTS_error", f"https://web1.{TLD}/status/500", 500, has=YEAR),
            Row("test_web2_HSTS_off", f"https://web2.{TLD}/port", text=port(81), has=hsts(None)),
            Row(
                "test_web3_HSTS_custom",
                f"https://web3.{TLD}/port",
                text=port(81),
                has=hsts("max-age=86400; includeSubDomains; preload"),
            ),
            Row("test_web4_HSTS_off_noredirect", f"https://web4.{TLD}/port", text=port(81), has=hsts(None)),
            Row(
                "test_http3_vhost_enabled_HSTS_default, test_http3",
                f"https://web1.{TLD}/port",
                has={"alt-svc": None},
                theirs='h3=":443"; ma=86400;',
                why=NOT_THERE,
            ),
        ),
        certs=WILD,
    ),
]

NAMES = [
    Case(
        "test_ssl/test_wildcard",
        (tld("*"),),
        tuple(
            row
            for one in ("foo", "bar")
            for row in (
                sent(f"test_web1_http_redirects_to_https[{one}]", f"{one}.{TLD}"),
                Row(f"test_web1_https_is_forwarded[{one}]", f"https://{one}.{TLD}/port", text=port(81)),
                Row(f"test_web1_HSTS_policy_is_active[{one}]", f"https://{one}.{TLD}/port", has=YEAR),
            )
        ),
        certs=WILD,
    ),
    Case(
        "test_ssl/test_virtual-path",
        tuple(
            web(f"web{one}", 80 + one, VIRTUAL_HOST=f"www.{TLD}", VIRTUAL_PATH=f"/web{one}/", VIRTUAL_DEST="/")
            for one in (1, 2)
        ),
        tuple(
            row
            for one in (1, 2)
            for row in (
                sent(f"test_web1_http_redirects_to_https[web{one}]", f"www.{TLD}", f"/web{one}/port"),
                Row(f"test_web1_https_is_forwarded[web{one}]", f"https://www.{TLD}/web{one}/port", text=port(80 + one)),
            )
        ),
        certs=WILD,
    ),
    Case(
        "test_ssl/test_https-port, test_external-ports/test_virtual-host",
        (tld("foo"),),
        (
            sent("test_web1_http_redirects_to_https", f"foo.{TLD}:8080", suffix=":8443"),
            Row("test_web1_https_is_forwarded", f"https://foo.{TLD}:8443/port", text=port(81)),
            Row("test_nonstandardport_Host_header", f"https://foo.{TLD}:8443/headers", text=f"Host: foo.{TLD}:8443\n"),
            sent("test_web2_has_default_http_port_and_custom_https_port", f"foo.{TLD}", "/port", suffix=":8443"),
            sent("test_web3_has_custom_http_port_and_default_https_port", f"foo.{TLD}", suffix=":8443")._replace(
                theirs=f"https://foo.{TLD}/", why=GLOBAL
            ),
        ),
        certs=WILD,
        flags={"https_public_port": 8443},
    ),
    Case(
        "test_ssl/test_cert-selection",
        (
            web("base", 80, VIRTUAL_HOST=TLD),
            tld("www", 80),
            web("sub-www", 80, VIRTUAL_HOST=f"subdomain.www.{TLD}"),
            tld("web1", 80),
        ),
        (
            Row("test_certificate_selection[base]", f"https://{TLD}/port"),
            Row("test_certificate_selection[www]", f"https://www.{TLD}/port"),
            Row("test_certificate_selection[subdomain]", f"http://subdomain.www.{TLD}/port"),
            Row("test_certificate_selection[subdomain, https]", f"https://subdomain.www.{TLD}/port", REFUSED),
            Row("test_certificate_selection[web1]", f"https://web1.{TLD}/port"),
        ),
        certs={**WILD, f"web1.{TLD}": (f"web1.{TLD}",)},
    ),
    Case(
        "test_ssl/test_wildcard-cert-nohttps",
        tuple(
            web(f"web{one}", 80 + one, VIRTUAL_HOST=f"{one}.web.{TLD}", HTTPS_METHOD=method)
            for one, method in ((1, "redirect"), (2, "redirect"), (3, "nohttps"))
        ),
        (
            *(sent(f"test_http_redirects_to_https[{one}]", f"{one}.web.{TLD}", "/port") for one in (1, 2)),
            Row("test_http_redirects_to_https[3]", f"http://3.web.{TLD}/port", text=port(83)),
            *(
                Row(f"test_https_get_served[{one}]", f"https://{one}.web.{TLD}/port", text=port(80 + one))
                for one in (1, 2)
            ),
            Row("test_https_request_to_nohttps_vhost", f"https://3.web.{TLD}/port", REFUSED),
        ),
        certs={f"web.{TLD}": (f"*.web.{TLD}",)},
    ),
    Case(
        "test_acme-http-challenge-location",
        (
            tld("web1"),
            web(
                "acme",
                80,
                VIRTUAL_HOST=f"web1.{TLD}",
                VIRTUAL_PATH="/.well-known/acme-challenge",
                HTTPS_METHOD="nohttps",
            ),
            tld("web2"),
            tld("web3", HTTPS_METHOD="noredirect"),
        ),
        (
            Row(
                "test_redirect_acme_challenge_location_enabled",
                f"http://web1.{TLD}{CHALLENGE}",
                text="challenge-teststring",
            ),
            sent("test_redirect_acme_challenge_location_enabled[rest]", f"web1.{TLD}", "/port"),
            sent("test_redirect_acme_challenge_location_disabled", f"web2.{TLD}", CHALLENGE),
            Row("test_noredirect_acme_challenge_location_enabled", f"http://web3.{TLD}{CHALLENGE}"),
            unknown("test_unknown_domain_acme_challenge_location", f"http://web-unknown.{TLD}{CHALLENGE}"),
        ),
        certs=WILD,
    ),
]


def fallback(scheme, name):
    return f"{scheme}://{name}.{TEST}/"


APPS = (
    web("https-and-http", 81, VIRTUAL_HOST=f"https-and-http.{TEST}"),
    web("https-only", 82, VIRTUAL_HOST=f"https-only.{TEST}", HTTPS_METHOD="nohttp"),
    web("http-only", 83, VIRTUAL_HOST=f"http-only.{TEST}", HTTPS_METHOD="nohttps"),
    web("missing-cert", 84, VIRTUAL_HOST=f"missing-cert.{TEST}"),
    web("missing-cert-nohttp", 85, VIRTUAL_HOST=f"missing-cert-nohttp.{TEST}", HTTPS_METHOD="nohttp"),
)
FALLBACK = (
    Row("https-and-http over http", fallback("http", "https-and-http"), 301),
    Row("https-and-http over https", fallback("https", "https-and-http")),
    Row("https-only over http", fallback("http", "https-only"), 404, theirs="503", why=NOBODY),
    Row("https-only over https", fallback("https", "https-only")),
    Row("http-only over http", fallback("http", "http-only")),
    unknown("unknown over http", fallback("http", "unknown"), NOBODY),
)
APPS_CERTS = {f"{name}.{TEST}": (f"{name}.{TEST}",) for name in ("https-and-http", "https-only")}
FALLBACKS = [
    Case(
        "test_fallback: nodefault.yml, nohttps.yml, nohttp-on-app.yml, nohttps-on-app.yml",
        APPS,
        (
            *FALLBACK,
            Row("http-only over https", fallback("https", "http-only"), REFUSED),
            Row("missing-cert over http", fallback("http", "missing-cert")),
            Row("missing-cert over https", fallback("https", "missing-cert"), REFUSED),
            Row("unknown over https", fallback("https", "unknown"), REFUSED),
            Row(
                "nohttp-with-missing-cert.yml",
                fallback("http", "missing-cert-nohttp"),
                404,
                theirs="200",
                why=STILL_SHUT,
            ),
        ),
        certs=APPS_CERTS,
    ),
    Case(
        "test_fallback: withdefault.yml, untrusteddefault.yml",
        APPS,
        (
            *FALLBACK,
            Row("http-only over https", fallback("https", "http-only"), REFUSED, theirs="503", why=NO_DEFAULT),
            Row("missing-cert over http", fallback("http", "missing-cert"), theirs="301", why=NOT_YET),
            Row("missing-cert over https", fallback("https", "missing-cert"), REFUSED, theirs="200", why=NO_DEFAULT),
            Row("unknown over https", fallback("https", "unknown"), REFUSED, theirs="503", why=NO_DEFAULT),
        ),
        certs={**APPS_CERTS, "default": ("localhost.test",)},
    ),
    Case(
        "test_enable-http-on-missing-cert",
        APPS,
        (
            Row("test_nohttp_missing_cert_disabled", fallback("http", "https-only"), 404, theirs="503", why=NOBODY),
            Row("test_nohttp_missing_cert_enabled", fallback("http", "https-only"), 404, theirs="200", why=STILL_SHUT),
            Row("test_redirect_missing_cert_disabled", fallback("http", "missing-cert"), theirs="301", why=NOT_YET),
            Row("test_redirect_missing_cert_enabled", fallback("http", "missing-cert")),
        ),
    ),
]

CASES = [*METHODS, *NAMES, *FALLBACKS]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_https(nginx, folder, authority, case):
    """Every row is answered as theirs is, or as we decided."""
    assert await wrong_in(case, folder, nginx, authority) == {}


def test_each_decided_difference_says_what_theirs_is_and_why():
    """And is one: what both do is no difference."""
    rows = [row for case in (*PLAIN, *REQUESTS, *CASES) for row in case.rows]
    assert [row for row in rows if bool(row.why) != bool(row.theirs) or row.theirs == str(row.status)] == []
