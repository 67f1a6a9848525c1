"""A YAML file as a tree that knows its lines. The only module that knows YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pgsluice.errors import UsageError

Place = tuple[str | int, ...]

_MOST_BYTES = 1 << 20
#: Aliases of aliases can make a small file a huge tree.
_MOST_NODES = 100_000


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read.

    Attributes:
        path: of it, for people.
        root: its tree, with lines.
    """

    path: str
    root: CommentedMap

    @property
    def plain(self) -> dict[str, Any]:
        """Return the tree as plain values."""
        plain = _plain(self.root, [0])
        return plain if isinstance(plain, dict) else {}

    def line(self, place: Place) -> int:
        """Return the line, from 1, of a key, or of what comes nearest to it."""
        node: Any = self.root
        found = 1
        for part in place:
            if isinstance(node, CommentedMap) and part in node:
                found = node.lc.key(part)[0] + 1
            elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                found = node.lc.item(part)[0] + 1
            else:
                break
            node = node[part]
        return found


def read(path: Path) -> Document:
    """Read a file: YAML 1.2, in which ``no`` is a word, and a key that stands twice an error.

    Raises:
        UsageError: it is not there, or no YAML; tells the line.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path} has more than {_MOST_BYTES >> 20} MiB", hint="Is it the right file?")
        text = path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", hint="pgsluice init writes one.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: {error.reason}", hint="Save it as UTF-8.") from None
    try:
        root = YAML(typ="rt", pure=True).load(text)
    except DuplicateKeyError as error:
        raise UsageError(
            f"{path}:{_line(error)}: a key stands twice", hint="Of two values one would be lost: keep one of them."
        ) from None
    except MarkedYAMLError as error:
        raise UsageError(f"{path}:{_line(error)}: {_problem(error)}", hint="Indent by blanks, two a level.") from None
    except YAMLError as error:
        raise UsageError(f"{path} is not YAML: {error}") from None
    if not isinstance(root, CommentedMap):
        raise UsageError(f"{path} holds no settings", hint="It begins with source:, target: and tables:.")
    return Document(str(path), root)


def _line(error: MarkedYAMLError) -> int:
    return error.problem_mark.line + 1 if error.problem_mark else 1


def _problem(error: MarkedYAMLError) -> str:
    problem = error.problem or "not YAML"
    return "a tab, which YAML does not take for indentation" if r"'\t'" in problem else problem


def _plain(node: Any, seen: list[int]) -> Any:  # noqa: ANN401 - any node
    seen[0] += 1
    if seen[0] > _MOST_NODES:
        raise UsageError("the file's aliases make more than 100,000 values", hint="Write them out.")
    if isinstance(node, Mapping):
        return {str(key): _plain(value, seen) for key, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [_plain(value, seen) for value in node]
    return str(node) if isinstance(node, str) else node
