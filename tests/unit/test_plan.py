"""What is decided about a job that can be done: key, staging, lane, format, creation, notes."""

from __future__ import annotations

import dataclasses

import pytest
from handmade import (
    EQUALS,
    ID,
    MIB,
    NOTE,
    ORDERS,
    PRIMARY_ID,
    SOURCE,
    TARGET,
    enum,
    facts,
    plan_of,
    primary,
    table,
    unique,
)

from pgsluice.errors import PlanError
from pgsluice.facts import Column, Equality, Key, Leaf, SchemaInfo, ServerInfo, TableInfo
from pgsluice.job import CopyFormat, Lane, Mode, Options, QuerySource, StagingKind, SyncJob, TableRef

CODE = Column("code", "text", "text", not_null=True)
MOOD = Column("mood", "s.mood", "s.mood", kind="e", dependencies=enum("s", "mood", "sad", "happy"))
CITEXT_EQUALS = Equality("ext")


# --- columns and job -------------------------------------------------------------------------------------------------


def test_columns_are_those_of_both_sides_as_the_target_has_them() -> None:
    wide = Column("note", "character varying", "character varying")
    computed = Column("total", "bigint", "bigint", generated="s", default="id * 2")
    extra = Column("loaded_at", "date", "date")
    only = Column("code", "text", "text")
    plan = plan_of(facts(table(columns=(NOTE, ID, only)), table(columns=(extra, ID, wide, computed))))
    assert plan.columns == (ID, wide)
    assert plan.names == plan.updatable == ("id", "note")


def test_a_generated_column_is_computed_by_a_new_table_and_not_copied() -> None:
    computed = Column("total", "bigint", "bigint", generated="s", default="id * 2")
    plan = plan_of(facts(table(columns=(ID, computed)), None))
    assert plan.names == ("id",)
    assert plan.creation is not None
    assert plan.creation.columns == (ID, computed)


def test_a_job_is_named_by_what_it_means() -> None:
    job = SyncJob(ORDERS, ORDERS)
    same = plan_of(facts(), job).job_id
    others = {
        plan_of(facts(), dataclasses.replace(job, where="id > 1")).job_id,
        plan_of(facts(), dataclasses.replace(job, mode=Mode.UPSERT)).job_id,
        plan_of(facts(source=dataclasses.replace(SOURCE, database="other")), job).job_id,
        plan_of(facts(source=dataclasses.replace(SOURCE, system="3333")), job).job_id,
    }
    assert plan_of(facts(table(size=1)), job, Options(lane=Lane.LIBPQ)).job_id == same
    assert len(others - {same}) == 4


@pytest.mark.parametrize(("mode", "deletes"), [(Mode.FULL, True), (Mode.UPSERT, False)])
def test_only_full_deletes(mode: Mode, deletes: bool) -> None:
    assert plan_of(facts(), SyncJob(ORDERS, ORDERS, mode=mode)).deletes is deletes


def test_functions_and_a_users_own_sql_mean_what_they_mean_to_their_role() -> None:
    plain = plan_of(facts()).copy
    narrowed = plan_of(facts(), SyncJob(ORDERS, ORDERS, where="id > 1")).copy
    query = plan_of(facts(table(relkind="q")), SyncJob(QuerySource("SELECT 1"), ORDERS)).copy
    view = plan_of(facts(table(relkind="v"))).copy
    assert (plain.search_path, plain.time_zone) == ('"$user", public', "UTC")
    assert (view.search_path, view.time_zone) == ('"$user", public', "Asia/Seoul")
    assert (narrowed.search_path, narrowed.time_zone) == ('"$user", public', "Asia/Seoul")
    assert (query.search_path, query.time_zone) == ('"$user", public', "Asia/Seoul")


# --- key -------------------------------------------------------------------------------------------------------------

BOTH = (ID, CODE, NOTE)


