"""Takes what keeps a promise out of the code, one thing at a time, and sees that a test notices.

Run by ``make test-mutation``: in a copy of the package, never in the checkout. A mutation whose tests stay green has
survived, and fails the script: the test that would have noticed is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "pgsluice"
#: What no mutation may disturb: else it broke everything, and tests that fail prove nothing.
CONTROL = (
    "tests/acceptance/test_sync_command.py::test_full_inserts_updates_and_deletes_and_leaves_unchanged_rows_unwritten"
)

_CRASHES = "tests/faults/test_crashes.py::"
_COMMITS = "tests/faults/test_commits.py::"
_WATERMARKS = "tests/faults/test_watermarks.py::"
_WAITS = "tests/faults/test_waits.py::"
_ENGINE = "tests/integration/test_staging_table_engine.py::"
_SCHEMAS = "tests/integration/test_schemas.py::"
_PROPOSED = "tests/acceptance/test_proposed_files.py::"
_OLDER = "tests/integration/test_older_targets.py::"
_PARTITIONS = "tests/integration/test_ties_of_partitions.py::"
_HAZARDS = "tests/integration/test_hazards.py::"
_COMMAND = "tests/acceptance/test_sync_command.py::"
_RESUMING = "tests/faults/test_resuming.py::"
_MANY = "tests/acceptance/test_many_tables.py::"
_LOCK_WAITS = "tests/faults/test_lock_waits.py::"
_ODD = "tests/integration/test_odd_tables.py::"
_PARALLEL = "tests/faults/test_parallel_workers.py::"
_PSQL = "tests/integration/test_psql_lane.py::"
_SETTINGS = "tests/integration/test_role_settings.py::"
_SERVE = "tests/acceptance/test_serve.py::"
_DASK = "tests/integration/test_dask_trust.py::"
_IN_FILES = "tests/acceptance/test_names_in_files.py::"
_PATTERNS = "tests/acceptance/test_patterns.py::"
_OUTAGES = "tests/faults/test_outages.py::"
_INTERRUPTIONS = "tests/faults/test_interruptions.py::"
_WHAT_IF = "tests/faults/test_what_if.py::"
_KILLED = "tests/faults/test_killed_runs.py::"
_INTRUDERS = "tests/integration/test_lock_intruders.py::"
_PRESENCE = "tests/unit/test_presence.py::"
_CONTROL = "tests/integration/test_control_schema.py::"
_RECORDS = "tests/unit/test_records.py::"
_PRIVILEGES = "tests/acceptance/test_control_privileges.py::"
_SHOWN = "tests/acceptance/test_names_shown.py::"
_OPERATORS = "tests/integration/test_operators.py::"
_RENAMES = "tests/faults/test_renames.py::"
_STAYING = "tests/integration/test_tables_stay_tables.py::"
_READING_ON = "tests/acceptance/test_reading_on.py::"
_STREAMS = "tests/acceptance/test_streams.py::"
_OTHERS = "tests/acceptance/test_files_of_others.py::"
_WHICH = "tests/acceptance/test_which_server.py::"
_SWAP = "tests/integration/test_swap.py::"
_CODE_OF_USERS = "tests/integration/test_code_of_users.py::"
_UNDROPPABLE_STAGING = "tests/integration/test_undroppable_staging.py::"
_ALONE = "tests/integration/test_one_statement.py::"
_CARRYING = "tests/integration/test_carrying.py::"
_POISONED = "tests/integration/test_poisoned_sessions.py::"
_HELD = "tests/integration/test_held_back.py::"
_TRUNCATED = "tests/integration/test_truncated_targets.py::"
_EXPRESSIONS = "tests/unit/test_expressions.py::"


@dataclass(frozen=True)
class Mutation:
    """One thing taken out.

    Attributes:
        name: of it.
        file: below the package.
        anchor: text that stands exactly once in the file.
        instead: what stands there in the copy.
        breaks: what goes wrong without it.
        tests: node ids, each of which must fail then.
    """

    name: str
    file: str
    anchor: str
    instead: str
    breaks: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """Return the text of the file without the thing.

        Raises:
            ValueError: the anchor does not stand there exactly once, so the mutation would do nothing, or too much.
        """
        if (times := text.count(self.anchor)) != 1:
            raise ValueError(f"{self.name}: its anchor stands {times} times in {self.file}")
        return text.replace(self.anchor, self.instead)


MUTATIONS = (
    # --- which server is meant
    Mutation(
        "another server than the one expected",
        "endpoint.py",
        "        if self.expected:\n",
        "        if False:\n",
        "A file that expects one server writes another.",
        (f"{_WHICH}test_a_file_that_expects_another_server_refuses_this_one_by_name[database]",),
    ),
    Mutation(
        "a file that was named stands above variables",
        "cli/options.py",
        "            return known if self.is_named else given\n",
        "            return given\n",
        "A variable that was exported this morning has another server written than the file of --config.",
        (f"{_WHICH}test_a_variable_stands_below_a_named_file_and_above_the_folders[prod.yaml]",),
    ),
    # --- what triggers of others leave behind in our session
    Mutation(
        "settings put back behind a change",
        "session.py",
        """        if tag.startswith(_STIRRING) and not tag.endswith(" 0"):\n""",
        "        if False:\n",
        "A trigger of a table that refers to the target has our next statement call its owner's functions.",
        (f"{_POISONED}test_what_a_cascade_leaves_in_the_session_gives_nobody_our_rights[copy]",),
    ),
    Mutation(
        "settings put back behind a commit",
        "session.py",
        "        self._stirred = self._changed_rows  # what was deferred",
        "        self._stirred = False  # what was deferred",
        "A trigger that was deferred to the COMMIT does the same to the next transaction.",
        (f"{_POISONED}test_all_settings_are_ours_behind_a_change_and_its_commit[deferred]",),
    ),
    Mutation(
        "settings put back behind what was deferred",
        "session.py",
        """        elif tag == "SET CONSTRAINTS":""",
        "        elif False:",
        "A trigger that was deferred to SET CONSTRAINTS has the job's state written by functions of its owner.",
        (f"{_POISONED}test_all_settings_are_ours_behind_a_change_and_its_commit[deferred to a statement]",),
    ),
    Mutation(
        "settings put back behind a MERGE in a SELECT",
        "steps/merge.py",
        "            session.stirred()  # by",
        "            pass  # by",
        "A trigger of a table whose rows are updated along with the target's does the same.",
        (f"{_POISONED}test_what_follows_a_merge_is_done_under_our_own_settings",),
    ),
    Mutation(
        "no rights are lent to triggers of others",
        "steps/merge.py",
        "    if along:\n",
        "    if False:\n",
        "On a target older than 18, AFTER triggers of a table that refers to the target run as our role.",
        (f"{_POISONED}test_no_trigger_of_others_runs_as_our_role_on_an_older_target[row]",),
    ),
    Mutation(
        "settings of the transaction put back",
        "session.py",
        "    calls += [set_config(*item, is_local=True) for item in local]\n",
        "",
        "The user's own SQL means something else once a row was changed.",
        (f"{_POISONED}test_all_settings_are_ours_behind_a_change_and_its_commit[at once]",),
    ),
    # --- whose files and programs are believed, and for how long
    Mutation(
        "file of a stranger",
        "config/files.py",
        "        if owner not in {os.geteuid(), _ROOT}:\n",
        "        if False:\n",
        "A pgsluice.yaml that another user has put into the folder runs its programs as us.",
        (f"{_OTHERS}test_roots_file_is_read_by_anybody_and_ones_own_too",),
    ),
    Mutation(
        "link of a stranger",
        "config/files.py",
        "    for owner in (found.st_uid, path.lstat().st_uid):\n",
        "    for owner in (found.st_uid,):\n",
        "Another user chooses by a link which of our files is read.",
        (f"{_OTHERS}test_a_link_is_its_owners_word_too[to our own file]",),
    ),
    Mutation(
        "writers of a found file",
        "config/files.py",
        "    if _is_open(found):\n        return path\n",
        "",
        "A file that all may write is read without a word.",
        (f"{_OTHERS}test_what_others_can_write_to_is_warned_of_and_read[the file to all]",),
    ),
    Mutation(
        "kinds of files",
        "config/files.py",
        "        _refuse_others(path, found, called, pipes=pipes)\n",
        "",
        "A device or a named pipe is read like a file.",
        (f"{_OTHERS}test_nothing_but_a_file_that_ends_is_read[${{file:}}-fifo]",),
    ),
    Mutation(
        "program's group",
        "config/references.py",
        "            os.killpg(program.pid, signal.SIGKILL)\n",
        "            program.kill()\n",
        "What a program has started outlives the time it was given.",
        (f"{_OTHERS}test_a_program_that_never_ends_is_killed_with_what_it_started[it sleeps]",),
    ),
    Mutation(
        "closed descriptors",
        "cli/streams.py",
        "            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one\n",
        "            pass\n",
        "A socket to a server becomes stderr.",
        (f"{_STREAMS}test_a_closed_stderr_is_not_what_the_next_connection_gets",),
    ),
    Mutation(
        "steady streams",
        "cli/streams.py",
        "            written = memoryview(data).nbytes\n",
        "            raise\n",
        "A reader that leaves changes the exit code of work that is done.",
        (f"{_STREAMS}test_every_command_keeps_its_exit_code[config schema-0-a reader that leaves]",),
    ),
    # --- what keeps others' code out of the control schema
    Mutation(
        "owner of the control schema",
        "steps/queries/control_look.sql",
        "FROM schema WHERE nspowner NOT IN (SELECT oid FROM trusted)",
        "FROM schema WHERE false",
        "Who owns the schema puts what they like in the place of our tables.",
        (f"{_CONTROL}test_a_schema_that_was_ours_and_is_not_any_more_is_refused[superuser-owned]",),
    ),
    Mutation(
        "owner of a control table",
        "steps/queries/control_look.sql",
        "FROM ours WHERE relowner NOT IN (SELECT oid FROM trusted)",
        "FROM ours WHERE false",
        "Who owns a table of ours gives it triggers and defaults between two looks.",
        (f"{_CONTROL}test_a_schema_that_was_ours_and_is_not_any_more_is_refused[superuser-taken]",),
    ),
    Mutation(
        "trigger on a control table",
        "steps/queries/control_look.sql",
        "FROM kept JOIN pg_trigger ON tgrelid = kept.oid",
        "FROM kept JOIN pg_trigger ON false",
        "Another's trigger runs as our role.",
        (f"{_CONTROL}test_a_trigger_that_came_by_a_privilege_is_seen_in_the_next_run[superuser]",),
    ),
    Mutation(
        "claims about a state that can't be read",
        "reading.py",
        "    if not facts.progress.is_known:",
        "    if False:",
        "A role that may not read its state is told that there is none, and to empty the target.",
        (
            f"{_PRIVILEGES}test_what_a_role_lacks_on_the_control_schema_is_all_that_it_is_told[USAGE ON SCHEMA pgsluice]",
        ),
    ),
    Mutation(
        "privileges on the control tables",
        "steps/queries/control_look.sql",
        "WHERE NOT has_table_privilege(kept.oid, privilege)",
        "WHERE false",
        "doctor says that all is well, and the night's run ends in its midst.",
        (
            f"{_PRIVILEGES}test_what_a_role_lacks_on_the_control_schema_is_all_that_it_is_told[SELECT ON pgsluice.target]",
        ),
    ),
    Mutation(
        "default of a control table",
        "steps/queries/control_look.sql",
        "  FROM filled\n WHERE",
        "  FROM filled\n WHERE false AND",
        "Another's function fills a column, and runs as our role.",
        (f"{_CONTROL}test_what_is_wrong_with_a_table_is_said_whoever_owns_it[superuser-a default]",),
    ),
    Mutation(
        "memberships of a superuser",
        "steps/queries/trusted_roles.sql",
        "(NOT (SELECT me.rolsuper",
        "(true OR (SELECT me.rolsuper",
        "A superuser has everybody's rights, and would trust everybody.",
        (f"{_CONTROL}test_one_that_a_role_made_whose_rights_we_have_or_that_an_admin_made_is_used[superuser]",),
    ),
    Mutation(
        "later looks",
        "control.py",
        " == [(seen.versions,)]\n",
        " != []\n",
        "What comes to the control schema while a run plans is believed.",
        (f"{_CONTROL}test_a_later_look_sees_what_came_since_the_first[-another owner of a table]",),
    ),
    Mutation(
        "triggers of a later look",
        "steps/queries/control_versions.sql",
        "EXISTS (\n         SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid)",
        "false",
        "A trigger is not seen where the table had one before, which is noted for good.",
        (f"{_CONTROL}test_a_later_look_sees_what_came_since_the_first[one was there before-a trigger]",),
    ),
    Mutation(
        "look before a failure is noted",
        "steps/state.py",
        "    control.missing(session, schema)\n    for job_id",
        "    for job_id",
        "What made the run fail, another's trigger, is run by the note of it.",
        (f"{_CONTROL}test_a_trigger_that_comes_while_a_run_begins_is_not_run_by_the_note_of_its_failure[superuser]",),
    ),
    Mutation(
        "read-only looks",
        "endpoint.py",
        "        is_reader = self.read_only or self.looks\n",
        "        is_reader = self.read_only\n",
        "A command that only tells what is there can be made to write.",
        (f"{_CONTROL}test_a_session_of_a_command_that_only_reads_can_neither_write_nor_look_behind_a_view",),
    ),
    Mutation(
        "whose staging table it is",
        "steps/staging.py",
        "        if owner is not None:\n",
        "        if False:\n",
        "Rows that another has put into a table with our COMMENT are resumed.",
        (f"{_CONTROL}test_a_staging_table_that_is_not_ours_is_named_and_passed_over_by_every_command[superuser-hers]",),
    ),
    Mutation(
        "fields of a report",
        "records.py",
        "if not _FIELDS[name](given[name]))",
        "if False)",
        "One odd report breaks every command that shows it.",
        (
            f"{_RECORDS}test_what_is_wrong_is_named",
            f"{_CONTROL}test_a_report_that_is_none_of_ours_is_named_and_breaks_no_command[superuser-texts for numbers]",
        ),
    ),
    # --- what stands between staging and the target
    Mutation(
        "count gate",
        "steps/merge.py",
        "    if found != staged.rows:\n",
        "    if False:\n",
        "Staging that a crash has emptied is merged as it stands.",
        (
            f"{_CRASHES}test_staging_emptied_by_a_crash_of_the_target_is_refused_at_the_gate",
            (
                f"{_WATERMARKS}test_staging_lost_before_the_merge_moves_nothing_and_the_next_try_or_run_is_complete"
                "[0-append-empty_staging]"
            ),
        ),
    ),
    Mutation(
        "key gate",
        "steps/merge.py",
        "        if not plan.key_is_proven:\n            tell_apart(session, plan, (keys or staged).table)",
        "        if False:\n            tell_apart(session, plan, (keys or staged).table)",
        "Two rows of one key are merged, or fail in words that name neither.",
        (f"{_COMMAND}test_duplicate_and_null_keys_are_named",),
    ),
    Mutation(
        "delete guard",
        "guard.py",
        "    if limit.allows(gone, total, present):\n",
        "    if True:\n",
        "A source that lost its rows empties the target.",
        (
            f"{_ENGINE}test_deletes_beyond_the_guard_are_refused_and_nothing_is_written",
            f"{_ENGINE}test_an_empty_source_deletes_nothing_even_from_a_small_table",
            f"{_READING_ON}test_the_guard_exits_with_6_and_says_so",
        ),
    ),
    Mutation(
        "image comparison",
        "changes.py",
        '"pg_catalog.record_image_ne(ROW({}), ROW({}))"',
        '"ROW({}) IS DISTINCT FROM ROW({})"',
        "1.0 stays where the source has 1.00, and json can't be compared at all.",
        (f"{_COMMAND}test_values_equal_but_not_the_same_are_updated",),
    ),
    Mutation(
        "lock against other writers",
        "changes.py",
        'TARGET_LOCK = "SHARE ROW EXCLUSIVE"',
        'TARGET_LOCK = "ROW EXCLUSIVE"',
        "Others write between the look at the target and the merge, and their rows stay or go by chance.",
        (f"{_WAITS}test_a_writer_that_does_not_finish_is_named[unlogged]",),
    ),
    Mutation(
        "target looked at again",
        "steps/merge.py",
        "    if planned is None or found != planned.oid:\n",
        "    if False:\n",
        "A table that took the target's name meanwhile is merged into by the plan for another.",
        (f"{_COMMITS}test_a_target_replaced_while_the_rows_were_on_their_way_is_left_alone[unlogged]",),
    ),
    Mutation(
        "operator cast to its own type",
        "sqltext.py",
        '    return sql.SQL("{}::{}").format(value, sql.Identifier(*equality.operand)) if equality.operand else value\n',
        "    return value\n",
        "An operator that somebody made for a domain, beside the extension's own, compares keys as our role.",
        (
            (
                f"{_OPERATORS}test_a_key_that_nothing_enforces_is_compared_by_the_types_own_equality"
                "[domain over an extension's-temporary]"
            ),
        ),
    ),
    Mutation(
        "text by the output function",
        "sqltext.py",
        "    if not is_own_type:\n",
        "    if True:\n",
        "A cast that the owner of a type has made runs as our role.",
        (f"{_OPERATORS}test_a_column_with_a_cast_of_its_own_is_hashed_and_masked_without_it[enum]",),
    ),
    Mutation(
        "operators of the watermark qualified",
        "steps/watermark.py",
        "FILTER (WHERE {value} OPERATOR(pg_catalog.<) {before})",
        "FILTER (WHERE {value} < {before})",
        "An operator that somebody made in a schema of the role's search_path compares cursors.",
        (f"{_OPERATORS}test_a_cursor_is_compared_by_postgresqls_own_operators[varchar(20)]",),
    ),
    Mutation(
        "table of the first plan",
        "readiness.py",
        "        if bound in {None, oid}:\n",
        "        if True:\n",
        "A merge that met a renamed schema is done again, into the table that has its name now.",
        (f"{_RENAMES}test_another_try_writes_the_table_that_the_first_one_was_planned_for[temporary-15]",),
    ),
    Mutation(
        "no operator of the prelude by its name",
        "endpoint.py",
        "OPERATOR(pg_catalog.=) 'off'",
        "= 'off'",
        "Whoever owns the first schema of a role's search_path runs code at every connect.",
        (
            f"{_OPERATORS}test_a_search_path_that_names_pg_catalog_last_lets_no_type_take_a_core_types_place[full-sandbox, pg_catalog]",
        ),
    ),
    Mutation(
        "own schema first",
        "endpoint.py",
        "        session.search_path, session.time_zone = core_first(str(search_path)), str(time_zone)\n",
        "        session.search_path, session.time_zone = str(search_path), str(time_zone)\n",
        "A schema that a search_path names before pg_catalog says what text means.",
        (
            f"{_OPERATORS}test_a_search_path_that_names_pg_catalog_last_lets_no_type_take_a_core_types_place[full-sandbox, pg_catalog]",
            (
                f"{_CARRYING}test_a_column_that_is_added_has_the_type_of_core_whatever_the_search_path_of_the_targets"
                "_role"
            ),
        ),
    ),
    Mutation(
        "names looked at before COMMIT",
        "commit.py",
        "            yield names\n            names.check()\n",
        "            yield names\n",
        "Rows go to a table whose schema took the target's name in the middle, and the run says done.",
        (f"{_RENAMES}test_another_schema_takes_the_targets_name_at_any_statement_of_the_merge[append]",),
    ),
    Mutation(
        "version of the schema's row",
        "names.py",
        "        if before.schema is not None and (before.schema, before.version) != (now.schema, now.version):\n",
        "        if before.schema is not None and before.schema != now.schema:\n",
        "A schema that had the target's name for some statements only got the rows, and nothing tells.",
        (f"{_RENAMES}test_another_schema_has_the_targets_name_for_some_statements_of_the_merge_only[append]",),
    ),
    Mutation(
        "readers look behind no view",
        "plan.py",
        '        return Read(ref, self.oid, NOT_BEHIND.get(self.relkind, "") if is_plain else "")\n',
        "        return Read(None)\n",
        "A view that took a source table's name runs its author's function as our role.",
        (
            f"{_STAYING}test_a_source_table_is_still_itself_where_a_reader_joins_the_snapshot[diff-a view]",
            f"{_STAYING}test_a_source_table_is_still_itself_on_both_lanes[None-psql-a view]",
        ),
    ),
    Mutation(
        "source looked at again",
        "snapshot.py",
        "    yield\n    see_that_it_is(session, read)\n",
        "    yield\n",
        "Another table that took the source's name, empty in the snapshot, is copied in its place.",
        (f"{_STAYING}test_a_source_table_is_still_itself_where_a_reader_joins_the_snapshot[append-another table]",),
    ),
    Mutation(
        "target's columns looked at again",
        "steps/merge.py",
        "        what = f\"got other columns ({', '.join(sorted({name for _, name, *_ in other}))})\"\n",
        "        return\n",
        "Rows staged for columns of another type, or another place, are merged all the same.",
        ("tests/integration/test_drift.py::test_a_target_that_gets_other_columns_on_the_way_is_not_written",),
    ),
    Mutation(
        "target's files looked at again",
        "steps/merge.py",
        '        what = "was truncated or rewritten"\n',
        "        return tuple(Trigger(*each) for each in triggers)\n",
        "A target truncated while rows are on their way gets only these, and is never mended.",
        (f"{_TRUNCATED}test_a_target_truncated_while_rows_are_on_their_way_is_not_written[a table-xmin-temporary]",),
    ),
    Mutation(
        "target's files remembered",
        "reading.py",
        "        or _truncated_target(facts, state)\n",
        "",
        "A target truncated between two runs, and written by others since, gets only what is new.",
        (f"{_TRUNCATED}test_a_target_that_is_truncated_between_two_runs_is_read_again[a partition-incremental]",),
    ),
    Mutation(
        "count of what arrived",
        "steps/audit.py",
        "    if found != merged.staged:\n",
        "    if False:\n",
        "A trigger of the target takes rows away again, and the sync says done.",
        (f"{_HELD}test_a_row_that_a_trigger_takes_away_again_is_found[merged-full]",),
    ),
    Mutation(
        "count of what a trigger holds back",
        "steps/merge.py",
        "    if found < expected:\n",
        "    if False:\n",
        "A trigger of the target holds an UPDATE or DELETE back, the position moves on, and the row stays wrong.",
        (
            f"{_HELD}test_a_row_that_a_trigger_holds_back_is_found_in_every_mode[merged-xmin swept]",
            f"{_HELD}test_a_row_that_a_trigger_holds_back_is_found_in_every_mode[compared first-full where]",
        ),
    ),
    # --- the source
    Mutation(
        "lock before the snapshot",
        "snapshot.py",
        """\
        if tables:
            listed = sql.SQL(", ").join(sqltext.table(ref) for ref in tables)
            with blockers.named(session, session.lock_seconds):
                session.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(listed))
        exported, *moment = session.row(sqltext.load("moment"), {"zone": session.time_zone})
