"""Pure: how rows are found that were stamped before the watermark and committed after it, and at what cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pgsluice import sqltext
from pgsluice.cursors import Cursor
from pgsluice.facts import TABLES, Facts, TableInfo
from pgsluice.job import Options, Treatment
from pgsluice.policies import LatePolicy, LateRows
from pgsluice.units import size

#: Never before their transaction began. Not so statement_timestamp(): in a procedure that commits on its way it is
#: the time of the CALL.
_CLOCKS = r"(?:now\(\)|current_timestamp|transaction_timestamp\(\)|clock_timestamp\(\))"
_CLOCK = re.compile(rf"\(*{_CLOCKS}\)*", re.IGNORECASE)
_ZONE = r"'(?:etc/)?(?:utc|gmt)'(?:::text)?"
_UTC_CLOCK = re.compile(
    rf"\(*(?:{_CLOCKS}\)*\s+at\s+time\s+zone\s+{_ZONE}|timezone\({_ZONE},\s*{_CLOCKS}\))\)*", re.IGNORECASE
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_IN_UTC = re.compile(_ZONE, re.IGNORECASE)
_SETTING = r'\bnew\.("(?:[^"]|"")+"|[^\W\d]\w*)\s*:?=\s*([^;"]+?)\s*;'
_ASSIGNMENT = re.compile(_SETTING, re.IGNORECASE)
_BODY = re.compile(rf"\s*begin\s+(?P<assignments>(?:{_SETTING}\s*)*)return\s+new\s*;\s*end\s*;?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Late:
    """A policy that fits, and what it means here.

    Attributes:
        rows: the policy; never `LatePolicy.AUTO`.
        reason: why this one and what it costs, one sentence.
        notes: what it does not find.
    """

    rows: LateRows
    reason: str
    notes: tuple[str, ...] = ()


def choose(job: Treatment, facts: Facts, options: Options, cursor: Cursor) -> Late | str:
    """Return the policy to follow, or the sentence that refuses the one asked for.

    Args:
        job: asks for one, or for `LatePolicy.AUTO`.
        facts: of both servers, with the job's progress.
        options: how large a table is scanned without being asked.
        cursor: of the job.
    """
    wanted = job.late_rows
    if wanted.policy is LatePolicy.AUTO:
        return _automatic(job, facts, options, cursor)
    obstacle = _obstacle(wanted.policy, facts, cursor)
    if obstacle:
        return f"Late rows can't be found by {wanted.policy}: {obstacle}."
    return Late(wanted, f"as asked; {_costs(facts, cursor)[wanted.policy]}", tuple(_notes(job, wanted, facts, cursor)))


def _obstacle(policy: LatePolicy, facts: Facts, cursor: Cursor) -> str | None:
    """Return why a policy can't be followed here, or None."""
    if policy is LatePolicy.SCAN:
        return no_transaction_ids(facts)
    if policy is LatePolicy.HORIZON:
        return _no_horizon(facts, cursor)
    return _no_overlap(facts, cursor) if policy is LatePolicy.OVERLAP else None


def no_transaction_ids(facts: Facts) -> str | None:
    """Return why the transactions that wrote the source's rows can't be told, or None where they can."""
    source = facts.source_table
    if not shows_transaction_ids(source):
        return f"{source.ref} does not show which transactions wrote its rows ({_kind(source)})"
    if facts.source.system is None:
        return (
            "the source hides its system identifier, so its transaction ids can't be told from those of a server"
            f" restored in its place: GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint(),"
            f" pg_control_recovery() TO {sqltext.bare(facts.source.role)};"
        )
    return None


def shows_transaction_ids(source: TableInfo) -> bool:
    """Tell whether rows of the source carry the transactions that wrote them."""
    return source.relkind in TABLES | {"m"} and all(leaf.heap for leaf in source.leaves)


def _kind(source: TableInfo) -> str:
    kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "q": "a query"}
    return kinds.get(source.relkind, "a part of it is a foreign table or kept by another access method")


# --- auto ------------------------------------------------------------------------------------------------------------


