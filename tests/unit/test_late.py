"""How rows are found that commit late: what the database proves about a cursor, what is refused, what it costs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from handmade import AT, ID, NOTE, ORDERS, SOURCE, facts, stamps, table

from pgsluice.cursors import fit
from pgsluice.facts import Column, Facts, Horizon, Leaf, Progress, Stamps, TableInfo
from pgsluice.job import Mode, Options, SyncJob
from pgsluice.late import Late, choose
from pgsluice.policies import LatePolicy, LateRows

LOCAL = Column("updated_at", "timestamp without time zone", "timestamp without time zone")
DAY = Column("day", "date", "date")
HORIZON = Horizon("2024-06-01 11:59:00+00")
SETS = "BEGIN NEW.updated_at := now(); RETURN NEW; END"
SMALL = Options(scan_limit=1 << 20)  # smaller than the tables in here: nothing is scanned unasked


def source(cursor: Column = AT, **changes: Any) -> TableInfo:
    return dataclasses.replace(table(columns=(ID, NOTE, cursor)), **changes)


def known(
    info: TableInfo | None = None, seen: Stamps | None = None, horizon: Horizon | None = HORIZON, **server: Any
) -> Facts:
    progress = Progress(horizon=horizon, stamps=seen or stamps(SETS, index="orders_at"))
    return facts(info or source(), source=dataclasses.replace(SOURCE, **server), progress=progress)


def chosen(what: Facts, late_rows: str = "auto", **more: Any) -> Late | str:
    options = more.pop("options", SMALL)
    field = what.source_table.columns[-1].name
    job = SyncJob(ORDERS, ORDERS, mode=Mode.INCREMENTAL, cursor=field, late_rows=LateRows.parse(late_rows), **more)
    return choose(job, what, options, fit(what.source_table, field, None))


def late(what: Facts, late_rows: str = "auto", **more: Any) -> Late:
    found = chosen(what, late_rows, **more)
    assert isinstance(found, Late), found
    return found


def refused(what: Facts, late_rows: str = "auto", **more: Any) -> str:
    found = chosen(what, late_rows, **more)
    assert isinstance(found, str), found
    return found


# --- what sets the cursor --------------------------------------------------------------------------------------------


def proof(column: Column, seen: Stamps) -> str:
    """Return what is held of a column: "trigger" and "default" by what follows from them, or "" where refused."""
    what = known(source(column), seen)
    asked = chosen(what, "horizon")
    if isinstance(asked, str):
        zone = " in UTC" if column.type == LOCAL.type else ""
        assert asked == (
            f"Late rows can't be found by horizon: nothing in the database sets {column.name} by its clock"
            f"{zone} (a default or a BEFORE trigger)."
        )
        return ""
    unasked = chosen(what, "auto")
    overridden = f"a writer that gives {column.name} itself can pass below the watermark" in asked.notes[0]
    if isinstance(unasked, str):
        assert "only a default sets the column, which a writer can override" in unasked
        assert overridden
        return "default"
    assert unasked.rows == LateRows(LatePolicy.HORIZON)
    assert not overridden
    return "trigger"


@pytest.mark.parametrize(
    ("column", "default", "proven"),
    [
        (AT, "now()", "default"),
        (AT, "CURRENT_TIMESTAMP", "default"),
        (AT, "transaction_timestamp()", "default"),
        (AT, "clock_timestamp()", "default"),
        (AT, None, ""),
        (AT, "statement_timestamp()", ""),  # in a procedure, the time of the CALL
        (AT, "'2024-01-01 00:00:00+00'::timestamp with time zone", ""),
        (AT, "(now() + '1 day'::interval)", ""),
        (AT, "(now() AT TIME ZONE 'utc'::text)", ""),  # read back in another zone
        (LOCAL, "(now() AT TIME ZONE 'utc'::text)", "default"),
        (LOCAL, "(CURRENT_TIMESTAMP AT TIME ZONE 'UTC'::text)", "default"),
        (LOCAL, "timezone('utc'::text, now())", "default"),
        (LOCAL, "timezone('Etc/UTC'::text, clock_timestamp())", "default"),
        (LOCAL, "now()", ""),  # in whatever zone its writer lives
        (LOCAL, "LOCALTIMESTAMP", ""),
        (LOCAL, "(now() AT TIME ZONE 'Asia/Seoul'::text)", ""),
    ],
)
def test_a_default_of_the_clock_bounds_stamps_and_proves_nothing(
    column: Column, default: str | None, proven: str
) -> None:
    assert proof(dataclasses.replace(column, default=default), stamps()) == proven


@pytest.mark.parametrize(
    "body",
    [
        SETS,
        "begin new.updated_at = clock_timestamp(); return new; end",
        'BEGIN NEW."updated_at" := CURRENT_TIMESTAMP ; RETURN NEW; END',
        "BEGIN\n  NEW.updated_at\n    := (transaction_timestamp());\n  RETURN NEW;\nEND",
        "BEGIN -- was: NEW.updated_at := NEW.sent_at;\n NEW.updated_at := now(); RETURN NEW; END",
        "BEGIN /* IF it is wanted: NEW.updated_at := NULL; */ NEW.updated_at := now(); RETURN NEW; END",
        "BEGIN NEW.updated_at_day := NEW.day; NEW.updated_at := now(); RETURN NEW; END",
    ],
)
def test_a_trigger_that_always_sets_the_clock_proves_it(body: str) -> None:
    assert proof(AT, stamps(body)) == "trigger"


@pytest.mark.parametrize(
    "body",
    [
        "BEGIN -- NEW.updated_at := now();\n RETURN NEW; END",
        "BEGIN /* NEW.updated_at :=\n now(); */ RETURN NEW; END",
        "BEGIN IF NEW.updated_at IS NULL THEN NEW.updated_at := now(); END IF; RETURN NEW; END",
        "IF BEGIN NEW.updated_at := now(); RETURN NEW; END",  # as a trigger with WHEN is told
        "BEGIN CASE NEW.kind WHEN 1 THEN NEW.updated_at := now(); END CASE; RETURN NEW; END",
        "BEGIN PERFORM 1; NEW.updated_at := now(); EXCEPTION WHEN others THEN RETURN NEW; END",
        "BEGIN NEW.updated_at := now(); NEW.updated_at := NEW.sent_at; RETURN NEW; END",
        "BEGIN NEW.updated_at := statement_timestamp(); RETURN NEW; END",
        "BEGIN NEW.updated_at := coalesce(NEW.updated_at, now()); RETURN NEW; END",
        "BEGIN NEW.updated_at := now() - interval '1 day'; RETURN NEW; END",
        "BEGIN NEW.last_updated_at := now(); RETURN NEW; END",
        "BEGIN OLD.updated_at := now(); RETURN NEW; END",
        "updated_at",  # as a trigger in a language that can't be read is told
    ],
)
def test_a_trigger_that_may_leave_the_column_to_its_writer_proves_nothing(body: str) -> None:
    assert proof(AT, stamps(body)) == ""


@pytest.mark.parametrize(
    ("seen", "proven"),
    [
        (stamps((True, False, SETS), (False, True, SETS.replace("now", "clock_timestamp"))), "trigger"),
        (stamps((True, False, SETS)), "default"),  # an update can set it to anything
        (stamps((False, True, SETS)), "default"),
        (stamps(SETS, "BEGIN NEW.note := lower(NEW.note); RETURN NEW; END"), "trigger"),
        (stamps(SETS, "BEGIN NEW.updated_at := NEW.sent_at; RETURN NEW; END"), "default"),
        (stamps(SETS, "updated_at"), "default"),
    ],
)
def test_all_triggers_that_touch_the_column_are_looked_at_together(seen: Stamps, proven: str) -> None:
    assert proof(AT, seen) == proven


def test_a_trigger_stamps_local_time_in_utc_or_not_at_all() -> None:
    assert proof(LOCAL, stamps("BEGIN NEW.updated_at := now() AT TIME ZONE 'UTC'; RETURN NEW; END")) == "trigger"
    assert proof(LOCAL, stamps(SETS)) == ""


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("updated_at", "Updated_At"),
        ("Moved at", '"Moved at"'),
        ("변경일시", "변경일시"),
        ("100%", '"100%"'),
        ('a"b', '"a""b"'),
    ],
)
def test_a_column_of_any_name_is_found_in_a_body(name: str, written: str) -> None:
    body = f"BEGIN NEW.{written} := now(); RETURN NEW; END"
    assert proof(dataclasses.replace(AT, name=name), stamps(body)) == "trigger"


@pytest.mark.parametrize(
    "body",
    [
        # comments nest
        "BEGIN /* /* */ NEW.updated_at := now(); */ RETURN NEW; END",
        # what looks like a comment in a text hides what follows
        "BEGIN NEW.updated_at := now(); RAISE DEBUG '--'; NEW.updated_at := NEW.sent_at; RETURN NEW; END",
        "BEGIN NEW.updated_at := now(); NEW.a := '/*'; NEW.updated_at := NEW.sent_at; NEW.b := '*/'; RETURN NEW; END",
        # a text is no assignment
        "BEGIN RAISE DEBUG 'NEW.updated_at := now();'; RETURN NEW; END",
        # there are other ways to assign
        "BEGIN NEW.updated_at := now(); SELECT NEW.sent_at INTO NEW.updated_at; RETURN NEW; END",
        "BEGIN NEW.updated_at := now(); NEW := jsonb_populate_record(NEW, NEW.patch); RETURN NEW; END",
        # another column
        'BEGIN NEW."Updated_At" := now(); RETURN NEW; END',
    ],
)
def test_what_only_looks_like_a_stamp_of_the_clock_proves_nothing(body: str) -> None:
    assert proof(AT, stamps(body)) != "trigger"


def test_a_trigger_that_replaces_the_whole_row_touches_the_column_too() -> None:
    replaces = "BEGIN NEW := jsonb_populate_record(NEW, NEW.patch); RETURN NEW; END"
    assert proof(AT, stamps(SETS, replaces)) != "trigger"


# --- what stands in the way ------------------------------------------------------------------------------------------

VIEW = source(relkind="v")
FOREIGN_PART = source(relkind="p", leaves=(Leaf(1), Leaf(2, heap=False)))


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (known(VIEW), "what sets updated_at can't be seen (a view)"),
        (known(source(relkind="f")), "what sets updated_at can't be seen (a foreign table)"),
        (known(source(relkind="q", ref=ORDERS)), "what sets updated_at can't be seen (a query)"),
        (
            known(FOREIGN_PART),
            "what sets updated_at can't be seen (a part of it is a foreign table or kept by another access method)",
        ),
        (known(source(DAY)), "it needs a timestamp that the database sets, and day is date"),
        (known(source(ID)), "it needs a timestamp that the database sets, and id is bigint"),
        (
            known(source(ID), stamps(sequence="sales.orders_id_seq")),
            "id is filled from sequence sales.orders_id_seq, whose numbers carry no time",
        ),
        (known(in_recovery=True), "the source is a standby, whose writers are elsewhere"),
        (
            known(seen=stamps(SETS, subscribed=True)),
            "rows of sales.orders arrive by logical replication, stamped elsewhere",
        ),
        (
            known(horizon=Horizon(None, "the role sees no other session", permitted=False)),
            "role reader can't see other sessions: GRANT pg_read_all_stats TO reader;",
        ),
        (
            known(horizon=None, role="Load-er"),
            'role "Load-er" can\'t see other sessions: GRANT pg_read_all_stats TO "Load-er";',
        ),
        (
            known(source(relkind="m")),
            "what sets updated_at can't be seen (a materialized view)",
        ),
    ],
)
def test_the_horizon_is_refused_where_stamps_may_pass_below_it(what: Facts, reason: str) -> None:
    assert refused(what, "horizon") == f"Late rows can't be found by horizon: {reason}."


def test_a_horizon_that_can_not_be_known_now_is_no_obstacle() -> None:
    """The watermark stays where it is; the next run may know."""
    unknown = Horizon(None, "a prepared transaction is open")
    assert late(known(horizon=unknown), "horizon").rows == LateRows(LatePolicy.HORIZON)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (known(VIEW), "sales.orders does not show which transactions wrote its rows (a view)"),
        (
            known(FOREIGN_PART),
            (
                "sales.orders does not show which transactions wrote its rows"
                " (a part of it is a foreign table or kept by another access method)"
            ),
        ),
        (
            known(system=None, role="Load-er"),
            (
                "the source hides its system identifier, so its transaction ids can't be told from those of a server"
                " restored in its place: GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint(),"
                ' pg_control_recovery() TO "Load-er";'
            ),
        ),
    ],
)
def test_a_scan_is_refused_where_transactions_do_not_tell_rows_apart(what: Facts, reason: str) -> None:
    assert refused(what, "scan") == f"Late rows can't be found by scan: {reason}."


def test_a_materialized_view_can_be_scanned() -> None:
    assert late(known(source(relkind="m")), "scan").rows == LateRows(LatePolicy.SCAN)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (known(source(NOTE)), "there is no arithmetic on text"),
        (known(source(Column("u", "uuid", "uuid"))), "there is no arithmetic on uuid"),
        (
            known(source(ID), stamps(sequence="s.q", winding=True)),
            "sequence s.q cycles or runs backwards, so new values lie below the watermark",
        ),
    ],
)
def test_an_overlap_is_refused_where_it_means_nothing(what: Facts, reason: str) -> None:
    assert refused(what, "overlap:1000") == f"Late rows can't be found by overlap: {reason}."


# --- auto ------------------------------------------------------------------------------------------------------------


def test_a_table_up_to_the_limit_is_scanned() -> None:
    what = known(seen=stamps())
    limit = what.source_table.heap_bytes
    assert late(what, options=Options(scan_limit=limit)) == Late(
        LateRows(LatePolicy.SCAN), "reads 100.0 MiB of heap a run, transfers only new and late rows"
    )
    assert isinstance(chosen(what, options=Options(scan_limit=limit - 1)), str)


def test_a_span_lets_a_table_of_any_size_be_scanned_and_says_what_is_missed() -> None:
    found = late(known(seen=stamps()), late_within="7 days")
    assert found.rows == LateRows(LatePolicy.SCAN)
    assert found.notes == (
        "late rows are found up to 7 days behind the watermark, not beyond; scan finds them, reading 100.0 MiB a run",
    )


def test_a_large_table_that_a_trigger_stamps_is_held_to_the_horizon() -> None:
    assert late(known()) == Late(
        LateRows(LatePolicy.HORIZON),
        "100.0 MiB of heap is more than is scanned unasked (1.0 MiB); reads on from a watermark that no open"
        " transaction can undercut (by index orders_at)",
        (
            (
                "not guaranteed: a change that leaves updated_at as it was is missed; scan finds them, reading"
                " 100.0 MiB a run"
            ),
        ),
    )


def test_what_is_chosen_where_the_server_hides_its_identity_says_why() -> None:
    found = late(known(system=None), options=Options())
    assert found.rows == LateRows(LatePolicy.HORIZON)
    assert found.reason.startswith("the source hides its system identifier, so its transaction ids")
    assert found.notes == ("not guaranteed: a change that leaves updated_at as it was is missed",)


@pytest.mark.parametrize(
    ("what", "choices"),
    [
        (
            known(source(dataclasses.replace(AT, default="now()")), stamps(index="orders_at")),
            """\
