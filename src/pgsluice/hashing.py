"""Pure: rows and buckets as hashes that mean the same on every server, as SQL."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pgsluice import encodings, fidelity, sqltext
from pgsluice.facts import Column, Facts
from pgsluice.job import Options, SyncJob

#: Types that the server hashes by their whole image, the same on all versions. `character` is padded to its length,
#: so what its hash leaves out is no part of the image.
_WHOLE = frozenset({
    "boolean", "smallint", "integer", "bytea", "uuid", "date", "inet", "cidr", "macaddr", "macaddr8", '"char"',
})  # fmt: skip
#: Types whose hash leaves something out, with what shows all of it. Times are folded to 32 bits, numeric loses sign
#: and scale, floats the sign of zero, interval takes 30 days for a month.
_SEND = {
    "numeric": "numeric_send",
    "real": "float4send",
    "double precision": "float8send",
    "timestamp without time zone": "timestamp_send",
    "timestamp with time zone": "timestamptz_send",
    "time without time zone": "time_send",
    "time with time zone": "timetz_send",
    "interval": "interval_send",
    "pg_lsn": "pg_lsn_send",
    "xid8": "xid8send",
}
_TEXTS = frozenset({"text", "character varying"})
#: Types of one name that mean what their parts do: composites, ranges and multiranges.
_MADE_OF_PARTS = frozenset("crm")
#: Types whose text says the zone; text without one means that of the session which reads it ..
_ZONED = frozenset({"timestamp with time zone", "time with time zone", "tstzrange", "tstzmultirange"})
#: .. and how such a text is read as in UTC, whatever the session's zone.
_WITHOUT_ZONE = {
    "date": "pg_catalog.timezone('UTC', ({})::pg_catalog.timestamp)",
    "timestamp without time zone": "pg_catalog.timezone('UTC', ({})::pg_catalog.timestamp)",
    "time without time zone": "({}) OPERATOR(pg_catalog.||) '+00'",
}
_UTC = frozenset({"UTC", "Etc/UTC", "GMT", "Etc/GMT"})
#: What puts a key of such a column into its bucket in half the time: that it folds its halves does no harm there.
_KEYED = {
    "smallint": "hashint2extended",
    "integer": "hashint4extended",
    "bigint": "hashint8extended",
    "uuid": "uuid_hash_extended",
}
#: A ROW holds 1,664 expressions, and an image is two at most.
_IMAGES_A_ROW = 832
#: Of rows in a bucket, about; and of buckets, at most: a row of 30 bytes of each goes over the network, from each side.
_ROWS_A_BUCKET = 64
_MOST_BUCKETS = 1 << 16
#: Of a bucket in an answer, as measured: its number, count and sum as text, and what the protocol adds.
_BUCKET_BYTES = 47


class RowHash(enum.StrEnum):
    """How a row becomes a number of 64 bits."""

    RECORD = "record"
    MD5 = "md5"


class Side(enum.StrEnum):
    """Which of the two servers is asked."""

    SOURCE = "source"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Image:
    """A column as two expressions, or lists of them, that are the same where the values have the same image.

    Attributes:
        name: of the column.
        source: there.
        target: there.
    """

    name: str
    source: sql.Composable
    target: sql.Composable

    def on(self, side: Side) -> sql.Composable:
        """Return the expression for one side."""
        return self.source if side is Side.SOURCE else self.target


@dataclass(frozen=True, slots=True)
class Hashing:
    """How the rows of a job are hashed on both sides.

    Attributes:
        columns: that make a row.
        key: the columns that tell rows apart: their values, where there is a function for each, else their images.
        functions: a hash function for each of the key, or none.
        buckets: a power of two; a row is in one by its key.
        by: the functions used.
        vouched: what the bytes of a side in SQL_ASCII mean, as its user says: the source's and the target's.
        texts: the columns that tell rows apart, as they are shown.
    """

    columns: tuple[Image, ...]
    key: tuple[Image, ...]
    functions: tuple[str, ...]
    buckets: int
    by: RowHash = RowHash.RECORD
    vouched: tuple[str | None, str | None] = (None, None)
    texts: tuple[Image, ...] = ()

    def row(self, side: Side) -> sql.Composed:
        """Return the hash of a row: an int8."""
        return _row_hash([image.on(side) for image in self.columns], self.by)

    def bucket(self, side: Side) -> sql.Composed:
        """Return the number of a row's bucket."""
        key = [image.on(side) for image in self.key]
        if self.by is RowHash.MD5:
            hashed: sql.Composable = _row_hash(key, self.by)
        elif self.functions:
            hashed = sql.SQL("0::pg_catalog.int8")
            for function, value in zip(self.functions, key, strict=True):
                hashed = sql.SQL("pg_catalog.{}({}, {})").format(sql.SQL(function), value, hashed)
        else:
            hashed = _hash(key, self.by)
        return sql.SQL("({} OPERATOR(pg_catalog.&) {}::pg_catalog.int8)").format(hashed, sql.Literal(self.buckets - 1))

    def within(self, side: Side, numbers: Sequence[int]) -> sql.Composed:
        """Return the condition that a row is in one of some buckets."""
        listed = "{" + ",".join(map(str, numbers)) + "}"
        return sql.SQL("{} OPERATOR(pg_catalog.=) ANY ({}::pg_catalog.int8[])").format(
            self.bucket(side), sql.Literal(listed)
        )

    def buckets_sql(self, side: Side, rows: sql.Composable) -> sql.Composed:
        """Return the query for (bucket, rows, sum of their hashes as text). One scan, which may run in parallel.

        Args:
            side: that is asked.
            rows: what stands behind FROM.
        """
        # of a column that comes from two places the planner takes few groups for granted, and lets workers group in
        # little memory; of the expression it would take as many as there are rows, and sort them
        return sql.SQL(
            "SELECT bucket, pg_catalog.count(*), pg_catalog.sum(hash)::pg_catalog.text\n"
            "FROM (SELECT {bucket} AS bucket, {hash} AS hash FROM {rows}\n"
            "UNION ALL SELECT 0::pg_catalog.int8, 0::pg_catalog.int8 FROM {rows} WHERE FALSE) AS hashed GROUP BY bucket"
        ).format(bucket=self.bucket(side), hash=self.row(side), rows=rows)

    def digest_sql(self, side: Side, rows: sql.Composable) -> sql.Composed:
        """Return the query for (rows, sum of their hashes as text) of all buckets together. One scan.

        Args:
            side: that is asked.
            rows: what stands behind FROM.
        """
        return sql.SQL(
            "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(hash), 0)::pg_catalog.text"
            "\nFROM (SELECT {} AS hash FROM {}) AS hashed"
        ).format(self.row(side), rows)

    @property
    def mark(self) -> str:
        """Return a name that no column has, for what `rows_sql` is told of a row."""
        names = {image.name for image in self.columns}
        return next(name for name in map("is_since{}".format, itertools.count()) if name not in names)

    def rows_sql(
        self, side: Side, rows: sql.Composable, numbers: Sequence[int], *, is_marked: bool = False
    ) -> sql.Composed:
        """Return the query for (bucket, key as bytes and as JSON, hash, hashes of columns, mark) of some buckets.

        Args:
            side: that is asked.
            rows: what stands behind FROM.
            numbers: of the buckets.
            is_marked: the rows have a column `mark`, whose value is returned; else it is FALSE.
        """
        vouched = self.vouched[0 if side is Side.SOURCE else 1]
        texts = [image.on(side) for image in self.texts]
        key = sql.SQL(", ").join(texts)
        if vouched:
            shown = (sql.SQL("pg_catalog.convert_from({}, 'UTF8')").format(_utf8(text, vouched)) for text in texts)
            key = sql.SQL(", ").join(shown)
        each = sql.SQL(", ").join(_hash([image.on(side)], self.by) for image in self.columns)
        return sql.SQL(
            "SELECT bucket, place, key, hash, columns, mark FROM (SELECT {bucket} AS bucket,"
            " {place} AS place, pg_catalog.json_build_array({key})::pg_catalog.text AS key,"
            " {hash} AS hash, pg_catalog.array_to_string(ARRAY[{each}], ',') AS columns, {mark} AS mark"
            "\nFROM {rows} WHERE {within}) AS hashed ORDER BY bucket, place"
        ).format(
            bucket=self.bucket(side),
            place=_utf8(sql.SQL("ARRAY[{}]::pg_catalog.text").format(sql.SQL(", ").join(texts)), vouched),
            key=key,
            hash=self.row(side),
            each=each,
            mark=sql.Identifier(self.mark) if is_marked else sql.SQL("FALSE"),
            rows=rows,
            within=self.within(side, numbers),
        )


