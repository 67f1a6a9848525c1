"""What a configuration file may hold, as pydantic models: types, words and descriptions; the schema comes from them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pgsluice.job import CopyFormat, Lane, Mode, StagingKind, Strategy, TargetWriters, Verify
from pgsluice.policies import Drift, NullCursors, OnLostState

Size = Annotated[str | int, Field(description="Bytes, with their unit: 500MB, 10GB.")]
Span = Annotated[str | int | float, Field(description="Seconds, or with a unit: 500ms, 30s, 5m, 2h.")]
#: Of a column each; as a list of COLUMN=VALUE, or a map.
Pairs = list[str] | dict[str, str | int | float | bool | None]
Count = Annotated[int, Field(ge=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", use_enum_values=True, strict=False)

    def given(self) -> dict[str, Any]:
        """Return what the file says, and nothing besides."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


class TableSettings(_Settings):
    """How a table, or every table that a pattern matches, is copied."""

    to: str | None = Field(None, description="Name on the target; {schema} and {table} stand for the source's.")
    query: str | None = Field(None, description="A SELECT as the source; the entry's name is that of the target.")
    skip: bool | None = Field(None, description="Leave out the tables that match.")
    mode: Mode | None = Field(None, description="What the target shall be afterwards. Default: full.")
    where: str | None = Field(None, description="SQL that limits what is read, and what may be deleted.")
    key: str | list[str] | None = Field(None, description="Columns that tell rows apart. Default: the primary key.")
    columns: str | list[str] | None = Field(None, description="Copy only these columns.")
    exclude: str | list[str] | None = Field(None, description="Copy all columns but these.")
    rename: Pairs | None = Field(None, description="Columns called otherwise on the target: OLD=NEW.")
    cast: Pairs | None = Field(None, description="Columns that the source casts: COLUMN=TYPE.")
    constants: Pairs | None = Field(None, description="Columns with one value: NAME::TYPE=VALUE, NAME=@snapshot.")
    mask: Pairs | None = Field(None, description="COLUMN=null, hash, hash:SALT or constant:VALUE.")
    cursor: str | None = Field(None, description="What new and changed rows move forward, for mode incremental.")
    cursor_type: str | None = Field(None, description="What the cursor holds. Default: found from the catalog.")
    late_rows: str | None = Field(None, description="auto, scan, horizon, overlap:SPAN or trust.")
    late_within: str | None = Field(None, description="Look for late rows only so far behind the watermark: 7d.")
    scan_limit: Size | None = Field(None, description="Heap up to which late_rows: auto scans a table.")
    on_lost_state: OnLostState | None = Field(None, description="Where the stored position means nothing any more.")
    null_cursors: NullCursors | None = Field(None, description="Rows without a cursor: copied, or refused.")
    deletes: str | None = Field(None, description="Rows gone from the source: keep, sweep or soft:COLUMN.")
    max_delete: str | int | None = Field(None, description="The delete guard: a share (10%) or a number of rows.")
    staging: StagingKind | None = Field(None, description="Kind of staging table.")
    lane: Lane | None = Field(None, description="Who reads the source.")
    format: CopyFormat | None = Field(None, description="Of the COPY stream.")
    strategy: Strategy | None = Field(None, description="Compare first, copy everything, or replace the table.")
    target_writers: TargetWriters | None = Field(None, description="none is your word that nobody else writes it.")
    drift: Drift | None = Field(None, description="Columns that only the source has.")
    allow_narrowing: bool | None = Field(None, description="Copy into types that may not hold every value.")
    indexes: bool | None = Field(None, description="A new table gets the source's other constraints and indexes.")
    sequences: bool | None = Field(None, description="Sequences of an existing target catch up too.")
    verify: Verify | None = Field(None, description="What is compared before the commit.")
    lock_timeout: Span | None = Field(None, description="Seconds to wait for locks.")
    pre_sql: str | list[str] | None = Field(
        None, description="Statements run on the target before a table is copied, each by itself."
    )
    post_sql: str | list[str] | None = Field(None, description="The same, after the table is committed.")
    group: str | None = Field(None, description="Tables of one group commit in one transaction; --select group:NAME.")


class ServerSettings(_Settings):
    """What a server has to be; another one is refused by name."""

    database: str | int | None = Field(None, description="Name of its database.")
    system_identifier: str | int | None = Field(None, description="Of its cluster; pgsluice doctor tells it.")


class ExpectSettings(ServerSettings):
    """What the target has to be, and the source."""

    source: ServerSettings | None = Field(None, description="What the source has to be.")


class FileSettings(_Settings):
    """A configuration: two servers, and the tables that are copied between them."""

    source: str | None = Field(None, description="Where rows come from: a URI, a conninfo string or service=NAME.")
    target: str | None = Field(None, description="Where rows go.")
    expect: ExpectSettings | None = Field(
        None, description="What the target has to be; what the source: expect.source."
    )
    defaults: TableSettings = Field(TableSettings(), description="What holds for every table.")
    tables: dict[str, TableSettings | None] = Field(
        default_factory=dict, description="By name or pattern (sales.*); of entries that match, later ones win."
    )
    notify: str | list[str] | None = Field(
        None, description="A URL or a program with its arguments, told where a run failed, and where one mends that."
    )
    deadline: str | None = Field(None, description="HH:MM: when that comes, a run that is at work is ended.")
    otel: bool | None = Field(None, description="Spans and numbers for OpenTelemetry.")
    metrics_file: str | None = Field(None, description="Numbers of the run, for Prometheus.")
    metrics_addr: str | None = Field(None, description="Answer Prometheus at HOST:PORT while the run goes on.")
    max_connections: Count | None = Field(None, description="Sessions that a run may have open on each side.")
    jobs: Count | None = Field(None, description="Slices that are copied at once, of whatever tables.")
    executor: str | None = Field(None, description="Copy slices on a Dask cluster: tls://scheduler:8786.")
    atomic: bool | None = Field(None, description="Commit all tables of the run in one transaction.")
    fail_fast: bool | None = Field(None, description="End the run with the first table that fails.")
    retries: Annotated[int, Field(ge=0)] | None = Field(None, description="Tries of a table after its first.")
    retry_for: Span | None = Field(None, description="Seconds after a failure in which they may begin.")
    wait_for_lock: Span | None = Field(None, description="Seconds to wait for other runs at the same tables.")
    connect_timeout: Span | None = Field(None, description="Seconds to wait to connect.")
    stall_timeout: Span | None = Field(None, description="Seconds in which nothing moves; 0: never given up.")
    statement_timeout: Span | None = Field(None, description="Seconds that one statement may take; 0: any.")
    resumable: bool | None = Field(None, description="Keep what was copied where the run fails or dies.")
    resume_keep: str | None = Field(None, description="How long it is kept: 90m, 24h, 7d.")
    keep_history: str | None = Field(None, description="How long the target keeps what runs did: 400d.")
    slice_bytes: Size | None = Field(None, description="How large a slice of a resumable table is.")
    max_staging_bytes: Size | None = Field(None, description="Of the target's disk, for staging tables.")
    max_memory: Size | None = Field(None, description="That this process and its psql hold together.")
    max_rate: Size | None = Field(None, description="Bytes a second that are copied at most.")
    max_lag: Size | None = Field(None, description="That a standby of the target may be behind.")
    psql: str | None = Field(None, description="The psql to use. Default: the one on PATH.")
    source_encoding: str | None = Field(None, description="What a source in SQL_ASCII really holds.")
    target_encoding: str | None = Field(None, description="The same of a target in SQL_ASCII.")
    show_row_data: bool | None = Field(None, description="Let errors say what they know of a row.")
