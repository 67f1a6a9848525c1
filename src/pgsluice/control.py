"""The control schema of the target: what it has to look like before it is used, and what of it is missing or another's.

What stands in it is read and written by our role, so whoever can put a view, a trigger or a default there would run
code with its rights. Its tables are expected as `control.sql` makes them, which is read for that.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pgsluice import sqltext
from pgsluice.errors import RefusedError
from pgsluice.session import Session

#: What people look at, and we do not.
VIEWS = ("runs", "tables")
_TABLE = re.compile(r"(?:CREATE TABLE IF NOT EXISTS|ALTER TABLE) \{schema\}\.(\w+)(.*?);\n", re.DOTALL)
_COLUMN = re.compile(r"(?:^ +|ADD COLUMN IF NOT EXISTS )([a-z_]+) ([a-z]+)", re.MULTILINE)
#: A name that needs no quotes in a connection string.
_WORD = re.compile(r"\w+")
_DEFAULT = re.compile(r"DEFAULT (\w+\(\))")
#: What stands in the place of a relation of ours, and the statement that takes it away.
_KINDS = {
    "vp": ("a view", "DROP VIEW {0};"),
    "mp": ("a materialized view", "DROP MATERIALIZED VIEW {0};"),
    "fp": ("a foreign table", "DROP FOREIGN TABLE {0};"),
    "pp": ("a partitioned table", "DROP TABLE {0};"),
    "rp": ("a table", "DROP TABLE {0};"),
    "ru": ("an UNLOGGED table", "ALTER TABLE {0} SET LOGGED;"),
    "Sp": ("a sequence", "DROP SEQUENCE {0};"),
    "cp": ("a type", "DROP TYPE {0};"),
}
UNFIT = "the control schema of the target can't be used, for others could run code by it"

#: What is wrong with a relation, and the statement that mends it: {0} its name, {1} and {2} the details, {3} our type.
_FAULTS = {
    "trigger": ("it has trigger {1}", "DROP TRIGGER {1} ON {0};"),
    "rule": ("it has rule {1}", "DROP RULE {1} ON {0};"),
    "security": ("it has row-level security", "ALTER TABLE {0} DISABLE ROW LEVEL SECURITY;"),
    "policy": ("it has policy {1}", "DROP POLICY {1} ON {0};"),
    "inherits": ("it inherits from {1}", "ALTER TABLE {0} NO INHERIT {1};"),
    "inherited": ("{1} inherits from it", "ALTER TABLE {1} NO INHERIT {0};"),
    "partition": ("it is a partition of {1}", "ALTER TABLE {1} DETACH PARTITION {0};"),
    "column": ("its column {1} is {2}, which is not ours", "ALTER TABLE {0} ALTER COLUMN {1} TYPE {3};"),
    "more": ("its column {1} is {2}, which is not ours", "ALTER TABLE {0} DROP COLUMN {1};"),
    "identity": ("its column {1} is generated", "ALTER TABLE {0} ALTER COLUMN {1} DROP IDENTITY;"),
    "stored": ("its column {1} is generated", "ALTER TABLE {0} ALTER COLUMN {1} DROP EXPRESSION;"),
    "virtual": ("its column {1} is generated", "ALTER TABLE {0} DROP COLUMN {1};"),
    "default": ("its column {1} has the default {2}", "ALTER TABLE {0} ALTER COLUMN {1} DROP DEFAULT;"),
    "constraint": ("it has constraint {1}", "ALTER TABLE {0} DROP CONSTRAINT {1};"),
    "index": ("its index {1} leans on what is not PostgreSQL's own", "DROP INDEX {1};"),
}
#: What is found that is no fault.
_NO_FAULTS = frozenset({"missing", "privilege", "role", "versions"})
_Row = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the control schema came to.

    Attributes:
        missing: names of relations, or ``relation.column``; "" for the schema itself.
        faults: what keeps it from being used, each with the way out.
        hint: what to do about all of it; empty where it has no faults.
        lacking: what the connected role lacks of SELECT, INSERT and UPDATE, by table; it is no fault of the schema's.
        versions: which relations were looked at, in which versions of their rows in the catalog.
    """

    missing: frozenset[str]
    faults: tuple[str, ...]
    hint: str
    lacking: Mapping[str, str] = field(default_factory=dict)
    versions: str = ""

    @property
    def shows_states(self) -> bool:
        """Tell whether the role may read where jobs stand, but for USAGE on the schema."""
        return not any("SELECT" in self.lacking.get(table, "") for table in ("job_state", "run_table"))


@functools.cache
def tables() -> Mapping[str, Mapping[str, str]]:
    """Return the types of our tables' columns, by table and column, as the script that makes them has them."""
    found: dict[str, dict[str, str]] = {}
    for table, body in _TABLE.findall(_script()):
        found.setdefault(table, {}).update(_COLUMN.findall(body))
    return found


