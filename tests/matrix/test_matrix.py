"""Every value of every type survives between every two supported versions, there and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from fidelitypage import ABSENT, DIFFERENT, EQUAL, REFUSED, Seen
from ladentable import lay, portrait, rows
from majors import PAIRINGS, TARGETS, here
from servers import Database, database
from typelist import FAMILIES, Family
from typetables import Table, create_types, fill, images, present, tables, writers

from pgsluice import CopyFormat, Lane, MaxDelete, Options, Strategy, TableReport, Verify, sync
from pgsluice import verify as compare
from pgsluice.embedded import Binaries, Cluster
from pgsluice.endpoint import Endpoint
from pgsluice.job import Selection
from pgsluice.verification import verify

pytestmark = pytest.mark.matrix

_ALL = MaxDelete.parse("100%")


class Server:
    """A server of one major, and the database on it that is read."""

    def __init__(self, binaries: Binaries, open_things: ExitStack) -> None:
        self.binaries = binaries
        self._stack = open_things

    @cached_property
    def cluster(self) -> Cluster:
        return self._stack.enter_context(Cluster(self.binaries.major, pg_bin=self.binaries.bin))

    @cached_property
    def families(self) -> list[Family]:
        """What it can hold."""
        return [each for each in FAMILIES if each.name in self.present and each.since <= self.binaries.major]

    @cached_property
    def present(self) -> set[str]:
        """What it has the types of."""
        with database(self.cluster) as probe:
            return present(probe)

    @cached_property
    def source(self) -> Database:
        """A database with every family that it can hold."""
        source = self._stack.enter_context(database(self.cluster))
        fill(source, self.families)
        return source


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[int, Server]]:
    with ExitStack() as open_things:
        yield {major: Server(binaries, open_things) for major, binaries in here().items()}


@dataclass
class Pairing:
    """A source, a target, the families that both have the types of, and what was seen so far."""

    source: Database
    target: Database
    families: list[Family]
    seen: Seen

    def is_refused(self, family: Family, format_: CopyFormat = CopyFormat.AUTO) -> bool:
        """Tell whether the target can't hold the values, or the source can't write them as others read them."""
        source, target = self.seen.pairing
        is_text = format_ is CopyFormat.TEXT or not family.is_plain
        return family.since > target or (is_text and family.text_since > source)

    def tables(self, *, refused: bool, format_: CopyFormat = CopyFormat.AUTO) -> list[Table]:
        return tables(family for family in self.families if self.is_refused(family, format_) is refused)

    def fault(self, table: Table, what: str) -> None:
        self.seen.verdicts[table.family.name] = DIFFERENT
        self.seen.faults.append(f"{table.name}: {what}")

    def check(self, wanted: Iterable[Table], fault_of: Callable[[Table], str | None]) -> None:
        for table in wanted:
            if fault := fault_of(table):
                self.fault(table, fault)


def reports_of(source: Database, target: Database, to: str = "s", **options: Any) -> dict[str, TableReport]:
    """Copy every table of schema ``s``; failures are in the reports."""
    ways = Options(max_delete=_ALL, allow_narrowing=True, **options)  # a plain oid is a number
    report = sync(source.dsn, target.dsn, "s.*", to=f"{to}.{{table}}", options=ways)
    return {each.target.removeprefix(f"{to}."): each for each in report.tables}


def difference(one: list[bytes] | None, other: list[bytes] | None) -> str | None:
    """Return how two images differ, or None where they are equal."""
    if one is None or other is None or len(one) != len(other):
        return f"{'no table' if one is None else len(one)} against {'no table' if other is None else len(other)} rows"
    pairs = ((a, b) for a, b in zip(one, other, strict=True) if a != b)
    return next((f"{a[:200]!r} became {b[:200]!r}" for a, b in pairs), None)


def not_done(report: TableReport) -> str | None:
    return None if report.status == "done" else f"{report.status} in {report.step}: {report.error}"


def wrote(report: TableReport) -> str | None:
    changes = {"inserted": report.inserted, "updated": report.updated, "deleted": report.deleted}
    return not_done(report) or (f"wrote {changes}" if any(changes.values()) else None)


def arrive_in_missing_tables(pairing: Pairing) -> None:
    """Copy into nothing; what the target can't hold leaves nothing behind, and says why."""
    done, refused = pairing.tables(refused=False), pairing.tables(refused=True)
    reports = reports_of(pairing.source, pairing.target)
    there, here = images(pairing.source, "s", done), images(pairing.target, "s", [*done, *refused])
    pairing.check(done, lambda table: not_done(reports[table.name]))
    pairing.check(done, lambda table: difference(there.get(table.name), here.get(table.name)))
    pairing.check(refused, lambda table: "was copied" if reports[table.name].status != "failed" else None)
    pairing.check(refused, lambda table: "left a table behind" if table.name in here else None)
    for table in refused:
        pairing.seen.words.setdefault(table.family.name, (reports[table.name].error or "").partition(" (COPY")[0])


