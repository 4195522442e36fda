"""What the machine says of itself."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from pilotfish.catalog import io_host


def test_the_boot_id_is_the_kernels():
    """It is there and stays."""
    assert len(io_host.boot_id()) == 36
    assert io_host.boot_id() == io_host.boot_id()


def test_the_name_ends_at_its_first_dot(monkeypatch):
    """A node's name is one label."""
    monkeypatch.setattr(socket, "gethostname", lambda: "docker01.example.com")
    assert io_host.hostname() == "docker01"


def test_addresses_are_such_that_others_can_use(monkeypatch):
    """Whatever routes there are: no loopback, no link-local, nothing unspecified."""
    monkeypatch.setattr(io_host, "in_hosts_network", lambda: True)
    for ip in io_host.default_addresses():
        address = ipaddress.ip_address(ip)
        assert not any((address.is_loopback, address.is_link_local, address.is_unspecified))


def test_without_a_route_there_is_no_address(monkeypatch):
    """Nothing is guessed."""
    monkeypatch.setattr(io_host, "in_hosts_network", lambda: True)
    monkeypatch.setattr(io_host, "_BEYOND", ((socket.AF_INET, "255.255.255.255"),))
    assert io_host.default_addresses() == ()


PLACES = {
    "on a host": ((), (), True),
    "in a container on the host's network": ((".dockerenv",), ("eth0", "docker0/bridge"), True),
    "in a container with a network of its own": ((".dockerenv",), ("eth0", "lo"), False),
    "in podman's": ((".containerenv",), ("eth0",), False),
}


@pytest.mark.parametrize(("marks", "interfaces", "expected"), PLACES.values(), ids=PLACES)
def test_whether_the_network_is_the_hosts(monkeypatch, tmp_path, marks, interfaces, expected):
    """A container on the host's network sees its bridges; another one has none."""
    for mark in marks:
        (tmp_path / mark).touch()
    for interface in interfaces:
        (tmp_path / "net" / interface).mkdir(parents=True)
    monkeypatch.setattr(io_host, "_CONTAINER_MARKS", (tmp_path / ".dockerenv", tmp_path / ".containerenv"))
    monkeypatch.setattr(io_host, "_INTERFACES", tmp_path / "net")
    assert io_host.in_hosts_network() is expected
    if not expected:
        assert io_host.default_addresses() == ()
