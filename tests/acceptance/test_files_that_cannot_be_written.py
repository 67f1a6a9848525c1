"""A file that can't be written is the user's to mend: exit 2, its name and the reason, and nothing of a fault of ours."""

from __future__ import annotations

import subprocess
import sys
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


@pytest.mark.parametrize("command", ["report", "init"])
def test_a_file_that_can_not_be_written_is_told_before_a_server_is_asked(command: str, tmp_path: Path) -> None:
    side, way = ("--target", "-o") if command == "report" else ("--source", "-c")
    done = run_cli(command, side, "host=127.0.0.1 port=1", way, str(tmp_path / "nowhere" / "x"))
    assert (done.code, "x can't be written: No such file or directory" in done.err) == (2, True), done


def test_numbers_that_are_lost_at_the_end_are_told_and_turn_0_into_1(synced: Pair, tmp_path: Path) -> None:
    """What is written beside the file has a longer name, too long a one."""
    file = tmp_path / f"{'n' * 245}.prom"
    done = synced.pgsluice("sync", "--table", "s.t", "--metrics-file", str(file), "--json")
    assert (done.code, done.lines[-1]["status"]) == (1, "done"), done
    assert f"pgsluice: {file} can't be written: File name too long" in done.err
    assert "Traceback" not in done.err
    synced.target.execute("ALTER TABLE s.t ADD need int NOT NULL")
    assert synced.pgsluice("sync", "--table", "s.t", "--metrics-file", str(file)).code == 6, "the run's own stands"


def test_a_file_may_name_the_file_of_numbers(synced: Pair, tmp_path: Path) -> None:
    (tmp_path / "pgsluice.yaml").write_text(
        f"source: ${{SHOP}}\ntarget: ${{LAKE}}\ntables: {{s.t: {{}}}}\nmetrics_file: {tmp_path}/numbers.prom\n"
    )
    done = run_cli("sync", timeout=120, cwd=tmp_path, SHOP=synced.source.dsn, LAKE=synced.target.dsn)
    assert done.code == 0, done
    assert "pgsluice_" in (tmp_path / "numbers.prom").read_text()


@pytest.mark.parametrize("command", ["sync", "plan", "verify", "doctor"])
def test_names_are_utf8_whatever_the_locale_is(pair: Pair, command: str) -> None:
    pair.source.execute('CREATE SCHEMA "판매"; CREATE TABLE "판매"."주문" (id int PRIMARY KEY, "이름" text)')
    asked = ("--source", pair.source.dsn, "--target", pair.target.dsn, "--to", "판매.{table}")
    latin = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    arguments = ("--table", "판매.주문", "--where", "\"이름\" = '가'", "--columns", "id,이름")
    run_cli("sync", *asked, *arguments)
    done = run_cli(command, *asked, *arguments, timeout=120, cwd=None, **latin)
    assert done.code == 0, done
    asked_by_variable = run_cli(
        command, *asked, *arguments[2:], timeout=120, cwd=None, **{**latin, "PGSLUICE_TABLE": "판매.주문"}
    )
    assert asked_by_variable.code == 0, asked_by_variable
    status = run_cli("status", "--target", pair.target.dsn, "판매.주문", timeout=120, cwd=None, **latin)
    assert status.code == 0, status


def test_a_name_that_is_not_utf8_is_a_sentence(pair: Pair) -> None:
    done = run_cli("sync", "--source", pair.source.dsn, "--target", pair.target.dsn, "--table", "s.\udcff")
    assert (done.code, "--table is not UTF-8" in done.err) == (2, True), done


def test_a_process_that_may_open_too_few_files_is_told_so_before_it_begins(synced: Pair) -> None:
    program = [sys.executable, "-m", "pgsluice", "sync", "--source", synced.source.dsn, "--target", synced.target.dsn]
    for most, soft in ((12, 12), (4096, 12)):
        done = subprocess.run(
            ["sh", "-c", f'ulimit -S -n {soft}; ulimit -H -n {most}; exec "$@"', "sh", *program, "--table", "s.t", "--jobs", "4"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if most > soft:
            assert done.returncode == 0, done
        else:
            assert (done.returncode, "Traceback" in done.stderr) == (2, False), done
            assert "may open 12 files" in done.stderr
            assert "ulimit -n" in done.stderr
