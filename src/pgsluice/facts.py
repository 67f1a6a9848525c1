"""What the catalogs of both servers say, as frozen values: all that a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pgsluice.job import TableRef

#: What pg_class.relkind says of relations that can be written: tables and partitioned tables.
TABLES = frozenset({"r", "p"})
#: First major with virtual generated columns.
VIRTUAL_SINCE = 18
#: The schema of our own tables on the target.
CONTROL_SCHEMA = "pgsluice"
#: Stands for the type of a column that a run left out: should it be copied one day, its values are all new.
NOT_COPIED = ""
#: What shows a size: these, and materialized views.
SIZED = TABLES | {"m"}
#: What whoever reads a relation of some kind need not look behind: its owner may have let a view take its name. A
#: partition can be a foreign table. https://www.postgresql.org/docs/current/runtime-config-client.html
NOT_BEHIND: Mapping[str, str] = {"r": "view, foreign-table", "m": "view, foreign-table", "p": "view"}


@dataclass(frozen=True, slots=True)
class Dependency:
    """A type or collation that is not PostgreSQL's own and that a column leans on.

    Attributes:
        schema: of it.
        name: of it.
        kind: typtype (``b`` base, ``e`` enum, ``d`` domain, ``c`` composite, ``r`` range, ``m`` multirange), or ``k``
            for a collation.
        sql: its name as SQL.
        labels: of an enum, in order.
        base: the type under a domain, with modifier, or the subtype of a range.
        parts: what a definition lists, as (name, SQL): the fields of a composite with their types, the checks of a
            domain, the options of a range or a collation.
        not_null: a domain refuses NULL.
        default: of a domain, as SQL, or None.
        obstacle: why it can't be created elsewhere from what the catalog says; empty where it can.
        is_text: its values are read and written as texts are, as those of citext.
    """

    schema: str
    name: str
    kind: str
    sql: str
    labels: tuple[str, ...] = ()
    base: str = ""
    parts: tuple[tuple[str, str], ...] = ()
    not_null: bool = False
    default: str | None = None
    obstacle: str = ""
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class ColumnSequence:
    """What fills a column of its own accord: the sequence of an identity or serial column.

    Attributes:
        type: of its values.
        options: start, increment, minimum, maximum and cache, as in pg_sequence.
        cycles: begins again at its end.
        last: value that it gave last; None where it gave none, or the role may not see it.
        may_set: the connected role may set it.
    """

    type: str
    options: tuple[int, int, int, int, int]
    cycles: bool = False
    last: int | None = None
    may_set: bool = True


@dataclass(frozen=True, slots=True)
class Origin:
    """What the source is asked for in a column's place.

    Attributes:
        column: of the source; None for a column that it does not have.
        how: "" as it is, "cast", "hash" (of its text), "null", "constant", or "moment": a constant of the run, which
            does not make a row another row.
        type: that it is given, as SQL.
        value: of a constant.
        is_own_type: the column's type is somebody's own, whose cast to text may be a function of theirs.
        to_own_type: `type` is, and what casts to it may be a function of theirs too.
    """

    column: str | None
    how: str = ""
    type: str = ""
    value: str | None = None
    is_own_type: bool = False
    to_own_type: bool = False


@dataclass(frozen=True, slots=True)
class Equality:
    """An operator by which two values of one type are equal, from an operator class and never by its name alone.

    Attributes:
        schema: of the operator.
        operator: its name.
        operand: (schema, name) of the type that both sides are cast to, which costs nothing, so that no other operator
            of that schema fits them better; None where they are that already.
    """

    schema: str = "pg_catalog"
    operator: str = "="
    operand: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of the target between tables of a run.

    Attributes:
        child: that refers.
        parent: that is referred to; the same for a table that refers to itself.
        cascades: a row that is deleted takes others along, or changes them.
        deferrable: it can be looked at when all is written.
        relkind: of the child.
        pairs: (column of the parent, equality, column of the child); empty where values can't be compared so.
        child_leaves: oids of the child's partitions that it is declared on; empty where it binds all of its rows.
        parent_leaves: the same of the parent's, to whose rows alone it refers.
    """

    child: TableRef
    parent: TableRef
    cascades: bool = False
    deferrable: bool = False
    relkind: str = "r"
    pairs: tuple[tuple[str, Equality, str], ...] = ()
    child_leaves: tuple[int, ...] = ()
    parent_leaves: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """What hangs on a table beside its columns and its primary key.

    Attributes:
        kind: "index", "unique constraint", "exclusion constraint", "check", "foreign key", "trigger", "rule",
            "policy" or "grants to".
        name: of it.
        definition: SQL behind the table's name in CREATE INDEX, or behind the constraint's name in ADD CONSTRAINT.
        columns: that an index or constraint lists, in order; empty where it holds expressions.
        local: it needs nothing but the table, its types and built-in objects.
        unique: of an index.
        expressions: that an index or constraint is over, each with its collation, and its condition.
    """

    kind: str
    name: str
    definition: str = ""
    columns: tuple[str, ...] = ()
    local: bool = True
    unique: bool = False
    expressions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column as one server's catalog describes it.

    Attributes:
        name: as the catalog spells it.
        type: `format_type` with the type modifier, schema-qualified outside pg_catalog; valid SQL.
        leaf: the element type where `type` is an array, else the type itself, without modifier.
        kind: typtype of the leaf: ``b`` base, ``e`` enum, ``d`` domain, ``c`` composite, ``r`` range, ``m`` multirange.
        not_null: NULL is refused by the table (a primary key's columns included).
        default: the default expression as SQL, or None.
        default_is_local: the default needs nothing but built-in functions and the column's own type.
        generated: ``s`` stored, ``v`` virtual, else empty.
        identity: ``a`` always, ``d`` by default, else empty.
        collation: (schema, name) where the column's collation is not its type's own, else None.
        equality: of the type's default operator class.
        number: of the attribute; a column dropped and added again has another one.
        base: what `leaf` is made of where it is a domain, else the same.
        dependencies: types and collations of somebody's own that it leans on, each behind those that it leans on
            itself: the leaf's, where it is one, comes last.
        sequence: what fills it, where that is a sequence of its own.
        comment: on it, or None.
        origin: what the source is asked for; None for the column as it is.
        type_id: oid and modifier of the type on its server.
        computed: as SQL, what a virtual generated column shows, however it is copied: no row is written when that
            changes; else empty.
        users: what uses the column so that its type can't be altered: views, triggers, policies ..
    """

    name: str
    type: str
    leaf: str
    kind: str = "b"
    not_null: bool = False
    default: str | None = None
    default_is_local: bool = True
    generated: str = ""
    identity: str = ""
    collation: tuple[str, str] | None = None
    equality: Equality = Equality()
    number: int = 0
    base: str = ""
    dependencies: tuple[Dependency, ...] = ()
    sequence: ColumnSequence | None = None
    comment: str | None = None
    origin: Origin | None = None
    type_id: tuple[int, int] = (0, -1)
    computed: str = ""
    users: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Let `base` be the leaf where there is no domain."""
        object.__setattr__(self, "base", self.base or self.leaf)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Return the labels where the leaf is an enum, in order, else None."""
        own = self.dependencies[-1] if self.kind == "e" and self.dependencies else None
        return own.labels if own else None

    @property
    def is_own_type(self) -> bool:
        """Tell whether the type is somebody's own: its owner may have made casts of it."""
        return "." in self.type

    @property
    def may_have_casts(self) -> bool:
        """Tell whether the type's owner may have made casts that count: a domain has those of its base type."""
        return "." in (self.leaf if self.is_array else self.base)

    @property
    def is_array(self) -> bool:
        """Tell whether the type is an array of the leaf."""
        return self.type.endswith("[]")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A relation that holds rows: a table itself, or one of its partitions.

    Attributes:
        oid: of the relation.
        file: its file node, which a rewrite or TRUNCATE changes.
        bound: its partition bound as SQL; empty for a table of its own.
        heap: its rows carry the transaction that wrote them (not so for foreign tables and other access methods).
        ref: its schema and name, or None where nobody asks for it.
        bytes: of its heap and TOAST.
        heap_bytes: of these, the heap.
        readable: the role may read it by itself, not only through the table that it is a partition of.
    """

    oid: int
    file: int = 0
    bound: str = ""
    heap: bool = True
    ref: TableRef | None = None
    bytes: int = 0
    heap_bytes: int = 0
    readable: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """A unique index whose equality is checked at once (not deferred), over plain columns and all rows.

    Attributes:
        name: of the index.
        columns: in index order.
        operators: each column's equality, that of the index's operator class.
        primary: it is the primary key.
        not_null: no column of it can hold NULL.
        constraint: it belongs to a UNIQUE or PRIMARY KEY constraint.
        bytes: of the index and its partitions.
    """

    name: str
    columns: tuple[str, ...]
    operators: tuple[Equality, ...]
    primary: bool
    not_null: bool
    constraint: bool = False
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table, view or query as one server describes it.

    Attributes:
        ref: schema and name; for a query, empty schema and "(query)".
        oid: of the relation in its server; 0 for a query.
        relkind: as in pg_class; ``q`` for a query.
        columns: in attribute order, dropped ones left out.
        keys: usable unique indexes, primary key first, then fewest columns.
        rows: the planner's estimate; -1 where never analysed.
        bytes: heap and TOAST of the relation and its partitions.
        privileges: of the connected role: a subset of SELECT, INSERT, UPDATE, DELETE.
        schema_usage: the role has USAGE on the schema.
        row_security: policies would apply to the connected role.
        triggers: names of enabled row and statement triggers of users, its partitions' included, foreign keys left out.
        leaves: the tables that hold the rows: the relation itself, or its partitions.
        heap_bytes: of `bytes`, what a scan of all rows reads at least.
        owner: name of the owning role.
        index_bytes: its indexes, and those of its partitions.
        comment: on it, or None.
        owned: the connected role may alter it, as its owner or a member of it.
        rivals: it has several unique or exclusion constraints, so rows can stand in each other's way.
        heirs: tables that inherit from it, as SQL names; its partitions are none.
    """

    ref: TableRef
    oid: int
    relkind: str
    columns: tuple[Column, ...]
    keys: tuple[Key, ...] = ()
    rows: int = -1
    bytes: int = 0
    privileges: frozenset[str] = frozenset({"SELECT"})
    schema_usage: bool = True
    row_security: bool = False
    triggers: tuple[str, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    heap_bytes: int = 0
    owner: str = ""
    index_bytes: int = 0
    comment: str | None = None
    owned: bool = True
    rivals: bool = False
    heirs: tuple[str, ...] = ()

    def column(self, name: str) -> Column | None:
        """Return the column called `name`, or None."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """Return what its columns lean on, each once and behind what it leans on itself."""
        return tuple({each.sql: each for column in self.columns for each in column.dependencies}.values())


@dataclass(frozen=True, slots=True)
class SchemaInfo:
    """What the connected role may do in a schema.

    Attributes:
        usage: USAGE.
        create: CREATE.
    """

    usage: bool
    create: bool


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server and the session's place in it.

    Attributes:
        version: server_version_num, for example 160014.
        system: system identifier, or None where the server hides it.
        timeline: or None where the server hides it.
        database: name.
        database_oid: its oid.
        in_recovery: a standby.
        encoding: of the database, for example UTF8.
        role: the current role.
        can_create_schema: CREATE on the database.
        can_use_temporary: TEMPORARY on the database.
        address: "host:port" or the socket's path, for people.
        started: start of the postmaster, as text; tells servers apart where `system` is hidden.
        search_path: the role's own, in force before the session's prelude.
        time_zone: the role's own, in force before the session's prelude.
        transport: what is wrong with the way to it; empty where nothing is.
        name_bytes: how long a name can be, in the encoding of the database.
    """

    version: int
    system: str | None
    timeline: int | None
    database: str
    database_oid: int
    in_recovery: bool
    encoding: str
    role: str
    can_create_schema: bool
    can_use_temporary: bool
    address: str
    started: str
    search_path: str
    time_zone: str
    transport: str = ""
    name_bytes: int = 63

    @property
    def major(self) -> int:
        """Return the major version, for example 16."""
        return self.version // 10000


@dataclass(frozen=True, slots=True)
class Vitals:
    """A server as a physician looks at it.

    Attributes:
        server: which, and what the connected role may do.
        clock: seconds by which its clock is ahead of ours.
        connections: that it allows in all.
        reserved: of these, those that the role may not have.
        used: of these, now.
        database: limit of the database (-1 for none), and used.
        role: limit of the role (-1 for none), and used.
        locks: that all transactions together may hold, about.
        sees_others: the role sees what other sessions do.
        settings: some, by name.
    """

    server: ServerInfo
    clock: float
    connections: int
    reserved: int
    used: int
    database: tuple[int, int]
    role: tuple[int, int]
    locks: int
    sees_others: bool
    settings: Mapping[str, str]

    @property
    def free(self) -> int:
        """Return how many sessions the role can open now."""
        limits = [self.connections - self.reserved - self.used]
        limits += [most - used for most, used in (self.database, self.role) if most >= 0]
        return max(0, min(limits))


@dataclass(frozen=True, slots=True)
class Moment:
    """The source at the moment of the run's snapshot.

    Attributes:
        xmin: 64-bit id of the oldest transaction that the snapshot could not be sure of.
        xmax: of the first one that had not begun.
        running: how many between them were under way.
        lsn: position of its write-ahead log, in bytes, at the snapshot or after it.
        clock: its clock, as timestamptz in UTC.
        local: its clock, as timestamp in the role's own time zone, or in UTC where that is later.
        today: the latest date anywhere on earth, by its clock.
    """

    xmin: int = 0
    xmax: int = 0
    running: int = 0
    lsn: int = 0
    clock: str = "infinity"
    local: str = "infinity"
    today: str = "infinity"


@dataclass(frozen=True, slots=True)
class Horizon:
    """What the source's open transactions can still commit, read before the snapshot.

    Attributes:
        bound: no stamp of a later commit is older than this timestamptz; None where that can't be known now.
        reason: why it can't.
        permitted: the role sees other sessions' transactions at all.
    """

    bound: str | None
    reason: str = ""
    permitted: bool = True


@dataclass(frozen=True, slots=True)
class Stamps:
    """What the source's catalog says of a cursor column.

    Attributes:
        triggers: (on insert, on update, body) of each unconditional BEFORE ROW trigger in PL/pgSQL.
        subscribed: rows arrive by logical replication, stamped elsewhere.
        index: name of an index that begins with the column, or None.
        sequence: name of the sequence that it is filled from, or None.
        winding: that sequence cycles or runs backwards.
    """

    triggers: tuple[tuple[bool, bool, str], ...] = ()
    subscribed: bool = False
    index: str | None = None
    sequence: str | None = None
    winding: bool = False


@dataclass(frozen=True, slots=True)
class SeenLeaf:
    """A leaf as a run saw it: its `Leaf.file` and `Leaf.bound`, and the snapshot that read it.

    Attributes:
        file: its file node.
        bound: its partition bound.
        xmin: `Moment.xmin` of the last snapshot that read it.
    """

    file: int
    bound: str
    xmin: int


@dataclass(frozen=True, slots=True)
class JobState:
    """Where a job stands, as the target remembers it.

    Attributes:
        columns: attribute number and type of each column that the source had; `NOT_COPIED` as the type of one left out.
        leaves: by oid.
        job_id: of the job.
        seq: commits of it so far.
        run_id: the run that committed last.
        watermark: highest value of the cursor that is durably there, as text, or None.
        held: every later commit has a stamp at or above the watermark: it was held to the horizon.
        xmin: `Moment.xmin` of the last snapshot of which every row was read.
        lsn: `Moment.lsn` of the last snapshot.
        system: system identifier of its server, or None where it was hidden.
        timeline: the same.
        repeats_at: 64-bit id of the transaction from which on ids of rows read before come again, or None.
        source_oid: oid of the source table.
        target_oid: oid of the target table.
        changed: rows that the last run inserted, updated or deleted; None where all were new.
        target_files: by oid, the file node of each leaf of the target behind the last run; empty where unknown.
    """

    columns: Mapping[str, tuple[int, str]]
    leaves: Mapping[int, SeenLeaf]
    job_id: str
    seq: int
    run_id: str
    watermark: str | None
    held: bool
    xmin: int
    lsn: int
    system: str | None
    timeline: int | None
    repeats_at: int | None
    source_oid: int
    target_oid: int
    changed: int | None = None
    target_files: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come, and how far it may go now; all but the first two are asked for modes that read on.

    Attributes:
        moment: of the snapshot; all zero where none was taken (rows that were staged by hand).
        state: of the job, or None where it has none.
        elsewhere: the state of the same job on another cluster, where that one moved last: the source was replaced.
        target_is_empty: the target holds no row, or is not there.
        highest: the target's highest value of the cursor, where it was asked for.
        horizon: read where the job may lean on it.
        stamps: of the cursor column, where there is one.
        repeats_at: 64-bit id of the transaction from which on ids of rows that are there now come again, for mode
            append; None where none can.
        altered: columns of the target that this run adds or widens.
        is_known: the role may read where the job stands; else nothing here says whether it has a state.
    """

    moment: Moment = Moment()
    state: JobState | None = None
    elsewhere: JobState | None = None
    target_is_empty: bool = True
    highest: str | None = None
    horizon: Horizon | None = None
    stamps: Stamps = Stamps()
    repeats_at: int | None = None
    altered: tuple[str, ...] = ()
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Read:
    """What is read by name, and is to stay what it is.

    Attributes:
        ref: the name; None for a query.
        oid: of the relation, or of the table that it is a partition of.
        not_behind: kinds of relations that may not be looked behind meanwhile, as restrict_nonsystem_relation_kind
            lists them; empty where the relation itself, or SQL of the user's, may need that.
    """

    ref: TableRef | None
    oid: int = 0
    not_behind: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan is made from, all of it read before anything is written.

    Attributes:
        source: the source's server.
        target: the target's server.
        source_table: what is read.
        target_table: what is written, or None where it does not exist.
        target_schema: the schema of the target table, or None where it does not exist.
        control_schema: our schema on the target, or None where it does not exist.
        control_lacking: what the role lacks of SELECT, INSERT and UPDATE on its tables, by table.
        missing: types and collations of the source's columns that the target lacks.
        together: the other targets that it commits together with, the first of them first.
        leads: it is the first of these, which names all of them.
        referring: the foreign keys of the run's targets that refer to this one, its own included.
        attachments: of the source table, where the target does not exist.
        schemas: those of the missing types and collations that the target has.
        definitions: what the target means by the types of its own that columns to be created lean on, by SQL name.
        harmless: of what the expressions of columns to be created call, what does nothing on the target but compute a
            value, as (schema, name).
        untaken: why the target does not take what is to be created there, by the source's text of it.
        psql: why psql can't read this source, or None where it can.
        progress: of the job.
    """

    source: ServerInfo
    target: ServerInfo
    source_table: TableInfo
    target_table: TableInfo | None
    target_schema: SchemaInfo | None
    control_schema: SchemaInfo | None
    missing: frozenset[str] = frozenset()
    psql: str | None = None
    progress: Progress = Progress()
    control_lacking: Mapping[str, str] = field(default_factory=dict)
    together: tuple[TableRef, ...] = ()
    leads: bool = False
    referring: tuple[ForeignKey, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    schemas: Mapping[str, SchemaInfo] = field(default_factory=dict)
    definitions: Mapping[str, Dependency] = field(default_factory=dict)
    harmless: frozenset[tuple[str, str]] = frozenset()
    untaken: Mapping[str, str] = field(default_factory=dict)

    def on_target(self, column: Column) -> Column:
        """Return a column that is to be created, as the target will understand its type."""
        meant = tuple(self.definitions.get(each.sql, each) for each in column.dependencies)
        return replace(column, dependencies=meant)
