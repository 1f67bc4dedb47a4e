"""The tables of docs/reliability.md, from what the tools kills, faults, fuzz and load measured.

    python -m tools.reliability

Each of these tools says in its own file how it is run; its JSON lies in docs/results/reliability.
"""

import argparse
import json

from recipes.report.markdown import fill_tables, markdown_table
from recipes.system.entry import entry
from recipes.system.files import write_atomically
from tools.runner import ROOT

RESULTS = ROOT / "docs" / "results" / "reliability"
DOCUMENT = ROOT / "docs" / "reliability.md"
MARKUP = "\\`*_[]|<>&$"
ENTITIES = "|<>&$"


def load() -> dict[str, dict]:
    """What every tool measured, by the tool's file name ("kills", "data", "fuzz", "load")."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def fault_table(measured: dict[str, dict]) -> str:
    """What was injected, what came of it, and what was lost or wrong."""
    rows = [_kill_row(script, kills) for script, kills in measured["kills"].items()]
    rows.append(_rule_row("bad sound files and names", measured["data"]["sounds"]))
    rows.append(_rule_row("bad metadata", measured["data"]["tables"]))
    rows.append(_fuzz_row("sound files changed at random", measured["fuzz"]["sounds"]))
    rows.append(_fuzz_row("metadata changed at random", measured["fuzz"]["tables"]))
    return markdown_table(["fault", "injected", "outcome", "lost or wrong"], rows)


def _kill_row(script: str, kills: dict) -> list[str]:
    wrong = kills["half_written"] + kills["different"] + kills["leftovers"]
    outcome = f"{kills['runs_resumed']} runs resumed, {kills['runs_identical']} identical to the bit"
    return [f"kill -9 of {script}.py ({_counted(kills['phases'])})", str(kills["kills"]), outcome, _listed(wrong)]


def _rule_row(title: str, cases: list[dict]) -> list[str]:
    outcomes = [case["outcome"] for case in cases]
    counts = {outcome: outcomes.count(outcome) for outcome in ("read", "refused")}
    wrong = [case["fault"] for case in cases if not case["as_ruled"]]
    return [title, str(len(cases)), f"{_counted(counts)}, each by its rule below", _listed(wrong)]


def _fuzz_row(title: str, cases: dict) -> list[str]:
    counts = {outcome: cases[outcome] for outcome in ("read", "refused")}
    wrong = cases["faults"] + ["a sentence of several lines"] * cases.get("told in several lines", 0)
    return [title, str(cases["cases"]), _counted(counts), _listed(wrong)]


def _listed(faults: list) -> str:
    return f"{len(faults)}: {', '.join(map(str, faults))}" if faults else "none"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def rule_table(measured: dict[str, dict]) -> str:
    """What is done with which data: every rule, and the faults that it was tried on."""
    faults: dict[str, list[str]] = {}
    outcomes: dict[str, set[str]] = {}
    for part in measured["data"].values():
        for case in part:
            faults.setdefault(case["rule"], []).append(case["fault"])
            outcomes.setdefault(case["rule"], set()).add(case["outcome"])
    rows = [[rule, _escaped(", ".join(faults[rule])), " or ".join(sorted(outcomes[rule]))] for rule in faults]
    return markdown_table(["rule", "tried on", "outcome"], rows)


def _escaped(text: str) -> str:
    """Text that a Markdown table shows as it is, whatever a hostile name holds."""
    shown = []
    for character in text:
        if character in ENTITIES:
            shown.append(f"&#{ord(character)};")
        elif character in MARKUP:
            shown.append(f"\\{character}")
        else:
            shown.append(character)
    return "".join(shown)


def load_table(measured: dict[str, dict]) -> str:
    """Memory over a run of many clips."""
    keys = ("clips", "minutes", "own_mib_settled", "own_mib_end", "mib_per_1000_clips")
    rows = [[recipe, *(str(facts[key]) for key in keys)] for recipe, facts in measured["load"].items()]
    header = ["recipe", "clips", "minutes", "MiB after a tenth", "MiB at the end", "MiB per 1000 clips more"]
    return markdown_table(header, rows)


def fill(text: str, measured: dict[str, dict]) -> str:
    """The document with its tables replaced."""
    tables = {"faults": fault_table(measured), "rules": rule_table(measured), "load": load_table(measured)}
    return fill_tables(text, tables)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    argparse.ArgumentParser(prog="python -m tools.reliability").parse_args(arguments)
    write_atomically(DOCUMENT, fill(DOCUMENT.read_text(encoding="utf-8"), load()).encode())


if __name__ == "__main__":
    entry(main)
