"""Every type that a table can hold, with values that break copies, as data.

PostgreSQL's own regression data would serve as well, but no installed server brings it along.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A type and its values.

    Attributes:
        type: as SQL; types of our own and of extensions stand under their schema.
        values: SQL expressions, each of which is cast to the type.
        is_key: it has a btree, so that its values can be a primary key.
        has_array: an array of it is another type.
    """

    type: str
    values: tuple[str, ...]
    is_key: bool = True
    has_array: bool = True


@dataclass(frozen=True)
class Family:
    """Types that are looked at together.

    Attributes:
        name: as docs/fidelity.md has it.
        kinds: of the same readiness for binary COPY, so that a table of them travels in one format.
        since: the first major that holds these values; an older target has to refuse them.
        text_since: the first major that writes these values as text that others can read; an older source fails.
        needs: an extension, or "xml" for a server that was built with it.
        types: SQL that makes the types it needs, in schema ``s``.
        is_plain: by themselves, in arrays and as keys.
        is_nested: in composites, domains, and arrays of both.
        image: a type to compare them under, where majors write them differently.
    """

    name: str
    kinds: tuple[Kind, ...]
    since: int = 14
    text_since: int = 14
    needs: str = ""
    types: str = ""
    is_plain: bool = True
    is_nested: bool = True
    image: str = ""

    @property
    def slug(self) -> str:
        """Return the name as a part of table names."""
        return "_".join(word for word in "".join(c if c.isalnum() else " " for c in self.name).lower().split())


def quoted(*values: str) -> tuple[str, ...]:
    """Return SQL literals."""
    return tuple("'" + value.replace("'", "''") + "'" for value in values)


_HANGUL_63 = "가" * 21
_TEXTS = (
    *quoted("", " ", "plain", "trailing  ", "NULL", "null", "\\N", "\\.", "a\\.\nb", "\\", "\\\\", "\\x41", "'", '"'),
    *quoted("tab\there", "line\nbreak", "return\rhere", "both\r\n", "\x01\x02\x1f\x7f", "\ufeffbom", "a,b;c|d"),
    *quoted(
        "\u00e9",
        "e\u0301",
        "한글 텍스트",
        "\u1112\u1161\u11ab",
        "👩‍👩‍👧‍👦",
        "\U0010ffff",
        "{}",
        "%s %(a)s %%",
        "<script>",
    ),
    *quoted("$1", "${x}", "--", "/*", "(a,b)", '{"a",NULL}', "[1,2)", "\b\f\v"),
)
_ALL_BYTES = "'\\x" + bytes(range(256)).hex() + "'"
_LONG = "repeat(md5('long'), 1500)"

_HIGH = Kind('"char"', ("-128", "-1", "-61"))  # 14 writes the bare byte, which is no UTF-8

