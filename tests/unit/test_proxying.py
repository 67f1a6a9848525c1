"""The proxy itself: what it passes, and what each of its faults looks like to either side."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Self

import pytest
from faulting import await_that
from proxying import COMMIT, Fault, Proxy, Towards


class Echo:
    """A server that sends back what it gets, and remembers it, and how each connection ended."""

    def __init__(self) -> None:
        self._got: list[bytes] = []
        self.ends: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @property
    def got(self) -> bytes:
        return b"".join(self._got)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    self._got.append(data)
                    connection.sendall(data)
                self.ends.append("FIN")
            except ConnectionResetError:
                self.ends.append("RST")


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        yield server


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


def dialled(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def heard(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (some := client.recv(size - len(data))):
        data += some
    return data


def say(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return heard(client, len(data))


def test_untouched_every_byte_passes_and_is_counted_and_an_end_is_passed_on(proxy: Proxy, echo: Echo) -> None:
    data = bytes(range(256)) * 4096
    with dialled(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert heard(client, len(data)) == data
        sender.join()
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    await_that(lambda: echo.ends == ["FIN"], "the server to see the end")
    assert proxy.bytes == {Towards.SERVER: len(data), Towards.CLIENT: len(data)}
    assert (proxy.connections, proxy.strikes) == (1, 0)


@pytest.mark.parametrize("towards", Towards)
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.RESET])
def test_a_link_ends_after_byte_n_of_either_direction_on_both_sides_as_asked(
    proxy: Proxy, echo: Echo, fault: Fault, towards: Towards
) -> None:
    proxy.arm(fault, 5, towards)
    with dialled(proxy) as client:
        assert say(client, b"123") == b"123"
        client.sendall(b"456789")
        if fault is Fault.RESET:
            with pytest.raises(ConnectionResetError):
                heard(client, 100)
        else:
            assert heard(client, 100) in ({b"45"} if towards is Towards.CLIENT else {b"", b"45"})
    await_that(lambda: len(echo.ends) == 1, "the server to see the end")
    assert echo.ends == ["RST" if fault is Fault.RESET else "FIN"]
    assert echo.got == (b"123456789" if towards is Towards.CLIENT else b"12345")
    with dialled(proxy) as client:
        assert say(client, b"a later connection passes") == b"a later connection passes"
    assert proxy.strikes == 1


def test_a_fault_for_every_connection_strikes_later_ones_until_it_is_healed(proxy: Proxy) -> None:
    proxy.arm(Fault.CUT, 2, every=True)
    for expected in (b"", b""):
        with dialled(proxy) as client:
            client.sendall(b"123")
            assert heard(client, 3)[2:] == expected
    assert proxy.strikes == 2
    proxy.heal()
    with dialled(proxy) as client:
        assert say(client, b"123") == b"123"


@pytest.mark.parametrize("towards", Towards)
def test_a_black_hole_takes_everything_and_passes_nothing_on_until_it_is_healed(
    proxy: Proxy, echo: Echo, towards: Towards
) -> None:
    proxy.arm(Fault.BLACK_HOLE, 3, towards, every=True)
    with dialled(proxy) as client, dialled(proxy) as other:
        assert say(client, b"123") == b"123"
        for each in (client, other):
            each.settimeout(0.2)
            each.sendall(b"x" * (4 << 20))  # far more than any buffer holds
            with pytest.raises(TimeoutError):
                each.recv(1)
        assert echo.ends == []
        passed = 3 if towards is Towards.SERVER else 3 + (8 << 20)
        await_that(lambda: len(echo.got) == passed, "what passes to arrive")
        other.close()
        if towards is Towards.CLIENT:
            await_that(lambda: len(echo.ends) == 1, "the end to pass in the other direction")
        else:
            assert echo.ends == []
        proxy.heal()
        assert client.recv(1) == b""
    await_that(lambda: len(echo.ends) == 2, "the server to see both ends")
    with dialled(proxy) as client:
        assert say(client, b"123") == b"123"


@pytest.mark.parametrize("passed_on", [False, True])
def test_a_commit_is_known_wherever_it_is_cut_in_two_and_passed_on_or_not(
    proxy: Proxy, echo: Echo, passed_on: bool
) -> None:
    proxy.arm(Fault.COMMIT_AFTER if passed_on else Fault.COMMIT_BEFORE, at=2)
    with dialled(proxy) as client:
        assert say(client, COMMIT) == COMMIT
        assert say(client, b"x" + COMMIT[:6]) == b"x" + COMMIT[:6]
        client.sendall(COMMIT[6:])
        assert heard(client, 100) == b""
    await_that(lambda: echo.ends == ["FIN"], "the server to see the end")
    assert echo.got == COMMIT + b"x" + (COMMIT if passed_on else COMMIT[:6])
    assert (proxy.commits, proxy.strikes) == (2, 1)
