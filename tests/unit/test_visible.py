"""Text that others chose is shown in one line that commands nothing."""

from __future__ import annotations

import json
import shlex
import sys
import time
import timeit
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgsluice import visible
from pgsluice.errors import PgsluiceError, PlanError

COMMANDS = {
    "\n": "\\n",
    "\t": "\\t",
    "\r": "\\u000d",
    "\x00": "\\u0000",
    "\x07": "\\u0007",
    "\x1b]52;c;aWQ=\x07": "\\u001b]52;c;aWQ=\\u0007",
    "\x7f": "\\u007f",
    "\x85": "\\u0085",
    "\x9b2J": "\\u009b2J",
    "\u061c": "\\u061c",
    "\u200b": "\\u200b",
    "\u200f": "\\u200f",
    "\u2028": "\\u2028",
    "\u202e": "\\u202e",
    "\u2066": "\\u2066",
    "\ufeff": "\\ufeff",
    "\ud800": "\\ud800",
    "\U000e0041": "\\udb40\\udc41",
}


@pytest.mark.parametrize(("command", "shown"), COMMANDS.items(), ids=map(ascii, COMMANDS))
def test_what_a_terminal_obeys_is_escaped(command: str, shown: str) -> None:
    assert visible.one_line(f"a{command}b") == f"a{shown}b"


@pytest.mark.parametrize(
    "name",
    ["orders", "주문", "été", "e\u0301", "заказы", "طلبات", "🛒", "❤\ufe0f", "a b", "a\\nb", "a\u00a0b", "[red]"],
)
def test_an_ordinary_name_is_shown_as_it_is(name: str) -> None:
    assert visible.one_line(name) == visible.lines(name) == name


def test_nothing_that_is_a_control_a_format_or_an_end_of_a_line_is_left() -> None:
    shown = visible.one_line("".join(map(chr, range(sys.maxunicode + 1))))
    assert not {unicodedata.category(each) for each in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert len(shown.splitlines()) == 1


def test_lines_keep_their_ends_and_tabs_and_lose_all_else() -> None:
    assert visible.lines("a\n\tb\r\n\x1b[2J\u2028c\n") == "a\n\tb\\u000d\n\\u001b[2J\\u2028c\n"


@pytest.mark.parametrize("text", [*COMMANDS, "\\", '"', "é"], ids=ascii)
def test_a_line_of_json_means_the_same_when_it_is_shown(text: str) -> None:
    line = json.dumps({"target": f"a{text}b", text: 1}, ensure_ascii=False)
    assert json.loads(visible.lines(line)) == {"target": f"a{text}b", text: 1}


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ('SELECT "a\nb"', 'SELECT U&"a\\+00000ab"'),
        ('SELECT "a\\\u202e"".b" FROM "c"', 'SELECT U&"a\\\\\\+00202e"".b" FROM "c"'),
        ("SELECT 'a''\x1b'", "SELECT U&'a''\\+00001b'"),
        ("SELECT  E'a\\\\\nb\U000e0041'", "SELECT  E'a\\\\\\nb\\udb40\\udc41'"),
        ("SELECT 'a'\n  FROM \"b\"", "SELECT 'a'\n  FROM \"b\""),
        ("SELECT $q$a\n'b\n'$q$ -- it's\nFROM b", "SELECT $q$a\n'b\n'$q$ -- it's\nFROM b"),
        ("SELECT U&'a\nb', x'0\n1'", "SELECT U&'a\nb', x'0\n1'"),
        ("SELECT a$b$ || 'a\nb' || c$b$", "SELECT a$b$ || U&'a\\+00000ab' || c$b$"),
        ("SELECT 12345 'a\nb', $1, 'a\nb'", "SELECT 12345 U&'a\\+00000ab', $1, U&'a\\+00000ab'"),
    ],
)
def test_sql_is_shown_so_that_it_means_the_same_and_its_lines_are_its_own(sql: str, shown: str) -> None:
    assert visible.statement(sql) == shown


#: Texts that grow: each takes a search for what closes it, or for where a word ends.
GROWING = {
    "digits": "1",
    "a word": "a",
    "words": "ab ",
    "a word with dollars": "a$",
    "quotes": "'",
    "names": '"',
    "backslashes": "\\",
    "letters that may begin a literal": "e",
    "escapes": "E'\\'",
    "dollars": "$",
    "tags that nothing closes": "$a$b",
    "comments that nothing closes": "/*",
    "comments": "--",
    "ampersands": "&",
    "mixed": "E'\\'$a$/*\"&",
    "unseen": "\u202e",
}


def spent(text: str) -> float:
    """Return the seconds of processor time of the fastest of three."""
    return min(timeit.repeat(lambda: visible.statement(text), timer=time.process_time, number=1, repeat=3))


@pytest.mark.parametrize("part", GROWING.values(), ids=GROWING)
@pytest.mark.parametrize("head", ["SELECT \n\x1b ", "SELECT '\x1b ", 'SELECT "', "SELECT E'\x1b", "SELECT \n$q$"])
def test_the_time_to_show_sql_grows_with_its_length_and_no_faster(head: str, part: str) -> None:
    short, long = (head + part * (length // len(part)) for length in (25_000, 100_000))
    assert spent(long) < 12 * spent(short) + 0.1


@pytest.mark.parametrize("part", GROWING.values(), ids=GROWING)
def test_a_million_characters_are_shown(part: str) -> None:
    text = "SELECT \n" + part * (1_000_000 // len(part))
    assert len(visible.statement(text)) >= len(text)


@given(st.text("aE$'\"\\&/*-\n \u202e1"))
def test_what_is_not_shown_otherwise_is_shown_as_it_is(sql: str) -> None:
    assert visible.statement(visible.statement(sql)) == visible.statement(sql)


def test_a_long_text_is_shown_in_part_and_how_much_is_left_out() -> None:
    assert visible.shortened("a" * 10_000) == "a" * 10_000
    assert visible.shortened("a" * 1_000_000) == "a" * 10_000 + "... (990,000 more)"


@given(st.text())
def test_a_word_of_a_shell_is_one_word_however_it_is_called(name: str) -> None:
    word = visible.shell(name)
    assert shlex.split(word) == [visible.one_line(name)]
    assert "\n" not in word


def test_no_name_adds_a_line_to_an_error() -> None:
    error = PgsluiceError("no table m.a\n- forged\x1b[2J", hint="Did you mean\nm.b?", table="m.a\nb", step="plan")
    assert str(error) == "m.a\\nb: plan: no table m.a\\n- forged\\u001b[2J\nDid you mean\\nm.b?"
    assert error.table == "m.a\nb"
    refused = PlanError("m.a", ("one\n- forged", "two"))
    assert refused.message == "refused, nothing was written:\n- one\\n- forged\n- two"
    assert visible.joined(refused.message) == "refused, nothing was written: - one\\n- forged - two"
    assert refused.refusals == ("one\n- forged", "two")
