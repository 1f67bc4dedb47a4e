"""Sounds and maps at the edge of what numbers can say: every interpreter and every score stays finite or says NaN."""

from functools import partial

import pytest
import torch

from interpreters import ground_truth, metrics
from interpreters.controls import Constant, Ranked, Reordered
from interpreters.decoders import LightDecoder
from interpreters.gradients import Gradient
from interpreters.l2i import L2I
from interpreters.lmac import LMAC
from interpreters.lmac_td import LMACTD
from interpreters.lmac_zs import LMACZS
from interpreters.maps import QuantileMap, quantile_thresholds, soft_mask
from interpreters.perturbation import Perturbation
from interpreters.piq import PIQ
from interpreters.sanity import importance_order, rank_correlation, ssim, unit_range
from interpreters.separator import Codec, MaskNetwork
from recipes.data.clips import ClipBatch
from recipes.data.contamination import Mixture
from recipes.scoring.batch import LabelledClips, score_batch
from recipes.scoring.explanation import explain
from recipes.scoring.quality import proxies

RATE = 16000
TIME = torch.arange(RATE) / RATE
TONE = torch.sin(2 * torch.pi * 440 * TIME)
SOUNDS = {
    "silence": torch.zeros(RATE),
    "clipping": (20 * TONE).clamp(-1, 1),
    "a constant level": torch.ones(RATE),
    "a click": torch.eye(1, RATE)[0],
    "a click at the end": torch.eye(1, RATE)[0].flip(0),
    "below 16 bits": 1e-7 * TONE,
    "denormal": torch.full((RATE,), 1e-40),
    "a tone in silence": TONE * (TIME > 0.9),
}
NETWORK = partial(MaskNetwork, width=16, layers=1, chunk=50, intra_layers=1, inter_layers=1, heads=2, feed_forward=16)
LIGHT = partial(LightDecoder, width=16)
INTERPRETERS = {
    "quantile map": ("focalnet", partial(QuantileMap, quantile=[0.0, 0.5, 0.9, 1.0])),
    "soft map": ("vit", partial(QuantileMap, quantile=None)),
    **{f"gradients, {method}": ("cnn14", partial(Gradient, method=method, samples=2)) for method in Gradient.methods},
    **{
        method: ("cnn14", partial(Perturbation, method=method, samples=6, quantile=[0.5, 1.0]))
        for method in Perturbation.methods
    },
    "loudest": ("cnn14", partial(Ranked, order="loudest", quantile=[0.0, 0.9, 1.0])),
    "random": ("cnn14", partial(Ranked, order="random")),
    "nothing": ("cnn14", partial(Constant, level=0.0)),
    "everything": ("cnn14", partial(Constant, level=1.0)),
    "matched": ("cnn14", partial(Reordered, reference=partial(LMAC, decoder=LIGHT))),
    "L-MAC": ("cnn14", partial(LMAC, decoder=LIGHT, guidance=4.0)),
    "LMAC-ZS": ("clap", partial(LMACZS, decoder=LIGHT)),
    "L2I": ("cnn14", partial(L2I, components=4, width=8)),
    "PIQ": ("focalnet", partial(PIQ, num_codes=16, decoder="spectrogram")),
    "LMAC-TD": ("cnn14", partial(LMACTD, codec=partial(Codec, filters=64, kernel=32), mask_network=NETWORK, width=16)),
}


@pytest.fixture(params=INTERPRETERS)
def explainer(request):
    """(classifier, interpreter), frozen and ready, for each interpreter in turn."""
    name, factory = INTERPRETERS[request.param]
    classifier = request.getfixturevalue(name).freeze()
    interpreter = factory(info=classifier.describe())
    interpreter.fit([classifier.frontend.analyze(0.1 * torch.randn(4, RATE))])
    return classifier, interpreter


