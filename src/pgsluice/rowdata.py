"""What a server says, without what it says of a row.

PostgreSQL quotes values in its primary messages (``invalid input syntax for type integer: "..."``), whole rows and keys
in DETAIL, lines in CONTEXT, and whatever a function's author likes in a RAISE. What is not known to speak of the schema
alone is taken to speak of a row. https://www.postgresql.org/docs/current/protocol-error-fields.html
"""

from __future__ import annotations

import re

import psycopg
from psycopg.pq import DiagnosticField

#: Stands in the place of what is left out.
MARK = "***"
_OF_A_FUNCTION = f'a function or trigger raised "{MARK}"'

#: Classes of SQLSTATEs whose messages name objects, limits and states, and no values.
_NAMES_ONLY = frozenset(
    {"00", "01", "02", "03", "08", "0A", "0B", "0L", "0P", "0Z", "20", "21", "23", "24", "25", "26", "27", "28", "2B"}
    | {"2D", "34", "3B", "3D", "40", "44", "53", "55", "57", "58", "72", "F0"}
)
#: The same of codes in other classes, for example a missing privilege, a table that exists, a damaged page.
_NAMES_ONLY_CODES = frozenset(
    {"42501", "42P07", "42701", "42710", "42809", "42P10", "42P16", "428C9", "XX001", "XX002"}
)
#: Of characters: what stands in quotes are encodings, and the bytes are those of a row.
_ENCODINGS_ONLY = frozenset({"22021", "22P05"})
#: Objects that a statement names; one that a function has put together may be named by a row.
_NAMED = frozenset({"42501", "42P07", "42701", "42710"})
_IN_A_FUNCTION = re.compile(r"\bPL/\w+")
#: Where the author of a function chooses the words, and the SQLSTATE too.
_RAISED_IN = frozenset({"pl_exec.c", "plpy_elog.c", "plperl.c", "pltcl.c"})
_RAISED = frozenset({"P0", "38", "39"})
_OF_PLPGSQL_ITSELF = frozenset({"query returned no rows", "query returned more than one row"})
#: From the first quote to the last, for a value can hold quotes of its own; other languages quote otherwise.
_QUOTED = re.compile(r'["«„“「『].*["»“”」』]', re.DOTALL)
_EACH_QUOTED = re.compile(r'["«„“「『].*?["»”」』]', re.DOTALL)
#: Classes that speak of tables, columns, functions, schemas: of what a statement names, if no function made that up.
_OBJECTS = frozenset({"42", "3F"})
_OPEN = re.compile(r'["«„“「『].*', re.DOTALL)
_BYTES = re.compile(r"\b(?:value -?\d[\d.]*|0x[0-9a-f]{2}(?: 0x[0-9a-f]{2})*)", re.IGNORECASE)
#: Messages of sizes and limits alone.
_SIZES = re.compile(
    r'index row size \d+ exceeds (?:btree version \d+ )?maximum \d+ for index "[^"]*"'
    r"|index row requires \d+ bytes, maximum size is \d+|row is too big: size \d+, maximum size \d+"
)
#: Without quotes, whatever holds a digit and the one word behind a colon is taken for a value; a type, a limit is none.
_BARE = re.compile(
    r"(?P<known>\b(?:character(?: varying)?|bit(?: varying)?|numeric|time|timestamp|interval)\(\d+(?:,-?\d+)?\)"
    r"|\b(?:int[248]|float[48]|UTF-?8)\b|\b(?:at most|max|maximum(?: allowed| size)?(?: is)?) \(?\d+\b"
    r"|\(-?\d+\.\.-?\d+\))"
    r'|[-+]?\w*\d\w*(?:[.:+/-]+\w+)*|(?<=: )[^\s"]+$'
)
_LINE_AND_COLUMN = re.compile(r"COPY [^,]*, line \d+(?:, column [^:\n]+)?")
_KEPT = (
    DiagnosticField.SEVERITY,
    DiagnosticField.SEVERITY_NONLOCALIZED,
    DiagnosticField.SQLSTATE,
    DiagnosticField.STATEMENT_POSITION,
    DiagnosticField.SCHEMA_NAME,
    DiagnosticField.TABLE_NAME,
    DiagnosticField.COLUMN_NAME,
    DiagnosticField.DATATYPE_NAME,
    DiagnosticField.CONSTRAINT_NAME,
    DiagnosticField.SOURCE_FILE,
    DiagnosticField.SOURCE_LINE,
    DiagnosticField.SOURCE_FUNCTION,
)


