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
from recipes.runs.identity import PARTS, Identity, clip_changes, clips_of, events_hash, folder_hash, sources_hash
from recipes.runs.keys import CONTENT_KEYS, UNTRAINED_KEYS
from recipes.runs.places import IN_OTHER_PRECISION, ON_OTHER_CLIPS, contaminations, is_bundle, part_folder
from recipes.runs.run import InterpreterRun, Run
from recipes.system.files import write_atomically
from recipes.system.parallel import on_main

logger = logging.getLogger(__name__)

CHECKPOINTS, RESULTS = "checkpoints", "results"
CLEAN = "clean"
KINDS_WITH_EVENTS = ("mixture",)
"""Contaminations whose scores also rest on what is known about the events in the clips."""

LONGER_KEYS = ("epochs", "schedule.epochs")
"""Numbers that may grow while a training goes on."""

TEST_KEYS = (*UNTRAINED_KEYS, "data_folder", "columns", "label_separator", "noise_folder")
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
    compare = _test_only if run.test_only and run.trainable else _begin
    results_name, longer = on_main(compare, run)
    return replace(run, results_name=results_name, longer=longer)


def _begin(run: Run) -> tuple[str, tuple[str, ...]]:
    """Compare a run with what its folder holds, and keep there what the run is now.

    Returns the name below the folder where scores go ("": the folder itself), and how epochs and schedule grew.
    """
    now = Identity.of(run)
    claim_run(run.folder)
    held, earlier = _held(run), Identity.kept_in(run.folder)
    if held:
        grown = _check_same(run, held, earlier, now)
        now = replace(now, longer=grown)
        if earlier is not None:
            now = replace(now, longer=earlier.longer + grown, scored=earlier.scored)
    now = replace(now, scored=_scored(run, now.scored))
    write_atomically(run.folder / "hyperparams.yaml", run.recipe.text.encode())
    now.keep_in(run.folder)
    write_manifest(run.folder / "manifest.csv", run.store, run.split)
    return "", now.longer


def _check_same(run: Run, held: str, earlier: Identity | None, now: Identity) -> tuple[str, ...]:
    """Raises UsageError where the run is another one than that of its folder; returns what is longer in it, as told.

    held: what the folder holds. earlier: what the run was when it began; None where an older version began it.
    """
    grown, refused = [], []
    for change in _recipe_changes(run, earlier is not None):
        may_grow = run.trainable and change.key in LONGER_KEYS and change.grows
        (grown if may_grow else refused).append(change)
    if earlier and earlier.options.get("debug") and held == RESULTS:
        earlier = replace(earlier, options=now.options)  # what a trial left behind may be replaced
    sentences = phrases(refused)
    sentences += earlier.changes(now) if earlier else changes_since_older_version(run)
    if sentences:
        raise _refusal(run, held, sentences)
    for change in grown:
        stretched = change.key.startswith("schedule.")
        print(f"going on with {change}" + ("; what was trained so far followed the shorter schedule" * stretched))
    return tuple(map(str, grown))


def _test_only(run: Run) -> tuple[str, tuple[str, ...]]:
    """Compare a run that is only tested with what its folder holds, which stays as it is. Returns as `_begin`."""
    claim_run(run.folder)
    earlier = Identity.kept_in(run.folder)
    held = _held(run)
    if held and (run.folder / "hyperparams.yaml").is_file():
        changes = _recipe_changes(run, earlier is not None)
        if changes:
            raise _refusal(run, held, phrases(changes))
    name = _name_beside(run, earlier)
    if name:
        _open_beside(replace(run, results_name=name))
    elif earlier:
        replace(earlier, scored=_scored(run, earlier.scored)).keep_in(run.folder)
    return name, earlier.longer if earlier else ()


def _open_beside(run: Run) -> None:
    """Keep what scores rest on in their folder inside the run's own. Raises UsageError as `_scored`."""
    folder, now = run.results_folder, Identity.of(run)
    earlier = Identity.kept_in(folder)
    if earlier is not None:
        changes = list(clip_changes("test", earlier.clips["test"], now.clips["test"]))
        if changes and (folder / "metrics.json").is_file():
            raise UsageError(f"{folder} holds scores of other clips ({'; '.join(changes)}); remove it to replace them")
    replace(now, scored=_scored(run, earlier.scored if earlier else {})).keep_in(folder)
    write_manifest(folder / "manifest.csv", run.store, run.split)


