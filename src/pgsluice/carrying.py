"""Pure: which expressions of the source's columns and domains a target to be created gets, and why not the others."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pgsluice import expressions
from pgsluice.facts import Attachment, Column, Dependency, Facts, TableInfo

#: The first versions with ICU rules, with collations of PostgreSQL's own provider, and with keys over periods.
_COLLATION_RULES, _BUILTIN_COLLATIONS, _PERIODS = 16, 17, 18
_PERIOD = re.compile(r" WITHOUT OVERLAPS\)")


@dataclass(frozen=True, slots=True)
class Question:
    """A text of the source that is to stand in a statement to the target.

    Attributes:
        text: an expression.
        columns: that it names, each with its type; None where it leans on types that may have to be created first, so
            that nobody can parse it before.
        functions: of PostgreSQL's own that it calls.
    """

    text: str
    columns: tuple[tuple[str, str], ...] | None
    functions: frozenset[str] = frozenset()


def questions(table: TableInfo, attachments: Iterable[Attachment], missing: Collection[str]) -> Iterator[Question]:
    """Yield what the target is to be asked before a table is created there.

    Args:
        table: of the source.
        attachments: that are to be created with it.
        missing: types and collations that are to be created first, as SQL names.
    """
    types = {column.name: column.type for column in table.columns if not column.dependencies}
    texts = [column.default for column in table.columns if column.default_is_local]
    texts += [text for each in attachments if each.local for text in each.expressions]
    yield from _asked(texts, types)
    for each in table.dependencies:
        if each.sql in missing:
            yield from _asked(map(_of_type, types_of(each)), {})
            conditions = [expressions.condition_of(check)[0] for _, check in each.parts if each.kind == "d"]
            yield from _asked([each.default], {})
            yield from _asked(conditions, {"value": each.base}, every="value")


def types_of(dependency: Dependency) -> tuple[str, ...]:
    """Return the types that a definition names, with their collations, as SQL."""
    if dependency.kind == "c":
        return tuple(type_ for _, type_ in dependency.parts)
    collation = dict(dependency.parts).get("COLLATION") if dependency.kind == "r" else None
    base = f"{dependency.base} COLLATE {collation}" if collation else dependency.base
    return (base,) if base else ()


def _of_type(type_: str) -> str:
    return f"NULL::{type_}"


def _asked(texts: Iterable[str | None], types: Mapping[str, str], every: str | None = None) -> Iterator[Question]:
    for text in filter(None, texts):
        if (parsed := expressions.parse(text)) is None:
            continue
        names = parsed.columns | ({every} if every else set())
        is_seen = parsed.is_core and names <= types.keys() and not any("." in types[name] for name in names)
        columns = tuple((name, types[name]) for name in sorted(names)) if is_seen else None
        yield Question(text, columns, frozenset(name for schema, name in parsed.calls if schema == expressions.CORE))


def type_obstacle(dependency: Dependency, facts: Facts) -> str | None:
    """Return why the target can't have such a type or collation, or None where it can."""
    options = dict(dependency.parts) if dependency.kind == "k" else {}
    if options.get("PROVIDER") == "builtin" and facts.target.major < _BUILTIN_COLLATIONS:
        return f"its provider is known from PostgreSQL {_BUILTIN_COLLATIONS} on"
    if "RULES" in options and facts.target.major < _COLLATION_RULES:
        return f"its rules are known from PostgreSQL {_COLLATION_RULES} on"
    return next(filter(None, (facts.untaken.get(_of_type(type_)) for type_ in types_of(dependency))), None)


def _obstacle(text: str, facts: Facts, *columns: str) -> str | None:
    return facts.untaken.get(text) or expressions.obstacle(text, columns, _types(facts), facts.harmless)


def _types(facts: Facts) -> frozenset[str]:
    return frozenset(each.sql for each in facts.source_table.dependencies)


def default_obstacle(of: Column | Dependency, facts: Facts) -> str | None:
    """Return why the default of a column or a domain is left out, or None where it is not."""
    if not of.default or (isinstance(of, Column) and of.generated):
        return None
    if isinstance(of, Column) and not of.default_is_local:
        return "it leans on other objects"
    return _obstacle(of.default, facts)


def generated_obstacle(column: Column, facts: Facts) -> str | None:
    """Return why a generated column can't be computed on the target, or None where it can, or is none."""
    if not column.generated or not column.default:
        return None
    if not column.default_is_local:
        return "it calls functions of the source's own"
    return _obstacle(column.default, facts, *(each.name for each in facts.source_table.columns))


def check_obstacles(domain: Dependency, facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the checks of a domain that can't be carried over, each with the reason."""
    for check, text in domain.parts if domain.kind == "d" else ():
        condition, _ = expressions.condition_of(text)
        if reason := _obstacle(condition, facts):
            yield check, reason


def column(column: Column, facts: Facts) -> Column:
    """Return a column without a default that is left out."""
    return dataclasses.replace(column, default_is_local=False) if default_obstacle(column, facts) else column


def dependency(dependency: Dependency, facts: Facts) -> Dependency:
    """Return a domain without a default that is left out, and anything else as it is."""
    return dataclasses.replace(dependency, default=None) if default_obstacle(dependency, facts) else dependency


def is_carried(attachment: Attachment, facts: Facts) -> bool:
    """Tell whether an index or a constraint means the same on the target, and nothing else."""
    is_known = attachment.local and expressions.is_definition(attachment.definition, _types(facts))
    return is_known and not attachment_obstacle(attachment, facts)


def attachment_obstacle(attachment: Attachment, facts: Facts) -> str | None:
    """Return what the target lacks for an index or a constraint, or None."""
    if _PERIOD.search(attachment.definition) and facts.target.major < _PERIODS:
        return f"WITHOUT OVERLAPS is known from PostgreSQL {_PERIODS} on"
    return next(filter(None, (facts.untaken.get(text) for text in attachment.expressions)), None)
