"""Dask clusters of processes of their own: a scheduler and a worker, as an administrator would start them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from faulting import await_that
from servers import Pair


@dataclass(frozen=True)
class Daemons:
    """A scheduler and its worker.

    Attributes:
        address: of the scheduler, as it prints it.
        pids: of both.
    """

    address: str
    pids: frozenset[int]


def fill_in_slices(pair: Pair, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Give the source a table s.t that is copied in several slices, small as it is."""
    monkeypatch.setattr("pgsluice.plan.PARALLEL_SLICE_BYTES", (1 << 18, 1 << 30))
    monkeypatch.setattr("pgsluice.plan.TEMPORARY_BELOW_BYTES", 1 << 17)
    pair.source.execute(
        f"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v numeric, filler text);
        INSERT INTO s.t SELECT i, i / 7.0, repeat('x', 100) FROM generate_series(1, {rows}) i; ANALYZE s.t;"""
    )


@contextlib.contextmanager
def daemons(
    folder: Path, scheduler: tuple[str, ...] = (), worker: tuple[str, ...] = (), **env: str
) -> Iterator[Daemons]:
    """Start both, and end them behind the block.

    Args:
        folder: for what they leave.
        scheduler: more of its arguments.
        worker: the same.
        env: more of their environment.
    """
    at = folder / "scheduler.json"
    common = ("--scheduler-file", str(at), "--no-dashboard")
    with contextlib.ExitStack() as stack:
        first = _started(stack, folder, "scheduler", (*common, "--port", "0", *scheduler), env)
        await_that(lambda: first.poll() is not None or _address(at) != "", "the Dask scheduler to listen")
        assert first.poll() is None, (folder / "scheduler.log").read_text("utf-8")
        second = _started(stack, folder, "worker", (*common, "--no-nanny", "--nthreads", "1", *worker), env)
        yield Daemons(_address(at), frozenset({first.pid, second.pid}))


def _started(
    stack: contextlib.ExitStack, folder: Path, role: str, arguments: tuple[str, ...], env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(each for each in sys.path if each)
    log = stack.enter_context((folder / f"{role}.log").open("wb"))
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{role}", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": path, **env}, stdout=log, stderr=log,
    )  # fmt: skip
    stack.callback(process.wait, 30)
    stack.callback(process.kill)
    return process


def _address(at: Path) -> str:
    try:
        return str(json.loads(at.read_text("utf-8"))["address"])
    except (OSError, ValueError):
        return ""
