"""Whatever stands in the control schema as JSON is read as a value of ours, or said to be none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgsluice import page, records
from pgsluice.cli import status
from pgsluice.job import TableRef
from pgsluice.model import CommittedSlice, TableReport
from pgsluice.steps.state import RunRow

KNOWN = {"run_id": "r", "source": "s.t", "target": "s.t", "status": "done"}
TAG = {"pgsluice": 1, "run": "r", "target": "s.t", "lock": -5}
KEPT = {**TAG, "until": 9, "job": "j", "made_from": {"x": [1, None]}, "pages": [0, 5]}
NOTE = {"slice": 1, "first": 0, "end": None, "rows": 7, "bytes": 9}
FIELDS = sorted(TableReport("", "", "", "").to_dict())

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["\ud800", "\0", 10**400, -1, 1 << 63, 1e308, "", "s.t"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def objects(names: list[str]) -> st.SearchStrategy[Any]:
    """Return objects that have some of our names, and anything at all."""
    return st.dictionaries(st.sampled_from(names), values) | values


texts = st.text() | st.just(None) | st.just("[" * 100_000) | st.just("9" * 5000) | st.just('{"seconds": NaN}')


def written(value: Any) -> str:
    try:
        return json.dumps(value)
    except ValueError:  # a number of more digits than Python writes
        return '{"rows": ' + "9" * 5000 + "}"


@given(objects(FIELDS).map(written) | texts)
def test_any_report_can_be_shown_by_every_command_or_is_said_to_be_unreadable(text: str | None) -> None:
    found = records.report(text, KNOWN)
    assert set(found) - {records.UNREADABLE} == set(FIELDS)
    assert records.report(json.dumps({name: found[name] for name in FIELDS}), KNOWN) == {
        name: found[name] for name in FIELDS
    }, "what is let through is read again as it is"
    json.dumps(found, ensure_ascii=False).encode()
    status._outcome(found).encode()
    run = RunRow("r", "done", "now", None, 0.0, None, 0, 1, 1, 0, 1, 1, ({**found, "ended_at": 5.0},))
    page.render(page.History("here", "now", run, (run,), ())).encode()


@given(objects([*KEPT, "else"]).map(written) | texts)
def test_any_comment_is_a_tag_or_is_said_to_be_none(text: str | None) -> None:
    found = records.tag(text)
    if isinstance(found, str):
        assert found.startswith("its COMMENT is not ours: ")
        found.encode()
    else:
        assert isinstance(found.target, TableRef)
        assert -(1 << 63) <= found.lock < 1 << 63
        found.run.encode()
    assert isinstance(records.slice_of(text), CommittedSlice | str)


@pytest.mark.parametrize("name", KEPT)
@given(values)
def test_any_value_in_the_place_of_one_of_a_tag_is_read_or_said_to_be_wrong(name: str, value: Any) -> None:
    text = written({**KEPT, name: value})
    found = records.tag(text)
    assert isinstance(found, records.Tag | str)
    if json.loads(written(value)) is None if name != "rows" else False:
        assert isinstance(found, str), "null stands for none of it"


def test_what_we_write_ourselves_is_read_as_it_was_meant() -> None:
    report = TableReport(
        "r", "s.t", "t.t", "full", seconds=1.5, steps={"relay": 1.0}, notes=("n",), error=None
    ).to_dict()
    assert records.report(json.dumps(report), {}) == report
    assert records.tag(json.dumps(TAG)) == records.Tag("r", TableRef("s", "t"), -5)
    assert records.tag(json.dumps(KEPT)) == records.Tag("r", TableRef("s", "t"), -5, 9, "j", {"x": [1, None]}, (0, 5))
    noted = records.slice_of(json.dumps(NOTE))
    assert isinstance(noted, CommittedSlice)
    assert (noted.slice.number, noted.rows) == (1, 7)


def test_a_report_of_an_older_release_lacks_fields_and_is_readable() -> None:
    found = records.report('{"target": "a.b", "seconds": 3}', KNOWN)
    assert (found["target"], found["seconds"], found["source"], found["inserted"]) == ("a.b", 3, "s.t", 0)
    assert records.UNREADABLE not in found


def test_what_is_wrong_is_named() -> None:
    found = records.report('{"seconds": "3", "rows": 1, "steps": {"relay": []}}', KNOWN)
    assert found[records.UNREADABLE] == "not as pgsluice writes it: seconds, steps"
    assert (found["seconds"], found["steps"]) == (0.0, {})
    assert records.tag(json.dumps({**KEPT, "pages": [5, 0]})) == (
        "its COMMENT is not ours: not as pgsluice writes it: pages"
    )