@dataclass(frozen=True, slots=True)
class Digest:
    """What some rows of a table come to, in any order.

    Attributes:
        rows: their number.
        sum: of their hashes.
    """

    rows: int
    sum: int

    def __add__(self, other: Digest) -> Digest:
        """Return what both come to together."""
        return Digest(self.rows + other.rows, self.sum + other.sum)


@dataclass(frozen=True, slots=True)
class Part:
    """The buckets of a table that are copied, because both sides differ in them.

    Attributes:
        hashing: how the buckets were made.
        numbers: of them.
        differing: the source's rows in these.
        equal: the source's rows in all others, which the target has already.
        target_rows: of the target, in all buckets.
    """

    hashing: Hashing
    numbers: tuple[int, ...]
    differing: Digest
    equal: Digest
    target_rows: int

    @property
    def rows(self) -> int:
        """Return the number of the source's rows that are copied."""
        return self.differing.rows

    @property
    def alike(self) -> int:
        """Return the number of those that are not."""
        return self.equal.rows

    def condition(self, side: Side) -> sql.SQL | sql.Composed:
        """Return the condition that a row is in one of them."""
        return self.hashing.within(side, self.numbers) if self.numbers else sql.SQL("FALSE")


def hashing(job: SyncJob, facts: Facts, columns: Sequence[Column], key: Sequence[str], options: Options) -> Hashing:
    """Decide how a job's rows are hashed.

    Args:
        job: what the user asks for.
        facts: of both sides, whose table is there on the target.
        columns: that are copied, with the target's types.
        key: names of those that tell rows apart.
        options: how the job is carried out.
    """
    vouched = (
        options.source_encoding if facts.source.encoding == encodings.UNKNOWN else None,
        options.target_encoding if facts.target.encoding == encodings.UNKNOWN else None,
    )
    in_utf8 = facts.source.encoding != facts.target.encoding  # a server hashes the bytes that it stores
    moments = {constant.column for constant in job.shape.constants if constant.is_moment}
    pairs = {name: pair for name, pair in _pairs(facts, columns).items() if name not in moments}
    images = {name: _both(*pair, vouched if in_utf8 else None) for name, pair in pairs.items()}
    functions = [_function(*pairs[name]) for name in key]
    values = [Image(name, _arriving(*pairs[name]), sql.Identifier(name)) for name in key]
    rows = max(facts.source_table.rows, facts.target_table.rows if facts.target_table else 0)
    return Hashing(
        columns=tuple(images.values()),
        key=tuple(values) if all(functions) else tuple(images[name] for name in key),
        functions=tuple(filter(None, functions)) if all(functions) else (),
        buckets=buckets_for(rows),
        vouched=vouched,
        texts=tuple(
            Image(name, *(_shown(value, pairs[name]) for value in (_arriving(*pairs[name]), sql.Identifier(name))))
            for name in key
        ),
    )


