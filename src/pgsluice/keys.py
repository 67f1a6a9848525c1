"""Pure: what tells a table's rows apart, and by which equality."""

from __future__ import annotations

from pgsluice.facts import TABLES, Column, Equality, Key, TableInfo
from pgsluice.job import Mode, SyncJob

#: Of what merges by none.
NO_KEY = Key("", (), (), primary=False, not_null=True)
UNTOLD = "rows are not told apart"


def choose(
    job: SyncJob, source: TableInfo, target: TableInfo | None, columns: tuple[Column, ...]
) -> tuple[Key | None, str]:
    """Choose the key: given, the source's primary key, a NOT NULL unique index of it, or one of the target's.

    Args:
        job: may name one.
        source: as its catalog describes it.
        target: the same, or None where it does not exist.
        columns: what is copied.

    Returns:
        The key and where it comes from, or None where nothing tells rows apart.
    """
    if job.mode is Mode.APPEND:
        return NO_KEY, UNTOLD
    if job.key:
        return _given_key(job.key, source, target, columns), "as given"
    names = {column.name for column in columns}
    for table, side in ((source, "source"), (target, "target")):
        for key in table.keys if table else ():
            if key.not_null and names.issuperset(key.columns):
                what = "primary key" if key.primary else f"unique index {key.name}"
                own = _within_scope(key, job, columns)
                lacking = [name for name in own.columns if name not in key.columns]
                also = f", and {', '.join(lacking)}" if lacking else ""
                operators = _equality_of(target, own.columns, columns)
                chosen = Key(own.name, own.columns, operators, own.primary, own.not_null)
                return chosen, f"{what} of the {side}{also}"
    return None, ""


def _within_scope(key: Key, job: SyncJob, columns: tuple[Column, ...]) -> Key:
    """Return `key` with what tells this job's rows from others', which a key of the target alone may lack."""
    known = {column.name: column for column in columns}
    names = [constant.column for constant in job.shape.scope]
    lacking = [name for name in names if name in known and name not in key.columns]
    if not lacking:
        return key
    operators = (*key.operators, *(known[name].equality for name in lacking))
    return Key("", (*key.columns, *lacking), operators, primary=False, not_null=True)


def _equality_of(target: TableInfo | None, names: tuple[str, ...], columns: tuple[Column, ...]) -> tuple[Equality, ...]:
    """Return the equality of the target's own index over these columns, else that of their types on the target.

    What an operator is called on the source says nothing of what has that name here.
    """
    index = index_over(target, names)
    operators = dict(zip(index.columns, index.operators, strict=True)) if index else {}
    known = {column.name: column for column in columns}
    return tuple(operators.get(name, known[name].equality) for name in names)


def _given_key(
    names: tuple[str, ...], source: TableInfo, target: TableInfo | None, columns: tuple[Column, ...]
) -> Key | None:
    names = tuple(dict.fromkeys(names))
    if not {column.name for column in columns} >= set(names):
        return None
    index = index_over(target, names) or index_over(source, names)
    equality = _equality_of(target, names, columns)
    return Key(index.name if index else "", names, equality, bool(index and index.primary), not_null=True)


def index_over(table: TableInfo | None, names: tuple[str, ...]) -> Key | None:
    """Return the table's unique index over exactly these columns, in whatever order, or None."""
    return next((key for key in table.keys if set(key.columns) == set(names)), None) if table else None


def is_proven(key: Key, source: TableInfo, columns: tuple[Column, ...]) -> bool:
    """Tell whether the source's index already forbids NULL and duplicates, under the very same types."""
    if not key.columns:  # nothing is merged by it
        return True
    index = index_over(source, key.columns)
    if index is None or not index.not_null or source.relkind not in TABLES:
        return False
    mine = {column.name: column for column in columns}
    return all(
        (theirs := source.column(name)) is not None
        and (theirs.origin is None or theirs.origin.how in {"", "constant"})
        and theirs.type == mine[name].type
        and theirs.collation == mine[name].collation
        for name in key.columns
    )
