"""Pure: whether what travels to a server could be read or changed on its way."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

_LACKS = {
    "disable": "it is not encrypted",
    "allow": "it need not be encrypted",
    "prefer": "it need not be encrypted",
    "require": "the server's certificate is not checked",
    "verify-ca": "the server's name is not checked",
}


def doubt(side: str, parameters: Mapping[str, str]) -> str | None:
    """Return what is wrong with the way to a server, and the way out; None where nothing is.

    https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION

    Args:
        side: "source" or "target".
        parameters: of the live connection, what libpq assumes included.
    """
    address = parameters.get("hostaddr") or parameters.get("host") or ""
    mode = parameters.get("sslmode") or "prefer"
    if is_local(address) or mode not in _LACKS or parameters.get("gssencmode") == "require":
        return None
    host = parameters.get("host") or address
    return (
        f"the connection to the {side} ({host}) has sslmode={mode}: {_LACKS[mode]}, so who stands between could read or"
        " change rows; give it sslmode=verify-full and sslrootcert=FILE (or sslrootcert=system), or a tunnel that ends"
        " here (ssh -L, hostaddr=127.0.0.1)"
    )


def is_local(address: str) -> bool:
    """Tell whether an address is this machine's own: a socket, or loopback."""
    if not address or address.startswith(("/", "@")) or address == "localhost":
        return True
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