def are_found_equal(pairing: Pairing) -> None:
    """Compare by hashes; types that majors write in other words are told as different."""
    endpoints = Endpoint(pairing.source.dsn, read_only=True), Endpoint(pairing.target.dsn, read_only=False)
    options = Options(allow_narrowing=True)
    found = {each.target.removeprefix("s."): each for each in verify(*endpoints, Selection(("s.*",)), options).tables}
    wanted = [table for table in pairing.tables(refused=False) if not table.family.image]
    pairing.check(wanted, lambda table: found[table.name].error)
    pairing.check(wanted, lambda table: "differs by hash" if found[table.name].status != "equal" else None)
    pairing.check(wanted, lambda table: "hashed by md5" if found[table.name].hashed_by != "record" else None)


def are_the_same_as_text(pairing: Pairing) -> None:
    """Copy again, all as text: were a row's image another one, it would be written."""
    again = pairing.tables(refused=False, format_=CopyFormat.TEXT)
    before = writers(pairing.target, "s", again)
    reports = reports_of(pairing.source, pairing.target, format=CopyFormat.TEXT)
    pairing.check(again, lambda table: wrote(reports[table.name]))
    after = writers(pairing.target, "s", again)
    pairing.check(
        again, lambda table: None if after.get(table.name) == before.get(table.name) else "rows were written again"
    )


def arrive_in_existing_tables(pairing: Pairing) -> None:
    """Copy into tables that hold some of the rows, without their values, and one row too many."""
    done, refused = pairing.tables(refused=False), pairing.tables(refused=True)
    script = ["CREATE SCHEMA e"]
    for table in (*done, *refused):
        script.append(table.definition("e"))
        if not table.is_key:
            script.append(f"INSERT INTO e.{table.name} (id) SELECT generate_series(-1, 3, 2)")
    pairing.target.execute(";\n".join(script))
    before = images(pairing.target, "e", refused)
    reports = reports_of(pairing.source, pairing.target, "e")
    there, here = images(pairing.source, "s", done), images(pairing.target, "e", [*done, *refused])
    pairing.check(done, lambda table: not_done(reports[table.name]))
    pairing.check(done, lambda table: difference(there.get(table.name), here.get(table.name)))
    pairing.check(refused, lambda table: difference(before.get(table.name), here.get(table.name)))


def come_back(pairing: Pairing, home: Database) -> None:
    """Copy from the target into a fresh database of the source's server."""
    done = pairing.tables(refused=False)
    create_types(home, pairing.families, [])
    reports = reports_of(pairing.target, home, lane=Lane.LIBPQ)
    there, here = images(pairing.source, "s", done), images(home, "s", done)
    pairing.check(done, lambda table: not_done(reports[table.name]))
    pairing.check(done, lambda table: difference(there.get(table.name), here.get(table.name)))


