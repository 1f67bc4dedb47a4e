"""The tables of docs/reliability.md, from what the harnesses measured.

    python -m tools.reliability

Each harness says in its own file how it is run; it leaves a JSON in docs/results/reliability.
"""

import argparse
import json

from recipes.config.recipe import entry
from recipes.report.markdown import fill_tables, markdown_table
from recipes.system.files import write_atomically
from recipes.tables import ROOT

RESULTS = ROOT / "docs" / "results" / "reliability"
DOCUMENT = ROOT / "docs" / "reliability.md"


def load() -> dict[str, dict]:
    """What every harness left, by its name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def _lost(faults: list) -> str:
    return f"{len(faults)}: {', '.join(map(str, faults))}" if faults else "none"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def fault_table(found: dict[str, dict]) -> str:
    """What was injected, what came of it, and what was lost or wrong."""
    rows = []
    for name, kills in found["kills"].items():
        wrong = kills["half_written"] + kills["different"] + kills["leftovers"]
        outcome = f"{kills['runs_resumed']} runs resumed, {kills['runs_identical']} identical to the bit"
        rows.append([f"kill -9 of {name}.py ({_counted(kills['phases'])})", str(kills["kills"]), outcome, _lost(wrong)])
    for part, what in (("sounds", "bad sound files and names"), ("tables", "bad metadata")):
        cases = found["data"][part]
        counts = {word: sum(one["outcome"] == word for one in cases) for word in ("read", "refused")}
        wrong = [one["fault"] for one in cases if not one["as_ruled"]]
        rows.append([what, str(len(cases)), f"{_counted(counts)}, each by its rule below", _lost(wrong)])
    for part, what in (("sounds", "sound files changed at random"), ("tables", "metadata changed at random")):
        cases = found["fuzz"][part]
        counts = {word: cases[word] for word in ("read", "refused")}
        wrong = cases["faults"] + ["a sentence of several lines"] * cases.get("told in several lines", 0)
        rows.append([what, str(cases["cases"]), _counted(counts), _lost(wrong)])
    return markdown_table(["fault", "injected", "outcome", "lost or wrong"], rows)


def rule_table(found: dict[str, dict]) -> str:
    """What is done with which data: every rule, and the faults that it was tried on."""
    cases = [one for part in found["data"].values() for one in part]
    rows = []
    for rule in dict.fromkeys(one["rule"] for one in cases):
        ruled = [one for one in cases if one["rule"] == rule]
        faults = ", ".join(one["fault"] for one in ruled)
        rows.append([rule, _cell(faults), " or ".join(sorted({one["outcome"] for one in ruled}))])
    return markdown_table(["rule", "tried on", "outcome"], rows)


def _cell(text: str) -> str:
    """Text that a table shows as it is, whatever a hostile name holds."""
    for character in "\\`*_[]|<>&$":
        text = text.replace(character, f"&#{ord(character)};" if character in "|<>&$" else f"\\{character}")
    return text


def load_table(found: dict[str, dict]) -> str:
    """Memory over a run of many clips."""
    rows = [
        [
            name,
            str(one["clips"]),
            str(one["minutes"]),
            str(one["own_mib_settled"]),
            str(one["own_mib_end"]),
            str(one["mib_per_1000_clips"]),
        ]
        for name, one in found["load"].items()
    ]
    header = ["recipe", "clips", "minutes", "MiB after a tenth", "MiB at the end", "MiB per 1000 clips more"]
    return markdown_table(header, rows)


def fill(text: str, found: dict[str, dict]) -> str:
    """The document with its tables replaced."""
    return fill_tables(text, {"faults": fault_table(found), "rules": rule_table(found), "load": load_table(found)})


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    argparse.ArgumentParser(prog="python -m tools.reliability").parse_args(arguments)
    write_atomically(DOCUMENT, fill(DOCUMENT.read_text(encoding="utf-8"), load()).encode())


if __name__ == "__main__":
    entry(main)