FAMILIES: tuple[Family, ...] = (
    Family(
        "integers",
        (
            Kind("smallint", quoted("-32768", "-1", "0", "32767")),
            Kind("integer", quoted("-2147483648", "-1", "0", "2147483647")),
            Kind("bigint", quoted("-9223372036854775808", "-1", "0", "9223372036854775807")),
        ),
    ),
    Family(
        "numeric",
        (
            Kind(
                "numeric",
                (
                    *quoted("NaN", "Infinity", "-Infinity", "0", "0.00", "-0.10", "1", "1.0", "1.00", "10000", "1e-16383"),
                    *quoted("100000000000000000000000000000.000000000000000000000000000001", "0.1", "12345.6789"),
                    "repeat('9', 131072)",
                    "repeat('9', 131072) || '.' || repeat('8', 16383)",
                ),
            ),
            Kind("numeric(10,2)", quoted("-99999999.99", "0.00", "1.10", "99999999.99", "NaN")),
            Kind("numeric(1000,1000)", ("'0.' || repeat('7', 1000)", "'NaN'")),
        ),
    ),
    Family(
        "numeric of negative scale",
        (
            Kind("numeric(3,-2)", quoted("-99900", "100", "0", "NaN")),
            Kind("numeric(3,5)", quoted("0.00999", "-0.00001")),
        ),
        since=15,
    ),
    Family(
        "floats",
        (
            Kind("real", quoted("-0", "0", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "16777217", "0.1")),
            Kind(
                "double precision",
                (
                    *quoted("-0", "0", "NaN", "Infinity", "-Infinity", "5e-324", "2.2250738585072011e-308"),
                    *quoted("1.7976931348623157e308", "0.30000000000000004", "9007199254740993", "0.1"),
                ),
            ),
        ),
    ),
    Family("money", (Kind("money", quoted("-92233720368547758.08", "-0.01", "0", "92233720368547758.07")),)),
    Family("boolean", (Kind("boolean", quoted("true", "false")),)),
    Family('"char"', (Kind('"char"', ("'a'", "''", "' '", "E'\\\\'", "E'\\t'", "E'\\n'", "E'\\x01'", "127")),)),
    Family('"char" above 127', (_HIGH,), text_since=15, is_nested=False, image="integer"),
    Family('"char" above 127 in other types', (_HIGH,), text_since=15, is_plain=False, image="integer"),
    Family(
        "character, varchar",
        (
            Kind("character(5)", (*quoted("", " ", "ab", "ab   ", "  ab", "한글", "é", "\\N"), "E'a\\tb'")),
            Kind("character(1)", quoted("", "x", "👩")),
            Kind("character varying(10)", quoted("", " ", "ab", "ab   ", "한글 텍스트", "\\.", "1234567890")),
            Kind("character varying", quoted("", "x", "x ")),
        ),
    ),
    Family("text", (Kind("text", _TEXTS),)),
    Family("name", (Kind("name", quoted("", "a", _HANGUL_63, "x" * 63, 'q"uote', "per%cent", "line\nbreak")),)),
    Family("bytea", (Kind("bytea", (*quoted("", "\\x00", "\\x5c", "\\x5c2e0a", "\\x0d0a"), _ALL_BYTES)),)),
    Family(
        "long values, in TOAST",
        (
            Kind("text", (_LONG, f"reverse({_LONG})", "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i)"), is_key=False),
            Kind("bytea", (f"convert_to({_LONG}, 'UTF8')", "(SELECT string_agg(decode(md5(i::text), 'hex'), '') FROM generate_series(1, 2000) i)"), is_key=False),
            Kind("jsonb", (f"jsonb_build_object('a', {_LONG})", "(SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 900) i)"), is_key=False),
        ),
    ),
    Family(
        "bit strings",
        (
            Kind("bit(5)", quoted("00000", "10101", "11111")),
            Kind("bit(64)", ("repeat('10', 32)", "repeat('0', 64)")),
            Kind("bit varying", (*quoted("", "0", "1", "000", "10000000", "100000001"), "repeat('01', 500)")),
            Kind("bit varying(9)", quoted("", "1", "101010101")),
        ),
    ),
    Family(
        "date",
        (Kind("date", quoted("infinity", "-infinity", "4714-11-24 BC", "5874897-12-31", "2024-02-29", "0001-12-31 BC", "0001-01-01", "2000-01-01", "1970-01-01")),),
    ),
    Family(
        "timestamps",
        (
            Kind(
                "timestamp without time zone",
                quoted("infinity", "-infinity", "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999", "2024-02-29 12:00", "0001-12-31 23:59:59.5 BC", "1999-12-31 23:59:59.999999"),
            ),
            Kind("timestamp(3) without time zone", quoted("infinity", "2024-03-04 05:06:07.891")),
            Kind(
                "timestamp with time zone",
                quoted("infinity", "-infinity", "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "2024-10-27 02:30:00+02", "2024-10-27 02:30:00+01", "2024-03-04 05:06:07.891234-15:59:59", "1883-11-18 12:03:57-04:56:02"),
            ),
            Kind("timestamp(0) with time zone", quoted("-infinity", "2024-03-04 05:06:07+09")),
        ),
    ),
    Family(
        "times",
        (
            Kind("time without time zone", quoted("00:00", "24:00", "23:59:59.999999", "12:34:56.7")),
            Kind("time(0) without time zone", quoted("24:00", "23:59:59")),
            Kind("time with time zone", quoted("00:00+00", "24:00+15:59:59", "24:00-15:59:59", "12:00:00.000001+05:45", "12:00+00")),
        ),
    ),
    Family(
        "interval",
        (
            Kind(
                "interval",
                quoted("0", "1 mon", "30 days", "720 hours", "-1 mon +30 days -04:05:06.789", "1 mon -1 day", "178000000 years", "-178000000 years", "2147483647 days", "-2147483648 days", "2147483647:59:59.999999", "0.000001", "-0.000001"),
            ),
            Kind("interval(3)", quoted("1.234", "-1 year 2.5")),
            Kind("interval year to month", quoted("13 mons", "-1 mons")),
            Kind("interval day to second(2)", quoted("1 day 02:03:04.05")),
        ),
    ),
    Family("infinite intervals", (Kind("interval", quoted("infinity", "-infinity")),), since=17),
    Family("uuid", (Kind("uuid", quoted("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "01890a5d-ac96-774b-bcce-b302099a8057")),)),
    Family(
        "json",
        (
            Kind(
                "json",
                (
                    *quoted('{"a":1, "a":2}', '{"b" :\t1,\n "a": [ ]}', " null ", "1.00", "1e400", '"\\u0000"', '"\\ud800"', '"\\\\n\\n"', '"👩 한글"', '{"":{}}', "-0"),
                    "repeat('[', 1000) || repeat(']', 1000)",
                ),
                is_key=False,
            ),
        ),
    ),
    Family(
        "jsonb",
        (
            Kind(
                "jsonb",
                (
                    *quoted('{"a":1, "a":2}', '{"b":1,"aa":[1.0,1.00,1e2]}', "null", "1.00", "1.0", "-0.0", '""', '"\\n\\\\"', '"👩 한글"', "{}", "[]", "[[],{}]"),
                    "repeat('[', 1000) || repeat(']', 1000)",
                    "'1' || repeat('0', 4000)",
                ),
            ),
        ),
    ),
    Family(
        "jsonpath",
        (
            Kind(
                "jsonpath",
                quoted("$", "strict $.a", "lax $.**{2 to 3}", '$."a b"[*] ? (@ > 1.50 && @.x == "q\\"")', '$ ? (@ like_regex "^a" flag "iq")', "$.a.size() + 1", "$var", "$[last - 1].type()", "exists($.a)", "null"),
                is_key=False,
            ),
        ),
    ),
    Family("jsonpath methods of 17", (Kind("jsonpath", quoted("$.date()", "$.bigint().string()", "$.decimal(5, 2)"), is_key=False),), since=17),
    Family(
        "xml",
        (
            Kind(
                "xml",
                quoted("<a/>", 'text <b x="1">x</b> &amp; more', '<?xml version="1.0"?><a>é</a>', '<?xml version="1.0" standalone="yes"?><a/>', '<?xml version="1.0" encoding="UTF-8"?><a>한글</a>', "<!-- c --><a><![CDATA[<]]></a>", "<!DOCTYPE a><a/>", "", "\n<a>\n</a>\n"),
                is_key=False,
            ),
        ),
        needs="xml",
    ),
    Family(
        "arrays",
        (
            Kind("integer[]", quoted("{}", "{NULL}", "{1,NULL,2}", "[0:1]={1,2}", "{{{{{{1}}}}}}", "[2:3][-1:0]={{1,2},{3,4}}", "[-2147483648:-2147483648]={1}"), has_array=False),
            Kind("text[]", (*quoted("{}", '{"NULL",NULL,""}', '{"a\\"b","\\\\",","," ","{}"}', '[5:5]={"tab\there"}', '{"line\nbreak","\\\\N","\\\\."}'), "ARRAY['한글', E'\\r', '👩']"), has_array=False),
            Kind("numeric(10,2)[]", quoted("{1.10,NaN}", "{}"), has_array=False),
            Kind("character(3)[]", quoted('{"a","ab ",NULL}'), has_array=False),
            Kind("jsonb[]", quoted('{"{\\"a\\": [1, null]}",NULL,"null"}'), has_array=False),
        ),
    ),
    Family(
        "enums",
        (Kind("s.mood", quoted("sad", "it's", '"', "NULL", "한" * 21, "a,b", "{}", "with space", "")),),
        types=f"CREATE TYPE s.mood AS ENUM ({', '.join(quoted('with space', 'sad', 'it' + chr(39) + 's', chr(34), 'NULL', '한' * 21, 'a,b', '{}', ''))})",
        is_nested=False,
    ),
    Family(
        "enums in other types",
        (Kind("s.temper", quoted("low", "it's", "")),),
        types="CREATE TYPE s.temper AS ENUM ('low', 'it''s', '')",
    ),
    Family(
        "ranges",
        (
            Kind("int4range", quoted("empty", "(,)", "[1,5)", "(,5)", "[-2147483648,2147483647)")),
            Kind("int8range", quoted("empty", "[9223372036854775806,)", "(,)")),
            Kind("numrange", quoted("empty", "(1.0,1.00]", "[1.0,1.00]", "[-Infinity,NaN]", "(,0)")),
            Kind("daterange", quoted("empty", "[-infinity,infinity]", "[4714-11-24 BC,2024-02-29)", "(,)")),
            Kind("tsrange", quoted("empty", '["2024-01-01 00:00","infinity"]', '("4714-11-24 00:00:00 BC",)')),
            Kind("tstzrange", quoted("empty", '["2024-10-27 02:30+02","2024-10-27 02:30+01")', "[,infinity)")),
            Kind("s.textrange", quoted("empty", '["a","b\\"c"]', '("","\\\\")', '["a,b","한글"]')),
        ),
        types='CREATE TYPE s.textrange AS RANGE (subtype = text, collation = "C")',
    ),
    Family(
        "multiranges",
        (
            Kind("int4multirange", quoted("{}", "{(,)}", "{[1,2),[4,6)}")),
            Kind("int8multirange", quoted("{}", "{(,-9223372036854775807),[5,)}")),
            Kind("nummultirange", quoted("{}", "{[1.0,1.00],(2,3)}")),
            Kind("datemultirange", quoted("{}", "{(-infinity,2024-02-29),[2025-01-01,infinity]}")),
            Kind("tsmultirange", quoted("{}", '{["2024-01-01 00:00","infinity"]}')),
            Kind("tstzmultirange", quoted("{}", '{["2024-10-27 02:30+02","2024-10-27 02:30+01")}')),
            Kind("s.floatmultirange", quoted("{}", "{[-0,0.5),(1e300,Infinity]}")),
        ),
        types="CREATE TYPE s.floatrange AS RANGE (subtype = double precision)",
    ),
    Family(
        "network addresses",
        (
            Kind("inet", quoted("10.1.2.3/8", "10.1.2.3", "0.0.0.0/0", "255.255.255.255/1", "::1", "fe80::1/64", "::ffff:1.2.3.4/128")),
            Kind("cidr", quoted("10.0.0.0/8", "0.0.0.0/0", "10.1.2.3/32", "::/0", "fe80::/64")),
            Kind("macaddr", quoted("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff")),
            Kind("macaddr8", quoted("00:00:00:00:00:00:00:00", "08:00:2b:ff:fe:01:02:03")),
        ),
    ),
    Family(
        "text search",
        (
            Kind("tsvector", quoted("", "'a':1A,2B,16383 'b c' 'it''s':3", "'\\\\' 'back\\\\slash'", "'한글':1", "a b")),
            Kind("tsquery", quoted("", "'a' & !'b' | ('c' <-> 'd':*AB)", "'it''s' <5> '\\\\'", "!!'x'")),
        ),
    ),
    Family(
        "geometric",
        (
            Kind("point", quoted("(NaN,1)", "(Infinity,-Infinity)", "(-0,0)", "(0.1,1e-300)"), is_key=False),
            Kind("line", quoted("{1,-1,0}", "{0,1,NaN}", "{1e300,0,-0}"), is_key=False),
            Kind("lseg", quoted("[(0,0),(1,1)]", "[(NaN,NaN),(0.1,-0)]"), is_key=False),
            Kind("box", quoted("(1,1),(0,0)", "(2,0.5),(0,0)", "(NaN,1),(0,-0)"), is_key=False),
            Kind("path", quoted("[(0,0)]", "((0,0),(1,1))", "[(NaN,0),(1,Infinity)]"), is_key=False),
            Kind("polygon", quoted("((0,0))", "((0,0),(1,0),(1,NaN))"), is_key=False),
            Kind("circle", quoted("<(0,0),0>", "<(NaN,-0),1>", "<(1,1),Infinity>"), is_key=False),
        ),
    ),
    Family(
        "transactions and positions",
        (
            Kind("pg_lsn", quoted("0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848")),
            Kind("xid8", quoted("0", "18446744073709551615", "4294967296")),
            Kind("xid", quoted("0", "3", "4294967295"), is_key=False),
            Kind("cid", quoted("0", "4294967295"), is_key=False),
            Kind("tid", quoted("(0,0)", "(4294967295,65535)")),
            Kind("pg_snapshot", quoted("10:20:10,14,15", "1:1:"), is_key=False),
            Kind("txid_snapshot", quoted("10:20:10,14,15", "1:1:"), is_key=False),
        ),
    ),
    Family(
        "object identifiers",
        (
            Kind("oid", quoted("0", "4294967295", "2147483648")),
            Kind("oidvector", quoted("", "1 4294967295")),
            Kind("int2vector", quoted("", "1 -32768 32767"), is_key=False),
            Kind("regclass", quoted("pg_catalog.pg_class", "information_schema.tables", "-")),
            Kind("regtype", quoted("integer", "timestamp with time zone", 'pg_catalog."char"', "text[]", "-")),
            Kind("regproc", quoted("pg_catalog.now", "-")),
            Kind("regprocedure", quoted("pg_catalog.lower(text)", "-")),
            Kind("regoper", quoted("pg_catalog.||/", "0")),
            Kind("regoperator", quoted("pg_catalog.+(integer,integer)", "0")),
            Kind("regrole", quoted("postgres", "-")),
            Kind("regnamespace", quoted("pg_catalog", "-")),
            Kind("regconfig", quoted("pg_catalog.english", "-")),
            Kind("regdictionary", quoted("pg_catalog.simple", "-")),
            Kind("regcollation", quoted('pg_catalog."C"', "-")),
        ),
    ),
    Family("access rights", (Kind("aclitem", quoted("=r/postgres", "postgres=arwdDxt/postgres", "postgres=r*w*/postgres"), is_key=False),)),
    Family("cursor names", (Kind("refcursor", quoted("", "<unnamed portal 1>", 'q"x', "\\N"), is_key=False),)),
    Family(
        "domains over domains",
        (
            Kind("s.small", quoted("1", "99")),
            Kind("s.named", quoted("", "한글", "\\N")),
            Kind("s.list", quoted("{}", "{1,NULL}", "[0:1]={1,2}")),
            Kind("s.place", quoted('(1,"a,""b")', "(,)")),
            Kind("s.feeling", quoted("good", "so so")),
            Kind("s.demanding", ("ROW(5, 7)", "ROW(1, NULL)")),
        ),
        types="""CREATE DOMAIN s.positive AS integer CHECK (VALUE > 0);
        CREATE DOMAIN s.small AS s.positive CHECK (VALUE < 100);
        CREATE DOMAIN s.named_by AS text DEFAULT 'x' CHECK (length(VALUE) < 20);
        CREATE DOMAIN s.named AS s.named_by;
        CREATE DOMAIN s.list AS integer[] CHECK (cardinality(VALUE) < 9);
        CREATE TYPE s.spot AS (x integer, t text);
        CREATE DOMAIN s.place AS s.spot;
        CREATE TYPE s.felt AS ENUM ('good', 'so so');
        CREATE DOMAIN s.feeling AS s.felt;
        CREATE DOMAIN s.needed AS s.small NOT NULL;
        CREATE TYPE s.demanding AS (needed s.needed, small s.small)""",
    ),
    Family(
        "composites",
        (
            Kind("s.point3", (*quoted('(1,"")', "(,)", '(2,"a,""b\\\\c(d)")', '(3,"NULL")'), "ROW(4, E'tab\\tline\\n')")),
            Kind("s.holder", ("ROW(ROW(1, 'x'), ARRAY[ROW(2, NULL)::s.point3, NULL], 5)", "ROW(NULL, '{}', NULL)")),
            Kind("s.outer", ("ROW(ROW(ROW(1, E'\\\\'), NULL, 7), '[0:0]={7}')",)),
            Kind("s.nothing", ("ROW()",)),
        ),
        types="""CREATE TYPE s.point3 AS (x integer, t text);
        CREATE DOMAIN s.counted AS integer CHECK (VALUE > 0);
        CREATE TYPE s.holder AS (p s.point3, ps s.point3[], n s.counted);
        CREATE TYPE s.outer AS (h s.holder, n integer[]);
        CREATE TYPE s.nothing AS ()""",
    ),
    Family("hstore", (Kind("public.hstore", quoted("", '"a"=>"1", "b"=>NULL', '"q\\"u"=>"\\\\", " "=>"NULL"', '""=>""')),), needs="hstore"),
    Family("citext", (Kind("public.citext", quoted("Abc", "", "한글 É", "\\N")),), needs="citext"),
    Family(
        "ltree",
        (
            Kind("public.ltree", quoted("", "Top", "Top.Science.A_1")),
            Kind("public.lquery", quoted("Top.*{1,2}.A*@", "!a|b.*"), is_key=False),
            Kind("public.ltxtquery", quoted("Top & !b*", "a | b@"), is_key=False),
        ),
        needs="ltree",
    ),
    Family("ltree labels of 16", (Kind("public.ltree", ("'Top.a-b'", "repeat('x', 1000)")),), since=16, needs="ltree"),
    Family("cube", (Kind("public.cube", quoted("(1,2),(3,4)", "(0)", "(-0,NaN)", "()", "(1e300),(-Infinity)")),), needs="cube"),
    Family("seg", (Kind("public.seg", quoted("1", "1.10 .. 2.5", "<5", "~ 3 .. ", ".. 7")),), needs="seg"),
    Family(
        "isn",
        (
            Kind("public.isbn13", quoted("978-0-393-04002-9")),
            Kind("public.isbn", quoted("0-393-04002-X")),
            Kind("public.issn", quoted("1436-4522")),
            Kind("public.ean13", quoted("220-356483007-8")),
        ),
        needs="isn",
    ),
    Family("query_int", (Kind("public.query_int", quoted("1&2", "!1|(2&3)"), is_key=False),), needs="intarray"),
)  # fmt: skip

#: Types of PostgreSQL's own that hold no value of a user's, and why.
NOT_STORED = {
    "pg_node_tree": "has no input",
    "pg_ndistinct": "has no input",
    "pg_dependencies": "has no input",
    "pg_mcv_list": "has no input",
    "pg_brin_bloom_summary": "has no input",
    "pg_brin_minmax_multi_summary": "has no input",
    "gtsvector": "has no input",
}


def in_arrays(kind: Kind) -> Kind:
    """Return arrays of the kind's values: with a neighbour and NULL between, alone, and empty."""
    pairs = zip(kind.values, kind.values[1:] + kind.values[:1], strict=True)
    filled = (" || ".join(_alone(kind, value) for value in (one, "NULL", other)) for one, other in pairs)
    return Kind(f"{kind.type}[]", (*filled, "'{}'", "'{NULL}'"), is_key=False)


def in_composites(kind: Kind, type_: str) -> Kind:
    """Return composites of a value and, where there are such, an array of it."""
    rows = (
        f"ROW(({value})::{kind.type}, {_alone(kind, value) if kind.has_array else 'NULL'})" for value in kind.values
    )
    return Kind(type_, (*rows, "ROW(NULL, NULL)"), is_key=False)


def in_domains(kind: Kind, type_: str) -> Kind:
    """Return the same values under a domain."""
    return dataclasses.replace(kind, type=type_, has_array=True)


def _alone(kind: Kind, value: str) -> str:
    """Return an array of one value; ARRAY[..] would take a domain for what it stands on."""
    return f"array_fill(({value})::{kind.type}, '{{1}}')"