def _name_beside(run: Run, earlier: Identity | None) -> str:
    """The name of the folder for scores on other test clips than the run's own, or in another precision.

    "": they are the run's own, and go to its folder.
    """
    parts = []
    if not _same_test_clips(run, earlier):
        parts.append(f"{ON_OTHER_CLIPS}{run.store.corpus.name}_{run.store.content_hash[:6]}")
    recipe = run.folder / "hyperparams.yaml"
    precision = run.values["eval_precision"]
    if recipe.is_file() and meaning(recipe.read_text(encoding="utf-8")).get("eval_precision", precision) != precision:
        parts.append(f"{IN_OTHER_PRECISION}{precision}")
    return "_".join(parts)


def _held(run: Run) -> str | None:
    """What the run's folder holds of earlier work: `CHECKPOINTS`, `RESULTS` or None."""
    folder = run.folder
    if any((folder / "save").glob("CKPT*")):
        return CHECKPOINTS
    scores = [*folder.glob("metrics.json"), *folder.glob("*/metrics.json")]
    # a method without training leaves its bundle when it is asked about a sound, too: that is no result
    trained = run.trainable and is_bundle(folder / run.kind)
    return RESULTS if scores or trained else None


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


def _scored(run: Run, earlier: Mapping[str, dict]) -> dict[str, dict]:
    """What scores rest on beside the run's identity, by the name of their folder, with those that are to be made now.

    earlier: what is kept about it beside the scores. Raises UsageError where scores would be replaced by others; those
    of a trial (`--debug`) may be.
    """
    scored = dict(earlier)
    for kind, folder in _score_folders(run).items():
        name = CLEAN if kind == CLEAN else folder.name
        basis = _basis(run, kind)
        trial = name in earlier and earlier[name].get("debug")
        if name in earlier and not trial and (folder / "metrics.json").is_file():
            changes = recipe_changes(earlier[name], basis)
            if changes:
                raise _scores_refusal(run, folder / "metrics.json", changes)
        scored[name] = basis
    return scored


def _scores_refusal(run: Run, scores: Path, changes: Sequence[Change]) -> UsageError:
    ways = "remove that file to replace them, or give this run another --experiment"
    precision_alone = [change.key for change in changes] == ["eval_precision"]
    if run.trainable and not run.test_only and precision_alone:
        ways = "pass --test_only too for scores beside them, or remove that file to replace them"
    return UsageError(f"{scores} holds scores of another configuration ({'; '.join(phrases(changes))}); {ways}")


def _score_folders(run: Run) -> dict[str, Path]:
    """Where the run writes scores, by the kind of contamination."""
    if not isinstance(run, InterpreterRun):
        return {CLEAN: run.results_folder}
    folders = {}
    for kind in contaminations(run.values):
        folders[kind] = part_folder(run.results_folder, kind, run.values["snr_db"])
    return folders


def _basis(run: Run, kind: str) -> dict:
    """What scores under one kind of contamination rest on beside the run's identity."""
    basis = {"eval_precision": run.values["eval_precision"]}
    for option in ("debug", "debug_batches"):
        if option in run.recipe.options:
            basis[option] = run.recipe.options[option]
    if kind in FOLDER_KINDS:
        basis["noise_folder"] = folder_hash(run.values)
    if kind in KINDS_WITH_EVENTS and run.store.knows_events:
        basis["events"] = events_hash(run)
    if kind == CLEAN and isinstance(run, InterpreterRun) and run.store.corpus.has_sources:
        basis["sources"] = sources_hash(run)
    return basis


def _same_test_clips(run: Run, earlier: Identity | None) -> bool:
    """Whether the run's test clips are those that its folder holds scores of."""
    if earlier is not None:
        return not list(clip_changes("test", earlier.clips["test"], clips_of(run, "test")))
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
            old, new = {}, {}
            for row in rows:
                if row["split"] == part:
                    old[row["id"]] = (row["label"], "")
            for name, (label, _) in clips_of(run, part).items():
                new[name] = (label, "")
            changes.extend(clip_changes(part, old, new))
    bundle = run.folder / "interpreter"
    if isinstance(run, InterpreterRun) and is_bundle(bundle):
        before = read_facts(bundle, "interpreter").source["classifier_weights_sha256"]
        if before != run.subject.fingerprint:
            changes.append(f"classifier: {before[:12]} -> {run.subject.fingerprint[:12]}")
    return changes