@pytest.mark.parametrize(
    ("source_keys", "target_keys", "given", "columns", "reason"),
    [
        ((primary("id"), unique("code")), (unique("code"),), (), ("id",), "primary key of the source"),
        ((primary("id"), unique("code")), (), ("code",), ("code",), "as given"),
        ((unique("code"),), (primary("id"),), (), ("code",), "unique index code_key of the source"),
        ((unique("note", not_null=False),), (primary("id"),), (), ("id",), "primary key of the target"),
        ((), (unique("code"),), (), ("code",), "unique index code_key of the target"),
        ((), (), ("id", "code"), ("id", "code"), "as given"),
        ((primary("gone"), unique("code")), (), (), ("code",), "unique index code_key of the source"),
    ],
)
def test_the_key_is_the_given_one_then_the_sources_then_the_targets(
    source_keys: tuple[Key, ...],
    target_keys: tuple[Key, ...],
    given: tuple[str, ...],
    columns: tuple[str, ...],
    reason: str,
) -> None:
    gone = Column("gone", "bigint", "bigint", not_null=True, identity="d")
    known = facts(table(columns=(*BOTH, gone), keys=source_keys), table(columns=BOTH, keys=target_keys))
    plan = plan_of(known, SyncJob(ORDERS, ORDERS, key=given))
    assert (plan.key.columns, plan.key_reason) == (columns, reason)


@pytest.mark.parametrize("given", [(), ("id", "code")])
def test_equality_is_that_of_the_targets_own_index_whatever_its_column_order(given: tuple[str, ...]) -> None:
    theirs = Key("pk", ("code", "id"), (CITEXT_EQUALS, EQUALS), primary=True, not_null=True)
    known = facts(table(columns=BOTH, keys=(primary("id", "code"),)), table(columns=BOTH, keys=(theirs,)))
    key = plan_of(known, SyncJob(ORDERS, ORDERS, key=given)).key
    assert (key.columns, key.operators) == (("id", "code"), (EQUALS, CITEXT_EQUALS))


def test_equality_of_a_key_without_an_index_is_the_types_own() -> None:
    citext = dataclasses.replace(CODE, type="ext.citext", leaf="ext.citext", equality=CITEXT_EQUALS)
    same = table(columns=(ID, citext), keys=())
    assert plan_of(facts(same, same), SyncJob(ORDERS, ORDERS, key=("code",))).key.operators == (CITEXT_EQUALS,)


WIDE_ID = dataclasses.replace(ID, type="numeric", leaf="numeric")
KOREAN = dataclasses.replace(CODE, collation=("pg_catalog", "ko-x-icu"))


@pytest.mark.parametrize(
    ("source_keys", "target_columns", "relkind", "given", "proven"),
    [
        ((primary("id"),), (ID, CODE), "r", (), True),
        ((primary("id"),), (ID, CODE), "p", (), True),
        ((primary("id"),), (ID, CODE), "m", (), False),  # as of its last refresh
        ((unique("code"),), (ID, CODE), "r", (), True),
        ((unique("code", not_null=False),), (ID, CODE), "r", ("code",), False),
        ((), (ID, CODE), "r", ("id",), False),
        ((primary("id", "code"),), (ID, CODE), "r", ("code", "id"), True),
        ((primary("id", "code"),), (ID, CODE), "r", ("id",), False),
        ((primary("id"),), (WIDE_ID, CODE), "r", (), False),  # another type, another equality
        ((unique("code"),), (ID, KOREAN), "r", (), False),
    ],
)
def test_a_key_is_proven_where_the_source_enforces_it_under_the_same_types(
    source_keys: tuple[Key, ...],
    target_columns: tuple[Column, ...],
    relkind: str,
    given: tuple[str, ...],
    proven: bool,
) -> None:
    known = facts(table(columns=(ID, CODE), keys=source_keys, relkind=relkind), table(columns=target_columns))
    assert plan_of(known, SyncJob(ORDERS, ORDERS, key=given)).key_is_proven is proven


