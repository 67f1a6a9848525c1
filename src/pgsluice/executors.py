"""Where slices are copied: by threads of this process, or on a Dask cluster. The same code, the same snapshot."""

from __future__ import annotations

import contextlib
import importlib
from asyncio import CancelledError
from typing import Any, Protocol

import psycopg
from psycopg import sql

from pgsluice.endpoint import Endpoint, parameters_of
from pgsluice.errors import SECRETS, PgsluiceError, TemporaryError, UsageError
from pgsluice.model import StagedData
from pgsluice.retry import translated
from pgsluice.servers import Servers, Worker
from pgsluice.slices import SliceTask, copy_slice
from pgsluice.steps import relay

_DASK = "dask://"


class Executor(Protocol):
    """Whoever copies slices for the workers' threads."""

    def copy(self, worker: Worker, task: SliceTask, on_bytes: relay.OnBytes) -> StagedData:
        """Copy one slice, in a worker's thread."""

    def sever(self, worker: Worker) -> None:
        """End whatever `copy` waits for, from the run's own thread."""

    def close(self) -> None:
        """Let go of what was opened."""


class Here:
    """Copies in the worker's own thread, over its sessions."""

    def copy(self, worker: Worker, task: SliceTask, on_bytes: relay.OnBytes) -> StagedData:
        """Copy one slice."""
        return copy_slice(worker, task, on_bytes)

    def sever(self, worker: Worker) -> None:
        """Cut the worker's sessions."""
        worker.sever("the slice was given up")

    def close(self) -> None:
        """Nothing was opened."""


class OnDask:
    """Copies on the workers of a Dask cluster that is there; a thread of ours waits for each slice."""

    def __init__(self, address: str, servers: Servers) -> None:
        """Connect to the scheduler.

        Args:
            address: ``tcp://host:8786``.
            servers: of the run.

        Raises:
            UsageError: the extra is not installed, nobody answers, or a password would travel.
        """
        self._servers = servers
        self._endpoints = servers.endpoints
        for endpoint in self._endpoints:
            _check(endpoint)
        try:
            distributed = importlib.import_module("distributed")
        except ImportError:
            raise UsageError("the extra for Dask is not installed", hint="pip install 'pgsluice[dask]'") from None
        try:
            self._client: Any = distributed.Client(
                address, timeout=servers.endpoints[0].connect_timeout, set_as_default=False
            )
        except (OSError, TimeoutError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {address}", hint="Look at --executor, and whether the cluster runs."
            ) from error
        self._losses = (distributed.scheduler.KilledWorker, CancelledError, OSError)
        self._futures: dict[int, Any] = {}

    def copy(self, worker: Worker, task: SliceTask, on_bytes: relay.OnBytes) -> StagedData:
        """Copy one slice on whatever machine the scheduler chooses."""
        source, target = (endpoint.as_worker(worker.number) for endpoint in self._endpoints)
        future = self._client.submit(copy_remotely, task, source, target, pure=False, retries=0)
        self._futures[worker.number] = future
        try:
            staged: StagedData = future.result()
        except self._losses as error:
            raise TemporaryError(f"the Dask worker was lost: {error}", hint="Look at its log.", step="relay") from error
        finally:
            del self._futures[worker.number]
        on_bytes(staged.bytes)
        return staged

    def sever(self, worker: Worker) -> None:
        """Cancel the slice, and end the sessions that copy it."""
        if future := self._futures.get(worker.number):
            future.cancel()
        end = sql.SQL(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE application_name = %s"
        )
        for session, endpoint in zip((self._servers.source, self._servers.control), self._endpoints, strict=True):
            with contextlib.suppress(psycopg.Error, PgsluiceError):
                session.execute(end, (endpoint.as_worker(worker.number).application_name,))

    def close(self) -> None:
        """Leave the scheduler."""
        self._client.close()


def executor(name: str | None, servers: Servers) -> Executor:
    """Return what a name stands for: None for this process, or ``dask://host:port``.

    Raises:
        UsageError: it means nothing, or nobody is there.
    """
    if name is None:
        return Here()
    if name.startswith(_DASK):
        return OnDask(f"tcp://{name.removeprefix(_DASK)}", servers)
    raise UsageError(f"--executor {name!r} is not known", hint="Write dask://scheduler:8786, or leave it out.")


def copy_remotely(task: SliceTask, source: Endpoint, target: Endpoint) -> StagedData:
    """Copy one slice on the machine that this runs on, over sessions that live as long as it takes.

    Args:
        task: what is to be done.
        source: resolved here: a service, a passfile or the environment of this machine gives what is secret.
        target: the same.

    Raises:
        PgsluiceError: it failed.
    """
    with translated("relay", str(task.table.target)), Servers(source, target) as servers:
        return copy_slice(servers.main, task, lambda _bytes: 0)


def _check(endpoint: Endpoint) -> None:
    given = parameters_of(endpoint.dsn) if isinstance(endpoint.dsn, str) else None
    if given and not given.keys().isdisjoint(SECRETS):
        raise UsageError(
            f"the password of the {endpoint.side} would travel to the Dask workers",
            hint="Use service=NAME, a passfile, or a callable, which each worker resolves for itself.",
        )
