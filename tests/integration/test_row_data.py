"""What a row holds is told to nobody who did not ask for it: not by errors, events, reports, history or tracebacks."""

from __future__ import annotations

import io
import pickle
import traceback
from dataclasses import dataclass, field
from typing import Any

import pytest
from servers import Database, Pair

from pgsluice import DatabaseOperations, DataCopyEngine, sync
from pgsluice.errors import PgsluiceError
from pgsluice.job import Lane, Options, StagingKind
from pgsluice.sinks.jsonlog import JsonLog
from pgsluice.sinks.recorder import Recorder

#: A value that tries to get out: quotes to close the message's own, a line break to end it, what the log looks like.
HOSTILE = 'SECRET"\nLOCATION:  SECRET, SECRET.c:1\nDETAIL:  "SECRET'
GOOD = "CREATE TABLE s.t (id int PRIMARY KEY, email text, n int DEFAULT 0)"


@dataclass(frozen=True)
class Case:
    """A source and a target that do not go together, and how they are copied."""

    source: str = GOOD
    target: str = GOOD
    how: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    value: str = HOSTILE


def raising(code: str) -> str:
    return (
        f"{GOOD}; CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" RAISE EXCEPTION '% is not wanted', NEW.email USING ERRCODE = '{code}', DETAIL = NEW.email, HINT = NEW.email;"
        f" END $$; CREATE TRIGGER t BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.f()"
    )


SPEAKING = (
    f"{GOOD}; CREATE FUNCTION s.f(v text) RETURNS bool LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION USING MESSAGE = v, ERRCODE = '23514'; END $$"
)
TARGET = {
    "unique": Case(
        target=f"{GOOD}; CREATE UNIQUE INDEX u ON s.t (email); INSERT INTO s.t VALUES (9, %(value)s)",
        how={"mode": "upsert"},
    ),
    "unique at the commit": Case(
        target=f"{GOOD}; ALTER TABLE s.t ADD UNIQUE (email) DEFERRABLE INITIALLY DEFERRED; INSERT INTO s.t VALUES (9, %(value)s)",
        how={"mode": "upsert"},
    ),
    "check": Case(target=f"{GOOD}; ALTER TABLE s.t ADD CHECK (length(email) < 3)"),
    "not null": Case(target=f"{GOOD}; ALTER TABLE s.t ALTER n SET NOT NULL"),
    "domain": Case(
        target=f"CREATE DOMAIN s.d AS text CHECK (length(VALUE) < 3); {GOOD}; ALTER TABLE s.t ALTER email TYPE s.d",
        options={"allow_narrowing": True},
    ),
    "narrow": Case(target="CREATE TABLE s.t (id int PRIMARY KEY, email int, n int)", options={"allow_narrowing": True}),
    "regclass": Case(
        target="CREATE TABLE s.t (id int PRIMARY KEY, email regclass, n int)", options={"allow_narrowing": True}
    ),
    "tsquery": Case(
        target="CREATE TABLE s.t (id int PRIMARY KEY, email tsquery, n int)", options={"allow_narrowing": True}
    ),
    "trigger": Case(target=raising("P0001")),
    "trigger with another's code": Case(target=raising("23514")),
    "trigger with a code of names": Case(target=raising("42501")),
}
SOURCE = {
    "cast": Case(how={"where": "email::int > 0", "mode": "upsert"}),
    "regclass": Case(how={"where": "email::regclass::oid > 0", "mode": "upsert"}, value='"SECRET"'),
    "json": Case(how={"where": "(email::json) IS NOT NULL", "mode": "upsert"}),
    "function": Case(source=SPEAKING, how={"where": "s.f(email)", "mode": "upsert"}),
}
GATE = {
    "double key": Case(how={"key": ["email"]}),
    "cursor of another kind": Case(how={"mode": "incremental", "cursor": "email", "cursor_type": "yyyymmdd", "late_rows": "trust"}),
    "cursor that can't be one": Case(
        source="CREATE TABLE s.t (id int PRIMARY KEY, email jsonb, n int)",
        target="CREATE TABLE s.t (id int PRIMARY KEY, email jsonb, n int)",
        how={"mode": "incremental", "cursor": "email", "late_rows": "trust"},
        value='"SECRET"',
    ),
}  # fmt: skip


def prepared(pair: Pair, case: Case) -> None:
    pair.source.execute(f"CREATE SCHEMA s; {case.source}")
    for number in (1, 2):
        pair.source.execute("INSERT INTO s.t (id, email, n) VALUES (%s, %s, NULL)", (number, case.value))
    quoted = HOSTILE.replace("'", "''")
    pair.target.execute("CREATE SCHEMA s; " + case.target.replace("%(value)s", f"'{quoted}'"))