""",
        """\
        exported, *moment = session.row(sqltext.load("moment"), {"zone": session.time_zone})
        if tables:
            listed = sql.SQL(", ").join(sqltext.table(ref) for ref in tables)
            with blockers.named(session, session.lock_seconds):
                session.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(listed))
""",
        "A source that is truncated and filled again in one transaction is read as empty.",
        (
            f"{_CRASHES}test_a_source_replaced_by_truncate_and_insert_while_a_sync_starts_is_copied_old_or_new[view-libpq]",
        ),
    ),
    Mutation(
        "exit code of psql",
        "steps/relay.py",
        "        if status == 0:\n",
        "        if True:\n",
        "A source that dies midway ends its stream like a normal end of file.",
        (f"{_CRASHES}test_a_source_that_dies_midway_leaves_no_part_of_a_table_and_is_read_again[psql-0]",),
    ),
    Mutation(
        "psql stops at a statement that failed",
        "steps/relay.py",
        '"ON_ERROR_STOP=1"',
        '"ON_ERROR_STOP=0"',
        "A copy outside of the snapshot, or none, is taken for the table.",
        (f"{_PSQL}test_what_does_not_find_the_snapshot_reads_nothing[of the system]",),
    ),
    Mutation(
        "files of psql have no name",
        "steps/relay.py",
        'os.fdopen(os.memfd_create("pgsluice"), "w+b")',
        "tempfile.NamedTemporaryFile(delete=False)",
        "A run that is killed leaves a password on disk.",
        (
            f"{_PSQL}test_other_users_see_nothing_of_a_statement_and_a_killed_run_leaves_no_file",
            f"{_PSQL}test_a_run_killed_before_psql_has_connected_leaves_no_file",
        ),
    ),
    Mutation(
        "where an error was raised",
        "retry.py",
        '    return _MEANT.get((sqlstate or "", raised_in or ""), sqlstate)\n',
        "    return sqlstate\n",
        "A copy whose parallel worker was lost waits for a person.",
        (
            f"{_PARALLEL}test_a_copy_whose_parallel_worker_is_lost_is_tried_again[libpq]",
            f"{_PARALLEL}test_a_copy_whose_parallel_worker_is_lost_is_tried_again[psql]",
        ),
    ),
    Mutation(
        "a table that can't be described stands alone",
        "prepare.py",
        "    if session.pgconn.transaction_status == pq.TransactionStatus.INERROR or _passes(error):\n",
        "    if True:\n",
        "One damaged table keeps all others from being copied.",
        (
            f"{_ODD}test_a_damaged_table_of_the_source_is_refused_by_itself[a default]",
            f"{_ODD}test_a_damaged_table_of_the_source_is_refused_by_itself[an index]",
            f"{_ODD}test_a_damaged_table_of_the_target_is_refused_by_itself[default]",
            f"{_ODD}test_a_table_whose_type_the_source_lies_about_is_refused_by_itself[full-nothing]",
        ),
    ),
    Mutation(
        "a fault of ours in one table's plan is that table's",
        "prepare.py",
        "        if _is_shown_whole():\n            raise\n",
        "        raise\n",
        "One table that nobody thought of keeps all others from being copied.",
        (f"{_ODD}test_a_fault_of_ours_in_planning_one_table_is_named_and_is_that_tables",),
    ),
    Mutation(
        "a number of rows that no table has is none",
        "steps/queries/tables.sql",
        "FILTER (WHERE l.reltuples BETWEEN 0 AND 1e13)",
        "FILTER (WHERE l.reltuples >= 0)",
        "A table whose statistics were written by hand fails the run.",
        (
            f"{_ODD}test_statistics_that_no_table_has_keep_nothing_from_being_copied[full-no number of rows]",
            f"{_ODD}test_statistics_that_no_table_has_keep_nothing_from_being_copied[full-more rows than any table]",
        ),
    ),
    Mutation(
        "options of the server's own are not compared",
        "steps/queries/portrait.sql",
        "FROM unnest(a.attoptions) o WHERE split_part(o, '=', 1) = ANY ({settable}) ORDER BY 1), g.listed,",
        "FROM unnest(a.attoptions) o ORDER BY 1), g.listed,",
        "No table is replaced on a server that keeps options of its own, as Debian's 15.20 does.",
        (f"{_SWAP}test_options_that_no_user_sets_are_left_behind_and_those_that_users_set_come_along[pg_ver=1]",),
    ),
    Mutation(
        "rows are staged under the role's search_path",
        "slices.py",
        "if plan.calls_functions else",
        "if False else",
        "A domain whose check leans on it refuses every row.",
        (
            f"{_CODE_OF_USERS}test_a_domain_of_the_target_whose_check_leans_on_the_search_path_is_staged[16 to 18-unlogged]",
        ),
    ),
    Mutation(
        "staging that can't be dropped is left",
        "steps/staging.py",
        "            if not session.usable:\n                raise\n",
        "            raise\n",
        "One staging table that an event trigger keeps fails every later run.",
        (
            f"{_UNDROPPABLE_STAGING}test_staging_tables_that_an_event_trigger_keeps_are_left_with_a_warning[unlogged-before it]",
        ),
    ),
    Mutation(
        "names are quoted where they must be alone",
        "endpoint.py",
        '    "quote_all_identifiers": "off",',
        "",
        "A type is taken for another one because a role lets one side quote its name.",
        (f"{_SETTINGS}test_names_are_quoted_where_they_must_be_alone[source-copy]",),
    ),
    Mutation(
        "damaged pages are not empty",
        "endpoint.py",
        'if held[name] == "on"]:',
        "if not held]:",
        "Rows that the source can't read are deleted from the target.",
        (f"{_SETTINGS}test_a_server_that_hides_damaged_rows_is_not_read[zero_damaged_pages]",),
    ),
    Mutation(
        "pauses between tries for a lock",
        "locks.py",
        "_PAUSES = 6\n",
        "_PAUSES = 0\n",
        "One idle reader of a target keeps all others waiting for as long as a run tries.",
        (f"{_LOCK_WAITS}test_others_come_through_while_somebody_idle_is_in_the_way[readers behind a swap]",),
    ),
    Mutation(
        "pinned date style",
        "endpoint.py",
        '    "DateStyle": "ISO",\n',
        "",
        "A role that writes days first turns 4 March into 3 April.",
        (f"{_COMMAND}test_a_role_with_odd_settings_changes_no_value[unlogged-libpq]",),
    ),
    # --- where a job reads on
    Mutation(
        "ties of the cursor",
        "cursors.py",
        '"{} OPERATOR(pg_catalog.>=) {}").format(self.column',
        '"{} OPERATOR(pg_catalog.>) {}").format(self.column',
        "A row with the very value of the watermark, committed after it, is never read.",
        (f"{_HAZARDS}test_w2_rows_with_the_very_value_of_the_watermark_are_read_again",),
    ),
    Mutation(
        "lower bound of the scan for late rows",
        "windows.py",
        "OPERATOR(pg_catalog.<=) pg_catalog.age(",
        "OPERATOR(pg_catalog.<) pg_catalog.age(",
        "The rows of the oldest transaction that the last snapshot could not see are lost.",
        (
            f"{_HAZARDS}test_w1_a_row_stamped_early_in_an_open_transaction_is_found[insert-scan]",
            f"{_HAZARDS}test_w1_a_row_stamped_early_in_an_open_transaction_is_found[update-xmin]",
        ),
    ),
    Mutation(
        "cap of the watermark",
        "steps/watermark.py",
        'return sql.SQL("({} OPERATOR(pg_catalog.>) {})").format(value, cursor.literal(latest))',
        'return sql.SQL("FALSE").format()',
        "One row stamped 9999-12-31 freezes the job for ever.",
        (f"{_HAZARDS}test_w6_values_of_the_future_are_copied_in_each_run_and_freeze_nothing[timestamptz]",),
    ),
    Mutation(
        "compare-and-set of the state",
        "steps/queries/advance.sql",
        " WHERE s.seq OPERATOR(pg_catalog.=) %(seen)s::pg_catalog.int8",
        "",
        "Two runs that began from one position both write theirs: mode append has rows twice.",
        (f"{_WATERMARKS}test_a_run_that_begins_while_a_killed_one_still_commits_is_rolled_back_whole[append]",),
    ),
    Mutation(
        "state in the merge transaction",
        "commit.py",
        "        state.advance(servers.writer, CONTROL_SCHEMA, plan, report.run_id, reached)\n",
        "        beside = servers.control if plan.facts.target_table else servers.writer\n"
        "        state.advance(beside, CONTROL_SCHEMA, plan, report.run_id, reached)\n",
        "The position is durable and the rows are not.",
        (f"{_HAZARDS}test_w3_a_run_that_fails_leaves_the_position_where_it_was[at the commit-append]",),
    ),
    # --- the commit
    Mutation(
        "commit that got no answer",
        "session.py",
        '            raise CommitUnknownError(step="commit", sqlstate=error.sqlstate) from error\n',
        "            return\n",
        "A commit that never happened is reported as done.",
        (f"{_CRASHES}test_a_commit_cut_before_it_happened_is_proven_rolled_back_and_only_the_merge_is_tried_again",),
    ),
    Mutation(
        "fence of the commit proof",
        "steps/state.py",
        "            fence(session, schema, target, seconds)\n",
        "",
        "The target is asked before the old backend has ended, and says no to what it then commits.",
        (f"{_COMMITS}test_a_commit_that_still_waits_is_not_taken_for_a_rollback[unlogged]",),
    ),
    Mutation(
        "fence of the merge",
        "commit.py",
        "        holders = locks.fence(writer, CONTROL_SCHEMA, plan.job.target, plan.options.lock_timeout)\n",
        "        holders = (holder,)\n",
        "The proof's fence is free while the merge is still committing.",
        (f"{_COMMITS}test_a_commit_that_still_waits_is_not_taken_for_a_rollback[unlogged]",),
    ),
    Mutation(
        "answer to COMMIT",
        "session.py",
        '        if tag != "COMMIT":',
        "        if False:",
        "COMMIT in a failed transaction answers ROLLBACK, raises nothing, and is taken for done.",
        (f"{_COMMITS}test_a_commit_that_answers_rollback_is_no_success",),
    ),
    Mutation(
        "synchronous_commit",
        "endpoint.py",
        "OPERATOR(pg_catalog.=) 'off' THEN 'on'",
        "OPERATOR(pg_catalog.=) 'off' THEN 'off'",
        "A crash of the target takes back what the position already stands on.",
        (f"{_COMMITS}test_a_commit_is_durable_whatever_the_role_prefers[off-on]",),
    ),
    Mutation(
        "retry of a commit that was rolled back",
        "retry.py",
        "    if isinstance(error, CommitAbortedError):\n        return Answer.RETRY\n",
        "    if isinstance(error, CommitAbortedError):\n        return Answer.NEVER\n",
        "A link that is cut for a moment fails the run.",
        (f"{_CRASHES}test_a_commit_cut_before_it_happened_is_proven_rolled_back_and_only_the_merge_is_tried_again",),
    ),
    Mutation(
        "a server that is away takes none of the tries",
        "retry.py",
        "        if _is_outage(error):\n            return self._retries > 0\n",
        "",
        "A restart of a server at the hour of the run loses the night.",
        (f"{_OUTAGES}test_a_server_that_is_away_when_a_run_begins_is_waited_for[refused-source]",),
    ),
    Mutation(
        "a refused login by its SQLSTATE",
        "unreachable.py",
        "    if code:\n",
        "    if False:\n",
        "A database of a certain name that is missing is waited for, and words of a server decide.",
        (f"{_OUTAGES}test_a_login_that_a_person_has_to_correct_fails_at_once_whatever_its_words[database-source]",),
    ),
    Mutation(
        "any exception during COMMIT is followed by its proof",
        "session.py",
        "        except BaseException as interrupt:  # whatever a signal's handler or a task's runner raises\n",
        "        except KeyboardInterrupt as interrupt:\n",
        "A task runner that ends a run in its COMMIT leaves the outcome unknown.",
        (f"{_INTERRUPTIONS}test_what_a_handler_raises_while_a_commit_waits_is_proven_before_it_goes_on[foreign]",),
    ),
    Mutation(
        "a stop cuts off what the run waits for",
        "watchdog.py",
        "                    wait.heed()\n",
        "                    pass\n",
        "Another thread can't end a run that merges.",
        (f"{_INTERRUPTIONS}test_a_stop_while_a_merge_runs_rolls_it_back[temporary-300]",),
    ),
    # --- runs beside each other, and what they leave
    Mutation(
        "the run's lock",
        "steps/queries/take_lock.sql",
        "pg_catalog.pg_try_advisory_lock(",
        "pg_catalog.pg_try_advisory_lock_shared(",
        "Two runs work on one target at once.",
        (f"{_WHAT_IF}test_a_tool_that_is_frozen_keeps_others_out_until_its_session_is_ended_and_then_goes_on",),
    ),
    Mutation(
        "the run's lock, looked at again",
        "commit.py",
        "        if holder is not None and holder not in holders:\n",
        "        if False:\n",
        "A run whose lock was lost merges older rows over those that another has merged meanwhile.",
        (
            (
                f"{_COMMITS}test_a_run_that_lost_its_lock_merges_nothing_older_than_another_run_has_merged_meanwhile"
                "[temporary]"
            ),
        ),
    ),
    Mutation(
        "check of the client",
        "endpoint.py",
        "    if version < _CHECK_CLIENT_SINCE:\n",
        "    if True:\n",
        "What a killed run began goes on for hours, and holds its locks.",
        (f"{_KILLED}test_a_killed_run_blocks_nobody[TCP-2]",),
    ),
    Mutation(
        "end of runs that died on this machine",
        "turn.py",
        "        if dead := presence.dead_runs():\n",
        "        if dead := frozenset():\n",
        "What a killed run began goes on where the server does not notice it.",
        (f"{_KILLED}test_a_run_that_was_killed_at_any_step_blocks_nobody[a COPY by psql-noticed]",),
    ),
    Mutation(
        "end of a run that dies while another waits",
        "turn.py",
        "        dead = presence.dead_runs() & {_run_of(holder) for holder in ours}\n",
        "        dead: frozenset[str] = frozenset()\n",
        "A run waits for one that is dead.",
        (f"{_KILLED}test_a_run_that_is_killed_while_another_waits_for_it_is_taken_over_from",),
    ),
    Mutation(
        "commits that wait for a standby are not ended",
        "steps/queries/end_runs.sql",
        "a.wait_event IS DISTINCT FROM 'SyncRep'",
        "TRUE",
        "Rows are shown, and read on from, that no standby has.",
        (f"{_WATERMARKS}test_a_run_that_begins_while_a_killed_one_still_commits_is_rolled_back_whole[append]",),
    ),
    Mutation(
        "who can be a run",
        "steps/queries/lock_holder.sql",
        "a.usename = session_user",
        "TRUE",
        "A role that may only connect keeps every run from a target.",
        (f"{_INTRUDERS}test_a_stranger_who_holds_the_key_of_a_target_keeps_no_run_from_it[as_session-no run yet]",),
    ),
    Mutation(
        "row lock of the fence",
        "steps/queries/fence.sql",
        " FOR UPDATE",
        "",
        "The target is asked before the old backend has ended, and says no to what it then commits.",
        (f"{_COMMITS}test_a_commit_that_still_waits_is_not_taken_for_a_rollback[unlogged]",),
    ),
    Mutation(
        "key of this moment",
        "steps/queries/fence.sql",
        "OPERATOR(pg_catalog.=) t.lock_key)",
        "OPERATOR(pg_catalog.<>) 0)",
        "A run whose lock's key was replaced merges all the same.",
        (f"{_INTRUDERS}test_of_two_who_hold_two_keys_of_one_target_only_the_one_with_the_present_key_merges",),
    ),
    Mutation(
        "rights on the table of targets",
        "steps/state.py",
        "    _grant_alike(session, schema)\n",
        "",
        "After an upgrade, roles beside the owner can't sync any more.",
        (f"{_INTRUDERS}test_roles_that_could_write_an_older_control_schema_can_use_the_newer_one",),
    ),
    Mutation(
        "control schema made by two runs at once",
        "steps/state.py",
        "        except _CREATED_BESIDE:\n",
        "        except ZeroDivisionError:\n",
        "Of runs that are the first at the same time all but one fail.",
        (f"{_INTRUDERS}test_runs_that_create_the_control_schema_at_the_same_time_do_not_get_in_each_others_way",),
    ),
    Mutation(
        "a run is locked before it is seen",
        "presence.py",
        "    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        '    marker = Path(new).rename(base / f"{run_id}.{_machine()}")\n',
        '    marker = Path(new).rename(base / f"{run_id}.{_machine()}")\n'
        "    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "A run that begins is taken for dead, and ended.",
        (f"{_PRESENCE}test_a_run_is_not_called_dead_while_it_begins_or_ends",),
    ),
    Mutation(
        "folder of the runs",
        "presence.py",
        "    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077\n",
        "    return stat.S_ISDIR(found.st_mode)\n",
        "Another user says which runs are dead.",
        (f"{_PRESENCE}test_a_folder_that_is_not_ours_alone_is_not_trusted[open to others]",),
    ),
    Mutation(
        "orphans that a stranger holds",
        "steps/staging.py",
        "any(holder.is_ours for holder in",
        "any(True for holder in",
        "A role that may only connect keeps staging tables for ever.",
        (f"{_INTRUDERS}test_a_stranger_who_holds_the_key_of_an_orphan_does_not_keep_it",),
    ),
    Mutation(
        "owner of a staging table",
        "steps/staging.py",
        "        if not is_free and any(holder.is_ours for holder in locks.holders(session, schema, each.tag.lock)):\n",
        "        if False:\n",
        "The staging tables of live runs are dropped under them.",
        (f"{_CRASHES}test_clean_drops_what_a_killed_run_left_and_nothing_of_a_live_one",),
    ),
    Mutation(
        "staging dropped at the end",
        "work.py",
        "                    cleanup.callback(member.landing.let_go)\n",
        "",
        "Every run leaves a copy of its rows on the target.",
        (f"{_WAITS}test_a_writer_that_does_not_finish_is_named[unlogged]",),
    ),
    Mutation(
        "staging dropped where the relay fails",
        "landing.py",
        "                    dropping.callback(self._drop, relay.table)\n",
        "                    pass\n",
        "A run whose source dies leaves a part of its rows on the target.",
        (f"{_CRASHES}test_a_source_that_dies_midway_leaves_no_part_of_a_table_and_is_read_again[psql-0]",),
    ),
    # --- side by side
    Mutation(
        "children behind their parents",
        "prepare.py",
        "    return [by_target[target] for target in ordered if target in by_target]",
        "    return list(jobs)",
        "A child that is staged first is merged before the rows that it refers to.",
        ("tests/integration/test_side_by_side.py::test_a_child_that_is_staged_first_is_merged_behind_its_parents",),
    ),
    Mutation(
        "children deleted before their parents",
        "commit.py",
        "    for each, step in reversed(merges):\n",
        "    for each, step in merges:\n",
        "Rows that are gone can't be deleted, for others that are gone too refer to them.",
        ("tests/integration/test_groups.py::test_parents_and_children_that_are_gone_are_deleted_in_one_run[unlogged]",),
    ),
    Mutation(
        "tables tied by foreign keys commit together",
        "prepare.py",
        "        groups, beside = _grouped(ordered, looked, options)\n",
        "        groups = tuple((job,) for job in ordered)\n        beside = _beside(groups)\n",
        "A reader sees children of the new state beside parents of the old one.",
        ("tests/integration/test_groups.py::test_a_reader_sees_the_old_state_of_all_or_the_new_one",),
    ),
    Mutation(
        "a table that others refer to is not left out of its group",
        "prepare.py",
        "        and not any(key.parent == target or (key.child == target and key.cascades) for key in others)\n",
        "        and bool(others)\n",
        "A cascade changes the rows of a table that was refused.",
        (
            (
                f"{_PROPOSED}test_one_table_that_cannot_join_its_group_is_refused_alone_where_nothing_leans_on_it"
                "[ON DELETE CASCADE]"
            ),
        ),
    ),
    Mutation(
        "foreign keys of partitions tie their tables",
        "steps/queries/foreign_keys.sql",
        "  SELECT oid, p.relid, true FROM wanted, pg_partition_tree(oid) AS p WHERE p.level > 0\n",
        "  SELECT oid, p.relid, true FROM wanted, pg_partition_tree(oid) AS p WHERE p.level > 99\n",
        "A child that a partition's foreign key binds is merged before its parent, and fails for ever.",
        (f"{_PARTITIONS}test_parents_and_children_come_and_go_in_one_run[a leaf to a table-]",),
    ),
    Mutation(
        "only rows of the partitions that a foreign key binds are spared",
        "changes.py",
        "    if leaves:\n        yield",
        "    if not leaves:\n        yield",
        "A parent that is gone stays, or fails the run, for rows that do not refer to it.",
        (f"{_PARTITIONS}test_rows_of_other_partitions_do_not_keep_a_parent",),
    ),
    Mutation(
        "all slices of one snapshot",
        "steps/relay.py",
        "[source.text(snapshot.BEGIN), source.text(snapshot.join), statement]",
        "[source.text(snapshot.BEGIN), statement]",
        "Slices of one table show it at several moments.",
        (
            "tests/integration/test_side_by_side.py::test_a_table_in_many_slices_is_one_snapshot_while_others_write[psql-promoted]",
        ),
    ),
    # --- slices used again
    Mutation(
        "proof of a slice by its hash",
        "resumption.py",
        "            if self._holds(plan, snapshot, table, each):\n",
        "            if True:\n",
        "A run that resumes merges rows which the source has changed since.",
        (f"{_RESUMING}test_a_slice_whose_rows_have_changed_is_read_again_and_the_others_are_not",),
    ),
    Mutation(
        "mixing of a row's values in its hash",
        "steps/audit.py",
        'sum(pg_catalog.hashtextextended("\n        \'(ROW({})::text) COLLATE "C", 0)), 0)',
        "sum((SELECT sum(hashtextextended(value, 0))\"\n        ' FROM json_each_text(row_to_json(ROW({}))))), 0)",
        "Values that moved from row to row are not noticed.",
        (f"{_RESUMING}test_values_that_two_rows_of_a_page_have_swapped_are_noticed",),
    ),
    Mutation(
        "identity of what a slice was made from",
        "resumption.py",
        "        return not differing\n",
        "        return True\n",
        "Slices of a table that was replaced are believed.",
        (
            (
                f"{_RESUMING}test_what_was_made_from_something_else_starts_over_and_says_why"
                "[ALTER TABLE s.t ADD COLUMN more int DEFAULT 3-what is read]"
            ),
        ),
    ),
    Mutation(
        "deletes within the buckets that differ",
        "changes.py",
        "    part = [plan.part.condition(Side.TARGET)] if plan.part else []\n",
        "    part = []\n",
        "A sync of what differs deletes all rows that were not staged.",
        ("tests/integration/test_diff.py::test_a_bucket_is_looked_for_gone_rows_and_no_other",),
    ),
    Mutation(
        "share of the table in the delete guard",
        "steps/merge.py",
        "        guard.check(plan, gone, plan.part.target_rows, present.rows + plan.part.alike)\n",
        "        guard.check(plan, gone, total, present.rows)\n",
        "A few rows that are gone from a few buckets are refused as half of the table.",
        ("tests/integration/test_diff.py::test_the_delete_guard_asks_for_its_share_of_the_table",),
    ),
    Mutation(
        "hashes inside the merge transaction",
        "commit.py",
        "        if self._sent:\n",
        "        if False:\n",
        "Rows that a trigger has changed, or somebody else beside the buckets, are committed as verified.",
        ("tests/integration/test_hashed_commit.py::test_a_row_that_others_write_meanwhile_is_noticed",),
    ),
    Mutation(
        "look at a table before and after it is replaced",
        "steps/swap.py",
        "    if lost := before ^ _portrait(session, target):\n",
        "    if lost := before - before:\n",
        "A default that the target got while rows were copied goes with the old table.",
        ("tests/integration/test_swap.py::test_what_the_target_gets_after_it_was_built_is_not_lost[default]",),
    ),
    Mutation(
        "values of a message without quotes",
        "rowdata.py",
        '    return _BARE.sub(lambda found: found["known"] or MARK, hidden)\n',
        "    return hidden\n",
        "A date that a generated column can't make is told, and stored in the history.",
        ("tests/integration/test_row_data.py::test_what_is_told_of_a_row_without_quotes_is_left_out_too[date]",),
    ),
    Mutation(
        "cast of somebody's own type by its text",
        "sqltext.py",
        "    value = text_of(column, is_own_type=True) if origin.is_own_type else column\n",
        "    value = column\n",
        "The function behind a cast of the type's owner runs as the reading role.",
        (f"{_OPERATORS}test_a_column_is_cast_without_the_cast_of_its_types_owner[enum-text]",),
    ),
    Mutation(
        "cast to somebody's own type by its input function",
        "sqltext.py",
        "    if origin.to_own_type:  # as JSON",
        "    if False:  # as JSON",
        "The function behind a cast of the type's owner runs as the reading role.",
        (f"{_OPERATORS}test_a_column_is_cast_to_somebodys_type_without_the_cast_of_its_owner[enum-text]",),
    ),
    Mutation(
        "owner of what leans on a table that is replaced",
        "steps/queries/swap_obstacles.sql",
        "   AND owner NOT IN ({trusted})\n",
        "   AND owner NOT IN ({trusted}) AND false\n",
        "A function of somebody else's runs as our role where their foreign key or view is made anew.",
        (
            f"{_SWAP}test_what_somebody_else_has_made_of_the_target_never_runs_as_our_role[a foreign key through a cast of hers-before the run]",
            f"{_SWAP}test_what_somebody_else_has_made_of_the_target_never_runs_as_our_role[a view with a constant that a check of hers looks at-before the run]",
        ),
    ),
    Mutation(
        "second look at what leans on a table that is replaced",
        "steps/swap.py",
        "    _check_again(session, target)\n",
        "",
        "What somebody else puts on the table while rows are copied runs as our role.",
        (
            f"{_SWAP}test_what_somebody_else_has_made_of_the_target_never_runs_as_our_role[a foreign key through a cast of hers-while rows are copied]",
        ),
    ),
    Mutation(
        "delete guard of a table that is replaced",
        "steps/swap.py",
        "    guard.check(plan, max(0, total - rows), total, rows)\n",
        "",
        "A source that looks empty replaces the target.",
        ("tests/integration/test_swap.py::test_the_delete_guard_counts_what_does_not_come_back",),
    ),
    Mutation(
        "outer hash of a row",
        "hashing.py",
        "    return sql.SQL('pg_catalog.hashtextextended({}::pg_catalog.text COLLATE \"C\", 1)').format(hashed)\n",
        "    return hashed\n",
        "Two rows that exchange a value are found equal.",
        ("tests/integration/test_hashing.py::test_what_is_equal_and_not_the_same_is_found_in_one_bucket[exchange]",),
    ),
    Mutation(
        "expression of a virtual column",
        "reading.py",
        '    return f"{meaning} AS {column.computed}" if column.computed else meaning\n',
        "    return meaning\n",
        "Rows that were read before keep what a virtual column showed before it got another expression.",
        (
            (
                "tests/acceptance/test_reading_on.py"
                "::test_another_expression_of_a_virtual_column_that_is_copied_reads_every_row[chosen-xmin]"
            ),
        ),
    ),
    Mutation(
        "parts of a wide row",
        "hashing.py",
        "    if len(images) > _IMAGES_A_ROW:\n",
        "    if False:\n",
        "A table of more than 832 bigint columns can't be verified, and fails on the night that compares it first.",
        ("tests/integration/test_wide_tables.py::test_a_table_of_1200_columns_follows_its_source_in_every_mode[diff]",),
    ),
    Mutation(
        "text as COPY writes it",
        "hashing.py",
        "    value = sqltext.text_of(name, is_own_type=not is_text)\n",
        "    value = sqltext.text_of(name, is_own_type=False)\n",
        "A boolean in a text, and all whose cast to text is another text than COPY's, are found different for ever.",
        ("tests/integration/test_hashing_across_types.py::test_rows_are_told_apart_by_keys_of_other_types",),
    ),
    Mutation(
        "modifier of a domain",
        "hashing.py",
        "    return {column.name: (_stored(theirs.get(column.name, column)), _stored(column)) for column in columns}\n",
        "    return {column.name: (theirs.get(column.name, column), column) for column in columns}\n",
        "A value that a domain of the target rounds or fills up is found different for ever.",
        (
            (
                "tests/integration/test_hashing_across_types.py"
                "::test_a_new_table_is_hashed_by_what_its_types_mean_on_the_target"
            ),
        ),
    ),
    Mutation(
        "whole image of a bigint",
        "hashing.py",
        '        return sql.SQL("{0}, {0} OPERATOR(pg_catalog.>>) 32").format(value)\n',
        "        return value\n",
        "A bigint whose halves change places is found equal.",
        ("tests/integration/test_hashing.py::test_what_is_equal_and_not_the_same_is_found_in_one_bucket[halves]",),
    ),
    Mutation(
        "held contexts are spared",
        "member.py",
        "            if not frame.f_code.co_flags & inspect.CO_GENERATOR:",
        "            if frame:",
        "A refused table ends the snapshot that the tables beside it are read in.",
        (f"{_MANY}test_a_table_that_is_refused_leaves_the_snapshot_of_the_others_alone[unlogged]",),
    ),
    Mutation(
        "a history that can't be written is told",
        "run.py",
        '            self._warn(f"the run history is not up to date',
        '            str(f"the run history is not up to date',
        "A run that is done is running for ever by its history, and nobody hears why.",
        (f"{_MANY}test_a_run_whose_end_can_not_be_noted_is_done_and_says_so",),
    ),
    Mutation(
        "roles that may not delete history",
        "steps/state.py",
        "        if may:\n            raise\n",
        "        if True:\n            raise\n",
        "A role without DELETE on the history is warned in every run.",
        (f"{_MANY}test_a_role_that_may_not_delete_history_leaves_it_without_a_word[DELETE ON pgsluice.run_table]",),
    ),
    Mutation(
        "history keeps what was done last",
        "steps/queries/forget_history.sql",
        "                    AND (t.status <> 'done' OR later.status IN ('done', 'forgotten')))",
        "                    )",
        "A table that has failed ever since is said to have never been done.",
        (f"{_MANY}test_history_is_kept_for_so_long_and_of_each_table_what_became_of_it_last",),
    ),
    Mutation(
        "host header",
        "page/serving.py",
        "        if host not in self._hosts:",
        "        if not self._hosts:",
        "A page elsewhere, whose name is made to lead here, reads what runs did.",
        (f"{_SERVE}test_a_name_that_is_made_to_lead_here_is_turned_away",),
    ),
    Mutation(
        "token",
        "page/serving.py",
        'not hmac.compare_digest(_given(environ.get("HTTP_AUTHORIZATION", "")), self._token):',
        'not _given(environ.get("HTTP_AUTHORIZATION", "")):',
        "Whoever gives any token is let in.",
        (f"{_SERVE}test_others_are_let_in_by_a_token_alone",),
    ),
    Mutation(
        "limit of one client",
        "page/listening.py",
        "            one_too_many.handle_close()",
        "            pass",
        "Who begins requests and ends none keeps everybody else out.",
        (f"{_SERVE}test_requests_that_are_begun_and_not_ended_keep_nobody_out",),
    ),
    Mutation(
        "who gives way",
        "page/listening.py",
        "if client == greediest and not each.requests)",
        "if not each.requests)",
        "Who waits longest is pushed out by somebody else's connections.",
        (f"{_SERVE}test_who_begins_too_many_requests_pushes_out_its_own_alone",),
    ),
    Mutation(
        "time for a request",
        "page/listening.py",
        "            self.will_close = True",
        "            pass",
        "A request that drips in holds its connection for as long as it likes.",
        ("tests/integration/test_listening.py::test_a_request_that_drips_in_is_ended_though_it_never_rests",),
    ),
    Mutation(
        "one waits for the target",
        "page/serving.py",
        "            if now - self._began >= _PROMPT:\n",
        "            if False:\n",
        "Every request waits for a target that does not answer, until no thread is left.",
        (f"{_SERVE}test_a_target_that_does_not_answer_holds_up_one_request_and_no_other",),
    ),
    # --- a Dask cluster
    Mutation(
        "pickles of a cluster",
        "daskclient.py",
        '    if event != "pickle.find_class" or _is_harmless(*map(str, arguments)):\n',
        "    if True:\n",
        "A Dask worker's or scheduler's answer runs code on this machine.",
        tuple(
            f"{_DASK}test_what_a_cluster_that_was_taken_over_sends_runs_in_no_process_of_ours[{way}]"
            for way in ("result", "exception", "kind", "warning", "identity")
        ),
    ),
    Mutation(
        "environment of the Dask client",
        "daskclient.py",
        "            env=_environment(),\n",
        "",
        "The process that hears a cluster has the passwords and tokens of our environment.",
        (f"{_DASK}test_the_process_that_speaks_with_the_cluster_knows_no_secret_and_its_end_is_told",),
    ),
    Mutation(
        "fields of an answer",
        "answers.py",
        '_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)',
        "_STRICT = ConfigDict(frozen=True)",
        "A worker's answer may hold what nobody asked for, and texts in the place of numbers.",
        (f"{_DASK}test_plain_answers_that_are_wrong_are_refused[field]",),
    ),
    Mutation(
        "names are escaped",
        "page/__init__.py",
        "autoescape=True",
        "autoescape=False",
        "A table's name becomes part of the page.",
        ("tests/acceptance/test_report.py::test_the_page_asks_for_nothing_and_holds_names_as_text_alone",),
    ),
    Mutation(
        "a job whose post_sql failed is done again",
        "steps/queries/done_jobs.sql",
        "                                    AND later.attempt > t.attempt))",
        "                                    AND later.attempt > t.attempt + 1))",
        "--resume leaves out what shall follow a table.",
        (
            "tests/acceptance/test_own_sql.py::test_a_post_sql_that_fails_leaves_the_rows_and_is_told_until_a_run_does_it",
        ),
    ),
    # --- names that others chose
    Mutation(
        "remarks of one line",
        "config/document.py",
        "visible.one_line(text)}",
        "text}",
        "A column's name ends the remark that names it, and writes settings into the file: a program among them.",
        (f"{_IN_FILES}test_a_column_cannot_end_the_remark_that_names_it",),
    ),
    Mutation(
        "keys without line ends",
        "config/document.py",
        "each if each.isprintable() else _escape(each)",
        "each",
        "A table's name is read back as another one, or the file can't be read.",
        (f"{_IN_FILES}test_no_schema_and_no_table_can_end_the_line_that_names_it",),
    ),
    Mutation(
        "proposed values are literal",
        "cli/init.py",
        "scalar(references.literal(text))",
        "scalar(text)",
        "A column's name makes the content of a file, or of the environment, a setting that is printed.",
        (
            f"{_IN_FILES}test_a_cursor_is_never_taken_for_a_reference",
            f"{_IN_FILES}test_the_name_of_a_target_that_was_typed_is_no_reference",
        ),
    ),
    Mutation(
        "a quoted name is no pattern",
        "job.py",
        """    return not part.startswith('"') and _GLOB.search(part) is not None""",
        """    return _GLOB.search(part) is not None""",
        "A table called * can't be named without all others of its schema.",
        (
            f'{_PATTERNS}test_a_table_is_meant_by_name_or_pattern_on_the_command_line[*."*"-meant11]',
            f'{_PATTERNS}test_a_table_is_meant_by_name_or_pattern_in_a_file[m."*"-meant5]',
        ),
    ),
    Mutation(
        "init quotes what would be a pattern",
        "cli/init.py",
        "scalar(table.ref.typed)",
        "scalar(str(table.ref))",
        "A table called * is proposed as all tables of its schema.",
        (f"{_PATTERNS}test_init_names_tables_so_that_none_is_a_pattern",),
    ),
    Mutation(
        "stdout commands no terminal",
        "cli/__init__.py",
        "        sys.stdout = _Cleaned(sys.stdout, visible.lines)\n",
        "        pass\n",
        "What is printed for machines, or by others, commands the terminal it is shown on.",
        (f"{_SHOWN}test_machines_get_the_very_names",),
    ),
    Mutation(
        "lines of ours",
        "cli/render.py",
        'return "\\n".join(map(visible.one_line, lines))',
        'return "\\n".join(lines)',
        "A table's name adds a line to what doctor, status or verify says.",
        (
            f"{_SHOWN}test_what_tables_are_called_is_shown_by_plan_doctor_and_sync",
            f"{_SHOWN}test_the_value_of_a_key_is_shown_in_a_line_of_its_own",
        ),
    ),
    Mutation(
        "errors of one line",
        "errors.py",
        "visible.one_line(scrub(line)) for line in lines",
        "scrub(line) for line in lines",
        "A name adds a line to an error.",
        ("tests/unit/test_visible.py::test_no_name_adds_a_line_to_an_error",),
    ),
    Mutation(
        "drawn names",
        "sinks/picture.py",
        "return [(one_line(table.name), table.cells(now)) for table in shown]",
        "return [(table.name, table.cells(now)) for table in shown]",
        "A name commands the terminal that progress is drawn on.",
        ("tests/unit/test_progress.py::test_what_a_terminal_would_obey_is_shown_as_an_escape",),
    ),
    Mutation(
        "names on the page",
        "page/__init__.py",
        "return visible.one_line(value) if isinstance(value, str)",
        "return value if isinstance(value, str)",
        "A name reorders the page around it.",
        (f"{_SHOWN}test_the_page_holds_no_name_that_reorders_it",),
    ),
    Mutation(
        "names in a plan's SQL",
        "cli/plan.py",
        'visible.statement(f"{text};")',
        'f"{text};"',
        "The SQL that is shown names another table, or holds a statement that a name made up.",
        (f"{_SHOWN}test_the_sql_of_a_plan_names_the_very_tables_in_lines_of_its_own",),
    ),
    # --- what one server prints, and another is sent
    Mutation(
        "one statement a call",
        "session.py",
        'super()._execute_send(*query, **{**named, "force_extended": True})',
        "super()._execute_send(*query, **named)",
        "What closes a bracket of ours and begins a statement of its own is run.",
        (f"{_ALONE}test_a_text_with_two_statements_is_refused_by_the_server[execute]",),
    ),
    Mutation(
        "one statement a COPY",
        "steps/relay.py",
        "pgconn.send_query_params(statement.encode(), None)",
        "pgconn.send_query(statement.encode())",
        "A COPY carries a second statement.",
        (f"{_ALONE}test_a_copy_that_reads_carries_no_second_statement[COPY (SELECT 1) TO STDOUT; {{}}]",),
    ),
    Mutation(
        "one statement aside",
        "session.py",
        "pgconn.send_query_params(query.encode(), None)",
        "pgconn.send_query(query.encode())",
        "What is asked aside carries a second statement.",
        (f"{_ALONE}test_what_is_asked_aside_is_one_statement",),
    ),
    Mutation(
        "names of types look like names",
        "expressions.py",
        "    if text is not None and form.fullmatch(text):\n",
        "    if text is not None:\n",
        "A server adds columns and defaults behind what it calls a type.",
        (f"{_EXPRESSIONS}test_anything_else_is_no_name_of_a_type[integer DEFAULT 1]",),
    ),
    Mutation(
        "calls of expressions are judged",
        "expressions.py",
        "for call in parsed.calls if not _is_listed(call) and call not in harmless)",
        "for call in ())",
        "A default or a check of the source does what it likes on the target.",
        (
            (
                f"{_CARRYING}test_a_check_of_a_domain_that_does_more_than_compute_a_value_is_never_run_on_the_target"
                "[domain-a query as text]"
            ),
            (
                f"{_CARRYING}test_a_default_that_does_more_than_compute_a_value_is_left_out_and_named"
                "[temporary-a large object]"
            ),
        ),
    ),
    Mutation(
        "an older target is asked what it takes",
        "prepare.py",
        "    found = catalog.untaken(control, itertools.chain(*asked.values()))\n",
        "    found: dict[carrying.Question, str] = {}\n",
        "A table with a default that the target is too old for fails in the merge, in every run.",
        (f"{_OLDER}test_a_default_that_the_target_lacks_is_left_out_with_a_note[a function-auto]",),
    ),
    Mutation(
        "literals do not go on in each other",
        "expressions.py",
        'or (kind == before[0] == "literal")',
        "",
        "What the server reads behind a literal is taken for a part of it.",
        (f"{_EXPRESSIONS}test_a_literal_that_goes_on_in_another_is_not_understood",),
    ),
    Mutation(
        "a constraint has the outline of one",
        "expressions.py",
        "if parsed is None or not _is_outline(parsed.outside):",
        "if parsed is None:",
        "A constraint of the source adds a column, and computes its default.",
        (f"{_EXPRESSIONS}test_anything_else_defines_neither[COLUMN evil integer DEFAULT (lo_create(1))]",),
    ),
    Mutation(
        "what is created is read with an empty search_path",
        "steps/merge.py",
        "            with session.playing_role():\n                self._inserted",
        "            if True:\n                self._inserted",
        "Functions of a schema in the role's search_path take the place of core's.",
        (
            (
                f"{_CARRYING}test_what_is_created_calls_core_functions_whatever_the_search_path_of_the_targets_role"
                "[unlogged]"
            ),
        ),
    ),
)


# --- running ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What some tests said.

    Attributes:
        passed: names of the tests that did.
        failed: of those that failed; an error in a fixture is no failure.
        tests: how many were run.
        said: what pytest printed.
    """

    passed: frozenset[str]
    failed: frozenset[str]
    tests: int
    said: str


