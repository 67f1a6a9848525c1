"""Pure: what a column's values lose on the way from one type to another, and which types may travel in binary."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from pgsluice.facts import Column, Dependency

#: Core types whose binary form means the same on every server from 14 on. Not here: reg* and oid (numbers of one
#: server), money (its scale is the locale's), interval (17's infinity is finite nonsense before), and the unknown.
BINARY_SAFE = frozenset({
    "bigint", "bit", "bit varying", "boolean", "bytea", "character", "character varying", "cidr", "date",
    "double precision", "inet", "integer", "json", "jsonb", "macaddr", "macaddr8", "name", "numeric", "real",
    "smallint", "text", "time with time zone", "time without time zone", "timestamp with time zone",
    "timestamp without time zone", "uuid", '"char"',
})  # fmt: skip
_WITHOUT_EQUALITY = frozenset({
    "json", "jsonpath", "xml", "point", "polygon", "box", "line", "lseg", "path", "circle", "refcursor",
    "pg_snapshot", "txid_snapshot",
})  # fmt: skip
_INTEGERS = {"smallint": 5, "integer": 10, "bigint": 19}
_SPLIT = re.compile(r"^(?P<name>[^(\[]+?)(?:\((?P<modifier>[^)]*)\))?(?P<rest>[^(\[]*)(?P<array>(?:\[\])*)$")
_TIMES = frozenset({
    "timestamp without time zone", "timestamp with time zone", "time without time zone", "time with time zone",
    "interval",
})  # fmt: skip
_SIZED = frozenset({"numeric", "character varying", "bit varying"})
_WIDER = frozenset({
    ("date", "timestamp without time zone"), ("cidr", "inet"), ("character varying", "text"), ("jsonb", "json"),
    ("smallint", "real"), ("smallint", "double precision"), ("integer", "double precision"),
})  # fmt: skip
_DEFAULT_PRECISION = 6
_FAMILIES = {
    **dict.fromkeys(("smallint", "integer", "bigint", "numeric", "real", "double precision", "money", "oid"), "number"),
    **dict.fromkeys(("text", "character varying", "character", "name", '"char"'), "text"),
    **dict.fromkeys(("date", "timestamp without time zone", "timestamp with time zone"), "date"),
    **dict.fromkeys(("time without time zone", "time with time zone"), "time"),
    **dict.fromkeys(("bit", "bit varying"), "bits"),
    **dict.fromkeys(("json", "jsonb"), "json"),
    **dict.fromkeys(("inet", "cidr"), "network"),
}
_KINDS = {"e": "an enum", "d": "a domain", "c": "a composite", "r": "a range", "m": "a multirange", "k": "a collation"}


def binary_obstacle(column: Column) -> str | None:
    """Return why the column must travel as text, or None where binary is proven safe."""
    if column.kind == "e":  # an enum's binary form is its label
        return None
    if column.kind != "b":
        return f"{column.name} is {column.type}, checked by the target only as text"
    return None if column.leaf in BINARY_SAFE else f"{column.name} is {column.type}, not proven safe in binary"


def lacks_equality(column: Column) -> bool:
    """Tell whether the type has no equality that could identify a row."""
    return column.leaf in _WITHOUT_EQUALITY


class Verdict(enum.StrEnum):
    """What becomes of a column's values on their way, from the best to the worst."""

    BINARY = "same type, binary"
    TEXT = "same type, text"
    CASTABLE = "castable without loss"
    NARROWING = "narrowing"
    INCOMPATIBLE = "incompatible"


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A column's verdict.

    Attributes:
        name: of the column.
        source: its type there.
        target: its type there.
        verdict: on the way from one to the other.
        reason: in words; empty where the verdict says all.
    """

    name: str
    source: str
    target: str
    verdict: Verdict
    reason: str = ""


def judge(source: Column, target: Column) -> Fidelity:
    """Say what becomes of a column's values on their way."""
    lost = loss(source, target)
    if lost:
        fits = source.labels is not None or _family(source) == _family(target) or _family(source) == "text"
        verdict = Verdict.NARROWING if fits else Verdict.INCOMPATIBLE
        return Fidelity(source.name, source.type, target.type, verdict, lost)
    if source.type != target.type:
        reason = f"every {source.type} is a {target.type}"
        return Fidelity(source.name, source.type, target.type, Verdict.CASTABLE, reason)
    obstacle = binary_obstacle(source)
    verdict = Verdict.TEXT if obstacle else Verdict.BINARY
    return Fidelity(source.name, source.type, target.type, verdict, obstacle or "")


def _family(column: Column) -> str:
    """Return a name that types share whose values are of one kind."""
    name = parts(column.base)[0]
    return _FAMILIES.get(name, name) + ("[]" if column.is_array else "")


