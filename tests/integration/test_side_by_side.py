"""Slices of several tables copied at once, in one snapshot: what arrives, in which order, and what a failure costs."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from faulting import await_that
from servers import Pair, unmeasured

from pgsluice import Lane, MaxDelete, Options, StagingKind, memory, sync
from pgsluice.events import Event, Retrying, StepFinished, StepStarted, TableFinished, Warned
from pgsluice.sinks.recorder import Recorder

ROWS = 20_000
#: Some seconds for the whole table, evenly over its pages.
SLOWLY = "id % 100 <> 0 OR pg_sleep(0.01) IS NOT NULL"
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %'"
COPYING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'"


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small tables go the way of large ones."""
    monkeypatch.setattr("pgsluice.plan.PARALLEL_SLICE_BYTES", (1 << 18, 1 << 30))
    monkeypatch.setattr("pgsluice.plan.TEMPORARY_BELOW_BYTES", 1 << 17)


def made(pair: Pair, name: str = "s.t", rows: int = ROWS, more: str = "") -> None:
    pair.source.execute(
        f"""CREATE SCHEMA IF NOT EXISTS s;
        CREATE TABLE {name} (id int PRIMARY KEY, v int NOT NULL, filler text {more}) WITH (autovacuum_enabled = off);
        INSERT INTO {name} (id, v, filler) SELECT i, 1, repeat('x', 100) FROM generate_series(1, {rows}) i; ANALYZE {name}"""
    )


def copied(pair: Pair, *names: str, sink: Callable[[Event], None] = lambda _: None, **more: Any) -> Any:
    options = Options(**{"jobs": 4, "retry_for": 60, **more.pop("options", {})})
    return sync(pair.source.dsn, pair.target.dsn, *(names or ("s.t",)), options=options, sinks=[sink], **more)


def assert_equal(pair: Pair, *names: str) -> None:
    for name in names or ("s.t",):
        assert pair.target.image(name) == pair.source.image(name)


