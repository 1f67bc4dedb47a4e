"""Training classifiers: exact resumption, the chosen epoch, what a run leaves behind, and what is refused."""

import csv
import hashlib
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import speechbrain as sb
import torch
from recipe_files import HPARAMS, TINY
from safetensors.torch import load_file

from models.bundle import load_bundle
from models.errors import UsageError
from recipes.config.meaning import meaning
from recipes.config.recipe import load_recipe
from recipes.data.augmentation import Augmentation
from recipes.data.corpus import indices
from recipes.data.splits import fold_split
from recipes.runs.changes import recipe_changes
from recipes.runs.data import open_store, splits_of
from recipes.runs.opening import UNTRAINED_KEYS
from recipes.runs.places import run_folder
from recipes.synthetic import CATEGORIES
from recipes.training import checkpoints
from recipes.training.brain import Stopwatch, seed_step
from recipes.training.checkpoints import WholeCheckpointer
from recipes.training.classifier_brain import ClassifierBrain
from tests.helpers import refusal

WEIGHTS = "classifier/weights.safetensors"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


class Interrupted(Exception):
    """Stands for a power cut."""


@pytest.fixture
def interrupt():
    """(epoch, step) -> patches that cut a training off after that step and before its checkpoint; undo them to go on.

    Step 0 is the end of the epoch before; step "valid" comes after the last step's checkpoint, before validation.
    """
    patches = pytest.MonkeyPatch()

    def at(epoch: int, step: int | str) -> pytest.MonkeyPatch:
        on_stage_start, on_fit_batch_end = ClassifierBrain.on_stage_start, ClassifierBrain.on_fit_batch_end

        def start(self, stage, number=None):
            if (stage, number, step) in ((sb.Stage.TRAIN, epoch, 0), (sb.Stage.VALID, epoch, "valid")):
                raise Interrupted
            on_stage_start(self, stage, number)

        def end(self, *given):
            on_fit_batch_end(self, *given)
            if (self.epoch, self.step) == (epoch, step):
                raise Interrupted

        patches.setattr(ClassifierBrain, "on_stage_start", start)
        patches.setattr(ClassifierBrain, "on_fit_batch_end", end)
        return patches

    yield at
    patches.undo()