def untold(facts: Facts, columns: Sequence[Column], time_zone: str) -> tuple[str, ...]:
    """Say of which columns the source can't tell what the target makes of their values, so that no hash can.

    Args:
        facts: of both sides.
        columns: that are copied, with the types that they have on the target in the end.
        time_zone: that the source is read under.
    """
    stored = _pairs(facts, columns)
    given = ((column, facts.source_table.column(column.name) or column) for column in columns)
    return tuple(
        f"{target.name} is {source.type} on the source and {target.type} on the target, which alone knows what becomes"
        " of a value"
        for target, source in given
        if _is_untold(*stored[target.name], time_zone)
    )


def _pairs(facts: Facts, columns: Sequence[Column]) -> dict[str, tuple[Column, Column]]:
    """Return each column of both sides, by its name, as its values are stored."""
    theirs = {column.name: column for column in facts.source_table.columns}
    return {column.name: (_stored(theirs.get(column.name, column)), _stored(column)) for column in columns}


def _stored(column: Column) -> Column:
    """Return a column as its values are stored: a domain is the type under it, with the modifier that it gives."""
    known = {each.sql: each for each in column.dependencies}
    type_ = column.leaf
    while (own := known.get(type_)) and own.kind == "d":
        type_ = own.base.partition(" COLLATE ")[0]
    if type_ == column.leaf or (column.is_array and type_.endswith("[]")):
        return column
    element = type_.removesuffix("[]")
    leaf = element if element in known else fidelity.parts(element)[0]
    return dataclasses.replace(
        column,
        type=f"{type_}[]" if column.is_array else type_,
        leaf="character" if leaf == "bpchar" else leaf,
        kind=known[leaf].kind if leaf in known else "b",
    )