def look(session: Session, schema: str) -> Look:
    """Look at the control schema. One round trip.

    Args:
        session: on the target.
        schema: its name.
    """
    query = sqltext.load("control_look").format(
        trusted=sqltext.load("trusted_roles"), versions=sqltext.load("control_versions")
    )
    found = session.rows(query, {"schema": schema, **_expected()})
    ((role, admin),) = [row[2:] for row in found if row[0] == "role"]
    ((versions, _),) = [row[2:] for row in found if row[0] == "versions"]
    wrong = sorted((row for row in found if row[0] not in _NO_FAULTS), key=lambda row: row[0] != "owner")
    return Look(
        missing=frozenset(name for kind, name, *_ in found if kind == "missing"),
        faults=tuple(_fault(schema, admin, row) for row in wrong),
        hint=_hint(schema, role, wrong) if wrong else "",
        lacking={name: privileges for kind, name, privileges, _ in found if kind == "privilege"},
        versions=versions,
    )


def is_as(session: Session, schema: str, seen: Look) -> bool:
    """Tell whether all of the control schema is there, just as an earlier look without faults saw it. One round trip.

    It costs a tenth of a look. Where it is not so, only a look tells what it is now.
    """
    wanted = {"schema": schema, "relations": _expected()["relations"]}
    return not seen.missing and session.rows(sqltext.load("control_versions"), wanted) == [(seen.versions,)]


def missing(session: Session, schema: str) -> frozenset[str]:
    """Return the names of what is missing, "" for the schema itself; empty where it is whole. One round trip.

    Raises:
        RefusedError: others could run code with our rights by it.
    """
    return proven(session, schema).missing


def proven(session: Session, schema: str) -> Look:
    """Look at the control schema, and return what a look came to in which no fault was found. One round trip.

    Raises:
        RefusedError: others could run code with our rights by it.
    """
    found = look(session, schema)
    if found.faults:
        raise RefusedError((f"{UNFIT}:", *(f"- {fault}" for fault in found.faults)), hint=found.hint, step="prepare")
    return found


def _script() -> str:
    return sqltext.load("control").as_string(None)


@functools.cache
def _expected() -> Mapping[str, list[str]]:
    """Return what the queries compare with: our relations, columns side by side, and expressions that fill these."""
    columns = [(table, column, type_) for table, of in tables().items() for column, type_ in of.items()]
    side_by_side = zip(("tables", "columns", "types"), map(list, zip(*columns, strict=True)), strict=True)
    relations = {"views": list(VIEWS), "relations": [*tables(), *VIEWS]}
    return {**dict(side_by_side), **relations, "defaults": _DEFAULT.findall(_script())}


def _fault(schema: str, admin: str, row: _Row) -> str:
    """Return what is wrong with the schema or a relation in it, and the statement that mends it."""
    kind, name, detail, more = row
    place = ".".join(sqltext.bare(part) for part in (schema, name) if part)
    if kind == "owner":
        thing = "TABLE" if name else "SCHEMA"
        return f"{place} belongs to {sqltext.bare(detail)}: ALTER {thing} {place} OWNER TO {sqltext.bare(admin)};"
    if kind == "kind":
        fault, way = _KINDS.get(detail, ("not what we made", "drop it"))
        return f"{place} is {fault}: {way.format(place)}"
    type_ = tables().get(name, {}).get(detail, "")
    fault, way = (text.format(place, detail, more, type_) for text in _FAULTS[kind])
    return f"{place}: {fault}: {way}"


def _hint(schema: str, role: str, wrong: Sequence[_Row]) -> str:
    """Return the ways out, the harmless one first, and whom it may belong to."""
    owners = {detail for kind, _, detail, _ in wrong if kind == "owner"}
    is_all = all(kind == "owner" for kind, *_ in wrong)
    name, role = sqltext.bare(schema), sqltext.bare(role)
    looking = f"To look only, connect as {_being(*owners)}. " if is_all and len(owners) == 1 else ""
    granting = " Then grant each role its rights again: docs/control-schema.md#privileges." if owners else ""
    return (
        f"{looking}To write, let a superuser or the owner of the database look at what was put there, and run the"
        f" statements above.{granting} pgsluice uses it only if it and its tables belong to {role}, to a role whose"
        f" rights {role} has, to a superuser, or (for roles that are not superusers) to the owner of the database."
        f" Last of all there is DROP SCHEMA {name} CASCADE; which loses every job's position and the history: all rows"
        " are read again, and mode append refuses to go on."
    )


def _being(owner: str) -> str:
    """Return how to connect with the rights of a role."""
    in_options = f", or with options='-c role={owner}'" if _WORD.fullmatch(owner) else ""
    return f"{sqltext.bare(owner)}{in_options}"