Rows of sales.orders that commit late need a choice of yours, --late-rows:
    scan: reads 100.0 MiB of heap a run, transfers only new and late rows; more than the 1.0 MiB that is scanned unasked.
    scan with --late-within 7d: only rows so far behind the watermark (by index orders_at).
    horizon: reads on from a watermark that no open transaction can undercut (by index orders_at); only a default sets the column, which a writer can override.
    overlap:2h (a span you vouch for): reads again what you vouch for (by index orders_at); misses what commits later than that.
    trust: reads on from the watermark (by index orders_at); misses every row that commits late.""",
        ),
        (
            known(source(ID), stamps(sequence="s.q", winding=True)),
            """\
Rows of sales.orders that commit late need a choice of yours, --late-rows:
    scan: reads 100.0 MiB of heap a run, transfers only new and late rows; more than the 1.0 MiB that is scanned unasked.
    scan with --late-within 100000: only rows so far behind the watermark (no index begins with id, so all is read anyway).
    horizon: not here: id is filled from sequence s.q, whose numbers carry no time.
    overlap:1000 (a span you vouch for): not here: sequence s.q cycles or runs backwards, so new values lie below the watermark.
    trust: reads on from the watermark (no index begins with id, so all is read anyway); misses every row that commits late.""",
        ),
        (
            known(dataclasses.replace(VIEW, columns=(ID, NOTE))),
            """\
