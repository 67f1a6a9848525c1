"""A position means something on the source that it was taken on, and nothing on another one or in another history."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from servers import Database, Pair, database
from standbys import Standby, as_server, await_replay, catch_up, follow, replay_paused, seen_from

from pgsluice import OnLostState, Options, TableReport, sync
from pgsluice.embedded import Cluster
from pgsluice.embedded.cluster import _give_to_server
from pgsluice.events import Event, Retrying

MODES: dict[str, dict[str, Any]] = {
    "scan": {"mode": "incremental", "cursor": "at", "late_rows": "scan"},
    "xmin": {"mode": "xmin"},
    "append": {"mode": "append"},
}
TABLE = "CREATE SCHEMA s; CREATE TABLE s.t (id int, at timestamptz DEFAULT now(), word text DEFAULT 'here')"

every_mode = pytest.mark.parametrize("mode", MODES)


def synced(source: Database, target: Database, mode: str, **more: Any) -> TableReport:
    (report,) = sync(source.dsn, target.dsn, "s.t", **{**MODES[mode], **more}).tables
    return report


def done(source: Database, target: Database, mode: str, **more: Any) -> TableReport:
    report = synced(source, target, mode, **more)
    assert report.status == "done", report.error
    return report


def create(source: Database, mode: str) -> None:
    source.execute(TABLE)
    if mode != "append":  # without a key, a row that came twice would stand there twice
        source.execute("ALTER TABLE s.t ADD PRIMARY KEY (id)")


def insert(source: Database, *ids: int, word: str = "here") -> None:
    source.execute("INSERT INTO s.t (id, word) SELECT unnest(%s::int[]), %s", (list(ids), word))


def assert_equal(source: Database, target: Database) -> None:
    assert target.image("s.t") == source.image("s.t")


def state(target: Database) -> list[tuple[Any, ...]]:
    return target.rows("SELECT * FROM pgsluice.job_state ORDER BY job_id")


@contextlib.contextmanager
def writing_late(source: Database, id_: int) -> Iterator[None]:
    """Insert a row now, and commit it at the end of the block."""
    with psycopg.connect(source.dsn) as late:
        late.execute("INSERT INTO s.t (id) VALUES (%s)", (id_,))
        yield


@pytest.fixture(scope="module")
def primary() -> Iterator[Cluster]:
    with Cluster(major=16) as cluster:
        yield cluster


# --- standbys --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standby(primary: Cluster) -> Iterator[Cluster]:
    with Standby(primary) as cluster:
        yield cluster


@pytest.fixture
def on_primary(primary: Cluster) -> Iterator[Database]:
    with database(primary) as found:
        yield found


@pytest.fixture
def target(target_cluster: Cluster) -> Iterator[Database]:
    with database(target_cluster) as found:
        yield found


@every_mode
def test_a_standby_behind_the_last_run_is_refused_until_it_has_caught_up(
    primary: Cluster, standby: Cluster, on_primary: Database, target: Database, mode: str
) -> None:
    create(on_primary, mode)
    insert(on_primary, 1)
    done(on_primary, target, mode)
    catch_up(standby, primary)
    behind = seen_from(standby, on_primary)
    done(behind, target, mode)
    with replay_paused(standby):
        insert(on_primary, 2)
        done(on_primary, target, mode)
        before = state(target)
        refused = synced(behind, target, mode, options=Options(retries=0))
        assert refused.exit_code == 5
        assert re.search(r"a standby that has yet to replay \d+ \w?B of what the last run has read", str(refused.error))
        assert "caught up" in refused.hint
        assert state(target) == before
    catch_up(standby, primary)
    done(behind, target, mode)
    insert(on_primary, 3)
    catch_up(standby, primary)
    assert done(behind, target, mode).inserted == 1
    assert_equal(on_primary, target)


def test_a_standby_behind_the_last_run_is_waited_for(
    primary: Cluster, standby: Cluster, on_primary: Database, target: Database
) -> None:
    def go_on(event: Event) -> None:
        if isinstance(event, Retrying):
            paused.close()
            catch_up(standby, primary)

    create(on_primary, "scan")
    done(on_primary, target, "scan")
    catch_up(standby, primary)
    behind = seen_from(standby, on_primary)
    done(behind, target, "scan")
    with contextlib.ExitStack() as paused:
        paused.enter_context(replay_paused(standby))
        insert(on_primary, 1)
        done(on_primary, target, "scan")
        report = done(behind, target, "scan", sinks=[go_on])
    assert report.attempts > 1
    assert_equal(on_primary, target)


def test_a_standby_that_has_replayed_all_of_an_idle_primary_is_not_behind(
    primary: Cluster, standby: Cluster, on_primary: Database, target: Database
) -> None:
    """A switch to the next segment, as archive_timeout does, moves the insert position past that one's header."""
    create(on_primary, "scan")
    insert(on_primary, 1)
    on_primary.execute("SELECT pg_switch_wal()")
    done(on_primary, target, "scan")
    await_replay(standby, primary)
    report = synced(seen_from(standby, on_primary), target, "scan")
    assert report.status == "done", report.error


