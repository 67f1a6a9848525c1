"""Reads servers, tables, keys, types and privileges into values. A run asks once, for all of its tables."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from pgsluice import expressions, ordering, sqltext, transport, visible
from pgsluice.carrying import Question
from pgsluice.errors import TableNameError, TemporaryError, UnknownTableError, UserSqlError
from pgsluice.facts import (
    Attachment,
    Column,
    ColumnSequence,
    Dependency,
    Equality,
    ForeignKey,
    Horizon,
    Key,
    Leaf,
    Moment,
    SchemaInfo,
    ServerInfo,
    Stamps,
    TableInfo,
)
from pgsluice.job import QuerySource, TablePattern, TableRef
from pgsluice.retry import step_error
from pgsluice.session import Session

#: What a pattern stands for; views and foreign tables are copied when they are named.
_TRANSACTION_IDS = 1 << 32
_FIRST_OWN_OID = 16384  # FirstNormalObjectId: what initdb made lies below
_PATTERN_KINDS = frozenset({"r", "p"})
_ESCAPED = "backslashreplace"
_MOST_COLUMNS = 500  # a third of what a query can return
#: In the place of an operator class: the type's own.
_DEFAULT = 0


def server(session: Session) -> ServerInfo:
    """Describe the server and the role in it. One round trip, two where the server shows its identity."""
    version, database, oid, recovery, encoding, role, create, temporary, started, *rest = session.row(
        sqltext.load("server")
    )
    shows_identity, name_bytes = rest
    system, timeline = session.row(sqltext.load("identity")) if shows_identity else (None, None)
    return ServerInfo(
        version=version,
        system=system,
        timeline=timeline,
        database=database,
        database_oid=oid,
        in_recovery=recovery,
        encoding=encoding,
        role=role,
        can_create_schema=create,
        can_use_temporary=temporary,
        address=":".join(session.pinned[part] for part in ("host", "port")),
        started=started,
        search_path=session.search_path,
        time_zone=session.time_zone,
        transport=transport.doubt(session.side, session.live) or "",
        name_bytes=name_bytes,
    )


def find(
    session: Session,
    patterns: Sequence[str],
    hidden_schema: str,
    told: Callable[[str], str] = "the pattern {!r}".format,
) -> tuple[TableRef, ...]:
    """Resolve what a user named to relations of this server, in the order asked for, each once.

    Args:
        session: on the server.
        patterns: ``schema.table``, or a glob such as ``sales.*`` (tables only; partitions by their parent); see
            `TablePattern`.
        hidden_schema: never matched by a glob: the control schema.
        told: returns a pattern as a message begins that speaks of it: with the line of a file, where it has one.

    Raises:
        UnknownTableError: every pattern that matches nothing, with the nearest names.
    """
    known = _relations(session)
    found: dict[TableRef, None] = {}
    unknown: list[tuple[str, str]] = []
    for pattern in patterns:
        wanted = _parsed(pattern, known)
        if not wanted.is_glob:
            found[wanted.ref] = None
            continue
        matches = [
            ref
            for ref, kind in known.items()
            if kind in _PATTERN_KINDS and ref.schema != hidden_schema and wanted.matches(ref)
        ]
        if not matches:
            unknown.append((f"{told(pattern)} matches no table", _nearest(wanted.ref, known)))
        found.update(dict.fromkeys(matches))
    if len(unknown) > 1:
        raise UnknownTableError(tuple(f"{said}. {hint}" for said, hint in unknown))
    for said, hint in unknown:
        raise UnknownTableError(said, hint=hint)
    return tuple(found)


def _parsed(pattern: str, known: Iterable[TableRef]) -> TablePattern:
    """Read a pattern.

    Raises:
        TableNameError: it is none; one without a schema is told where there are tables of its name.
    """
    try:
        return TablePattern.parse(pattern)
    except TableNameError as error:
        alone = pattern.strip()
        there = sorted(ref for ref in known if ref.name == alone)[:5]
        if there:
            error.hint = f"Did you mean {' or '.join(visible.shell(ref.typed) for ref in there)}?"
        raise


def require(
    session: Session, refs: Sequence[TableRef], found: Iterable[TableInfo], side: str
) -> dict[TableRef, TableInfo]:
    """Return `found` by name.

    Raises:
        UnknownTableError: one of `refs` is not among them; gives the nearest names.
    """
    infos = {info.ref: info for info in found}
    for ref in refs:
        if ref not in infos:
            hint = _nearest(ref, _relations(session))
            raise UnknownTableError(f"there is no table {ref} on the {side}", hint=hint)
    return infos


def _relations(session: Session) -> dict[TableRef, str]:
    """Return the kinds of all relations."""
    return {_ref(schema, name): kind for schema, name, kind in session.rows(sqltext.load("relations"))}


def _ref(schema: bytes, name: bytes) -> TableRef:
    r"""Return a name in which a byte that is not UTF-8 stands as ``\xff``."""
    return TableRef(schema.decode(errors=_ESCAPED), name.decode(errors=_ESCAPED))


def unreadable(session: Session, refs: Iterable[TableRef]) -> tuple[TableRef, ...]:
    r"""Return those that `find` has given such a name that no statement can hold it. One round trip where some may be.

    Args:
        session: on the server.
        refs: that `find` has returned.
    """
    doubtful = {ref for ref in refs if "\\x" in f"{ref.schema}{ref.name}"}
    if not doubtful:
        return ()
    return tuple(
        ref
        for schema, name, _ in session.rows(sqltext.load("relations"))
        if not (_is_utf8(schema) and _is_utf8(name)) and (ref := _ref(schema, name)) in doubtful
    )


def _is_utf8(name: bytes) -> bool:
    return name.decode(errors="ignore").encode() == name


def _nearest(wanted: TableRef, known: Iterable[TableRef]) -> str:
    """Suggest names, as they can be pasted into a shell: in another case or schema first, then by likeness."""
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for ref in known:
        by_name[str(ref).lower()].append(visible.shell(ref.typed))
        by_name[ref.name.lower()].append(visible.shell(ref.typed))
    close = [str(wanted).lower(), wanted.name.lower(), *difflib.get_close_matches(str(wanted).lower(), by_name, 5)]
    close += difflib.get_close_matches(wanted.name.lower(), by_name, 5)
    suggestions = list(dict.fromkeys(name for spelling in close for name in by_name.get(spelling, ())))[:5]
    return f"Did you mean {', '.join(suggestions)}?" if suggestions else "The database has no table of a like name."


def tables(session: Session, refs: Sequence[TableRef]) -> tuple[TableInfo, ...]:
    """Describe the relations that exist among `refs`, in order. Three round trips, five where types are not core."""
    wanted = {"schemas": [ref.schema for ref in refs], "names": [ref.name for ref in refs]}
    heads = session.rows(sqltext.load("tables"), wanted)
    oids = {"oids": [head[0] for head in heads]}
    found, indexes = session.rows(sqltext.load("columns"), oids), session.rows(sqltext.load("keys"), oids)
    leaning = _Leaning(session, [row[14] for row in found], [row[15] for row in found])
    of_columns = [(row[18], _DEFAULT) for row in found]
    of_keys = [pair for row in indexes for pair in zip(row[6], row[7], strict=True)]
    equality = _equalities(session, [*of_columns, *of_keys])
    columns: defaultdict[int, list[Column]] = defaultdict(list)
    for (oid, *rest), pair in zip(found, of_columns, strict=True):
        columns[oid].append(dataclasses.replace(_column(leaning, *rest), equality=equality[pair]))
    keys: defaultdict[int, list[Key]] = defaultdict(list)
    for oid, name, primary, constraint, not_null, names, types, opclasses, size in indexes:
        operators = tuple(equality[pair] for pair in zip(types, opclasses, strict=True))
        keys[oid].append(Key(name, tuple(names), operators, primary, not_null, constraint, size or 0))
    return tuple(_table(head, tuple(columns[head[0]]), tuple(keys[head[0]])) for head in heads)


def _equalities(session: Session, pairs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Equality]:
    """Return the equality of types, each with the operator class of an index or `_DEFAULT`.

    That of PostgreSQL's own types is its own ``=``, and is not asked for; nor is that of a type that has none. One
    round trip where some are not.
    """
    equality = dict.fromkeys(pairs, Equality())
    own = [pair for pair in equality if max(pair) >= _FIRST_OWN_OID]
    wanted = {"types": [type_ for type_, _ in own], "opclasses": [opclass for _, opclass in own]}
    for type_, opclass, found in session.rows(sqltext.load("equality"), wanted) if own else ():
        equality[type_, opclass] = _equality(*found)
    return equality


def _equality(schema: str, operator: str, *operand: str) -> Equality:
    return Equality(schema, expressions.operator_name(operator), (operand[0], operand[1]) if operand else None)


def foreign_keys(session: Session, infos: Iterable[TableInfo]) -> tuple[ForeignKey, ...]:
    """Return the foreign keys by which the tables, or parts of them, refer to each other. One round trip."""
    found = session.rows(sqltext.load("foreign_keys"), {"oids": [info.oid for info in infos]})
    return tuple(
        ForeignKey(
            TableRef(schema, name),
            TableRef(parent_schema, parent),
            cascades,
            deferrable,
            relkind,
            tuple((theirs, _equality(*equality), own) for theirs, equality, own in pairs or ()),
            *map(tuple, leaves),
        )
        for schema, name, relkind, parent_schema, parent, cascades, deferrable, *leaves, pairs in found
    )


def stamps(session: Session, columns: Sequence[tuple[int, str]]) -> tuple[Stamps, ...]:
    """Say how columns of the source, given as (oid of the table, name), get their values. One round trip."""
    wanted = {"oids": [oid for oid, _ in columns], "names": [name for _, name in columns]}
    return tuple(
        Stamps(tuple((on_insert, on_update, body) for on_insert, on_update, body in triggers), *rest)
        for triggers, *rest in session.rows(sqltext.load("stamps"), wanted)
    )


def is_empty(session: Session, table: TableInfo, scope: sql.Composable) -> bool:
    """Tell whether a table holds no row in scope. One look."""
    query = sql.SQL("SELECT NOT EXISTS (SELECT FROM {} WHERE {})").format(
        sqltext.relation(table.ref, table.relkind), scope
    )
    return bool(session.row(query)[0])


def repeats_at(session: Session, table: TableInfo, moment: Moment) -> int | None:
    """Return the transaction from which on new rows can't be told from rows that are there already, or None.

    Ids come again after 2^32. A row keeps the one that wrote it for ever; once more than 2^31 have passed, ``age``
    shows it as one that is still to come. One scan, and none on a cluster that has not used up its ids once.

    Args:
        session: on the source, in the run's snapshot.
        table: what is read.
        moment: of the snapshot.
    """
    if moment.xmax < _TRANSACTION_IDS:
        return None
    query = sql.SQL("SELECT -pg_catalog.max(pg_catalog.age(xmin))::bigint FROM {} WHERE pg_catalog.age(xmin) < 0")
    (distance,) = session.row(query.format(sqltext.relation(table.ref, table.relkind)))
    return None if distance is None else moment.xmax + int(distance)


def horizon(session: Session) -> Horizon:
    """Say what open transactions can still commit; asked before the snapshot. Two round trips.

    Prepared transactions come second: one that is prepared in between is seen by both looks, not by none.
    """
    bound, blind, permitted = session.row(sqltext.load("horizon"))
    (prepared,) = session.row(sqltext.load("prepared"))
    if prepared:
        return Horizon(None, f"prepared transactions open on the source: {prepared}", permitted)
    if blind:
        return Horizon(None, f"sessions of the source with track_activities off: {blind}", permitted)
    return Horizon(bound, permitted=permitted)


def _table(head: tuple[Any, ...], columns: tuple[Column, ...], keys: tuple[Key, ...]) -> TableInfo:
    oid, schema, name, kind, rows, size, heap, indexes, usage, *granted_to_us, policies, triggers, leaves = head[:16]
    owner, comment, owned, rivals, heirs = head[16:]
    granted = dict(zip(("SELECT", "INSERT", "UPDATE", "DELETE"), granted_to_us, strict=True))
    return TableInfo(
        ref=TableRef(schema, name),
        oid=oid,
        relkind=kind,
        columns=columns,
        keys=keys,
        rows=rows,
        bytes=size,
        privileges=frozenset(privilege for privilege, held in granted.items() if held),
        schema_usage=usage,
        row_security=policies,
        triggers=tuple(triggers),
        leaves=tuple(_leaf(*leaf) for leaf in leaves),
        heap_bytes=heap,
        owner=owner,
        index_bytes=indexes,
        comment=comment,
        owned=owned,
        rivals=rivals,
        heirs=tuple(heirs),
    )


def _leaf(  # noqa: PLR0913, PLR0917 - the fields of one of them in tables.sql, in order
    oid: int,
    file: int,
    bound: str,
    heap: bool,  # noqa: FBT001
    schema: str,
    name: str,
    size: int,
    heap_bytes: int,
    readable: bool,  # noqa: FBT001
) -> Leaf:
    return Leaf(oid, file, bound, heap, TableRef(schema, name), size, heap_bytes, readable)


def _column(  # noqa: PLR0913, PLR0917 - the fields of one row of columns.sql, in order
    leaning: _Leaning,
    name: str,
    type_: str,
    leaf: str,
    kind: str,
    not_null: bool,  # noqa: FBT001
    default: str | None,
    local: bool,  # noqa: FBT001
    generated: str,
    identity: str,
    collation_schema: str | None,
    collation: str | None,
    number: int,
    base: str,
    leaf_oid: int,
    collation_oid: int,
    sequence: list[Any] | None,
    comment: str | None,
    type_oid: int,
    modifier: int,
    users: list[str],
) -> Column:
    return Column(
        name=name,
        type=expressions.type_name(type_),
        leaf=expressions.type_name(leaf),
        kind=kind,
        not_null=not_null,
        default=default,
        default_is_local=local,
        generated=generated,
        identity=identity,
        collation=(collation_schema, collation) if collation_schema and collation else None,
        number=number,
        base=expressions.type_name(base),
        dependencies=leaning.of(collation_oid, leaf_oid),
        sequence=_sequence(*sequence) if sequence else None,
        comment=comment,
        type_id=(type_oid, modifier),
        computed=(default or "") if generated == "v" else "",
        users=tuple(users),
    )


def _sequence(type_: str, options: list[int], cycles: bool, last: int | None, may_set: bool) -> ColumnSequence:  # noqa: FBT001
    start, increment, minimum, maximum, cache = map(int, options)
    at = None if last is None else int(last)
    return ColumnSequence(type_, (start, increment, minimum, maximum, cache), cycles, at, may_set)


class _Leaning:
    """What columns lean on that is not PostgreSQL's own: asked once for all of them, and not at all where all is."""

    def __init__(self, session: Session, types: Iterable[int], collations: Iterable[int]) -> None:
        wanted = {
            "types": sorted({oid for oid in types if oid >= _FIRST_OWN_OID}),
            "collations": sorted({oid for oid in collations if oid >= _FIRST_OWN_OID}),
        }
        found = session.rows(sqltext.load("dependencies"), wanted) if any(wanted.values()) else []
        self._found = {oid: (_dependency(*rest), direct) for oid, *rest, direct in found}

    def of(self, *oids: int) -> tuple[Dependency, ...]:
        """Return what these lean on, each behind what it leans on itself, and themselves."""
        known = ordering.behind(oids, lambda oid: sorted(self._found[oid][1]) if oid in self._found else ())
        return tuple(self._found[oid][0] for oid in known if oid in self._found)


