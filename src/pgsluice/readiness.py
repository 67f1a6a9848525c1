"""The snapshot of a run and the plans made under it; another one, with plans of its own, where it is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from pgsluice.control import Look
from pgsluice.errors import PgsluiceError, StepError
from pgsluice.job import Options, SyncJob
from pgsluice.plan import SyncPlan, job_id
from pgsluice.prepare import Prepared, prepared
from pgsluice.retry import Answer, answer, server_error, translated
from pgsluice.servers import Servers
from pgsluice.snapshot import Snapshot
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.turn import Turn


class Readiness:
    """What the jobs of a run are read from: one snapshot for all of them, for as long as its session lives."""

    def __init__(
        self, servers: Servers, jobs: Sequence[SyncJob], options: Options, warn: Callable[[str], None]
    ) -> None:
        """Keep what is needed; nothing is planned yet.

        `holder` is the pid of the session that took the run locks; `groups` are the jobs that commit together; `seen`
        is what the control schema looked like.

        Args:
            servers: of the run.
            jobs: in the order they were asked for.
            options: how.
            warn: told where another snapshot was taken, and what kept the run from its targets.
        """
        self._servers = servers
        self.jobs = tuple(jobs)
        self._options = options
        self._warn = warn
        self._turn = Turn(CONTROL_SCHEMA, options.wait_for_lock, warn)
        self._now: Prepared | None = None
        self._planned: dict[str, SyncPlan | PgsluiceError] = {}
        self._unread: set[str] = set()
        self._oids: dict[str, int | None] = {}
        self.holder = 0
        self.seen: Look | None = None
        self.groups: tuple[tuple[SyncJob, ...], ...] = ()
        self._ids: dict[str, str] = {}
        self._held = contextlib.ExitStack()

    def begin(self) -> None:
        """Plan every job, under the run lock of its target; `jobs` has them in the order they are to be done.

        Raises:
            PgsluiceError: no job can be done: no connection, an unknown table.
        """
        self._plan(self.jobs)
        if self._now:
            self.groups = self._now.groups
            self.jobs = tuple(job for group in self.groups for job in group)
            self._ids = {str(job.target): job_id(job, self._now.source) for job in self.jobs}

    def id_of(self, target: str) -> str:
        """Return the id of the job that writes a target, be it that it can't be done."""
        return self._ids[target]

    def planned(self, job: SyncJob) -> SyncPlan | None:
        """Return the job's plan as it stands, or None where it can't be done."""
        outcome = self._planned.get(str(job.target))
        return outcome if isinstance(outcome, SyncPlan) else None

    def of(self, job: SyncJob) -> tuple[SyncPlan, Snapshot]:
        """Return the job's plan and the snapshot to read it in; another snapshot, where the last one was lost.

        Raises:
            PgsluiceError: why the job can't be done.
        """
        name = str(job.target)
        outcome = self._planned.get(name)
        if outcome is None or (isinstance(outcome, SyncPlan) and not self._is_current()):
            self._warn("the source is read in a new snapshot from here on")
            wanted = self._unread | self._beside(job)
            self._plan([each for each in self.jobs if str(each.target) in wanted])
            outcome = self._planned[name]
        if isinstance(outcome, SyncPlan) and self._now is not None:
            return outcome, self._now.snapshot
        del self._planned[name]  # asked for again, it is looked at again
        raise outcome if isinstance(outcome, PgsluiceError) else LookupError(name)

    def _beside(self, job: SyncJob) -> set[str]:
        """Return the targets that commit together with the job's, its own included: they are read at one moment."""
        return {str(each.target) for group in self.groups if job in group for each in group} or {str(job.target)}

    def _is_current(self) -> bool:
        return self._now is not None and self._now.snapshot.lives() and self.is_held()

    def is_held(self) -> bool:
        """Tell whether no other run can have come between: the session that took the run locks is the one we have."""
        return self._servers.control.pid == self.holder

    def is_lost(self, snapshot: Snapshot) -> bool:
        """Tell whether a snapshot was let go, or the server has ended its session; an error in it is another matter."""
        return self._now is None or self._now.snapshot is not snapshot or not snapshot.session.answers()

    @contextlib.contextmanager
    def reading(self, snapshot: Snapshot, step: str, table: str) -> Iterator[None]:
        """Let a failure in the block be that of the snapshot, where it was lost: its readers say something else."""
        try:
            with translated(step, table):
                yield
        except PgsluiceError as error:
            if answer(error) is Answer.NEVER and self.is_lost(snapshot):
                ended = self._now.snapshot.session.ended if self._now else None
                reason = f"the source's snapshot was lost while it was read: {error.message}"
                raise server_error(reason, ended, error.step or step, error.table) from error
            raise

    def read(self, job: SyncJob) -> None:
        """Note that the source is not needed for this job any more; the last one lets the snapshot go.

        Merging needs nothing of the source, and a held snapshot stops its vacuum.
        """
        self._unread.discard(str(job.target))
        if not any(isinstance(self._planned.get(name), SyncPlan) for name in self._unread):
            self.close()

    def close(self) -> None:
        """Let the snapshot go."""
        self._now = None
        self._held.close()

    def _plan(self, jobs: Sequence[SyncJob]) -> None:
        self.close()
        self.holder = self._servers.control.pid
        self._now = self._held.enter_context(prepared(self._servers, jobs, self._options, CONTROL_SCHEMA, self._turn))
        self.seen = self._now.seen
        self._planned |= {str(job.target): self._bound(job, outcome) for job, outcome in self._now.outcomes}
        self._unread = {str(job.target) for job in jobs}

    def _bound(self, job: SyncJob, outcome: SyncPlan | PgsluiceError) -> SyncPlan | PgsluiceError:
        """Return a plan for the table that the target's first plan was made for: another try writes no other one."""
        if isinstance(outcome, PgsluiceError):
            return outcome
        found = outcome.facts.target_table
        oid = found.oid if found else None
        bound = self._oids.setdefault(str(job.target), oid)
        if bound in {None, oid}:
            return outcome
        return StepError(
            "the target was replaced by another table while the rows were on their way",
            hint="Run again.",
            step="merge",
            table=str(job.target),
        )