@every_mode
def test_rows_that_commit_late_are_found_on_a_standby(
    primary: Cluster, standby: Cluster, on_primary: Database, target: Database, mode: str
) -> None:
    create(on_primary, mode)
    insert(on_primary, 1)
    replica = seen_from(standby, on_primary)
    with writing_late(on_primary, 2):
        insert(on_primary, 3)
        catch_up(standby, primary)
        done(replica, target, mode)
        insert(on_primary, 4)
        catch_up(standby, primary)
        done(replica, target, mode)
        expected = [(1,)] if mode == "append" else [(1,), (3,), (4,)]
        assert target.rows("SELECT id FROM s.t ORDER BY 1") == expected
    catch_up(standby, primary)
    report = done(replica, target, mode)
    assert report.inserted == (3 if mode == "append" else 1)
    assert (report.late > 0) == (mode == "scan")
    assert_equal(on_primary, target)


def test_mode_append_tells_on_a_standby_too_that_rows_wait_behind_open_transactions(
    primary: Cluster, standby: Cluster, on_primary: Database, target: Database
) -> None:
    create(on_primary, "append")
    with writing_late(on_primary, 1):
        insert(on_primary, 2)
        catch_up(standby, primary)
        report = done(seen_from(standby, on_primary), target, "append")
    assert report.inserted == 0
    assert any("wait for the next run" in note for note in report.notes), report.notes


def test_a_promoted_standby_is_read_anew_and_its_rows_are_not_appended_again(
    primary: Cluster, on_primary: Database, target_cluster: Cluster
) -> None:
    create(on_primary, "append")
    insert(on_primary, 1)
    with contextlib.ExitStack() as stack:
        targets = {mode: stack.enter_context(database(target_cluster)) for mode in MODES}
        replica = seen_from(stack.enter_context(Standby(primary)), on_primary)
        for mode, target in targets.items():
            done(replica, target, mode, key=() if mode == "append" else ("id",))
        insert(on_primary, 2)  # may have reached the replica or not: nothing is said of what a failover loses
        catch_up(replica.cluster, primary)
        replica.execute("SELECT pg_promote()")
        insert(replica, 3)
        for mode in ("scan", "xmin"):
            target = targets[mode]
            before = state(target)
            failed = synced(replica, target, mode, key=("id",), options=Options(on_lost_state=OnLostState.FAIL))
            assert failed.exit_code == 6
            assert "on timeline 2, last time 1: a failover or restore" in str(failed.error)
            assert (state(target), target.rows("SELECT id FROM s.t")) == (before, [(1,)])
            report = done(replica, target, mode, key=("id",))
            assert any("read again: the source is on timeline 2" in note for note in report.notes)
            assert report.inserted == report.target_count - 1
            assert_equal(replica, target)
            insert(replica, {"scan": 4, "xmin": 5}[mode])
            again = done(replica, target, mode, key=("id",), options=Options(on_lost_state=OnLostState.FAIL))
            assert again.inserted == 1
        refused = synced(replica, targets["append"], "append")
        assert refused.exit_code == 6
        assert "timeline 2" in str(refused.error)
        assert targets["append"].rows("SELECT id FROM s.t") == [(1,)]


