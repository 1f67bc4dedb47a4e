"""Training and testing a classifier: what `train.py` does."""

from dataclasses import replace
from pathlib import Path

import speechbrain as sb
import torch

from models.bundle import BundleInfo, check_trusted, read_facts, save_bundle
from models.classifier import ClassifierInfo
from models.errors import UsageError
from recipes.config.recipe import Recipe, Settings
from recipes.data.class_names import name_classes
from recipes.data.clips import ClipStore
from recipes.data.corpus import Corpus, FoldSplit
from recipes.data.splits import check_trainable
from recipes.report.classifier_page import write_classifier_page
from recipes.report.closing import classifier_closing
from recipes.runs.cross_validation import summarize_folds
from recipes.runs.data import check_labels, open_store, splits_of
from recipes.runs.facts import RunFacts, write_confusion, write_metrics
from recipes.runs.identity import known_classes
from recipes.runs.leaks import check_unseen, seen_clips
from recipes.runs.opening import open_run
from recipes.runs.places import first_fold, is_bundle, run_folder
from recipes.runs.run import Run
from recipes.system.parallel import join, on_main
from recipes.training.brain import multiply_in_float32
from recipes.training.classifier_brain import ClassifierBrain, check_batch_size
from recipes.training.losses import classifier_loss
from recipes.training.probe import fit_head


def train_classifier(recipe: Recipe) -> Path:
    """Train, choose on validation, test, and leave metrics.json, clips.csv and a bundle; returns the run's folder.

    With `folds: all`, once for every fold as test, and a summary with mean and spread over the folds.
    """
    join(recipe.run_opts)
    multiply_in_float32()
    objects = recipe.build()  # what cannot be built is refused before the data is prepared
    classifier_loss(recipe.values, objects["model"]["classifier"])
    if not recipe.run_opts.test_only:
        check_batch_size(objects["model"]["classifier"], recipe.values["batch_size"])
    store = _open_data(recipe, objects)
    splits = splits_of(recipe.values, store.corpus)
    if len(splits) == 1:
        return _train(_run(recipe, objects, store, splits[0]))
    folders = []
    for fold, split in enumerate(splits):
        if fold > 0:
            objects = recipe.build()
        folders.append(_train(_run(recipe, objects, store, split, fold)))
    summary = run_folder(recipe.values) / folders[0].relative_to(run_folder(recipe.values, 0))
    return on_main(summarize_folds, folders, summary)


def _run(recipe: Recipe, objects: Settings, store: ClipStore, split: FoldSplit, fold: int | None = None) -> Run:
    """A run on one split. One that is only tested takes the classes in the order of its classifier's outputs."""
    folder = run_folder(recipe.values, fold)
    names = known_classes(folder, "classifier") if recipe.run_opts.test_only else None
    if names is not None:
        store = replace(store, corpus=store.corpus.in_order_of(names))
    return Run(recipe=recipe, folder=folder, store=store, split=split, objects=objects)


def _open_data(recipe: Recipe, objects: Settings) -> ClipStore:
    """The recipe's data, decoded at the classifier's rate. Raises UsageError where its classes do not fit it."""
    values, frontend = recipe.values, objects["model"]["classifier"].frontend

    def check_classes(corpus: Corpus) -> None:
        folder = run_folder(values, first_fold(values))
        names = known_classes(folder, "classifier") if recipe.run_opts.test_only else None
        count = len(corpus.class_names)
        if names is not None:
            corpus.in_order_of(names)
        elif count != values["num_classes"]:
            raise UsageError(
                f"{values['data_folder']} has {count} classes, not {values['num_classes']}: pass --num_classes={count}"
            )
        labels = objects["model"]["classifier"].describe().labels
        check_labels(corpus, labels)
        if values["train_noise"] == "mixture" and not labels.exclusive:
            raise UsageError(
                "train_noise=mixture adds a class that the targets of labels=several would call absent: choose another "
                "noise, or train on the mixtures that `python -m recipes.polyphony` makes"
            )
        if not recipe.run_opts.test_only:
            for split in splits_of(values, corpus):
                check_trainable(corpus, split)

    return open_store(values, values["clip_seconds"], frontend.sample_rate, check=check_classes)


def _train(run: Run) -> Path:
    classifier = run.objects["model"]["classifier"]
    name_classes(classifier, run.store.corpus.class_names)
    described = classifier.describe()
    model_yaml = run.recipe.block("model", described.settings)
    check_trusted(model_yaml, run.recipe.path, run.recipe.trust)
    _check_unseen(run)
    run = open_run(run)
    on_main(print, f"weights: {described.provenance}")
    brain = ClassifierBrain(run, classifier)
    if run.values["probe_penalty"] is not None:
        fit_head(classifier, run.dataset("train"), run.values["batch_size"], run.values["probe_penalty"])
    trains = run.values["epochs"] > 0
    if trains:
        brain.train()
    brain.score(run.values["batch_size"], chosen=trains)
    on_main(_leave_results, run, brain, described, model_yaml)
    return run.results_folder


def _check_unseen(run: Run) -> None:
    """Raises UsageError when what the run trained before, and only tests now, knows the test clips."""
    bundle = run.folder / "classifier"
    if run.test_only and is_bundle(bundle):
        check_unseen(read_facts(bundle, "classifier"), run, bundle)


def _leave_results(run: Run, brain: ClassifierBrain, described: ClassifierInfo, model_yaml: str) -> None:
    folder, corpus = run.results_folder, run.store.corpus
    training = brain.training_facts() | {"parameters": _count(brain.modules)}
    if run.longer:
        training["longer"] = list(run.longer)
    facts = RunFacts.of(run, described.provenance, training)
    metrics = brain.stage_scores(sb.Stage.TEST)
    brain.table.write(folder / "clips.csv", corpus)
    if described.labels.exclusive:
        write_confusion(folder, brain.table, corpus.class_names)
    if not run.test_only:
        _keep(run, facts, metrics, model_yaml)
    write_metrics(folder / "metrics.json", facts, metrics, seconds=brain.stopwatch.seconds)
    write_classifier_page(folder, facts, brain.table, corpus, described.labels)
    print(classifier_closing(run, metrics, described))


def _keep(run: Run, facts: RunFacts, metrics: dict, model_yaml: str) -> None:
    """Leave the classifier's bundle in the run's folder."""
    names, rate, seconds = run.store.corpus.class_names, run.store.sample_rate, run.values["clip_seconds"]
    quality = next(iter(metrics))  # the score that its epoch was chosen by
    source = facts.source() | {f"test_{quality}": metrics[quality], "clips": seen_clips(run)}
    if not run.values["epochs"]:
        source["data"] |= {"train_folds": [], "valid_folds": []}
        source["clips"] = {}
    info = BundleInfo("classifier", names, rate, seconds, source)
    save_bundle(run.folder / "classifier", run.objects["model"]["classifier"], model_yaml, info)


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
