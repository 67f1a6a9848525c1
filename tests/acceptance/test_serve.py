"""``pgsluice serve``: the page as of now, for this machine, or for who has the token; it only reads."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message

import pytest
from browsing import PHONE, browser, looked_at, needs_browser, serious
from faulting import await_that
from playwright.sync_api import expect
from proxying import Fault, proxied
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


def half_open(site: str, count: int, source: str = "127.0.0.1") -> list[socket.socket]:
    """Begin so many requests, and end none."""
    host, port = place(site)
    begun = [socket.create_connection((host, port), 30, (source, 0)) for _ in range(count)]
    for each in begun:
        with contextlib.suppress(OSError):  # it has had to give way to those behind it
            each.sendall(b"GET /runs.json HTTP/1.1\r\nHost: localhost\r\n")
    return begun


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def place(site: str) -> tuple[str, int]:
    found = urllib.parse.urlsplit(site)
    assert found.hostname
    assert found.port
    return found.hostname, found.port


def test_requests_that_are_begun_and_not_ended_keep_nobody_out(synced: Pair) -> None:
    with served(synced) as site, contextlib.ExitStack() as stack:
        begun = half_open(site, 300)
        for each in begun:
            stack.enter_context(each)
        assert asked(f"{site}runs.json")[0] == 200
        assert sum(is_open(each) for each in begun) <= 40, (
            "they gave way, and were not waited for until their time was up"
        )
        assert asked(site)[0] == 200


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere this machine has one loopback address")
def test_who_begins_too_many_requests_pushes_out_its_own_alone(synced: Pair) -> None:
    with served(synced) as site, contextlib.ExitStack() as stack:
        (early,) = half_open(site, 1)
        stack.enter_context(early)
        greedy = half_open(site, 300, "127.0.0.2")
        for each in greedy:
            stack.enter_context(each)
        assert asked(f"{site}healthz")[0] == 200  # by now all of them have been met
        early.sendall(b"\r\n")
        assert early.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        greedy[0].settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            assert greedy[0].recv(1) == b""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 50_000, b"431"),
    ],
    ids=["body", "header"],
)
def test_a_request_that_is_too_large_is_turned_away_before_it_is_all_there(
    synced: Pair, request_: bytes, status: bytes
) -> None:
    with served(synced) as site, socket.create_connection(place(site), 30) as client:
        client.sendall(request_)
        assert client.recv(1 << 16).split()[1] == status


def test_a_target_that_does_not_answer_holds_up_one_request_and_no_other(synced: Pair) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=100) as stopped,  # which is never asked to accept
        served(synced, PGSLUICE_TARGET=f"postgresql://postgres@127.0.0.1:{stopped.getsockname()[1]}/x") as site,
        ThreadPoolExecutor(20) as readers,
    ):
        asking = [readers.submit(asked, f"{site}runs.json") for _ in range(20)]
        await_that(lambda: sum(each.done() for each in asking) >= 19, "all but one to be answered")
        assert asked(f"{site}healthz")[:2] == (200, "ok\n")
        assert sum(each.done() for each in asking) == 19
        answers = [each.result() for each in asking]
        assert {status for status, _, _ in answers} == {503}
        assert all(headers["Retry-After"] for _, _, headers in answers)
        stopped.setblocking(False)
        assert attempts(stopped) <= 2, "one question, and one look whether a server is there"


def attempts(listening: socket.socket) -> int:
    """Return how many connections nobody has accepted."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            count += 1
    return count


def test_a_target_that_answers_again_is_shown_again(synced: Pair) -> None:
    with proxied(synced.target) as (proxy, dsn), served(synced, PGSLUICE_TARGET=dsn) as site:
        assert asked(f"{site}runs.json")[0] == 200
        proxy.arm(Fault.BLACK_HOLE, 0, every=True)
        await_that(lambda: asked(f"{site}runs.json")[0] == 503, "what was known to be too old")
        proxy.heal()
        await_that(lambda: asked(f"{site}runs.json")[0] == 200, "the target to be asked again")


def test_that_it_lives_is_told_to_anybody_and_nothing_else(synced: Pair) -> None:
    target = f"postgresql://postgres@127.0.0.1:1/{synced.target.name}"
    with served(synced, PGSLUICE_TOKEN="s3cret", PGSLUICE_TARGET=target) as site:
        assert asked(f"{site}healthz", Host="10.1.2.3:80")[:2] == (200, "ok\n")
        assert asked(f"{site}healthz", "HEAD")[:2] == (200, "")
        assert asked(f"{site}healthz", "POST")[0] == 405
        for path in ("healthz/", "healthz/../runs.json", "runs.json"):
            assert asked(f"{site}{path}")[0] == 401
        assert asked(f"{site}runs.json", Authorization="Bearer s3cret")[0] == 503


@pytest.mark.parametrize(
    "token", ["naïve-ключ-鍵", "p\u00e4ss:wort", "\udcff\udcfe"], ids=["letters", "colon", "bytes"]
)
def test_a_token_beyond_ascii_lets_in_who_has_it(synced: Pair, token: str) -> None:
    raw = os.fsencode(token)
    with served(synced, PGSLUICE_TOKEN=token) as site:
        for given in (raw, raw[:-1], raw + b"x"):
            right = 200 if given == raw else 401
            assert asked(site, Authorization="Bearer " + given.decode("latin-1"))[0] == right
            basic = base64.b64encode(b"anybody:" + given).decode()
            assert asked(site, Authorization=f"Basic {basic}")[0] == right
        assert asked(site, Authorization="Basic " + raw.decode("latin-1"))[0] == 401
        assert asked(site, Authorization="Bearer \xff\xfe\xfd")[0] == 401


@pytest.mark.parametrize("token", ["s3cret\n", " s3cret", "s3cret\t", "s3\x07cret", "s3\rcret"])
def test_a_token_that_no_header_can_carry_is_refused_at_the_start(
    synced: Pair, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSLUICE_TOKEN", token)
    refused = run_cli("serve", "--target", synced.target.dsn, "--port", "0")
    assert refused.code == 2
    assert "PGSLUICE_TOKEN" in refused.err
    assert "s3" not in refused.err


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
