"""How long copies are held back."""

from __future__ import annotations

import pytest

from pgsluice.throttle import Throttle


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("pgsluice.throttle.time.monotonic", lambda: now[0])
    return now


def test_nothing_waits_without_a_limit() -> None:
    passed = Throttle(None).meter()
    assert [passed(1 << 30), passed(2 << 30)] == [0, 0]


def test_a_copy_waits_as_long_as_its_bytes_take_at_the_rate(clock: list[float]) -> None:
    passed = Throttle(1000).meter()
    assert passed(500) == pytest.approx(0.5)
    clock[0] += 0.2
    assert passed(500) == pytest.approx(0.3), "asked again with the same bytes, it waits for the rest"
    clock[0] += 0.3
    assert passed(500) == pytest.approx(0)
    assert passed(600) == pytest.approx(0.1)


def test_copies_side_by_side_share_the_rate_and_what_was_not_used_is_gone(clock: list[float]) -> None:
    throttle = Throttle(1000)
    one, other = throttle.meter(), throttle.meter()
    assert [one(100), other(100)] == pytest.approx([0.1, 0.2])
    clock[0] += 60
    assert one(600) == pytest.approx(0.5)


def test_all_wait_while_they_are_held() -> None:
    throttle = Throttle(None)
    passed = throttle.meter()
    throttle.is_held = True
    assert passed(1) > 0
    throttle.is_held = False
    assert passed(1) == 0
