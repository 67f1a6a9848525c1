"""A server's words without row data: what names a value is left out, what names the schema stays."""

from __future__ import annotations

import pickle

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.pq import DiagnosticField

from pgsluice.retry import step_error
from pgsluice.rowdata import cut_words, leave_out, place, words


@pytest.mark.parametrize(
    ("sqlstate", "message", "told"),
    [
        ("22P02", 'invalid input syntax for type integer: "SECRET"', 'invalid input syntax for type integer: "***"'),
        ("22P02", 'invalid input syntax for type integer: "a" SECRET "b"', 'invalid input syntax for type integer: "***"'),
        ("22P02", 'invalid input syntax for type integer: "SEC\nRET', 'invalid input syntax for type integer: "***"'),
        ("22P02", "la syntaxe en entrée est invalide : « SECRET »", 'la syntaxe en entrée est invalide : "***"'),
        ("22P02", "ungültige Eingabesyntax: „SECRET“", 'ungültige Eingabesyntax: "***"'),
        ("22003", 'value "9SECRET9" is out of range for type integer', 'value "***" is out of range for type integer'),
        ("22003", 'setval: value 77 is out of bounds for sequence "s" (1..9)', 'setval: value *** is out of bounds for sequence "***" (1..9)'),
        ("22021", 'invalid byte sequence for encoding "UTF8": 0xe9 0x20', 'invalid byte sequence for encoding "UTF8": ***'),
        ("22001", "value too long for type character varying(3)", "value too long for type character varying(3)"),
        ("42P01", 'relation "SECRET" does not exist', 'relation "***" does not exist'),
        ("42601", 'syntax error in tsquery: "SECRET"', 'syntax error in tsquery: "***"'),
        ("3F000", 'schema "SECRET" does not exist', 'schema "***" does not exist'),
        ("XX000", 'an extension says "SECRET"', 'an extension says "***"'),
        ("HV000", 'a remote server says "SECRET"', 'a remote server says "***"'),
        ("P0001", "SECRET is not wanted here", 'a function or trigger raised "***"'),
        ("38000", "SECRET", 'a function or trigger raised "***"'),
        ("23505", 'duplicate key value violates unique constraint "u"', 'duplicate key value violates unique constraint "u"'),
        ("42501", 'permission denied for table "t"', 'permission denied for table "t"'),
        (None, "server closed the connection", "server closed the connection"),
    ],
)  # fmt: skip
def test_a_value_is_left_out_and_a_name_stays(sqlstate: str | None, message: str, told: str) -> None:
    assert words(message, sqlstate) == told


@pytest.mark.parametrize(
    ("sqlstate", "message", "told"),
    [
        ("22008", "date field value out of range: 1985-13-07", "date field value out of range: ***"),
        ("22008", "time field value out of range: 25:13:07.5", "time field value out of range: ***"),
        ("54000", "requested character too large for encoding: 198500000", "requested character too large for encoding: ***"),
        ("54000", "requested character not valid for encoding: 55296", "requested character not valid for encoding: ***"),
        ("54000", 'word is too long in tsquery: "SECRET"', 'word is too long in tsquery: "***"'),
        ("54000", 'index row size 2800 exceeds btree version 4 maximum 2704 for index "t_v"', None),
        ("54000", "index row requires 8900 bytes, maximum size is 8191", None),
        ("54000", "row is too big: size 8200, maximum size 8160", None),
        ("54000", "number of array dimensions (7) exceeds the maximum allowed (6)", "number of array dimensions (***) exceeds the maximum allowed (6)"),
        ("54000", "array size exceeds the maximum allowed (134217727)", None),
        ("54011", "tables can have at most 1600 columns", None),
        ("22023", "invalid Unicode code point: 110000", "invalid Unicode code point: ***"),
        ("22023", "invalid Unicode code point: DCFFAB", "invalid Unicode code point: ***"),
        ("22023", "setseed parameter -5.5e+10 is out of allowed range [-1,1]", "setseed parameter *** is out of allowed range [***,***]"),
        ("2202E", "index 1985 out of valid range, 0..3", "index *** out of valid range, ***"),
        ("22026", "bit string length 5 does not match type bit(3)", "bit string length *** does not match type bit(3)"),
        ("22001", "value too long for type character varying(3)", None),
        ("22001", "Wert zu lang für Typ character varying(3)", None),
        ("22003", "numeric field overflow", None),
        ("22003", "smallint out of range", None),
        ("22P03", "incorrect binary data format in bind parameter 7", "incorrect binary data format in bind parameter ***"),
        ("22000", "expected 3 dimensions, not 1985", "expected *** dimensions, not ***"),
        ("2201B", "invalid regular expression: parentheses () not balanced", None),
        ("XX000", "could not find the value 1985-07-13T07:00Z of key 0xDEAD", "could not find the value *** of key ***"),
        ("XX001", "invalid page in block 3 of relation base/5/16384", None),
    ],
)  # fmt: skip
def test_a_value_without_quotes_is_left_out_and_a_limit_stays(sqlstate: str, message: str, told: str | None) -> None:
    assert words(message, sqlstate, "any.c") == (told or message)


