"""Quantile maps: how much is kept, ties, sweeps, and classifiers without a map."""

from dataclasses import replace

import pytest
import torch

from interpreters.interpolation import resize_map
from interpreters.maps import QuantileMap, clip_seed, quantile_thresholds, soft_mask
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import Spectrogram

WITH_NATIVE_MAP = ClassifierInfo(3, 16000, 1024, (4,), frozenset({"gradient", "maps", "native_map"}))
WITHOUT = ClassifierInfo(3, 16000, 1024, (4,), frozenset({"gradient", "maps"}))


def sound(clips: int, frames: int, bins: int) -> Spectrogram:
    log_magnitude = torch.rand(clips, frames, bins)
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), 100)


def evidence(native_map: torch.Tensor, prediction: int = 1) -> Evidence:
    logits = torch.eye(3)[[prediction] * len(native_map)]
    return Evidence(logits, Features(logits, (), native_map))


def masks(interpreter: QuantileMap, native_map: torch.Tensor, frames: int, bins: int) -> list[torch.Tensor]:
    spectrogram = sound(len(native_map), frames, bins)
    return [one.mask for one in interpreter.sweep(None, spectrogram, evidence(native_map))]


def test_a_mask_by_hand():
    native_map = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    spectrogram = sound(1, 2, 2)
    # The median of 1 to 4 is 2.5.
    answer = QuantileMap(WITH_NATIVE_MAP, 0.5).interpret(None, spectrogram, evidence(native_map, prediction=2))
    assert answer.mask.tolist() == [[[0, 0], [1, 1]]] and answer.target.tolist() == [2]
    assert torch.equal(answer.relevant.log_magnitude, spectrogram.log_magnitude * answer.mask)
    assert torch.equal(answer.residual.log_magnitude, spectrogram.log_magnitude * (1 - answer.mask))
    assert answer.relevant.phase is answer.residual.phase is spectrogram.phase


def test_the_map_of_each_layer():
    planes = []
    for value in range(3):
        planes.append(torch.zeros(1, 1, 2, 2).flatten().index_fill(0, torch.tensor(value), 1.0).view(1, 1, 2, 2))
    heard = Evidence(torch.eye(3)[:1], Features(torch.eye(3)[:1], (), planes[2], earlier_maps=(planes[0], planes[1])))
    info = replace(WITH_NATIVE_MAP, earlier_maps=2)
    for layer, loudest in [(0, 0), (1, 1), (2, 2), (-1, 2), (-3, 0)]:
        importance = QuantileMap(info, layer=layer).importance(None, sound(1, 2, 2), heard)
        assert importance.argmax() == loudest
    assert QuantileMap(info).importance(None, sound(1, 2, 2), heard).argmax() == 2


@pytest.mark.parametrize("layer", [3, -4, 0.5, None])
def test_a_layer_without_a_map_is_told(layer):
    sentence = r"must be a whole number from -3 to 2: this classifier has maps of its own in 3 of its layers"
    with pytest.raises(UsageError, match=sentence):
        QuantileMap(replace(WITH_NATIVE_MAP, earlier_maps=2), layer=layer)
    with pytest.raises(UsageError, match="from -1 to 0: this classifier has maps of its own in 1 of its layers"):
        QuantileMap(WITH_NATIVE_MAP, layer=1)


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.5, 0.9, 0.99, 1.0])
def test_about_1_minus_q_is_kept_of_every_clip(quantile):
    native_map = torch.rand(3, 1, 7, 7) * torch.tensor([1.0, 10.0, 1e-3]).view(3, 1, 1, 1)
    (mask,) = masks(QuantileMap(WITH_NATIVE_MAP, quantile), native_map, 431, 513)
    assert mask.shape == (3, 431, 513) and mask.dtype == torch.float32
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    # Edges of the resized map are flat, so a few thousand bins of the 221103 tie.
    kept = mask.mean(dim=(1, 2))
    assert kept.min() >= 1 - quantile - 1e-5 and kept.max() <= 1 - quantile + 0.02


def test_a_constant_map_is_kept_whole():
    for value in (0.0, 0.37, 5e6):
        for mask in masks(QuantileMap(WITH_NATIVE_MAP, [0.0, 0.5, 0.9, 1.0]), torch.full((2, 1, 3, 3), value), 10, 12):
            assert mask.min() == 1


