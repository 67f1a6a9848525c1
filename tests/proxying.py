"""A TCP proxy that does to a link what networks do to it: cuts it, resets it, or swallows what goes over it.

Bytes are counted over all connections of the link, so that one number names a moment of a run. Nothing is known of the
protocol but what COMMIT looks like. Connect with ``sslmode=disable``: nothing can be read in a stream that is encrypted.
"""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from psycopg.conninfo import make_conninfo
from servers import Database

#: Parse, Bind, Describe, Execute and Sync of one statement, as libpq sends it: the last thing that a client says before it waits.
COMMIT = (
    b"P\x00\x00\x00\x0e\x00COMMIT\x00\x00\x00"
    b"B\x00\x00\x00\x0e\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00"
    b"D\x00\x00\x00\x06P\x00"
    b"E\x00\x00\x00\x09\x00\x00\x00\x00\x00"
    b"S\x00\x00\x00\x04"
)

_BLOCK_BYTES = 1 << 16
_SECONDS = 10.0


class Towards(enum.Enum):
    """Where bytes go."""

    SERVER = "server"
    CLIENT = "client"


class Fault(enum.Enum):
    """What happens to a connection."""

    CUT = "both sides see its end (FIN)"
    RESET = "both sides see it broken (RST)"
    BLACK_HOLE = "it stays open and takes everything, but passes nothing on, not even its end"
    COMMIT_BEFORE = "it is cut instead of a COMMIT being passed on"
    COMMIT_AFTER = "it is cut instead of a COMMIT's reply being passed on"


Met = Callable[["_Link", Towards, bytes], tuple[bytes, Fault | None]]

_AT_COMMIT = frozenset({Fault.COMMIT_BEFORE, Fault.COMMIT_AFTER})


@dataclass(frozen=True)
class Armed:
    """A fault that lies in wait.

    Attributes:
        fault: what happens.
        at: bytes that still pass, counted from now over all connections; with a COMMIT, which one, from 1.
        towards: the direction in which they are counted, and which a black hole swallows.
        every: it strikes whatever connection gets there, later ones too; else the first alone.
    """

    fault: Fault
    at: int
    towards: Towards = Towards.SERVER
    every: bool = False


class Proxy:
    """Passes connections on to a server, until a fault strikes them."""

    def __init__(self, host: str, port: int, at: str = "127.0.0.1") -> None:
        """Choose the server; it is listened for inside the ``with`` block, at an address of ours and `port`."""
        self._server = (host, port)
        self._at = at
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self.heal()

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self._at, 0))
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(_SECONDS)
        self._listener.close()
        self._hang_up(self._links)
        for thread in self._threads:
            thread.join(_SECONDS)

    def arm(self, fault: Fault, at: int, towards: Towards = Towards.SERVER, *, every: bool = False) -> None:
        """Let a fault lie in wait, in the place of any other; see `Armed`. Counting begins anew."""
        with self._lock:
            self._begin(Armed(fault, at, towards, every))

    def isolate(self) -> None:
        """Let nothing pass the connections that are open any more, not even their ends, as where a machine is lost."""
        with self._lock:
            for link in self._links:
                link.swallowed.update(Towards)

    def heal(self) -> None:
        """Let everything pass from now on; what is in a black hole comes to its end. Counting begins anew."""
        with self._lock:
            self._begin(None)
            lost = [link for link in self._links if link.swallowed]
        self._hang_up(lost)

    def _begin(self, armed: Armed | None) -> None:
        self._armed = armed
        self.bytes = dict.fromkeys(Towards, 0)
        self.commits = 0
        self.strikes = 0

    def _hang_up(self, links: set[_Link] | list[_Link]) -> None:
        for link in list(links):
            link.hang_up()

    # --- connections -------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._carry, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, client: socket.socket) -> None:
        """Pass one connection on, both ways, until both ends have been seen or a fault has ended it."""
        with client, contextlib.suppress(OSError), socket.create_connection(self._server) as server:
            link = _Link(client, server)
            with self._lock:
                self._links.add(link)
            try:
                link.carry(self._met)
            finally:
                with self._lock:
                    self._links.discard(link)

    def _met(self, link: _Link, towards: Towards, data: bytes) -> tuple[bytes, Fault | None]:
        """Return what of `data` still passes, and the fault that it meets."""
        with self._lock:
            is_commit = towards is Towards.SERVER and link.says_commit(data)
            self.commits += is_commit
            passed, self.bytes[towards] = self.bytes[towards], self.bytes[towards] + len(data)
            armed = self._armed
            if armed is None or armed.towards is not towards:
                return data, None
            if armed.fault in _AT_COMMIT:
                if not is_commit or self.commits < armed.at:
                    return data, None
                data = b"" if armed.fault is Fault.COMMIT_BEFORE else data
            elif self.bytes[towards] <= armed.at:
                return data, None
            else:
                data = data[: max(0, armed.at - passed)]
            self.strikes += 1
            if not armed.every:
                self._armed = None
            return data, armed.fault


class _Link:
    """A client's connection and ours to the server in its name."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._ends = {client: Towards.SERVER, server: Towards.CLIENT}
        self._other = {client: server, server: client}
        self._said = b""
        self._cut_by_reply = self._is_reset = False
        self.swallowed: set[Towards] = set()

    def says_commit(self, data: bytes) -> bool:
        self._said = (self._said + data)[-len(COMMIT) :]
        return self._said == COMMIT

    def carry(self, met: Met) -> None:
        while self._ends:
            for end in select.select(list(self._ends), [], [])[0]:
                if not self._pass_on(end, met):
                    self._end()
                    return

    def _pass_on(self, end: socket.socket, met: Met) -> bool:
        """Pass on what one end says; False where that was the last of it."""
        towards = self._ends[end]
        try:
            data = end.recv(_BLOCK_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            del self._ends[end]
        if towards in self.swallowed:
            return True
        if not data:
            self._other[end].shutdown(socket.SHUT_WR)
            return True
        if self._cut_by_reply and towards is Towards.CLIENT:
            return False
        data, fault = met(self, towards, data)
        self._other[end].sendall(data)
        self._is_reset = fault is Fault.RESET
        if fault is Fault.BLACK_HOLE:
            self.swallowed.add(towards)
        self._cut_by_reply = self._cut_by_reply or fault is Fault.COMMIT_AFTER
        return fault in {None, Fault.BLACK_HOLE, Fault.COMMIT_AFTER}

    def _end(self) -> None:
        for end in self._other:
            if self._is_reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:  # what is closed with something unread in it is broken without this
                end.shutdown(socket.SHUT_WR)

    def hang_up(self) -> None:
        for end in self._other:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxied(database: Database) -> Iterator[tuple[Proxy, str]]:
    """Put a proxy before a database; return it, and the way through it."""
    with Proxy("127.0.0.1", database.cluster.port) as proxy:
        dsn = make_conninfo(database.cluster.tcp_dsn, port=proxy.port, dbname=database.name, sslmode="disable")
        yield proxy, dsn
