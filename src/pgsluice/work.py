"""Jobs that commit together on their way: their steps in order, tried again where that can help, cleaned up after."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import psycopg

from pgsluice.commit import Outcome, carry, carry_together, outcome, provable, unsettled
from pgsluice.errors import CommitUnknownError, PgsluiceError, StagingLostError, StepError
from pgsluice.job import SyncJob, TableRef
from pgsluice.member import Member
from pgsluice.model import TableReport
from pgsluice.names import Names
from pgsluice.retry import Retries, step_error
from pgsluice.shared import Shared
from pgsluice.steps import merge

#: Letters of one table's failure that the others of its group repeat: it tells the whole itself.
_TOLD = 300


class Work:
    """Jobs that commit together on their way: one, where nothing ties its target to another.

    A failure that may pass is met by another try of the smallest whole: the merge transaction where the staged rows
    still stand, the slices that have failed while the source's snapshot lives, else the jobs from a new snapshot.
    """

    def __init__(self, run: Shared, jobs: Sequence[tuple[int, SyncJob]]) -> None:
        """Keep what is needed; `errors` says why the jobs failed, if they did.

        Args:
            run: they belong to.
            jobs: tables that others refer to first, each with its number in the run, from 1.
        """
        self.members = [Member(run, job, number) for number, job in jobs]
        self.errors: list[PgsluiceError] = []
        self._run = run
        self._servers = run.servers
        self._retries = Retries(run.options.retries, run.options.retry_for, self._again)
        self._is_unsettled = False

    @property
    def targets(self) -> frozenset[TableRef]:
        """Return what it writes."""
        return frozenset(member.job.target for member in self.members)

    @property
    def _lead(self) -> Member:
        return self.members[0]

    # --- ahead of its turn -------------------------------------------------------------------------------------------

    @property
    def weight(self) -> int:
        """Return about how many bytes can be copied ahead of its turn; 0 where all is one transaction."""
        return sum(member.weight for member in self.members)

    @property
    def is_begun(self) -> bool:
        """Tell whether it is being copied already."""
        return any(member.landing.is_begun for member in self.members)

    @property
    def is_over(self) -> bool:
        """Tell whether no worker is at it."""
        return all(member.landing.is_over for member in self.members)

    @property
    def pending(self) -> list[Future[Any]]:
        """Return the slices that are not over, which can be waited for."""
        return [outcome for member in self.members for outcome in member.landing.pending]

    @property
    def skipped(self) -> list[TableReport]:
        """Return the reports of jobs whose turn did not come."""
        return [member.skipped for member in self.members]

    def begin(self) -> None:
        """Begin to copy. What fails in here is dealt with in `carry`."""
        for member in self.members:
            if member.weight:
                member.begin()

    def look(self) -> None:
        """Tell how far it is."""
        for member in self.members:
            member.landing.look()

    def abandon(self) -> None:
        """Clean up after a beginning that is not carried on."""
        with contextlib.ExitStack() as cleanup:
            for member in self.members:
                cleanup.callback(member.landing.end)
                cleanup.callback(member.landing.keep_or_drop, None, PgsluiceError("the run ended"), None)
                cleanup.callback(member.landing.let_go)

    # --- in its turn -------------------------------------------------------------------------------------------------

    def carry(self, *, patient: bool = True) -> list[TableReport]:
        """Do the jobs, or note why not. `patient`: try again where that can help."""
        if not patient:
            self._retries = Retries(0, self._run.options.retry_for, self._again)
        try:
            with contextlib.ExitStack() as cleanup:
                for member in self.members:
                    cleanup.callback(member.landing.end)
                    cleanup.push(member.landing.keep_or_drop)
                    cleanup.callback(member.landing.let_go)
                self._retries.carry(self._attempt)
        except PgsluiceError as error:
            self._fail(error)
        finally:
            for member in self.members:
                self._run.ready.read(member.job)
        if not self.errors:
            for member in self.members:
                member.done()
            self._follow()
        return [member.account.tell(attempts=self._retries.attempts) for member in self.members]

    def _follow(self) -> None:
        """Run what users want to follow their tables, of all of them, be it that it fails for one."""
        for member in () if self._run.is_preview else self.members:
            try:
                member.after()
            except PgsluiceError as error:
                self.errors.append(error)

    def _again(self, error: PgsluiceError, attempt: int, seconds: float) -> None:
        self._of(error).account.again(error, attempt, seconds)

    def _of(self, error: PgsluiceError) -> Member:
        """Return the member that an error is about."""
        return next((member for member in self.members if str(member.job.target) == error.table), self._lead)

    def _attempt(self) -> None:
        attempts = self._retries.attempts
        if attempts > 1:
            self._servers.settle()
        try:
            for member in self.members:
                if member.failed and attempts == 1:
                    raise member.failed
            if not (self._is_unsettled and self._has_committed()):
                self._once()
        except PgsluiceError as error:
            self._is_unsettled = isinstance(error, CommitUnknownError)
            if isinstance(error, StagingLostError):
                self._let_go()
            if error.sqlstate == psycopg.errors.ReadOnlySqlTransaction.sqlstate:
                self._servers.leave("target")
            raise
        except psycopg.Error as error:  # between the steps: a BEGIN; COMMIT is a step of its own
            raise step_error(error, "merge", self._named(error)) from error

    def _named(self, error: psycopg.Error) -> str:
        """Return the target that a constraint which was looked at last belongs to, or the first one."""
        named = (error.diag.schema_name or "", error.diag.table_name or "")
        found = (target for target in self.targets if (target.schema, target.name) == named)
        return str(next(found, self._lead.job.target))

    def _has_committed(self) -> bool:
        """Ask once more what became of the last try's COMMIT."""
        if self._lead.ready is None:
            return False
        became = outcome(self._servers, self._lead.plan, self._run.run_id)
        if became is Outcome.UNKNOWN:
            raise unsettled(became, self._lead.plan, self._run.run_id)
        return became is Outcome.COMMITTED

    def _once(self) -> None:
        """Go the whole way, or what is left of it."""
        attempts = self._retries.attempts
        # where another run may have come between, it may have brought newer rows than these
        if any(not self._stands(member) for member in self.members if member.landing.is_begun):
            self._let_go()
        for member in self.members:
            if member.ready is None or not member.landing.is_begun:
                member.open(attempts)
        filled = [member.filled() for member in self.members]
        if any(filled):
            self._retries.progressed(sum(len(member.plan.slices) + 1 for member in self.members))
        if self._run.is_preview:
            for member, staged in zip(self.members, filled, strict=True):
                member.preview(*staged or ())
            return
        account, pairs = self._lead.account, zip(self.members, filled, strict=True)
        committing = account.step("commit")
        with provable(self._servers, self._lead.plan, self._run.run_id, account.warn, committing) as names:
            self._merge(names, [staged or member.at_once(attempts) for member, staged in pairs])
        for member in self.members:
            member.committed()

    def _stands(self, member: Member) -> bool:
        """Tell whether what is staged of a member serves this try too."""
        return member.landing.is_held and (self._retries.attempts == 1 or member.landing.goes_on())

    def _let_go(self) -> None:
        """Give up what is staged, of all members: rows of two snapshots are not one state of the source."""
        for member in self.members:
            member.landing.let_go()

    def _merge(self, names: Names, staged: Sequence[Sequence[merge.Staged]]) -> None:
        """Merge what is staged, in the open transaction."""
        merges = [member.part(names, *each) for member, each in zip(self.members, staged, strict=True)]
        steps = [member.account.step for member in self.members]
        if len(merges) == 1:
            settled = [carry(merges[0], steps[0])]
        else:
            settled = carry_together(self._servers, list(zip(merges, steps, strict=True)))
        for member, (merged, reached) in zip(self.members, settled, strict=True):
            member.remember(merged, reached, self._retries.attempts)

    def _fail(self, error: PgsluiceError) -> None:
        """Let one member's error be that of all of them."""
        culprit = self._of(error)
        told = error.message if len(error.message) <= _TOLD else f"{error.message[:_TOLD]}..."
        for member in self.members:
            if member is culprit:
                mine: PgsluiceError = error
            else:
                mine = StepError(
                    f"rolled back with {culprit.job.target}, with which it commits: {told}",
                    hint=error.hint,
                    step=error.step,
                    table=str(member.job.target),
                    sqlstate=error.sqlstate,
                )
                mine.exit_code = error.exit_code
            self.errors.append(mine)
            member.fail(mine, self._retries.attempts)
