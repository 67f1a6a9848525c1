"""What CI installs is locked: within the bounds of pyproject.toml, by hash, and from no place in particular."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements-dev.txt").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
_PINNED = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<rest>(?:.*\\\n)*.*)$", re.MULTILINE)


def required() -> list[Requirement]:
    """Return what the package and its extra for developers ask for; an extra of ours means what it holds."""
    extras = PROJECT["optional-dependencies"]
    asked = [Requirement(text) for text in [*PROJECT["dependencies"], *extras["dev"]]]
    ours = [
        Requirement(text)
        for each in asked
        if each.name == "pgsluice"
        for extra in each.extras
        for text in extras[extra]
    ]
    return [each for each in asked if each.name != "pgsluice"] + ours


def test_everything_that_is_asked_for_is_locked_within_its_bounds() -> None:
    locked = {canonicalize_name(match["name"]): match["version"] for match in _PINNED.finditer(LOCK)}
    missing = [
        str(each) for each in required() if not each.specifier.contains(locked.get(canonicalize_name(each.name), "0"))
    ]
    assert (missing, len(locked) > len(required())) == ([], True), "run make lock"


def test_every_locked_version_has_its_hashes() -> None:
    pinned = list(_PINNED.finditer(LOCK))
    assert [match["name"] for match in pinned if "--hash=sha256:" not in match["rest"]] == []
    assert len(pinned) == len(re.findall(r"^[\w.-]+ *==", LOCK, re.MULTILINE))


def test_the_lock_names_no_place_to_install_from() -> None:
    assert re.findall(r"https?:|file:|index-url|find-links|^-", LOCK, re.MULTILINE) == []


def test_every_lower_bound_is_given() -> None:
    """Without one the oldest version ever would do, with all its holes."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    asked = [Requirement(text) for group in groups for text in group]
    loose = [str(each) for each in asked if each.name != "pgsluice" and not re.search(">=|==|~=", str(each.specifier))]
    assert loose == []