def _dependency(  # noqa: PLR0913, PLR0917 - the fields of one row of dependencies.sql, in order
    schema: str,
    name: str,
    kind: str,
    sql_: str,
    labels: list[str],
    base: str,
    parts: list[list[str]],
    not_null: bool,  # noqa: FBT001
    default: str | None,
    extension: str | None,
    obstacle: str,
    is_text: bool,  # noqa: FBT001
) -> Dependency:
    if extension:
        obstacle = f"it belongs to the extension {extension}"
    as_name = {"c": expressions.type_name, "r": expressions.object_name}.get(kind, str)  # others are quoted, or judged
    listed = tuple((part, as_name(text)) for part, text in parts)
    base = base and expressions.type_name(base)
    return Dependency(
        schema,
        name,
        kind,
        expressions.object_name(sql_),
        tuple(labels),
        base,
        listed,
        not_null,
        default,
        obstacle,
        is_text,
    )


def attachments(session: Session, infos: Sequence[TableInfo]) -> dict[TableRef, tuple[Attachment, ...]]:
    """Return what hangs on tables beside columns and primary keys. One round trip."""
    found: defaultdict[int, list[Attachment]] = defaultdict(list)
    for oid, kind, name, definition, columns, local, unique, over in session.rows(
        sqltext.knowing_options("attachments"), {"oids": [info.oid for info in infos]}
    ):
        found[oid].append(Attachment(kind, name, definition, tuple(columns), local, unique, tuple(over)))
    return {info.ref: tuple(found[info.oid]) for info in infos}


