"""Free ports: they differ, can be listened on, and lie where no outgoing connection takes them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mattehorn import ports

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_free_ports_differ_and_can_be_listened_on() -> None:
    found = ports.free_ports(5)
    assert len(set(found)) == 5
    for port in found:
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.skipif(not OUTGOING.is_file(), reason=f"no {OUTGOING}: not Linux")
def test_no_outgoing_connection_of_this_host_can_take_one() -> None:
    first, last = map(int, OUTGOING.read_text().split())
    assert not any(first <= port <= last for port in ports.free_ports(50))


def test_a_port_in_use_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = ports.free_ports(2)
    monkeypatch.setattr(ports.random, "sample", lambda numbers, count: [taken, free])
    with socket.create_server(("127.0.0.1", taken)):
        assert ports.free_ports(1) == [free]
        with pytest.raises(OSError, match="2 free ports were wanted, 1 found"):
            ports.free_ports(2)
