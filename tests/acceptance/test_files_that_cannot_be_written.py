"""A file that can't be written is the user's to mend: exit 2, its name and the reason, and nothing of a fault of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import Outcome, Pair, run_cli


@pytest.fixture
def synced(pair: Pair) -> Pair:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)")
    assert pair.pgsluice("sync", "--table", "s.t").code == 0
    return pair


def written(pair: Pair, command: str, path: Path) -> Outcome:
    match command:
        case "report":
            return run_cli("report", "--target", pair.target.dsn, "-o", str(path))
        case "init":
            return run_cli("init", "--source", pair.source.dsn, "-c", str(path))
        case _:
            return pair.pgsluice("sync", "--table", "s.t", "--metrics-file", str(path))


@pytest.mark.parametrize("command", ["report", "init", "sync"])
def test_a_file_that_can_not_be_written_is_named_with_the_reason(synced: Pair, command: str, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    runs = synced.target.value("SELECT count(*) FROM pgsluice.run")
    for path, reason in (
        (tmp_path / "nowhere" / "x", "No such file or directory"),
        (tmp_path / "a file" / "x", "Not a directory"),
        (Path("/proc/x"), "No such file or directory"),
    ):
        done = written(synced, command, path)
        assert done.code == 2, done
        assert f"{path} can't be written: {reason}" in done.err, done
        assert "fault of ours" not in done.err
    assert synced.target.value("SELECT count(*) FROM pgsluice.run") == runs, "before any work"


@pytest.mark.parametrize("command", ["report", "sync"])
def test_a_folder_is_no_file(synced: Pair, command: str, tmp_path: Path) -> None:
    done = written(synced, command, tmp_path)
    assert (done.code, f"{tmp_path} can't be written: Is a directory" in done.err) == (2, True), done


def test_a_program_to_notify_that_is_not_there_is_told_with_the_reason(synced: Pair) -> None:
    synced.source.execute("DROP TABLE s.t")
    done = synced.pgsluice("sync", "--table", "s.t", "--notify", "/nowhere/program")
    assert "the notification could not be delivered: No such file or directory" in done.err, done