# --- staging, lane, format -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relkind", "size", "temporary", "asked", "kind", "reason"),
    [
        ("r", 8 * MIB - 1, True, StagingKind.AUTO, StagingKind.TEMPORARY, "the source has less than 8 MiB"),
        ("p", 0, True, StagingKind.AUTO, StagingKind.TEMPORARY, "the source has less than 8 MiB"),
        ("r", 8 * MIB, True, StagingKind.AUTO, StagingKind.UNLOGGED, "the source has 8 MiB or more"),
        ("r", 0, False, StagingKind.AUTO, StagingKind.UNLOGGED, "role loader lacks TEMPORARY on the target"),
        ("v", 0, True, StagingKind.AUTO, StagingKind.UNLOGGED, "the size of the source is not known"),
        ("q", 0, True, StagingKind.AUTO, StagingKind.UNLOGGED, "the size of the source is not known"),
        ("r", 0, True, StagingKind.UNLOGGED, StagingKind.UNLOGGED, "as asked"),
        ("r", 1 << 40, True, StagingKind.TEMPORARY, StagingKind.TEMPORARY, "as asked"),
    ],
)
def test_a_small_source_is_staged_in_one_transaction(
    relkind: str, size: int, temporary: bool, asked: StagingKind, kind: StagingKind, reason: str
) -> None:
    server = dataclasses.replace(TARGET, can_use_temporary=temporary)
    plan = plan_of(facts(table(relkind=relkind, size=size), target=server), options=Options(staging=asked))
    assert (plan.staging, plan.staging_reason) == (kind, reason)


@pytest.mark.parametrize(
    ("size", "options", "kind"),
    [
        (8 * MIB, Options(), StagingKind.PROMOTED),
        (8 * MIB - 1, Options(), StagingKind.TEMPORARY),
        (0, Options(staging=StagingKind.PROMOTED), StagingKind.PROMOTED),
        (8 * MIB, Options(staging=StagingKind.UNLOGGED), StagingKind.UNLOGGED),
        (8 * MIB, Options(resumable=True), StagingKind.UNLOGGED),
    ],
)
def test_what_a_large_missing_target_is_staged_in_becomes_it(size: int, options: Options, kind: StagingKind) -> None:
    assert plan_of(facts(table(size=size), None), options=options).staging is kind
    there = plan_of(facts(table(size=size)), options=options).staging
    assert there is not StagingKind.PROMOTED, "a target that exists is never replaced"


def test_a_missing_enum_is_created_by_the_merge_and_not_promoted() -> None:
    known = facts(table(columns=(ID, MOOD), size=8 * MIB), None, missing=frozenset({"s.mood"}))
    assert plan_of(known, options=Options(staging=StagingKind.PROMOTED)).staging is StagingKind.UNLOGGED


@pytest.mark.parametrize(
    ("size", "obstacle", "asked", "lane", "reason"),
    [
        (32 * MIB, None, Lane.AUTO, Lane.PSQL, "the source has 32 MiB or more"),
        (
            32 * MIB - 1,
            None,
            Lane.AUTO,
            Lane.LIBPQ,
            "the source has less than 32 MiB, not worth the start of psql",
        ),
        (32 * MIB, "no psql was found on PATH", Lane.AUTO, Lane.LIBPQ, "no psql was found on PATH"),
        (0, None, Lane.PSQL, Lane.PSQL, "as asked"),
        (1 << 40, None, Lane.LIBPQ, Lane.LIBPQ, "as asked"),
    ],
)
def test_a_large_source_is_read_by_psql(size: int, obstacle: str | None, asked: Lane, lane: Lane, reason: str) -> None:
    copy = plan_of(facts(table(size=size), psql=obstacle), options=Options(lane=asked, psql="/opt/psql")).copy
    assert (copy.lane, copy.lane_reason, copy.psql) == (lane, reason, "/opt/psql")


@pytest.mark.parametrize("relkind", ["v", "q", "f"])
def test_the_size_of_a_view_or_query_is_not_made_up(relkind: str) -> None:
    assert "less than" not in plan_of(facts(table(relkind=relkind, size=0))).copy.lane_reason


@pytest.mark.parametrize(
    ("source", "target", "format_", "reason"),
    [
        (NOTE, NOTE, CopyFormat.BINARY, "every column has the same, binary-safe type on both sides"),
        (MOOD, MOOD, CopyFormat.BINARY, "every column has the same, binary-safe type on both sides"),
        (
            dataclasses.replace(NOTE, type="integer", leaf="integer"),
            dataclasses.replace(NOTE, type="bigint", leaf="bigint"),
            CopyFormat.TEXT,
            "note is integer on the source and bigint on the target",
        ),
        (
            dataclasses.replace(NOTE, type="money", leaf="money"),
            dataclasses.replace(NOTE, type="money", leaf="money"),
            CopyFormat.TEXT,
            "note is money, not proven safe in binary",
        ),
    ],
)
def test_binary_is_for_types_that_are_the_same_and_safe(
    source: Column, target: Column, format_: CopyFormat, reason: str
) -> None:
    copy = plan_of(facts(table(columns=(ID, source)), table(columns=(ID, target)))).copy
    assert (copy.format, copy.format_reason) == (format_, reason)


