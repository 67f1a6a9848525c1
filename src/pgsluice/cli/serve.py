"""``pgsluice serve``."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import socket
import unicodedata

import click

from pgsluice import page
from pgsluice.cli.options import on_target, option
from pgsluice.endpoint import Endpoint
from pgsluice.errors import UsageError
from pgsluice.page.serving import Site
from pgsluice.retry import translated
from pgsluice.units import seconds_of

_OURS = ("localhost", "127.0.0.1", "::1")


@click.command()
@on_target
@option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; others ask for a token.")
@option("--port", type=click.IntRange(0, 65_535), default=8432, show_default=True, help="Port; 0 takes a free one.")
@option("--allow-host", multiple=True, metavar="NAME", help="Another name by which it is called; again for more.")
@option("--last", default="30d", show_default=True, metavar="SPAN", help="Runs of so long are in the page.")
def serve(target: Endpoint, host: str, port: int, allow_host: tuple[str, ...], last: str) -> int:
    """Serve the page of `report`, always as of now, with JSON and numbers for Prometheus beside it.

    It only reads: /, /runs/RUN, /runs.json, /runs/RUN.json, /tables.json, /metrics. A token in the environment variable
    PGSLUICE_TOKEN is asked for as a bearer token, or as the password of any user; for /healthz, which tells that the
    process lives, by nobody.

    \b
    pgsluice serve --target service=lake
    """
    from pgsluice.page import listening as front  # noqa: PLC0415 - who serves nothing need not wait for waitress

    token = _token()
    if not token and not _is_own(host):
        raise UsageError(
            f"others can reach {host}, and would read what runs did without a word",
            hint="export PGSLUICE_TOKEN=.. lets in who has it; --host 127.0.0.1 is for this machine alone.",
        )
    seconds = seconds_of(last)
    endpoint = dataclasses.replace(  # who looks at a page rather asks again than waits
        target, connect_timeout=5, lock_timeout=5, statement_timeout=30, stall_timeout=30
    )

    def look(run_id: str | None) -> page.History:
        with translated("serve"), endpoint.looking().open() as session:
            return page.look_up(session, endpoint.place, seconds, run_id)

    site = Site(look, (*_OURS, host, *allow_host), token)
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UsageError(f"nobody can listen at {host}:{port}: {error.strerror}", hint="Choose another port.") from None
    server = front.server(site, listening)
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"pgsluice: http://{shown}:{listening.getsockname()[1]}/ until it is interrupted", err=True)
    server.run()  # returns when a signal ends it
    server.close()
    return 0


def _token() -> bytes | None:
    """Return the token as the bytes that a header holds; no option, for others would see it in the process list."""
    token = os.environ.get("PGSLUICE_TOKEN")
    if token and (token.strip() != token or any(unicodedata.category(sign) == "Cc" for sign in token)):
        raise UsageError(
            "PGSLUICE_TOKEN begins or ends with a blank, or holds a control character: no header can carry it",
            hint="A line end at its end comes from the file that it was read from.",
        )
    return os.fsencode(token) if token else None


def _is_own(host: str) -> bool:
    """Tell whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