def check_scores(columns: dict[str, torch.Tensor]) -> None:
    """Finite, but where an empty mask has no shape and a sound that is not there cannot be pointed at."""
    undefined = {"sps": columns["kept"] == 0, "comp": columns["kept"] == 0}
    for name, values in columns.items():
        if name in ("iou", "ap", "pointing", "inside", "si_sdri"):
            assert not values.isinf().any(), name
        else:
            assert torch.equal(values.isnan(), undefined.get(name, torch.zeros_like(values, dtype=torch.bool))), name
            assert not values.isinf().any(), name
    for name in ("acc", "fid_i", "kept", "probability"):
        assert 0 <= columns[name].min() <= columns[name].max() <= 1, name
    for name in ("ai", "ad", "ag"):
        assert 0 <= columns[name].min() <= columns[name].max() <= 100, name
    assert columns["fa"].abs().max() <= 1


def test_every_sound_is_explained_and_scored(explainer):
    classifier, interpreter = explainer
    waveforms = torch.stack(list(SOUNDS.values()))
    partner = torch.roll(waveforms, 1, dims=0)
    label = torch.arange(len(waveforms)) % 5
    for chosen in (slice(None), slice(0, 1)):  # together, and silence in a batch of its own
        clip, added, labels = waveforms[chosen], partner[chosen], label[chosen]
        with torch.no_grad():
            evidence = classifier(classifier.frontend.analyze(clip))
        mixture = Mixture(ClipBatch(clip + added, labels, labels), clip, added, evidence.prediction)
        spectrogram = classifier.frontend.analyze(mixture.batch.waveform)
        labelled = LabelledClips(spectrogram, torch.nn.functional.one_hot(labels, 5).bool(), mixture.sources)
        swept = list(score_batch(classifier, interpreter, labelled, 30.0))
        assert len(swept) == max(1, len(interpreter.quantiles))
        for columns in swept:
            check_scores(columns)


def test_every_sound_is_heard_again(explainer):
    classifier, interpreter = explainer
    for name in ("silence", "a click", "clipping"):
        found = explain(classifier, interpreter, SOUNDS[name].numpy(), 1.0)
        for part in (found.relevant, found.residual, found.log_magnitude, found.relevant_probabilities):
            assert torch.from_numpy(part).isfinite().all(), name
        assert 0 <= found.mask.min() <= found.mask.max() <= 1
        assert not any(value in (float("inf"), -float("inf")) for value in proxies(classifier.frontend, found).values())


def test_every_loss_of_every_sound_is_finite_with_its_gradient(explainer):
    classifier, interpreter = explainer
    if not interpreter.trainable:
        with pytest.raises(TypeError, match="is not trainable and has no loss"):
            interpreter.loss(classifier, None, None)
        return
    spectrogram = classifier.frontend.analyze(torch.stack(list(SOUNDS.values())))
    with torch.no_grad():
        evidence = classifier(spectrogram)
    terms = interpreter.train().loss(classifier, spectrogram, evidence, clean=spectrogram)
    for name, term in terms.items():
        assert term.shape == (len(SOUNDS),)
        assert term.isfinite().all(), name
    sum(terms.values()).mean().backward()
    gradients = [one.grad for one in interpreter.parameters() if one.grad is not None]
    assert gradients
    assert all(one.isfinite().all() for one in gradients)


# probabilities of exactly 0 and 1, ties, a batch of one

CERTAIN, OTHER, EVEN = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0.0, 1, 0]]), torch.full((1, 3), 1 / 3)
PAIRS = {
    "fidelity_to_input": [1, 0, 1, 1],
    "faithfulness": [0, 1, 2 / 3, 0],
    "average_increase": [0, 0, 0, 0],
    "average_drop": [0, 100, 200 / 3, 0],
    "average_gain": [0, 0, 0, 0],
}