# --- creation --------------------------------------------------------------------------------------------------------


def test_an_enum_the_target_lacks_waits_in_staging_as_text() -> None:
    moods = dataclasses.replace(MOOD, name="moods", type="s.mood[]")
    plan = plan_of(facts(table(columns=(ID, MOOD, moods)), None, target_schema=None, missing=frozenset({"s.mood"})))
    assert [column.type for column in plan.columns] == ["bigint", "text", "text"]
    assert plan.copy.format is CopyFormat.TEXT
    assert plan.creation is not None
    assert plan.creation.schemas == ("sales", "s")
    assert plan.creation.dependencies == enum("s", "mood", "sad", "happy")
    assert plan.creation.columns == (ID, MOOD, moods)


def test_an_enum_the_target_has_is_staged_as_it_is() -> None:
    plan = plan_of(facts(table(columns=(ID, MOOD)), None, target_schema=SchemaInfo(usage=True, create=True)))
    assert plan.columns == (ID, MOOD)
    assert plan.creation is not None
    assert (plan.creation.schemas, plan.creation.dependencies) == ((), ())


@pytest.mark.parametrize(
    ("keys", "given", "primary_key", "other"),
    [
        ((primary("id"), unique("code")), (), ("id",), ()),
        ((primary("id"),), ("code",), ("id",), ("code",)),
        ((unique("code"),), (), (), ("code",)),
        ((primary("id", "code"),), ("code", "id"), ("id", "code"), ()),
        ((), ("id", "code"), (), ("id", "code")),
    ],
)
def test_a_new_table_gets_the_sources_primary_key_and_an_index_for_the_jobs_key(
    keys: tuple[Key, ...], given: tuple[str, ...], primary_key: tuple[str, ...], other: tuple[str, ...]
) -> None:
    creation = plan_of(facts(table(columns=(ID, CODE), keys=keys), None), SyncJob(ORDERS, ORDERS, key=given)).creation
    assert creation is not None
    assert (creation.primary_key, creation.unique) == (primary_key, other)


def test_identity_always_stays_in_the_key_and_gives_way_elsewhere() -> None:
    always = dataclasses.replace(ID, identity="a")
    number = Column("number", "bigint", "bigint", not_null=True, identity="a")
    plan = plan_of(facts(table(columns=(always, CODE)), None))
    assert plan.creation is not None
    assert [column.identity for column in plan.creation.columns] == ["a", ""]
    plan = plan_of(facts(table(columns=(number, CODE), keys=(unique("code"),)), None))
    assert plan.creation is not None
    assert [column.identity for column in plan.creation.columns] == ["d", ""]
    assert ("number becomes GENERATED BY DEFAULT, for ALWAYS would forbid the next run to update it") in plan.notes


def test_a_key_that_is_identity_always_on_the_target_is_never_updated() -> None:
    always = dataclasses.replace(ID, identity="a")
    assert plan_of(facts(target_table=table(columns=(always, NOTE)))).updatable == ("note",)


# --- notes -----------------------------------------------------------------------------------------------------------


def test_a_plan_without_surprises_has_no_notes() -> None:
    assert plan_of(facts()).notes == ()


def test_what_a_user_should_know_of_an_existing_target_is_noted() -> None:
    target = dataclasses.replace(table(keys=(unique("note"),)), triggers=("audit", "stamp"))
    newer = dataclasses.replace(TARGET, version=190001)
    extra = Column("extra", "text", "text")
    assert plan_of(facts(table(columns=(ID, NOTE, extra)), target, target=newer)).notes == (
        "PostgreSQL 19 is newer than what this release was tried on",
        "no unique index of sales.orders covers the key (id): the merge is slower, and other writers can add duplicates",
        "triggers of sales.orders will fire: audit, stamp",
        "column extra exists on the source only and is not copied",
    )


