"""The tables of docs/fidelity.md: written by the matrix, read by the test that looks after the page."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from majors import PAIRINGS
from typelist import FAMILIES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "fidelity.md"
_BEGIN, _END = "<!-- written by make test-matrix: begin -->", "<!-- written by make test-matrix: end -->"

EQUAL, REFUSED, ABSENT, DIFFERENT = "=", "refused", "absent", "DIFFERENT"
_SIGNS = {EQUAL: "=", REFUSED: "r", ABSENT: " ", DIFFERENT: "!"}


@dataclass
class Seen:
    """What one pairing showed.

    Attributes:
        source: version of the source.
        target: version of the target.
        verdicts: by name of the family.
        words: why families were refused, in the engine's words.
        faults: what was not as promised; empty where all was.
    """

    source: str
    target: str
    verdicts: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def pairing(self) -> tuple[int, int]:
        """Return the majors."""
        return _major(self.source), _major(self.target)

    def to_json(self) -> str:
        """Return it as text, for a report that travels between processes."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Seen:
        """Read what `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values)


def summary(reports: Iterable[pytest.TestReport]) -> str:
    """Return what was looked at, and write the page where that was everything and it was asked for."""
    seen = [
        Seen.of_json(str(text)) for report in reports for name, text in report.user_properties if name == "fidelity"
    ]
    looked_at = {each.pairing for each in seen}
    missing = ", ".join(f"{source} to {target}" for source, target in PAIRINGS if (source, target) not in looked_at)
    if not seen:
        return ""
    if os.environ.get("PGSLUICE_WRITE_FIDELITY") and not missing:
        write(seen)
    return f"fidelity: {len(seen)} pairings looked at{f', and not {missing}' if missing else ''}"


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def write(seen: Sequence[Seen]) -> None:
    """Put the tables into the page."""
    before, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    PAGE.write_text(f"{before}{_BEGIN}\n\n{_section(seen)}\n{_END}{after}", "utf-8")


def verdicts(text: str) -> Mapping[tuple[int, int], Mapping[str, str]]:
    """Read the verdicts off the page, by pairing and family."""
    section = text.partition(_BEGIN)[2].partition(_END)[0]
    names = {sign.strip(): verdict for verdict, sign in _SIGNS.items()}
    found: dict[tuple[int, int], dict[str, str]] = {}
    header: list[tuple[int, int]] = []
    for line in section.splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if pairings := re.findall(r"(\d+)→(\d+)", line) if line.startswith("| values") else []:
            header = [(int(source), int(target)) for source, target in pairings]
        elif not line.startswith("|"):
            header = []
        elif header and not cells[0].startswith("-"):
            for pairing, sign in zip(header, cells[1:], strict=True):
                found.setdefault(pairing, {})[cells[0]] = names[sign]
    return found


def _section(seen: Sequence[Seen]) -> str:
    seen = sorted(seen, key=lambda each: each.pairing)
    versions = sorted({each.source for each in seen} | {each.target for each in seen}, key=_major)
    parts = [f"The servers were PostgreSQL {', '.join(versions[:-1])} and {versions[-1]}."]
    parts += [
        _table(seen),
        "What was refused, in the program's words:",
        _refusals(seen),
        "The types of each row:",
        _types(),
    ]
    return "\n\n".join(parts) + "\n"


def _table(seen: Sequence[Seen]) -> str:
    header = ["values", *(f"{source}→{target}" for source, target in (each.pairing for each in seen))]
    lines = [_row(header), _row(["---", *(":-:" for _ in seen)])]
    lines += [_row([_code(family.name), *(_SIGNS[each.verdicts[family.name]] for each in seen)]) for family in FAMILIES]
    return "\n".join(lines)


def _refusals(seen: Sequence[Seen]) -> str:
    words: dict[tuple[str, str], list[str]] = {}
    for each in seen:
        for family, said in each.words.items():
            words.setdefault((family, said), []).append("{}→{}".format(*each.pairing))
    lines = [_row(["values", "pairings", "the message"]), _row(["---"] * 3)]
    lines += [_row([_code(family), ", ".join(where), f"`{said}`"]) for (family, said), where in words.items()]
    return "\n".join(lines)


def _types() -> str:
    lines = [_row(["values", "types", "different values", "since"]), _row(["---"] * 4)]
    for family in FAMILIES:
        types = ", ".join(f"`{kind.type}`" for kind in family.kinds)
        since = str(family.since) if family.since > min(each.since for each in FAMILIES) else ""
        lines.append(_row([_code(family.name), types, str(sum(len(kind.values) for kind in family.kinds)), since]))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(name: str) -> str:
    return f"`{name}`" if '"' in name else name
