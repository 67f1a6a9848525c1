"""The control schema of the target: what it has to look like before it is used, and what of it is missing or another's.

What stands in it is read and written by our role, so whoever can put a view, a trigger or a default there would run
code with its rights. Its tables are expected as `control.sql` makes them, which is read for that.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pgsluice import sqltext
from pgsluice.errors import RefusedError
from pgsluice.session import Session

#: What people look at, and we do not.
VIEWS = ("runs", "tables")
_TABLE = re.compile(r"(?:CREATE TABLE IF NOT EXISTS|ALTER TABLE) \{schema\}\.(\w+)(.*?);\n", re.DOTALL)
_COLUMN = re.compile(r"(?:^ +|ADD COLUMN IF NOT EXISTS )([a-z_]+) ([a-z]+)", re.MULTILINE)
_DEFAULT = re.compile(r"DEFAULT (\w+\(\))")
_KINDS = {
    "vp": "a view",
    "mp": "a materialized view",
    "fp": "a foreign table",
    "pp": "a partitioned table",
    "rp": "a table",
    "ru": "an UNLOGGED table",
}
UNFIT = "the control schema of the target can't be used, for others could run code by it"

#: What is wrong with a relation, and the statement that mends it; {0} is its name, {1} the detail.
_FAULTS = {
    "trigger": ("it has trigger {1}", "DROP TRIGGER {1} ON {0};"),
    "rule": ("it has rule {1}", "DROP RULE {1} ON {0};"),
    "policy": ("it has row-level security", "ALTER TABLE {0} DISABLE ROW LEVEL SECURITY; and drop its policies"),
    "inherits": ("it inherits from {1}, or the other way round", "DROP TABLE {1}; or ALTER TABLE .. NO INHERIT .."),
    "column": ("its column {1} is not as ours", "ALTER TABLE {0} DROP COLUMN .. or ALTER COLUMN .. TYPE .."),
    "generated": ("its column {1} is generated", "ALTER TABLE {0} DROP COLUMN {1};"),
    "default": ("its column {1} is not as ours", "ALTER TABLE {0} ALTER COLUMN .. DROP DEFAULT"),
    "constraint": ("it has constraint {1}", "ALTER TABLE {0} DROP CONSTRAINT {1};"),
    "index": ("its index {1} leans on what is not PostgreSQL's own", "DROP INDEX {1};"),
}


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the control schema came to.

    Attributes:
        missing: names of relations, or ``relation.column``; "" for the schema itself.
        faults: what keeps it from being used, each with the way out.
        hint: what to do about all of it.
        lacking: what the connected role lacks of SELECT, INSERT and UPDATE, by table; it is no fault of the schema's.
    """

    missing: frozenset[str]
    faults: tuple[str, ...]
    hint: str
    lacking: Mapping[str, str] = field(default_factory=dict)

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
    query = sqltext.load("control_look").format(trusted=sqltext.load("trusted_roles"))
    found = session.rows(query, {"schema": schema, **_expected()})
    (role,) = [detail for kind, _, detail in found if kind == "role"]
    missing = frozenset(name for kind, name, _ in found if kind == "missing")
    lacking = {name: privileges for kind, name, privileges in found if kind == "privilege"}
    faults = tuple(_fault(schema, *row) for row in found if row[0] not in {"missing", "role", "privilege"})
    return Look(missing, faults, _hint(schema, role), lacking)


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
        listed = "".join(f"\n- {fault}" for fault in found.faults)
        raise RefusedError(f"{UNFIT}:{listed}", hint=found.hint, step="prepare")
    return found


def _script() -> str:
    return sqltext.load("control").as_string(None)


def _expected() -> dict[str, list[str]]:
    """Return what the query compares with: our columns side by side, and expressions that fill them."""
    columns = [(table, column, type_) for table, of in tables().items() for column, type_ in of.items()]
    side_by_side = zip(("tables", "columns", "types"), map(list, zip(*columns, strict=True)), strict=True)
    return {**dict(side_by_side), "views": list(VIEWS), "defaults": _DEFAULT.findall(_script())}


def _fault(schema: str, kind: str, name: str, detail: str) -> str:
    """Return what is wrong with the schema or a relation in it, and the way out."""
    place = ".".join(sqltext.bare(part) for part in (schema, name) if part)
    if kind == "owner":
        thing = "TABLE" if name else "SCHEMA"
        return f"{place} belongs to {sqltext.bare(detail)}: ALTER {thing} {place} OWNER TO .."
    if kind == "kind":
        return f"{place} is {_KINDS.get(detail, 'not what we made')}: drop it"
    fault, way = (text.format(place, detail) for text in _FAULTS[kind])
    return f"{place}: {fault}: {way}"


def _hint(schema: str, role: str) -> str:
    name, role = sqltext.bare(schema), sqltext.bare(role)
    return (
        f"Look at what it holds. If none of it is needed: DROP SCHEMA {name} CASCADE; the next run makes it anew, and"
        f" reads every row. If it is: ALTER SCHEMA {name} OWNER TO {role}; and mend what is listed. Trusted are {role},"
        " roles that it is a member of, superusers and, by all that are none, the owner of the database."
    )
