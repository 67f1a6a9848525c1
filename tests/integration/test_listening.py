"""How long a connection of `serve` may wait for its request to end: by real sockets, and a server in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pgsluice.page import listening

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def application(_: Any, start: Any) -> list[bytes]:
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(listening, "PATIENCE_SECONDS", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server: Any = listening.server(application, bound)
        is_over = threading.Event()

        def run() -> None:
            while not is_over.is_set():
                server.asyncore.loop(timeout=0.1, map=server._map, count=1)
            server.asyncore.close_all(server._map)

        thread = threading.Thread(target=run)
        thread.start()
        yield bound.getsockname()[1]
        is_over.set()
        thread.join()
        server.task_dispatcher.shutdown()


def answered(client: socket.socket) -> bytes:
    said = b""
    while not said.endswith(b"ok"):
        more = client.recv(1 << 16)
        assert more, "it was ended before it was answered"
        said += more
    return said


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 30)


def test_a_request_that_drips_in_is_ended_though_it_never_rests(port: int) -> None:
    with connected(port) as client:
        client.sendall(REQUEST[:20])
        client.settimeout(0.05)
        sent, is_over = 0, False
        while not is_over and sent < 2_000:  # 100 s, if nobody ends it
            try:
                client.sendall(b"x")
                sent += 1
                is_over = client.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                is_over = True
        assert is_over
        assert sent > 5


def test_a_connection_is_kept_for_the_next_request_and_the_time_begins_anew(port: int) -> None:
    with connected(port) as client:
        for _ in range(3):
            client.sendall(REQUEST)
            assert answered(client).startswith(b"HTTP/1.1 200 ")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b"", "idle for too long, it is ended as well"