def schemas(session: Session, names: Sequence[str]) -> dict[str, SchemaInfo]:
    """Describe those of the schemas that exist."""
    found = session.rows(sqltext.load("schemas"), {"schemas": list(names)})
    return {name: SchemaInfo(usage=usage, create=create) for name, usage, create in found}


def needs(session: Session, columns: Iterable[Column]) -> frozenset[str]:
    """Return the types and collations that `columns` need, as SQL names."""
    columns = tuple(columns)
    leant_on = {each.sql for column in columns for each in column.dependencies}
    own = {(each.schema, each.name) for column in columns for each in column.dependencies if each.kind == "k"}
    collations = {
        session.text(sql.Identifier(*column.collation))
        for column in columns
        if column.collation and column.collation not in own
    }
    return frozenset(column.leaf for column in columns) | collations | leant_on


def calls(columns: Iterable[Column]) -> frozenset[expressions.Name]:
    """Return what the defaults and the generated expressions of `columns` call, and those of the domains they need."""
    columns = tuple(columns)
    domains = [each for column in columns for each in column.dependencies if each.kind == "d"]
    texts = [column.default for column in columns] + [domain.default for domain in domains]
    texts += [expressions.condition_of(check)[0] for domain in domains for _, check in domain.parts]
    return frozenset(call for text in texts if text for call in expressions.calls_of(text))


