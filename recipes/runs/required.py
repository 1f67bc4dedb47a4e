"""What a run reads beside its recipe, looked for before anything slow is imported or started."""

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

from models.errors import UsageError
from recipes.data.class_names import class_index, names_of_bundle
from recipes.data.folder import require_folder
from recipes.data.kinds import check_contamination
from recipes.data.sound_files import find_sounds
from recipes.runs.places import (
    classifier_path,
    contaminations,
    first_fold,
    is_bundle,
    recipe_of,
    run_folder,
    run_of_fold,
)
from recipes.system.problems import check_all

# the classifier's own map that a method shows, with the modules whose classifiers have one
MAKERS = {"modulation": ("models.focalnet.",), "attention": ("models.vit.", "models.huggingface.", "models.passt.")}
FOREIGN_MODULE = re.compile(r"!(?:new|name):(?!models\.|torch\.|speechbrain\.)")
MOST_NAMED = 3
EFFICIENTAT = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"
CNN14_ESC50 = "https://huggingface.co/speechbrain/cnn14-esc50/resolve/main"
PIQ_ESC50 = "https://huggingface.co/speechbrain/PIQ-ESC50/resolve/main"
PASST = "https://github.com/kkoutini/PaSST/releases/download"
PANNS = "https://zenodo.org/record/3987831/files"
RELEASES = {
    "mn04_as_mAP_432.pt": (f"{EFFICIENTAT}/mn04_as_mAP_432.pt", "4 MB"),
    "mn05_as_mAP_443.pt": (f"{EFFICIENTAT}/mn05_as_mAP_443.pt", "6 MB"),
    "mn10_as_mAP_471.pt": (f"{EFFICIENTAT}/mn10_as_mAP_471.pt", "20 MB"),
    "mn20_as_mAP_478.pt": (f"{EFFICIENTAT}/mn20_as_mAP_478.pt", "72 MB"),
    "mn30_as_mAP_482.pt": (f"{EFFICIENTAT}/mn30_as_mAP_482.pt", "157 MB"),
    "mn40_as_mAP_484.pt": (f"{EFFICIENTAT}/mn40_as_mAP_484.pt", "274 MB"),
    "mn40_as_ext_mAP_487.pt": (f"{EFFICIENTAT}/mn40_as_ext_mAP_487.pt", "274 MB"),
    "dymn04_as.pt": (f"{EFFICIENTAT}/dymn04_as.pt", "8 MB"),
    "dymn10_as.pt": (f"{EFFICIENTAT}/dymn10_as.pt", "42 MB"),
    "dymn20_as.pt": (f"{EFFICIENTAT}/dymn20_as.pt", "160 MB"),
    "dymn20_as_mAP_493.pt": (f"{EFFICIENTAT}/dymn20_as_mAP_493.pt", "160 MB"),
    "passt-s-f128-p16-s10-ap.476-swa.pt": (f"{PASST}/v0.0.1-audioset/passt-s-f128-p16-s10-ap.476-swa.pt", "345 MB"),
    "passt-s-f128-p16-s16-ap.468.pt": (f"{PASST}/v0.0.2-audioset/passt-s-f128-p16-s16-ap.468.pt", "344 MB"),
    "passt-s-kd-ap.486.pt": (f"{PASST}/v.0.0.9/passt-s-kd-ap.486.pt", "345 MB"),
    "passt-l-kd-ap.47.pt": (f"{PASST}/v.0.0.10/passt-l-kd-ap.47.pt", "203 MB"),
    "cnn14_vggsound.ckpt": (f"{CNN14_ESC50}/embedding_model.ckpt", "302 MB"),
    "conv2d_piq.ckpt": (f"{PIQ_ESC50}/embedding_model.ckpt", "15 MB"),
    "Cnn14_mAP=0.431.pth": (f"{PANNS}/Cnn14_mAP%3D0.431.pth", "327 MB"),
}
"""Where pretrained weights come from, and their size, by the names under which they are kept."""

WEIGHT_FILES = (".pt", ".pth", ".ckpt", ".safetensors")