def test_a_standby_that_follows_a_promoted_one_is_known_by_its_new_timeline(
    primary: Cluster, on_primary: Database, target: Database
) -> None:
    """Its control file tells the timeline of its last restartpoint, which can be the one before."""
    create(on_primary, "scan")
    insert(on_primary, 1)
    insert(on_primary, 2)
    with Standby(primary) as promoted, Standby(primary) as follower:
        for cluster in (follower, promoted):  # in this order: none can follow one that is behind it
            catch_up(cluster, primary)
            follow(cluster, None)
        on_primary.execute("UPDATE s.t SET word = 'lost' WHERE id = 1")
        done(on_primary, target, "scan")
        with psycopg.connect(promoted.dsn, autocommit=True) as session:
            session.execute("SELECT pg_promote()")
        elected = seen_from(promoted, on_primary)
        insert(elected, *range(3, 2000))
        follow(follower, promoted)
        catch_up(follower, promoted)
        report = done(seen_from(follower, on_primary), target, "scan")
        assert target.rows("SELECT DISTINCT word FROM s.t") == [("here",)]
        assert any("read again: the source is on timeline 2" in note for note in report.notes), report.notes


# --- other clusters --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other() -> Iterator[Cluster]:
    with Cluster(major=16) as cluster:
        yield cluster