@dataclass(frozen=True, slots=True)
class Present:
    """What this server has of what another one's columns need.

    Attributes:
        missing: types and collations that it lacks, as SQL names.
        definitions: what it means by the others, core types left out.
        harmless: of what is called, what computes a value and does nothing else.
    """

    missing: frozenset[str] = frozenset()
    definitions: Mapping[str, Dependency] = field(default_factory=dict)
    harmless: frozenset[expressions.Name] = frozenset()


def present(session: Session, wanted: Iterable[str], called: Iterable[expressions.Name]) -> Present:
    """Look for types, collations and what expressions call. One round trip, two where own types have these names.

    Args:
        session: on the server.
        wanted: SQL names of types and collations.
        called: by expressions.
    """
    called = sorted(called)
    lists = {"schemas": [schema for schema, _ in called], "calls": [name for _, name in called]}
    found = session.rows(sqltext.load("present"), {"names": sorted(wanted), **lists})
    types = [(name, is_here, oid) for schema, name, is_here, oid in found if schema is None]
    leaning = _Leaning(session, [oid for _, _, oid in types], ())
    known = (each for _, _, oid in types for each in leaning.of(oid))
    return Present(
        frozenset(name for name, is_here, _ in types if not is_here),
        {each.sql: each for each in known},
        frozenset((schema, name) for schema, name, is_harmless, _ in found if schema is not None and is_harmless),
    )


