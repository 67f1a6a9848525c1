"""Every known way for a run that reads on from a stored position to lose or double a row, on real servers.

Each test's name says the hazard by its number. W1 is the row that commits late: stamped before the watermark, visible
behind it. W16, a standby that lags, needs one and has a place of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from servers import Database, Pair, database

from pgsluice import DatabaseOperations, DataCopyEngine, NullCursors, Options, TableReport, sync
from pgsluice.embedded import Cluster
from pgsluice.events import Event, StepStarted

#: More rows than this were not read by a run that read on: each table begins with a thousand.
SHOWN = Options(show_row_data=True)
FEW = 150
COLUMNS = "id int PRIMARY KEY, v text, at timestamptz DEFAULT now()"
OLD = "i, 'old', '2024-01-01'::timestamptz + i * interval '1 minute'"
FRESH = "INSERT INTO s.t VALUES (1500, 'fresh')"
LATE = "INSERT INTO s.t VALUES (2000, 'late')"
IN_MANY_SUBTRANSACTIONS = """DO $$ BEGIN FOR i IN 2000..2099 LOOP
    BEGIN INSERT INTO s.t VALUES (i, 'late'); EXCEPTION WHEN unique_violation THEN NULL; END; END LOOP; END $$"""
INSERTS = {
    "insert": LATE,
    "savepoint behind one that was rolled back": f"SAVEPOINT a; {LATE}; ROLLBACK TO a; {LATE}",
    "a hundred exception blocks": IN_MANY_SUBTRANSACTIONS,
}
WRITES = {
    **INSERTS,
    "update": "UPDATE s.t SET v = 'late', at = now() WHERE id = 7",
    "changed key in a savepoint": """SAVEPOINT a; UPDATE s.t SET id = 2000, at = now() WHERE id = 7;
        INSERT INTO s.t VALUES (7, 'other'); RELEASE a""",
}
WITH_IDS = pytest.mark.parametrize("way", ["scan", "xmin"])
EVERY_SAFE_WAY = pytest.mark.parametrize("way", ["scan", "horizon", "xmin"])
BY_STAMP_OR_ID = pytest.mark.parametrize("way", ["trust", "xmin"])
STATE = "SELECT watermark, seq FROM pgsluice.job_state"


@pytest.fixture(scope="module")
def databases(target_cluster: Cluster) -> Iterator[Pair]:
    """A source that can prepare transactions and is left alone by autovacuum, whose transactions would be counted."""
    settings = {"max_prepared_transactions": "4", "autovacuum": "off"}
    with (
        Cluster(major=16, settings=settings) as cluster,
        database(cluster) as source,
        database(target_cluster) as target,
    ):
        yield Pair(source, target)


@pytest.fixture
def pair(databases: Pair) -> Pair:
    """The same two databases for all of these tests, empty for each: making them takes longer than most runs."""
    for each in (databases.source, databases.target):
        each.execute(f"ALTER DATABASE {each.name} RESET ALL")
        each.execute("SET client_min_messages = error; DROP SCHEMA IF EXISTS s, pgsluice CASCADE")
    return databases


def filled(pair: Pair, columns: str = COLUMNS, rows: str = OLD) -> None:
    """Create ``s.t`` on the source with a thousand rows of long ago."""
    pair.source.execute(
        f"CREATE SCHEMA s; CREATE TABLE s.t ({columns}); INSERT INTO s.t SELECT {rows} FROM generate_series(1, 1000) i"
    )


def attempt(pair: Pair, way: str = "trust", **request: Any) -> TableReport:
    """Run once: ``xmin`` and ``append`` are modes, the rest are policies for late rows of mode ``incremental``."""
    request = {"mode": way} | request
    if way not in {"xmin", "append"}:
        request |= {"mode": "incremental", "late_rows": way, "cursor": request.get("cursor", "at")}
    return sync(request.pop("source", pair.source.dsn), pair.target.dsn, "s.t", **request).tables[0]


def run(pair: Pair, way: str = "trust", **request: Any) -> TableReport:
    report = attempt(pair, way, **request)
    assert report.status == "done", (report.error, report.hint)
    return report


def refused(pair: Pair, way: str = "trust", code: int = 6, **request: Any) -> str:
    """Run, see that nothing was written, and return why."""
    tables = pair.target.value("SELECT count(*) FROM pg_tables WHERE schemaname = 's'")
    before = pair.target.image("s.t") if tables else None
    report = attempt(pair, way, **request)
    assert (report.status, report.exit_code) == ("failed", code), (report.status, report.exit_code, report.error)
    assert pair.target.value("SELECT count(*) FROM pg_tables WHERE schemaname = 's'") == tables
    assert before is None or pair.target.image("s.t") == before
    return f"{report.error}\n{report.hint}"


def read_on(pair: Pair, way: str = "trust", **request: Any) -> TableReport:
    """Run, and see that the target is equal although few rows were read."""
    report = run(pair, way, **request)
    assert report.staging_count <= FEW, report.reading
    assert pair.target.image("s.t") == pair.source.image("s.t")
    return report


def ids(side: Database) -> set[int]:
    return {number for (number,) in side.rows("SELECT id FROM s.t")}


def missing(pair: Pair) -> set[int]:
    return ids(pair.source) - ids(pair.target)


def says(report: TableReport, *words: str) -> bool:
    return any(all(word in note for word in words) for note in report.notes)


# --- W1: rows that commit late ---------------------------------------------------------------------------------------


@EVERY_SAFE_WAY
@pytest.mark.parametrize("write", WRITES)
def test_w1_a_row_stamped_early_in_an_open_transaction_is_found(pair: Pair, way: str, write: str) -> None:
    filled(pair)
    with psycopg.connect(pair.source.dsn) as writer:
        writer.execute(WRITES[write])
        pair.source.execute(FRESH)
        run(pair, way)
        assert pair.target.image("s.t") == pair.source.image("s.t")
    read_on(pair, way)


@EVERY_SAFE_WAY
@pytest.mark.parametrize("write", ["insert", "a hundred exception blocks", "update"])
def test_w1_a_transaction_that_first_writes_after_the_snapshot_is_found(pair: Pair, way: str, write: str) -> None:
    filled(pair)
    with psycopg.connect(pair.source.dsn) as writer:
        writer.execute("SELECT now()")
        pair.source.execute(FRESH)
        run(pair, way)
        writer.execute(WRITES[write])
    read_on(pair, way)


@pytest.mark.parametrize("form", ["open", "taken before", "cached"])
def test_w1_a_sequence_value_taken_early_is_found_by_scan(pair: Pair, form: str) -> None:
    filled(pair, "id bigserial PRIMARY KEY, v text", "nextval('s.t_id_seq'), 'old'")
    insert = "INSERT INTO s.t (v) VALUES ('v')"
    pair.source.execute("ALTER SEQUENCE s.t_id_seq CACHE 50" if form == "cached" else "")
    with psycopg.connect(pair.source.dsn, autocommit=form != "open") as writer:
        early = writer.execute("SELECT nextval('s.t_id_seq')").fetchall()[0][0]
        if form == "open":
            writer.execute("INSERT INTO s.t VALUES (%s, 'late')", (early,))
        pair.source.execute(insert)
        run(pair, "scan", cursor="id")
        assert max(ids(pair.target)) > early
        writer.execute(insert if form == "cached" else "SELECT 1")
        if form == "taken before":
            writer.execute("INSERT INTO s.t VALUES (%s, 'late')", (early,))
    assert missing(pair)
    assert read_on(pair, "scan", cursor="id").late == 1


@WITH_IDS
def test_w1_a_row_is_found_after_any_number_of_runs_while_its_writer_stays_open(pair: Pair, way: str) -> None:
    filled(pair)
    with psycopg.connect(pair.source.dsn) as writer:
        writer.execute(LATE)
        for number in range(1501, 1504):
            pair.source.execute(f"INSERT INTO s.t VALUES ({number}, 'fresh')")
            run(pair, way)
    read_on(pair, way)


@WITH_IDS
def test_w1_a_late_row_that_vacuum_froze_is_found(pair: Pair, way: str) -> None:
    filled(pair)
    with psycopg.connect(pair.source.dsn) as writer:
        writer.execute(LATE)
        pair.source.execute(FRESH)
        run(pair, way)
    pair.source.execute("VACUUM FREEZE s.t")
    read_on(pair, way)


def test_w1_trust_loses_such_a_row_and_says_so_and_a_scan_finds_it_afterwards(pair: Pair) -> None:
    filled(pair)
    with psycopg.connect(pair.source.dsn) as writer:
        writer.execute(LATE)
        pair.source.execute(FRESH)
        run(pair, "trust")
    report = run(pair, "trust")
    assert missing(pair) == {2000}
    assert says(report, "not guaranteed", "at lies below the watermark when it commits", "scan finds them")
    read_on(pair, "scan")


def test_w1_an_overlap_finds_what_it_was_vouched_for_and_no_more(pair: Pair) -> None:
    filled(pair)
    pair.source.execute("INSERT INTO s.t VALUES (1500, 'v', '2025-06-01 12:00Z')")
    run(pair, "overlap:2 hours")
    pair.source.execute("INSERT INTO s.t VALUES (2000, 'v', '2025-06-01 10:00Z'), (2001, 'v', '2025-06-01 09:59Z')")
    report = run(pair, "overlap:2 hours")
    assert report.staging_count == 2
    assert missing(pair) == {2001}
    assert says(report, "not guaranteed", "more than 2 hours behind the watermark")
    read_on(pair, "scan")


def test_w1_a_scan_within_a_span_finds_late_rows_up_to_there_and_says_so(pair: Pair) -> None:
    filled(pair)
    pair.source.execute("INSERT INTO s.t VALUES (1500, 'v', '2025-06-08')")
    run(pair, "scan", late_within="7 days")
    pair.source.execute("INSERT INTO s.t VALUES (2000, 'v', '2025-06-01 01:00'), (2001, 'v', '2025-05-31')")
    report = run(pair, "scan", late_within="7 days")
    assert missing(pair) == {2001}
    assert says(report, "up to 7 days behind the watermark, not beyond")
    read_on(pair, "scan")


def test_w1_auto_scans_what_is_not_too_large_and_leaves_the_rest_to_a_person(pair: Pair) -> None:
    filled(pair)
    with psycopg.connect(pair.source.dsn) as writer:
        writer.execute(LATE)
        pair.source.execute(FRESH)
        assert run(pair, "auto").late_rows == "scan"
    assert "horizon" in refused(pair, "auto", options=Options(scan_limit=0))
    assert read_on(pair, "auto").late == 1


def test_w1_auto_holds_a_large_table_to_the_horizon_where_a_trigger_stamps_every_row(pair: Pair) -> None:
    filled(pair)
    pair.source.execute(
        """CREATE FUNCTION s.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.at := now(); RETURN NEW; END';
        CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION s.stamp()"""
    )
    large = Options(scan_limit=0)
    with psycopg.connect(pair.source.dsn) as writer:
        writer.execute("INSERT INTO s.t VALUES (2000, 'late', '2020-01-01')")
        pair.source.execute(FRESH)
        assert run(pair, "auto", options=large).late_rows == "horizon"
    read_on(pair, "auto", options=large)


# --- W1: the horizon -------------------------------------------------------------------------------------------------


def test_w1_the_horizon_reaches_back_to_the_oldest_open_transaction(pair: Pair) -> None:
    filled(pair)
    with psycopg.connect(pair.source.dsn) as writing, psycopg.connect(pair.source.dsn) as thinking:
        writing.execute(LATE)
        thinking.execute("SELECT now()")
        pair.source.execute("SELECT pg_sleep(6)")  # seconds; five are granted to every transaction
        pair.source.execute(FRESH)
        watermark = run(pair, "horizon").watermark
        thinking.execute("INSERT INTO s.t VALUES (2001, 'late')")
    assert pair.source.value("SELECT min(at) > %s FROM s.t WHERE v = 'late'", (watermark,))
    report = read_on(pair, "horizon")
    assert (report.inserted, report.late) == (2, 0)


@pytest.mark.parametrize("before", ["scan", "trust"])
@pytest.mark.parametrize("commits", ["before the switch", "after the switch"])
def test_w1_a_switch_to_the_horizon_loses_no_row_that_is_open_across_it(pair: Pair, before: str, commits: str) -> None:
    filled(pair)
    with psycopg.connect(pair.source.dsn) as writer:
        writer.execute(LATE)
        pair.source.execute(FRESH)
        run(pair, before)
        if commits == "before the switch":
            writer.commit()
        switched = run(pair, "horizon")
        assert says(switched, "the stored watermark was not held to the horizon")
        assert switched.staging_count <= FEW
    read_on(pair, "horizon")


def test_w1_a_switch_to_the_horizon_looks_at_every_row_once(pair: Pair) -> None:
    filled(pair)
    run(pair, "trust")
    assert says(run(pair, "horizon"), "the stored watermark was not held to the horizon")
    pair.source.execute(FRESH)
    assert not says(read_on(pair, "horizon"), "the stored watermark was not held to the horizon")


def test_w1_a_switch_from_the_horizon_to_scan_and_back_loses_nothing(pair: Pair) -> None:
    filled(pair)
    with psycopg.connect(pair.source.dsn) as writer:
        writer.execute(LATE)
        pair.source.execute(FRESH)
        for way in ("horizon", "scan", "horizon"):
            run(pair, way)
    read_on(pair, "horizon")


def test_w1_the_horizon_is_refused_to_a_role_that_sees_no_other_sessions(pair: Pair) -> None:
    filled(pair)
    pair.source.execute(
        "CREATE ROLE plain_reader LOGIN; GRANT USAGE ON SCHEMA s TO plain_reader; GRANT SELECT ON s.t TO plain_reader"
    )
    try:
        dsn = pair.source.cluster.dsn_for(pair.source.name, user="plain_reader")
        assert "GRANT pg_read_all_stats TO plain_reader;" in refused(pair, "horizon", source=dsn)
        pair.source.execute("GRANT pg_read_all_stats TO plain_reader")
        with psycopg.connect(pair.source.dsn) as writer:
            writer.execute(LATE)
            pair.source.execute(FRESH)
            run(pair, "horizon", source=dsn)
        read_on(pair, "horizon", source=dsn)
    finally:
        pair.source.execute("DROP OWNED BY plain_reader; DROP ROLE plain_reader")


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("timestamptz", "nothing in the database sets at by its clock"),
        ("timestamptz DEFAULT '2024-01-01'", "nothing in the database sets at by its clock"),
        ("timestamp DEFAULT now()", "nothing in the database sets at by its clock in UTC"),
        ("timestamptz DEFAULT now() - interval '1 hour'", "nothing in the database sets at by its clock"),
        ("date DEFAULT now()", "at is date"),
        ("bigserial", "filled from sequence s.t_at_seq, whose numbers carry no time"),
    ],
)
def test_w1_the_horizon_is_refused_where_no_clock_of_the_database_sets_the_column(
    pair: Pair, column: str, reason: str
) -> None:
    pair.source.execute(f"CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at {column})")
    assert reason in refused(pair, "horizon")


def test_w1_the_horizon_stays_put_while_a_session_hides_when_it_began(pair: Pair) -> None:
    filled(pair)
    run(pair, "horizon")
    with psycopg.connect(pair.source.dsn) as hidden:
        hidden.execute("SET track_activities = off")
        hidden.execute(LATE)
        pair.source.execute(FRESH)
        report = read_on(pair, "horizon")
        assert report.watermark == "2024-01-01 16:40:00+00"
        assert says(report, "the watermark stays where it was", "track_activities off")
    assert str(read_on(pair, "horizon").watermark) > report.watermark


@EVERY_SAFE_WAY
def test_w1_a_prepared_transaction_freezes_the_horizon_and_loses_no_row(pair: Pair, way: str) -> None:
    filled(pair)
    run(pair, way)
    pair.source.execute(f"BEGIN; {LATE}; PREPARE TRANSACTION 'late'")
    try:
        pair.source.execute(FRESH)
        report = read_on(pair, way)
        assert (report.watermark == "2024-01-01 16:40:00+00") is (way == "horizon")
        assert says(report, "the watermark stays where it was", "prepared") is (way == "horizon")
    finally:
        pair.source.execute("COMMIT PREPARED 'late'")
    read_on(pair, way)


# --- W1: rows that arrive by DDL, which stamps none of them -------------------------------------------------------------


def partitioned(pair: Pair, columns: str = COLUMNS) -> None:
    """Create ``s.t`` with one partition and a thousand rows; ``s.p2`` is filled and stands beside it."""
    pair.source.execute(
        f"""CREATE SCHEMA s; CREATE TABLE s.t ({columns}) PARTITION BY RANGE (id);
        CREATE TABLE s.p1 PARTITION OF s.t FOR VALUES FROM (0) TO (2001); CREATE TABLE s.p2 (LIKE s.t INCLUDING ALL);
        INSERT INTO s.t SELECT {OLD} FROM generate_series(1, 1000) i;
        INSERT INTO s.p2 SELECT {OLD.replace("old", "attached")} FROM generate_series(2001, 2050) i;
        UPDATE s.p2 SET at = '2023-01-01'"""
    )


ATTACH = "ALTER TABLE s.t ATTACH PARTITION s.p2 FOR VALUES FROM (2001) TO (3001)"
DETACH = "ALTER TABLE s.t DETACH PARTITION s.p2"


@BY_STAMP_OR_ID
def test_w1_a_partition_filled_long_ago_and_attached_is_read_whole(pair: Pair, way: str) -> None:
    partitioned(pair)
    run(pair, way)
    pair.source.execute(ATTACH)
    assert read_on(pair, way).inserted == 50
    assert read_on(pair, way).staging_count < 50


@BY_STAMP_OR_ID
def test_w1_a_partition_replaced_by_a_table_filled_long_ago_is_read_whole(pair: Pair, way: str) -> None:
    partitioned(pair)
    pair.source.execute(f"{ATTACH}; CREATE TABLE s.p3 (LIKE s.p2 INCLUDING ALL)")
    pair.source.execute("INSERT INTO s.p3 SELECT id, 'replaced', at FROM s.p2")
    run(pair, way)
    pair.source.execute(f"BEGIN; {DETACH}; {ATTACH.replace('p2', 'p3')}; COMMIT")
    assert read_on(pair, way).updated == 50


@BY_STAMP_OR_ID
def test_w1_a_table_swapped_by_rename_is_read_again(pair: Pair, way: str) -> None:
    filled(pair)
    pair.source.execute("CREATE TABLE s.new (LIKE s.t INCLUDING ALL); INSERT INTO s.new SELECT id, 'new', at FROM s.t")
    run(pair, way)
    pair.source.execute("BEGIN; ALTER TABLE s.t RENAME TO gone; ALTER TABLE s.new RENAME TO t; COMMIT")
    report = run(pair, way)
    assert pair.target.image("s.t") == pair.source.image("s.t")
    assert "rewritten or replaced" in report.reading
    read_on(pair, way)


@pytest.mark.parametrize(
    ("way", "altered"),
    [("scan", "before"), ("xmin", "with the source"), ("trust", "with the source"), ("scan", "after a run")],
)
def test_w1_a_column_added_with_a_default_arrives(pair: Pair, way: str, altered: str) -> None:
    filled(pair)
    run(pair, way)
    if altered == "before":
        pair.target.execute("ALTER TABLE s.t ADD c int")
        run(pair, way)
    pair.source.execute("ALTER TABLE s.t ADD c int DEFAULT 7")
    if altered == "after a run":
        assert says(run(pair, way, drift="ignore"), "column c exists on the source only")
    if altered != "before":
        pair.target.execute("ALTER TABLE s.t ADD c int")
    report = run(pair, way)
    assert report.updated == 1000
    assert "column c" in report.reading
    read_on(pair, way)
    pair.source.execute("ALTER TABLE s.t DROP c; ALTER TABLE s.t ADD c int DEFAULT 8")
    assert run(pair, way).updated == 1000
    read_on(pair, way)


# --- W1: mode append, each row once ----------------------------------------------------------------------------------

UNKEYED = COLUMNS.replace(" PRIMARY KEY", "")


@pytest.mark.parametrize("when", ["open before the snapshot", "begun before and written after it"])
@pytest.mark.parametrize("write", INSERTS)
def test_w1_append_copies_rows_of_and_behind_an_open_writer_once(pair: Pair, write: str, when: str) -> None:
    filled(pair, UNKEYED)
    run(pair, "append")
    is_open = when == "open before the snapshot"
    with psycopg.connect(pair.source.dsn) as writer:
        writer.execute(INSERTS[write] if is_open else "SELECT now()")
        pair.source.execute(FRESH)
        report = run(pair, "append")
        assert missing(pair) == ({1500} if is_open else set())
        if is_open:
            assert report.held_back >= 1
            assert says(report, "wait for the next run")
        else:
            writer.execute(INSERTS[write])
    assert read_on(pair, "append").inserted > 0
    assert read_on(pair, "append").staging_count == 0


def test_w1_append_copies_subtransactions_on_both_sides_of_a_snapshot_once(pair: Pair) -> None:
    filled(pair, UNKEYED)
    run(pair, "append")
    with psycopg.connect(pair.source.dsn) as writer:
        for number in range(2000, 2004):
            writer.execute(f"SAVEPOINT a; INSERT INTO s.t VALUES ({number}, 'late'); RELEASE a")
            pair.source.execute(FRESH)
            assert run(pair, "append").staging_count == 0
    assert read_on(pair, "append").inserted == 8
    assert read_on(pair, "append").staging_count == 0


def test_w1_append_copies_an_attached_partition_once_though_it_leaves_and_returns(pair: Pair) -> None:
    partitioned(pair, UNKEYED)
    run(pair, "append")
    pair.source.execute(ATTACH)
    assert read_on(pair, "append").inserted == 50
    pair.source.execute(f"{DETACH}; INSERT INTO s.p2 VALUES (2100, 'while detached')")
    assert run(pair, "append").inserted == 0
    pair.source.execute(f"{ATTACH}; INSERT INTO s.t VALUES (2200, 'attached again')")
    assert read_on(pair, "append").inserted == 2
    assert read_on(pair, "append").staging_count == 0


def test_w1_append_waits_for_a_writer_of_a_partition_that_is_attached(pair: Pair) -> None:
    partitioned(pair, UNKEYED)
    run(pair, "append")
    pair.source.execute(ATTACH)
    with psycopg.connect(pair.source.dsn) as writer:
        writer.execute("INSERT INTO s.p2 VALUES (2100, 'late')")
        pair.source.execute("INSERT INTO s.p2 VALUES (2200, 'fresh')")
        assert run(pair, "append").inserted == 50
    assert read_on(pair, "append").inserted == 2


REWRITES = {
    "ALTER TYPE": "ALTER TABLE s.t ALTER v TYPE varchar(90)",
    "VACUUM FULL": "VACUUM FULL s.t",
    "TRUNCATE": "TRUNCATE s.t",
}


@pytest.mark.parametrize("rewrite", REWRITES)
def test_w1_append_refuses_a_table_whose_rows_were_stamped_anew(pair: Pair, rewrite: str) -> None:
    filled(pair, UNKEYED)
    run(pair, "append")
    pair.source.execute(REWRITES[rewrite])
    pair.source.execute("INSERT INTO s.t VALUES (3000, 'new')")
    assert "s.t was rewritten or truncated since the last run" in refused(pair, "append")


@pytest.mark.parametrize("rewrite", ["VACUUM FULL s.p2", "TRUNCATE s.p2"])
def test_w1_append_refuses_a_rewritten_partition_by_its_bound(pair: Pair, rewrite: str) -> None:
    partitioned(pair, UNKEYED)
    pair.source.execute(ATTACH)
    run(pair, "append")
    pair.source.execute(rewrite)
    assert "partition FOR VALUES FROM (2001) TO (3001) of s.t was rewritten" in refused(pair, "append")


def test_w1_append_refuses_a_partition_rewritten_while_it_was_detached(pair: Pair) -> None:
    partitioned(pair, UNKEYED)
    pair.source.execute(ATTACH)
    run(pair, "append")
    pair.source.execute(DETACH)
    run(pair, "append")
    pair.source.execute("VACUUM FULL s.p2")
    pair.source.execute(ATTACH)
    assert "partition FOR VALUES FROM (2001) TO (3001) of s.t was rewritten" in refused(pair, "append")


def test_w1_append_refuses_a_partition_replaced_by_another(pair: Pair) -> None:
    partitioned(pair, UNKEYED)
    pair.source.execute(f"{ATTACH}; CREATE TABLE s.p3 (LIKE s.p2); INSERT INTO s.p3 SELECT * FROM s.p2")
    run(pair, "append")
    pair.source.execute(f"BEGIN; {DETACH}; {ATTACH.replace('p2', 'p3')}; COMMIT")
    said = refused(pair, "append")
    assert "partition FOR VALUES FROM (2001) TO (3001) of s.t was replaced by another table" in said


SWAP = "BEGIN; ALTER TABLE s.t RENAME TO gone; ALTER TABLE s.new RENAME TO t; COMMIT"
SUCCESSORS = {
    "a table": "CREATE TABLE s.new (LIKE s.t)",
    "a table with other partitions": """CREATE TABLE s.new (LIKE s.t) PARTITION BY RANGE (id);
        CREATE TABLE s.n1 PARTITION OF s.new FOR VALUES FROM (0) TO (501);
        CREATE TABLE s.n2 PARTITION OF s.new FOR VALUES FROM (501) TO (9000)""",
}


@pytest.mark.parametrize("before", ["a table", "a partitioned table"])
@pytest.mark.parametrize("successor", SUCCESSORS)
def test_w1_append_refuses_a_table_replaced_by_rename(pair: Pair, before: str, successor: str) -> None:
    if before == "a table":
        filled(pair, UNKEYED)
    else:
        partitioned(pair, UNKEYED)
    run(pair, "append")
    pair.source.execute(f"{SUCCESSORS[successor]}; INSERT INTO s.new SELECT * FROM s.t")
    pair.source.execute(SWAP)
    assert "s.t was replaced by another table" in refused(pair, "append")
    run(pair, "append", full_refresh=True)
    assert pair.target.image("s.t") == pair.source.image("s.t")


# --- W2 to W8: the watermark itself ----------------------------------------------------------------------------------


def test_w2_rows_with_the_very_value_of_the_watermark_are_read_again(pair: Pair) -> None:
    filled(pair, rows="i, 'old', CASE WHEN i > 990 THEN '2024-06-01' ELSE '2024-01-01' END::timestamptz")
    run(pair)
    pair.source.execute("INSERT INTO s.t VALUES (2000, 'tie', '2024-06-01'), (2001, 'tie', '2024-06-01')")
    pair.source.execute("UPDATE s.t SET v = 'tie' WHERE id = 1000")
    report = read_on(pair)
    assert (report.staging_count, report.inserted, report.updated) == (12, 2, 1)


TRIGGERS = {
    "at the merge": "CREATE TRIGGER fault BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.fault()",
    "at the commit": """CREATE CONSTRAINT TRIGGER fault AFTER INSERT ON s.t
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION s.fault()""",
}


@pytest.mark.parametrize("way", ["trust", "append"])
@pytest.mark.parametrize("fault", TRIGGERS)
def test_w3_a_run_that_fails_leaves_the_position_where_it_was(pair: Pair, way: str, fault: str) -> None:
    filled(pair)
    run(pair, way)
    state = pair.target.rows(STATE)
    pair.target.execute(
        "CREATE FUNCTION s.fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;"
        + TRIGGERS[fault]
    )
    pair.source.execute(FRESH)
    assert "refused" in refused(pair, way, code=1, options=SHOWN)
    assert pair.target.rows(STATE) == state
    pair.target.execute("DROP TRIGGER fault ON s.t")
    pair.source.execute(LATE)
    assert read_on(pair, way).inserted == 2


class Meanwhile:
    """Changes the source once, when a run begins a step."""

    def __init__(self, source: Database, step: str, script: str) -> None:
        self._source, self._step, self._script = source, step, script
        self.done = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == self._step and not self.done:
            self._source.execute(self._script)
            self.done = True


CHANGES = """UPDATE s.t SET v = 'meanwhile', at = now() WHERE id = 7; DELETE FROM s.t WHERE id = 8;
    UPDATE s.t SET id = 1900, at = now() WHERE id = 9; INSERT INTO s.t VALUES (1901, 'meanwhile')"""


@BY_STAMP_OR_ID
@pytest.mark.parametrize("step", ["relay", "sweep"])
def test_w4_all_of_a_run_is_read_from_one_snapshot(pair: Pair, way: str, step: str) -> None:
    filled(pair)
    run(pair, way)
    pair.source.execute(f"{FRESH}; UPDATE s.t SET v = 'before', at = now() WHERE id IN (7, 8, 9)")
    picture = pair.source.image("s.t")
    meanwhile = Meanwhile(pair.source, step, CHANGES)
    report = run(pair, way, deletes="sweep", sinks=[meanwhile])
    assert meanwhile.done
    assert report.staging_count <= FEW
    assert pair.target.image("s.t") == picture
    read_on(pair, way, deletes="sweep")


def test_w4_append_leaves_what_is_written_behind_its_snapshot_to_the_next_run(pair: Pair) -> None:
    filled(pair, UNKEYED)
    run(pair, "append")
    pair.source.execute(FRESH)
    meanwhile = Meanwhile(pair.source, "relay", LATE)
    assert run(pair, "append", sinks=[meanwhile]).inserted == 1
    assert meanwhile.done
    assert read_on(pair, "append").inserted == 1


@BY_STAMP_OR_ID
def test_w5_a_higher_value_written_into_the_target_by_hand_moves_nothing(pair: Pair, way: str) -> None:
    filled(pair)
    reached = run(pair, way).watermark
    pair.target.execute(
        "INSERT INTO s.t VALUES (9000, 'by hand', now() + interval '1 hour'); UPDATE s.t SET at = now() WHERE id = 1"
    )
    assert run(pair, way).watermark == reached
    pair.source.execute(FRESH)
    report = run(pair, way)
    assert report.staging_count <= FEW
    assert ids(pair.target) - {9000} == ids(pair.source)


def test_w5_a_query_reads_on_from_its_own_watermark_and_not_from_the_targets_highest_value(pair: Pair) -> None:
    filled(pair)
    with DataCopyEngine(DatabaseOperations(pair.source.dsn, pair.target.dsn)) as engine:
        for number in (1, 2, 3):
            report = engine.copy_data_with_custom_sql("SELECT * FROM s.t", "s.t", ["id"], incremental_field="at")
            pair.source.execute(f"INSERT INTO s.t VALUES ({1500 + number}, 'fresh')")
            pair.target.execute(f"INSERT INTO s.t VALUES ({9000 + number}, 'by hand', now() + interval '1 hour')")
    assert report.staging_count <= FEW
    assert {1501, 1502} <= ids(pair.target)


@WITH_IDS
def test_w5_an_emptied_target_is_filled_again(pair: Pair, way: str) -> None:
    filled(pair)
    run(pair, way)
    pair.target.execute("TRUNCATE s.t")
    assert "the target is empty" in run(pair, way).reading
    assert pair.target.image("s.t") == pair.source.image("s.t")


def test_w5_a_target_made_anew_is_not_taken_for_the_old_one(pair: Pair) -> None:
    filled(pair)
    run(pair)
    pair.target.execute(
        "CREATE TABLE s.new (LIKE s.t INCLUDING ALL); INSERT INTO s.new SELECT * FROM s.t WHERE id > 500"
    )
    pair.target.execute("DROP TABLE s.t; ALTER TABLE s.new RENAME TO t")
    assert says(run(pair), "everything is read again", "the target is another table than last time")
    assert pair.target.image("s.t") == pair.source.image("s.t")


CLOCKS = {
    # type: a value of long ago, and of an hour or two days ahead
    "timestamptz": ("'2021-01-01'::date + {n}", "now() + interval '1 hour'"),
    "timestamp": ("'2021-01-01'::date + {n}", "now() AT TIME ZONE 'UTC' + interval '1 hour'"),
    "date": ("'2021-01-01'::date + {n}", "current_date + 2"),
    "text": ("to_char('2021-01-01'::date + {n}, 'YYYYMMDD')", "to_char(now() + interval '2 days', 'YYYYMMDD')"),
}


@pytest.mark.parametrize("type_", CLOCKS)
def test_w6_values_of_the_future_are_copied_in_each_run_and_freeze_nothing(pair: Pair, type_: str) -> None:
    old, ahead = CLOCKS[type_]
    kind = {"cursor_type": "yyyymmdd"} if type_ == "text" else {}
    end = "'99991231'" if kind else "'9999-12-31'"
    filled(pair, f"id int PRIMARY KEY, v text, at {type_}", f"i, 'old', {old.format(n='i')}")
    pair.source.execute(f"INSERT INTO s.t VALUES (1001, 'for ever', {end}), (1002, 'clock ahead', {ahead})")
    first = run(pair, **kind)
    assert first.future_cursors == 2
    assert str(first.watermark).replace("-", "").startswith("20230928")
    assert says(first, "rows whose at is no watermark yet, in the future or infinite: 2")
    pair.source.execute("UPDATE s.t SET v = 'again' WHERE id > 1000")
    pair.source.execute(f"INSERT INTO s.t SELECT 1003, 'new', {old.format(n=1100)}")
    report = read_on(pair, **kind)
    assert (report.future_cursors, report.updated, report.inserted) == (2, 2, 1)
    assert str(report.watermark) > str(first.watermark)


@pytest.mark.parametrize("way", ["trust", "horizon"])
def test_w7_rows_without_a_cursor_are_copied_in_each_run_and_counted(pair: Pair, way: str) -> None:
    filled(pair)
    pair.source.execute("INSERT INTO s.t SELECT i, 'v', NULL FROM generate_series(1001, 1005) i")
    assert run(pair, way).null_cursors == 5
    pair.source.execute("UPDATE s.t SET v = 'changed' WHERE id > 1000; INSERT INTO s.t VALUES (1006, 'new', NULL)")
    report = read_on(pair, way)
    assert (report.null_cursors, report.updated, report.inserted) == (6, 5, 1)
    assert says(report, "rows without at: 6, copied again in each run")
    assert read_on(pair, way).null_cursors == 6


def test_w7_rows_without_a_cursor_are_refused_where_that_was_asked_for(pair: Pair) -> None:
    filled(pair)
    strict = Options(null_cursors=NullCursors.REFUSE)
    run(pair, options=strict)
    state = pair.target.rows(STATE)
    pair.source.execute(f"INSERT INTO s.t VALUES (1001, 'v', NULL); {FRESH}")
    assert "1 rows have no at" in refused(pair, options=strict)
    assert pair.target.rows(STATE) == state
    pair.source.execute("UPDATE s.t SET at = now() WHERE at IS NULL")
    read_on(pair, options=strict)


BEHIND = "INSERT INTO s.t VALUES (2000, 'clock behind', now() - interval '1 hour')"


@WITH_IDS
def test_w8_a_row_stamped_by_a_clock_that_is_behind_is_found(pair: Pair, way: str) -> None:
    filled(pair)
    pair.source.execute(FRESH)
    run(pair, way)
    pair.source.execute(BEHIND)
    read_on(pair, way)


@pytest.mark.parametrize(
    ("way", "note"),
    [
        ("trust", "a row whose at lies below the watermark when it commits is missed"),
        ("overlap:10 minutes", "a row that commits more than 10 minutes behind the watermark is missed"),
        ("horizon", "a writer that gives at itself can pass below the watermark"),
    ],
)
def test_w8_the_other_policies_miss_a_clock_that_is_behind_until_a_scan_and_say_so(
    pair: Pair, way: str, note: str
) -> None:
    filled(pair)
    pair.source.execute(FRESH)
    run(pair, way)
    pair.source.execute(BEHIND)
    assert says(run(pair, way), note, "scan finds them")
    assert missing(pair) == {2000}
    read_on(pair, "scan")


# --- W9, W10: values that mean what somebody set ---------------------------------------------------------------------


def set_for(side: Database, setting: str) -> None:
    """Change a setting of every session to come."""
    side.execute(f"ALTER DATABASE {side.name} SET {setting}")


@pytest.mark.parametrize(("way", "found"), [("scan", True), ("overlap:2 hours", True), ("trust", False)])
def test_w9_the_hour_that_local_time_repeats_in_autumn_needs_scan_or_an_overlap(
    pair: Pair, way: str, found: bool
) -> None:
    set_for(pair.source, "TimeZone = 'America/New_York'")
    filled(pair, "id int PRIMARY KEY, v text, at timestamp")
    pair.source.execute("INSERT INTO s.t VALUES (1500, 'first pass', '2024-11-03 05:50:00Z'::timestamptz)")
    assert run(pair, way).watermark == "2024-11-03 01:50:00"
    pair.source.execute("INSERT INTO s.t VALUES (2000, 'second pass', '2024-11-03 06:10:00Z'::timestamptz)")
    report = run(pair, way)
    assert pair.source.value("SELECT at::text FROM s.t WHERE id = 2000") == "2024-11-03 01:10:00"
    assert report.staging_count <= FEW
    assert missing(pair) == (set() if found else {2000})
    assert says(report, "local time repeats an hour in autumn") is (way != "scan")


@pytest.mark.parametrize("type_", ["timestamptz", "timestamp"])
def test_w9_the_watermark_means_the_same_whatever_a_session_is_set_to(pair: Pair, type_: str) -> None:
    filled(pair, f"id int PRIMARY KEY, v text, at {type_}")
    settings = [("Asia/Seoul", "SQL, DMY"), ("America/New_York", "German"), ("UTC", "Postgres, MDY")]
    for number, (zone, style) in enumerate(settings):
        for side in (pair.source, pair.target):
            set_for(side, f"TimeZone = '{zone}'")
            set_for(side, f"DateStyle = '{style}'")
        pair.source.execute(f"INSERT INTO s.t VALUES ({2000 + number}, 'v', '2024-03-04 0{number}:00:00Z')")
        if not number:
            run(pair)
        else:
            assert read_on(pair).staging_count == 2
    expected = {"timestamptz": "2024-03-04 02:00:00+00", "timestamp": "2024-03-04 02:00:00"}
    assert run(pair).watermark == expected[type_]


def test_w9_local_time_ahead_of_utc_is_not_taken_for_the_future(pair: Pair) -> None:
    set_for(pair.source, "TimeZone = 'Asia/Seoul'")
    filled(pair, "id int PRIMARY KEY, v text, at timestamp DEFAULT now()")
    pair.source.execute(FRESH)
    report = run(pair)
    assert report.future_cursors == 0
    assert report.watermark == pair.source.value("SELECT max(at)::text FROM s.t")
    assert read_on(pair).staging_count == 1


@pytest.mark.parametrize("type_", ["char(8)", "int"])
def test_w10_the_last_day_is_read_again_whole(pair: Pair, type_: str) -> None:
    def day(text: str) -> str:
        return f"to_char({text}, 'YYYYMMDD')::text::{type_}"

    filled(pair, f"id int PRIMARY KEY, v text, at {type_}", "i, 'old', " + day("'2024-01-01'::date + i / 20"))
    run(pair, cursor_type="yyyymmdd")
    last = pair.source.value("SELECT count(*) FROM s.t WHERE at = (SELECT max(at) FROM s.t)")
    pair.source.execute("INSERT INTO s.t SELECT 2000, 'same day', max(at) FROM s.t")
    pair.source.execute("UPDATE s.t SET v = 'same day' WHERE at = (SELECT max(at) FROM s.t)")
    assert read_on(pair, cursor_type="yyyymmdd").staging_count == last + 1


def test_w10_an_overlap_of_days_counts_by_the_calendar(pair: Pair) -> None:
    filled(pair, "id int PRIMARY KEY, v text, at text", "i, 'old', to_char('2020-01-01'::date + i, 'YYYYMMDD')")
    pair.source.execute("INSERT INTO s.t VALUES (1500, 'v', '20240302')")
    run(pair, "overlap:2 days", cursor_type="yyyymmdd")
    pair.source.execute("INSERT INTO s.t VALUES (2000, 'v', '20240229'), (2001, 'v', '20240228')")
    assert run(pair, "overlap:2 days", cursor_type="yyyymmdd").staging_count == 2
    assert missing(pair) == {2001}


@pytest.mark.parametrize(("type_", "odd"), [("text", "2024-01-05"), ("text", "이십사년"), ("int", "20240132")])
def test_w10_a_value_that_is_no_day_is_refused_by_field_type_and_sample(pair: Pair, type_: str, odd: str) -> None:
    days = f"to_char('2024-01-01'::date + i / 20, 'YYYYMMDD')::{type_}"
    filled(pair, f"id int PRIMARY KEY, v text, at {type_}", f"i, 'old', {days}")
    pair.source.execute(f"INSERT INTO s.t VALUES (2000, 'odd', '{odd}')")
    assert f"column at is read as yyyymmdd and holds '{odd}'" in refused(pair, cursor_type="yyyymmdd", options=SHOWN)
    pair.source.execute("DELETE FROM s.t WHERE id = 2000")
    run(pair, cursor_type="yyyymmdd")
    pair.source.execute(f"INSERT INTO s.t VALUES (2000, 'odd', '{odd}'), (2001, 'v', '20240301')")
    assert f"column at is read as yyyymmdd and holds '{odd}'" in refused(pair, cursor_type="yyyymmdd", options=SHOWN)
    pair.source.execute("DELETE FROM s.t WHERE id = 2000")
    read_on(pair, cursor_type="yyyymmdd")


def test_w10_a_column_that_can_be_no_cursor_is_refused_by_field_type_and_sample(pair: Pair) -> None:
    filled(pair, "id int PRIMARY KEY, v jsonb, at text", "i, '{\"a\": 1}', 'x'")
    assert "column v of s.t is jsonb, which can't be a cursor (one value is '{\"a\": 1}')" in refused(
        pair, code=2, cursor="v", options=SHOWN
    )
    said = refused(pair, code=2, cursor_type="timestamptz", options=SHOWN)
    assert "column at of s.t is text, which is not read as timestamptz (one value is 'x')" in said


def linguistic(pair: Pair) -> str:
    """Return a collation of the source that puts 'a' before 'B', as most locales do, or "C" where there is none."""
    names = pair.source.rows(
        "SELECT quote_ident(collname) FROM pg_collation WHERE collprovider = 'c' AND collencoding = 6"
    )
    return next((name for (name,) in names if pair.source.value(f"SELECT 'a' COLLATE {name} < 'B'")), '"C"')


def test_w10_text_is_compared_by_its_bytes_whatever_the_locale_sorts_by(pair: Pair) -> None:
    filled(pair, f"id int PRIMARY KEY, v text, at text COLLATE {linguistic(pair)}", "i, 'old', 'A' || i")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v text, at text)")
    pair.source.execute("INSERT INTO s.t VALUES (1001, 'v', 'B')")
    assert run(pair).watermark == "B"
    for number, value in enumerate(["a", "z", "가", "힣", "😀"], 2001):
        pair.source.execute(f"INSERT INTO s.t VALUES ({number}, 'v', '{value}')")
        report = read_on(pair)
        assert (report.staging_count, report.watermark) == (2, value)
    pair.source.execute("INSERT INTO s.t VALUES (3000, 'v', 'C')")
    run(pair)
    assert missing(pair) == {3000}


# --- W11 to W14: changes that move no cursor -------------------------------------------------------------------------


@WITH_IDS
def test_w11_a_changed_key_leaves_no_copy_under_the_old_one_where_keys_are_swept(pair: Pair, way: str) -> None:
    filled(pair)
    run(pair, way)
    pair.source.execute("UPDATE s.t SET id = id + 4000 WHERE id <= 5")
    kept = run(pair, way)
    assert ids(pair.target) - ids(pair.source) == {1, 2, 3, 4, 5}
    assert says(kept, "rows that are gone from the source stay on the target")
    swept = read_on(pair, way, deletes="sweep")
    assert (swept.deleted, swept.keys_swept) == (5, 1000)


@BY_STAMP_OR_ID
def test_w12_deleted_rows_are_swept(pair: Pair, way: str) -> None:
    filled(pair)
    run(pair, way, deletes="sweep")
    pair.source.execute(f"DELETE FROM s.t WHERE id % 20 = 0; {FRESH}")
    report = read_on(pair, way, deletes="sweep")
    assert (report.deleted, report.inserted) == (50, 1)
    pair.source.execute("INSERT INTO s.t VALUES (20, 'back')")
    assert read_on(pair, way, deletes="sweep").inserted == 1


@WITH_IDS
def test_w12_a_source_that_was_truncated_is_stopped_by_the_delete_guard(pair: Pair, way: str) -> None:
    filled(pair)
    run(pair, way, deletes="sweep")
    pair.source.execute("TRUNCATE s.t")
    said = refused(pair, way, deletes="sweep")
    assert "1000 of 1000 rows (100 %) would be deleted because the source has no rows in scope" in said
    assert run(pair, way, deletes="keep").deleted == 0
    assert run(pair, way, deletes="sweep", max_delete="100%").deleted == 1000
    assert pair.target.image("s.t") == []
    pair.source.execute(FRESH)
    read_on(pair, way, deletes="sweep")


@WITH_IDS
def test_w12_a_table_truncated_and_filled_again_is_read_whole_and_swept(pair: Pair, way: str) -> None:
    filled(pair)
    run(pair, way, deletes="sweep")
    pair.source.execute(f"BEGIN; TRUNCATE s.t; INSERT INTO s.t SELECT {OLD} FROM generate_series(51, 1020) i; COMMIT")
    report = run(pair, way, deletes="sweep")
    assert (report.deleted, report.inserted) == (50, 20)
    assert pair.target.image("s.t") == pair.source.image("s.t")


@BY_STAMP_OR_ID
def test_w12_the_rows_of_a_detached_partition_are_swept_and_come_back_with_it(pair: Pair, way: str) -> None:
    partitioned(pair)
    pair.source.execute(ATTACH)
    run(pair, way, deletes="sweep")
    pair.source.execute(DETACH)
    assert read_on(pair, way, deletes="sweep").deleted == 50
    pair.source.execute(ATTACH)
    assert read_on(pair, way, deletes="sweep").inserted == 50


@WITH_IDS
def test_w13_a_row_that_leaves_the_condition_is_swept_or_stays_with_a_note(pair: Pair, way: str) -> None:
    filled(pair)
    scope = {"where": "v <> 'closed'"}
    run(pair, way, **scope)
    pair.source.execute(f"UPDATE s.t SET v = 'closed', at = now() WHERE id <= 5; {FRESH}")
    kept = run(pair, way, **scope)
    assert ids(pair.target) >= {1, 2, 3, 4, 5, 1500}
    assert says(kept, "rows that are gone from the source or no longer meet the condition stay on the target")
    swept = run(pair, way, deletes="sweep", **scope)
    assert swept.staging_count <= FEW
    assert swept.deleted == 5
    assert pair.target.image("s.t") == pair.source.image("(SELECT * FROM s.t WHERE v <> 'closed')")
    pair.source.execute("UPDATE s.t SET v = 'open again', at = now() WHERE id = 1")
    assert run(pair, way, deletes="sweep", **scope).inserted == 1


@WITH_IDS
def test_w14_a_back_fill_that_keeps_the_stamp_is_found(pair: Pair, way: str) -> None:
    filled(pair)
    pair.source.execute(FRESH)
    run(pair, way)
    pair.source.execute("UPDATE s.t SET v = 'filled' WHERE id BETWEEN 100 AND 120")
    assert read_on(pair, way).updated == 21


@pytest.mark.parametrize("way", ["trust", "overlap:1 hour", "horizon"])
def test_w14_the_other_policies_miss_a_back_fill_until_a_scan_and_say_so(pair: Pair, way: str) -> None:
    filled(pair)
    pair.source.execute(FRESH)
    run(pair, way)
    pair.source.execute("UPDATE s.t SET v = 'filled' WHERE id = 100")
    report = run(pair, way)
    assert report.updated == 0
    assert says(report, "change that leaves at as it was", "missed", "scan finds them")
    read_on(pair, "scan")


# --- W15 to W19: numbers, odd values, nothing at all -----------------------------------------------------------------

SEQUENCES = {
    "cycling": "MAXVALUE 1005 CYCLE",
    "backwards": "INCREMENT -1 MINVALUE -1000000 MAXVALUE 1000000 START 1000",
}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_w15_numbers_of_a_sequence_that_winds_are_found_by_scan_and_refused_to_an_overlap(
    pair: Pair, kind: str
) -> None:
    pair.source.execute(f"CREATE SCHEMA s; CREATE SEQUENCE s.winding {SEQUENCES[kind]}")
    pair.source.execute("CREATE TABLE s.t (id int PRIMARY KEY, n int DEFAULT nextval('s.winding'))")
    pair.source.execute("INSERT INTO s.t SELECT i FROM generate_series(1, 1000) i")
    said = refused(pair, "overlap:100", cursor="n")
    assert "sequence s.winding cycles or runs backwards, so new values lie below the watermark" in said
    run(pair, "scan", cursor="n")
    pair.source.execute("INSERT INTO s.t SELECT i FROM generate_series(1001, 1010) i")
    assert pair.source.value("SELECT min(n) FROM s.t WHERE id > 1000") < 1000
    assert read_on(pair, "scan", cursor="n").inserted == 10


@pytest.mark.parametrize("reset", ["ALTER SEQUENCE s.t_n_seq RESTART", "SELECT setval('s.t_n_seq', 1)"])
def test_w15_numbers_of_a_sequence_that_was_reset_are_found_by_scan(pair: Pair, reset: str) -> None:
    filled(pair, "id int PRIMARY KEY, n bigserial", "i")
    run(pair, "scan", cursor="n")
    pair.source.execute(f"{reset}; INSERT INTO s.t SELECT i FROM generate_series(1001, 1010) i")
    assert read_on(pair, "scan", cursor="n").late == 10


FINE = {
    # type: a value, and one step below and above it that a float or a JSON number could not tell apart
    "timestamptz": ("2024-05-06 07:08:09.123456+00", "2024-05-06 07:08:09.123455+00", "2024-05-06 07:08:09.123457+00"),
    "bigint": ("9007199254740993", "9007199254740992", "9007199254740994"),
    "numeric": (f"1{'0' * 37}.5", f"1{'0' * 37}.4", f"1{'0' * 37}.6"),
}


@pytest.mark.parametrize("type_", FINE)
def test_w17_a_watermark_keeps_every_digit(pair: Pair, type_: str) -> None:
    value, below, above = FINE[type_]
    old = "'2020-01-01'::timestamp + i * interval '1 day'" if type_.startswith("time") else "i"
    filled(pair, f"id int PRIMARY KEY, v text, at {type_}", f"i, 'old', {old}")
    pair.source.execute(f"INSERT INTO s.t VALUES (1001, 'v', '{value}')")
    assert run(pair).watermark == value
    pair.source.execute(f"INSERT INTO s.t VALUES (1002, 'v', '{below}'), (1003, 'v', '{above}')")
    report = run(pair)
    assert (report.staging_count, report.watermark) == (2, above)
    assert missing(pair) == {1002}


@pytest.mark.parametrize(
    ("type_", "way"),
    [
        *((type_, "overlap:2 days") for type_ in ("timestamptz", "timestamp", "date")),
        ("timestamptz", "horizon"),
    ],
)
def test_w18_infinite_values_are_copied_and_move_no_watermark(pair: Pair, type_: str, way: str) -> None:
    filled(pair, f"id int PRIMARY KEY, v text, at {type_} DEFAULT now()", "i, 'old', '2020-01-01'::date + i")
    pair.source.execute(
        "INSERT INTO s.t VALUES (1001, 'v', 'infinity'), (1002, 'v', '-infinity'), (1003, 'v', '0044-03-15 BC')"
    )
    first = run(pair, way)
    assert str(first.watermark).startswith("2022-09-27")
    assert first.future_cursors == 1
    pair.source.execute(
        "UPDATE s.t SET v = 'for ever' WHERE id = 1001; INSERT INTO s.t VALUES (1004, 'v', '2022-12-31')"
    )
    report = read_on(pair, way)
    assert (report.updated, report.inserted, report.future_cursors) == (1, 1, 1)
    assert str(report.watermark).startswith("2022-12-31")


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("timestamptz", "-infinity"),
        ("timestamptz", "4714-11-24 00:00:00Z BC"),
        ("date", "4714-11-24 BC"),
    ],
)
def test_w18_an_overlap_reaches_behind_values_before_christ(pair: Pair, type_: str, value: str) -> None:
    filled(pair, f"id int PRIMARY KEY, v text, at {type_}", "i, 'old', '-infinity'")
    pair.source.execute(f"UPDATE s.t SET at = '{value}' WHERE id = 1000")
    run(pair, "overlap:2 days")
    pair.source.execute("INSERT INTO s.t VALUES (2000, 'new', '2024-01-01')")
    run(pair, "overlap:2 days")
    assert pair.target.image("s.t") == pair.source.image("s.t")
    assert read_on(pair, "overlap:2 days").staging_count == 1


def test_w18_an_overlap_reaches_behind_the_lowest_number_of_a_type(pair: Pair) -> None:
    filled(pair, "id int PRIMARY KEY, v text, at bigint", f"i, 'old', {-(2**63)}")
    run(pair, "overlap:1000")
    pair.source.execute("INSERT INTO s.t VALUES (2000, 'new', 1001)")
    run(pair, "overlap:1000")
    assert pair.target.image("s.t") == pair.source.image("s.t")
    assert read_on(pair, "overlap:1000").staging_count == 1


def test_w18_numbers_that_are_none_move_no_watermark(pair: Pair) -> None:
    filled(pair, "id int PRIMARY KEY, v text, at numeric", "i, 'old', i")
    pair.source.execute("INSERT INTO s.t VALUES (1001, 'v', 'NaN'), (1002, 'v', 'Infinity'), (1003, 'v', '-Infinity')")
    assert run(pair).watermark == "1000"
    pair.source.execute("UPDATE s.t SET v = 'again' WHERE id IN (1001, 1002); INSERT INTO s.t VALUES (1004, 'v', 1001)")
    report = read_on(pair)
    assert (report.updated, report.inserted, report.watermark, report.future_cursors) == (2, 1, "1001", 2)


@pytest.mark.parametrize("way", ["trust", "scan", "overlap:1 second", "horizon"])
def test_w19_a_run_without_rows_leaves_the_watermark_alone(pair: Pair, way: str) -> None:
    filled(pair)
    reached = run(pair, way).watermark
    pair.source.execute("DELETE FROM s.t WHERE id > 900")
    for _ in range(2):
        report = run(pair, way)
        assert (report.staging_count, report.watermark) == (0, reached)
    pair.source.execute(f"INSERT INTO s.t VALUES (2000, 'same', '{reached}'); {FRESH}")
    report = run(pair, way)
    assert (report.staging_count, report.inserted) == (2, 2)
    assert missing(pair) == set()


@pytest.mark.parametrize("way", ["trust", "horizon", "xmin", "append"])
def test_w19_a_source_without_rows_sets_no_watermark_and_its_first_row_is_found(pair: Pair, way: str) -> None:
    pair.source.execute(f"CREATE SCHEMA s; CREATE TABLE s.t ({COLUMNS})")
    for _ in range(2):
        report = run(pair, way)
        assert (report.staging_count, report.watermark) == (0, None)
    pair.source.execute(FRESH)
    assert run(pair, way).inserted == 1
    assert read_on(pair, way).inserted == 0
