"""pgsluice copies tables between PostgreSQL servers: staged, counted, checked, passed on in one transaction."""

from pgsluice.engine import DatabaseOperations, DataCopyEngine, sync
from pgsluice.errors import PgsluiceError
from pgsluice.job import Lane, Mode, Options, StagingKind
from pgsluice.model import MergeResult, Report, StagedData, StagingTable, TableReport
from pgsluice.policies import Deletes, LateRows, MaxDelete, NullCursors, OnLostState
from pgsluice.version import __version__

__all__ = [
    "DataCopyEngine",
    "DatabaseOperations",
    "Deletes",
    "Lane",
    "LateRows",
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
    "TableReport",
    "__version__",
    "sync",
]
