"""What one server says never becomes a statement of its own on another: one call carries one statement."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from servers import Pair

import pgsluice
from pgsluice.endpoint import Endpoint
from pgsluice.session import Session
from pgsluice.steps import relay

TWO = sql.SQL("CREATE TABLE public.first (); CREATE TABLE public.second ()")
MADE = "SELECT to_regclass('public.first') IS NULL AND to_regclass('public.second') IS NULL"


@pytest.fixture
def target(pair: Pair) -> Iterator[Session]:
    with Endpoint(pair.target.dsn, read_only=False).open() as session:
        yield session


@pytest.mark.parametrize("method", ["rows", "row", "execute"])
def test_a_text_with_two_statements_is_refused_by_the_server(pair: Pair, target: Session, method: str) -> None:
    with pytest.raises(psycopg.errors.SyntaxError, match="multiple commands"):
        getattr(target, method)(TWO)
    assert pair.target.value(MADE)
    assert target.rows(sql.SQL("SELECT 1")) == [(1,)]


def test_two_statements_are_refused_within_a_transaction_too(pair: Pair, target: Session) -> None:
    target.execute(sql.SQL("BEGIN"))
    target.execute(sql.SQL("CREATE TABLE public.first ()"))
    with pytest.raises(psycopg.errors.SyntaxError, match="multiple commands"):
        target.execute(sql.SQL("COMMIT; CREATE TABLE public.second ()"))
    target.rollback()
    assert pair.target.value(MADE)


def test_what_is_asked_aside_is_one_statement(pair: Pair, target: Session) -> None:
    assert target.aside(sql.Composed([sql.SQL("SELECT 1")])) == [("1",)]
    assert target.aside(sql.Composed([TWO])) == []
    assert pair.target.value(MADE)


@pytest.mark.parametrize("text", ["COPY (SELECT 1) TO STDOUT; {}", "{}; COPY (SELECT 1) TO STDOUT"])
def test_a_copy_that_reads_carries_no_second_statement(pair: Pair, target: Session, text: str) -> None:
    pair.target.execute("CREATE TABLE public.rows (n int)")
    writer = relay.Writer(target, "COPY public.rows FROM STDIN", lambda _: 0)
    with Endpoint(pair.target.dsn, read_only=False).open() as reader, pytest.raises(psycopg.errors.SyntaxError):
        relay.by_libpq(reader, text.format(TWO.as_string()), writer)
    assert pair.target.value(MADE)


def test_a_copy_that_writes_carries_no_second_statement(pair: Pair, target: Session) -> None:
    pair.target.execute("CREATE TABLE public.rows (n int)")
    writer = relay.Writer(target, f"COPY public.rows FROM STDIN; {TWO.as_string()}", lambda _: 0)
    with (
        Endpoint(pair.target.dsn, read_only=False).open() as reader,
        pytest.raises(psycopg.errors.SyntaxError, match="multiple commands"),
    ):
        relay.by_libpq(reader, "COPY (SELECT 1) TO STDOUT", writer)
    assert pair.target.value(MADE)


#: What sends a text to a server by the protocol that takes several statements, and the modules that may.
SIMPLE = {"send_query", "exec_", "ClientCursor"}
SCRIPTS = {"steps/state.py", "cli/demo.py", "session.py"}


def _attributes(path: Path) -> set[str]:
    return {node.attr for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)}


def test_only_texts_of_our_own_files_and_of_the_user_are_sent_by_the_protocol_that_takes_several_statements() -> None:
    root = Path(pgsluice.__file__).parent
    used = {str(path.relative_to(root)): _attributes(path) for path in root.rglob("*.py")}
    assert {path for path, names in used.items() if names & SIMPLE} == set()
    assert {path for path, names in used.items() if "script" in names} == SCRIPTS
    assert {path for path, names in used.items() if "as_written" in names} == {"member.py"}
    assert {path for path, names in used.items() if {"_connection", "Cursor", "cursor_factory"} & names} == {
        "session.py"
    }