def test_what_a_new_table_does_not_get_is_noted() -> None:
    older = dataclasses.replace(TARGET, version=170002)
    numbered = dataclasses.replace(NOTE, default="s.next_note()", default_is_local=False)
    virtual = Column("twice", "bigint", "bigint", generated="v", default="id * 2")
    assert plan_of(facts(table(columns=(ID, numbered, virtual)), None, target=older)).notes == (
        "the default of note is not created because it leans on other objects: s.next_note()",
        "twice is a virtual generated column; on PostgreSQL 17 it is stored",
    )


def test_a_virtual_column_stays_one_on_18_whatever_is_the_newest_that_was_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pgsluice.plan.NEWEST_TRIED", 19)
    virtual = Column("twice", "bigint", "bigint", generated="v", default="id * 2")
    for major, stored in ((17, True), (18, False), (19, False)):
        server = dataclasses.replace(TARGET, version=major * 10000 + 1)
        notes = plan_of(facts(table(columns=(ID, virtual)), None, target=server)).notes
        assert any("it is stored" in note for note in notes) is stored


# --- comparing -------------------------------------------------------------------------------------------------------

LARGE = table(size=64 * MIB, oid=2)


@pytest.mark.parametrize(
    ("source", "target", "job", "server", "compares"),
    [
        (table(size=64 * MIB), LARGE, SyncJob(ORDERS, ORDERS), TARGET, True),
        (table(size=64 * MIB), LARGE, SyncJob(ORDERS, ORDERS, mode=Mode.UPSERT), TARGET, True),
        (table(size=MIB), LARGE, SyncJob(ORDERS, ORDERS), TARGET, False),
        (table(size=64 * MIB), table(size=MIB, oid=2), SyncJob(ORDERS, ORDERS), TARGET, False),
        (table(size=64 * MIB), table(size=64 * MIB, oid=2, keys=()), SyncJob(ORDERS, ORDERS), TARGET, False),
        (table(size=64 * MIB), dataclasses.replace(LARGE, relkind="p"), SyncJob(ORDERS, ORDERS), TARGET, False),
        (
            table(size=64 * MIB),
            LARGE,
            SyncJob(ORDERS, ORDERS),
            dataclasses.replace(TARGET, can_use_temporary=False),
            False,
        ),
    ],
)
def test_a_large_target_is_compared_first_where_its_rows_have_one_counterpart_and_one_place(
    source: TableInfo, target: TableInfo, job: SyncJob, server: ServerInfo, compares: bool
) -> None:
    assert plan_of(facts(source, target, target=server), job).compares_first is compares


# --- slices ----------------------------------------------------------------------------------------------------------

RESUMABLE = Options(resumable=True, slice_bytes=64 * MIB)
HEAP = dataclasses.replace(table(size=300 * MIB), heap_bytes=100 * MIB, leaves=(Leaf(1),))


def test_a_resumable_table_is_cut_into_ranges_of_pages_by_heap_and_toast_together() -> None:
    slices = plan_of(facts(HEAP), options=RESUMABLE).slices
    assert [part.number for part in slices] == [1, 2, 3, 4, 5]
    assert [part.first for part in slices] == [0, 2560, 5120, 7680, 10240]
    assert [part.end for part in slices] == [2560, 5120, 7680, 10240, None], "what comes behind the end is in the last"


def test_a_small_heap_with_much_toast_has_no_more_slices_than_pages_and_a_large_one_no_more_than_a_thousand() -> None:
    narrow = dataclasses.replace(HEAP, heap_bytes=3 * 8192)
    assert len(plan_of(facts(narrow), options=RESUMABLE).slices) == 3
    large = dataclasses.replace(HEAP, bytes=10 << 40, heap_bytes=10 << 40)
    assert len(plan_of(facts(large), options=RESUMABLE).slices) == 1000


@pytest.mark.parametrize(
    "source",
    [
        dataclasses.replace(HEAP, relkind="v"),
        dataclasses.replace(HEAP, relkind="p", leaves=(Leaf(2), Leaf(3))),
        dataclasses.replace(HEAP, leaves=(Leaf(1, heap=False),)),
    ],
)
def test_what_has_no_pages_of_its_own_starts_over_and_says_so(source: TableInfo) -> None:
    plan = plan_of(facts(source), SyncJob(ORDERS, ORDERS, key=("id",)), RESUMABLE)
    assert plan.slices == ()
    assert (
        "a run that is killed starts this table over: only a table of one heap, copied as it is, has pages to cut it by"
        in plan.notes
    )


