"""What the jobs of a run have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgsluice.events import Emitter
from pgsluice.job import Options
from pgsluice.readiness import Readiness
from pgsluice.servers import Servers
from pgsluice.steps import staging
from pgsluice.workers import Workers


@dataclass(frozen=True, slots=True)
class Shared:
    """What the jobs of a run have in common.

    Attributes:
        run_id: of the run.
        servers: both.
        workers: who copy slices.
        ready: the snapshot and the plans.
        options: how.
        emit: takes events.
        waiting: staging tables that earlier runs have left for one that resumes.
        write_down: makes room for what runs leave on the target, and notes there that this one began; once.
        is_preview: what would be done is counted, and not done.
    """

    run_id: str
    servers: Servers
    workers: Workers
    ready: Readiness
    options: Options
    emit: Emitter
    waiting: list[staging.Waiting]
    write_down: Callable[[], None]
    is_preview: bool = False