@pytest.mark.parametrize("kind", [StagingKind.PROMOTED, StagingKind.UNLOGGED])
@pytest.mark.parametrize("lane", ["psql", "libpq"])
def test_a_table_in_many_slices_is_one_snapshot_while_others_write(pair: Pair, kind: StagingKind, lane: str) -> None:
    made(pair)
    over = threading.Event()

    def write() -> None:
        """Move a unit from row to row, all over the table: in each snapshot the sum is the same."""
        with psycopg.connect(pair.source.dsn, autocommit=True) as connection:
            number = 0
            while not over.is_set():
                number = (number + 7919) % ROWS
                connection.execute(
                    "UPDATE s.t SET v = v + CASE WHEN id = %s THEN 1 ELSE -1 END WHERE id IN (%s, %s)",
                    (number + 1, number + 1, ROWS - number if number + 1 != ROWS - number else 1),
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        report = copied(pair, options={"staging": kind, "lane": Lane(lane)})
    finally:
        over.set()
        writer.join()
    (table,) = report.tables
    assert (table.status, table.slices > 8, table.lane, table.staging) == ("done", True, lane, kind.value)
    assert table.source_count == table.staging_count == ROWS
    assert pair.target.rows("SELECT count(*)::int, count(DISTINCT id)::int, sum(v)::int FROM s.t") == [
        (ROWS, ROWS, ROWS)
    ]
    assert copied(pair).tables[0].verified
    assert_equal(pair)
    assert pair.target.staging_tables() == []


def test_deletes_and_changes_of_a_sliced_table_arrive(pair: Pair) -> None:
    made(pair)
    assert copied(pair).exit_code == 0
    pair.source.execute(
        "DELETE FROM s.t WHERE id % 10 = 0; UPDATE s.t SET v = 2 WHERE id % 10 = 1; INSERT INTO s.t VALUES (0, 0)"
    )
    (table,) = copied(pair, options={"max_delete": MaxDelete.parse("100%")}).tables
    assert (table.slices > 1, table.inserted, table.updated, table.deleted) == (True, 1, ROWS // 10, ROWS // 10)
    assert_equal(pair)


def test_the_keys_of_a_sweep_are_swept_in_slices_too(pair: Pair) -> None:
    made(pair)
    incremental: dict[str, Any] = {"mode": "incremental", "cursor": "v", "deletes": "sweep", "late_rows": "scan"}
    assert copied(pair, **incremental).exit_code == 0
    pair.source.execute(
        "DELETE FROM s.t WHERE id <= 10; UPDATE s.t SET v = 2 WHERE id = 11; INSERT INTO s.t VALUES (0, 0)"
    )
    (table,) = copied(pair, **incremental).tables
    assert (table.slices > 1, table.inserted, table.updated, table.deleted) == (True, 1, 1, 10)
    assert table.keys_swept == ROWS - 9
    assert_equal(pair)


@pytest.mark.parametrize("kind", [StagingKind.UNLOGGED, StagingKind.TEMPORARY])
def test_a_rate_is_kept_by_all_slices_together(pair: Pair, kind: StagingKind) -> None:
    made(pair)
    (table,) = copied(pair, options={"max_rate": 2 << 20, "staging": kind}).tables
    assert table.bytes / table.steps["relay"] < 1.2 * (2 << 20)
    assert_equal(pair)


# --- several tables --------------------------------------------------------------------------------------------------


def test_large_tables_are_begun_together_and_small_ones_do_not_wait_for_them(pair: Pair) -> None:
    made(pair, "s.large", more=", CHECK (id > 0)")
    made(pair, "s.larger", 2 * ROWS)
    made(pair, "s.small", 10)
    recorder = Recorder()
    report = copied(pair, "s.*", sink=recorder)
    assert report.exit_code == 0
    begun = [event.table for event in recorder.of(StepStarted) if event.step == "relay"]
    assert begun[:2] == ["s.larger", "s.large"], "the largest first"
    finished = [event.report.target for event in recorder.of(TableFinished)]
    assert finished[0] == "s.small"
    assert_equal(pair, "s.large", "s.larger", "s.small")


def test_one_job_copies_one_table_after_the_other(pair: Pair) -> None:
    for name in ("s.a", "s.b"):
        made(pair, name)
    recorder = Recorder()
    report = copied(pair, "s.*", sink=recorder, options={"jobs": 1})
    assert [table.slices for table in report.tables] == [0, 0]
    order = [event.table for event in recorder.of(StepFinished)]
    assert order == sorted(order)
    assert_equal(pair, "s.a", "s.b")


def test_a_child_that_is_staged_first_is_merged_behind_its_parents(pair: Pair) -> None:
    made(pair, "s.parent", 3_000)
    made(pair, "s.middle", ROWS, ", parent int REFERENCES s.parent DEFAULT 1")
    made(pair, "s.child", 2 * ROWS, ", middle int REFERENCES s.middle DEFAULT 2")
    pair.target.execute(
        """CREATE SCHEMA s; CREATE TABLE s.parent (id int PRIMARY KEY, v int, filler text);
        CREATE TABLE s.middle (id int PRIMARY KEY, v int, filler text, parent int REFERENCES s.parent);
        CREATE TABLE s.child (id int PRIMARY KEY, v int, filler text, middle int REFERENCES s.middle)"""
    )
    for jobs in (2, 4):
        recorder = Recorder()
        report = copied(pair, "s.*", sink=recorder, options={"jobs": jobs})
        assert report.exit_code == 0, report.failed
        assert [table.target for table in report.tables] == ["s.parent", "s.middle", "s.child"]
        assert_equal(pair, "s.parent", "s.middle", "s.child")
        pair.source.execute("UPDATE s.child SET v = v + 1 WHERE id < 100")


def test_tables_that_refer_to_each_other_in_a_circle_do_not_wait_for_each_other(pair: Pair) -> None:
    for name in ("s.a", "s.b"):
        made(pair, name)
        pair.target.execute(
            f"CREATE SCHEMA IF NOT EXISTS s; CREATE TABLE {name} (id int PRIMARY KEY, v int, filler text)"
        )
    pair.target.execute(
        "ALTER TABLE s.a ADD FOREIGN KEY (id) REFERENCES s.b NOT VALID;"
        " ALTER TABLE s.a ALTER CONSTRAINT a_id_fkey DEFERRABLE; ALTER TABLE s.a DISABLE TRIGGER ALL;"
        " ALTER TABLE s.b ADD FOREIGN KEY (id) REFERENCES s.a; ALTER TABLE s.b DISABLE TRIGGER ALL"
    )
    assert copied(pair, "s.*").exit_code == 0
    assert_equal(pair, "s.a", "s.b")


# --- failures --------------------------------------------------------------------------------------------------------


class _EndOne:
    """Ends one COPY into staging, once, when a table has staged rows."""

    def __init__(self, pair: Pair, how: str) -> None:
        self._pair, self._how = pair, how
        self.retried: list[Retrying] = []
        self.warned: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._end)

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "relay" and not self._thread.ident:
            self._thread.start()
        if isinstance(event, Retrying):
            self.retried.append(event)
        if isinstance(event, Warned):
            self.warned.append(event.message)
        if isinstance(event, Retrying | TableFinished):
            self._over.set()

    def _end(self) -> None:
        find = "SELECT count(*) FROM pg_class WHERE relname LIKE 'stg\\_%' AND pg_relation_size(oid) > 500000"
        await_that(lambda: bool(self._pair.target.value(find)), "a slice to be staged")
        copying = "FROM pg_stat_activity WHERE query LIKE 'COPY%%' AND state = 'active' AND query ~ %s"
        names: list[tuple[str]] = []

        def is_copied() -> bool:
            names.extend(self._pair.target.rows(f"SELECT substring(query FROM 'stg_\\w+') {copying} LIMIT 1", (".",)))
            return bool(names)

        await_that(is_copied, "another one to be on its way")

        def is_over() -> bool:
            """One that was at its end takes no notice of a cancellation: then the next one of that table is met."""
            self._pair.target.rows(f"SELECT {self._how}(pid) {copying} LIMIT 1", names[0])
            return self._over.wait(0.02)

        await_that(is_over, "the run to notice")

    def join(self) -> None:
        self._thread.join()


@pytest.mark.parametrize("kind", [StagingKind.PROMOTED, StagingKind.UNLOGGED])
def test_only_the_slice_that_failed_is_copied_again(pair: Pair, kind: StagingKind) -> None:
    made(pair)
    pair.target.execute("CREATE SCHEMA s")
    end = _EndOne(pair, "pg_terminate_backend")
    report = copied(pair, sink=end, where=SLOWLY, options={"staging": kind, "jobs": 2})
    end.join()
    (table,) = report.tables
    assert (table.status, table.attempts) == ("done", 2)
    assert [event.step for event in end.retried] == ["relay"]
    assert end.retried[0].sqlstate in {"57P01", None}  # what it says, or the end of its connection
    assert "the source is read in a new snapshot from here on" not in end.warned
    assert_equal(pair)
    pages = "SELECT pg_relation_size('s.t') / 8192"
    assert pair.target.value(pages) < 1.5 * pair.source.value(pages), (
        "what was committed stands; it was not copied twice"
    )


def test_a_person_who_cancels_one_slice_ends_its_table_and_the_others_go_on(pair: Pair) -> None:
    made(pair)
    made(pair, "s.other", 3_000)
    end = _EndOne(pair, "pg_cancel_backend")
    report = copied(pair, "s.*", sink=end, where=SLOWLY, options={"jobs": 2, "retries": 3})
    end.join()
    assert report.exit_code == 3
    by_target = {table.target: table for table in report.tables}
    failed = [table for table in by_target.values() if table.status == "failed"]
    assert [(table.sqlstate, table.attempts) for table in failed] == [("57014", 1)]
    assert pair.target.staging_tables() == []
    assert pair.target.value(OURS) == pair.source.value(OURS) == 0
    assert copied(pair, "s.*").exit_code == 0
    assert_equal(pair, "s.t", "s.other")


def test_the_first_failure_ends_a_run_that_shall_fail_fast_and_what_was_begun_is_cleaned_up(pair: Pair) -> None:
    made(pair, "s.large")
    pair.source.execute("CREATE TABLE s.small (id int PRIMARY KEY); INSERT INTO s.small VALUES (1)")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.small (id int PRIMARY KEY CHECK (id > 1))")
    report = copied(pair, "s.*", where=SLOWLY, options={"fail_fast": True})
    assert [(table.target, table.status) for table in report.tables] == [("s.small", "failed"), ("s.large", "skipped")]
    assert pair.target.staging_tables() == []
    assert pair.target.value("SELECT to_regclass('s.large')") is None
    assert pair.target.value(OURS) == pair.source.value(OURS) == 0


def test_where_memory_does_not_suffice_for_two_slices_one_is_put_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each slice under way held 50 MiB."""
    made(pair)
    monkeypatch.setattr(memory, "resident", lambda pid=None: 0 if pid else (len(memory._blocks) * 50 + 10) << 20)
    warned: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Warned):
            warned.append(event.message)

    report = copied(pair, sink=listen, where=SLOWLY, options={"jobs": 3, "max_memory": 80 << 20})
    (table,) = report.tables
    assert (table.status, table.attempts, table.error) == ("done", 1, None)
    assert warned == ["the memory ceiling lets no more slices be copied at once than 1"]
    assert_equal(pair)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_in_the_middle_of_many_slices_leaves_nothing(pair: Pair, number: int) -> None:
    for name in ("s.t", "s.u"):
        made(pair, name)
    program = """
        import sys; from pgsluice import cli, plan
        plan.PARALLEL_SLICE_BYTES, plan.TEMPORARY_BELOW_BYTES = (1 << 18, 1 << 30), 1 << 17
        sys.argv = ["pgsluice", *sys.argv[1:]]; cli.main()
    """
    arguments = ["sync", "--source", pair.source.dsn, "--target", pair.target.dsn, "--table", "s.*", "--where", SLOWLY]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments, "--jobs", "3"],
        env=unmeasured(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        await_that(lambda: pair.target.value(COPYING) >= 3 or process.poll() is not None, "three slices at once")
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert pair.target.staging_tables() == []
    assert pair.target.rows("SELECT to_regclass('s.t'), to_regclass('s.u')") == [(None, None)]
    await_that(lambda: pair.target.value(OURS) == pair.source.value(OURS) == 0, "our sessions to end")
    assert copied(pair, "s.*").exit_code == 0