@pytest.mark.parametrize(("source", "target"), PAIRINGS, ids=[f"{source} to {target}" for source, target in PAIRINGS])
def test_every_value_survives(
    servers: dict[int, Server], source: int, target: int, record_property: Callable[[str, object], None]
) -> None:
    if absent := [major for major in (source, target) if major not in servers]:
        pytest.skip(f"PostgreSQL {absent[0]} is not there; tests/majors.py fetches it")
    one, other = servers[source], servers[target]
    families = [family for family in one.families if family.name in other.present]
    seen = Seen(one.binaries.version, other.binaries.version)
    with database(other.cluster) as opened, database(one.cluster) as home:
        pairing = Pairing(one.source, opened, families, seen)
        verdicts = {each.name: REFUSED if pairing.is_refused(each) else EQUAL for each in families}
        seen.verdicts = {each.name: verdicts.get(each.name, ABSENT) for each in FAMILIES}
        create_types(opened, families, [each for each in families if pairing.is_refused(each)])
        arrive_in_missing_tables(pairing)
        are_found_equal(pairing)
        are_the_same_as_text(pairing)
        arrive_in_existing_tables(pairing)
        if source in TARGETS:
            come_back(pairing, home)
    record_property("fidelity", seen.to_json())
    assert not seen.faults, "\n".join(seen.faults)


@pytest.mark.parametrize(("source", "target"), PAIRINGS, ids=[f"{source} to {target}" for source, target in PAIRINGS])
def test_a_table_that_is_replaced_keeps_all_that_it_has(servers: dict[int, Server], source: int, target: int) -> None:
    if absent := [major for major in (source, target) if major not in servers]:
        pytest.skip(f"PostgreSQL {absent[0]} is not there; tests/majors.py fetches it")
    with database(servers[source].cluster) as one, database(servers[target].cluster) as other:
        lay(one, other)
        before = portrait(other)
        options = Options(strategy=Strategy.SWAP, verify=Verify.HASH)
        for _ in range(2):
            (report,) = sync(one.dsn, other.dsn, "s.t", options=options).tables
            assert (report.status, report.strategy) == ("done", "swap"), report.error
            assert rows(other) == rows(one)
            assert portrait(other) == before


_ICU, _BUILTIN = (
    "LOCALE_PROVIDER icu ICU_LOCALE 'ko' LOCALE 'C'",
    "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'",
)
_KEYS = "'a', 'A', 'ä', 'Ä', '가', '나다', 'z ', 'z', '', '한글 Key', '한글 key', 'é', E'e\\u0301'"


@pytest.mark.parametrize(("source", "target"), [(16, 18), (17, 17), (18, 17), (15, 18)])
def test_sides_that_sort_by_other_providers_agree_on_every_key(
    servers: dict[int, Server], source: int, target: int
) -> None:
    """What a collation of ICU takes for equal is not the same; a server hashes such texts alike."""
    if absent := [major for major in (source, target) if major not in servers]:
        pytest.skip(f"PostgreSQL {absent[0]} is not there; tests/majors.py fetches it")
    with database(servers[source].cluster, _ICU) as one, database(servers[target].cluster, _BUILTIN) as other:
        for side in (one, other):
            side.execute(
                "CREATE SCHEMA s; CREATE COLLATION s.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
                "CREATE TABLE s.t (k text PRIMARY KEY, v text COLLATE s.ci);"
                "CREATE TABLE s.ci (k text COLLATE s.ci PRIMARY KEY, v int)"
            )
        one.execute(f"INSERT INTO s.t SELECT k, upper(k) FROM unnest(ARRAY[{_KEYS}]) AS keys (k)")
        one.execute("INSERT INTO s.ci VALUES ('Key', 1), ('Other', 2)")
        for options in (Options(), Options(strategy=Strategy.DIFF, verify=Verify.HASH)):
            report = sync(one.dsn, other.dsn, "s.*", options=options)
            assert report.exit_code == 0, [table.error for table in report.tables]
            found = compare(one.dsn, other.dsn, "s.*", level="rows")
            assert [table.status for table in found.tables] == ["equal", "equal"]
            assert other.image("s.t") == one.image("s.t")
            assert other.image("s.ci") == one.image("s.ci")
            other.execute("UPDATE s.t SET v = lower(v) WHERE k = '한글 Key'; UPDATE s.ci SET k = lower(k)")
            ci, t = compare(one.dsn, other.dsn, "s.*", level="rows").tables
            assert (t.changed, t.missing, t.extra) == (1, 0, 0)
            assert (ci.changed, ci.missing, ci.extra) == (0, 2, 2)


def test_at_least_two_versions_are_there(servers: dict[int, Server]) -> None:
    assert len(servers) >= 2, f"only {sorted(servers)}; tests/majors.py fetches them"
