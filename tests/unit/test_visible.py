"""Text that others chose is shown in one line that commands nothing."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from pgsluice import visible

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