Rows of sales.orders that commit late need a choice of yours, --late-rows:
    scan: not here: sales.orders does not show which transactions wrote its rows (a view).
    horizon: not here: it needs a timestamp that the database sets, and note is text.
    overlap (a span you vouch for): not here: there is no arithmetic on text.
    trust: reads on from the watermark (at the cost of a view); misses every row that commits late.""",
        ),
    ],
)
def test_where_nothing_is_proven_every_way_is_told_with_its_cost(what: Facts, choices: str) -> None:
    assert refused(what) == choices


# --- what is not found -----------------------------------------------------------------------------------------------

SCAN_HELPS = "; scan finds them, reading 100.0 MiB a run"


@pytest.mark.parametrize(
    ("what", "late_rows", "notes"),
    [
        (known(), "scan", ()),
        (
            known(),
            "trust",
            (
                (
                    "not guaranteed: a row whose updated_at lies below the watermark when it commits is missed, and so is"
                    f" a change that leaves updated_at as it was{SCAN_HELPS}"
                ),
            ),
        ),
        (
            known(VIEW),
            "trust",
            (
                (
                    "not guaranteed: a row whose updated_at lies below the watermark when it commits is missed, and so is"
                    " a change that leaves updated_at as it was"
                ),
            ),
        ),
        (
            known(source(LOCAL)),
            "overlap:2h",
            (
                (
                    "not guaranteed: a row that commits more than 2h behind the watermark is missed, and so is a change"
                    f" that leaves updated_at as it was{SCAN_HELPS}"
                ),
                (
                    "updated_at has no time zone: local time repeats an hour in autumn, so let the overlap be longer than"
                    " that"
                ),
            ),
        ),
        (known(source(LOCAL)), "scan", ()),
        (
            known(source(dataclasses.replace(AT, default="now()")), stamps()),
            "horizon",
            (
                (
                    "not guaranteed: a change that leaves updated_at as it was is missed; a writer that gives updated_at"
                    f" itself can pass below the watermark{SCAN_HELPS}"
                ),
            ),
        ),
    ],
)
def test_what_may_be_missed_is_said(what: Facts, late_rows: str, notes: tuple[str, ...]) -> None:
    found = late(what, late_rows)
    assert found.rows == LateRows.parse(late_rows)
    assert found.reason.startswith("as asked; reads ")
    assert found.notes == notes
