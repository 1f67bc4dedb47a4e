"""Training an interpreter where it has something to train, then scoring it: what `interpret.py` does."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import speechbrain as sb

from interpreters.base import ANY_CLASS
from models.bundle import check_trusted, read_facts, save_bundle
from models.errors import UsageError
from recipes.config.recipe import Recipe
from recipes.data.clips import ClipStore
from recipes.data.contamination import Contamination, ContaminationSettings
from recipes.data.sound_files import find_sounds
from recipes.report.closing import interpreter_closing
from recipes.report.examples import write_examples
from recipes.runs.cross_validation import summarize_folds
from recipes.runs.data import open_data, splits_of
from recipes.runs.explainer import Explainer, keep_bundles
from recipes.runs.facts import Result, RunFacts, write_metrics
from recipes.runs.kept_settings import check_settings_kept
from recipes.runs.leaks import add_seen, check_interpreter_unseen, check_unseen, seen_clips
from recipes.runs.opening import open_run
from recipes.runs.places import classifier_path, contaminations, first_fold, part_folder, run_folder
from recipes.runs.required import REQUIRED
from recipes.runs.run import InterpreterRun, device_of
from recipes.runs.scoring_basis import scoring_basis
from recipes.runs.subject import (
    Subject,
    find_reference,
    find_start,
    interpreter_block,
    interpreter_factory,
    keep_classifier,
    load_interpreter,
    load_subject,
    untrained_or_loaded,
)
from recipes.scoring.journal import ScoreJournal
from recipes.system.entry import without_collection
from recipes.system.parallel import join, on_main
from recipes.system.problems import check_all
from recipes.training.brain import multiply_in_float32
from recipes.training.interpreter_brain import InterpreterBrain
from recipes.training.noise import training_noise


def run_interpreter(recipe: Recipe) -> Path:
    """Train if there is something to train, score on the test folds and write the report; or explain one file.

    Returns the folder that was written. Raises UsageError before data is prepared for anything missing or wrong.
    """
    values = recipe.values
    if values["audio"] is not None:
        return explain_audio([recipe])
    fold = first_fold(values)
    make_run, store = _open(recipe, fold)
    splits = splits_of(values, store.corpus)
    if fold is None:
        return _run_split(make_run(store=store, split=splits[0]))
    folders = []
    for fold, split in enumerate(splits):
        if fold > 0:
            make_run = _prepare(recipe, _subject(recipe, fold), fold)
        folders.append(_run_split(make_run(store=store, split=split)))
    return _summarize(values, folders)


def _summarize(values: Mapping, folders: list[Path]) -> Path:
    """Mean and spread over the folds of a cross-validation, under every contamination; returns where they are."""
    folder = run_folder(values) / folders[0].relative_to(run_folder(values, 0))
    for kind in contaminations(values):
        parts = [part_folder(fold, kind, values["snr_db"]) for fold in folders]
        on_main(summarize_folds, parts, part_folder(folder, kind, values["snr_db"]))
    return folder


def _open(recipe: Recipe, fold: int | None) -> tuple[Callable[..., InterpreterRun], ClipStore]:
    """What makes a run of the recipe on a fold, as `_prepare` gives it, and the prepared data, after all checks."""
    join(recipe.run_opts)
    multiply_in_float32()
    check_all(*(partial(check, recipe.values) for check in REQUIRED))
    subject = _subject(recipe, fold)
    make_run = _prepare(recipe, subject, fold)  # what does not fit is refused before the data is prepared
    return make_run, open_data(recipe.values, subject)


def _subject(recipe: Recipe, fold: int | None) -> Subject:
    return load_subject(classifier_path(recipe.values, fold), device_of(recipe), recipe.trust)


def _prepare(recipe: Recipe, subject: Subject, fold: int | None) -> Callable[..., InterpreterRun]:
    """Build the recipe's interpreter for a classifier; what comes back makes a run of it, given its store and split."""
    folder = run_folder(recipe.values, fold)
    objects = recipe.build()
    interpreter = interpreter_factory(recipe, objects, subject, folder)(info=subject.offers)
    model_yaml = interpreter_block(recipe, folder)
    check_trusted(model_yaml, recipe.path, recipe.trust)
    if not (subject.offers.labels.exclusive or interpreter.answers_any_class):
        raise UsageError(
            f"{type(interpreter).__name__} explains the most probable class only, and {subject.bundle.path} hears "
            f"several in a clip: choose among {ANY_CLASS}"
        )
    parts = {"subject": subject, "interpreter": interpreter, "model_yaml": model_yaml}
    return partial(InterpreterRun, recipe=recipe, folder=folder, objects=objects, **parts)


