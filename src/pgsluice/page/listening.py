"""What `serve` listens with: waitress, and how many connections of whom are kept, and for how long."""

from __future__ import annotations

import ipaddress
import logging
import socket
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

#: Connections that are kept, and of these, from one address. A page in a browser takes up to six.
_CONNECTIONS = 100
_OF_ONE_CLIENT = 40
#: In which a request is to be there whole, counted from the connection, or from the last answer over it.
PATIENCE_SECONDS = 15.0
_SETTINGS = {
    "threads": 8,
    "connection_limit": 2 * _CONNECTIONS,  # never reached: at that of waitress nobody is let in any more
    "channel_timeout": 60,  # of an answer that is not fetched
    "cleanup_interval": 5,
    "max_request_header_size": 1 << 14,
    "max_request_body_size": 1,  # there is nothing to be sent
}


class _Channel(HTTPChannel):
    """A connection: it has so long to bring a request, however busily it drips, and gives way to too many others."""

    def __init__(self, server: BaseWSGIServer, *details: Any, **more: Any) -> None:  # noqa: ANN401 - waitress's own
        super().__init__(server, *details, **more)
        self.begun = time.monotonic()
        kept: Any = server.active_channels  # a dict, whatever its types say
        if one_too_many := _superfluous(list(kept.values())):
            one_too_many.handle_close()

    def writable(self) -> bool:
        """Tell whether there is something to send, or to end: asked once a second, or more often."""
        is_waiting = not self.requests and not self.total_outbufs_len
        if is_waiting and time.monotonic() - self.begun > PATIENCE_SECONDS:
            self.will_close = True
        return super().writable()

    def service(self) -> None:
        """Answer a request, in a thread; then the next one has its time."""
        super().service()
        self.begun = time.monotonic()


def server(application: WSGIApplication, listening: socket.socket) -> BaseWSGIServer:
    """Return a server that runs when it is told to.

    Args:
        application: answers.
        listening: takes connections.

    Raises:
        TypeError: waitress is another one than we know.
    """
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line for every request that waits for a thread
    settings: dict[str, Any] = {**_SETTINGS, "sockets": [listening], "ident": None}
    made = create_server(application, **settings)
    if not isinstance(made, BaseWSGIServer):
        raise TypeError("one socket was given, and several servers came of it")
    made.channel_class = _Channel
    return made


def _superfluous(channels: Sequence[_Channel]) -> _Channel | None:
    """Return which connection has to go: of who holds the most the one that waits longest, and brings no request."""
    clients = [_client(str(each.addr[0])) for each in channels]
    ((greediest, most),) = Counter(clients).most_common(1)
    if len(channels) <= _CONNECTIONS and most <= _OF_ONE_CLIENT:
        return None
    theirs = (each for each, client in zip(channels, clients, strict=True) if client == greediest and not each.requests)
    return min(theirs, key=lambda each: each.begun, default=None)


def _client(address: str) -> str:
    """Return whom an address belongs to: of IPv6, one machine has 2^64 of them."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and not found.ipv4_mapped:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