def loss(source: Column, target: Column) -> str | None:
    """Return why values of `source` may not survive in `target`, or None where every value does, through text."""
    if source.base == target.base == "oid":
        return (
            f"{source.name} is {source.type}, the number of an object of the source alone: cast it to bigint or leave"
            " it out"
        )
    if source.labels is not None and target.labels is not None and source.is_array == target.is_array:
        lost = [label for label in source.labels if label not in target.labels]
        return (
            f"{source.name}: the target's {target.type} lacks {', '.join(map(repr, lost))}: add the label there"
            if lost
            else None
        )
    if source.type == target.type and (changed := _made_otherwise(source, target)):
        return changed
    if source.type == target.type or target.type in ("text", "character varying"):
        # char(n) would keep its padding in text: the image of the source, so nothing is lost
        return None
    one, another = _undone(source), _undone(target)  # a domain's checks may refuse a value, but change none
    from_name, from_modifier, from_array = parts(one)
    to_name, to_modifier, to_array = parts(another)
    if one == another or (from_array == to_array and _widens(from_name, from_modifier, to_name, to_modifier)):
        return None
    return (
        f"{source.name} is {source.type} on the source and {target.type} on the target,"
        f" which may not hold every value: alter the target's column to {source.type}"
    )


def _undone(column: Column) -> str:
    """Return the type of a column; of a domain the one that it is made over in the end."""
    type_, made = column.type, {each.sql: each for each in column.dependencies if each.kind == "d"}
    while type_ in made:
        type_ = made[type_].base.partition(" COLLATE ")[0]
    return type_


def _made_otherwise(source: Column, target: Column) -> str | None:
    """Say which type of one name is another on the two sides, or None where both mean the same.

    A composite's text and binary form carry no names: two fields in another order would change places, silently.
    """
    theirs = {each.sql: each for each in target.dependencies}
    for mine in source.dependencies:
        other = theirs.get(mine.sql, mine)
        lost = [label for label in mine.labels if label not in other.labels]
        if lost:
            return f"{source.name}: the target's {mine.sql} lacks {', '.join(map(repr, lost))}: add the label there"
        if mine.kind != other.kind or _is_made_otherwise(mine, other):
            return (
                f"{source.name}: {mine.sql} is {_described(mine)} on the source and {_described(other)} on the target:"
                " make them the same"
            )
    return None


def _is_made_otherwise(mine: Dependency, other: Dependency) -> bool:
    """Tell whether a value of one may be cut, rounded or put elsewhere in the other of the same name and kind."""
    if mine.kind == "c":
        return mine.parts != other.parts
    if mine.kind == "r":
        return mine.base != other.base or _bounds(mine) != _bounds(other)
    if mine.kind != "d":
        return False
    base, theirs = (type_.base.partition(" COLLATE ")[0] for type_ in (mine, other))
    one, another = parts(base), parts(theirs)
    return base != theirs and not (one[2] == another[2] and _widens(*one[:2], *another[:2]))


def _bounds(range_: Dependency) -> dict[str, str]:
    """Return what decides which of two bounds is the lower."""
    return {name: value for name, value in range_.parts if name in {"SUBTYPE_OPCLASS", "COLLATION"}}


def _described(type_: Dependency) -> str:
    if type_.kind in {"d", "r"}:
        return f"{_KINDS[type_.kind]} over {type_.base}"
    if type_.kind != "c":
        return _KINDS.get(type_.kind, "a base type")
    return "(" + ", ".join(f"{name} {field}" for name, field in type_.parts) + ")"


def parts(type_: str) -> tuple[str, tuple[int, ...], str]:
    """Return the name of a type, its modifier, and ``[]`` for an array."""
    match = _SPLIT.match(type_)
    if match is None:
        return type_, (), ""
    modifier = match["modifier"]
    numbers = tuple(int(part) for part in modifier.split(",")) if modifier and re.match(r"^[-\d, ]+$", modifier) else ()
    return f"{match['name']}{match['rest']}".strip(), numbers, match["array"]


def _widens(name: str, modifier: tuple[int, ...], to_name: str, to_modifier: tuple[int, ...]) -> bool:
    if name in _INTEGERS and to_name in _INTEGERS:
        return _INTEGERS[name] <= _INTEGERS[to_name]
    if name in _INTEGERS and to_name == "numeric":
        return not to_modifier or _numeric_holds((_INTEGERS[name], 0), to_modifier)
    if name != to_name:
        return (name, to_name) in _WIDER
    if name in _TIMES:
        return (modifier or (_DEFAULT_PRECISION,)) <= (to_modifier or (_DEFAULT_PRECISION,))
    if not to_modifier:
        return name in _SIZED
    return (
        name in _SIZED
        and bool(modifier)
        and (_numeric_holds(modifier, to_modifier) if name == "numeric" else modifier <= to_modifier)
    )


def _numeric_holds(modifier: tuple[int, ...], to_modifier: tuple[int, ...]) -> bool:
    precision, scale = (*modifier, 0)[:2]
    to_precision, to_scale = (*to_modifier, 0)[:2]
    return scale <= to_scale and precision - scale <= to_precision - to_scale