def explain_audio(recipes: Sequence[Recipe]) -> Path:
    """Explain the sounds that the recipes name, by the method of each; a classifier that several share is loaded once.

    Returns what `explain_sounds` does. Raises UsageError before anything is loaded for what is missing or wrong.
    """
    # imported only here: a scoring run does not need it
    with without_collection():
        from recipes.explaining import Request, explain_sounds

    first = recipes[0]
    join(first.run_opts)
    multiply_in_float32()
    check_all(*(partial(check, recipe.values) for recipe in recipes for check in REQUIRED))
    subjects: dict[Path, Subject] = {}
    explainers = []
    for recipe in recipes:
        path = classifier_path(recipe.values, None)
        if path not in subjects:
            subjects[path] = _subject(recipe, None)
        explainers.append(make_explainer(recipe, subjects[path]))
    request = Request(first.values.get("target"), first.values["masks"])
    return on_main(explain_sounds, explainers, find_sounds(first.values["audio"]), request)


def make_explainer(recipe: Recipe, subject: Subject) -> Explainer:
    """The interpreter of a recipe, ready for sounds.

    Its bundle and the classifier's are left in the run's folder where no run has left its own, so that Python can load
    them.
    """
    folder = run_folder(recipe.values)
    factory = interpreter_factory(recipe, recipe.build(), subject, folder)
    command = f"python interpret.py {recipe.path}"
    interpreter = untrained_or_loaded(factory, folder, subject, command, recipe.trust).to(device_of(recipe))
    if interpreter.trainable:
        check_settings_kept(recipe, folder)
    explainer = Explainer(recipe.path.stem, subject, interpreter, folder, interpreter_block(recipe, folder))
    on_main(keep_bundles, explainer)
    return explainer


def train_interpreter(recipe: Recipe) -> InterpreterRun:
    """Train a recipe's interpreter on its one split and keep its bundle, without scoring it on the test folds.

    A training that was finished is not repeated. Returns the run with the chosen epoch's weights. Raises UsageError as
    `run_interpreter` does.
    """
    make_run, store = _open(recipe, None)
    (split,) = splits_of(recipe.values, store.corpus)
    run, _ = _ready_to_score(make_run(store=store, split=split))
    return run


def _run_split(run: InterpreterRun) -> Path:
    """Train or load the run's interpreter, keep it, and score it under every contamination.

    Returns the folder of the scores.
    """
    run, facts = _ready_to_score(run)
    # they go when all scores are there: what is given again goes on behind the last batch of any contamination
    journals = [_score(run, kind, facts) for kind in contaminations(run.values)]
    for journal in journals:
        on_main(journal.remove)
    return run.results_folder


def _ready_to_score(run: InterpreterRun) -> tuple[InterpreterRun, RunFacts]:
    """Open the run's folder, train or load its interpreter, and keep it there."""
    _check_unseen(run)
    run = open_run(run)
    training: dict = {}
    if run.interpreter.trainable and run.test_only:
        run, training = _trained_before(run)
    elif run.interpreter.trainable:
        training = _train(run)
    facts = RunFacts.of_interpreter(run, training)
    if not run.test_only:
        on_main(_keep, run, facts)
    return run, facts


def _keep(run: InterpreterRun, facts: RunFacts) -> None:
    """Leave the interpreter's bundle in the run's folder, and beside it that of the classifier it explains."""
    subject = run.subject
    source = facts.source() | {"classifier_weights_sha256": subject.fingerprint, "clips": _seen(run)}
    info = replace(subject.info, kind="interpreter", source=source, sha256={})
    save_bundle(run.folder / "interpreter", run.interpreter, run.model_yaml, info)
    keep_classifier(run.folder, subject)


def _seen(run: InterpreterRun) -> dict:
    """What the interpreter has seen, with what the one has seen that its training started from."""
    if not run.interpreter.trainable:
        return {}
    start = find_start(run.values, run.folder)
    earlier = {} if start is None else read_facts(start / "interpreter", "interpreter").source.get("clips", {})
    return add_seen(earlier, seen_clips(run))


def _check_unseen(run: InterpreterRun) -> None:
    """Raises UsageError when the classifier, or an interpreter that this run builds on, knows the test clips."""
    check_unseen(run.subject.info, run, run.subject.bundle.path)
    for earlier in (find_start(run.values, run.folder), find_reference(run.values, run.folder)):
        if earlier is not None:
            check_interpreter_unseen(earlier, run)


def _trained_before(run: InterpreterRun) -> tuple[InterpreterRun, dict]:
    """The run with the interpreter that its training left, and what its bundle tells of that training."""
    command = f"python interpret.py {run.recipe.path}"
    bundle = load_interpreter(run.folder, run.subject, command, run.recipe.trust)
    check_settings_kept(run.recipe, run.folder)
    check_unseen(bundle.info, run, bundle.path)
    return replace(run, interpreter=bundle.network), bundle.info.source["training"]


