"""``pgsluice serve``: the page as of now, for this machine, or for who has the token; it only reads."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message

import pytest
from browsing import PHONE, browser, looked_at, needs_browser, serious
from playwright.sync_api import expect
from servers import Pair, run_cli, unmeasured


@contextlib.contextmanager
def served(pair: Pair, *arguments: str, **environment: str) -> Iterator[str]:
    """Serve a target, and return the address; it ends by SIGTERM, with 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pgsluice", "serve", "--port", "0", *arguments],
        env={**unmeasured(), "PGSLUICE_TARGET": pair.target.dsn, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = process.stderr.readline()
    found = re.search(r"http://\S+/", told)
    assert found, told
    try:
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0


def asked(url: str, method: str = "GET", **headers: str) -> tuple[int, str, Message]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=named)  # noqa: S310 - our own address
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the same
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


@pytest.fixture
def synced(pair: Pair) -> Pair:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1), (2)")
    assert pair.pgsluice("sync", "--table", "s.t").code == 0
    return pair


def test_the_page_its_data_and_numbers_are_as_of_now(synced: Pair) -> None:
    with served(synced) as site:
        status, text, headers = asked(site)
        assert (status, "1 of 1 tables done" in text) == (200, True)
        assert headers["Cache-Control"] == "no-store"
        (run,) = json.loads(asked(f"{site}runs.json")[1])
        assert (run["status"], run["done"], run["rows"]) == ("done", 1, 2)
        assert json.loads(asked(f"{site}runs/{run['run_id']}.json")[1])["tables"][0]["target"] == "s.t"
        assert f'<h2 id="run">Run {run["run_id"]}</h2>' in asked(f"{site}runs/{run['run_id']}")[1]
        assert [each["target"] for each in json.loads(asked(f"{site}tables.json")[1])] == ["s.t"]
        numbers = asked(f"{site}metrics")[1]
        assert 'pgsluice_table_success{table="s.t"} 1.0' in numbers
        assert 'pgsluice_table_rows{table="s.t"} 2.0' in numbers
        assert asked(f"{site}nowhere")[0] == 404
        assert asked(f"{site}runs/nobody")[0] == 404


def test_nothing_but_reading_is_answered(synced: Pair) -> None:
    with served(synced) as site:
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            status, _, headers = asked(site, method)
            assert (status, headers["Allow"]) == (405, "GET, HEAD")
        assert asked(site, "HEAD")[:2] == (200, "")


def test_a_name_that_is_made_to_lead_here_is_turned_away(synced: Pair) -> None:
    with served(synced, "--allow-host", "lake.example") as site:
        assert asked(site, Host="evil.example")[0] == 421
        assert asked(site, Host="localhost.evil.example:80")[0] == 421
        assert asked(site, Host="LAKE.example:443")[0] == 200
        assert asked(site, Host="[::1]:8432")[0] == 200


def test_others_are_let_in_by_a_token_alone(synced: Pair) -> None:
    alone = run_cli("serve", "--target", synced.target.dsn, "--host", "0.0.0.0")  # noqa: S104 - what it refuses
    assert alone.code == 2
    assert alone.err == (
        "pgsluice: others can reach 0.0.0.0, and would read what runs did without a word\n"
        "export PGSLUICE_TOKEN=.. lets in who has it; --host 127.0.0.1 is for this machine alone.\n"
    )
    with served(synced, "--host", "0.0.0.0", PGSLUICE_TOKEN="s3cret") as address:  # noqa: S104 - with a token
        site = address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - where it can be reached
        status, text, headers = asked(site)
        assert (status, headers["WWW-Authenticate"][:5]) == (401, "Basic")
        assert "s.t" not in text
        assert asked(f"{site}metrics", Authorization="Bearer wrong")[0] == 401
        assert asked(f"{site}metrics", Authorization="Basic %%%")[0] == 401
        assert asked(f"{site}metrics", Authorization="Bearer s3cret")[0] == 200
        basic = base64.b64encode(b"anybody:s3cret").decode()
        assert asked(site, Authorization=f"Basic {basic}")[0] == 200


def test_a_target_that_is_gone_is_told_without_its_password(synced: Pair) -> None:
    target = f"postgresql://someone:hunter2@127.0.0.1:1/{synced.target.name}"
    with served(synced, PGSLUICE_TARGET=target) as site:
        status, text, _ = asked(site)
        assert status == 503
        assert "127.0.0.1:1" in text
        assert "hunter2" not in text


@needs_browser
@pytest.mark.slow
def test_an_open_page_shows_the_next_run_by_itself_and_keeps_what_was_typed(synced: Pair) -> None:
    with served(synced) as site, browser() as opened:
        with looked_at(opened, site) as seen:
            first = seen.locator("#run").inner_text()
            seen.get_by_label("Show those that have").fill("s.t")
            seen.get_by_label("Show those that have").blur()
            synced.source.execute("INSERT INTO s.t VALUES (3)")
            assert synced.pgsluice("sync", "--table", "s.t").code == 0
            expect(seen.locator("#run")).not_to_have_text(first, timeout=30_000)
            assert seen.locator("#list tr td[data-label=rows]").inner_text().endswith("3")
            assert seen.get_by_label("Show those that have").input_value() == "s.t"
        assert serious(opened, site, PHONE, dark=True) == []


def test_a_port_that_is_taken_is_an_error(synced: Pair) -> None:
    with served(synced) as site:
        taken = run_cli("serve", "--target", synced.target.dsn, "--port", site.rpartition(":")[2].strip("/"))
    assert taken.code == 2
    assert "nobody can listen at 127.0.0.1:" in taken.err
    assert os.linesep + "Choose another port." in taken.err