def test_bins_that_tie_with_the_threshold_are_kept():
    native_map = torch.tensor([[[[0.0, 1.0, 1.0, 1.0, 2.0]]]])
    kept = [
        int(one.sum()) for one in masks(QuantileMap(WITH_NATIVE_MAP, [0.0, 0.25, 0.5, 0.75, 1.0]), native_map, 1, 5)
    ]
    assert kept == [5, 4, 4, 4, 1]


def test_a_sweep_is_the_single_runs_to_the_bit():
    quantiles = [0.95, 0.5, 0.9, 0.0]
    native_map, spectrogram = torch.rand(2, 1, 7, 7), sound(2, 87, 513)
    swept = list(QuantileMap(WITH_NATIVE_MAP, quantiles).sweep(None, spectrogram, evidence(native_map)))
    assert len(swept) == 4
    for quantile, one in zip(quantiles, swept, strict=True):
        alone = QuantileMap(WITH_NATIVE_MAP, quantile).interpret(None, spectrogram, evidence(native_map))
        assert torch.equal(one.mask, alone.mask)
        assert torch.equal(one.relevant.log_magnitude, alone.relevant.log_magnitude)
        assert torch.equal(one.residual.log_magnitude, alone.residual.log_magnitude)
        assert torch.equal(one.importance, swept[0].importance)
        assert one.importance.unique().numel() > 2


def test_a_clip_has_the_same_mask_alone_and_in_a_batch():
    native_map = torch.rand(3, 1, 7, 7)
    interpreter = QuantileMap(WITH_NATIVE_MAP)
    together = masks(interpreter, native_map, 87, 513)[0]
    for clip in range(3):
        assert torch.equal(masks(interpreter, native_map[clip : clip + 1], 87, 513)[0][0], together[clip])


@pytest.mark.parametrize(
    "given, quantiles, headline",
    [
        (0.9, (0.9,), 0.9),
        (0.7, (0.7,), 0.7),
        ([0.5, 0.9], (0.5, 0.9), 0.9),
        ([0.6, 0.5], (0.6, 0.5), 0.6),
        (1, (1,), 1),
    ],
)
def test_the_paper_s_quantile_is_the_headline_where_it_is_asked_for(given, quantiles, headline):
    interpreter = QuantileMap(WITH_NATIVE_MAP, given)
    assert (interpreter.quantiles, interpreter.headline) == (quantiles, headline)
    native_map, spectrogram = torch.rand(1, 1, 7, 7), sound(1, 20, 30)
    answer = interpreter.interpret(None, spectrogram, evidence(native_map))
    swept = list(interpreter.sweep(None, spectrogram, evidence(native_map)))
    assert torch.equal(answer.mask, swept[quantiles.index(headline)].mask)


def test_a_map_grows_bilinearly_to_the_plane():
    maps = torch.tensor([[[[0.0, 4.0]]]])  # one frame, two bins
    assert resize_map(maps, 2, 4).tolist() == [[[0.0, 1.0, 3.0, 4.0]] * 2]
    assert resize_map(maps.bfloat16(), 2, 4).dtype == torch.float32