def _automatic(job: Treatment, facts: Facts, options: Options, cursor: Cursor) -> Late | str:
    """Scan what is not too large, else hold to the horizon where nothing can slip past it, else leave the choice."""
    costs = _costs(facts, cursor)
    heap = facts.source_table.heap_bytes
    scan = LateRows(LatePolicy.SCAN)
    obstacle = no_transaction_ids(facts)
    if obstacle is None and (heap <= options.scan_limit or job.late_within):
        return Late(scan, costs[LatePolicy.SCAN], tuple(_notes(job, scan, facts, cursor)))
    horizon = LateRows(LatePolicy.HORIZON)
    if _no_horizon(facts, cursor) is None and _stamped_by(facts, cursor) == "trigger":
        large = f"{size(heap)} of heap is more than is scanned unasked ({size(options.scan_limit)})"
        reason = f"{obstacle or large}; {costs[LatePolicy.HORIZON]}"
        return Late(horizon, reason, tuple(_notes(job, horizon, facts, cursor)))
    return "\n".join(_choices(facts, options, cursor, costs, obstacle))


def _choices(
    facts: Facts, options: Options, cursor: Cursor, costs: dict[LatePolicy, str], obstacle: str | None
) -> Iterator[str]:
    """Say everything that can be done about late rows of this table, and what each costs."""
    yield f"Rows of {facts.source_table.ref} that commit late need a choice of yours, --late-rows:"
    limit = f"; more than the {size(options.scan_limit)} that is scanned unasked"
    yield f"    scan: {f'not here: {obstacle}' if obstacle else costs[LatePolicy.SCAN] + limit}."
    span = {"interval": "7d", "numeric": "100000"}.get(cursor.kind.distance)
    if obstacle is None and span:
        yield f"    scan with --late-within {span}: only rows so far behind the watermark ({_way(facts, cursor)})."
    hidden = _no_horizon(facts, cursor)
    unproven = "; only a default sets the column, which a writer can override" if hidden is None else ""
    yield f"    horizon: {f'not here: {hidden}' if hidden else costs[LatePolicy.HORIZON] + unproven}."
    short = _no_overlap(facts, cursor)
    example = {"interval": "overlap:2h", "numeric": "overlap:1000"}.get(cursor.kind.distance, "overlap")
    overlap = f"not here: {short}" if short else costs[LatePolicy.OVERLAP]
    yield f"    {example} (a span you vouch for): {overlap}."
    yield f"    trust: {costs[LatePolicy.TRUST]}."


def _costs(facts: Facts, cursor: Cursor) -> dict[LatePolicy, str]:
    source, way = facts.source_table, _way(facts, cursor)
    return {
        LatePolicy.SCAN: f"reads {size(source.heap_bytes)} of heap a run, transfers only new and late rows",
        LatePolicy.HORIZON: f"reads on from a watermark that no open transaction can undercut ({way})",
        LatePolicy.OVERLAP: f"reads again what you vouch for ({way}); misses what commits later than that",
        LatePolicy.TRUST: f"reads on from the watermark ({way}); misses every row that commits late",
    }


def _way(facts: Facts, cursor: Cursor) -> str:
    """Say how the source finds rows from a value of the cursor on."""
    if facts.source_table.relkind not in TABLES | {"m"}:
        return f"at the cost of {_kind(facts.source_table)}"
    index = _index(facts)
    return f"by index {index}" if index else f"no index begins with {cursor.name}, so all is read anyway"


def _index(facts: Facts) -> str | None:
    return facts.progress.stamps.index


# --- what stands in the way ------------------------------------------------------------------------------------------


def _no_horizon(facts: Facts, cursor: Cursor) -> str | None:
    """Return why the oldest open transaction bounds no stamp, or None where it does."""
    return next(_horizon_obstacles(facts, cursor), None)


