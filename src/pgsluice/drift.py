"""Pure: what becomes of a target whose source has other columns than last time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from pgsluice import fidelity, sqltext
from pgsluice.facts import NOT_COPIED, Column, Facts, TableInfo
from pgsluice.job import SyncJob, TableRef
from pgsluice.policies import Drift
from pgsluice.sqltext import bare, verbatim


@dataclass(frozen=True, slots=True)
class Alteration:
    """A change of the target table, made in the transaction that merges.

    Attributes:
        column: as it will be.
        is_new: it is added; else its type follows the source's.
    """

    column: Column
    is_new: bool

    def __str__(self) -> str:
        """Return it as a note says it."""
        what = "is added" if self.is_new else "is widened"
        return f"column {self.column.name} {what} on the target: {self.column.type}"


def alterations(job: SyncJob, facts: Facts) -> tuple[Alteration, ...]:
    """Return how the target follows its source, as far as the job's policy lets it."""
    target = facts.target_table
    if target is None or job.drift not in {Drift.ADD, Drift.WIDEN}:
        return ()
    found = [Alteration(_added(facts.on_target(column)), is_new=True) for column in _of_the_source_only(facts)]
    for column in facts.source_table.columns if job.drift is Drift.WIDEN else ():
        theirs = target.column(column.name)
        if theirs and not theirs.generated and _is_wider(column, theirs):
            found.append(Alteration(dataclasses.replace(theirs, type=column.type, leaf=column.leaf), is_new=False))
    return tuple(found)


def _added(column: Column) -> Column:
    """Return the column as an existing table gets it: rows out of scope have no value for it."""
    return Column(
        column.name,
        column.type,
        column.leaf,
        column.kind,
        collation=column.collation,
        equality=column.equality,
        dependencies=column.dependencies,
    )


def _is_wider(source: Column, target: Column) -> bool:
    """Tell whether the source's type holds all that the target's does, and more."""
    return fidelity.loss(source, target) is not None and fidelity.loss(target, source) is None


def _of_the_source_only(facts: Facts, *, generated: bool = False) -> list[Column]:
    target = facts.target_table
    return [
        column
        for column in facts.source_table.columns
        if target is not None and target.column(column.name) is None and (generated or not column.generated)
    ]


def altered(table: TableInfo, changes: tuple[Alteration, ...]) -> TableInfo:
    """Return the target as it is after the changes."""
    widened = {change.column.name: change.column for change in changes if not change.is_new}
    columns = tuple(widened.get(column.name, column) for column in table.columns)
    added = tuple(change.column for change in changes if change.is_new)
    return dataclasses.replace(table, columns=(*columns, *added))


def alter_sql(table: TableRef, changes: tuple[Alteration, ...]) -> sql.Composed:
    """Return the one ALTER TABLE that makes the changes; a wider type rewrites the table where its form differs."""
    return sql.SQL("ALTER TABLE {} {}").format(sqltext.table(table), sql.SQL(", ").join(map(_clause, changes)))


def _clause(change: Alteration) -> sql.Composed:
    if change.is_new:
        return sql.SQL("ADD COLUMN {}").format(sqltext.column_definition(change.column))
    name = sql.Identifier(change.column.name)
    collation = change.column.collation  # which TYPE alone would set back to the type's own
    collate = sql.SQL(" COLLATE {}").format(sql.Identifier(*collation)) if collation else sql.SQL("")
    return sql.SQL("ALTER COLUMN {} TYPE {}{}").format(name, verbatim(change.column.type), collate)


def refusals(job: SyncJob, facts: Facts, changes: tuple[Alteration, ...]) -> Iterator[str]:
    """Say why the target can't or shall not follow its source."""
    target = facts.target_table
    if target is None:
        return
    if job.drift is not Drift.IGNORE:
        yield from _gone(facts, target)
    if job.drift is Drift.FAIL:
        yield from _new(facts, target)
    for name in sorted({each.sql for change in changes for each in change.column.dependencies} & facts.missing):
        yield f"The target lacks the type or collation {name}, which a column to be added needs: create it first."
    for name, users, wider in _in_use(target, changes):
        yield (
            f"Column {bare(name)} of {target.ref} can't become {wider}, which --drift widen wants, while it is used by"
            f" {', '.join(users)}. Drop that, ALTER the column, and create it again; --drift add leaves the column as"
            " it is."
        )
    if changes and not target.owned:
        role = bare(facts.target.role)
        yield f"Only the owner of {target.ref} may alter it: GRANT {bare(target.owner)} TO {role};"


def _in_use(target: TableInfo, changes: tuple[Alteration, ...]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield the columns whose types PostgreSQL does not alter, by what uses them, and what they were to become."""
    for change in changes:
        column = None if change.is_new else target.column(change.column.name)
        if column and column.users:
            yield column.name, column.users, change.column.type


def _new(facts: Facts, target: TableInfo) -> Iterator[str]:
    """Name the columns that have come since the last run; of a first one, those that can't be left out."""
    before = facts.progress.state.columns if facts.progress.state else {}
    new = [
        column
        for column in _of_the_source_only(facts)
        if not (column.origin and column.origin.column is None)  # a constant, of which the refusals tell
        and (column.name not in before if before else column.not_null and not (column.default or column.identity))
    ]
    if new:
        names = ", ".join(f"{bare(column.name)} {column.type}" for column in new)
        yield (
            f"The source has columns that {target.ref} lacks: {names}. Add them with --drift add, or leave them out"
            " with --drift ignore."
        )


def _gone(facts: Facts, target: TableInfo) -> Iterator[str]:
    """Name the columns that the last run copied and that are gone: whether dropped or renamed is never guessed."""
    state, source = facts.progress.state, facts.source_table
    before = {name: number for name, (number, type_) in state.columns.items() if type_ != NOT_COPIED} if state else {}
    gone = [name for name in before if source.column(name) is None and target.column(name) is not None]
    if not gone:
        return
    is_same = state is not None and state.source_oid == source.oid
    numbers = {column.number: column.name for column in source.columns} if is_same else {}
    now = [f"{name} may be called {numbers[before[name]]} now" for name in gone if before[name] in numbers]
    guess = f" ({'; '.join(now)})" if now else ""
    yield (
        f"The source no longer has {', '.join(gone)}, which the last run copied{guess}: dropped or renamed, which is"
        f" not guessed. The source has {_listed(source)}; the target has {_listed(target)}. Rename or drop the columns"
        f" of {target.ref} likewise, or leave them as they are with --drift ignore."
    )


def _listed(table: TableInfo) -> str:
    return ", ".join(column.name for column in table.columns)


def notes(facts: Facts, changes: tuple[Alteration, ...]) -> Iterator[str]:
    """Say what is done about columns that only one side has."""
    yield from map(str, changes)
    added = {change.column.name for change in changes}
    for column in _of_the_source_only(facts, generated=True):
        if column.name not in added:
            what = "is generated, exists" if column.generated else "exists"
            yield f"column {column.name} {what} on the source only and is not copied{_near(facts, column)}"


def _near(facts: Facts, column: Column) -> str:
    """Name the columns of the target whose name differs in case or underscores alone, and that the source lacks."""
    target, source = facts.target_table, facts.source_table
    near = [
        each.name
        for each in (target.columns if target else ())
        if _plain(each.name) == _plain(column.name) and source.column(each.name) is None
    ]
    return f" (the target has {', '.join(near)}: --rename {column.name}={near[0]} copies it there)" if near else ""


def _plain(name: str) -> str:
    return name.replace("_", "").casefold()
