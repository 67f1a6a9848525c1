"""SQL fragments that several steps share, and the loader of `.sql` files.

Names reach SQL as `psycopg.sql.Identifier` only. The texts that enter as they stand are the catalog's own (types,
expressions: PostgreSQL printed them) and the user's condition or query, which is code by intent.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files

from psycopg import sql

from pgsluice.facts import Column, Key, Origin
from pgsluice.job import QuerySource, TableRef
from pgsluice.shape import Constant

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


@functools.cache
def load(name: str) -> sql.SQL:
    """Return the query kept in ``steps/queries/<name>.sql``."""
    return verbatim(files("pgsluice.steps").joinpath("queries", f"{name}.sql").read_text("utf-8"))


def verbatim(text: str) -> sql.SQL:
    """Return `text` as SQL: only for what the catalog printed, our own files hold, or the user wrote as code."""
    return sql.SQL(text)


def table(ref: TableRef) -> sql.Composed:
    """Return a quoted, qualified name."""
    return sql.Composed([sql.Identifier(ref.schema, ref.name)])


def bare(name: str) -> str:
    """Return a name as it can be typed into SQL: quoted where it must be."""
    return name if _PLAIN.fullmatch(name) else sql.Identifier(name).as_string(None)


def relation(source: TableRef | QuerySource, relkind: str) -> sql.SQL | sql.Composed:
    """Return what stands behind FROM to read a source: a plain table without its inheritance children."""
    if isinstance(source, QuerySource):
        return sql.SQL("(\n{}\n) AS query").format(verbatim(source.sql))
    return sql.SQL("ONLY {}").format(table(source)) if relkind == "r" else table(source)


def part_of(whole: sql.Composable, columns: Iterable[str], alias: str) -> sql.Composed:
    """Return what stands behind FROM to see some columns of a relation only."""
    return sql.SQL("(SELECT {} FROM {}) AS {}").format(names(columns), whole, sql.Identifier(alias))


def names(columns: Iterable[str], prefix: str | None = None) -> sql.Composed:
    """Return a comma-separated list of quoted columns, each behind `prefix` where one is given."""
    return sql.SQL(", ").join(sql.Identifier(prefix, name) if prefix else sql.Identifier(name) for name in columns)


def selection(columns: Sequence[str], origins: Sequence[Origin | None]) -> sql.Composed:
    """Return a SELECT list: each column as the source is asked for it, under its name."""
    return sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(_origin(origin), sql.Identifier(name)) if origin else sql.Identifier(name)
        for name, origin in zip(columns, origins, strict=True)
    )


def _origin(origin: Origin) -> sql.Composable:
    if origin.how == "hash":
        text: sql.Composable = sql.SQL("{}::pg_catalog.text").format(sql.Identifier(origin.column or ""))
        if origin.value is not None:
            text = sql.SQL("{}::pg_catalog.text OPERATOR(pg_catalog.||) {}").format(sql.Literal(origin.value), text)
        return sql.SQL("pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to({}, 'UTF8')), 'hex')").format(text)
    if origin.how in {"null", "constant", "moment"}:
        return sql.SQL("{}::{}").format(sql.Literal(origin.value), verbatim(origin.type))
    column = sql.Identifier(origin.column or "")
    return sql.SQL("{}::{}").format(column, verbatim(origin.type)) if origin.type else column


def own_rows(constants: Iterable[Constant], columns: Iterable[Column], alias: str | None = None) -> list[sql.Composed]:
    """Return the conditions for rows of a target that were written by the job with these constants.

    Args:
        constants: each of which is among the columns.
        columns: of the target.
        alias: of the target.
    """
    equality = {column.name: column.equality for column in columns}
    return [
        sql.SQL("{} OPERATOR({}.{}) {}").format(
            sql.Identifier(alias, constant.column) if alias else sql.Identifier(constant.column),
            sql.Identifier(equality[constant.column][0]),
            verbatim(equality[constant.column][1]),
            sql.Literal(constant.value),
        )
        for constant in constants
    ]


def condition(where: str | None) -> sql.SQL | sql.Composed:
    """Return the user's condition in brackets, or TRUE; the line breaks keep a trailing comment from eating ours."""
    return sql.SQL("(\n{}\n)").format(verbatim(where)) if where else sql.SQL("TRUE")


def key_match(key: Key, columns: Iterable[Column], left: str, right: str) -> sql.Composed:
    """Return ``left.k = right.k AND ..`` with the equality of the key index's operator class.

    With an empty search_path a bare ``=`` would pick another operator for types such as citext.
    """
    named = {column.name: column for column in columns}
    pairs = (
        sql.SQL("{} OPERATOR({}.{}) {}").format(
            _operand(named[name], left), sql.Identifier(schema), verbatim(operator), _operand(named[name], right)
        )
        for name, (schema, operator) in zip(key.columns, key.operators, strict=True)
    )
    return sql.SQL(" AND ").join(pairs)


def _operand(column: Column, alias: str) -> sql.Identifier | sql.Composed:
    """Return a column as its equality takes it: a domain over an enum has none (42883), the enum itself does.

    Types of PostgreSQL's own need no cast, and to ``character`` or ``bit`` it would cut the value.
    """
    name = sql.Identifier(alias, column.name)
    is_domain = column.kind == "d" and column.type == column.leaf and "." in column.base
    return sql.SQL("{}::{}").format(name, verbatim(column.base)) if is_domain else name


def column_definition(column: Column) -> sql.Composed:
    """Return name, type and collation of a column."""
    definition = sql.SQL("{} {}").format(sql.Identifier(column.name), verbatim(column.type))
    if column.collation:
        definition += sql.SQL(" COLLATE {}").format(sql.Identifier(*column.collation))
    return definition


def advisory_key(purpose: str, subject: str) -> int:
    """Return the 64-bit key of an advisory lock.

    Args:
        purpose: "run" (session level, owns staging tables) or "fence" (transaction level, in the merge).
        subject: what is locked, stable between runs.
    """
    digest = hashlib.blake2b(f"pgsluice {purpose} {subject}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
