"""What a role's search_path becomes before anything is looked up under it."""

from __future__ import annotations

import pytest

from pgsluice.endpoint import core_first


@pytest.mark.parametrize(
    ("shown", "used"),
    [
        ("", ""),
        ('"$user", public', '"$user", public'),
        ("pg_catalog", ""),
        ("a, pg_catalog", "a"),
        ("a,PG_Catalog , b", "a, b"),
        ('"a, pg_catalog", "pg_catalog"', '"a, pg_catalog"'),
        ('"PG_CATALOG", "a ""pg_catalog"""', '"PG_CATALOG", "a ""pg_catalog"""'),
    ],
)
def test_nothing_comes_before_postgresqls_own_schema(shown: str, used: str) -> None:
    assert core_first(shown) == used
