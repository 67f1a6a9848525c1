"""A YAML file as plain values that know their lines. The only module that knows YAML."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Never

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from pgsluice import visible
from pgsluice.config import files
from pgsluice.errors import UsageError

Place = tuple[str | int, ...]

_MOST_BYTES = 1 << 20
#: Aliases of aliases can make a small file a huge tree.
_MOST_NODES = 100_000
#: Settings need six; an alias of what it stands in has no end.
_MOST_LEVELS = 40
_YAML = "tag:yaml.org,2002:"
#: Dates too mean the text that stands there: no setting takes one.
_TEXTS = frozenset({"str", "timestamp", "merge", "value"})
_NUL, _SURROGATES = "\0", ("\ud800", "\udfff")


class _MistakeError(Exception):
    """Something in the text that no setting can mean.

    Attributes:
        line: from 1.
        text: what is wrong.
        hint: what to write instead.
    """

    def __init__(self, line: int, text: str, hint: str) -> None:
        super().__init__(text)
        self.line, self.text, self.hint = line, text, hint


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read.

    Attributes:
        path: of it, for people.
        plain: its tree.
        lines: of its keys and items, from 1.
        texts: of its values, as they are written.
    """

    path: str
    plain: dict[str, Any]
    lines: dict[Place, int]
    texts: Mapping[Place, str] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """Return the line, from 1, of a key, or of what comes nearest to it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read(path: Path, check: files.Check | None = None) -> Document:
    """Read a file: YAML 1.2, in which ``no`` is a word, and a key that stands twice an error.

    Args:
        path: of the file.
        check: looks at what was opened before it is read.

    Raises:
        UsageError: it is not there, or no YAML; tells the line.
    """
    try:
        text = files.read(path, _MOST_BYTES, str(path), pipes=True, check=check)
    except UsageError as error:
        hint = "" if os.access(path, os.F_OK) else "pgsluice init writes one."
        raise UsageError(error.message, hint=error.hint or hint) from None
    try:
        yaml = YAML(typ="safe", pure=True)
        root = _composed(yaml, text)
        if not isinstance(root, MappingNode):
            raise UsageError(f"{path} holds no settings", hint="It begins with source:, target: and tables:.")
        tree = _Tree(yaml.constructor)
        return Document(str(path), tree.mapping(root, ()), tree.lines, tree.texts)
    except _MistakeError as error:
        raise UsageError(f"{path}:{error.line}: {error.text}", hint=error.hint) from None


def _composed(yaml: YAML, text: str) -> Node | None:
    """Return the root of a text, whose values are still as they stand there."""
    yaml.Composer = _Bounded
    try:
        return yaml.compose(text)  # type: ignore[no-any-return]
    except MarkedYAMLError as error:
        raise _explained(error, text.split("\n")) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _MistakeError(line, "a character that YAML does not allow", "Take it out.") from None
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        # what the parser stumbles over, such as "\UFFFFFFFF", is a mistake of the text all the same
        raise _MistakeError(yaml.composer.line + 1, f"not YAML: {error}", "Put odd characters in quotes.") from None


def scalar(text: str) -> str:
    """Return a text as a YAML value or key: whatever it holds, it is read as this text, by YAML 1.1 too.

    In double quotes nothing has a type, and one line is one line; ruamel.yaml itself writes U+0085 so that it is lost.
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(each if each.isprintable() else _escape(each) for each in escaped) + '"'


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - what four digits hold


def remark(text: str) -> str:
    """Return a text as a YAML comment, which no line break in it can end."""
    return f"# {visible.one_line(text)}"


def _explained(error: MarkedYAMLError, lines: list[str]) -> _MistakeError:  # noqa: PLR0911 - a sentence a mistake
    """Return what a person did where YAML says what its parser did not expect, and the line of it."""
    problem = error.problem or "not YAML"
    line, column = (error.problem_mark.line, error.problem_mark.column) if error.problem_mark else (0, 0)
    begun = error.context_mark.line if error.context_mark else line
    here = lines[line] if line < len(lines) else ""
    if r"'\t'" in problem:
        return _MistakeError(line + 1, "a tab, which YAML does not take for indentation", _INDENT)
    if "undefined alias" in problem:
        star = "Write '*.*': {} for all tables, 'sales.*': {} for those of a schema."
        return _MistakeError(line + 1, "what begins with * stands in quotes, or is the name of an &ANCHOR", star)
    if "cannot start any token" in problem:
        return _MistakeError(line + 1, f"no value begins with {here[column : column + 1]}", "Put it in quotes.")
    if "mapping values are not allowed" in problem:
        return _misplaced_colon(lines, line, column)
    if "expected <block end>" in problem and column and here[:column].strip():
        return _MistakeError(line + 1, "something stands behind a value in quotes or brackets", _QUOTE_ALL)
    if match := re.match("expected ',' or '([]}])'", problem):
        opening = {"]": "[", "}": "{"}[match[1]]
        return _MistakeError(begun + 1, f"a {opening} that is not closed", f"Close it with {match[1]}.")
    if "end of stream" in problem and "quoted" in str(error.context):
        return _MistakeError(begun + 1, "a quote that is not closed", "Write the same quote behind the value.")
    if "expected ':'" in problem:
        return _MistakeError(begun + 1, f"{_short(lines[begun].strip())} lacks its colon", "Write NAME: VALUE.")
    return _MistakeError(line + 1, problem, _INDENT)


