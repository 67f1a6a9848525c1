"""Pure: a source as its job wants to see it. All that is decided later sees the shaped table alone."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping

from pgsluice.facts import Column, Key, Origin, TableInfo
from pgsluice.job import SyncJob
from pgsluice.shape import Constant, Mask, Masking, Shape

_EQUALS = ("pg_catalog", "=")


def types_of(shape: Shape) -> tuple[str, ...]:
    """Return the types that the shape names, as its user wrote them."""
    return tuple(dict.fromkeys([type_ for _, type_ in shape.cast] + [constant.type for constant in shape.constants]))


def shaped(info: TableInfo, shape: Shape, types: Mapping[str, Column], clock: str) -> TableInfo:
    """Return the table with the columns and keys that the job copies, under the target's names.

    Args:
        info: as the source's catalog describes it.
        shape: of the job; nothing in it is refused.
        types: a column of each type that the shape names.
        clock: moment of the snapshot, as timestamptz.
    """
    columns = [_shaped(column, shape, types) for column in info.columns if _is_copied(column, shape)]
    columns += [_constant(constant, types[constant.type], clock) for constant in shape.constants]
    names = dict(shape.rename)
    keys = (_key(key, shape, names) for key in info.keys)
    return dataclasses.replace(info, columns=tuple(columns), keys=tuple(key for key in keys if key))


def _is_copied(column: Column, shape: Shape) -> bool:
    """Tell whether a column is copied; a generated one only by name, for what it shows may be masked elsewhere."""
    if column.name in shape.columns:
        return True
    return not shape.columns and column.name not in shape.exclude and not column.generated


def _shaped(column: Column, shape: Shape, types: Mapping[str, Column]) -> Column:
    name = dict(shape.rename).get(column.name, column.name)
    mask = next((mask for mask in shape.mask if mask.column == column.name), None)
    cast = dict(shape.cast).get(column.name)
    plain = dataclasses.replace(column, name=name, generated="", identity="", sequence=None)
    if column.generated:
        plain = dataclasses.replace(plain, default=None)
    if mask:
        return _masked(plain, column.name, mask)
    if cast:
        typed = _typed(types[cast], plain)
        return dataclasses.replace(typed, origin=Origin(column.name, "cast", typed.type))
    kept = plain if column.generated else dataclasses.replace(column, name=name)
    return dataclasses.replace(kept, origin=Origin(column.name)) if name != column.name else kept


def _typed(type_: Column, column: Column) -> Column:
    """Return a column of another type in place of one."""
    return dataclasses.replace(
        type_, name=column.name, not_null=column.not_null, number=column.number, comment=column.comment
    )


def _masked(column: Column, source: str, mask: Mask) -> Column:
    if mask.by is Masking.HASH:
        text = _typed(Column("", "text", "text"), column)
        return dataclasses.replace(text, origin=Origin(source, "hash", "text"))
    is_null = mask.by is Masking.NULL
    origin = Origin(source, mask.by.value, column.type, None if is_null else mask.value)
    return dataclasses.replace(column, origin=origin, default=None, not_null=column.not_null and not is_null)


def _constant(constant: Constant, type_: Column, clock: str) -> Column:
    value = clock if constant.is_moment else constant.value
    origin = Origin(None, "moment" if constant.is_moment else "constant", type_.type, value)
    return dataclasses.replace(type_, name=constant.column, not_null=not constant.is_moment, origin=origin)


def _key(key: Key, shape: Shape, names: Mapping[str, str]) -> Key | None:
    """Return the key over the shaped columns, those that tell this job's rows from others' included."""
    if not all(
        (name in shape.columns or not shape.columns) and name not in shape.exclude and not _is_blank(name, shape)
        for name in key.columns
    ):
        return None
    hashed = {mask.column for mask in shape.mask} | {name for name, _ in shape.cast}
    own = zip(key.columns, key.operators, strict=True)
    operators = tuple(_EQUALS if name in hashed else operator for name, operator in own)
    columns = (*(names.get(name, name) for name in key.columns), *(constant.column for constant in shape.scope))
    return dataclasses.replace(key, columns=columns, operators=(*operators, *(_EQUALS,) * len(shape.scope)))


def _is_blank(name: str, shape: Shape) -> bool:
    """Tell whether a masked column no longer tells rows apart."""
    return any(mask.column == name and mask.by is not Masking.HASH for mask in shape.mask)


def key_of(job: SyncJob) -> tuple[str, ...]:
    """Return the key that was asked for, with what tells this job's rows from others' of the same target."""
    scope = (constant.column for constant in job.shape.scope)
    return (*job.key, *(name for name in scope if name not in job.key)) if job.key else ()


def refusals(info: TableInfo, job: SyncJob) -> Iterator[str]:
    """Say all that is wrong with the shape of a job."""
    shape = job.shape
    known = [column.name for column in info.columns]
    named = {
        "--columns": shape.columns,
        "--exclude": shape.exclude,
        "--rename": [name for name, _ in shape.rename],
        "--cast": [name for name, _ in shape.cast],
        "--mask": [mask.column for mask in shape.mask],
    }
    for option, names in named.items():
        for name in names:
            if name not in known:
                yield f"{option} names {name}, which {info.ref} does not have{_nearest(name, known)}"
    if shape.columns and shape.exclude:
        yield "--columns says what is copied and --exclude what is not: leave one of them out."
    yield from _collisions(info, shape)
    touched = {"renamed": named["--rename"], "cast": named["--cast"], "masked": named["--mask"]}
    left_out = [column.name for column in info.columns if not column.generated and not _is_copied(column, shape)]
    for what, names in {**touched, "left out": left_out}.items():
        if job.cursor in names:
            yield f"The cursor {job.cursor} is {what}: it is looked at on both sides, so leave it as it is."
    for name in sorted(set(touched["cast"]) & set(touched["masked"])):
        yield f"Column {name} is cast and masked: choose one."


def _collisions(info: TableInfo, shape: Shape) -> Iterator[str]:
    names = dict(shape.rename)
    result = [names.get(column.name, column.name) for column in info.columns if _is_copied(column, shape)]
    result += [constant.column for constant in shape.constants]
    for name in sorted({name for name in result if result.count(name) > 1}):
        yield f"Two columns would be called {name} on the target: rename one, or leave one out."


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f": did you mean {close[0]}?" if close else f": it has {', '.join(known)}."
