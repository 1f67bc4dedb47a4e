"""The validation score of an interpreter's binary masks, and the epoch that it chooses."""

import json

import pytest
from recipe_files import HPARAMS

from interpreters.controls import Ranked
from interpreters.fixed_area import top_share
from recipes.config.recipe import load_recipe
from recipes.data.corpus import evenly_spaced
from recipes.runs.heard_clips import HeardClips
from recipes.runs.trained import open_trained_run
from recipes.scoring.fixed_area import HEADLINE, KINDS_OF_CLIPS, score_map, score_mask
from recipes.training.mask_gain import MaskGain, add_to_curve, mean_gain, read_curve


@pytest.fixture(scope="module")
def clips(arguments, bundle, tmp_path_factory) -> HeardClips:
    """Five validation clips as a small CNN14 hears them, explained by their loudest bins."""
    changes = (f"--classifier={bundle('cnn14')}", "--eval_batch_size=2")
    recipe = load_recipe(arguments(HPARAMS / "control_loudest.yaml", tmp_path_factory.mktemp("runs"), *changes))
    run = open_trained_run(recipe)
    return HeardClips(run, "valid", evenly_spaced(run.clips("valid"), 5))


def test_clips_are_evenly_spaced_with_the_first_and_the_last():
    assert evenly_spaced([3, 5, 7, 9, 11], 3) == [3, 7, 11]
    assert evenly_spaced([3, 5], 10) == [3, 5]


def test_the_loudest_bins_gain_nothing_over_themselves(clips):
    columns = MaskGain(clips).columns(clips.run.interpreter)
    assert columns["ad_gain"] == columns["fa_gain"] == [0.0] * 10


class Quietest(Ranked):
    """Ranks bins the other way round."""

    def importance(self, classifier, spectrogram, evidence, target=None):
        return -spectrogram.log_magnitude


def test_gains_are_differences_to_the_loudest_bins(clips):
    gain = MaskGain(clips)
    gain.columns(clips.run.interpreter)  # an epoch before
    columns = gain.columns(Quietest(clips.run.subject.offers))
    kept_gain, removed_gain, pointing = [], [], []
    for kind in KINDS_OF_CLIPS:
        for _, heard in clips.batches(kind):
            plane = heard.spectrogram.log_magnitude
            quiet, loud = (
                score_mask(clips.classifier, heard, top_share(sign * plane, HEADLINE), "silence") for sign in (-1, 1)
            )
            kept_gain += ((loud["ad"] - quiet["ad"]) / 100).tolist()
            removed_gain += (quiet["fa"] - loud["fa"]).tolist()
            if kind != "clean":
                pointing += score_map(heard, -plane)["pointing"][heard.truth.known].tolist()
    assert columns == {"ad_gain": kept_gain, "fa_gain": removed_gain, "pointing": pointing}
    assert any(kept_gain) and any(removed_gain)


def test_the_gain_is_the_sum_of_its_parts_means_over_all_processes():
    first = {"ad_gain": [0.5], "fa_gain": [0.1], "pointing": []}
    second = {"ad_gain": [-0.1, 0.2], "fa_gain": [0.2, 0.3], "pointing": [1.0]}
    gain = mean_gain([first, second])
    assert gain == pytest.approx({"ad_gain": 0.2, "fa_gain": 0.2, "pointing": 1.0, "mask_gain": 1.4})
    assert mean_gain([first])["pointing"] == 0.0


def test_the_epoch_whose_masks_gain_most_is_kept(interpret, bundle, tmp_path, monkeypatch):
    gains = iter((0.4, 0.9, 0.1, 0.2))

    def pretended(gain, interpreter):
        assert len(gain.clips.chosen) == 3 and gain.clips.part == "valid" and not interpreter.training
        return {"ad_gain": [next(gains)], "fa_gain": [0.0], "pointing": [0.0]}

    monkeypatch.setattr(MaskGain, "columns", pretended)
    changes = ("--epochs=4", "--batch_size=10", "--precision=fp32", "--mask_clips=3", "--report_clips=0")
    folder = interpret(HPARAMS / "lmac.yaml", tmp_path, f"--classifier={bundle('cnn14')}", *changes, "--patience=1")
    training = json.loads((folder / "metrics.json").read_text())["training"]
    # patience ends the training with the third epoch
    assert (training["epoch"], training["valid_mask_gain"], training["epochs"]) == (2, 0.9, 3)
    assert "mask_gain" in (folder / "train_log.txt").read_text()


def test_a_run_that_goes_on_from_an_earlier_step_forgets_the_points_beyond_it(tmp_path):
    gain = {"ad_gain": 0.25, "fa_gain": -0.125, "pointing": 0.5, "mask_gain": 0.625}
    assert read_curve(tmp_path) == []
    for epoch, step in ((1, 50), (1, 75), (2, 50)):
        add_to_curve(tmp_path, epoch, step, gain)
    add_to_curve(tmp_path, 1, 75, gain | {"mask_gain": 0.75})
    assert read_curve(tmp_path) == [
        {"epoch": 1, "step": 50, **gain},
        {"epoch": 1, "step": 75, **gain, "mask_gain": 0.75},
    ]