def _misplaced_colon(lines: list[str], line: int, column: int) -> _MistakeError:
    """Return what is wrong where a colon is not expected: it is the second one, or the line before has none."""
    if ":" in lines[line][:column].replace("::", ""):
        return _MistakeError(line + 1, "a second colon in one line", _QUOTE_ALL)
    before = line - 1
    while before > 0 and not lines[before].partition("#")[0].strip():
        before -= 1
    said = lines[max(before, 0)].partition(" #")[0].strip()
    if not said or line == 0:
        return _MistakeError(line + 1, "a colon that is not expected", _INDENT)
    name, colon, value = said.partition(":")
    if not colon:
        name, _, value = said.partition(" ")
        return _MistakeError(before + 1, f"{_short(said)} lacks its colon", f"Write {name}: {value}".rstrip() + ".")
    if value and not value[0].isspace() and " " not in name:
        return _MistakeError(before + 1, f"{_short(said)} lacks a blank behind its colon", f"Write {name}: {value}.")
    return _MistakeError(line + 1, "this line is further in than the one before it", _INDENT)


_INDENT = "Indent by blanks, two a level."
_QUOTE_ALL = "Put all of the value in quotes."


class _Bounded(Composer):
    """Ends what would take minutes to read, or more of the stack than there is."""

    def __init__(self, loader: Any = None) -> None:  # noqa: ANN401 - YAML's own
        super().__init__(loader)
        self.warn_double_anchors = False
        self._nodes = self._levels = 0
        #: Of what was begun last, from 0.
        self.line = 0

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - YAML's own
        self._nodes += 1
        self._levels += 1
        self.line = self.parser.peek_event().start_mark.line
        _refuse_excess(self._nodes, self._levels, self.line)
        node = super().compose_node(parent, index)
        self._levels -= 1
        return node


def _refuse_excess(nodes: int, levels: int, line: int) -> None:
    if levels > _MOST_LEVELS:
        raise _MistakeError(
            line + 1, f"more than {_MOST_LEVELS} levels, or an alias of what it stands in", "Settings need six levels."
        )
    if nodes > _MOST_NODES:
        raise _MistakeError(line + 1, f"more than {_MOST_NODES:,} values, aliases counted", "Name tables by patterns.")


class _Tree:
    """Plain values, made of nodes.

    Attributes:
        lines: of what was made.
        texts: of its values, as they are written.
    """

    def __init__(self, constructor: SafeConstructor) -> None:
        self.lines: dict[Place, int] = {}
        self.texts: dict[Place, str] = {}
        self._constructor = constructor
        self._nodes = 0

    def mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        """Return a mapping; its own keys stand above those that it merges, of these the first above the later."""
        _refuse_twins(node)
        known: dict[str, Any] = {}
        for key, value in self._pairs(node, len(place)):
            if (name := _name(key)) not in known:
                known[name] = self._item(key, value, (*place, name))
        return known

    def _pairs(self, node: MappingNode, levels: int) -> Iterator[tuple[Node, Node]]:
        """Return what a mapping has, and then what it merges."""
        yield from (pair for pair in node.value if not _is_merge(pair[0]))
        for each in (each for key, value in node.value if _is_merge(key) for each in _merged(value)):
            for key, value in self._pairs(each, self._counted(each, levels + 1)):
                self._counted(key, levels)
                yield key, value

    def _item(self, at: Node, node: Node, place: Place) -> Any:  # noqa: ANN401 - any value
        self.lines[place] = at.start_mark.line + 1
        self._counted(at, len(place))
        if isinstance(node, MappingNode):
            return self.mapping(node, place)
        if isinstance(node, SequenceNode):
            return [self._item(each, each, (*place, number)) for number, each in enumerate(node.value)]
        self.texts[place] = str(node.value)
        return self._scalar(node)

    def _counted(self, node: Node, levels: int) -> int:
        self._nodes += 1
        _refuse_excess(self._nodes, levels, node.start_mark.line)
        return levels

    def _scalar(self, node: Node) -> Any:  # noqa: ANN401 - a value
        """Return a word, number, yes or no, or nothing."""
        tag = str(node.tag)
        kind = tag.removeprefix(_YAML)
        if kind in _TEXTS:
            return _text(node)
        if kind == "null":
            return None
        if kind not in {"bool", "int", "float"}:
            _refuse(node, f"the tag {tag} means nothing here", "Leave it out.")
        try:
            return getattr(self._constructor, f"construct_yaml_{kind}")(node)
        except (ArithmeticError, LookupError, ValueError):
            _refuse(node, f"{_short(node.value)} can't be read as {kind}", "Put a word in quotes.")


def _refuse_twins(node: MappingNode) -> None:
    names: set[str] = set()
    for key in (key for key, _ in node.value if not _is_merge(key)):
        if _name(key) in names:
            _refuse(key, "a key stands twice", "Of two values one would be lost: keep one of them.")
        names.add(_name(key))


def _is_merge(key: Node) -> bool:
    return isinstance(key, ScalarNode) and key.value == "<<" and not key.style


def _merged(value: Node) -> Iterator[MappingNode]:
    for each in value.value if isinstance(value, SequenceNode) else [value]:
        if not isinstance(each, MappingNode):
            _refuse(each, "<<: merges settings, and this is none", "Write <<: *NAME for what is marked by &NAME.")
        yield each


def _name(key: Node) -> str:
    if not isinstance(key, ScalarNode):
        _refuse(key, "a key that is no word", "Put it in quotes.")
    return _text(key)


def _text(node: Node) -> str:
    for character in str(node.value):
        if character == _NUL or _SURROGATES[0] <= character <= _SURROGATES[1]:
            _refuse(node, f"the character U+{ord(character):04X}, which no setting can hold", "Take it out.")
    return str(node.value)


def _short(text: str) -> str:
    return repr(text if len(text) < 40 else f"{text[:37]}...")  # noqa: PLR2004 - fits a line


def _refuse(node: Node, text: str, hint: str) -> Never:
    raise _MistakeError(node.start_mark.line + 1, text, hint)