@pytest.mark.parametrize("name", PAIRS)
def test_certain_and_tied_probabilities_have_a_value_in_a_batch_of_one(name):
    score = getattr(metrics, name)
    found = [score(*pair) for pair in ((CERTAIN, CERTAIN), (CERTAIN, OTHER), (CERTAIN, EVEN), (EVEN, EVEN))]
    assert [one.shape for one in found] == [(1,)] * 4
    assert torch.cat(found).tolist() == pytest.approx(PAIRS[name])
    assert score(OTHER.roll(1), CERTAIN).isfinite().all()


def test_a_tied_prediction_is_the_first_of_the_tied_classes():
    assert metrics.fidelity_to_input(EVEN, CERTAIN).tolist() == [1]
    assert metrics.fidelity_to_input(EVEN, OTHER).tolist() == [0]
    assert metrics.average_gain(EVEN, CERTAIN).tolist() == pytest.approx([100])
    assert metrics.average_increase(EVEN, CERTAIN).tolist() == [100]


FLAT = {"zeros": torch.zeros(2, 20, 30), "a half": torch.full((2, 20, 30), 0.5), "ones": torch.ones(2, 20, 30)}


@pytest.mark.parametrize("level", FLAT)
def test_a_constant_map_keeps_everything_at_every_quantile(level):
    maps = FLAT[level]
    thresholds = quantile_thresholds(maps, [0.0, 0.3, 0.9, 1.0])
    assert torch.equal(thresholds, maps[0, 0, 0].expand(4, 2))
    assert torch.equal(soft_mask(maps), torch.ones_like(maps))
    assert soft_mask(-maps).eq(1).all()


def test_bins_that_tie_at_the_threshold_are_kept_together():
    maps = torch.tensor([[[0.0, 0.5, 0.5, 0.5, 1.0]]])
    for quantile, kept in ((0.0, 5), (0.25, 4), (0.5, 4), (0.75, 4), (0.8, 1), (1.0, 1)):
        assert (maps >= quantile_thresholds(maps, [quantile])[0, :, None, None]).sum() == kept


@pytest.mark.parametrize("level", FLAT)
def test_every_score_of_a_constant_map(level):
    maps, empty = FLAT[level], level == "zeros"
    assert metrics.sparseness(maps).isnan().all() if empty else metrics.sparseness(maps).abs().max() < 1e-12
    assert metrics.complexity(maps).isnan().all() == empty
    assert metrics.kept_fraction(maps).tolist() == [maps[0, 0, 0]] * 2
    assert unit_range(maps).eq(0).all()
    assert rank_correlation(maps, maps).isnan().all()
    assert ssim(maps, maps).tolist() == pytest.approx([1, 1], abs=1e-5)
    order = importance_order(maps)
    assert torch.equal(order.flatten(1).sort().values, torch.arange(600).expand(2, -1) / 600)
    ideal = torch.zeros(2, 20, 30, dtype=torch.bool)
    ideal[:, :5] = True
    everywhere = torch.ones_like(ideal)
    assert ground_truth.average_precision(maps, ideal, everywhere).tolist() == pytest.approx([0.25, 0.25])
    assert ground_truth.pointing_game(maps, ideal, everywhere).tolist() == pytest.approx([0.25, 0.25])
    assert ground_truth.energy_inside(maps, ideal, everywhere).isnan().all() == empty
    for score in (ground_truth.intersection_over_union, ground_truth.average_precision):
        assert not score(maps, ideal & False, everywhere).isinf().any()
        assert score(maps, ideal, ~everywhere).isnan().all()


@pytest.mark.parametrize(
    ("estimate", "source", "decibels"),
    [(TONE, TONE, 100), (2 * TONE, TONE, 100), (SOUNDS["a click"], TONE, None), (TONE, torch.zeros(RATE), "nan")],
)
def test_si_sdr_at_its_ends(estimate, source, decibels):
    (found,) = ground_truth.si_sdr(estimate[None], source[None]).tolist()
    if decibels == "nan":
        assert found != found
    else:
        assert found == decibels if decibels else -100 <= found < 0