@pytest.mark.parametrize(
    ("jobs", "size", "slices"),
    [
        (1, 100 << 30, 0),  # one after the other needs no parts
        (2, 63 * MIB, 0),
        (2, 64 * MIB, 2),  # none smaller than 32 MiB
        (2, 300 * MIB, 8),  # several for each worker
        (8, 10 << 30, 32),
        (8, 100 << 30, 100),  # none larger than 1 GiB ..
        (8, 10 << 40, 1000),  # .. up to a thousand
    ],
)
def test_a_table_is_cut_for_as_many_workers_as_there_are(jobs: int, size: int, slices: int) -> None:
    source = dataclasses.replace(HEAP, bytes=size, heap_bytes=size)
    plan = plan_of(facts(source), options=Options(jobs=jobs))
    assert len(plan.slices) == slices
    assert not plan.keeps_slices
    assert [part.first for part in plan.slices[:1]] == [0] * min(1, slices)
    assert all(part.end is None for part in plan.slices[-1:])


PARTS = (
    Leaf(2, ref=TableRef("s", "low"), bytes=100 * MIB, heap_bytes=100 * MIB, readable=True),
    Leaf(3, ref=TableRef("s", "none"), readable=True),
    Leaf(4, ref=TableRef("far", "away"), heap=False, readable=True),
)
PARTED = dataclasses.replace(table(relkind="p", size=100 * MIB), leaves=PARTS)


def test_a_partitioned_table_is_cut_into_its_partitions_and_ranges_of_their_pages() -> None:
    plan = plan_of(facts(PARTED), options=Options(jobs=1, psql="psql"))
    assert plan.slices == ()
    plan = plan_of(facts(PARTED), options=Options(jobs=2))
    slices = [(str(part.leaf), part.first, part.end) for part in plan.slices]
    ranges = [("s.low", 0, 3200), ("s.low", 3200, 6400), ("s.low", 6400, 9600), ("s.low", 9600, None)]
    assert slices == [*ranges, ("s.none", 0, None), ("far.away", 0, None)]
    assert [part.number for part in plan.slices] == [1, 2, 3, 4, 5, 6]
    assert plan.copy.lane is Lane.PSQL
    assert {plan.copy.only(part).lane for part in plan.slices} == {Lane.LIBPQ}, "none is worth the start of a psql"


def test_a_partition_that_may_not_be_read_by_itself_or_a_condition_that_names_the_table_keeps_it_whole() -> None:
    shut = dataclasses.replace(PARTED, leaves=(*PARTS, Leaf(5, ref=TableRef("s", "shut"))))
    assert plan_of(facts(shut), options=Options(jobs=2)).slices == ()
    assert plan_of(facts(PARTED), SyncJob(ORDERS, ORDERS, where="orders.id > 1"), Options(jobs=2)).slices == ()


def test_what_one_transaction_stages_and_what_an_index_finds_is_not_cut() -> None:
    assert plan_of(facts(HEAP), options=Options(jobs=2, staging=StagingKind.TEMPORARY)).slices == ()
    job = SyncJob(ORDERS, ORDERS, mode=Mode.INCREMENTAL, cursor="id", since="7")
    assert plan_of(facts(HEAP, HEAP), job, Options(jobs=2)).slices == ()


def test_binary_is_refused_where_it_is_asked_for_and_not_safe_and_text_is_taken() -> None:
    source = dataclasses.replace(HEAP, columns=(*HEAP.columns, Column("r", "regclass", "regclass")))
    with pytest.raises(PlanError, match="Binary was asked for and is not safe here"):
        plan_of(facts(source, source), options=Options(format=CopyFormat.BINARY))
    assert plan_of(facts(HEAP), options=Options(format=CopyFormat.BINARY)).copy.format is CopyFormat.BINARY
    plan = plan_of(facts(HEAP), options=Options(format=CopyFormat.TEXT))
    assert (plan.copy.format, plan.copy.format_reason) == (CopyFormat.TEXT, "as asked")


def test_the_same_facts_make_the_same_plan() -> None:
    assert plan_of(facts()) == plan_of(facts())
    assert plan_of(facts()).key == PRIMARY_ID
