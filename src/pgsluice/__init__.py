"""pgsluice copies tables between PostgreSQL servers: staged, counted, checked, passed on in one transaction."""

import importlib
from typing import TYPE_CHECKING

from pgsluice.version import __version__

if TYPE_CHECKING:
    from pgsluice.engine import DatabaseOperations, DataCopyEngine, sync, verify
    from pgsluice.errors import PgsluiceError
    from pgsluice.job import CopyFormat, Lane, Level, Mode, Options, StagingKind, Strategy, TargetWriters, Verify
    from pgsluice.model import (
        Difference,
        MergeResult,
        Report,
        StagedData,
        StagingTable,
        TableComparison,
        TableReport,
        Verified,
    )
    from pgsluice.policies import Deletes, LateRows, MaxDelete, NullCursors, OnLostState

__all__ = [
    "CopyFormat",
    "DataCopyEngine",
    "DatabaseOperations",
    "Deletes",
    "Difference",
    "Lane",
    "LateRows",
    "Level",
    "MaxDelete",
    "MergeResult",
    "Mode",
    "NullCursors",
    "OnLostState",
    "Options",
    "PgsluiceError",
    "Report",
    "StagedData",
    "StagingKind",
    "StagingTable",
    "Strategy",
    "TableComparison",
    "TableReport",
    "TargetWriters",
    "Verified",
    "Verify",
    "__version__",
    "sync",
    "verify",
]

_HOMES = ("errors", "policies", "job", "model", "engine")


def __getattr__(name: str) -> object:
    """Import a name's module when it is asked for (PEP 562): `pgsluice --help` needs none of them."""
    for home in _HOMES if name in __all__ else ():
        module = importlib.import_module(f"pgsluice.{home}")
        if name in vars(module):
            return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return what can be asked for."""
    return __all__
