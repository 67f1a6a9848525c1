"""What the names of a transaction mean: looked at before the first lock, before rows change, and before COMMIT.

A lock keeps a table's own name, and nothing keeps that of its schema: ALTER SCHEMA .. RENAME takes no lock. Each
statement goes by name, and could write a table that took the name meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pgsluice import sqltext
from pgsluice.errors import TemporaryError
from pgsluice.job import TableRef
from pgsluice.session import Session


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a name means.

    Attributes:
        relation: oid; None for no relation.
        schema: oid; None for no schema.
        version: of the schema's row, which a rename changes, and so does a rename back.
    """

    relation: int | None
    schema: int | None
    version: str | None

    def __str__(self) -> str:
        """Return it as a message says it."""
        return f"oid {self.relation} in schema oid {self.schema}" if self.relation else "nothing"


class Names:
    """Names in one READ COMMITTED transaction, in which each table is locked by the first statement that names it.

    Where a name means the same at the end as before that statement, and its schema's row has the same version, all
    statements between have met that relation: a lock keeps it from losing the name to another in the same schema.
    """

    def __init__(self, session: Session) -> None:
        """Keep the session; nothing is asked yet."""
        self._session = session
        self._meant: dict[TableRef, Meaning] = {}
        self._becoming: dict[TableRef, TableRef] = {}

    def note(self, refs: Iterable[TableRef], becoming: Mapping[TableRef, TableRef] | None = None) -> None:
        """Take note of what these names mean now. One round trip.

        Args:
            refs: that the transaction will name, as none of its statements has yet.
            becoming: a table that takes a name in this transaction, by that name.
        """
        self._meant |= self._look([ref for ref in refs if ref not in self._meant])
        self._becoming |= becoming or {}

    def check(self) -> None:
        """See that all of them mean what they meant. One round trip.

        Raises:
            TemporaryError: one does not, or its schema was altered in some other way: by a GRANT, say.
        """
        moved = set(self._becoming.values())
        now = self._look([ref for ref in self._meant if ref not in moved])
        for ref, meaning in now.items():
            if not self._is_kept(ref, meaning):
                raise TemporaryError(
                    f"{ref} may be another table now: its schema was renamed or altered while rows were merged. It was"
                    f" {self._meant[ref]}, and is {meaning}",
                    hint="All was rolled back. Run again when nobody renames schemas, or grants on them.",
                    step="merge",
                    table=str(ref),
                )

    def _is_kept(self, ref: TableRef, now: Meaning) -> bool:
        """Tell whether a name means what it should; one that had no schema has got it from this transaction."""
        before = self._meant[ref]
        if before.schema is not None and (before.schema, before.version) != (now.schema, now.version):
            return False
        new = self._becoming.get(ref)
        if new is None:
            return before.relation in {None, now.relation}
        return now.relation in {before.relation, self._meant[new].relation}

    def _look(self, refs: list[TableRef]) -> dict[TableRef, Meaning]:
        wanted = {"schemas": [ref.schema for ref in refs], "names": [ref.name for ref in refs]}
        found = self._session.rows(sqltext.load("names"), wanted) if refs else []
        return {ref: Meaning(*row) for ref, row in zip(refs, found, strict=True)}
