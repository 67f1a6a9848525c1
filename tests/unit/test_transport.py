"""What could be read or changed on its way is told, with the way out."""

from __future__ import annotations

import pytest

from pgsluice.transport import doubt, is_local

FAR = {"host": "db.example", "hostaddr": "192.0.2.7", "port": "5432"}


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", ""])
def test_whatever_is_below_verify_full_is_told_with_the_way_out(mode: str) -> None:
    told = doubt("source", {**FAR, "sslmode": mode})
    assert told is not None
    assert "the connection to the source (db.example) has sslmode=" in told
    assert "give it sslmode=verify-full and sslrootcert=" in told


@pytest.mark.parametrize(
    "parameters",
    [
        {**FAR, "sslmode": "verify-full"},
        {**FAR, "sslmode": "disable", "gssencmode": "require"},
        {"host": "db.example", "hostaddr": "127.0.0.1", "sslmode": "disable"},
        {"host": "/run/postgresql", "sslmode": "prefer"},
        {"host": "localhost"},
        {},
    ],
)
def test_what_is_verified_or_stays_on_this_machine_is_no_matter(parameters: dict[str, str]) -> None:
    assert doubt("source", parameters) is None


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("@abstract", True),
        ("10.0.0.1", False), ("fe80::1%eth0", False), ("::ffff:10.0.0.1", False), ("localhost.evil.example", False),
        ("127.0.0.1.example", False), ("0.0.0.0", False),  # noqa: S104 - an address to look at
    ],
)  # fmt: skip
def test_only_sockets_and_loopback_are_this_machine(address: str, local: bool) -> None:
    assert is_local(address) is local
