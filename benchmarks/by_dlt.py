"""What a user of dlt would write to copy one table; `peers.py` runs it, in a Python that has dlt and connectorx."""

# mypy: ignore-errors
from __future__ import annotations

import sys
import tempfile

import dlt
from dlt.sources.sql_database import sql_table


def main(source: str, target: str, table: str) -> None:
    source = source.replace("postgresql://", "postgresql+psycopg2://")  # the driver that dlt brings
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "bench", destination=dlt.destinations.postgres(target), dataset_name="by_dlt", pipelines_dir=folder
        )
        pipeline.run(sql_table(credentials=source, table=table, backend="connectorx"), write_disposition="replace")


if __name__ == "__main__":
    main(*sys.argv[1:])