def told(pair: Pair, case: Case, **more: Any) -> str:
    """Return whatever a run tells anybody."""
    recorder, log = Recorder(), io.StringIO()
    options = Options(retries=1, **case.options, **more)
    said = ""
    try:
        report = sync(
            pair.source.dsn, pair.target.dsn, "s.t", options=options, sinks=(recorder, JsonLog(log)), **case.how
        )
        assert [table.status for table in report.tables] == ["failed"], report
        said += str(report) + str(report.to_dict())
    except PgsluiceError as error:
        said += whole(error)
    return said + repr(recorder.events) + log.getvalue() + history(pair.target)


def history(target: Database) -> str:
    if not target.value("SELECT to_regclass('pgsluice.run_table') IS NOT NULL"):
        return ""
    found = target.value(
        "SELECT coalesce(string_agg(r::text || s::text, ''), '') FROM pgsluice.run_table r, pgsluice.run s"
    )
    return str(found) + pair_status(target)


def pair_status(target: Database) -> str:
    return "".join(str(row) for row in target.rows("SELECT report FROM pgsluice.run_table"))


def whole(error: BaseException) -> str:
    """Return all that a program can print of an error: its chain, frames left out, and what it is pickled to."""
    chain, found = [], [error]
    while found:
        each = found.pop()
        chain.append(f"{each} {each!r} {vars(each)}")
        found += [other for other in (each.__cause__, each.__context__) if other is not None]
    return "".join([*chain, *traceback.format_exception(error), repr(pickle.dumps(error))])


@pytest.mark.parametrize("staging", [StagingKind.TEMPORARY, StagingKind.UNLOGGED])
@pytest.mark.parametrize("name", TARGET)
def test_what_the_target_says_of_a_row_is_told_to_whoever_asks_and_nobody_else(
    pair: Pair, name: str, staging: StagingKind
) -> None:
    prepared(pair, TARGET[name])
    assert "SECRET" not in told(pair, TARGET[name], staging=staging)
    if name != "not null":
        assert "SECRET" in told(pair, TARGET[name], staging=staging, show_row_data=True)


@pytest.mark.parametrize(
    ("value", "column", "shown"),
    [
        (1307, "dt date GENERATED ALWAYS AS (make_date(1985, n / 100, n % 100)) STORED", "1985-13-07"),
        (2513, "dt time GENERATED ALWAYS AS (make_time(n / 100, n % 100, 7)) STORED", "25:13:07"),
        (198500000, "c text GENERATED ALWAYS AS (chr(n)) STORED", "198500000"),
    ],
    ids=["date", "time", "character"],
)
def test_what_is_told_of_a_row_without_quotes_is_left_out_too(pair: Pair, value: int, column: str, shown: str) -> None:
    pair.source.execute(f"CREATE SCHEMA s; {GOOD}; INSERT INTO s.t VALUES (1, 'a', {value})")
    pair.target.execute(f"CREATE SCHEMA s; {GOOD}; ALTER TABLE s.t ADD {column}")
    done = pair.pgsluice("sync", "--table", "s.t")
    assert done.code == 1
    assert shown not in done.out + done.err + history(pair.target)
    assert shown in pair.pgsluice("sync", "--table", "s.t", "--show-row-data").err


@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
@pytest.mark.parametrize("name", SOURCE)
def test_what_the_source_says_of_a_row_is_told_to_whoever_asks_and_nobody_else(
    pair: Pair, name: str, lane: Lane
) -> None:
    prepared(pair, SOURCE[name])
    assert "SECRET" not in told(pair, SOURCE[name], lane=lane)
    assert "SECRET" in told(pair, SOURCE[name], lane=lane, show_row_data=True)


@pytest.mark.parametrize("name", GATE)
def test_keys_and_cursors_are_row_data(pair: Pair, name: str) -> None:
    prepared(pair, GATE[name])
    said = told(pair, GATE[name])
    assert "SECRET" not in said
    assert "show-row-data" in said or name == "cursor that can't be one"
    assert "SECRET" in told(pair, GATE[name], show_row_data=True)


@pytest.mark.parametrize("name", ["narrow", "unique at the commit", "trigger"])
def test_no_error_that_a_program_catches_holds_a_row_anywhere_in_its_chain(pair: Pair, name: str) -> None:
    case = TARGET[name]
    prepared(pair, case)
    engine = DataCopyEngine(
        DatabaseOperations(pair.source.dsn, pair.target.dsn), options=Options(retries=0, **case.options)
    )
    with pytest.raises(PgsluiceError) as raised:
        engine.copy_with_staging_table("s.t", "s.t", ["id"])
    assert raised.value.sqlstate
    assert "SECRET" not in whole(raised.value)


def test_the_command_line_tells_no_row_unless_it_is_asked_to(pair: Pair) -> None:
    prepared(pair, SOURCE["cast"])
    how = ["--table", "s.t", "--where", "email::int > 0", "--mode", "upsert", "--lane", "psql"]
    for shape in ([], ["--json", "--log-format", "json"]):
        done = pair.pgsluice("sync", *how, *shape)
        assert done.code == 1
        assert "SECRET" not in done.out + done.err
    assert "--show-row-data" in done.out
    assert "SECRET" not in pair.pgsluice("status").out
    assert "SECRET" in pair.pgsluice("sync", *how, "--show-row-data").out
