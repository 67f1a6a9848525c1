"""Pure: a source as its job wants to see it. All that is decided later sees the shaped table alone."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping

from pgsluice.facts import Column, Equality, Key, Origin, TableInfo
from pgsluice.job import SyncJob
from pgsluice.shape import Constant, Mask, Masking, Shape

#: Names that PostgreSQL keeps for itself in every table.
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


def types_of(shape: Shape) -> tuple[str, ...]:
    """Return the types that the shape names, as its user wrote them."""
    return tuple(dict.fromkeys([type_ for _, type_ in shape.cast] + [constant.type for constant in shape.constants]))


def with_types(shape: Shape, types: Mapping[str, Column]) -> Shape:
    """Return the shape without what leans on other types than these."""
    return dataclasses.replace(
        shape,
        cast=tuple(pair for pair in shape.cast if pair[1] in types),
        constants=tuple(constant for constant in shape.constants if constant.type in types),
    )


def with_values(shape: Shape, written: Mapping[str, str | None]) -> Shape:
    """Return the shape with its constants as the server writes them, where it has written them."""
    constants = (dataclasses.replace(each, value=written.get(each.column) or each.value) for each in shape.constants)
    return dataclasses.replace(shape, constants=tuple(constants))


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
    equalities = {column.name: column.equality for column in columns if column.origin}
    keys = (_key(key, shape, names, equalities) for key in info.keys)
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
        return _cast(plain, column.name, types[cast])
    kept = plain if column.generated else dataclasses.replace(column, name=name)
    return dataclasses.replace(kept, origin=Origin(column.name)) if name != column.name else kept


def _typed(type_: Column, column: Column) -> Column:
    """Return a column of another type in place of one."""
    return dataclasses.replace(
        type_,
        name=column.name,
        not_null=column.not_null,
        number=column.number,
        comment=column.comment,
        computed=column.computed,
    )


def _cast(column: Column, source: str, type_: Column) -> Column:
    typed = _typed(type_, column)
    differs = type_.type != column.type
    origin = Origin(
        source,
        "cast",
        type_.type,
        is_own_type=differs and column.may_have_casts,
        to_own_type=differs and type_.may_have_casts,
    )
    return dataclasses.replace(typed, origin=origin)


def _masked(column: Column, source: str, mask: Mask) -> Column:
    if mask.by is Masking.HASH:
        text = _typed(Column("", "text", "text"), column)
        origin = Origin(source, "hash", "text", mask.value or None, is_own_type=column.is_own_type)
        return dataclasses.replace(text, origin=origin)
    is_null = mask.by is Masking.NULL
    origin = Origin(source, mask.by.value, column.type, None if is_null else mask.value)
    return dataclasses.replace(column, origin=origin, default=None, not_null=column.not_null and not is_null)


def _constant(constant: Constant, type_: Column, clock: str) -> Column:
    value = clock if constant.is_moment else constant.value
    origin = Origin(None, "moment" if constant.is_moment else "constant", type_.type, value)
    return dataclasses.replace(type_, name=constant.column, not_null=not constant.is_moment, origin=origin)


def _key(key: Key, shape: Shape, names: Mapping[str, str], equalities: Mapping[str, Equality]) -> Key | None:
    """Return the key over the shaped columns, those that tell this job's rows from others' included."""
    if not all(
        (name in shape.columns or not shape.columns) and name not in shape.exclude and not _is_blank(name, shape)
        for name in key.columns
    ):
        return None
    typed = {mask.column for mask in shape.mask} | {name for name, _ in shape.cast}
    own = [
        (names.get(name, name), name in typed, operator)
        for name, operator in zip(key.columns, key.operators, strict=True)
    ]
    scope = [constant.column for constant in shape.scope]
    operators = (equalities[name] if other else operator for name, other, operator in own)
    return dataclasses.replace(
        key,
        columns=(*(name for name, _, _ in own), *scope),
        operators=(*operators, *(equalities[name] for name in scope)),
    )


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
        "--rename": tuple(name for name, _ in shape.rename),
        "--cast": tuple(name for name, _ in shape.cast),
        "--mask": tuple(mask.column for mask in shape.mask),
    }
    for option, names in named.items():
        for name in names:
            if name not in known:
                yield f"{option} names {name}, which {info.ref} does not have{_nearest(name, known)}"
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{option} names {name} more than once: choose one."
    if shape.columns and shape.exclude:
        yield "--columns says what is copied and --exclude what is not: leave one of them out."
    yield from _left_out(info, shape)
    yield from _unfit_names(shape)
    yield from _collisions(info, shape)
    for name in sorted(set(named["--cast"]) & set(named["--mask"])):
        yield f"Column {name} is cast and masked: choose one."
    yield from _cursor_and_key(info, job, named)


def _cursor_and_key(info: TableInfo, job: SyncJob, named: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    touched = {"renamed": named["--rename"], "cast": named["--cast"], "masked": named["--mask"]}
    left_out = tuple(each.name for each in info.columns if not each.generated and not _is_copied(each, job.shape))
    for what, names in {**touched, "left out": left_out}.items():
        if job.cursor in names:
            yield f"The cursor {job.cursor} is {what}: it is looked at on both sides, so leave it as it is."
    for constant in job.shape.constants:
        if constant.is_moment and constant.column in job.key:
            yield f"The key names {constant.column}, which is another one in each run: leave it out of the key."


def _left_out(info: TableInfo, shape: Shape) -> Iterator[str]:
    """Name what is renamed or cast and not copied; what is masked and not copied is as well hidden as it can be."""
    left_out = {column.name: column.generated for column in info.columns if not _is_copied(column, shape)}
    for option, pairs in (("--rename", shape.rename), ("--cast", shape.cast)):
        for name in (name for name, _ in pairs if name in left_out):
            why = "a generated column is copied where --columns names it" if left_out[name] else "copy it too"
            yield f"{option} names {name}, which is left out: {why}, or leave out the option."


def _unfit_names(shape: Shape) -> Iterator[str]:
    """Name what no table can call a column."""
    for name in (*(new for _, new in shape.rename), *(constant.column for constant in shape.constants)):
        if not name:
            yield "A column of the target would have an empty name: name it."
        elif name in _SYSTEM_COLUMNS:
            yield f"PostgreSQL keeps the name {name} for itself: choose another one."


def _collisions(info: TableInfo, shape: Shape) -> Iterator[str]:
    names = dict(shape.rename)
    result = [names.get(column.name, column.name) for column in info.columns if _is_copied(column, shape)]
    result += [constant.column for constant in shape.constants]
    for name in sorted({name for name in result if result.count(name) > 1}):
        yield f"Two columns would be called {name} on the target: rename one, or leave one out."


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f": did you mean {close[0]}?" if close else f": it has {', '.join(known)}."
