"""Does an installed package have a known advisory?

    python -m tools.audit

pip-audit answers, once it has shown that it knows a release with an advisory. Packages that it does not know are named
as unaudited; pip-audit alone would pass over them. Where its database is out of reach, the packages are compared with
the list in advisories.txt beside this file. Exit code 2 for an advisory.
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
from recipes.system.entry import entry

LIST = Path(__file__).with_name("advisories.txt")
CANARY = {"jinja2": "3.1.5"}
"""A release with an advisory (CVE-2025-27516). A database that does not know it is not asked further."""


@dataclass(frozen=True)
class Audit:
    """advisories: those of each package that has some, by "name version". unknown: packages that were not audited."""

    advisories: dict[str, list[str]]
    unknown: list[str]


def installed() -> dict[str, str]:
    """Version of every installed package, without this project itself."""
    versions: dict[str, str] = {}
    for package in distributions():
        name = canonicalize_name(package.metadata["Name"])
        if name != "earwitness":
            versions[name] = package.version
    return dict(sorted(versions.items()))


def ask(packages: dict[str, str]) -> Audit | None:
    """What pip-audit says of these packages; None where it is not installed or cannot reach its database."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        options = ["-r", str(requirements), "--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json"]
        command = [sys.executable, "-m", "pip_audit", *options]
        process = subprocess.run(command, capture_output=True, text=True)
    try:
        answer = json.loads(process.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    advisories, unknown = {}, []
    for package in answer:
        if "skip_reason" in package:
            unknown.append(package["name"])
        elif package.get("vulns"):
            ids = [vulnerability["id"] for vulnerability in package["vulns"]]
            advisories[f"{package['name']} {package['version']}"] = ids
    return Audit(advisories, unknown)


def review(packages: dict[str, str], text: str) -> Audit:
    """The packages against a reviewed list: lines `name>=version  # advisories`, comments and blank lines."""
    advisories, listed = {}, set()
    for line in text.splitlines():
        requirement, _, ids = line.partition("#")
        if not requirement.strip():
            continue
        safe = Requirement(requirement.strip())
        name = canonicalize_name(safe.name)
        listed.add(name)
        if name not in packages:
            continue
        release = packages[name].partition("+")[0]
        if not safe.specifier.contains(release, prereleases=True):
            advisories[f"{name} {packages[name]}"] = ids.replace(",", " ").split()
    return Audit(advisories, [name for name in packages if name not in listed])


def audit(packages: dict[str, str]) -> str:
    """What was audited by what, in a sentence. Raises UsageError naming every package with an advisory."""
    canary = ask(CANARY)
    database = canary is not None and bool(canary.advisories)
    if database:
        result, source = ask(packages), "pip-audit's database"
        if result is None:
            raise UsageError("pip-audit knew a release with an advisory and then failed: run it again")
    else:
        result, source = review(packages, LIST.read_text(encoding="utf-8")), f"the list reviewed by hand in {LIST.name}"
    if result.advisories:
        listed = "; ".join(f"{name} has {', '.join(ids)}" for name, ids in result.advisories.items())
        raise UsageError(f"by {source}: {listed}; install newer releases")
    reach = "" if database else "pip-audit is not installed or its database is out of reach. "
    unaudited = f" Not in it, so not audited: {', '.join(result.unknown)}." if result.unknown else ""
    return f"{reach}{len(packages) - len(result.unknown)} of {len(packages)} packages pass {source}.{unaudited}"


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    if arguments:
        raise UsageError("python -m tools.audit takes no arguments")
    print(audit(installed()))


if __name__ == "__main__":
    entry(main)
