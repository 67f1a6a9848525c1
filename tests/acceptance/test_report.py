"""``pgsluice report``: one page about what runs did, readable everywhere, and harmless however a table is called."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import LAPTOP, PHONE, WIDE, browser, looked_at, needs_browser, serious
from servers import Outcome, Pair, database, run_cli

from pgsluice.embedded import Cluster
from pgsluice.job import TableRef

HOSTILE = TableRef("we ird", """'"><img src=x onerror=alert(1)><script>alert(2)</script>{{7}}""")
TABLES = 300


def reported(pair: Pair, *arguments: str) -> Outcome:
    return run_cli("report", "--target", pair.target.dsn, *arguments)


@pytest.fixture(scope="module")
def night(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    """Give 300 tables of which two failed, and the night before."""
    with database(source_cluster) as source, database(target_cluster) as target:
        source.execute(
            f"""CREATE SCHEMA s; CREATE SCHEMA "we ird";
            DO $$BEGIN FOR i IN 1..{TABLES} LOOP
              EXECUTE format('CREATE TABLE s.t%s AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 20) g', i);
              EXECUTE format('ALTER TABLE s.t%s ADD PRIMARY KEY (id)', i);
            END LOOP; END$$;
            CREATE TABLE "we ird"."{HOSTILE.name.replace('"', '""')}" (id int PRIMARY KEY);
            CREATE TABLE s.bare (v int);"""
        )
        target.execute(
            """CREATE SCHEMA s; CREATE TABLE s.t150 (id int PRIMARY KEY, v text CHECK (id < 10));
            CREATE TABLE s.bare (v int)"""
        )
        pair = Pair(source, target)
        assert pair.pgsluice("sync", "--table", "s.t1*").code == 3
        assert pair.pgsluice("sync", "--table", "s.*", "--table", "we ird.*", timeout=300).code == 3
        yield pair


@pytest.fixture(scope="module")
def page(night: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "night.html"
    done = reported(night, "-o", str(file))
    assert (done.code, done.err) == (0, f"{file}: 2 runs, {TABLES + 2} tables\n")
    return file


def test_the_page_has_every_table_every_run_and_what_to_do_about_what_failed(night: Pair, page: Path) -> None:
    text = html.unescape(page.read_text("utf-8"))
    assert f"{TABLES} of {TABLES + 2} tables done, <strong>2 failed</strong>" in text
    assert text.index('violates check constraint "t150_id_check"') < text.index('id="timeline"')
    assert "name the columns that do with --key" in text
    for run_id, status in night.target.rows("SELECT run_id, status FROM pgsluice.runs"):
        assert run_id in text
        assert status == "partly done"
    for (target,) in night.target.rows("SELECT target FROM pgsluice.tables"):
        assert f'<th scope="row">{target}<' in text


def test_a_run_can_be_named_and_one_that_is_not_known_is_an_error(night: Pair) -> None:
    first = night.target.value("SELECT run_id FROM pgsluice.runs ORDER BY started_at LIMIT 1")
    text = reported(night, first, "-o", "-").out
    assert f'<h2 id="run">Run {first}</h2>' in text
    unknown = reported(night, "20200101t000000_000000", "-o", "-")
    assert unknown.code == 2
    assert unknown.err == (
        "pgsluice: there is no run 20200101t000000_000000\n`pgsluice status --last 50` lists the runs of this target.\n"
    )


def test_a_target_that_no_run_has_written_to_has_a_page_that_says_so(pair: Pair) -> None:
    done = reported(pair, "-o", "-")
    assert done.code == 0
    assert "No run has written to this target yet." in done.out


@pytest.mark.parametrize("points", ["to a file", "to nothing"])
def test_a_link_that_somebody_put_in_the_place_of_the_page_is_followed_only_where_it_is_named(
    pair: Pair, tmp_path: Path, points: str
) -> None:
    mine, link = tmp_path / "mine", tmp_path / "report.html"
    if points == "to a file":
        mine.write_text("precious", "utf-8")
    link.symlink_to(mine)
    target = ("report", "--target", pair.target.dsn)
    done = run_cli(*target, cwd=tmp_path)
    assert done.code == 2
    assert "report.html is a link, and nobody named it" in done.err
    assert not mine.exists() if points == "to nothing" else mine.read_text("utf-8") == "precious"
    assert run_cli(*target, "-o", "report.html", cwd=tmp_path).code == 0
    assert "<html" in mine.read_text("utf-8")


def test_the_page_asks_for_nothing_and_holds_names_as_text_alone(page: Path) -> None:
    text = page.read_text("utf-8")
    assert html.escape(str(HOSTILE)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    assert "<script>alert" not in text
    assert "<img" not in text
    assert re.findall(r"(?:src|href)\s*=\s*\S+|url\(|@import", text.replace("img src=x", "")) == ['href="data:,">']


@needs_browser
@pytest.mark.slow
def test_a_browser_shows_the_page_on_a_phone_and_a_wide_screen_by_day_and_by_night(page: Path) -> None:
    url = page.as_uri()
    with browser() as opened:
        for screen, dark in ((PHONE, False), (LAPTOP, False), (LAPTOP, True), (WIDE, True)):
            with looked_at(opened, url, screen, dark=dark) as seen:
                assert seen.locator("#list tr").count() == TABLES + 2
                assert seen.locator("svg rect").count() > 40
            assert serious(opened, url, screen, dark=dark) == []


@needs_browser
@pytest.mark.slow
def test_what_is_typed_leaves_the_tables_that_have_it(page: Path) -> None:
    with browser() as opened, looked_at(opened, page.as_uri()) as seen:
        seen.get_by_label("Show those that have").fill("FAILED")
        assert seen.locator("#list tr:visible").count() == 2
        assert seen.locator("#shown").inner_text() == f"2 of {TABLES + 2}"
        seen.get_by_label("Show those that have").fill("alert(2)")
        assert seen.locator("#list tr:visible th").all_inner_texts() == [str(HOSTILE)]
