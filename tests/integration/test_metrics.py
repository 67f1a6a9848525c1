"""Numbers of a run, as Prometheus reads them: by HTTP while it goes on, and as a file when it has ended."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from faulting import At
from servers import Pair, run_cli

from pgsluice import Options, sync
from pgsluice.errors import UsageError
from pgsluice.events import Sink
from pgsluice.sinks.numbers import METRICS
from pgsluice.sinks.prometheus import Prometheus

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
TABLES = (
    "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int); INSERT INTO s.t SELECT i, i FROM generate_series(1, 90) i;"
    "CREATE TABLE s.keyless (v int)"
)


def numbers(text: str) -> dict[str, float]:
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute(TABLES)
    return pair


def test_a_run_leaves_its_numbers_in_a_file(shop: Pair, tmp_path: Path) -> None:
    file = tmp_path / "pgsluice.prom"
    done = shop.pgsluice("sync", "--table", "s.*", "--metrics-file", str(file))
    assert done.code == 3, done
    found = numbers(file.read_text())
    assert found['pgsluice_rows_total{outcome="inserted",table="s.t"}'] == 90
    assert found['pgsluice_tables_total{status="done"}'] == found['pgsluice_tables_total{status="failed"}'] == 1
    assert (found['pgsluice_table_success{table="s.t"}'], found['pgsluice_table_success{table="s.keyless"}']) == (1, 0)
    assert found["pgsluice_run_exit_code"] == 3
    assert found['pgsluice_table_rows{table="s.t"}'] == 90
    assert found['pgsluice_step_seconds{step="merge",table="s.t"}'] > 0
    assert 'pgsluice_table_last_success_timestamp_seconds{table="s.keyless"}' not in found
    assert {re.sub(r"\{.*", "", name) for name in found} <= {metric.name for metric in METRICS} | {
        f"{metric.name.removesuffix('_total')}_created" for metric in METRICS
    }


def test_numbers_can_be_asked_for_while_a_run_goes_on(shop: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    seen: dict[str, Any] = {}

    def ask() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            seen.update(numbers(answer.read().decode()))

    sinks: list[Sink] = [Prometheus(address=f"127.0.0.1:{port}"), At("merge", ask)]
    assert sync(shop.source.dsn, shop.target.dsn, "s.t", options=Options(), sinks=sinks).exit_code == 0
    assert seen['pgsluice_step_seconds{step="staging",table="s.t"}'] > 0
    assert "pgsluice_run_exit_code" in seen
    with pytest.raises(UsageError, match="nobody can listen at"):
        Prometheus(address=f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["9187", "here:", "127.0.0.1:99999", ":1"])
def test_what_is_no_address_is_refused_before_any_work(shop: Pair, address: str) -> None:
    servers = ("--source", shop.source.dsn, "--target", shop.target.dsn)
    done = run_cli("sync", *servers, "--table", "s.t", "--metrics-addr", address)
    assert (done.code, "Write HOST:PORT, for example 127.0.0.1:9187." in done.err) == (2, True)
    assert shop.target.value("SELECT to_regnamespace('s') IS NULL")


def test_the_page_lists_every_number() -> None:
    rows = "".join(
        f"| `{each.name}` | {each.kind} | {', '.join(each.labels) or ' '} | {each.meaning} |\n" for each in METRICS
    )
    assert rows in DOCS.read_text()


def test_the_dashboard_asks_for_numbers_that_exist_by_labels_that_they_have() -> None:
    board = json.loads((DOCS.parents[1] / "contrib" / "grafana.json").read_text("utf-8"))
    known = {each.name: set(each.labels) for each in METRICS}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) > 8
    for panel in board["panels"]:
        (target,) = panel["targets"]
        names = re.findall(r"pgsluice_\w+", target["expr"])
        assert names, panel["title"]
        labels = set(re.findall(r"(\w+)(?:=~|!=|=)\"", target["expr"])) | set(
            re.findall(r"{{(\w+)}}", target["legendFormat"])
        )
        assert all(labels <= known[name] for name in names), panel["title"]
