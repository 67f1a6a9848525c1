"""Text that others chose, such as names in a catalog, as it may be shown: what would command a terminal is escaped.

A table's owner chooses its name, and PostgreSQL takes every character but NUL. Escape sequences would move the cursor
or set the clipboard, bidirectional marks would reorder the text around them, a line break would add a line of ours.
"""

from __future__ import annotations

import re
import shlex
import unicodedata

#: Control characters; formats that are not seen (bidirectional marks, zero width); halves of pairs; ends of lines.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SHORT = {"\n": "\\n", "\t": "\\t"}
#: What SQL is made of, as far as finding its quoted names and literals takes.
#: Each is taken in one step and never given back, so that the time grows with the length and no faster: what is not
#: closed goes to the end.
_SQL = re.compile(
    r"""(?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*+') | (?P<quoted>(?<![\w&$])(?:'(?:[^']|'')*+' | "(?:[^"]|"")*+"))
      | \$(?P<tag>(?:[^\W\d]\w*+)?)\$(?:.*?\$(?P=tag)\$|.*) | --[^\n]*+ | /\*(?:.*?\*/|.*)
      | [\w&][\w&$]*+(?:'(?:[^']|'')*+' | "(?:[^"]|"")*+")?+""",
    re.DOTALL | re.VERBOSE,
)
#: Characters of one text that a person is shown; what is longer is nothing to read.
_SHOWN = 10_000


def one_line(text: str) -> str:
    r"""Return a text in one line that commands nothing: what can't be seen is escaped, as ``\n`` or ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(_SHORT.get(each) or _utf16(each) if is_unseen(each) else each for each in text)


def lines(text: str) -> str:
    """Return a text that commands nothing, in its lines and with its tabs.

    What is escaped in a line of JSON stays JSON, and means the same: such characters stand in its strings alone.
    """
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in text.split("\n"))


def joined(text: str) -> str:
    """Return a text of several lines in one."""
    return one_line(" ".join(text.split("\n")))


def statement(sql: str) -> str:
    r"""Return SQL that means the same, its lines its own: in names and literals ``U&"a\000ab"`` stands for odd ones."""
    return sql if sql.isprintable() else _SQL.sub(_spelled, sql)


def shortened(text: str) -> str:
    """Return a text as long as a person reads it, and how much is left out."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text) - _SHOWN:,} more)"


def _spelled(token: re.Match[str]) -> str:
    text = token.group()
    if not any(map(is_unseen, text)):
        return text
    if token["escaped"]:
        return one_line(text)  # whose escapes are those of such a literal
    if token["quoted"]:
        return "U&" + "".join(_unicode(each) for each in text)
    return text


def _unicode(character: str) -> str:
    """Return a character as it stands in a name or literal that ``U&`` begins."""
    if character == "\\":
        return "\\\\"
    return f"\\+{ord(character):06x}" if is_unseen(character) else character


def shell(text: str) -> str:
    """Return a text as one word of a shell's line that can be pasted: the shell does nothing with what is in it."""
    return shlex.quote(one_line(text))


def is_unseen(character: str) -> bool:
    """Tell whether a character would not be seen, or would change what is."""
    return unicodedata.category(character) in _UNSEEN or ord(character) & 0xFFFE == 0xFFFE  # noqa: PLR2004 - no characters


def _utf16(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