def words(  # noqa: PLR0913 - what is known of an error
    message: str,
    sqlstate: str | None,
    source_file: str | None = None,
    *,
    placed: bool = False,
    within: bool = False,
    statement: str = "",
) -> str:
    """Return a server's primary message without values.

    Args:
        message: in whatever language; one that was cut at a line break may end inside a value.
        sqlstate: five characters.
        source_file: of the server, where the error was raised; None where it is not known.
        placed: it points into the statement that was sent, so what it quotes stands there, and in no row.
        within: a function ran the statement that failed.
        statement: that was sent, where it is known.
    """
    code = sqlstate or ""
    if code[:2] in _RAISED or source_file in _RAISED_IN:
        return message if message in _OF_PLPGSQL_ITSELF else _OF_A_FUNCTION
    if code in _ENCODINGS_ONLY:
        return _BYTES.sub(MARK, message)
    if code[:2] in _OBJECTS and _stand_in(statement, message):
        return message
    if within and (code in _NAMED or code[:2] == "58"):
        return _QUOTED.sub(f'"{MARK}"', message)
    is_known = code in _NAMES_ONLY_CODES or code[:2] in _NAMES_ONLY or _SIZES.fullmatch(message)
    return message if placed or not code or is_known else _without_values(message)


def _stand_in(statement: str, message: str) -> bool:
    """Tell whether all that a message quotes stands in the statement, as names of its own."""
    bare = statement.replace('"', "")

    def stands(quoted: str) -> bool:
        name = re.escape(quoted.strip('"«„“「『»”」』').replace('"', ""))
        return re.search(rf"(?<![\w$]){name}(?![\w$])", bare, re.IGNORECASE) is not None

    whole = _QUOTED.search(message)  # one name, which can hold quotes, or several
    return whole is not None and (stands(whole[0]) or all(map(stands, _EACH_QUOTED.findall(message))))


def _without_values(message: str) -> str:
    quoted = f'"{MARK}"'
    hidden = _QUOTED.sub(quoted, message)
    hidden = hidden if hidden != message else _OPEN.sub(quoted, message)
    return _BARE.sub(lambda found: found["known"] or MARK, hidden)


def cut_words(message: str, sqlstate: str | None, source_file: str | None) -> str:
    """Return the first line of a primary message without values: the quote that closes one may stand behind it."""
    if source_file is None:  # then nobody knows whose words they are
        return _OF_A_FUNCTION
    told = words(message, sqlstate, source_file)
    return told if told == message else words(_OPEN.sub('"', message), sqlstate, source_file)


def place(context: str | None) -> str:
    """Return line and column of a COPY out of a CONTEXT, whose rest repeats values; empty where there is none."""
    found = _LINE_AND_COLUMN.search(context or "")
    return found.group(0) if found else ""


def leave_out(error: psycopg.Error, statement: str = "") -> None:
    """Take row data out of an error in place, so that no traceback and no chain of errors holds it either.

    Args:
        error: of a server.
        statement: that it answers, where it is known: names that stand in it are told.
    """
    diag = error.diag
    if diag.message_primary is None:  # of the driver or of the connection: it has seen no row
        return
    message = words(
        diag.message_primary,
        error.sqlstate,
        diag.source_file,
        placed=diag.statement_position is not None,
        within=_IN_A_FUNCTION.search(diag.context or "") is not None,
        statement=statement,
    )
    kept = {field: getattr(diag, field.name.lower()) for field in _KEPT}
    kept |= {DiagnosticField.MESSAGE_PRIMARY: message, DiagnosticField.CONTEXT: place(diag.context) or None}
    info: dict[int, bytes | None] = {field: text.encode() if text else None for field, text in kept.items()}
    psycopg.Error.__init__(error, message, info=info)
