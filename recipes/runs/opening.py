"""Opening a run's folder: nothing goes on there, and nothing is replaced, that is of another configuration.

What is compared is the recipe (`hyperparams.yaml`) and what the run reads (`identity.json`).
"""

import csv
import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from models.bundle import read_facts
from models.errors import UsageError
from recipes.config.meaning import meaning
from recipes.data.kinds import FOLDER_KINDS
from recipes.runs.changes import Change, phrases, recipe_changes
from recipes.runs.facts import write_manifest
from recipes.runs.folder import claim_run
from recipes.runs.identity import PARTS, Identity, clip_changes, folder_hash
from recipes.runs.places import contaminations, is_bundle, part_folder
from recipes.runs.run import InterpreterRun, Run
from recipes.system.files import write_atomically
from recipes.system.parallel import on_main

logger = logging.getLogger(__name__)

CHECKPOINTS, RESULTS = "checkpoints", "results"

UNTRAINED_KEYS = (
    "contamination",
    "snr_db",
    "report_clips",
    "eval_batch_size",
    "eval_precision",
    "audio",
    "target",
    "cache_folder",
    "output_folder",
    "tensorboard",
    "trust",
    "ckpt_interval_minutes",
)
"""Keys that leave the trained weights alone."""

CONTENT_KEYS = ("data_folder", "columns", "noise_folder", "classifier", "reference", "start_from")
"""Keys whose paths may change where what lies there is the same by its content."""

LONGER_KEYS = ("epochs", "schedule.epochs")
"""Numbers that may grow while a training goes on."""

TEST_KEYS = (*UNTRAINED_KEYS, "data_folder", "columns", "noise_folder")
"""Keys that may change where nothing is trained and the run's own interpreter or classifier is tested."""


def open_run(run: Run) -> Run:
    """Claim the run's folder and keep in it what the run is; returns the run with what its folder decides.

    The same run again goes on where it stopped. More epochs and a longer schedule may go on, which is said. With
    --test_only the run must be there already, nothing of it is changed, and scores of other test clips than its own go
    to a folder inside it.

    Raises UsageError, naming what differs, where the folder holds checkpoints or results of another configuration or of
    other content under the same paths; and while another process is at work in it.
    """
    if run.values.get("tensorboard") and importlib.util.find_spec("tensorboard") is None:
        raise UsageError("tensorboard=true needs the package tensorboard: pip install 'earwitness[tensorboard]'")
    compare = _test if run.test_only and run.trainable else _begin
    results_name, longer = on_main(compare, run)
    return replace(run, results_name=results_name, longer=longer)


def _begin(run: Run) -> tuple[str, tuple[str, ...]]:
    """Compare a run with what its folder holds, and keep what it is now: no name of a folder, what became longer."""
    folder, now = run.folder, Identity.of(run)
    claim_run(folder)
    held, earlier = _held(run), Identity.kept_in(folder)
    longer = earlier.longer if held and earlier else ()
    scored = {}
    if held:
        changes = _recipe_changes(run, earlier is not None)
        grown = [change for change in changes if run.trainable and change.key in LONGER_KEYS and change.grows]
        told = phrases([change for change in changes if change not in grown])
        told += earlier.changes(now) if earlier else changes_since_older_version(run)
        if told:
            raise _refusal(run, held, told)
        longer += tuple(map(str, grown))
        _announce(grown)
        scored = earlier.scored if earlier else {}
    scored = _scored(run, folder, scored)
    write_atomically(folder / "hyperparams.yaml", run.recipe.text.encode())
    replace(now, scored=scored, longer=longer).keep_in(folder)
    write_manifest(folder / "manifest.csv", run.store, run.split)
    return "", longer


def _announce(grown: Sequence[Change]) -> None:
    for change in grown:
        stretched = change.key.startswith("schedule.")
        print(f"going on with {change}" + ("; what was trained so far followed the shorter schedule" * stretched))


def _test(run: Run) -> tuple[str, tuple[str, ...]]:
    """Compare a run that is only tested with what its folder holds, and say where its scores go."""
    claim_run(run.folder)
    earlier = Identity.kept_in(run.folder)
    if _held(run) == CHECKPOINTS and (run.folder / "hyperparams.yaml").is_file():
        changes = _recipe_changes(run, earlier is not None)
        if changes:
            raise _refusal(run, CHECKPOINTS, phrases(changes))
    name = ""
    if not _same_test_clips(run, earlier):
        name = f"on_{run.store.corpus.name}_{run.store.content_hash[:6]}"
        write_manifest(run.folder / name / "manifest.csv", run.store, run.split)
    if earlier and not name:
        replace(earlier, scored=_scored(run, run.folder, earlier.scored)).keep_in(run.folder)
    return name, earlier.longer if earlier else ()


