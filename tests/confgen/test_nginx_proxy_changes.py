"""nginx-proxy's own expectations of what changes, and of clients with certificates of their own."""

from __future__ import annotations

import contextlib

from tests.confgen.kit import claim, key_of
from tests.confgen.test_nginx_proxy import TEST, TLD
from tests.confgen.virtual import Case, Row, asked, port, served, web


def here(path):
    return Row("", f"http://{TEST}{path}")


async def test_events_and_virtual_paths_a_container_that_goes_takes_its_host_or_path_with_it(nginx, folder, authority):
    """test_new_container_is_detected_vhost, _vpath, test_container_hotplug. Theirs: 503 for the host, 404 for the path.

    Its place stays its own for a day, so both are 503 here; as soon as it is given up, both are 404.
    """
    own = web("web2", 82, VIRTUAL_HOST=TEST, VIRTUAL_PATH="/web2/", VIRTUAL_DEST="/")
    async with contextlib.AsyncExitStack() as stack:
        running, records = await served(Case("", (own,), ()), folder, nginx, authority, stack)
        assert (await asked(here("/web2/port"), running, authority)).body == port(82)
        assert (await asked(here("/port"), running, authority)).status == 404
        await running.settle(deletes=[key_of(records[0])])
        assert (await asked(here("/web2/port"), running, authority)).status == 503
        await running.settle(deletes=[claim("web2", TEST, "/web2/").key])
        assert (await asked(here("/web2/port"), running, authority)).status == 404


SHOWN = "ssl_client_certificate {folder}/ca.pem; ssl_verify_client on;"


async def test_clients_show_a_certificate_where_the_admin_wants_one(nginx, folder, authority):
    """test_mtls-client-certificate: enforced, authenticated, and not asked for at another host."""
    authority.ca.cert_pem.write_to_path(folder.parent / "ca.pem")
    hosts = (web("mtls", 81, VIRTUAL_HOST=f"mtls-enabled.{TLD}"), web("open", 82, VIRTUAL_HOST=f"open.{TLD}"))
    case = Case("", hosts, (), {TLD: (f"*.{TLD}",)}, {f"mtls-enabled.{TLD}.conf": SHOWN})
    valid = authority.context()
    authority.ca.issue_cert("client@test").configure_cert(valid)
    guarded, other = (Row("", f"https://{name}.{TLD}/port") for name in ("mtls-enabled", "open"))
    async with contextlib.AsyncExitStack() as stack:
        running, _ = await served(case, folder, nginx, authority, stack)
        refused = await asked(guarded, running, authority)
        assert (refused.status, "No required SSL certificate was sent" in refused.body) == (400, True)
        assert (await asked(guarded, running, authority, valid)).body == port(81)
        assert (await asked(other, running, authority)).body == port(82)