def require_classifier(path: Path, values: Mapping | None = None) -> None:
    """Raises UsageError where no classifier's bundle is, with the command that makes one.

    values: a recipe's; where the classifiers below its output folder fit it, the newest of them are named instead.
    """
    if is_bundle(path):
        return
    if is_bundle(path / "classifier"):
        raise UsageError(f"{path} is a run's folder: pass --classifier={path / 'classifier'}")
    fitting = fitting_classifiers(values) if values is not None else []
    if fitting:
        listed = ", ".join(str(bundle) for bundle in fitting[:MOST_NAMED])
        raise UsageError(f"no trained classifier at {path}; there are {listed}: pass --classifier={fitting[0]}")
    raise UsageError(
        f"no trained classifier at {path}: make one with `{training_line(path)}`, or pass "
        "--classifier=path/to/a/classifier"
    )


def training_line(path: Path) -> str:
    """The command that makes the classifier of a path such as results/cnn14/1234/classifier."""
    run, folds = path.parent, ""
    if re.fullmatch(r"fold\d+", run.name):
        run, folds = run.parent, " --folds=all"
    return f"python train.py {recipe_of(run.parent.name or 'focalnet')}{folds}"


def fitting_classifiers(values: Mapping) -> list[Path]:
    """The classifiers below a recipe's output folder that its method can explain, newest first."""
    pattern = "*/*/fold1/classifier" if values["folds"] == "all" else "*/*/classifier"
    bundles = []
    for bundle in Path(values["output_folder"]).glob(pattern):
        if is_bundle(bundle) and not is_bundle(bundle.parent / "interpreter") and _fits(bundle, values):
            bundles.append(bundle)
    newest_first = sorted(bundles, key=lambda bundle: (bundle / "bundle.json").stat().st_mtime, reverse=True)
    return [bundle.parents[1] / "classifier" if values["folds"] == "all" else bundle for bundle in newest_first]


