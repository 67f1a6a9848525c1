"""Looks at what of a server decides whether a run will go well."""

from __future__ import annotations

import time

from pgsluice import sqltext
from pgsluice.facts import ServerInfo, Vitals
from pgsluice.session import Session


def look(session: Session, server: ServerInfo) -> Vitals:
    """Look at a server, which is described already. One round trip."""
    before = time.time()
    clock, most, reserved, used, database, in_database, role, of_role, locks, sees, settings = session.row(
        sqltext.load("vitals")
    )
    return Vitals(
        server=server,
        clock=clock - (before + time.time()) / 2,
        connections=most,
        reserved=reserved,
        used=used,
        database=(database, in_database),
        role=(role, of_role),
        locks=locks,
        sees_others=sees,
        settings=settings,
    )
