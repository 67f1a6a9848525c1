"""What a role's search_path becomes before anything is looked up under it."""

from __future__ import annotations

import pytest

from pgsluice.endpoint import core_first


@pytest.mark.parametrize(
    ("shown", "used"),
    [
        ("", "pg_temp"),
        ('"$user", public', '"$user", public, pg_temp'),
        ("pg_catalog", "pg_temp"),
        ("a, pg_catalog", "a, pg_temp"),
        ("a,PG_Catalog , b", "a, b, pg_temp"),
        ('"a, pg_catalog", "pg_catalog"', '"a, pg_catalog", pg_temp'),
        ('"PG_CATALOG", "a ""pg_catalog"""', '"PG_CATALOG", "a ""pg_catalog""", pg_temp'),
        ('PG_Temp, "pg_temp", a', "a, pg_temp"),
    ],
)
def test_postgresqls_own_schema_comes_first_and_temporary_relations_last(shown: str, used: str) -> None:
    assert core_first(shown) == used
