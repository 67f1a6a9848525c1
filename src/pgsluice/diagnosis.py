"""Pure: what two servers are fit for, a verdict a line, and the way out of what is wrong."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from pgsluice.facts import Vitals
from pgsluice.job import Options, sessions
from pgsluice.plan import NEWEST_TRIED
from pgsluice.refusals import OLDEST_SOURCE, OLDEST_TARGET
from pgsluice.sqltext import bare

#: Cursors and reports compare moments of two machines; less than this nobody notices.
_SECONDS_APART = 5.0
#: Of the locks that a server has room for, so many may be ours.
_SHARE_OF_LOCKS = 0.5


class Verdict(enum.StrEnum):
    """How well something is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis.

    Attributes:
        verdict: how well it is.
        side: "source", "target" or "here".
        subject: what was looked at.
        said: what was found, and the way out.
    """

    verdict: Verdict
    side: str
    subject: str
    said: str


def diagnose(source: Vitals, target: Vitals, options: Options, relations: int) -> Iterator[Finding]:
    """Say what is well and what is not.

    Args:
        source: as it was looked at.
        target: the same.
        options: of the run that is meant.
        relations: that a run locks on each side, indexes included.
    """
    needed = sessions(options.workers)
    for side, vitals, oldest in (("source", source, OLDEST_SOURCE), ("target", target, OLDEST_TARGET)):
        yield _version(side, vitals, oldest)
        yield _clock(side, vitals)
        yield _room(side, vitals, needed[side])
        yield _locks(side, vitals, relations)
    yield from _of_source(source)
    yield from _of_target(target)


def _version(side: str, vitals: Vitals, oldest: int) -> Finding:
    major = vitals.server.major
    said = f"PostgreSQL {major}, role {vitals.server.role}, database {vitals.server.database}"
    if vitals.server.system:
        said += f", system identifier {vitals.server.system}"
    if major < oldest:
        return Finding(Verdict.FAILURE, side, "server", f"{said}: {oldest} is the oldest that serves")
    if major > NEWEST_TRIED:
        return Finding(Verdict.WARNING, side, "server", f"{said}: newer than what this release was tried on")
    return Finding(Verdict.OK, side, "server", said)


def _clock(side: str, vitals: Vitals) -> Finding:
    apart = abs(vitals.clock)
    said = f"{apart:.1f} s {'ahead of' if vitals.clock > 0 else 'behind'} this machine"
    if apart > _SECONDS_APART:
        return Finding(Verdict.WARNING, side, "clock", f"{said}: let NTP set both")
    return Finding(Verdict.OK, side, "clock", said)


def _room(side: str, vitals: Vitals, needed: int) -> Finding:
    said = f"{needed} needed, {vitals.free} free of {vitals.connections}"
    if vitals.free < needed:
        way = "raise max_connections, the limit of the role or of the database, or copy less at once (--jobs)"
        return Finding(Verdict.FAILURE, side, "connections", f"{said}: {way}")
    return Finding(Verdict.OK, side, "connections", said)


def _locks(side: str, vitals: Vitals, relations: int) -> Finding:
    said = f"{relations:,} needed at most, room for {vitals.locks:,}"
    if relations > vitals.locks * _SHARE_OF_LOCKS:
        return Finding(
            Verdict.WARNING, side, "locks", f"{said}: raise max_locks_per_transaction, or copy by several runs"
        )
    return Finding(Verdict.OK, side, "locks", said)


def _of_source(source: Vitals) -> Iterator[Finding]:
    role = bare(source.server.role)
    if source.server.in_recovery and source.settings.get("hot_standby_feedback") == "off":
        yield Finding(
            Verdict.WARNING, "source", "standby",
            "a long copy is cancelled where its rows are vacuumed on the primary: hot_standby_feedback = on",
        )  # fmt: skip
    if source.server.system is None:
        yield Finding(
            Verdict.WARNING, "source", "identity",
            "modes that read on can't tell this server from one restored in its place: GRANT EXECUTE ON FUNCTION"
            f" pg_control_system(), pg_control_checkpoint(), pg_control_recovery() TO {role};",
        )  # fmt: skip
    if not source.sees_others:
        yield Finding(
            Verdict.WARNING, "source", "sessions of others",
            f"--late-rows horizon, and who blocks a lock, can't be seen: GRANT pg_read_all_stats TO {role};",
        )  # fmt: skip


def _of_target(target: Vitals) -> Iterator[Finding]:
    settings = target.settings
    if target.server.in_recovery or settings.get("default_transaction_read_only") == "on":
        yield Finding(Verdict.FAILURE, "target", "writes", "it takes none: connect to the primary")
    for name in ("fsync", "full_page_writes"):
        if settings.get(name) == "off":
            yield Finding(
                Verdict.WARNING, "target", name, f"{name} is off: a crash of the machine can lose what was committed"
            )
    if standbys := settings.get("synchronous_standby_names"):
        yield Finding(Verdict.OK, "target", "standbys", f"commits wait for {standbys}")
