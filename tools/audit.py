"""Does an installed package have a known advisory?

    python -m tools.audit

pip-audit answers, once it has shown that it knows a release with an advisory; a package it does not know counts as
unaudited, which it would pass over. Where its database is out of reach, the packages are compared with the list in
advisories.txt beside this file. Exit code 2 for an advisory.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from models.errors import UsageError
from recipes.config.recipe import entry

LIST = Path(__file__).with_name("advisories.txt")
CANARY = {"jinja2": "3.1.5"}
"""A release with an advisory (CVE-2025-27516): a database that does not know it is none."""


@dataclass(frozen=True)
class Audit:
    """found: name and version with its advisories. unknown: packages that the database does not have."""

    found: dict[str, list[str]]
    unknown: list[str]


def installed() -> dict[str, str]:
    """Version of every installed package, this project itself left out."""
    found = {canonicalize_name(one.metadata["Name"]): one.version for one in distributions()}
    return {name: version for name, version in sorted(found.items()) if name != "earwitness"}


def ask(packages: dict[str, str]) -> Audit | None:
    """What pip-audit says of these packages; None where it is not installed or cannot reach its database."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        options = ["-r", str(listed), "--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json"]
        done = subprocess.run([sys.executable, "-m", "pip_audit", *options], capture_output=True, text=True)
    try:
        answer = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    found = {
        f"{one['name']} {one['version']}": [vulnerability["id"] for vulnerability in one["vulns"]]
        for one in answer
        if one.get("vulns")
    }
    return Audit(found, [one["name"] for one in answer if "skip_reason" in one])


def review(packages: dict[str, str], text: str) -> Audit:
    """The packages against a reviewed list: lines `name>=version  # advisories`, comments and blank lines."""
    found, listed = {}, set()
    for line in text.splitlines():
        wanted, _, advisories = line.partition("#")
        if wanted.strip():
            floor = Requirement(wanted.strip())
            name = canonicalize_name(floor.name)
            listed.add(name)
            if name in packages and not floor.specifier.contains(packages[name].partition("+")[0], prereleases=True):
                found[f"{name} {packages[name]}"] = advisories.replace(",", " ").split()
    return Audit(found, [name for name in packages if name not in listed])


def audit(packages: dict[str, str]) -> str:
    """What was audited by what, in a sentence. Raises UsageError naming every package with an advisory."""
    known = ask(CANARY)
    if known and known.found:
        result, source = ask(packages), "pip-audit's database"
    else:
        result, source = review(packages, LIST.read_text(encoding="utf-8")), f"the list reviewed by hand in {LIST.name}"
    if result is None:
        raise UsageError("pip-audit knew a release with an advisory and then failed: run it again")
    if result.found:
        told = "; ".join(f"{name} has {', '.join(ids)}" for name, ids in result.found.items())
        raise UsageError(f"by {source}: {told}; install newer releases")
    reach = "" if known and known.found else "pip-audit is not installed or its database is out of reach. "
    unaudited = f" Not in it, so not audited: {', '.join(result.unknown)}." if result.unknown else ""
    return f"{reach}{len(packages) - len(result.unknown)} of {len(packages)} packages pass {source}.{unaudited}"


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    if arguments:
        raise UsageError("python -m tools.audit takes no arguments")
    print(audit(installed()))


if __name__ == "__main__":
    entry(main)
