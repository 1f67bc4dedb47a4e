"""Explainers to compare: each interpreter's run with its scores clip by clip, its recordings and its checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from models.errors import UsageError
from recipes.runs.places import IDENTITY
from recipes.runs.results import column, condition, read_json, read_rows, result_folders, run_name
from recipes.scoring.scores import AVERAGED, OF_CLASSIFIER
from recipes.scoring.statistics import bootstrap_interval

NOT_COMPARED = (*OF_CLASSIFIER, "fa_raw_cosine", "split_db")
"""The classifier's own scores, the FocalNet paper's variant of FA, and how exactly a method splits the input."""
COMPARED = tuple(key for key in AVERAGED if key not in NOT_COMPARED)
SETTING = ("axis", "value", "layer")
"""The columns that say at which setting of a check a mean was taken."""


@dataclass(frozen=True)
class Method:
    """One explainer, on the clips of one group: one classifier under one contamination.

    facts: its metrics.json. columns: score -> values [clips], sorted by the clips' ids. recordings: the recording of
    every clip. checks: for each summary of a check its interval; settings: the means at every setting, as rows of
    checks.csv. shared: by name, what all methods of a group must have in common where they have it.
    """

    facts: dict
    group: str
    columns: dict[str, np.ndarray]
    recordings: list[str]
    checks: dict[str, dict]
    settings: list[dict]
    shared: dict[str, object]

    @property
    def name(self) -> str:
        return run_name(self.facts)


def load_methods(runs: Sequence[Path]) -> list[Method]:
    """Every interpreter's run in the folders, with its contaminations; classifiers' own runs are passed over.

    Raises UsageError when there is none, and for a run without its clips, its recordings or the clips of a check.
    """
    run_of_folder = {}
    for run in runs:
        for folder in result_folders(run):
            run_of_folder[folder] = run
    methods = []
    for folder, run in run_of_folder.items():
        facts = read_json(folder / "metrics.json")
        if facts["interpreter"]:
            methods.append(_load_method(run, folder, facts))
    if not methods:
        raise UsageError("none of the folders holds a run of interpret.py: give some, such as results/lmac/1234")
    return methods


def _load_method(run: Path, folder: Path, facts: dict) -> Method:
    """The method whose results lie in `folder`, which is `run` or one of its contaminations."""
    parts = [folder]
    if "folds" in facts:
        # scores beside those of a cross-validation have their parts inside its folds
        root = run if any(run.glob("fold*")) else run.parent
        parts = [fold / folder.relative_to(root) for fold in sorted(root.glob("fold*"))]
    part_facts = [read_json(part / "metrics.json") for part in parts]
    facts["interpreter"]["seconds_per_clip"] = _mean_cost(part_facts)
    rows = _clip_rows(run, parts)
    if "acc" not in rows[0]:
        raise UsageError(
            f"{folder} has a row for each of several classes of a clip, which is not compared: leave it out"
        )
    recording_of = _recordings(run)
    checks, settings, checked = _load_checks(folder, run_name(facts), recording_of, part_facts)
    shared = {
        "clips": column(rows, "id"),
        "weights of the classifier": column(column(part_facts, "classifier"), "sha256"),
        "draws of what is mixed in": _draws(parts),
    }
    contents = _contents(parts, shared["clips"])
    if contents is not None:
        shared["sounds or labels of the clips"] = contents
    columns = {}
    for key in ("acc", *COMPARED):
        if key in rows[0]:
            columns[key] = np.array(column(rows, key), dtype=float)
    recordings = [recording_of[clip] for clip in column(rows, "id")]
    return Method(facts, _group_name(facts, len(parts)), columns, recordings, checks, settings, shared | checked)


def _group_name(facts: dict, folds: int) -> str:
    name = f"{facts['classifier']['experiment']}, {condition(facts)}"
    return f"{name}, {folds} folds" if folds > 1 else name


def _mean_cost(part_facts: Sequence[dict]) -> float | None:
    """Mean seconds that explaining a clip took; None where a fold does not tell."""
    costs = [facts["interpreter"].get("seconds_per_clip") for facts in part_facts]
    return None if None in costs else float(np.mean(costs))


def _clip_rows(run: Path, parts: Sequence[Path]) -> list[dict[str, str]]:
    """The rows of all parts' clips.csv, sorted by the clips' ids."""
    rows = []
    for part in parts:
        if not (part / "clips.csv").is_file():
            raise UsageError(f"{part} has no clips.csv: run interpret.py again, or leave {run} out")
        rows += read_rows(part / "clips.csv")
    return sorted(rows, key=lambda row: row["id"])


def _draws(parts: Sequence[Path]) -> list[str]:
    """What each part's draws.csv says; clean clips have none."""
    texts = []
    for part in parts:
        if (part / "draws.csv").is_file():
            texts.append((part / "draws.csv").read_text(encoding="utf-8"))
    return texts


