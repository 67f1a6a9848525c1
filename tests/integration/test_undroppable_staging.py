"""What can't be dropped stays behind with a warning, and keeps no later run from its work."""

from __future__ import annotations

from typing import Any

import pytest
from servers import Pair

from pgsluice import Options, StagingKind, Strategy, sync

#: Each forbids it as databases are guarded that nobody shall lose a table of.
GUARDS = {
    "before it": "CREATE EVENT TRIGGER guard ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION public.forbid()",
    "behind it": "CREATE EVENT TRIGGER guard ON sql_drop WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION public.forbid()",
}
WAYS: dict[str, dict[str, Any]] = {
    "unlogged": {"options": {"staging": StagingKind.UNLOGGED}},
    "temporary": {"options": {"staging": StagingKind.TEMPORARY}},
    "resumable": {"options": {"staging": StagingKind.UNLOGGED, "resumable": True}},
    "diff": {"options": {"staging": StagingKind.UNLOGGED, "strategy": Strategy.DIFF}},
    "incremental": {"options": {"staging": StagingKind.UNLOGGED}, "mode": "incremental", "cursor": "id"},
}


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("way", WAYS)
def test_staging_tables_that_an_event_trigger_keeps_are_left_with_a_warning(pair: Pair, guard: str, way: str) -> None:
    for side in (pair.source, pair.target):
        side.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int)")
    pair.target.execute(
        f"""CREATE FUNCTION public.forbid() RETURNS event_trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE EXCEPTION 'no table is dropped here'; END $$; {GUARDS[guard]}"""
    )
    given = {**WAYS[way], "options": Options(**WAYS[way]["options"], retries=0)}
    for number in range(1, 4):
        pair.source.execute(f"INSERT INTO s.t SELECT i, i FROM generate_series({number} * 100, {number} * 100 + 9) i")
        seen: list[Any] = []
        (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", sinks=[seen.append], **given).tables
        assert report.status == "done", report.error
        assert pair.target.image("s.t") == pair.source.image("s.t")
        left = [
            name for name in pair.target.staging_tables() if "_s" not in name.removeprefix("stg_")
        ]  # slices go with theirs
        warned = [str(event.message) for event in seen if type(event).__name__ == "Warned"]
        assert all(any(name in text for text in warned) for name in left)
        assert bool(left) == (way != "temporary")
    done = pair.pgsluice("clean")
    assert done.code == 0, done
    assert all(f"left pgsluice.{name}, whose run is dead too" in done.out + done.err for name in left)
    pair.target.execute("DROP EVENT TRIGGER guard")
    assert pair.pgsluice("clean").code == 0
    assert pair.target.staging_tables() == []