def untaken(session: Session, questions: Iterable[Question]) -> dict[Question, str]:
    """Say which texts of another server this one does not take, and why. Nothing of them is run.

    Two round trips where its parser takes all that it may be shown, some more for each that it does not; another one
    where a text leans on types that are not there yet: of it the functions are looked for by name.

    Args:
        session: on the server, idle.
        questions: each with what stands in its text.
    """
    asked = list(dict.fromkeys(questions))
    found: dict[Question, str] = {}
    waiting = [[each for each in asked if each.columns is not None]]
    while waiting:
        some = waiting.pop()
        half = len(some) // 2 or len(some)
        if len(some) > _MOST_COLUMNS or ((reason := _taken(session, some) if some else None) and half < len(some)):
            waiting += [some[half:], some[:half]]
        elif reason:
            found[some[0]] = f"the target does not take it ({reason})"
    unseen = {each: each.functions for each in asked if each.columns is None}
    wanted = sorted(frozenset().union(*unseen.values()))
    here = {name for (name,) in session.rows(sqltext.load("functions"), {"names": wanted})} if wanted else set()
    for each, functions in unseen.items():
        if lacking := ", ".join(sorted(functions - here)):
            found[each] = f"the target lacks the function {lacking}"
    return found


def _taken(session: Session, questions: Sequence[Question]) -> str | None:
    """Let the server parse the texts, and return why it can't, or None."""
    try:
        session.describe(session.text(sql.SQL("SELECT {}").format(sql.SQL(", ").join(map(_exists, questions)))))
    except psycopg.Error as error:
        if isinstance(step_error(error, "plan", None), TemporaryError):
            raise
        return error.diag.message_primary or str(error)
    return None


def _exists(question: Question) -> sql.Composed:
    given = [
        sql.SQL("NULL::{} AS {}").format(sqltext.verbatim(type_), sql.Identifier(name))
        for name, type_ in question.columns or ()
    ]
    source = sql.SQL(" FROM (SELECT {}) AS given").format(sql.SQL(", ").join(given)) if given else sql.SQL("")
    return sql.SQL("EXISTS (SELECT ({}){})").format(sqltext.verbatim(question.text), source)


