"""The leaderboard: explainers of one classifier on the same clips, with intervals, significance and cost.

python -m recipes.compare results/lmac/1234 results/control_*/1234 --out=docs/results/leaderboard \
    --page=docs/leaderboard.md --reference control_loudest control_matched

Takes runs' folders, with their contaminations and folds, and groups them by classifier and contamination. Intervals are
percentile bootstraps over recordings, because clips that were cut from one recording are no independent witnesses. Two
methods are compared clip by clip with a permutation test, whose null hypothesis is that each recording's differences
might as well have the other sign; p-values are corrected by Holm's method over all pairs of a group and score. Clips on
which a score is undefined are left out of it; n tells how many remain.

Writes leaderboard.json (all that the page shows), scores.csv, pairs.csv, checks.csv (what the checks found at every
noise, layer and shift) and an SVG a group, and fills the page between
`<!-- leaderboard -->` and `<!-- /leaderboard -->`. With --reference, recipes of controls, each method is held against
the run of them which keeps the most like share of the plane, unless one keeps 1.5 times as much as the other or more;
`control_matched` serves the method alone whose mask values it deals out.
"""

import argparse
import csv
import itertools
import json
import math
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interpreters.controls import Constant, Ranked, Reordered
from models.errors import UsageError
from recipes.config.recipe import entry
from recipes.report.figures import encode, intervals_figure
from recipes.scoring.scores import NAMES
from recipes.system.files import csv_of, write_atomically
from recipes.tables import condition, label, markdown, metrics_of, number, place

RESAMPLES = 9999
DRAWS_PER_PAIR = 1000  # Holm multiplies the least p-value that can be found by the number of pairs
BLOCK = 2000
LEVEL = 0.05
LIKE, SAME = 1.5, 1.001  # two that keep less than so many times as much as the other keep alike, keep the same
PLACE = ("axis", "value", "layer")  # of a setting of a check
CONTROLS = tuple(one.__name__ for one in (Constant, Ranked, Reordered))
SCORES = tuple(name for name in NAMES if name not in ("acc", "fa_raw_cosine"))
DIRECTION = dict.fromkeys(SCORES, 1) | {"ad": -1, "comp": -1, "kept": 0}
EMPTY_PAGE = "# Leaderboard\n\n<!-- leaderboard -->\n<!-- /leaderboard -->\n"


@dataclass(frozen=True)
class Method:
    """One explainer on one group of clips.

    facts: its metrics.json. columns: score -> values [clips]. recordings: the recording of every clip. checks: what
    `recipes.checks` found, its interval by score; settings: the mean at every setting, as rows of checks.csv. same:
    what the methods of a group must share where they have it, by name.
    """

    facts: dict
    group: str
    columns: dict[str, np.ndarray]
    recordings: list[str]
    checks: dict[str, dict]
    settings: list[dict]
    same: dict[str, object]

    @property
    def name(self) -> str:
        return label(self.facts)


def load_methods(runs: Sequence[Path]) -> list[Method]:
    """Every interpreter's run in the folders; classifiers' own runs are passed over. Raises UsageError for none."""
    folders = {path.parent: run for run in runs for path in metrics_of(run) if not path.parent.name.startswith("fold")}
    methods = [_load(run, folder) for folder, run in folders.items() if _json(folder / "metrics.json")["interpreter"]]
    if not methods:
        raise UsageError("none of the folders holds a run of interpret.py: give some, such as results/lmac/1234")
    return methods


