"""The leaderboard's numbers: which method leads in a score, and what each has over a control that keeps as much."""

import math
from collections.abc import Collection, Sequence
from itertools import combinations

import numpy as np

from interpreters.controls import Constant, Ranked, Reordered
from recipes.runs.methods import COMPARED, Method
from recipes.scoring.scores import NEITHER, SCORES
from recipes.scoring.statistics import bootstrap_interval, holm, sign_flip_test

SIGNIFICANT = 0.05
COMPARABLE_SHARE = 1.5
"""A method is held against a control unless one of the two keeps this many times as much of the plane as the other."""
EQUAL_SHARE = 1.001
"""A control that rearranges one method's mask serves that method only, whose share of the plane is its own."""
CONTROLS = (Constant.__name__, Ranked.__name__, Reordered.__name__)

Differences = dict[tuple[str, str, str], tuple[float, float]]
"""(method, another method, score) -> difference of their means, and its p-value."""


def compare_pairs(methods: Sequence[Method]) -> list[dict]:
    """A row for every pair of methods and every score that has a better end: the difference of means, and its p-value.

    Means are over the clips on which both scores are defined. P-values are corrected over the pairs of a score.
    """
    rows = []
    for score in COMPARED:
        rated = [method for method in methods if score in method.columns]
        if SCORES[score].direction == NEITHER or len(rated) < 2:
            continue
        pairs = list(combinations(rated, 2))
        columns = []
        for first, second in pairs:
            columns.append(first.columns[score] - second.columns[score])
        differences = np.stack(columns, axis=1)
        means = np.ma.masked_invalid(differences).mean(axis=0).filled(np.nan).tolist()
        p_values = holm(sign_flip_test(differences, methods[0].recordings)).tolist()
        for (first, second), mean, p_value in zip(pairs, means, p_values, strict=True):
            row = {"first": first.name, "second": second.name, "score": score, "difference": mean, "p": p_value}
            rows.append(row)
    return rows


def summarize_group(methods: Sequence[Method], pairs: Sequence[dict], references: Collection[str] = ()) -> dict:
    """One group of leaderboard.json: every method with its scores, where it leads, and how it does against a control.

    pairs: from `compare_pairs`. references: recipes of the controls that every method is held against.
    """
    differences = _differences(pairs)
    rows = [_method_row(method) for method in methods]
    competitors = [row for row in rows if row["class"] not in CONTROLS]
    for score in COMPARED:
        for row in _leaders(competitors, score, differences):
            row["leads"].append(score)
    controls = [row for row in rows if row["recipe"] in references]
    for row in competitors:
        control = _closest_control(row, controls)
        if control is not None:
            row["against"] = {"control": control["name"], "scores": _against(row, control, differences)}
    accuracy = methods[0].columns["acc"]
    return {"group": methods[0].group, "clips": len(accuracy), "acc": float(accuracy.mean()), "methods": rows}


def _differences(pairs: Sequence[dict]) -> Differences:
    """The defined differences, each in both directions."""
    differences = {}
    for pair in pairs:
        if not math.isnan(pair["difference"]):
            first, second, score = pair["first"], pair["second"], pair["score"]
            differences[first, second, score] = (pair["difference"], pair["p"])
            differences[second, first, score] = (-pair["difference"], pair["p"])
    return differences


def _method_row(method: Method) -> dict:
    """A method's entry in leaderboard.json, before it is compared."""
    interpreter = method.facts["interpreter"]
    scores = {}
    for score in COMPARED:
        if score in method.columns:
            scores[score] = bootstrap_interval(method.columns[score], method.recordings)
    return {
        "name": method.name,
        "recipe": interpreter.get("recipe"),
        "class": interpreter.get("class"),
        "seconds_per_clip": interpreter.get("seconds_per_clip"),
        "seed": method.facts["seed"],
        "commit": method.facts["commit"],
        "device": method.facts["device"],
        "scores": scores,
        "leads": [],
        "checks": method.checks,
    }


def _leaders(rows: Sequence[dict], score: str, differences: Differences) -> list[dict]:
    """The rows whose mean is the best, or not significantly different from the best."""
    direction = SCORES[score].direction
    rated = []
    for row in rows:
        estimate = row["scores"].get(score, {})
        if estimate.get("n"):
            rated.append(row)
    if direction == NEITHER or not rated:
        return []
    best = max(rated, key=lambda row: direction * row["scores"][score]["mean"])
    leaders = []
    for row in rated:
        _, p_value = differences.get((row["name"], best["name"], score), (0.0, 1.0))
        if p_value >= SIGNIFICANT:
            leaders.append(row)
    return leaders


def _closest_control(row: dict, controls: Sequence[dict]) -> dict | None:
    """The control whose kept share is closest, of equals the last; None where none is comparable."""
    closest, closest_ratio = None, math.inf
    for control in controls:
        ratio = _share_ratio(row, control)
        limit = EQUAL_SHARE if control["class"] == Reordered.__name__ else COMPARABLE_SHARE
        if control is not row and ratio < limit and ratio <= closest_ratio:
            closest, closest_ratio = control, ratio
    return closest


def _share_ratio(first: dict, second: dict) -> float:
    """How many times as much of the plane the one keeps as the other, 1 or more."""
    low, high = sorted((first["scores"]["kept"]["mean"], second["scores"]["kept"]["mean"]))
    return high / low if low else math.inf


def _against(row: dict, control: dict, differences: Differences) -> dict[str, tuple[float, float]]:
    """Every score's difference of a method to its control, with its p-value."""
    against = {}
    for score in COMPARED:
        key = (row["name"], control["name"], score)
        if key in differences:
            against[score] = differences[key]
    return against
