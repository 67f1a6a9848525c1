"""What the catalogs of both servers say, as frozen values: all that a plan is made from."""

from __future__ import annotations

from dataclasses import dataclass

from pgsluice.job import TableRef

#: What pg_class.relkind says of relations that can be written: tables and partitioned tables.
TABLES = frozenset({"r", "p"})


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
        enum: (schema, name, labels in order) of the leaf where it is an enum, else None.
        equality: (schema, name) of the type's own ``=``.
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
    enum: tuple[str, str, tuple[str, ...]] | None = None
    equality: tuple[str, str] = ("pg_catalog", "=")


@dataclass(frozen=True, slots=True)
class Key:
    """A unique index whose equality is checked at once (not deferred), over plain columns and all rows.

    Attributes:
        name: of the index.
        columns: in index order.
        operators: (schema, name) of each column's equality in the index's operator class.
        primary: it is the primary key.
        not_null: no column of it can hold NULL.
        constraint: it belongs to a UNIQUE or PRIMARY KEY constraint.
    """

    name: str
    columns: tuple[str, ...]
    operators: tuple[tuple[str, str], ...]
    primary: bool
    not_null: bool
    constraint: bool = False


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
        triggers: names of enabled row and statement triggers of users, foreign keys left out.
        leaves: oids of the tables that hold the rows (the relation itself, or its partitions).
        owner: name of the owning role.
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
    leaves: tuple[int, ...] = ()
    owner: str = ""

    def column(self, name: str) -> Column | None:
        """Return the column called `name`, or None."""
        return next((column for column in self.columns if column.name == name), None)


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

    @property
    def major(self) -> int:
        """Return the major version, for example 16."""
        return self.version // 10000


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
        missing: types and collations of the source's columns that the target lacks.
        psql: why psql can't read this source, or None where it can.
    """

    source: ServerInfo
    target: ServerInfo
    source_table: TableInfo
    target_table: TableInfo | None
    target_schema: SchemaInfo | None
    control_schema: SchemaInfo | None
    missing: frozenset[str] = frozenset()
    psql: str | None = None
