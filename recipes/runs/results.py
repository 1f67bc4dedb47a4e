"""Reading what runs have left: their metrics.json, their clips, and what people call them."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.errors import UsageError
from recipes.runs.places import IN_OTHER_PRECISION, ON_OTHER_CLIPS, is_bundle


def result_folders(run: Path) -> list[Path]:
    """As `own_results`, for a run that must have some. Raises UsageError when there are none."""
    folders = own_results(run)
    if not folders:
        raise UsageError(f"{run} holds no metrics.json: give a run's folder such as results/focalnet/1234")
    return folders


def own_results(run: Path) -> list[Path]:
    """The folders of a run that hold results of its own: the run and its contaminations.

    Its folds are parts of its results. Scores on other test clips or in another precision lie beside them and are not
    its own: give their folder for a run's. An adopted network has no test clips of its own, so that all its scores are.
    """
    folders = _scored_inside(run)
    if not folders and _is_adopted(run):
        for beside in sorted(run.glob(f"{ON_OTHER_CLIPS}*/")):
            folders += _scored_inside(beside)
    return folders


def _scored_inside(folder: Path) -> list[Path]:
    """The folder and those of its contaminations, where each holds a metrics.json."""
    folders = []
    for path in [*folder.glob("metrics.json"), *sorted(folder.glob("*/metrics.json"))]:
        inside = path.parent != folder
        if not (inside and path.parent.name.startswith(("fold", ON_OTHER_CLIPS, IN_OTHER_PRECISION))):
            folders.append(path.parent)
    return folders


def _is_adopted(run: Path) -> bool:
    """Whether a run's folder holds a bundle that no recipe trained there: a released network."""
    has_bundle = is_bundle(run / "interpreter") or is_bundle(run / "classifier")
    return has_bundle and not (run / "hyperparams.yaml").is_file()


def read_json(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by the names of its columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def column(rows: Sequence[Mapping], key: str) -> list:
    """What all rows have under a key, in their order."""
    return [row[key] for row in rows]


def run_name(result: dict) -> str:
    """What tables call an interpreter's run, given its metrics.json: "modulation, q = 0.9"."""
    quantile = result["interpreter"].get("quantile")
    return result["experiment"] if quantile is None else f"{result['experiment']}, q = {quantile}"


NAMES = {
    "ast": "AST",
    "attention": "attention map",
    "control_loudest": "loudest bins (control)",
    "control_matched": "matched mask (control)",
    "control_nothing": "nothing (control)",
    "control_random": "random bins (control)",
    "control_whole": "whole input (control)",
    "grad_cam": "Grad-CAM",
    "gradient": "gradient",
    "gradient_shap": "Gradient SHAP",
    "guided_grad_cam": "Guided Grad-CAM",
    "input_x_gradient": "input × gradient",
    "integrated_gradients": "integrated gradients",
    "kernel_shap": "Kernel SHAP",
    "l2i": "L2I",
    "lime": "LIME",
    "lmac": "L-MAC",
    "lmac_td": "LMAC-TD",
    "lmac_zs": "LMAC-ZS",
    "modulation": "modulation map",
    "occlusion": "occlusion",
    "piq": "PIQ",
    "smoothgrad": "SmoothGrad",
}
"""Readable names of recipes; a longer recipe's name adds what follows: "lmac_focalnet" is "L-MAC, focalnet"."""


def method_name(interpreter: dict) -> str:
    """A readable name for the interpreter of a metrics.json: "Grad-CAM, q = 0.9"."""
    recipe, quantile = interpreter["recipe"], interpreter.get("quantile")
    longest = ""
    for name in NAMES:
        if (recipe == name or recipe.startswith(f"{name}_")) and len(name) > len(longest):
            longest = name
    if longest:
        rest = recipe[len(longest) :].replace("_", " ").strip()
        name = f"{NAMES[longest]}, {rest}" if rest else NAMES[longest]
    else:
        name = recipe.replace("_", " ")
    return name if quantile is None else f"{name}, q = {quantile}"


def condition(result: dict) -> str:
    """What is mixed into the clips of a run, and how loud it is: "clean", or "mixture, 12.0 dB"."""
    contamination = result["data"]["contamination"]
    if isinstance(contamination, str):
        return contamination
    return f"{contamination['kind']}, {contamination['snr_db']:.1f} dB"
