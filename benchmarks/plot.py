"""Draw what `peers.py --json` has found: a bar for each ratio, and a mark for its limit. 1 is the peer's own time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.sax.saxutils import escape

LEFT, WIDTH, BAR, GAP, MOST = 330, 420, 16, 14, 1.3


def main(found: str) -> None:
    results = json.loads(Path(found).read_text("utf-8"))["results"]
    height = len(results) * (BAR + GAP) + 40
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 70}" height="{height}"'
            ' font-family="sans-serif" font-size="12">'
        ),
        '<rect width="100%" height="100%" fill="white"/>',
        f'<line x1="{_x(1)}" y1="10" x2="{_x(1)}" y2="{height - 24}" stroke="#999"/>',
        f'<text x="{_x(1)}" y="{height - 8}" text-anchor="middle" fill="#666">the other\'s time</text>',
    ]
    for number, result in enumerate(results):
        top = 14 + number * (BAR + GAP)
        middle = top + BAR - 4
        limit = min(result["limit"], MOST)
        name = escape(result["trial"])
        lines += [
            f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{name}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{_x(result["ratio"]) - LEFT:.1f}" height="{BAR}" fill="#2b6cb0"/>',
            (
                f'<line x1="{_x(limit):.1f}" y1="{top - 3}" x2="{_x(limit):.1f}" y2="{top + BAR + 3}" stroke="#c05621"'
                ' stroke-width="2"/>'
            ),
            f'<text x="{_x(max(result["ratio"], limit)) + 6:.1f}" y="{middle}">{result["ratio"]:.2f}</text>',
        ]
    lines.append("</svg>")
    Path(__file__).with_name("peers.svg").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _x(ratio: float) -> float:
    return LEFT + WIDTH * min(ratio, MOST) / MOST


if __name__ == "__main__":
    main(sys.argv[1])