@pytest.fixture(scope="module")
def run(train, tmp_path_factory) -> Path:
    """Two undisturbed epochs of the tiny recipe."""
    return train(TINY, tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    ("epoch", "step", "options"),
    [
        (2, 0, ()),
        (2, 3, ()),
        (2, 3, ("--ckpt_interval_steps=1",)),
        (1, 4, ("--ckpt_interval_steps=2",)),
        (1, "valid", ("--ckpt_interval_steps=1",)),
        (2, "valid", ("--ckpt_interval_steps=1",)),
    ],
)
def test_an_interrupted_run_ends_as_the_undisturbed_one_to_the_bit(
    run, train, interrupt, tmp_path, epoch, step, options
):
    cut = interrupt(epoch, step)
    with pytest.raises(Interrupted):
        train(TINY, tmp_path, *options)
    cut.undo()
    assert not (tmp_path / "tiny/7/metrics.json").exists()
    resumed = train(TINY, tmp_path, *options)
    assert (resumed / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()
    assert (resumed / "clips.csv").read_bytes() == (run / "clips.csv").read_bytes()
    assert metrics(resumed)["metrics"] == metrics(run)["metrics"]
    assert metrics(resumed)["training"]["epoch"] == metrics(run)["training"]["epoch"]


def test_checkpoints_inside_an_epoch_follow_the_recipes_minutes(run, train, interrupt, tmp_path):
    changes = ("--ckpt_interval_minutes=1.0e-9",)
    cut = interrupt(2, 3)
    with pytest.raises(Interrupted):
        train(TINY, tmp_path, *changes)
    cut.undo()
    kept = [path for path in (tmp_path / "tiny/7/save").glob("CKPT*/brain.ckpt") if "step: 2" in path.read_text()]
    assert len(kept) == 1
    assert (train(TINY, tmp_path, *changes) / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()


def test_the_same_seed_gives_the_same_run_and_another_seed_another(run, train, tmp_path):
    again, other = train(TINY, tmp_path), train(TINY, tmp_path, "--seed=8")
    assert (again / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()
    assert (again / "clips.csv").read_bytes() == (run / "clips.csv").read_bytes()
    assert (other / WEIGHTS).read_bytes() != (run / WEIGHTS).read_bytes()
    assert again != other


def test_a_finished_run_started_again_trains_no_further(run, train, tmp_path):
    once = train(TINY, tmp_path, "--epochs=1")
    before, log = (once / WEIGHTS).read_bytes(), (once / "train_log.txt").read_text()
    train(TINY, tmp_path, "--epochs=1")
    assert (once / WEIGHTS).read_bytes() == before
    assert (once / "train_log.txt").read_text() == log


def test_the_epoch_with_the_best_validation_accuracy_is_the_one_tested(train, tmp_path, monkeypatch):
    stage_scores, scores, weights = ClassifierBrain.stage_scores, {1: 0.2, 2: 0.9, 3: 0.5}, {}

    def pretended(self, stage):
        if stage != sb.Stage.VALID:
            return stage_scores(self, stage)
        weights[len(weights) + 1] = {
            name: value.clone() for name, value in self.modules.classifier.state_dict().items()
        }
        return {"acc": scores[len(weights)]}

    monkeypatch.setattr(ClassifierBrain, "stage_scores", pretended)
    folder = train(TINY, tmp_path, "--epochs=3")
    facts = metrics(folder)["training"]
    assert (facts["epoch"], facts["valid_acc"]) == (2, 0.9)
    kept = load_file(folder / WEIGHTS)
    assert kept.keys() == weights[2].keys()
    assert all(torch.equal(kept[name], value) for name, value in weights[2].items())
    assert not all(torch.equal(kept[name], value) for name, value in weights[3].items())


def test_testing_without_an_epochs_checkpoint_is_refused(train, interrupt, tmp_path):
    told = f"{tmp_path / 'tiny/7/save'} holds no checkpoint with a validation acc"
    with pytest.raises(UsageError) as caught:
        train(TINY, tmp_path, "--test_only")
    assert str(caught.value) == told
    cut = interrupt(1, 2)
    with pytest.raises(Interrupted):
        train(TINY, tmp_path, "--ckpt_interval_steps=1")
    cut.undo()
    assert list((tmp_path / "tiny/7/save").glob("CKPT*"))
    with pytest.raises(UsageError) as caught:
        train(TINY, tmp_path, "--test_only")
    assert str(caught.value) == told


def test_augmentation_is_float32_where_training_is_not(train, tmp_path, monkeypatch):
    found, forward = [], Augmentation.forward

    def recorded(self, clips):
        found.append(forward(self, clips))
        return found[-1]

    monkeypatch.setattr(Augmentation, "forward", recorded)
    train(TINY, tmp_path, "--precision=bf16", "--debug", "--debug_epochs=1")
    assert found and all(clips.waveform.dtype == torch.float32 for clips in found)


def test_losses_that_stay_nan_end_a_training_with_a_sentence(train, tmp_path, monkeypatch):
    objectives = ClassifierBrain.compute_objectives
    monkeypatch.setattr(ClassifierBrain, "compute_objectives", lambda *given: objectives(*given) * math.nan)
    with pytest.raises(
        UsageError, match="the loss was NaN or infinite in 4 batches of epoch 1: lower the learning rate"
    ):
        train(TINY, tmp_path, "--batch_size=5")


@pytest.mark.parametrize(("first", "count"), [(6, 1), (4, 3)])
def test_a_few_losses_that_are_nan_end_a_training_with_a_sentence(train, tmp_path, monkeypatch, first, count):
    """An epoch has six batches; those from `first` on are poisoned, no more than SpeechBrain's patience of three."""
    objectives, batches = ClassifierBrain.compute_objectives, []

    def poisoned(self, predictions, batch, stage):
        loss = objectives(self, predictions, batch, stage)
        if stage != sb.Stage.TRAIN:
            return loss
        batches.append(batch)
        return loss * (math.nan if len(batches) >= first else 1)

    monkeypatch.setattr(ClassifierBrain, "compute_objectives", poisoned)
    with pytest.raises(UsageError) as caught:
        train(TINY, tmp_path)
    batches_named = "1 batch" if count == 1 else f"{count} batches"
    assert str(caught.value) == (
        f"the loss was NaN or infinite in {batches_named} of epoch 1: lower the learning rate, "
        "pass --precision=fp32, or start from pretrained weights; checkpoints are kept"
    )


def test_no_checkpoint_holds_weights_that_are_nan(train, tmp_path, monkeypatch):
    objectives, batches = ClassifierBrain.compute_objectives, []

    def poisoned(self, predictions, batch, stage):
        batches.append(batch)
        return objectives(self, predictions, batch, stage) * (math.nan if len(batches) == 3 else 1)

    monkeypatch.setattr(ClassifierBrain, "compute_objectives", poisoned)
    with pytest.raises(UsageError, match="the loss was NaN or infinite in 1 batch of epoch 1"):
        train(TINY, tmp_path, "--ckpt_interval_steps=1")
    (checkpoint,) = (tmp_path / "tiny/7/save").glob("CKPT*")
    weights = torch.load(checkpoint / "classifier.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in weights.values())


def test_nan_on_validation_clips_ends_a_training_with_a_sentence(train, tmp_path, monkeypatch):
    forward = ClassifierBrain.compute_forward

    def poisoned(self, batch, stage):
        answer = forward(self, batch, stage)
        if stage == sb.Stage.VALID:
            answer.evidence.logits[0] = math.nan
        return answer

    monkeypatch.setattr(ClassifierBrain, "compute_forward", poisoned)
    with pytest.raises(UsageError, match="are NaN or infinite on validation clips: lower the learning rate"):
        train(TINY, tmp_path)


def test_another_configuration_may_not_go_on_in_the_same_folder(run, train):
    output = run.parents[1]
    kept = (run / "hyperparams.yaml").read_bytes()
    changes = {
        "--peak_lr=2.0e-3": "schedule.peak_lr: 0.001 -> 0.002",
        "--margin=0.1": "margin: 0.2 -> 0.1",
        "--precision=bf16": "precision: fp32 -> bf16",
        "--train_folds=[1,2]": "train_folds: [1, 2, 3] -> [1, 2]; train clips: 60 -> 40 (20 gone: ",
    }
    for change, told in changes.items():
        with pytest.raises(UsageError) as caught:
            train(TINY, output, change)
        assert str(caught.value).startswith(f"{run} holds checkpoints of another configuration ({told}")
        assert str(caught.value).endswith("; give this one another --experiment or --seed, or remove that folder")
    assert (run / "hyperparams.yaml").read_bytes() == kept


def test_keys_that_leave_the_weights_alone_may_change_between_runs(run, train, arguments):
    recipe = load_recipe(arguments(TINY, run.parents[1], "--eval_precision=bf16", "--ckpt_interval_minutes=5"))
    kept = meaning((run / "hyperparams.yaml").read_text())
    assert recipe_changes(kept, meaning(recipe.text), UNTRAINED_KEYS) == []


def test_metrics_json_keeps_the_contract(run):
    found = metrics(run)
    assert found.keys() == {
        "experiment", "classifier", "interpreter", "data", "seed", "commit", "config_sha256", "device", "torch",
        "seconds", "training", "metrics",
    }  # fmt: skip
    assert found["experiment"] == "tiny"
    assert found["seed"] == 7
    assert found["interpreter"] is None
    assert found["classifier"] == {"recipe": "tiny", "weights": "from scratch"}
    assert found["config_sha256"] == hashlib.sha256((run / "hyperparams.yaml").read_bytes()).hexdigest()
    assert found["torch"] == torch.__version__
    assert found["seconds"] > 0
    data = found["data"]
    assert (data["name"], data["clips"], data["contamination"]) == ("synthetic", 20, "clean")
    assert [data[f"{part}_folds"] for part in ("train", "valid", "test")] == [[1, 2, 3], [4], [5]]
    assert found["training"]["epochs"] == 2
    # 12 steps: the optimiser's own rate, then up to the peak at the end of the warm-up's 6 steps
    assert (found["training"]["lr_lowest"], found["training"]["lr_highest"]) == (1e-6, 1e-3)


def test_clips_csv_has_a_row_for_every_test_clip_and_agrees_with_the_metrics(run, corpus):
    rows = table(run / "clips.csv")
    listed = table(corpus / "meta/synthetic.csv")
    expected = [(row["filename"].removesuffix(".flac"), row["category"]) for row in listed if row["fold"] == "5"]
    assert [(row["id"], row["label"]) for row in rows] == expected
    right = [row["label"] == row["prediction"] for row in rows]
    assert [float(row["acc"]) for row in rows] == [float(one) for one in right]
    assert metrics(run)["metrics"] == {"acc": pytest.approx(sum(right) / 20)}
    confusion = table(run / "confusion.csv")
    assert sum(int(row[row["true \\ predicted"]]) for row in confusion) == sum(right)
    assert [sum(int(row[name]) for name in row if name in CATEGORIES) for row in confusion] == [2] * 10


def test_a_run_leaves_its_log_its_manifest_and_its_checkpoint(run):
    log = (run / "train_log.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch: 1", "epoch: 2"]
    assert all(name in log[0] for name in ("lr: ", "train loss: ", "valid acc: ", "valid loss: "))
    splits = [row["split"] for row in table(run / "manifest.csv")]
    assert {name: splits.count(name) for name in set(splits)} == {"train": 60, "valid": 20, "test": 20}
    # the newest and the best, which may be one
    assert 1 <= len(list((run / "save").glob("CKPT*"))) <= 2


def test_the_bundle_answers_as_the_run_did(run, arguments):
    recipe = load_recipe(arguments(TINY, run))
    store = open_store(recipe.values, 1.0)
    found = load_bundle(run / "classifier", "classifier")
    assert found.info.class_names == store.corpus.class_names
    assert (found.info.sample_rate, found.info.clip_seconds) == (16000, 1.0)
    assert found.info.source["data"]["train_folds"] == [1, 2, 3]
    waveforms = torch.stack([torch.from_numpy(store.waveform(i)) for i in indices(store.corpus, (5,))])
    with torch.no_grad():
        top = found.network(found.network.frontend.analyze(waveforms)).probabilities.max(dim=1)
    rows = table(run / "clips.csv")
    assert [store.corpus.class_names[k] for k in top.indices] == [row["prediction"] for row in rows]
    assert top.values.tolist() == pytest.approx([float(row["probability"]) for row in rows], rel=1e-4)


def test_classes_are_numbered_alike_for_any_choice_of_folds(run, train, tmp_path):
    other = train(
        TINY, tmp_path, "--train_folds=[5,3]", "--valid_folds=[2]", "--test_folds=[1,4]", "--debug",
        "--debug_batches=1", "--debug_epochs=1",
    )  # fmt: skip
    assert (
        json.loads((other / "classifier/bundle.json").read_text())["class_names"]
        == (json.loads((run / "classifier/bundle.json").read_text())["class_names"])
    )
    targets = [{row["id"]: row["target"] for row in table(one / "manifest.csv")} for one in (run, other)]
    assert targets[0] == targets[1]


def test_a_wrong_number_of_classes_names_the_right_one(train, corpus, tmp_path):
    with pytest.raises(UsageError) as caught:
        train(TINY, tmp_path, "--num_classes=50")
    assert str(caught.value) == f"{corpus} has 10 classes, not 50: pass --num_classes=10"


def test_a_batch_larger_than_the_training_set_is_refused(train, tmp_path):
    with pytest.raises(UsageError, match="batch_size=61 is larger than the 60 training clips; make it smaller"):
        train(TINY, tmp_path, "--batch_size=61")


@pytest.fixture(scope="module")
def cross_validated(train, three_folds, tmp_path_factory) -> Path:
    return train(TINY, tmp_path_factory.mktemp("folds"), f"--data_folder={three_folds}", "--folds=all", "--epochs=1")


def test_one_clip_a_batch_is_refused_where_the_head_has_a_batch_norm(train, tmp_path):
    small = ("--size=nano", "--num_classes=10", "--batch_size=1")
    sentence = refusal(train, HPARAMS / "vit_scratch.yaml", tmp_path, *small, "--head_blocks=1")
    assert sentence.startswith(
        "batch_size=1 cannot train this classifier: the batch norm of its head takes a mean over"
    )


def test_cross_validation_tests_every_clip_once_and_tells_mean_and_spread(cross_validated):
    folds = [cross_validated / f"fold{k}" for k in (1, 2, 3)]
    summary, accuracies = metrics(cross_validated), [metrics(fold)["metrics"]["acc"] for fold in folds]
    assert summary["metrics"] == {"acc": pytest.approx(np.mean(accuracies))}
    assert summary["spread"] == {"acc": pytest.approx(np.std(accuracies, ddof=1))}
    assert summary["folds"] == {"acc": accuracies}
    assert summary["data"]["test_folds"] == [[1], [2], [3]]
    assert summary["data"]["protocol"] == "3-fold cross-validation"
    assert summary["data"]["clips"] == 100
    tested = [row["id"] for fold in folds for row in table(fold / "clips.csv")]
    assert len(tested) == len(set(tested)) == 100


def test_a_fold_of_a_cross_validation_is_a_run_of_its_own(cross_validated):
    for k, parts in enumerate((([2], [3], [1]), ([3], [1], [2]), ([1], [2], [3])), start=1):
        data = metrics(cross_validated / f"fold{k}")["data"]
        assert tuple(data[f"{part}_folds"] for part in ("train", "valid", "test")) == parts
        assert (cross_validated / f"fold{k}" / WEIGHTS).is_file()


def test_a_recipe_asks_for_its_lists_of_folds_or_for_all_of_them(arguments, tmp_path):
    values = load_recipe(arguments(TINY, tmp_path)).values
    store = open_store(values, 1.0)
    assert splits_of(values, store.corpus) == (fold_split(store.corpus, [1, 2, 3], [4], [5]),)
    assert [split.test for split in splits_of(values | {"folds": "all"}, store.corpus)] == [
        (1,),
        (2,),
        (3,),
        (4,),
        (5,),
    ]
    assert run_folder(values) == tmp_path / "tiny/7"
    assert run_folder(values, 0) == tmp_path / "tiny/7/fold1"


def with_linear_head(folder: Path) -> Path:
    """The tiny recipe with torch's linear layer in place of the cosine head."""
    hparams = TINY.parents[2] / "hparams"
    block = (hparams / "classifiers/focalnet_network.yaml").read_text()
    head = block[block.index("    head: !name") :]
    linear = "    head: !name:torch.nn.Linear\n        out_features: !ref <num_classes>\n"
    (folder / "linear.yaml").write_text(block.replace(head, linear))
    common = hparams / "common/scratch_augmentation.yaml"
    text = TINY.read_text().replace("../../hparams/classifiers/focalnet_network.yaml", "linear.yaml")
    (folder / "tiny.yaml").write_text(text.replace("../../hparams/common/scratch_augmentation.yaml", str(common)))
    return folder / "tiny.yaml"


def test_a_probed_head_stays_as_it_was_fitted(train, tmp_path, monkeypatch):
    fitted, on_fit_start = [], ClassifierBrain.on_fit_start

    def start(brain):
        fitted.append({name: one.clone() for name, one in brain.modules.classifier.state_dict().items()})
        on_fit_start(brain)

    monkeypatch.setattr(ClassifierBrain, "on_fit_start", start)
    run = train(with_linear_head(tmp_path), tmp_path, "--epochs=1", "--probe_penalty=0.003")
    trained = load_file(run / "classifier" / "weights.safetensors")
    changed = {name for name, one in trained.items() if not torch.equal(one, fitted[0][name])}
    assert not any(name.startswith("head.") for name in changed)
    assert any(name.startswith("backbone.") for name in changed)


def test_a_probe_needs_a_linear_head(train, tmp_path):
    with pytest.raises(UsageError, match=r"probe_penalty=0\.003 needs a linear head, not a CosineHead"):
        train(TINY, tmp_path, "--epochs=1", "--probe_penalty=0.003")


def drawn() -> tuple:
    return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002


def test_a_steps_draws_follow_from_seed_epoch_and_step_alone():
    found = {}
    for key in ((1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1), (1, 1, 1)):
        seed_step(*key)
        here = drawn()
        assert found.setdefault(key, here) == here
    assert len(found) == 4
    assert all(len(set(column)) == 4 for column in zip(*found.values(), strict=True))


def test_a_stopwatch_counts_over_processes(tmp_path):
    torch.save({"seconds": 100.0}, tmp_path / "stopwatch")
    stopwatch = Stopwatch()
    assert stopwatch.seconds < 50
    stopwatch.load(tmp_path / "stopwatch")
    assert 100 <= stopwatch.seconds < 150


def test_where_saving_takes_long_an_epoch_that_is_not_chosen_is_not_saved(train, tmp_path, monkeypatch):
    epochs = []
    save = WholeCheckpointer.save_checkpoint

    def count(self, meta, **options):
        epochs.append((meta["epoch"], meta["acc"]))
        return save(self, meta, **options)

    monkeypatch.setattr(WholeCheckpointer, "save_checkpoint", count)
    options = ("--epochs=5", "--schedule.epochs=5")
    often = train(TINY, tmp_path / "often", *options)
    every, epochs[:] = list(epochs), []
    monkeypatch.setattr(checkpoints, "SHORT_SAVE_SECONDS", -1.0)
    monkeypatch.setattr(checkpoints, "WORK_PER_SAVE", math.inf)
    seldom = train(TINY, tmp_path / "seldom", *options)
    expected, best = [], -math.inf
    for epoch, accuracy in every:
        if accuracy >= best or epoch == 5:
            expected.append((epoch, accuracy))
        best = max(best, accuracy)
    assert [epoch for epoch, _ in every] == [1, 2, 3, 4, 5]
    assert epochs == expected and len(expected) < 5
    assert (seldom / WEIGHTS).read_bytes() == (often / WEIGHTS).read_bytes()
    assert metrics(seldom)["training"]["epoch"] == metrics(often)["training"]["epoch"]


def test_a_checkpoint_is_due_when_it_is_short_or_long_ago(tmp_path, monkeypatch):
    checkpointer = WholeCheckpointer(tmp_path)
    assert checkpointer.is_due()
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: 100.0)
    for seconds, saved_at, due in ((0.9, 99.9, True), (2.0, 81.0, False), (2.0, 80.0, True)):
        checkpointer.save_seconds, checkpointer.saved_at = seconds, saved_at
        assert checkpointer.is_due() is due


@pytest.mark.parametrize(
    "accuracies, last, best",
    [
        ((0.2, 0.9, 0.5, 0.6, 0.7, 0.8), 4, 2),  # two epochs in a row below the second
        ((0.2, 0.1, 0.3, 0.3, 0.1, 0.5), 6, 6),  # an epoch that is as good begins the count anew
    ],
)
def test_training_ends_when_its_patience_runs_out_and_goes_no_further(
    train, tmp_path, monkeypatch, accuracies, last, best
):
    stage_scores, validations = ClassifierBrain.stage_scores, []

    def pretended(self, stage):
        if stage != sb.Stage.VALID:
            return stage_scores(self, stage)
        validations.append(accuracies[len(validations)])
        return {"acc": validations[-1]}

    monkeypatch.setattr(ClassifierBrain, "stage_scores", pretended)
    monkeypatch.setattr(checkpoints, "SHORT_SAVE_SECONDS", -1.0)  # so that only what must be saved is
    monkeypatch.setattr(checkpoints, "WORK_PER_SAVE", math.inf)
    for _ in range(2):
        facts = metrics(train(TINY, tmp_path, "--epochs=6", "--patience=2"))["training"]
        assert validations == list(accuracies[:last])
        assert (facts["epoch"], facts["epochs"]) == (best, last)