@pytest.fixture
def twin(other: Cluster, on_primary: Database) -> Iterator[Database]:
    """The same database on another cluster."""
    with psycopg.connect(other.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {on_primary.name}".encode())
        yield seen_from(other, on_primary)
        admin.execute(f"DROP DATABASE {on_primary.name} WITH (FORCE)".encode())


@pytest.mark.parametrize("mode", ["scan", "xmin"])
def test_another_cluster_of_the_same_name_is_read_anew_and_so_is_the_first_one_again(
    on_primary: Database, twin: Database, target: Database, mode: str
) -> None:
    for source, word in ((on_primary, "first"), (twin, "other")):
        create(source, mode)
        insert(source, 1, word=word)
        insert(source, 2, word=word)
    done(on_primary, target, mode)
    before = state(target), target.image("s.t")
    failed = synced(twin, target, mode, options=Options(on_lost_state=OnLostState.FAIL))
    assert failed.exit_code == 6
    assert "another cluster than last time" in str(failed.error)
    assert (state(target), target.image("s.t")) == before
    for source in (twin, on_primary):
        report = done(source, target, mode)
        assert_equal(source, target)
        assert any("read again: the source is another cluster" in note for note in report.notes), report.notes


def test_mode_append_adds_nothing_of_another_cluster_nor_of_the_first_one_after_it(
    on_primary: Database, twin: Database, target: Database
) -> None:
    for source, word in ((on_primary, "first"), (twin, "other")):
        create(source, "append")
        insert(source, 1, word=word)
    done(on_primary, target, "append")
    refused = synced(twin, target, "append")
    assert refused.exit_code == 6
    assert "another cluster than last time" in str(refused.error)
    done(twin, target, "append", full_refresh=True)
    assert target.rows("SELECT word FROM s.t") == [("other",)]
    insert(on_primary, 2, word="first")
    back = synced(on_primary, target, "append")
    assert back.exit_code == 6, target.rows("SELECT id, word FROM s.t")
    assert "another cluster than last time" in str(back.error)


# --- transaction ids that are old, or come again ---------------------------------------------------------------------


WRAP = 1 << 32


@pytest.fixture(scope="module")
def worn_cluster() -> Iterator[Cluster]:
    """A cluster of which nothing is expected but to go on: tests move its transaction ids, and its history."""
    with Cluster(major=16) as cluster:
        yield cluster


@pytest.fixture
def worn(worn_cluster: Cluster) -> Iterator[Database]:
    with database(worn_cluster) as found:
        yield found


def transactions(cluster: Cluster) -> int:
    """Return the 64-bit id of a transaction of its own."""
    with psycopg.connect(cluster.dsn) as session:
        return int(session.execute("SELECT pg_current_xact_id()::text").fetchall()[0][0])


def moved(cluster: Cluster, to: int) -> None:
    """Let a cluster go on at a later transaction id, as if all before it had been used; what it holds is frozen."""
    while (now := transactions(cluster)) < to - 1:
        for dsn in databases(cluster):
            with psycopg.connect(dsn, autocommit=True) as session:
                session.execute("VACUUM (FREEZE)")
        epoch, xid = divmod(min(to, now + 1_900_000_000), WRAP)
        cluster.stop()
        segment = cluster.data / "pg_xact" / f"{xid >> 20:04X}"
        if not segment.exists():
            segment.write_bytes(bytes(1 << 18))
            _give_to_server(segment)
        as_server(cluster, "pg_resetwal", "--epoch", str(epoch), "--next-transaction-id", str(xid), str(cluster.data))
        cluster.start()


def databases(cluster: Cluster) -> list[str]:
    with psycopg.connect(cluster.dsn, autocommit=True) as session:
        session.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true")
        names = session.execute("SELECT datname::text FROM pg_database WHERE datallowconn").fetchall()
    return [cluster.dsn_for(name) for (name,) in names]


def burn(cluster: Cluster, to: int) -> None:
    """Use up transaction ids one by one."""
    statement = "DO $$ BEGIN FOR i IN 1..{} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
    with psycopg.connect(cluster.dsn, autocommit=True) as session:
        session.execute(sql.SQL(statement).format(sql.Literal(to - transactions(cluster))))


@every_mode
def test_rows_are_found_and_appended_once_where_transaction_ids_wrap_around(
    worn: Database, target: Database, mode: str
) -> None:
    wrap = ((transactions(worn.cluster) + 2_000_000_000) // WRAP + 1) * WRAP
    moved(worn.cluster, wrap - 2_000_000_000)
    create(worn, mode)
    insert(worn, 1)
    done(worn, target, mode)
    moved(worn.cluster, wrap - 500)
    insert(worn, 2)
    done(worn, target, mode)
    with writing_late(worn, 3):
        insert(worn, 4)
        done(worn, target, mode)
        burn(worn.cluster, to=wrap + 200)
        insert(worn, 5)
        done(worn, target, mode)
        worn.execute("VACUUM (FREEZE) s.t")
    report = done(worn, target, mode)
    assert report.inserted == (3 if mode == "append" else 1)
    assert_equal(worn, target)
    worn.execute("VACUUM (FREEZE) s.t")
    insert(worn, 6)
    report = done(worn, target, mode)
    assert (report.inserted, report.updated) == (1, 0)
    assert_equal(worn, target)


@every_mode
def test_rows_whose_transaction_id_comes_again_after_a_wraparound_are_not_copied_twice(
    worn: Database, target: Database, mode: str
) -> None:
    """A frozen row shows the id of the transaction that wrote it for ever, and 2^32 later it is another one's."""
    wrap = (transactions(worn.cluster) // WRAP + 1) * WRAP
    moved(worn.cluster, wrap + 1000)
    create(worn, mode)
    insert(worn, 1, 2)
    moved(worn.cluster, wrap + WRAP - 500)
    done(worn, target, mode)
    burn(worn.cluster, to=wrap + WRAP + 2000)
    insert(worn, 3)
    report = synced(worn, target, mode)
    if mode == "append":  # it can't tell the two apart
        assert report.exit_code == 6
        assert "transaction ids have come round" in str(report.error)
        assert target.rows("SELECT id FROM s.t ORDER BY 1") == [(1,), (2,)]
        assert done(worn, target, mode, full_refresh=True).deleted == 2
    else:
        assert report.inserted == 1
    assert_equal(worn, target)


@every_mode
def test_more_transactions_than_ids_can_tell_are_noticed(worn: Database, target: Database, mode: str) -> None:
    create(worn, mode)
    insert(worn, 1)
    done(worn, target, mode)
    moved(worn.cluster, transactions(worn.cluster) + 3_000_000_000)
    insert(worn, 2)
    report = synced(worn, target, mode)
    if mode == "append":
        assert report.exit_code == 6
        assert "more than their ids can tell" in str(report.error)
        assert target.rows("SELECT id FROM s.t") == [(1,)]
    else:
        assert any("more than their ids can tell" in note for note in report.notes), report.notes
        assert_equal(worn, target)


# --- a restore, and a server that hides who it is --------------------------------------------------------------------


def copied(data: Path, aside: Path) -> None:
    subprocess.run(["cp", "-a", str(data), str(aside)], check=True)


@every_mode
def test_a_source_restored_to_an_earlier_point_is_noticed(
    worn: Database, target: Database, tmp_path: Path, mode: str
) -> None:
    create(worn, mode)
    insert(worn, 1)
    done(worn, target, mode)
    worn.cluster.stop()
    copied(worn.cluster.data, tmp_path / "backup")
    worn.cluster.start()
    burn(worn.cluster, to=transactions(worn.cluster) + 100)
    insert(worn, *range(2, 500), word="lost")
    done(worn, target, mode)
    worn.cluster.stop()
    shutil.rmtree(worn.cluster.data)
    copied(tmp_path / "backup", worn.cluster.data)
    worn.cluster.start()
    insert(worn, 2, word="new")
    before = target.image("s.t")
    sweeping = {} if mode == "append" else {"deletes": "sweep", "max_delete": "100%"}
    failed = synced(worn, target, mode, **sweeping, options=Options(on_lost_state=OnLostState.FAIL))
    assert failed.exit_code == 6
    assert "at an earlier point of its history than last time: a restore" in str(failed.error)
    assert target.image("s.t") == before
    if mode == "append":
        assert synced(worn, target, mode).exit_code == 6
        done(worn, target, mode, full_refresh=True, max_delete="100%")
    else:
        report = done(worn, target, mode, **sweeping)
        assert any("read again: the source is at an earlier point" in note for note in report.notes), report.notes
    assert_equal(worn, target)


@pytest.fixture
def hiding(pair: Pair) -> Database:
    """The source of the pair as a role sees it that may not know which server it is on."""
    create(pair.source, "scan")
    insert(pair.source, 1)
    role = f"reader_{os.getpid()}_{pair.source.name}"
    pair.source.execute(
        f"""REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() FROM PUBLIC;
        CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA s TO {role}; GRANT SELECT ON s.t TO {role};"""
    )
    cluster = pair.source.cluster
    return Database(cluster, pair.source.name, cluster.dsn_for(pair.source.name, user=role))


@every_mode
def test_transaction_ids_of_a_server_that_hides_its_identity_are_refused_by_name(
    hiding: Database, pair: Pair, mode: str
) -> None:
    report = synced(hiding, pair.target, mode)
    assert report.exit_code == 6
    assert "hides its system identifier" in str(report.error)
    assert "GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint()," in str(report.error)
    assert pair.target.value("SELECT to_regclass('s.t') IS NULL")


def test_a_server_that_hides_its_identity_is_read_on_by_the_cursor_alone(hiding: Database, pair: Pair) -> None:
    done(hiding, pair.target, "scan", late_rows="trust")
    insert(pair.source, 2)
    report = done(hiding, pair.target, "scan", late_rows="trust")
    assert report.inserted == 1
    assert report.staging_count <= 2
    assert any("not guaranteed" in note for note in report.notes)
    assert_equal(pair.source, pair.target)