def _fits(bundle: Path, values: Mapping) -> bool:
    """Whether a classifier has the map that the recipe's method shows; every other method fits all."""
    makers = MAKERS.get(values.get("map"))
    if makers is None:
        return True
    try:
        text = (bundle / "model.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return any(f"!new:{maker}" in text for maker in makers)


def _may_fit(bundle: Path, values: Mapping) -> bool:
    """As `_fits`; a classifier with modules that are not this project's may have any map."""
    return _fits(bundle, values) or bool(FOREIGN_MODULE.search((bundle / "model.yaml").read_text(encoding="utf-8")))


def require_reference(values: Mapping, folder: Path) -> None:
    """Raises UsageError where the run that a control matches has no interpreter, with the command that makes one."""
    run = run_of_fold(values, "reference", folder)
    if run is not None and not is_bundle(run / "interpreter"):
        made = f"python interpret.py {recipe_of(Path(values['reference']).parent.name)}"
        raise UsageError(
            f"no interpreter at {run / 'interpreter'} to match: run `{made}`, or pass --reference=path/to/a/run"
        )


def require_start(values: Mapping, folder: Path) -> None:
    """Raises UsageError where the run that training starts from has no interpreter."""
    run = run_of_fold(values, "start_from", folder)
    if run is not None and not is_bundle(run / "interpreter"):
        made = f"python interpret.py {recipe_of(Path(values['start_from']).parent.name)}"
        raise UsageError(
            f"start_from={run} is no run with a trained interpreter: run `{made}`, or give a folder such as "
            "results/lmac/1234"
        )


def _noise(values: Mapping) -> None:
    checks = [partial(_train_noise, values)] if "train_noise" in values else []
    for kind in contaminations(values):
        checks.append(partial(check_contamination, kind, values["snr_db"], values["noise_folder"]))
    check_all(*checks)


def _train_noise(values: Mapping) -> None:
    check_contamination(values["train_noise"], values["train_snr_db"], values["noise_folder"])


def _classifier(values: Mapping) -> None:
    path = classifier_path(values, first_fold(values))
    require_classifier(path, values)
    if not _may_fit(path, values):
        fitting = fitting_classifiers(values)
        way = f"pass --classifier={fitting[0]}" if fitting else "choose another classifier"
        raise UsageError(
            f"{path} has no {values['map']} of its own to show: {way}, or a method that fits every classifier, such as "
            "hparams/grad_cam.yaml or hparams/lime.yaml"
        )


def _reference(values: Mapping) -> None:
    require_reference(values, run_folder(values, first_fold(values)))


def _start(values: Mapping) -> None:
    if values["audio"] is None:  # a sound is explained by what the run left, wherever its training started
        require_start(values, run_folder(values, first_fold(values)))


def _released_parts(values: Mapping) -> None:
    """Raises UsageError where a training would begin with a release, such as L2I's dictionary, that is not there."""
    path = values.get("weights")
    trained = is_bundle(run_folder(values, first_fold(values)) / "interpreter")
    if path is not None and not trained and not Path(path).exists():
        raise UsageError(f"weights={path} is not there: give the path of a release, or null to begin without one")


def _audio(values: Mapping) -> None:
    if values["audio"] is not None:
        find_sounds(values["audio"])
        names = names_of_bundle(classifier_path(values, None))
        if names is not None:
            class_index(names, values.get("target"))
    elif "target" in values and values["target"] is not None:
        raise UsageError(f"target={values['target']!r} is a question about a sound: pass --audio=path/to/a/sound too")
    elif values.get("masks"):
        raise UsageError("--masks leaves the masks of sounds: pass --audio=path/to/a/sound too")


def _trained(values: Mapping) -> None:
    """Raises UsageError for a sound that is given to a method before its training; what has epochs is trained."""
    path = run_folder(values) / "interpreter"
    if values["audio"] is not None and values.get("epochs") is not None and not is_bundle(path):
        raise UsageError(f"no trained interpreter at {path}: first train it, by the same command without --audio")


def require_one_quantile(values: Mapping) -> None:
    """Raises UsageError for several quantiles: a sound is explained at one, and which would be anybody's guess."""
    quantiles = values.get("quantile")
    if isinstance(quantiles, list) and len(quantiles) > 1:
        raise UsageError(f"quantile={quantiles}: a sound is explained at one, such as quantile={quantiles[0]}")


def _one_quantile(values: Mapping) -> None:
    if values["audio"] is not None:
        require_one_quantile(values)


def _data(values: Mapping) -> None:
    if values.get("audio") is None:
        require_folder(Path(values["data_folder"]), values.get("download", False))


def _weights(values: Mapping) -> None:
    """Raises UsageError where a file of weights is not there, with the command that fetches it."""
    path = values.get("weights")
    if path is None or Path(path).suffix not in WEIGHT_FILES or Path(path).is_file():
        return
    way = "give the path of the file"
    if Path(path).name in RELEASES:
        address, size = RELEASES[Path(path).name]
        way = f"fetch it with `curl --create-dirs -fLo {path} {address}` ({size})"
    raise UsageError(f"weights={path} is not there: {way}, or pass --weights=null to train from scratch")


def _mask_steps(values: Mapping) -> None:
    """Raises UsageError where masks are to be scored within an epoch, and on no clips."""
    if values.get("mask_steps") is not None and values["mask_clips"] is None:
        raise UsageError(f"mask_steps={values['mask_steps']} scores the masks of no clips: pass --mask_clips=100 too")


RUN_KEYS = ("folds", "output_folder", "experiment", "seed")
REQUIRED: dict[Callable[[Mapping], None], Collection[str]] = {
    _noise: ("contamination", "snr_db", "noise_folder", "train_noise", "train_snr_db"),
    _classifier: ("classifier", "folds", "output_folder"),
    _reference: ("reference", *RUN_KEYS),
    _start: ("start_from", "audio", *RUN_KEYS),
    _released_parts: ("weights", *RUN_KEYS),
    _audio: ("audio", "target", "classifier"),
    _trained: ("audio", "epochs", *RUN_KEYS),
    _one_quantile: ("audio", "quantile"),
    _mask_steps: ("mask_clips", "mask_steps"),
    _data: ("audio", "data_folder"),
}
"""What `interpret.py` looks for: each check, with the keys that it reads."""

REQUIRED_TO_TRAIN: dict[Callable[[Mapping], None], Collection[str]] = {
    _weights: ("weights",),
    _train_noise: ("train_noise", "train_snr_db", "noise_folder"),
    _data: ("data_folder",),
}
"""What `train.py` looks for."""
