"""Does a sync that reads on lose or double rows when others write for minutes?

Writers insert, update and delete in PostgreSQL 16, in transactions that overlap, hold savepoints, are rolled back, and
commit in another order than they began; rows are stamped when their transaction begins. Meanwhile syncs into
PostgreSQL 18 run back to back. After each of them the target is looked at: no key may stand there twice, and the sum
that every transaction keeps must be what it is, which it would not be with a part of a transaction. At the end the
writers stop, one more sync runs, and both sides must be equal, row by row.

scan       mode incremental by the stamp; late rows by a scan for recent transactions, deletes by a sweep
horizon    the same, late rows by holding the watermark to the oldest open transaction
xmin       mode xmin with a sweep
append     mode append, under writers that only insert
trust      for comparison: mode incremental without looking for late rows. It is expected to fail.

It is what tests/faults/test_watermarks.py does for some seconds, by the same code. The seed decides what each writer
does next, not how they meet: the same seed twice is not the same run twice. The exit code is 1 where a row was lost or
doubled.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from pgsluice.embedded import Cluster

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from servers import database
from writing import CONTROL, TRIALS, Outcome, carry_out

WAYS = {**TRIALS, "trust": CONTROL}


def main() -> int:
    options = _options()
    with Cluster(16) as before, Cluster(18) as behind, database(before) as source, database(behind) as target:
        outcome = carry_out(WAYS[options.way], source, target, options.seconds, options.seed)
    return _judged(f"{options.way}, {options.seconds:g} s", outcome)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sync back to back while others write.")
    parser.add_argument("seconds", type=float, nargs="?", default=120, help="how long they write")
    parser.add_argument("--way", choices=WAYS, default="scan", help="how a sync reads on")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of what the writers do")
    return parser.parse_args()


def _judged(what: str, outcome: Outcome) -> int:
    print(f"{what}: {outcome}")
    for fault in outcome.faults:
        print(fault)
    holds = outcome.are_equal and not outcome.faults
    print("PASS: nothing lost, nothing doubled" if holds else "FAIL: rows were lost or doubled")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
