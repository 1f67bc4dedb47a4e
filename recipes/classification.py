"""Training and testing a classifier: what `train.py` does."""

from pathlib import Path

import speechbrain as sb
import torch

from models.bundle import BundleInfo, check_trusted, save_bundle
from models.classifier import ClassifierInfo
from models.errors import UsageError
from recipes.config.recipe import Recipe, Settings
from recipes.data.clips import ClipStore
from recipes.data.corpus import Corpus, check_trainable
from recipes.report.closing import classifier_closing
from recipes.runs.facts import RunFacts, summarize_folds, write_confusion, write_manifest, write_metrics
from recipes.runs.folder import open_store, splits_of
from recipes.runs.identity import open_run
from recipes.runs.places import run_folder
from recipes.runs.run import Run
from recipes.system.parallel import join, on_main
from recipes.training.brain import multiply_in_float32
from recipes.training.classifier_brain import ClassifierBrain
from recipes.training.probe import fit_head


def train_classifier(recipe: Recipe) -> Path:
    """Train, choose on validation, test, and leave metrics.json, clips.csv and a bundle; returns the run's folder.

    With `folds: all`, once for every fold as test, and a summary with mean and spread over the folds.
    """
    join(recipe.run_opts)
    multiply_in_float32()
    objects = recipe.build()  # what cannot be built is refused before the data is prepared
    store = _open_data(recipe, objects)
    splits = splits_of(recipe.values, store.corpus)
    if len(splits) == 1:
        return _train(Run(recipe, run_folder(recipe.values), store, splits[0], objects))
    folders = []
    for number, split in enumerate(splits):
        if number > 0:
            objects = recipe.build()
        folders.append(_train(Run(recipe, run_folder(recipe.values, number), store, split, objects)))
    return on_main(summarize_folds, folders, run_folder(recipe.values))


def _open_data(recipe: Recipe, objects: Settings) -> ClipStore:
    """The recipe's data, decoded. Raises UsageError where it does not fit the classifier."""
    values, frontend = recipe.values, objects["model"]["classifier"].frontend

    def check_classes(corpus: Corpus) -> None:
        count = len(corpus.class_names)
        if count != values["num_classes"]:
            raise UsageError(
                f"{values['data_folder']} has {count} classes, not {values['num_classes']}: pass --num_classes={count}"
            )
        if not recipe.run_opts.test_only:
            for split in splits_of(values, corpus):
                check_trainable(corpus, split)

    store = open_store(values, values["clip_seconds"], check=check_classes)
    if frontend.sample_rate != store.sample_rate:
        raise UsageError(
            f"the front end works at {frontend.sample_rate} Hz and the clips are cached at {store.sample_rate} Hz: "
            f"set sample_rate={store.sample_rate} in the classifier's YAML"
        )
    return store


def _train(run: Run) -> Path:
    classifier = run.objects["model"]["classifier"]
    described = classifier.describe()
    model_yaml = run.recipe.block("model", described.settings)
    check_trusted(model_yaml, run.recipe.path, run.recipe.trust)
    open_run(run)
    on_main(write_manifest, run.folder / "manifest.csv", run.store, run.split)
    on_main(print, f"weights: {described.provenance}")
    brain = ClassifierBrain(run, classifier)
    if run.values["probe_penalty"] is not None:
        fit_head(classifier, run.dataset("train"), run.values["batch_size"], run.values["probe_penalty"])
    brain.train()
    brain.score(run.values["batch_size"], chosen=True)
    on_main(_leave_results, run, brain, described, model_yaml)
    return run.folder


def _leave_results(run: Run, brain: ClassifierBrain, described: ClassifierInfo, model_yaml: str) -> None:
    classifier, corpus = run.objects["model"]["classifier"], run.store.corpus
    training = brain.training_facts() | {"epochs": run.values["epochs"], "parameters": _count(classifier)}
    facts = RunFacts.of(run, described.provenance, training)
    metrics = brain.stage_scores(sb.Stage.TEST)
    brain.table.write(run.folder / "clips.csv", corpus)
    write_confusion(run.folder, brain.table, corpus.class_names)
    source = facts.source() | {"test_acc": metrics["acc"]}
    info = BundleInfo("classifier", corpus.class_names, run.store.sample_rate, run.values["clip_seconds"], source)
    save_bundle(run.folder / "classifier", classifier, model_yaml, info)
    write_metrics(run.folder / "metrics.json", facts, metrics, seconds=brain.stopwatch.seconds)
    print(classifier_closing(run, metrics, described))


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
