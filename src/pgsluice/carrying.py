"""Pure: which expressions of the source's columns and domains a target to be created gets, and why not the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pgsluice import expressions
from pgsluice.facts import Attachment, Column, Dependency, Facts


def _obstacle(text: str, facts: Facts, *columns: str) -> str | None:
    return expressions.obstacle(text, columns, _types(facts), facts.harmless)


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
    return attachment.local and expressions.is_definition(attachment.definition, _types(facts))
