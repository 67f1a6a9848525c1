"""Where slices are copied: by threads of this process, or on a Dask cluster. The same code, the same snapshot."""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.util
import pickle
from concurrent.futures import Future
from typing import Protocol
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from pgsluice import transport
from pgsluice.daskclient import Cluster
from pgsluice.endpoint import Endpoint, parameters_of
from pgsluice.errors import SECRETS, PgsluiceError, UsageError
from pgsluice.model import StagedData
from pgsluice.retry import translated
from pgsluice.servers import Servers, Worker
from pgsluice.slices import SliceTask, copy_slice
from pgsluice.steps import relay

_SCHEMES = {"dask": "tcp", "tcp": "tcp", "tls": "tls"}


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
            address: ``tcp://host:8786`` or ``tls://host:8786``.
            servers: of the run.

        Raises:
            UsageError: the extra is not installed, nobody answers, or a password would travel.
        """
        self._servers = servers
        self._endpoints = servers.endpoints
        for endpoint in self._endpoints:
            _check(endpoint)
        if importlib.util.find_spec("distributed") is None:
            raise UsageError("the extra for Dask is not installed", hint="pip install 'pgsluice[dask]'")
        remote = f"{__name__}:{copy_remotely.__name__}"
        self._cluster = Cluster(address, remote, servers.endpoints[0].connect_timeout)
        self._asked: dict[int, Future[str]] = {}

    def copy(self, worker: Worker, task: SliceTask, on_bytes: relay.OnBytes) -> StagedData:
        """Copy one slice on whatever machine the scheduler chooses."""
        from pgsluice import answers  # noqa: PLC0415 - what checks them need not be there without a cluster

        source, target = (endpoint.as_worker(worker.number) for endpoint in self._endpoints)
        answer = self._cluster.ask(_packed(task, source, target))
        self._asked[worker.number] = answer
        try:
            staged = answers.staged_by(answer.result(), task.table, str(task.copy.source), task.copy.where)
        finally:
            del self._asked[worker.number]
        on_bytes(staged.bytes)
        return staged

    def sever(self, worker: Worker) -> None:
        """Cancel the slice, and end the sessions that copy it."""
        if answer := self._asked.get(worker.number):
            self._cluster.give_up(answer)
        end = sql.SQL(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE application_name = %s"
        )
        for session, endpoint in zip((self._servers.source, self._servers.control), self._endpoints, strict=True):
            with contextlib.suppress(psycopg.Error, PgsluiceError):
                session.execute(end, (endpoint.as_worker(worker.number).application_name,))

    def close(self) -> None:
        """Leave the scheduler."""
        self._cluster.close()


def executor(name: str | None, servers: Servers) -> Executor:
    """Return what a name stands for: None for this process, else a scheduler's address.

    Raises:
        UsageError: it means nothing, or nobody is there.
    """
    return Here() if name is None else OnDask(_address(name), servers)


def doubt(name: str | None) -> str | None:
    """Return what is wrong with the way to a cluster, and the way out; None where nothing is.

    Raises:
        UsageError: the name means nothing.
    """
    found = urlsplit(_address(name)) if name else None
    if found is None or found.scheme == "tls" or transport.is_local(found.hostname or ""):
        return None
    return (
        f"the connection to the Dask cluster ({found.hostname}) is not encrypted, and nobody there proves who they are:"
        " who stands between could change what its workers do, and with it the rows; run the cluster with Dask's"
        " certificates and name it tls://"
    )


def _address(name: str) -> str:
    """Return a scheduler's address as Dask writes it."""
    scheme, _, place = name.partition("://")
    if scheme not in _SCHEMES or not place:
        raise UsageError(
            f"--executor {name!r} is not known",
            hint="Write tls://scheduler:8786 or tcp://scheduler:8786, as the Dask scheduler prints, or leave it out.",
        )
    return f"{_SCHEMES[scheme]}://{place}"


def copy_remotely(packed: str) -> str:
    """Copy one slice on the machine that this runs on, over sessions that live as long as it takes.

    Args:
        packed: what is to be done, and two endpoints. These are resolved here: a service, a passfile or the environment
            of this machine gives what is secret.

    Returns:
        What was staged, or why not, as JSON.
    """
    from pgsluice import answers  # noqa: PLC0415 - as in `OnDask.copy`

    return answers.answer(lambda: _copied(*_unpacked(packed)))


def _copied(task: SliceTask, source: Endpoint, target: Endpoint) -> StagedData:
    with translated("relay", str(task.table.target)), Servers(source, target) as servers:
        return copy_slice(servers.main, task, lambda _bytes: 0)


def _packed(*work: SliceTask | Endpoint) -> str:
    """Return work as a text. A callable that gives an address may stand in the user's own script."""
    pickler = importlib.import_module("cloudpickle")
    return base64.b64encode(pickler.dumps(work)).decode()


def _unpacked(packed: str) -> tuple[SliceTask, Endpoint, Endpoint]:
    """Return it as it was: on a worker, which does what its clients say in any case."""
    task, source, target = pickle.loads(base64.b64decode(packed))  # noqa: S301 - as above
    return task, source, target


def _check(endpoint: Endpoint) -> None:
    given = parameters_of(endpoint.dsn) if isinstance(endpoint.dsn, str) else None
    if given and not given.keys().isdisjoint(SECRETS):
        raise UsageError(
            f"the password of the {endpoint.side} would travel to the Dask workers",
            hint="Use service=NAME, a passfile, or a callable, which each worker resolves for itself.",
        )