def _load(run: Path, folder: Path) -> Method:
    facts, parts = _json(folder / "metrics.json"), [folder]
    if "folds" in facts:
        parts = [fold / folder.relative_to(run) for fold in sorted(run.glob("fold*"))]
    for part in parts:
        if not (part / "clips.csv").is_file():
            raise UsageError(f"{part} has no clips.csv: run interpret.py again, or leave {run} out")
    rows = sorted((row for part in parts for row in _rows(part / "clips.csv")), key=lambda row: row["id"])
    recordings = _recordings(run)
    each = [_json(part / "metrics.json") for part in parts]
    cost = [one["interpreter"].get("seconds_per_clip") for one in each]
    facts["interpreter"]["seconds_per_clip"] = None if None in cost else float(np.mean(cost))
    same = {
        "clips": [row["id"] for row in rows],
        "weights of the classifier": [one["classifier"]["sha256"] for one in each],
        "draws of what is mixed in": [path.read_text("utf-8") for part in parts for path in part.glob("draws.csv")],
    }
    checks, settings = {}, []
    for path in sorted((folder / "checks").glob("*.json")):
        if not path.with_suffix(".csv").is_file():
            raise UsageError(f"{path} has no CSV beside it: make the check again, or remove {path}")
        found, told = _rows(path.with_suffix(".csv")), _json(path)
        ids = [row.pop("id") for row in found]
        same[f"clips or steps of the check {path.stem}"] = (ids, told["data"]["steps"])
        for row in told["sweep"]:
            where = {"method": label(facts), "check": path.stem} | {key: row.pop(key, "") for key in PLACE}
            settings += [where | {"score": name, "mean": mean} for name, mean in row.items()]
        clusters = [recordings[one] for one in ids]
        for name in found[0]:
            checks[f"{path.stem}: {name}"] = interval(np.array([float(row[name]) for row in found]), clusters)
    group = f"{facts['classifier']['experiment']}, {condition(facts)}" + f", {len(parts)} folds" * (len(parts) > 1)
    columns = {name: np.array([float(row[name]) for row in rows]) for name in ("acc", *SCORES) if name in rows[0]}
    return Method(facts, group, columns, [recordings[row["id"]] for row in rows], checks, settings, same)


def _recordings(run: Path) -> dict[str, str]:
    """The recording that every clip of a run was cut from, by the clip's id."""
    found = (*run.glob("manifest.csv"), *run.glob("fold*/manifest.csv"), *run.parent.glob("manifest.csv"))
    rows = [row for path in found for row in _rows(path)]
    if not rows or "recording" not in rows[0]:
        raise UsageError(f"{run} has no manifest.csv with recordings: run interpret.py again, or leave it out")
    return {row["id"]: row["recording"] for row in rows}


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def check_group(methods: Sequence[Method]) -> None:
    """Raise UsageError where a group's methods do not share what they must, or share a name."""
    for first, second in itertools.combinations(methods, 2):
        for what in first.same.keys() & second.same.keys():
            if second.same[what] != first.same[what]:
                names = f"{first.name} and {second.name} ({first.group})"
                raise UsageError(f"{names} have different {what}: score them alike, or compare them apart")
        if first.name == second.name:
            raise UsageError(f"{first.name} ({first.group}) is there twice: drop one, or give it another --experiment")


def sums(values: np.ndarray, recordings: Sequence[str]) -> np.ndarray:
    """Values [clips, ...] added up over the clips of each recording, in the order in which recordings appear."""
    place = {one: k for k, one in enumerate(dict.fromkeys(recordings))}
    total = np.zeros((len(place), *values.shape[1:]))
    np.add.at(total, [place[one] for one in recordings], values)
    return total


def interval(values: np.ndarray, recordings: Sequence[str], seed: int = 0) -> dict:
    """mean, low and high of its 95 % bootstrap interval, and n, of those of the values [clips] that are not NaN."""
    there = ~np.isnan(values)
    if not there.any():
        return {"mean": None, "low": None, "high": None, "n": 0}
    kept = list(itertools.compress(recordings, there))
    pair = sums(np.stack([values[there], np.ones(there.sum())], axis=1), kept)
    rng = np.random.default_rng(seed)
    total, count = pair[rng.integers(len(pair), size=(RESAMPLES, len(pair)))].sum(axis=1).T
    low, high = np.quantile(total / count, (0.025, 0.975)).tolist()
    return {"mean": float(values[there].mean()), "low": low, "high": high, "n": int(there.sum())}


def sign_flip_test(differences: np.ndarray, recordings: Sequence[str], seed: int = 0) -> np.ndarray:
    """Two-sided p-values [m] of the mean of paired differences [clips, m]; NaN counts as no pair."""
    given, rng = sums(np.nan_to_num(differences), recordings), np.random.default_rng(seed)
    observed, extreme = np.abs(given.sum(axis=0)) * (1 - 1e-9), np.ones(given.shape[1])
    draws = max(RESAMPLES, DRAWS_PER_PAIR * given.shape[1])
    for start in range(0, draws, BLOCK):
        signs = rng.choice((-1.0, 1.0), (min(BLOCK, draws - start), len(given)))
        extreme += (np.abs(signs @ given) >= observed).sum(axis=0)
    return extreme / (draws + 1)


