"""CHANGELOG, CITATION and the package tell the same versions, and CITATION names whom the license names."""

from __future__ import annotations

import re
import tomllib

from tests.paths import ROOT

CHANGELOG, CITATION = ((ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "CITATION.cff"))
RELEASES = re.findall(r"^## \[(\d+\.\d+\.\d+)\] – (\d{4}-\d\d-\d\d)$", CHANGELOG, re.MULTILINE)


def cited(field: str) -> str:
    """A field of CITATION that stands in one line."""
    return re.search(rf"^(?:  - )?{field}: (.*)$", CITATION, re.MULTILINE)[1].strip("'")


def test_releases_stand_with_the_newest_first():
    numbers = [tuple(map(int, version.split("."))) for version, _ in RELEASES]
    assert numbers == sorted(set(numbers), reverse=True)
    assert sorted(RELEASES, reverse=True) == RELEASES
    assert re.findall(r"^\[(.*)\]: #", CHANGELOG, re.MULTILINE) == [version for version, _ in RELEASES]


def test_the_newest_is_cited():
    assert (cited("version"), cited("date-released")) == RELEASES[0]


def test_the_package_has_a_release_that_is_written_down():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] in dict(RELEASES)
    assert cited("license") == project["license"]


def test_the_authors_are_the_licenses():
    assert cited("name") in (ROOT / "LICENSE").read_text(encoding="utf-8")
