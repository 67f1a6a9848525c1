"""What a scheduler or worker that was taken over sends: loaded by `--preload` into a real one, which then lies.

HOSTILE says in which way; the code that its answers carry writes the number of the process that runs it to HOSTILE_MARK.
"""

from __future__ import annotations

import copyreg
import json
import os
import pickle
from typing import Any

from distributed import get_worker
from distributed.protocol.serialize import Serialized, ToPickle

from pgsluice import executors

_CODE = f"import os; f = open({os.environ['HOSTILE_MARK']!r}, 'a'); f.write(f'{{os.getpid()}} '); f.close()"
_honest = executors.copy_remotely


class Evil:
    """Runs the code wherever it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, (_CODE,)


class _Kind(type):
    """Of a class whose own pickle runs the code."""


def _reduced(_: Any) -> Any:
    return exec, (_CODE,)


copyreg.pickle(_Kind, _reduced)


class OfEvilKind(str, metaclass=_Kind):
    __slots__ = ()


def _result(*_: Any) -> Any:
    return Evil()


def _nested(*_: Any) -> Any:
    return {"staging_count": [Evil()]}


def _exception(*_: Any) -> Any:
    raise ValueError(Evil())


def _kind(*_: Any) -> Any:
    return OfEvilKind("{}")


def _warning(*arguments: Any) -> Any:
    evil = pickle.dumps(Evil())
    get_worker().log_event("warn", {"message": evil, "category": evil})
    return _honest(*arguments)


def _plain(*arguments: Any) -> Any:
    """Plain data, and a lie: HOSTILE_LIE is laid over what is true."""
    told = json.loads(_honest(*arguments))
    return json.dumps(told | json.loads(os.environ["HOSTILE_LIE"]))


def _endless(*_: Any) -> Any:
    return "x" * 10_000_000


async def _header(comm: Any, keys: Any, **_: Any) -> Any:
    header = {"serializer": "dask", "type-serialized": pickle.dumps(Evil()), "sub-header": {}}
    serialized: Any = Serialized  # which says nothing of its types
    return {"status": "OK", "data": {key: serialized(header, [b""]) for key in keys}}


async def _identity(**_: Any) -> Any:
    return {"type": "Scheduler", "id": ToPickle(Evil()), "workers": {}}


def dask_setup(server: Any) -> None:
    """Be called by Dask, in the scheduler or in the worker."""
    way = os.environ["HOSTILE"]
    if way == "identity":
        server.handlers["identity"] = _identity
    elif way == "header":
        server.handlers["get_data"] = _header
    else:
        executors.copy_remotely = globals()[f"_{way}"]