def holm(p: np.ndarray) -> np.ndarray:
    """P-values [m] corrected for looking at all m (S. Holm, 1979)."""
    order = p.argsort()
    return np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)[order.argsort()]


def compare_pairs(methods: Sequence[Method]) -> list[dict]:
    """first, second, score, difference of their means over shared clips, and p, for all pairs and scores."""
    rows = []
    for score in SCORES:
        pairs = list(itertools.combinations([one for one in methods if DIRECTION[score] and score in one.columns], 2))
        if pairs:
            differences = np.stack([first.columns[score] - second.columns[score] for first, second in pairs], axis=1)
            means = np.ma.masked_invalid(differences).mean(axis=0).filled(np.nan).tolist()
            p_values = holm(sign_flip_test(differences, methods[0].recordings)).tolist()
            for (first, second), mean, p in zip(pairs, means, p_values, strict=True):
                names = {"first": first.name, "second": second.name}
                rows.append(names | {"score": score, "difference": mean, "p": p})
    return rows


def summarize(methods: Sequence[Method], pairs: Sequence[dict], reference: Collection[str] = ()) -> dict:
    """One group of leaderboard.json: of every method its facts, scores, leads, and what it has over a control.

    A method leads in a score when its mean is the best of those that are no controls, or not significantly different
    from the best.
    """
    found = {
        (a, b, pair["score"]): (sign * pair["difference"], pair["p"])
        for pair in pairs
        for sign, a, b in ((1, pair["first"], pair["second"]), (-1, pair["second"], pair["first"]))
        if not math.isnan(pair["difference"])
    }
    rows = {
        method.name: {
            "name": method.name,
            **{key: method.facts["interpreter"].get(key) for key in ("recipe", "class", "seconds_per_clip")},
            **{key: method.facts[key] for key in ("seed", "commit", "device")},
            "scores": {
                score: interval(method.columns[score], method.recordings) for score in SCORES if score in method.columns
            },
            "leads": [],
            "checks": method.checks,
        }
        for method in methods
    }
    for score in SCORES:
        ranked = [
            row
            for row in rows.values()
            if DIRECTION[score] and row["scores"].get(score, {}).get("n") and row["class"] not in CONTROLS
        ]
        best = max(ranked, key=lambda row: DIRECTION[score] * row["scores"][score]["mean"], default=None)
        for row in ranked:
            if found.get((row["name"], best["name"], score), (0, 1))[1] >= LEVEL:
                row["leads"].append(score)
    controls = [row for row in rows.values() if row["recipe"] in reference]
    for row in rows.values():
        if row["class"] in CONTROLS:
            continue
        alike = {_unlikeness(row, one): one["name"] for one in controls if one is not row and _is_fair(one, row)}
        if alike:
            control = alike[min(alike)]
            against = {
                score: found[row["name"], control, score] for score in SCORES if (row["name"], control, score) in found
            }
            row["against"] = {"control": control, "scores": against}
    clips, accuracy = len(methods[0].columns["acc"]), float(methods[0].columns["acc"].mean())
    return {"group": methods[0].group, "clips": clips, "acc": accuracy, "methods": list(rows.values())}


def _is_fair(control: dict, row: dict) -> bool:
    """Whether the control keeps as much as the method; one that deals out a method's values, just as much as that."""
    return _unlikeness(control, row) < (SAME if control["class"] == Reordered.__name__ else LIKE)


def _unlikeness(row: dict, other: dict) -> float:
    """How many times as much of the plane the one keeps as the other, 1 or more."""
    low, high = sorted(one["scores"]["kept"]["mean"] for one in (row, other))
    return high / low if low else math.inf


