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

from pgsluice import visible
from pgsluice.facts import Column, Equality, Key, Origin
from pgsluice.job import QuerySource, TableRef
from pgsluice.shape import Constant

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


@functools.cache
def load(name: str) -> sql.SQL:
    """Return the query kept in ``steps/queries/<name>.sql``."""
    return verbatim(files("pgsluice.steps").joinpath("queries", f"{name}.sql").read_text("utf-8"))


def knowing_options(name: str) -> sql.Composed:
    """Return a query that tells the options that users set from those that are the server's own."""
    settable, text = load("settable"), load("index_text")
    return load(name).format(
        settable=settable,
        indexdef=text.format(settable=settable, text=verbatim("pg_get_indexdef(c.oid)")),
        constraintdef=text.format(settable=settable, text=verbatim("pg_get_constraintdef(k.oid)")),
    )


def verbatim(text: str) -> sql.SQL:
    """Return `text` as SQL: only for what the catalog printed, our own files hold, or the user wrote as code."""
    return sql.SQL(text)


def table(ref: TableRef) -> sql.Composed:
    """Return a quoted, qualified name."""
    return sql.Composed([sql.Identifier(ref.schema, ref.name)])


def bare(name: str) -> str:
    """Return a name as it can be typed into SQL, in one line: quoted where it must be."""
    return name if _PLAIN.fullmatch(name) else visible.statement(sql.Identifier(name).as_string(None))


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
        text = text_of(sql.Identifier(origin.column or ""), is_own_type=origin.is_own_type)
        if origin.value is not None:
            text = sql.SQL("{}::pg_catalog.text OPERATOR(pg_catalog.||) {}").format(sql.Literal(origin.value), text)
        return sql.SQL("pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to({}, 'UTF8')), 'hex')").format(text)
    if origin.how in {"null", "constant", "moment"}:
        return sql.SQL("{}::{}").format(sql.Literal(origin.value), verbatim(origin.type))
    column = sql.Identifier(origin.column or "")
    return _cast(column, origin) if origin.type else column


def _cast(column: sql.Identifier, origin: Origin) -> sql.Composed:
    """Return a column cast to a type: by its text where either type's owner may have made the cast."""
    type_ = verbatim(origin.type)
    if origin.to_own_type:  # as JSON, which is read by the type's input function
        text = text_of(column, is_own_type=True)
        return sql.SQL(
            "(SELECT given.v FROM pg_catalog.json_to_record(pg_catalog.json_build_object('v'::pg_catalog.text, {}))"
            " AS given (v {}))"
        ).format(text, type_)
    value = text_of(column, is_own_type=True) if origin.is_own_type else column
    return sql.SQL("{}::{}").format(value, type_)


def own_rows(constants: Iterable[Constant], columns: Iterable[Column], alias: str | None = None) -> list[sql.Composed]:
    """Return the conditions for rows of a target that were written by the job with these constants.

    Args:
        constants: each of which is among the columns.
        columns: of the target.
        alias: of the target.
    """
    known = {column.name: column for column in columns}
    return [
        equal(
            known[constant.column].equality,
            sql.Identifier(alias, constant.column) if alias else sql.Identifier(constant.column),
            _typed(constant.value, known[constant.column]),
        )
        for constant in constants
    ]


def _typed(value: str, column: Column) -> sql.Composable:
    """Return a value as a column has it: beside a type of somebody's own, PostgreSQL would guess what is meant."""
    literal = sql.Literal(value)
    return sql.SQL("{}::{}").format(literal, verbatim(column.type)) if column.is_own_type else literal


def condition(where: str | None) -> sql.SQL | sql.Composed:
    """Return the user's condition in brackets, or TRUE; the line breaks keep a trailing comment from eating ours."""
    return sql.SQL("(\n{}\n)").format(verbatim(where)) if where else sql.SQL("TRUE")


def key_match(key: Key, left: str, right: str) -> sql.Composed:
    """Return ``left.k = right.k AND ..`` with the equality of the key.

    Args:
        key: of the rows.
        left: alias of the one side.
        right: alias of the other.
    """
    pairs = (
        equal(equality, sql.Identifier(left, name), sql.Identifier(right, name))
        for name, equality in zip(key.columns, key.operators, strict=True)
    )
    return sql.SQL(" AND ").join(pairs)


def equal(equality: Equality, left: sql.Composable, right: sql.Composable) -> sql.Composed:
    """Return ``left = right``: with an empty search_path a bare ``=`` would be another operator for types as citext."""
    return sql.SQL("{} OPERATOR({}.{}) {}").format(
        _operand(equality, left),
        sql.Identifier(equality.schema),
        verbatim(equality.operator),
        _operand(equality, right),
    )


def _operand(equality: Equality, value: sql.Composable) -> sql.Composable:
    """Return a value in the type that the operator is declared for.

    ``pg_catalog.bpchar`` is not ``character``, which would cut the value to one letter.
    """
    return sql.SQL("{}::{}").format(value, sql.Identifier(*equality.operand)) if equality.operand else value


def text_of(value: sql.Composable, *, is_own_type: bool) -> sql.Composed:
    """Return a value's text, by its type's output function where a cast may be somebody's own function.

    Args:
        value: a column, for it may stand there twice.
        is_own_type: its type is not one of PostgreSQL's own.
    """
    if not is_own_type:
        return sql.SQL("{}::pg_catalog.text").format(value)
    return sql.SQL("CASE WHEN {0} IS DISTINCT FROM NULL THEN pg_catalog.concat({0}) END").format(value)


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