def _horizon_obstacles(facts: Facts, cursor: Cursor) -> Iterator[str]:
    source, progress = facts.source_table, facts.progress
    if progress.stamps.sequence:
        yield f"{cursor.name} is filled from sequence {progress.stamps.sequence}, whose numbers carry no time"
    if cursor.kind.name not in {"timestamp", "timestamptz"}:
        yield f"it needs a timestamp that the database sets, and {cursor.name} is {cursor.column_type}"
    if source.relkind not in TABLES or not all(leaf.heap for leaf in source.leaves):
        yield f"what sets {cursor.name} can't be seen ({_kind(source)})"
    if facts.source.in_recovery:
        yield "the source is a standby, whose writers are elsewhere"
    if progress.stamps.subscribed:
        yield f"rows of {source.ref} arrive by logical replication, stamped elsewhere"
    if not _stamped_by(facts, cursor):
        zone = " in UTC" if cursor.type == "timestamp without time zone" else ""
        yield f"nothing in the database sets {cursor.name} by its clock{zone} (a default or a BEFORE trigger)"
    if progress.horizon is None or not progress.horizon.permitted:
        role = sqltext.bare(facts.source.role)
        yield f"role {role} can't see other sessions: GRANT pg_read_all_stats TO {role};"


def _no_overlap(facts: Facts, cursor: Cursor) -> str | None:
    if not cursor.kind.distance:
        return f"there is no arithmetic on {cursor.column_type}"
    if facts.progress.stamps.winding:
        return (
            f"sequence {facts.progress.stamps.sequence} cycles or runs backwards, so new values lie below the watermark"
        )
    return None


def _stamped_by(facts: Facts, cursor: Cursor) -> str:
    """Return what sets the cursor by the database's clock: "trigger" where nothing passes it, "default", or ""."""
    clock = _CLOCK if cursor.type == "timestamp with time zone" else _UTC_CLOCK
    read = [(i, u, _assigned(body)) for i, u, body in facts.progress.stamps.triggers]
    by_clock = [
        (
            i,
            u,
            None if assigned is None else [bool(clock.fullmatch(to)) for name, to in assigned if name == cursor.name],
        )
        for i, u, assigned in read
    ]
    setting = [(i, u) for i, u, sets in by_clock if sets == [True]]
    if (
        all(sets in ([], [True]) for _, _, sets in by_clock)
        and any(i for i, _ in setting)
        and any(u for _, u in setting)
    ):
        return "trigger"
    column = facts.source_table.column(cursor.name)
    by_default = column is not None and bool(clock.fullmatch(column.default or ""))
    return "default" if by_default or setting else ""


def _assigned(body: str) -> list[tuple[str, str]] | None:
    """Return the columns that a trigger's body sets and to what, or None where it does more than that.

    PL/pgSQL is not read any deeper: a body that branches, asks tables or holds texts proves nothing.
    """
    if "'" in _IN_UTC.sub("", body) or "$" in body:
        return None
    found = _BODY.fullmatch(_COMMENT.sub(" ", body))
    return [(_unquoted(name), value) for name, value in _ASSIGNMENT.findall(found["assignments"])] if found else None


def _unquoted(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier.lower()


# --- what is not found -----------------------------------------------------------------------------------------------


def _notes(job: Treatment, rows: LateRows, facts: Facts, cursor: Cursor) -> Iterator[str]:
    name, heap = cursor.name, size(facts.source_table.heap_bytes)
    better = f"; scan finds them, reading {heap} a run" if no_transaction_ids(facts) is None else ""
    if rows.policy is LatePolicy.SCAN and job.late_within:
        yield f"late rows are found up to {job.late_within} behind the watermark, not beyond{better}"
    if rows.policy is LatePolicy.TRUST:
        yield (
            f"not guaranteed: a row whose {name} lies below the watermark when it commits is missed, and so is a"
            f" change that leaves {name} as it was{better}"
        )
    if rows.policy is LatePolicy.OVERLAP:
        yield (
            f"not guaranteed: a row that commits more than {rows.overlap} behind the watermark is missed, and so is"
            f" a change that leaves {name} as it was{better}"
        )
    if rows.policy is LatePolicy.HORIZON:
        by_default = _stamped_by(facts, cursor) == "default"
        itself = f"; a writer that gives {name} itself can pass below the watermark" if by_default else ""
        yield f"not guaranteed: a change that leaves {name} as it was is missed{itself}{better}"
    if cursor.type == "timestamp without time zone" and rows.policy in {LatePolicy.TRUST, LatePolicy.OVERLAP}:
        yield f"{name} has no time zone: local time repeats an hour in autumn, so let the overlap be longer than that"
