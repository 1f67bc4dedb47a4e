"""Where the files of a run lie, by what its recipe says. Imports nothing that takes time."""

from collections.abc import Mapping
from pathlib import Path

from recipes.data.kinds import SNR_DB

PUBLISHED = "paper_"
"""What the experiments of hparams/paper begin with: that of `hparams/paper/NAME.yaml` is `paper_NAME`."""

IDENTITY = "identity.json"
"""The file in a run's folder that says what the run reads: `recipes.runs.identity.Identity`."""

ON_OTHER_CLIPS, IN_OTHER_PRECISION = "on_", "in_"
"""How the folder inside a run is called that holds scores on other test clips than its own, or in another precision."""


def run_folder(values: Mapping, split_index: int | None = None) -> Path:
    """`<output_folder>/<experiment>/<seed>`, or a `fold<k>` folder inside it during cross-validation."""
    folder = Path(values["output_folder"]) / values["experiment"] / str(values["seed"])
    return folder if split_index is None else folder / f"fold{split_index + 1}"


def recipe_of(experiment: str) -> str:
    """The recipe whose experiment is called so, as one types it, where the recipe was not given another name."""
    if experiment.startswith(PUBLISHED):
        return f"hparams/paper/{experiment.removeprefix(PUBLISHED)}.yaml"
    return f"hparams/{experiment}.yaml"


def classifier_path(values: Mapping, fold: int | None) -> Path:
    """The classifier's bundle, or during cross-validation that of `train.py --folds=all` for the same fold."""
    path = Path(values["classifier"])
    return path if fold is None else path.parent / f"fold{fold + 1}" / path.name


def run_of_fold(values: Mapping, key: str, folder: Path) -> Path | None:
    """The run that a recipe's key names, or the part of it that is of the same fold as `folder`."""
    named = values.get(key)
    return None if named is None else Path(named) / folder.relative_to(run_folder(values))


def first_fold(values: Mapping) -> int | None:
    """The fold that a run begins with: 0 during cross-validation, None for the three lists."""
    return 0 if values["folds"] == "all" else None


def contaminations(values: Mapping) -> list[str]:
    """The kinds of contamination a recipe scores on, one or a list in the YAML."""
    kinds = values["contamination"]
    return kinds if isinstance(kinds, list) else [kinds]


def part_folder(folder: Path, kind: str, snr_db: float | None) -> Path:
    """Where the scores under one contamination go: mixture, or mixture_0dB at an SNR other than the published one."""
    if kind == "clean":
        return folder
    return folder / (kind if snr_db in (None, SNR_DB[kind]) else f"{kind}_{snr_db:g}dB")


def is_bundle(path: Path) -> bool:
    """Whether a folder holds a bundle; its files are not read."""
    return (path / "bundle.json").is_file()