def _held(run: Run) -> str | None:
    """What the run's folder holds of earlier work: `CHECKPOINTS`, `RESULTS` or None."""
    folder = run.folder
    if any((folder / "save").glob("CKPT*")):
        return CHECKPOINTS
    scores = [*folder.glob("metrics.json"), *folder.glob("*/metrics.json")]
    return RESULTS if scores or is_bundle(folder / run.kind) else None


def _recipe_changes(run: Run, contents_known: bool) -> list[Change]:
    """What differs between the recipe that the run's folder keeps and that of the run.

    contents_known: whether the folder also keeps what lies at the paths, so that these may differ.
    Raises UsageError where the folder keeps no recipe.
    """
    path = run.folder / "hyperparams.yaml"
    if not path.is_file():
        raise UsageError(
            f"{run.folder} holds results but no hyperparams.yaml that says of which configuration; give this run "
            "another --experiment or --seed, or remove that folder"
        )
    left_out = set(TEST_KEYS if run.test_only and run.trainable else UNTRAINED_KEYS)
    if contents_known:
        left_out |= {*CONTENT_KEYS}
    return recipe_changes(meaning(path.read_text(encoding="utf-8")), meaning(run.recipe.text), left_out)


def _refusal(run: Run, held: str, changes: Sequence[str]) -> UsageError:
    ways = "give this one another --experiment or --seed, or remove that folder"
    if run.trainable and not run.test_only and all("test clips" in change for change in changes):
        ways += "; to test on these clips what was trained, pass --test_only"
    return UsageError(f"{run.folder} holds {held} of another configuration ({'; '.join(changes)}); {ways}")


def _scored(run: Run, folder: Path, earlier: Mapping[str, dict]) -> dict[str, dict]:
    """How each kind of test clips was scored last, with those that this run is about to score.

    earlier: what the folder keeps about it. Raises UsageError where scores would be replaced by others.
    """
    scored = dict(earlier)
    if not isinstance(run, InterpreterRun):
        return scored
    for kind in contaminations(run.values):
        part = part_folder(folder, kind, run.values["snr_db"])
        name = "clean" if part == folder else part.name
        now = {"eval_precision": run.values["eval_precision"]}
        if kind in FOLDER_KINDS:
            now["noise_folder"] = folder_hash(run.values)
        before = earlier.get(name)
        if before is not None and (part / "metrics.json").is_file():
            told = phrases(recipe_changes(before, now))
            if told:
                raise UsageError(
                    f"{part / 'metrics.json'} holds scores of another configuration ({'; '.join(told)}); remove that "
                    "file to replace them, or give this run another --experiment"
                )
        scored[name] = now
    return scored


def _same_test_clips(run: Run, earlier: Identity | None) -> bool:
    """Whether the run's test clips are those that its folder holds scores of."""
    if earlier is not None:
        return not list(clip_changes("test", earlier.clips["test"], Identity.of(run).clips["test"]))
    bundle = run.folder / run.kind
    return not is_bundle(bundle) or read_facts(bundle, run.kind).source["data"]["content"] == run.store.content_hash


def changes_since_older_version(run: Run) -> list[str]:
    """What differs from a run that an older version began, as far as that kept what it read.

    It kept the ids, labels and parts of its clips, and in the interpreter's bundle the hash of the classifier.
    """
    logger.warning(
        "%s was begun by an older version, which kept no hashes of its sound files: their names and labels are "
        "compared, their content cannot be.",
        run.folder,
    )
    changes = []
    manifest = run.folder / "manifest.csv"
    if manifest.is_file():
        with manifest.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for part in PARTS:
            old = {row["id"]: (row["label"], "") for row in rows if row["split"] == part}
            new = {name: (label, "") for name, (label, _) in Identity.of(run).clips[part].items()}
            changes.extend(clip_changes(part, old, new))
    bundle = run.folder / "interpreter"
    if isinstance(run, InterpreterRun) and is_bundle(bundle):
        before = read_facts(bundle, "interpreter").source["classifier_weights_sha256"]
        if before != run.subject.fingerprint:
            changes.append(f"classifier: {before[:12]} -> {run.subject.fingerprint[:12]}")
    return changes