def _is_untold(source: Column, target: Column, time_zone: str) -> bool:
    """Tell whether only the target knows what it makes of the source's value."""
    if target.is_own_type:
        if (source.leaf, source.is_array) == (target.leaf, target.is_array):
            return target.kind in _MADE_OF_PARTS and _is_other_inside(source, target)
        own = target.dependencies[-1] if target.dependencies else None
        is_kept = target.kind == "e" or (own is not None and own.is_text)
        return not is_kept or (target.is_array and not source.is_array)
    if source.type == target.type:
        return False
    if target.leaf in _ZONED and source.leaf not in _ZONED and time_zone not in _UTC:  # COPY is read in UTC
        return source.is_array or source.leaf not in _WITHOUT_ZONE
    return target.leaf.startswith("reg")  # the number of an object


def _is_other_inside(source: Column, target: Column) -> bool:
    """Tell whether a type of one name has parts on one side that are cut or written otherwise on the other."""
    theirs = {each.sql: each for each in target.dependencies}
    pairs = ((mine, theirs.get(mine.sql, mine)) for mine in source.dependencies)
    return any(
        (mine.kind, mine.base) != (other.kind, other.base) or (mine.kind == "c" and mine.parts != other.parts)
        for mine, other in pairs
    )


def _shown(value: sql.Composable, pair: tuple[Column, Column]) -> sql.Composed:
    """Return a key's value of either side as text: the same where the values are."""
    is_own_type = any(column.is_own_type for column in pair) or pair[0].type != pair[1].type
    return sqltext.text_of(value, is_own_type=is_own_type)


def _function(source: Column, target: Column) -> str | None:
    """Return what hashes a key column's value, or None where a value may be NULL or has none of these types."""
    is_plain = target.kind == "b" and not target.is_array and source.not_null and target.not_null
    return _KEYED.get(target.leaf) if is_plain else None


def _arriving(source: Column, target: Column) -> sql.Composable:
    """Return the source's value as it arrives: as COPY writes it, and as the target reads that, where it can be told.

    The staging table is written in UTC, whatever zone the source is read under.
    """
    name = sql.Identifier(source.name)
    if source.type == target.type or target.is_own_type:
        return name
    is_text = source.leaf in _TEXTS and not source.is_array
    value = sqltext.text_of(name, is_own_type=not is_text)
    if target.leaf in _ZONED and source.leaf in _WITHOUT_ZONE and not source.is_array:
        value = sql.SQL(_WITHOUT_ZONE[source.leaf]).format(value)
    return sql.SQL("({})::{}").format(value, sqltext.verbatim(target.type))


def _both(source: Column, target: Column, in_utf8: tuple[str | None, str | None] | None) -> Image:
    """Return how a column is compared: by what the source's value becomes in the target's type.

    Args:
        source: the column there.
        target: the column there.
        in_utf8: None where both sides store texts alike; else what a side in SQL_ASCII holds.
    """
    mine, theirs = in_utf8 or (None, None)
    name, value = sql.Identifier(source.name), _arriving(source, target)
    by_text = source.type != target.type and target.is_own_type  # a type that the source may not have
    return Image(
        source.name,
        _image(target, value, in_utf8=bool(in_utf8), vouched=mine, by_text=by_text),
        _image(target, name, in_utf8=bool(in_utf8), vouched=theirs, by_text=by_text),
    )