def page(board: list[dict], pictures: str) -> str:
    """The leaderboard as Markdown; pictures: path from the page to the folder of the SVGs."""
    parts = []
    for group in board:
        methods = group["methods"]
        scores = [score for score in SCORES if any(score in row["scores"] for row in methods)]
        parts.append(f"## {group['group']}\n\n{group['clips']} clips, accuracy {number(group['acc'])}.")
        rows = [
            [row["name"], *(_cell(row, score, group["clips"]) for score in scores), number(row["seconds_per_clip"])]
            for row in methods
        ]
        parts.append(markdown(["method", *(NAMES[score] for score in scores), "s / clip"], rows))
        held = [row for row in methods if row.get("against", {}).get("scores")]
        if held:
            rows = [
                [
                    row["name"],
                    row["against"]["control"],
                    *(_difference(row["against"]["scores"].get(score)) for score in scores),
                ]
                for row in held
            ]
            parts.append(markdown(["method less control", "control", *(NAMES[score] for score in scores)], rows))
        checks = list(dict.fromkeys(name for row in methods for name in row["checks"]))
        if checks:
            clips = {one["n"] for row in methods for one in row["checks"].values()}
            parts.append(f"Checks on {min(clips)} to {max(clips)} of the clips.")
            rows = [
                [row["name"], *(_told(row["checks"].get(name)) for name in checks)] for row in methods if row["checks"]
            ]
            parts.append(markdown(["check", *checks], rows))
        parts.append(f"![{group['group']}]({pictures}/{_slug(group)}.svg)")
    return "\n\n".join(parts)


def _cell(row: dict, score: str, clips: int) -> str:
    one = row["scores"].get(score)
    return _told(one, score in row["leads"]) + f", n {one['n']}" * (0 < one["n"] < clips) if one else ""


def _told(one: dict | None, bold: bool = False) -> str:
    """A mean and its interval; nothing where it is not defined."""
    if not one or not one["n"]:
        return ""
    mean = f"**{number(one['mean'])}**" if bold else number(one["mean"])
    return f"{mean} [{number(one['low'])}, {number(one['high'])}]"


def _difference(found: Sequence[float] | None) -> str:
    return "" if found is None else f"{found[0]:+.3g}" + "*" * (found[1] < LEVEL)


def _slug(group: dict) -> str:
    return re.sub(r"[^\w.-]+", "_", group["group"])


def write_leaderboard(runs: Sequence[Path], out: Path, page_file: Path, reference: Collection[str] = ()) -> list[dict]:
    """Compare, and write everything; returns the groups of leaderboard.json. Raises UsageError as its parts."""
    groups: dict[str, list[Method]] = {}
    for method in load_methods(runs):
        groups.setdefault(method.group, []).append(method)
    for methods in groups.values():
        check_group(methods)
    known = {method.facts["interpreter"]["recipe"] for methods in groups.values() for method in methods}
    if missing := sorted({*reference} - known):
        raise UsageError(
            f"--reference={missing[0]} is the recipe of none of the runs; theirs are {', '.join(sorted(known))}"
        )
    pairs = {name: compare_pairs(methods) for name, methods in groups.items()}
    board = [summarize(methods, pairs[name], reference) for name, methods in sorted(groups.items())]
    for group in board:
        write_atomically(out / f"{_slug(group)}.svg", encode(intervals_figure(group, NAMES), "svg"))
    scores = [
        {"group": group["group"], "method": row["name"], "score": score, **one}
        for group in board
        for row in group["methods"]
        for score, one in row["scores"].items()
    ]
    write_atomically(out / "scores.csv", csv_of(scores))
    write_atomically(
        out / "pairs.csv", csv_of([{"group": name} | row for name in sorted(pairs) for row in pairs[name]])
    )
    settings = [row for name in sorted(groups) for method in groups[name] for row in method.settings]
    write_atomically(out / "checks.csv", csv_of(settings))
    write_atomically(out / "leaderboard.json", (json.dumps(board, indent=1) + "\n").encode())
    text = page_file.read_text(encoding="utf-8") if page_file.exists() else EMPTY_PAGE
    filled = place(text, {"leaderboard": page(board, os.path.relpath(out, page_file.parent))})
    write_atomically(page_file, filled.encode())
    return board


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m recipes.compare", allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path, help="folders such as results/lmac/1234")
    parser.add_argument("--out", type=Path, required=True, help="folder of the leaderboard")
    parser.add_argument("--page", type=Path, help="Markdown file to fill; leaderboard.md in the folder by default")
    parser.add_argument(
        "--reference", nargs="+", default=[], help="recipes of the controls to hold every method against"
    )
    given = parser.parse_args(arguments)
    page_file = given.page or given.out / "leaderboard.md"
    write_leaderboard(given.runs, given.out, page_file, given.reference)
    print(f"leaderboard: {page_file}")


if __name__ == "__main__":
    entry(main)
