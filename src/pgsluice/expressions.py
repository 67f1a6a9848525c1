"""Pure: which texts that one server printed may stand in a statement to another.

A name of a type or an operator must look like one. An expression must consist of literals, casts, operators, known
words and calls, with balanced brackets. It is always put in brackets, which it can't close, so that the server reads
it as one expression whatever it says. What it calls is for the plan to judge.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

from pgsluice import visible
from pgsluice.errors import RefusedError

#: Schema and name of what is called; no schema for a field, as in ``(value).field``, by which a function can be called.
Name = tuple[str, str]

_BARE = r"[A-Za-z_][A-Za-z0-9_]*"
_IDENTIFIER = rf'(?:{_BARE}|"(?:[^"\0]|"")+")'
_NAME = rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})?"
_MODIFIER = r"(?:\(-?[A-Za-z0-9_]+(?:, ?-?[A-Za-z0-9_]+)*\))?"
_FIELD = r"(?:year|month|day|hour|minute|second)"
_TYPE = (
    rf"(?:double precision|(?:character|bit) varying{_MODIFIER}|time(?:stamp)?{_MODIFIER} with(?:out)? time zone"
    rf"|interval {_FIELD}(?: to {_FIELD})?{_MODIFIER}|{_NAME}{_MODIFIER})(?:\[\])*"
)
_SYMBOLS = r"[-+*/<>=~!@#%^&|`?]+"
_TYPE_NAME = re.compile(rf"{_TYPE}(?: COLLATE {_NAME})?")
_OBJECT = re.compile(_NAME)
_OPERATOR = re.compile(rf"(?!.*(?:--|/\*)){_SYMBOLS}")
_TOKEN = re.compile(
    rf"""(?P<space>\s+)
    |::(?P<cast>{_TYPE.replace(" ", "[ ]")})
    |(?P<literal>[eE]'(?:[^'\\]|''|\\.)*'|[bBxX]?'(?:[^']|'')*'|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)
    |OPERATOR\((?P<operator>{_IDENTIFIER}\.{_SYMBOLS})\)
    |(?P<name>(?![uU]&['"]){_IDENTIFIER}(?:\.{_IDENTIFIER})*)
    |(?P<symbol>{_SYMBOLS})
    |(?P<mark>[()\[\],.]|(?<!:):(?!:))""",
    re.DOTALL | re.VERBOSE,
)
_CHECK = re.compile(r"CHECK \((?P<expression>.*)\)(?P<suffix>(?: NOT VALID)?)", re.DOTALL)
_CLOSES = {")": "(", "]": "["}
_CLOSING = {("mark", part) for part in _CLOSES}
#: PostgreSQL's own schema.
CORE = "pg_catalog"

Token = tuple[str, str]
_UNKNOWN: Token = ("", "")
_COLLATE: Token = ("name", "COLLATE")

_WORDS = frozenset({
    "ALL", "AND", "ANY", "ARRAY", "AT", "BETWEEN", "BOTH", "CASE", "COALESCE", "COLLATE", "CURRENT_CATALOG",
    "CURRENT_DATE", "CURRENT_ROLE", "CURRENT_SCHEMA", "CURRENT_TIME", "CURRENT_TIMESTAMP", "CURRENT_USER",
    "DISTINCT", "ELSE", "END", "ESCAPE", "EXTRACT", "FALSE", "FOR", "FROM", "GREATEST", "ILIKE", "IN", "IS", "JSON",
    "LEADING", "LEAST", "LIKE", "LOCAL", "LOCALTIME", "LOCALTIMESTAMP", "NFC", "NFD", "NFKC", "NFKD", "NORMALIZE",
    "NORMALIZED", "NOT", "NULL", "NULLIF", "OBJECT", "OR", "OVERLAY", "PLACING", "POSITION", "ROW", "SCALAR",
    "SESSION_USER", "SIMILAR", "SUBSTRING", "SYMMETRIC", "THEN", "TIME", "TO", "TRAILING", "TRIM", "TRUE",
    "UNKNOWN", "USER", "VALUE", "WHEN", "ZONE",
})  # fmt: skip
_WORDS_OF_DEFINITIONS = frozenset({
    "ASC", "DEFERRABLE", "DEFERRED", "DESC", "EXCLUDE", "FIRST", "IMMEDIATE", "INCLUDE", "INITIALLY", "LAST",
    "NULLS", "OVERLAPS", "UNIQUE", "USING", "WHERE", "WITH", "WITHOUT",
})  # fmt: skip

#: Functions of PostgreSQL's own that are not immutable, or not all that bear the name, and that change nothing and
#: read nothing but their arguments ..
_READING_ARGUMENTS = frozenset({
    "array_to_json", "array_to_string", "concat", "concat_ws", "convert", "convert_from", "convert_to",
    "enum_first", "enum_last", "enum_range", "format", "json_build_array", "json_build_object", "json_to_tsvector",
    "jsonb_build_array", "jsonb_build_object", "jsonb_to_tsvector", "length", "numeric", "phraseto_tsquery",
    "plainto_tsquery", "quote_literal", "quote_nullable", "row_to_json", "to_json", "to_jsonb", "to_number",
    "to_tsquery", "to_tsvector", "websearch_to_tsquery",
})  # fmt: skip
#: .. or the time zone besides, ..
_READING_ZONES = frozenset({
    "age", "date", "date_add", "date_part", "date_subtract", "date_trunc", "extract", "make_timestamptz",
    "overlaps", "time", "timestamp", "timestamptz", "timetz", "timezone", "to_char", "to_date", "to_timestamp",
})  # fmt: skip
#: .. or a clock, chance, and where they run.
_READING_THE_MOMENT = frozenset({
    "clock_timestamp", "current_database", "current_schema", "gen_random_uuid", "now", "random", "random_normal",
    "statement_timestamp", "timeofday", "transaction_timestamp", "uuidv4", "uuidv7",
})  # fmt: skip
LISTED = _READING_ARGUMENTS | _READING_ZONES | _READING_THE_MOMENT


@dataclass(frozen=True, slots=True)
class Expression:
    """What an expression consists of, beside literals, words and PostgreSQL's own operators.

    Attributes:
        calls: functions, fields of composites, and operators of other schemas.
        types: that it casts to, as SQL.
        columns: bare names.
        collations: as SQL.
        outside: what stands outside of any bracket.
    """

    calls: frozenset[Name]
    types: frozenset[str]
    columns: frozenset[str]
    collations: frozenset[str]
    outside: tuple[str, ...]

    @property
    def is_core(self) -> bool:
        """Tell whether it leans on nothing but PostgreSQL's own, and columns."""
        is_called = all(schema == CORE for schema, _ in self.calls)
        return is_called and not any("." in name for name in self.types | self.collations)


def type_name(text: str | None) -> str:
    """Return the text, where it is a type's name as SQL, or one with a collation.

    Raises:
        RefusedError: it is not, so no statement may hold it.
    """
    return _required(_TYPE_NAME, text, "the name of a type")


def object_name(text: str | None) -> str:
    """Return the text, where it is the name of an object as SQL, with its schema or without.

    Raises:
        RefusedError: it is not, so no statement may hold it.
    """
    return _required(_OBJECT, text, "the name of an object")


def operator_name(text: str | None) -> str:
    """Return the text, where it is an operator.

    Raises:
        RefusedError: it is not, so no statement may hold it.
    """
    return _required(_OPERATOR, text, "an operator")


def _required(form: re.Pattern[str], text: str | None, what: str) -> str:
    """Return the text; a catalog that was changed by hand leaves out what every object has."""
    if text is not None and form.fullmatch(text):
        return text
    shown = "nothing" if text is None else visible.shortened(repr(text))
    raise RefusedError(
        f"a catalog prints {shown} where {what} belongs",
        hint="Its catalog was changed by hand. What it prints enters statements to the other server, so it is refused.",
        step="plan",
    )


def condition_of(check: str) -> tuple[str, str]:
    """Return the expression of a CHECK as the catalog prints it, and what follows it.

    Raises:
        RefusedError: it is no CHECK.
    """
    found = _CHECK.fullmatch(check)
    return (found["expression"], found["suffix"]) if found else ("", _required(_CHECK, check, "a CHECK"))


def calls_of(text: str) -> frozenset[Name]:
    """Return what an expression calls beside the functions that are listed here; nothing where it is not understood."""
    parsed = parse(text)
    return frozenset(call for call in parsed.calls if not _is_listed(call)) if parsed else frozenset()


def obstacle(text: str, columns: Collection[str], types: Collection[str], harmless: Collection[Name]) -> str | None:
    """Return why an expression of one server may not be run by another, or None where it may.

    Args:
        text: as the catalog prints it.
        columns: that it may name.
        types: of somebody's own that it may cast to, as SQL.
        harmless: what it may call beside the functions that are listed here.
    """
    parsed = parse(text)
    if parsed is None or not parsed.columns <= set(columns):
        return "pgsluice does not understand it"
    if strange := _strange(parsed, types):
        return f"it needs the type {', '.join(strange)}"
    if calls := sorted(_shown(call) for call in parsed.calls if not _is_listed(call) and call not in harmless):
        return f"it calls {', '.join(calls)}, which may do more than compute a value"
    return None


def is_definition(text: str, types: Collection[str]) -> bool:
    """Tell whether a text defines an index, a unique constraint or an exclusion constraint, behind its name.

    The functions of its expressions are PostgreSQL's own, of which the server takes only immutable ones there.

    Args:
        text: as the catalog prints it.
        types: of somebody's own that it may cast to, as SQL.
    """
    parsed = parse(text, _WORDS_OF_DEFINITIONS)
    if parsed is None or not _is_outline(parsed.outside):
        return False
    return not _strange(parsed, types) and all(schema == CORE for schema, _ in parsed.calls)


def _strange(parsed: Expression, types: Collection[str]) -> list[str]:
    return sorted(name for name in parsed.types if "." in name and name not in types)


def _is_outline(outside: tuple[str, ...]) -> bool:
    known = _WORDS_OF_DEFINITIONS | {"NOT", "DISTINCT"}
    return all(word.upper() in known or before.upper() == "USING" for before, word in pairwise(("", *outside)))


def _is_listed(call: Name) -> bool:
    return call[0] in {CORE, ""} and call[1] in LISTED


def _shown(call: Name) -> str:
    schema, name = call
    return name if schema in {CORE, ""} else f"{schema}.{name}"


def parse(text: str, more_words: frozenset[str] = frozenset()) -> Expression | None:
    """Return what an expression consists of, or None where it holds anything that is not known.

    Args:
        text: as the catalog prints it.
        more_words: that it may hold besides.
    """
    tokens = _tokens(text)
    depths = _depths(tokens)
    if not depths:
        return None
    names = list(_names(tokens, _WORDS | more_words))
    outside = (part for (kind, part), depth in zip(tokens, depths, strict=True) if depth == 0 and kind)
    return Expression(
        calls=frozenset(call for kind, call in names if kind == "call"),
        types=frozenset(_without_modifier(part) for kind, part in tokens if kind == "cast"),
        columns=frozenset(name for kind, (_, name) in names if kind == "column"),
        collations=frozenset(part for before, (_, part) in pairwise(tokens) if _upper(before) == _COLLATE),
        outside=tuple(outside),
    )


def _tokens(text: str) -> list[Token]:
    """Cut a text; what is not known is a token of no kind."""
    found: list[Token] = []
    at = 0
    while match := _TOKEN.match(text, at):
        if match.lastgroup and match.lastgroup != "space":
            found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found if at == len(text) else [*found, _UNKNOWN]


def _depths(tokens: list[Token]) -> list[int] | None:
    """Return how many brackets stand around each token, or None where they do not match, or a token may not be there.

    A literal next to another would go on in it, by the rules of the first.
    """
    open_: list[str] = []
    depths = []
    for before, (kind, part) in pairwise([_UNKNOWN, *tokens]):
        is_comment = kind in {"symbol", "operator"} and ("--" in part or "/*" in part)
        is_loose = (kind, part) == ("mark", ".") and before not in _CLOSING
        if not kind or is_comment or is_loose or (kind == before[0] == "literal"):
            return None
        depths.append(len(open_) + (kind == "mark" and part in "()[]"))
        if kind == "mark" and part in "([":
            open_.append(part)
        elif kind == "mark" and part in _CLOSES and (not open_ or open_.pop() != _CLOSES[part]):
            return None
    return None if open_ else depths


def _names(tokens: list[Token], words: frozenset[str]) -> Iterator[tuple[str, Name]]:
    """Yield each name that is no word, as a "call" or a "column", without its quotes."""
    padded = [_UNKNOWN, _UNKNOWN, *tokens, _UNKNOWN]
    for at, (kind, part) in enumerate(tokens, start=2):
        first, before, after = (_upper(padded[at + offset]) for offset in (-2, -1, 1))
        if kind == "operator":
            schema, _, symbol = part.rpartition(".")
            if _plain(schema) != CORE:
                yield "call", (_plain(schema), symbol)
        elif kind != "name" or part.upper() in words or before == _COLLATE:
            continue
        elif before == ("mark", "."):
            yield "call", ("", _plain(part))
        elif after == ("mark", "("):
            yield "call", _qualified(part)
        elif (first, before) != (("name", "EXTRACT"), ("mark", "(")) and after != ("symbol", "=>"):
            yield "column", ("", _plain(part))


def _upper(token: Token) -> Token:
    return token[0], token[1].upper()


def _qualified(name: str) -> Name:
    parts = re.findall(_IDENTIFIER, name)
    return (CORE, _plain(parts[0])) if len(parts) == 1 else (_plain(parts[0]), ".".join(map(_plain, parts[1:])))


def _plain(identifier: str) -> str:
    """Return an identifier without quotes; one that is qualified stays as it is, and matches nothing."""
    if re.fullmatch(_BARE, identifier):
        return identifier.lower()
    is_one = re.fullmatch(_IDENTIFIER, identifier)
    return identifier[1:-1].replace('""', '"') if is_one else f".{identifier}"


def _without_modifier(type_: str) -> str:
    return re.sub(r"(?:\([^()\"]*\))?(?:\[\])*$", "", type_)
