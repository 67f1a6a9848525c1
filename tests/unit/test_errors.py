"""The error tree: as its file says, whole across processes, and without secrets."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from pgsluice import errors
from pgsluice.errors import PgsluiceError, PlanError, StepError, TableNameError, UsageError, scrub

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PgsluiceError)]


def made(kind: type[PgsluiceError]) -> PgsluiceError:
    if issubclass(kind, PlanError):
        return kind("sales.orders", ("No key.", "No room."))
    return kind("it broke", hint="Mend it.", step="relay", table="sales.orders", sqlstate="57P01")


def drawn_tree() -> dict[str, tuple[str | None, int]]:
    """Read the drawing at the top of the file: class -> (parent, exit code)."""
    tree: dict[str, tuple[str | None, int]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^(?P<branch>[ │├└─]*)(?P<name>\w+Error) +(?P<code>\d+) ", line):
            depth = (len(match["branch"]) - 4) // 4
            path = [*path[:depth], match["name"]]
            tree[match["name"]] = (path[-2] if depth else None, int(match["code"]))
    return tree


def test_the_tree_is_as_drawn() -> None:
    real = {
        kind.__name__: (kind.__base__.__name__ if kind.__base__ and kind is not PgsluiceError else None, kind.exit_code)
        for kind in CLASSES
    }
    assert real == drawn_tree()


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_crosses_processes_whole(kind: type[PgsluiceError]) -> None:
    error = made(kind)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert (str(copy), copy.args, copy.exit_code) == (str(error), error.args, error.exit_code)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not PlanError])
def test_an_error_without_words_says_what_its_class_means(kind: type[PgsluiceError]) -> None:
    assert kind().message == kind.__doc__


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PgsluiceError("it broke"), "it broke"),
        (UsageError("no such option", hint="See --help."), "no such option\nSee --help."),
        (StepError("it broke", table="s.t"), "s.t: it broke"),
        (
            StepError("it broke", hint="Mend it.", step="merge", table="s.t", sqlstate="23505"),
            "s.t: merge: it broke [SQLSTATE 23505]\nMend it.",
        ),
        (PlanError("s.t", ("No key.",)), "s.t: plan: refused, nothing was written: No key."),
        (PlanError("s.t", ("No key.", "No room.")), "s.t: plan: refused, nothing was written:\n- No key.\n- No room."),
    ],
)
def test_an_error_says_where_what_and_the_way_out(error: PgsluiceError, text: str) -> None:
    assert str(error) == text


def test_a_refused_plan_keeps_its_refusals_apart() -> None:
    assert PlanError("s.t", ("No key.", "No room.")).refusals == ("No key.", "No room.")


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://ann:SECRET@db/shop", "postgresql://ann:***@db/shop"),
        ("postgres://:SECRET@db:5432", "postgres://:***@db:5432"),
        ("postgresql://ann:SE:C?R#E%40T&@db/shop", "postgresql://ann:***@db/shop"),
        ("postgresql://ann:SE@CRET@db/shop", "postgresql://ann:***@db/shop"),
        ("postgresql://ann:SE/CRET@db/shop", "postgresql://ann:***@db/shop"),
        ("postgresql://ann:비밀@db/shop", "postgresql://ann:***@db/shop"),
        (
            "postgresql://db/shop?user=ann&password=SECRET&sslmode=require",
            "postgresql://db/shop?user=ann&password=***&sslmode=require",
        ),
        (
            "postgresql://a:SECRET@h1,h2:5433/shop?sslpassword=SECRET",
            "postgresql://a:***@h1,h2:5433/shop?sslpassword=***",
        ),
        ("host=db password=SECRET user=ann", "host=db password=*** user=ann"),
        ("host=db PASSWORD = SECRET user=ann", "host=db PASSWORD = *** user=ann"),
        ("host=db password='SE CR''ET' user=ann", "host=db password=*** user=ann"),
        (r"host=db password='SE\'CR \\ET' user=ann", "host=db password=*** user=ann"),
        ("host=db password='SE\nCRET' user=ann", "host=db password=*** user=ann"),
        ("host=db oauth_client_secret=SECRET", "host=db oauth_client_secret=***"),
        ("host=db password=SE'CRET user=ann", "host=db password=*** user=ann"),
        (r"host=db password=SE\ CRET user=ann", "host=db password=*** user=ann"),
        ("host=db password=SE&CRET user=ann", "host=db password=*** user=ann"),
        ("host=db password='SE CRET", "host=db password=***"),
        ("extra argument (postgresql://ann:my SECRET@db/shop)", "extra argument (postgresql://ann:***@db/shop)"),
        ("postgresql://ann:SE://CRET@db/shop", "postgresql://ann:***@db/shop"),
        ("PGPASSWORD=SECRET psql", "PGPASSWORD=*** psql"),
        ("{'user': 'ann', 'password': 'SE\\'CRET', 'port': 1}", "{'user': 'ann', 'password': ***, 'port': 1}"),
        ('{"sslpassword": "SE CRET"}', '{"sslpassword": ***}'),
        (
            "from postgresql://a:SECRET@h/d to host=h password='SECRET' or postgres://b:SECRET@h",
            "from postgresql://a:***@h/d to host=h password=*** or postgres://b:***@h",
        ),
    ],
)
def test_no_password_of_a_connection_string_is_shown(text: str, clean: str) -> None:
    assert scrub(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "",
        "postgresql://ann@db:5432/shop",
        "postgresql://[::1]:5432/shop",
        "postgresql://ann@[::1]:5432/shop",
        "host=db user=ann passfile=/home/ann/.pgpass",
        'column "password" of s.users does not exist',
        "role ann, write to ann@example.org: ask for a new password",
    ],
)
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert scrub(text) == text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_no_password_that_a_driver_can_quote_is_shown(odd: str) -> None:
    seen = scrub(f"can't reach {make_conninfo(host='db', password=f'hea{odd}tail', user='ann')}")
    assert "hea" not in seen.removeprefix("can't reach")
    assert "tail" not in seen


@pytest.mark.parametrize("error", [TableNameError, UsageError, StepError])
def test_an_error_keeps_no_password_in_any_of_its_texts(error: type[PgsluiceError]) -> None:
    made = error("postgresql://ann:SECRET@db", hint="Try 'host=db password=SECRET'.")
    assert "SECRET" not in f"{made} {made!r} {vars(made)}"