def _contents(parts: Sequence[Path], ids: Sequence[str]) -> list[list[str]] | None:
    """Label and content hash of the sound file of each clip; None for runs of older versions, which kept none."""
    known: dict[str, list[str]] = {}
    for part in parts:
        for folder in (part, part.parent):  # a contamination's scores lie inside the run's folder
            if (folder / IDENTITY).is_file():
                known |= read_json(folder / IDENTITY)["clips"]["test"]
                break
    return [known[name] for name in ids] if set(ids) <= known.keys() else None


def _recordings(run: Path) -> dict[str, str]:
    """The recording that every clip of a run was cut from, by the clip's id."""
    manifests = [*run.glob("manifest.csv"), *run.glob("fold*/manifest.csv"), *run.parent.glob("manifest.csv")]
    manifests += run.parent.glob(f"fold*/{run.name}/manifest.csv")
    rows = []
    for manifest in manifests:
        rows += read_rows(manifest)
    if not rows or "recording" not in rows[0]:
        raise UsageError(f"{run} has no manifest.csv with recordings: run interpret.py again, or leave it out")
    return {row["id"]: row["recording"] for row in rows}


def _load_checks(
    folder: Path, method: str, recording_of: dict[str, str], part_facts: Sequence[dict]
) -> tuple[dict, list[dict], dict]:
    """What `recipes.checks` has left in a folder: `Method.checks`, `Method.settings`, and additions to `shared`.

    Raises UsageError for a check of another classifier than the scores are of, whose metrics.json are `part_facts`.
    """
    classifiers = [facts["classifier"]["sha256"] for facts in part_facts]
    checks, settings, shared = {}, [], {}
    for path in sorted((folder / "checks").glob("*.json")):
        check = path.stem
        if not path.with_suffix(".csv").is_file():
            raise UsageError(f"{path} has no CSV beside it: make the check again, or remove {path}")
        result, rows = read_json(path), read_rows(path.with_suffix(".csv"))
        if result.get("classifier") and result["classifier"]["sha256"] not in classifiers:
            raise UsageError(
                f"{path} is a check of another classifier than {folder / 'metrics.json'} scores: make the check again, "
                f"or remove {path}"
            )
        ids = [row.pop("id") for row in rows]
        shared[f"clips or steps of the check {check}"] = (ids, result["data"]["steps"])
        for means in result["sweep"]:
            settings += _setting_rows(method, check, means)
        recordings = [recording_of[clip] for clip in ids]
        for summary in rows[0]:
            values = np.array(column(rows, summary), dtype=float)
            checks[f"{check}: {summary}"] = bootstrap_interval(values, recordings)
    return checks, settings, shared


def _setting_rows(method: str, check: str, means: dict) -> list[dict]:
    """One row for every mean of one setting of a check."""
    setting = {"method": method, "check": check}
    for name in SETTING:
        setting[name] = means.get(name, "")
    rows = []
    for score, mean in means.items():
        if score not in SETTING:
            rows.append(setting | {"score": score, "mean": mean})
    return rows


def check_comparable(methods: Sequence[Method]) -> None:
    """Raise UsageError where methods of one group differ in what they must share, or have one name."""
    for first, second in combinations(methods, 2):
        for fact in first.shared.keys() & second.shared.keys():
            if second.shared[fact] != first.shared[fact]:
                names = f"{first.name} and {second.name} ({first.group})"
                raise UsageError(f"{names} have different {fact}: score them alike, or compare them apart")
        if first.name == second.name:
            raise UsageError(f"{first.name} ({first.group}) is there twice: drop one, or give it another --experiment")