def run(package_root: Path, tests: Sequence[str], seconds: int) -> Result:
    """Run tests against the package below a folder.

    Raises:
        RuntimeError: pytest could not run them.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "told.xml")
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:randomly", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, f"--timeout={seconds}", f"--junit-xml={told}", *tests],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(package_root)},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        if done.returncode not in {0, 1}:
            raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        cases = list(ET.parse(told).getroot().iter("testcase"))  # noqa: S314 - written by our own pytest
    failed = {_name(case) for case in cases if case.find("failure") is not None}
    passed = {_name(case) for case in cases if all(case.find(kind) is None for kind in ("failure", "error", "skipped"))}
    return Result(frozenset(passed), frozenset(failed), len(cases), done.stdout)


def _name(case: ET.Element) -> str:
    return str(case.get("name"))


def _names(tests: Sequence[str]) -> frozenset[str]:
    return frozenset(test.partition("::")[2] for test in tests)


def survives(mutation: Mutation) -> str:
    """Return why a mutation was not noticed, or nothing."""
    with tempfile.TemporaryDirectory(prefix="pgsluice-mutation-") as folder:
        package = shutil.copytree(PACKAGE, Path(folder, "pgsluice"), ignore=shutil.ignore_patterns("__pycache__"))
        file = package / mutation.file
        file.write_text(mutation.applied(file.read_text("utf-8")), "utf-8")
        _see_that_it_is_imported(Path(folder))
        result = run(Path(folder), [*mutation.tests, CONTROL], 100)
    if not _names([CONTROL]) <= result.passed:
        return f"it broke everything, so that its tests prove nothing:\n{result.said}"
    if green := sorted(_names(mutation.tests) - result.failed):
        return f"not red: {', '.join(green)}\n{result.said}"
    return ""


def _see_that_it_is_imported(package_root: Path) -> None:
    """See that the copy is what tests import, and the processes that they start."""
    done = subprocess.run(
        [sys.executable, "-c", "import pgsluice; print(pgsluice.__file__)"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(package_root)},
        capture_output=True,
        text=True,
        check=True,
    )
    if not Path(done.stdout.strip()).is_relative_to(package_root):
        raise RuntimeError(f"{done.stdout.strip()} is imported, and not the copy in {package_root}")


def main(names: Sequence[str]) -> int:
    """Run the mutations of these names, or all; print a table; return how the script ends."""
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    if unknown := set(names) - {mutation.name for mutation in chosen}:
        print(f"there is no mutation {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    started = time.monotonic()
    tests = list(dict.fromkeys([*(test for mutation in chosen for test in mutation.tests), CONTROL]))
    untouched = run(PACKAGE.parent, tests, 300)
    if len(untouched.passed) != len(tests):
        print(f"{untouched.said}\nred without any mutation")
        return 1
    print(f"{len(tests)} tests are green without a mutation, after {time.monotonic() - started:.0f} s", flush=True)
    width = max(len(mutation.name) for mutation in chosen)
    survivors = 0
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:  # servers of its own for each
        for mutation, fault in zip(chosen, pool.map(survives, chosen), strict=True):
            survivors += bool(fault)
            print(f"{'SURVIVED' if fault else 'noticed':8}  {mutation.name:{width}}  {mutation.breaks}", flush=True)
            if fault:
                print(fault, flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} noticed, in {time.monotonic() - started:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
