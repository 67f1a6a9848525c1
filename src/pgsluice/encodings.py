"""Pure: databases that do not know what their own bytes mean, and the encoding that their user vouches for.

A database in SQL_ASCII takes and gives bytes as they are. So the other side converts them, by the ENCODING of its COPY.
https://www.postgresql.org/docs/current/multibyte.html
"""

from __future__ import annotations

from collections.abc import Iterator

from pgsluice.facts import Facts, ServerInfo
from pgsluice.job import Options, SyncJob

UNKNOWN = "SQL_ASCII"
#: In text COPY a byte below 128 stands for itself, which shuts out SJIS, BIG5, GBK, GB18030 and JOHAB: a character of
#: theirs can end in a backslash.
VOUCHED = frozenset({
    "EUC_CN", "EUC_JIS_2004", "EUC_JP", "EUC_KR", "EUC_TW", "ISO_8859_5", "ISO_8859_6", "ISO_8859_7", "ISO_8859_8",
    "KOI8R", "KOI8U", "LATIN1", "LATIN2", "LATIN3", "LATIN4", "LATIN5", "LATIN6", "LATIN7", "LATIN8", "LATIN9",
    "LATIN10", "UHC", "UTF8", "WIN866", "WIN874", "WIN1250", "WIN1251", "WIN1252", "WIN1253", "WIN1254", "WIN1255",
    "WIN1256", "WIN1257", "WIN1258",
})  # fmt: skip


def length(name: str, encoding: str) -> int:
    """Return how many bytes a name has in a database.

    Args:
        name: of anything.
        encoding: of the database, as PostgreSQL calls it.
    """
    try:
        return len(name.encode(encoding.replace("WIN", "cp"), "replace"))
    except LookupError:  # one that Python does not know, or SQL_ASCII, which takes what the session sends
        return len(name.encode())


def is_long(name: str, server: ServerInfo) -> bool:
    """Tell whether a server would cut a name."""
    return length(name, server.encoding) > server.name_bytes


def of_copy(facts: Facts, options: Options) -> tuple[str | None, str | None]:
    """Return the ENCODING of the COPY that reads and of the one that writes; None where the session's own serves."""
    source, target = facts.source.encoding == UNKNOWN, facts.target.encoding == UNKNOWN
    if source and target:
        return UNKNOWN, UNKNOWN
    if source:
        return UNKNOWN, options.source_encoding
    return (options.target_encoding, UNKNOWN) if target else (None, None)


def refusals(facts: Facts, options: Options) -> Iterator[str]:
    """Say why text can't be carried faithfully."""
    sides = (("source", facts.source, options.source_encoding), ("target", facts.target, options.target_encoding))
    for side, server, vouched in sides:
        if server.encoding != UNKNOWN:
            if vouched:
                yield (
                    f"The {side}'s database {server.database} is {server.encoding} and says so itself:"
                    f" leave out --{side}-encoding."
                )
        elif vouched is None:
            yield (
                f"The {side}'s database {server.database} is SQL_ASCII: what its bytes mean is not known."
                f" Say which encoding it really holds with --{side}-encoding, for example EUC_KR or LATIN1."
            )
        elif vouched not in VOUCHED:
            yield f"--{side}-encoding {vouched} is none of {', '.join(sorted(VOUCHED))}."
    both = facts.source.encoding == facts.target.encoding == UNKNOWN
    if both and options.source_encoding != options.target_encoding:
        yield "Both databases are SQL_ASCII, so nobody can convert between two encodings: give both sides the same."


def literal_refusals(job: SyncJob, facts: Facts) -> Iterator[str]:
    """Name what would go to a side in SQL_ASCII in a statement: there it is UTF8, and nobody converts it."""
    unknown = [
        side for side, server in (("source", facts.source), ("target", facts.target)) if server.encoding == UNKNOWN
    ]
    if not unknown:
        return
    where = f"while the {' and the '.join(unknown)} is SQL_ASCII"
    values = [(f"The constant {each.column}", each.value) for each in job.shape.constants]
    values += [(f"The mask of column {each.column}", each.value) for each in job.shape.mask]
    for what, value in values:
        if not value.isascii():
            yield f"{what} has to be ASCII {where}."
    for column in facts.source_table.columns if facts.target_table is None else ():
        texts = [column.default or "", column.comment or ""]
        texts += [label for each in column.dependencies for label in each.labels]
        if not all(text.isascii() for text in texts):
            yield f"What column {column.name} is made of has to be ASCII {where}: create the table first."


def obstacle(facts: Facts) -> str | None:
    """Return why rows travel as text, or None: a value in binary carries no encoding that COPY could convert."""
    sides = {"source": facts.source, "target": facts.target}
    unknown = [side for side, server in sides.items() if server.encoding == UNKNOWN]
    return f"the {' and the '.join(unknown)} in SQL_ASCII can be converted as text only" if unknown else None