def test_thresholds_by_hand():
    maps = torch.tensor([[[4.0, 1.0], [3.0, 2.0]], [[10.0, 10.0], [10.0, 20.0]]])
    thresholds = quantile_thresholds(maps, [0.0, 0.5, 0.9, 1.0])
    torch.testing.assert_close(thresholds, torch.tensor([[1.0, 10.0], [2.5, 10.0], [3.7, 17.0], [4.0, 20.0]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_thresholds_are_torchs_quantiles(dtype):
    maps = torch.randn(3, 20, 30).to(dtype)
    quantiles = [0.1, 0.5, 0.93]
    expected = torch.quantile(maps.float().flatten(1), torch.tensor(quantiles), dim=1)
    torch.testing.assert_close(quantile_thresholds(maps, quantiles).float(), expected, atol=1e-6, rtol=1e-2)


@pytest.mark.parametrize("quantile", [-0.1, 1.1, [], [0.5, 2], float("nan"), "0.9", [0.5, "x"], [0.5, None]])
def test_quantiles_outside_0_to_1_are_told(quantile):
    with pytest.raises(UsageError, match=r"quantile=.* must be a number in \[0, 1\] or a list of them"):
        QuantileMap(WITH_NATIVE_MAP, quantile)


def test_a_classifier_without_a_map_is_told(cnn14):
    sentence = (
        "QuantileMap needs native_map of a classifier, and this one has no native_map: FocalNet, ViT and AST have one, "
        "and gradients, perturbations and the trained methods do without"
    )
    for info in (WITHOUT, cnn14.describe()):
        with pytest.raises(UsageError, match=sentence):
            QuantileMap(info)


@pytest.mark.parametrize("name", ["focalnet", "vit"])
@pytest.mark.parametrize("seconds", [1.0, 1.37, 5.0])
def test_real_maps_at_any_length(name, seconds, request):
    classifier = request.getfixturevalue(name).freeze()
    spectrogram = classifier.frontend.analyze(torch.randn(1, round(16000 * seconds)))
    interpreter = QuantileMap(classifier.describe(), [0.5, 0.9])
    found = list(interpreter.sweep(classifier, spectrogram, classifier(spectrogram)))
    assert [one.mask.shape for one in found] == [spectrogram.log_magnitude.shape] * 2
    assert [one.mask.mean().item() for one in found] == [pytest.approx(0.5, abs=0.02), pytest.approx(0.1, abs=0.02)]


def test_it_has_no_loss():
    interpreter = QuantileMap(WITH_NATIVE_MAP)
    assert not interpreter.trainable and not list(interpreter.parameters())
    with pytest.raises(TypeError, match="QuantileMap is not trainable and has no loss"):
        interpreter.loss(None, sound(1, 2, 2), evidence(torch.rand(1, 1, 2, 2)))


def test_a_soft_mask_by_hand():
    maps = torch.tensor(
        [
            [[2.0, 4.0, 6.0]],  # from the smallest to the largest
            [[-3.0, 1.0, 4.0]],  # for and against: what speaks against is not kept
            [[-3.0, -2.0, -1.0]],  # nothing speaks for it: the least against is kept most
            [[5.0, 5.0, 5.0]],  # constant: everything is kept
            [[0.0, 0.0, 0.0]],
        ]
    )
    expected = [[[0, 0.5, 1]], [[0, 0.25, 1]], [[0, 0.5, 1]], [[1, 1, 1]], [[1, 1, 1]]]
    assert soft_mask(maps).tolist() == expected


def test_without_a_quantile_there_is_one_soft_mask_and_no_sweep():
    native_map, spectrogram = torch.rand(2, 1, 3, 4), sound(2, 3, 4)
    interpreter = QuantileMap(WITH_NATIVE_MAP, None)
    assert interpreter.quantiles == ()
    (answer,) = interpreter.sweep(None, spectrogram, evidence(native_map))
    torch.testing.assert_close(answer.mask, soft_mask(native_map.squeeze(1)))
    assert torch.equal(interpreter.interpret(None, spectrogram, evidence(native_map)).mask, answer.mask)
    assert answer.mask.amin(dim=(1, 2)).tolist() == [0, 0] and answer.mask.amax(dim=(1, 2)).tolist() == [1, 1]


def test_a_clips_seed_comes_from_its_content():
    clip = torch.tensor([[0.5, 0.25], [0.25, 0.0]])  # mean 0.25
    assert clip_seed(clip, 100) == 2600
    assert clip_seed(clip.flip(0), 100) == 2600
    assert clip_seed(clip + 0.001, 100) == 2610


def test_a_map_that_is_asked_for_by_name_is_not_another(focalnet, vit):
    for classifier, own, other in ((focalnet, "modulation", "attention"), (vit, "attention", "modulation")):
        info = classifier.describe()
        assert QuantileMap(info, 0.9, map=own).quantiles == QuantileMap(info, 0.9).quantiles == (0.9,)
        with pytest.raises(UsageError) as caught:
            QuantileMap(info, 0.9, map=other)
        assert str(caught.value) == (
            f"the {other} map is asked for, and this classifier's own is its {own} map: take hparams/{own}.yaml, "
            f"or a classifier whose own is the {other} map"
        )


def test_a_classifier_that_does_not_name_its_map_may_be_asked_for_any():
    assert QuantileMap(WITH_NATIVE_MAP, 0.9, map="attention").headline == 0.9
