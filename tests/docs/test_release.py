"""What a release must not forget."""

import tomllib
from typing import Any

from tests.docs.snippets import ROOT

OWN_URLS = {"Homepage", "Documentation", "Issues", "Changelog"}


def missing_urls(project: dict[str, Any]) -> set[str]:
    """The project's own addresses that a version from 1.0 on must name, and does not."""
    is_early = project["version"].startswith("0.")
    return set() if is_early else OWN_URLS - {*project.get("urls", {})}


def test_a_version_from_1_0_on_names_the_addresses_of_the_project() -> None:
    assert missing_urls(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]) == set()


def test_the_check_sees_what_is_missing() -> None:
    assert missing_urls({"version": "1.0.0"}) == OWN_URLS
    assert missing_urls({"version": "1.2.0", "urls": dict.fromkeys(OWN_URLS - {"Issues"}, "https://x")}) == {"Issues"}
    assert missing_urls({"version": "0.9.0"}) == set()


def test_the_checklist_of_a_release_has_the_step() -> None:
    checklist = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## A release")[2]
    assert all(name in checklist for name in (*OWN_URLS, "[project.urls]"))
