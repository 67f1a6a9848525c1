"""A domain has the equality of what it stands on, be that an enum."""

from __future__ import annotations

import pytest
from servers import Pair

from pgsluice import Options, StagingKind, sync

TYPES = """CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('sad', 'ok', 'happy', 'new'); CREATE DOMAIN s.felt AS s.mood;
CREATE DOMAIN s.felt_again AS s.felt; CREATE DOMAIN s.code AS character(3); CREATE DOMAIN s.flags AS bit(3);
CREATE DOMAIN s.list AS int[];"""
KEYS = {
    "an enum": ("s.felt", ("sad", "ok", "happy", "new")),
    "a domain over an enum": ("s.felt_again", ("sad", "ok", "happy", "new")),
    "an array of such domains": ("s.felt[]", ("{sad}", "{ok,sad}", "{}", "{NULL}")),
    "padded characters": ("s.code", ("a", "ab", "abc", "abd")),
    "bits": ("s.flags", ("100", "101", "111", "110")),
    "an array": ("s.list", ("{1}", "{1,2}", "{}", "{2}")),
}


@pytest.mark.parametrize("staging", [StagingKind.TEMPORARY, StagingKind.UNLOGGED])
@pytest.mark.parametrize(("type_", "keys"), KEYS.values(), ids=KEYS)
def test_a_domain_can_be_the_key(pair: Pair, type_: str, keys: tuple[str, ...], staging: StagingKind) -> None:
    for side in (pair.source, pair.target):
        side.execute(f"{TYPES} CREATE TABLE s.t (k {type_} PRIMARY KEY, v int)")
        for number, key in enumerate(keys[:3]):
            side.execute(f"INSERT INTO s.t VALUES ('{key}', {number})")
    pair.source.execute(
        f"UPDATE s.t SET v = 9 WHERE v = 1; DELETE FROM s.t WHERE v = 2; INSERT INTO s.t VALUES ('{keys[3]}', 3)"
    )
    options = Options(staging=staging, retries=0)
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options).tables
    assert (report.error, report.inserted, report.updated, report.deleted) == (None, 1, 1, 1)
    assert pair.target.image("s.t") == pair.source.image("s.t")