def _image(
    column: Column, value: sql.Composable, *, in_utf8: bool, vouched: str | None, by_text: bool
) -> sql.Composable:
    """Return what stands for a value in a hash: itself, its bytes, or its text."""
    known = "" if by_text or column.kind != "b" or column.is_array else column.leaf
    is_padded = known == "character" and column.type.startswith("character(")
    if known == "character" and not is_padded:  # its text would lose trailing spaces
        return sql.SQL("pg_catalog.bpcharsend({})").format(value)
    if known == "bigint":  # its hash folds both halves to one: beside it, the upper one tells all
        return sql.SQL("{0}, {0} OPERATOR(pg_catalog.>>) 32").format(value)
    if known in _SEND:
        return sql.SQL("pg_catalog.{}({})").format(sql.SQL(_SEND[known]), value)
    if known in _WHOLE:
        return value
    # as COPY writes it, by the output function: a cast of xml, for one, shows what COPY leaves out
    text = value if known in _TEXTS or is_padded else sql.SQL("ROW({})::pg_catalog.text").format(value)
    if in_utf8:
        return _utf8(sql.SQL("{}::pg_catalog.text").format(text), vouched)
    return sql.SQL('{} COLLATE "C"').format(text)


def _utf8(text: sql.Composable, vouched: str | None) -> sql.Composed:
    """Return a text's characters as bytes of UTF8, whatever the database stores."""
    if vouched is None:
        return sql.SQL("pg_catalog.convert_to({}, 'UTF8')").format(text)
    return sql.SQL("pg_catalog.convert(pg_catalog.convert_to({}, 'SQL_ASCII'), {}, 'UTF8')").format(
        text, sql.Literal(vouched)
    )


def _hash(images: Sequence[sql.Composable], by: RowHash) -> sql.Composed:
    """Return a hash of some columns, which is linear in them; of more than a ROW can hold, a hash of their parts'."""
    if len(images) > _IMAGES_A_ROW:
        parts = [_hash(images[at : at + _IMAGES_A_ROW], by) for at in range(0, len(images), _IMAGES_A_ROW)]
        whole = "{}" if by is RowHash.MD5 else "pg_catalog.int8send({})"
        return _hash([sql.SQL(whole).format(part) for part in parts], by)
    row = sql.SQL("ROW({})").format(sql.SQL(", ").join(images))
    how = "pg_catalog.md5({}::pg_catalog.text)" if by is RowHash.MD5 else "pg_catalog.hash_record_extended({}, 0)"
    return sql.SQL(how).format(row)


def _row_hash(images: Sequence[sql.Composable], by: RowHash) -> sql.Composed:
    """Return the hash of a row.

    The record's own hash is linear in its columns, and would not notice two rows that exchange a value; hashed once
    more as text it is not.

    Args:
        images: of the columns, from one side.
        by: how.
    """
    hashed = _hash(images, by)
    if by is RowHash.MD5:
        return sql.SQL(
            "('x' OPERATOR(pg_catalog.||) pg_catalog.left({}, 16))::pg_catalog.bit(64)::pg_catalog.int8"
        ).format(hashed)
    return sql.SQL('pg_catalog.hashtextextended({}::pg_catalog.text COLLATE "C", 1)').format(hashed)


def affected(rows: int, changed: int) -> float:
    """Return the share of a table's buckets, and of its rows, that so many changes at random places would be in."""
    return 1 - math.exp(-changed / buckets_for(rows))


def bytes_for(rows: int) -> int:
    """Return about how many bytes of hashes both sides send for a table."""
    return len(Side) * buckets_for(rows) * _BUCKET_BYTES


def buckets_for(rows: int) -> int:
    """Return how many buckets suit a table: few rows are copied for one that differs, and few hashes compared."""
    return min(_MOST_BUCKETS, 1 << max(0, (max(rows, 0) // _ROWS_A_BUCKET).bit_length()))