def _train(run: InterpreterRun) -> dict:
    """Train the run's interpreter, leave it with the chosen epoch's weights, and return the facts of the training.

    With `epochs: 0` it keeps the weights that it starts from.
    """
    start = find_start(run.values, run.folder)
    if start is not None:
        _start_from(run, start)
    if not run.values["epochs"]:
        return {"start_from": str(start), "epochs": 0}
    noise = {sb.Stage.TRAIN: training_noise(run, "train"), sb.Stage.VALID: training_noise(run, "valid")}
    brain = InterpreterBrain(run, noise, training=True)
    if start is None and brain.checkpointer.find_checkpoint() is None:
        run.interpreter.fit(brain.training_spectrograms())
    brain.train()
    brain.on_evaluate_start(**brain.selection.keys)
    brain.forget_training()
    facts: dict = {} if start is None else {"start_from": str(start)}
    facts |= brain.training_facts()
    stopwatch = brain.stopwatch
    facts |= {"seconds": round(stopwatch.seconds, 1), "cpu_seconds": round(stopwatch.cpu_seconds, 1)}
    return facts | ({"longer": list(run.longer)} if run.longer else {})


def _start_from(run: InterpreterRun, start: Path) -> None:
    """Give the run's interpreter the weights that an earlier run left. Raises UsageError where they do not fit."""
    command = f"python interpret.py {run.recipe.path}"
    earlier = load_interpreter(start, run.subject, command, run.recipe.trust)
    try:
        run.interpreter.load_state_dict(earlier.network.state_dict())
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise UsageError(f"start_from={start} is of another shape: {detail}") from error


def _score(run: InterpreterRun, kind: str, facts: RunFacts) -> ScoreJournal:
    """Score on the test folds under one contamination and write metrics.json, clips.csv and the report.

    Returns the journal of the batches, which is complete.
    """
    started = time.monotonic()
    values, clips = run.values, run.clips("test")
    settings = ContaminationSettings(kind, values["seed"], values["snr_db"], values["noise_folder"])
    noise = Contamination(settings, run.store, "test", clips)
    brain = InterpreterBrain(run, {sb.Stage.TEST: noise})
    folder = part_folder(run.results_folder, noise.kind, values["snr_db"])
    journal = ScoreJournal(folder, scoring_basis(run, facts, noise))
    brain.score_from(journal)
    on_main(_leave_results, run, brain, facts, started)
    return journal


def _leave_results(run: InterpreterRun, brain: InterpreterBrain, facts: RunFacts, started: float) -> None:
    """Write what was scored. started: when scoring began, by `time.monotonic`."""
    result = _result(run, brain, facts)
    # they are written last: where one of them is, the other files are of the same run
    for name in ("metrics.json", "report.html"):
        (result.folder / name).unlink(missing_ok=True)
    result.table.write(result.folder / "clips.csv", run.store.corpus)
    if result.noise.kind != "clean":
        result.noise.write_draws(result.folder / "draws.csv")
    seconds = time.monotonic() - started
    write_metrics(result.folder / "metrics.json", result.facts, result.metrics, seconds, result.sweep)
    write_examples(run, result)
    print(interpreter_closing(run, result))


def _result(run: InterpreterRun, brain: InterpreterBrain, facts: RunFacts) -> Result:
    """The scores that a Brain gathered on the test clips, with the facts that belong to them."""
    interpreter, noise = run.interpreter, brain.noise[sb.Stage.TEST]
    if not brain.tables:
        raise UsageError(
            f"{run.subject.bundle.path} hears no class in any of the {len(run.clips('test'))} test clips, so there is "
            "nothing to explain: train it longer"
        )
    table, sweep, about = brain.tables[0], None, dict(facts.interpreter)
    if interpreter.quantiles:
        table = brain.tables[interpreter.quantiles.index(interpreter.headline)]
        about["quantile"] = interpreter.headline
        sweep = []
        for quantile, scores in zip(interpreter.quantiles, brain.tables, strict=True):
            sweep.append({"quantile": quantile} | scores.averages())
    about["seconds_per_clip"] = round(brain.cost.seconds_per_clip, 5)
    if not run.subject.offers.labels.exclusive:
        about["explained_classes"] = len(table.index)
        about["clips_without_a_class"] = len(run.clips("test")) - len(set(table.index))
    about["kept_quartiles"] = table.quartiles("kept")
    data = facts.data | {"contamination": "clean" if noise.kind == "clean" else noise.facts()}
    facts = replace(facts, data=data, interpreter=about)
    return Result(brain.journal.folder, noise, table, table.averages(), sweep, facts)
