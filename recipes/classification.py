"""Training and testing a classifier: what `train.py` does."""

from dataclasses import dataclass
from pathlib import Path

import speechbrain as sb
import torch
import torch.nn.functional as F
from torch import Tensor

from interpreters.metrics import accuracy
from models.bundle import BundleInfo, check_trusted, save_bundle
from models.classifier import ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import FrontEnd
from recipes.config.recipe import Recipe
from recipes.data.augmentation import TrainingClips
from recipes.data.clips import ClipStore, fold_set
from recipes.data.corpus import Corpus, FoldSplit, check_trainable
from recipes.runs.facts import RunFacts, summarize_folds, write_confusion, write_manifest, write_metrics
from recipes.runs.folder import open_run, open_store, run_folder, splits_of
from recipes.scoring.table import ClipTable
from recipes.system.parallel import join, on_main
from recipes.training.brain import RecipeBrain, Selection
from recipes.training.probe import fit_head


def additive_margin_loss(logits: Tensor, target: Tensor, margin: float, scale: float) -> Tensor:
    """Additive-margin softmax loss (Wang et al., IEEE SPL 2018), mean over clips.

    logits [B, K]: scale times cosine. target [B, K]: class weights summing to 1; the margin is taken off each cosine
    in proportion to its weight. With scale 1 and margin 0 this is cross-entropy.
    """
    return F.cross_entropy(logits.float() - scale * margin * target, target)


@dataclass(frozen=True)
class Answer:
    """A classifier's evidence beside the targets [B, K] it is trained towards."""

    evidence: Evidence
    target: Tensor


class ClassifierBrain(RecipeBrain):
    """Trains an `AudioClassifier` with augmentation and the additive-margin loss."""

    selection = Selection("acc", larger_is_better=True)

    def prepare(self, frontend: FrontEnd, augmentation, margin: float, info: ClassifierInfo) -> None:
        """What the objective needs beside the classifier in `modules`."""
        self.frontend, self.augmentation = frontend, augmentation
        self.margin, self.scale, self.num_classes = margin, info.logit_scale, info.num_classes

    def on_stage_start(self, stage, epoch=None):
        super().on_stage_start(stage, epoch)
        self.table = ClipTable()

    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        clips = TrainingClips(batch.waveform, F.one_hot(batch.label, self.num_classes).float())
        if stage == sb.Stage.TRAIN:
            with torch.autocast(self.device_type, enabled=False):
                clips = self.augmentation(clips)
        return Answer(self.modules.classifier(self.frontend.analyze(clips.waveform)), clips.target)

    def gather_stage(self):
        self.table = self.table.gathered()

    def compute_objectives(self, predictions, batch, stage):
        if stage != sb.Stage.TRAIN:
            probabilities = predictions.evidence.probabilities.cpu()
            top = probabilities.max(dim=1)
            self.table.add(
                batch.index,
                label=batch.label,
                prediction=top.indices,
                probability=top.values,
                acc=accuracy(probabilities, batch.label.cpu()),
            )
        return additive_margin_loss(predictions.evidence.logits, predictions.target, self.margin, self.scale)

    def stage_scores(self, stage):
        return {"acc": self.table.mean("acc")}


def train_classifier(recipe: Recipe) -> Path:
    """Train, choose on validation, test, and leave metrics.json, clips.csv and a bundle; returns the run's folder.

    With `folds: all`, once for every fold as test, and a summary with mean and spread over the folds.
    """

    def check_classes(corpus: Corpus) -> None:
        found, asked = len(corpus.class_names), recipe.values["num_classes"]
        if found != asked:
            told = f"{recipe.values['data_folder']} has {found} classes, not {asked}: pass --num_classes={found}"
            raise UsageError(told)
        if not recipe.run_opts.test_only:
            for split in splits_of(recipe.values, corpus):
                check_trainable(corpus, split)

    join(recipe.run_opts)
    store = open_store(recipe.values, recipe.values["clip_seconds"], check=check_classes)
    splits = splits_of(recipe.values, store.corpus)
    if len(splits) == 1:
        return _train_split(recipe, store, splits[0], run_folder(recipe.values))
    runs = [_train_split(recipe, store, split, run_folder(recipe.values, k)) for k, split in enumerate(splits)]
    return on_main(summarize_folds, runs, run_folder(recipe.values))


def _train_split(recipe: Recipe, store: ClipStore, split: FoldSplit, folder: Path) -> Path:
    logs = open_run(recipe, folder)
    on_main(write_manifest, folder / "manifest.csv", store, split)
    settings = recipe.build()
    classifier = settings["model"]["classifier"]
    described = classifier.describe()
    if classifier.frontend.sample_rate != store.sample_rate:
        raise UsageError(
            f"the front end works at {classifier.frontend.sample_rate} Hz and the clips are cached at "
            f"{store.sample_rate} Hz: set sample_rate={store.sample_rate} in the classifier's YAML"
        )
    block = recipe.block("model", described.settings)
    check_trusted(block, recipe.path, recipe.trust)
    on_main(print, f"weights: {described.provenance}")
    batch_size, epochs = settings["batch_size"], settings["epochs"]
    train_set = fold_set(store, split.train, batch_size, training=True)
    steps = len(train_set) // batch_size // settings["grad_accumulation_factor"]
    brain = ClassifierBrain(
        {"classifier": classifier},
        settings,
        recipe.run_opts,
        folder,
        logs,
        settings["optimizer"],
        settings["schedule"](steps_per_epoch=max(1, steps)),
    )
    facts = RunFacts.of(recipe, store, split, brain.device, weights=described.provenance)
    if settings["probe_penalty"] is not None:
        fit_head(classifier, train_set, batch_size, settings["probe_penalty"])
    brain.prepare(classifier.frontend, settings["augmentation"]["augmentation"], settings["margin"], described)
    brain.train(epochs, train_set, fold_set(store, split.valid, batch_size), batch_size)
    test_set = fold_set(store, split.test, batch_size)
    brain.score(test_set, batch_size, chosen=True)

    facts.training.update(brain.training_facts(), epochs=epochs, parameters=_count(classifier))

    def leave_results() -> None:
        metrics = brain.stage_scores(sb.Stage.TEST)
        brain.table.write(folder / "clips.csv", store.corpus)
        write_confusion(folder, brain.table, store.corpus.class_names)
        info = BundleInfo(
            "classifier",
            store.corpus.class_names,
            store.sample_rate,
            recipe.values["clip_seconds"],
            facts.source() | {"test_acc": metrics["acc"]},
        )
        save_bundle(folder / "classifier", classifier, block, info)
        write_metrics(folder / "metrics.json", facts, metrics, seconds=brain.stopwatch.seconds)
        print(f"test accuracy {metrics['acc']:.3f} on folds {list(split.test)}; run in {folder}")

    on_main(leave_results)
    return folder


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