@pytest.mark.parametrize("sqlstate", ["42501", "42P07", "P0002", "P0003", "22021", "54000", "XX001", "23505"])
def test_the_words_of_a_function_are_left_out_where_a_code_stands_for_names(sqlstate: str) -> None:
    assert "SECRET" not in words("SECRET", sqlstate, "pl_exec.c")


def test_what_plpgsql_itself_says_is_told() -> None:
    assert words("query returned no rows", "P0002", "pl_exec.c") == "query returned no rows"


def test_what_the_statement_itself_holds_is_told() -> None:
    assert words('relation "nope" does not exist', "42P01", placed=True) == 'relation "nope" does not exist'


def test_the_words_of_a_function_are_left_out_whatever_code_it_chose() -> None:
    assert "SECRET" not in words("SECRET", "23514", "pl_exec.c")


@given(st.text(), st.sampled_from(["22P02", "22007", "42P01", "XX000"]))
def test_no_value_comes_through_however_it_is_quoted(value: str, sqlstate: str) -> None:
    secret = f"SECRET{value}SECRET"
    for message in (f'invalid input: "{secret}"', f'value "{secret}" is wrong for type "t"'):
        assert "SECRET" not in words(message, sqlstate)
        first, *_ = message.split("\n")
        assert "SECRET" not in cut_words(first, sqlstate, "numutils.c")


def test_words_whose_origin_psql_did_not_tell_are_left_out() -> None:
    assert "SECRET" not in cut_words("SECRET", "23514", None)


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ('COPY t, line 7, column n: "SECRET"', "COPY t, line 7, column n"),
        ('COPY t, line 7: "SECRET\tROW"', "COPY t, line 7"),
        ('SQL function s.f\nCOPY t, line 7, column n: "SECRET"', "COPY t, line 7, column n"),
        ("PL/pgSQL function s.secret() line 3 at RAISE", ""),
        (None, ""),
    ],
)
def test_the_line_of_a_bad_row_is_told_and_its_values_are_not(context: str | None, told: str) -> None:
    assert place(context) == told


def refusal() -> psycopg.Error:
    told: dict[int, bytes | None] = dict.fromkeys(DiagnosticField, b"SECRET")
    told |= {
        DiagnosticField.SQLSTATE: b"22P02",
        DiagnosticField.MESSAGE_PRIMARY: b'invalid input syntax for type integer: "SECRET"',
        DiagnosticField.CONTEXT: b'COPY t, line 7, column n: "SECRET"',
        DiagnosticField.STATEMENT_POSITION: None,
        DiagnosticField.TABLE_NAME: b"t",
    }
    for field in (*DiagnosticField,):
        if field.name.startswith(("SCHEMA", "COLUMN", "DATATYPE", "CONSTRAINT", "SOURCE", "SEVERITY")):
            told[field] = None
    return psycopg.errors.InvalidTextRepresentation("SECRET", info=told)


def test_an_error_that_lost_its_row_data_holds_it_nowhere() -> None:
    error = refusal()
    leave_out(error)
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    for each in (error, copied):
        assert "SECRET" not in f"{each} {each!r} {vars(each)}"
        assert (each.sqlstate, each.diag.table_name) == ("22P02", "t")
    leave_out(error)
    ours = step_error(error, "relay", "s.t")
    assert ours.message == 'invalid input syntax for type integer: "***" (COPY t, line 7, column n)'
    assert "--show-row-data" in ours.hint


def test_an_error_that_may_show_row_data_tells_all_of_it() -> None:
    error = step_error(refusal(), "relay", "s.t")
    assert error.message.count("SECRET") == 3
    assert "--show-row-data" not in error.hint