def _all_of(query: str) -> sql.Composed:
    return sql.SQL("SELECT * FROM {}").format(sqltext.relation(QuerySource(query), "q"))


def query_columns(
    session: Session, query: str, what: str = "query", hint: str = "Give one SELECT."
) -> tuple[Column, ...]:
    """Describe the columns a query returns, without running it. Six round trips, up to eight where types are not core.

    The server parses it alone, by the extended protocol, which takes one statement only; then where it will stand,
    which a statement that writes can't.

    Args:
        session: on the source, idle.
        query: a SELECT.
        what: it is, for people.
        hint: the way out.

    Raises:
        UserSqlError: not one valid SELECT; repeats the server's words.
    """
    if not query:
        raise UserSqlError("the query is empty", hint="Give one SELECT.", step="plan")
    with _judging(what, hint), session.transaction(read_only=True):
        session.as_role(session.search_path, session.time_zone)
        session.describe(query)
        shape = session.describe(session.text(_all_of(query)))
    if not shape:
        raise UserSqlError("the query returns no columns", hint="Give one SELECT.", step="plan")
    names = [name for name, _, _ in shape]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserSqlError(
            f"the query returns more than one column called {', '.join(twice)}", hint="Name them apart with AS."
        )
    types = {"types": [oid for _, oid, _ in shape], "modifiers": [modifier for _, _, modifier in shape]}
    described = session.rows(sqltext.load("query_columns"), types)
    leaning = _Leaning(session, [row[3] for row in described], ())
    equality = _equalities(session, [(oid, _DEFAULT) for oid in types["types"]])
    return tuple(
        Column(
            name,
            expressions.type_name(type_),
            expressions.type_name(leaf),
            kind,
            equality=equality[oid, _DEFAULT],
            dependencies=leaning.of(leaf_oid),
        )
        for (name, oid, _), (type_, leaf, kind, leaf_oid) in zip(shape, described, strict=True)
    )


def type_column(session: Session, type_: str) -> Column:
    """Return a column of a type that a user has written, as the server writes it. Six round trips.

    Like a condition, it must be valid inside brackets and outside of any.

    Args:
        session: on the source, idle.
        type_: as in CREATE TABLE.

    Raises:
        UserSqlError: it is no type that a column can have; repeats the server's words.
    """
    probe = sql.SQL("SELECT CAST(NULL AS\n{type}\n) AS inside, NULL::\n{type}\n AS outside")
    hint = "Write a type as in CREATE TABLE, for example numeric(10,2)."
    query = session.text(probe.format(type=sqltext.verbatim(type_)))
    found = query_columns(session, query, f"type {type_}", hint)
    if len(found) != len(("inside", "outside")) or found[0].kind == "p":
        raise UserSqlError(f"the type {type_} is not valid: no column can have it", hint=hint, step="plan")
    return found[0]


def check_condition(session: Session, relation: sql.SQL | sql.Composed, where: str) -> None:
    """See that `where` is one condition on `relation`, without running it. Five round trips.

    It must be valid inside brackets and outside of any: what closes a bracket of ours early is neither.
    The extended protocol refuses a second statement.

    Args:
        session: on the server that will run it, idle.
        relation: what stands behind FROM.
        where: the user's condition.

    Raises:
        UserSqlError: repeats the server's words.
    """
    probe = sql.SQL("SELECT CASE WHEN\n{bare}\nTHEN 1 END FROM {relation} WHERE {bracketed}").format(
        bare=sqltext.verbatim(where), relation=relation, bracketed=sqltext.condition(where)
    )
    hint = "Give what stands behind WHERE: one condition on the table's own columns."
    with _judging("condition", hint), session.transaction(read_only=True):
        session.as_role(session.search_path, session.time_zone)
        session.describe(session.text(probe))


@contextlib.contextmanager
def _judging(what: str, hint: str) -> Iterator[None]:
    """Take what the server refuses in the block for the user's fault, unless it may pass by itself."""
    try:
        yield
    except psycopg.Error as error:
        if isinstance(step_error(error, "plan", None), TemporaryError):
            raise
        reason = error.diag.message_primary or error
        raise UserSqlError(
            f"the {what} is not valid: {reason}", hint=hint, step="plan", sqlstate=error.sqlstate
        ) from None
