"""The dependency audit: an advisory is named, and what was not audited never looks as if it had been."""

import json
import subprocess

import pytest

from models.errors import UsageError
from tools import audit
from tools.audit import Audit, ask, installed, review


@pytest.fixture
def database(monkeypatch):
    """Lets pip-audit answer from {name: advisories}, or not at all; it skips a package that it lacks."""

    def answer(known: dict[str, list[str]] | None) -> None:
        def run(command, **options):
            del options
            if known is None:
                return subprocess.CompletedProcess(command, 1, "", "No module named pip_audit")
            with open(command[command.index("-r") + 1]) as file:  # noqa: PTH123
                asked = [line.strip().split("==") for line in file]
            told = [
                {"name": name, "version": version, "vulns": [{"id": one} for one in known[name]]}
                if name in known
                else {"name": name, "skip_reason": "not found"}
                for name, version in asked
            ]
            return subprocess.CompletedProcess(command, 0, json.dumps({"dependencies": told}), "")

        monkeypatch.setattr(audit.subprocess, "run", run)

    return answer


def test_the_database_is_believed_once_it_knows_the_release_with_an_advisory(database):
    database({"jinja2": ["GHSA-1"], "one": []})
    assert audit.audit({"one": "1.0"}) == "1 of 1 packages pass pip-audit's database."
    assert audit.audit({"one": "1.0", "two": "2.0"}) == (
        "1 of 2 packages pass pip-audit's database. Not in it, so not audited: two."
    )


def test_an_advisory_is_named(database):
    database({"jinja2": ["GHSA-1"], "one": ["CVE-1", "CVE-2"]})
    with pytest.raises(UsageError, match=r"by pip-audit's database: one 1\.0 has CVE-1, CVE-2; install newer releases"):
        audit.audit({"one": "1.0"})


@pytest.mark.parametrize("known", [None, {}, {"jinja2": []}])
def test_without_a_database_the_reviewed_list_answers_and_says_so(database, known):
    database(known)
    told = audit.audit({"jinja2": "3.1.6", "one": "1.0"})
    assert told == (
        "pip-audit is not installed or its database is out of reach. 1 of 2 packages pass the list reviewed by hand in "
        "advisories.txt. Not in it, so not audited: one."
    )
    with pytest.raises(UsageError, match=r"by the list .*: jinja2 3.1.5 has CVE-2025-27516; install newer"):
        audit.audit({"jinja2": "3.1.5"})


def test_the_list_is_read_with_its_advisories():
    found = review({"a-b": "1.9", "c": "2.0+cpu", "d": "1"}, "# text\n\nA_b>=2 # X, Y\nc>=2.0  # Z\ne>=1 # W\n")
    assert found == Audit({"a-b 1.9": ["X", "Y"]}, ["d"])


def test_what_is_installed_here_passes_the_list():
    audited = review(installed(), audit.LIST.read_text(encoding="utf-8"))
    assert {"torch", "numpy"} <= installed().keys()
    assert {name: ids for name, ids in audited.advisories.items() if not name.startswith(("pip ", "setuptools "))} == {}


def test_no_answer_is_none(database):
    database(None)
    assert ask({"one": "1.0"}) is None
