"""PIQ: quantisation by hand, its gradient, its loss by hand, and independence of a clip's neighbours."""

import math
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from torch import nn

from interpreters.piq import DECODERS, PIQ, _Moments, decode, mask_decoder
from interpreters.quantize import ClassCodebook
from models.bundle import build_trusted
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import Spectrogram

HPARAMS = Path(__file__).parents[2] / "hparams"
BLOCK = HPARAMS / "interpreters" / "piq_method.yaml"


def info(channels: int = 4, classes: int = 2) -> ClassifierInfo:
    return ClassifierInfo(classes, 16000, 1024, (channels,), frozenset({"maps", "gradient"}))


def piq(**settings) -> PIQ:
    torch.manual_seed(0)
    return PIQ(info(), **{"num_codes": 8, "decoder": "spectrogram"} | settings)


def evidence(maps: torch.Tensor, target: list[int]) -> Evidence:
    logits = nn.functional.one_hot(torch.tensor(target), 2).float()
    return Evidence(logits, Features(maps.mean((2, 3)), (maps,)))


def sound(log_magnitude: torch.Tensor) -> Spectrogram:
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), 100)


def codebook(rows: list[list[float]], classes: int) -> ClassCodebook:
    one = ClassCodebook(len(rows), len(rows[0]), classes)
    one.embedding.weight.data = torch.tensor(rows)
    return one


def test_nearest_code_of_the_clips_own_class_by_hand():
    # class 0 owns (0, 0) and (1, 0), class 1 owns (0, 1) and (5, 5)
    book = codebook([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0]], classes=2)
    vectors = torch.tensor([[0.9, 0.1], [0.4, 0.0], [4.0, 4.0]])  # three positions
    encoded = vectors.T.reshape(1, 2, 1, 3).repeat(2, 1, 1, 1)
    quantized = book(encoded, torch.tensor([0, 1]))
    assert quantized.indices.tolist() == [[[1, 0, 1]], [[2, 2, 3]]]
    assert quantized.codes[1, :, 0].T.tolist() == [[0.0, 1.0], [0.0, 1.0], [5.0, 5.0]]
    assert torch.equal(quantized.straight_through, quantized.codes)


@pytest.mark.parametrize(("codes", "classes"), [(1024, 50), (1024, 10), (7, 3), (50, 50), (64, 60)])
@pytest.mark.parametrize("owners", ["even", "published"])
def test_every_class_owns_codes_and_the_parts_differ_by_one_at_most(codes, classes, owners):
    owner = ClassCodebook(codes, 2, classes, owners).owner
    sizes = owner.bincount(minlength=classes)
    assert owner.diff().min() >= 0 and sizes.min() >= 1 and sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("training", [True, False])
def test_only_the_codes_of_the_class_are_reachable_in_training_and_evaluation(training):
    torch.manual_seed(0)
    book = ClassCodebook(7, 3, 3).train(training)
    for target in range(3):
        indices = book(3 * torch.randn(2, 3, 20, 20) / 7, torch.tensor([target] * 2)).indices
        assert set(indices.flatten().tolist()) == set((book.owner == target).nonzero().flatten().tolist())


def test_fewer_codes_than_classes_is_refused():
    with pytest.raises(UsageError, match="num_codes=9 leaves some of the 10 classes without a code: use 10 or"):
        ClassCodebook(9, 2, 10)


def test_the_gradient_passes_straight_through():
    torch.manual_seed(0)
    book = ClassCodebook(6, 3, 2).double()
    encoded = (torch.randn(2, 3, 2, 2, dtype=torch.double) / 6).requires_grad_()
    target = torch.tensor([0, 1])
    weight = torch.randn(2, 3, 2, 2, dtype=torch.double)

    def downstream(codes):
        return (weight * codes.sin()).sum() + codes.prod()

    quantized = book(encoded, target)
    downstream(quantized.straight_through).backward()
    at_the_codes = quantized.codes.detach().requires_grad_()
    assert torch.autograd.gradcheck(downstream, at_the_codes)
    expected = torch.autograd.grad(downstream(at_the_codes), at_the_codes)[0]
    torch.testing.assert_close(encoded.grad, expected, rtol=0, atol=1e-12)
    assert book.embedding.weight.grad is None


def test_both_quantisation_distances_have_true_gradients():
    torch.manual_seed(0)
    book = ClassCodebook(4, 2, 2).double()
    encoded = torch.randn(2, 2, 2, 2, dtype=torch.double, requires_grad=True)
    target = torch.tensor([1, 0])

    def of_codes(rows):
        codes = nn.functional.embedding(book(encoded.detach(), target).indices, rows).movedim(-1, 1)
        return (codes - encoded.detach()).square().mean((1, 2, 3))

    assert torch.autograd.gradcheck(lambda z: (z - book(z, target).codes.detach()).square().mean((1, 2, 3)), encoded)
    (book(encoded.detach(), target).codes - encoded.detach()).square().mean((1, 2, 3)).sum().backward()
    rows = book.embedding.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(of_codes, rows)
    torch.testing.assert_close(book.embedding.weight.grad, torch.autograd.grad(of_codes(rows).sum(), rows)[0])


def test_moments_have_a_true_gradient():
    torch.manual_seed(0)
    values = torch.randn(1, 3, 4, 5, dtype=torch.double, requires_grad=True)
    mean, variance = _Moments.apply(values, torch.double)
    torch.testing.assert_close(mean, values.mean((0, 2, 3)))
    torch.testing.assert_close(variance, values.var((0, 2, 3), correction=0))
    assert torch.autograd.gradcheck(lambda one: _Moments.apply(one, torch.double), values)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("training", [True, False])
def test_decoding_clip_by_clip_is_the_plain_decoder(kind, training):
    results = []
    for run in (decode, lambda decoder, codes: decoder(codes)):
        torch.manual_seed(0)
        decoder = mask_decoder(3, kind).double().train(training)
        for norm in (one for one in decoder if isinstance(one, nn.BatchNorm2d)):
            nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
        codes = torch.randn(3, 3, 3, 4, dtype=torch.double, requires_grad=True)
        logits = run(decoder, codes)
        logits.sin().sum().backward()
        gradients = [codes.grad, *(one.grad for one in decoder.parameters())]
        results.append([logits.detach(), *gradients, *decoder.buffers()])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-8, atol=1e-8)


def with_constant_logit(interpreter: PIQ, logit: float) -> PIQ:
    nn.init.zeros_(interpreter.decoder[-1].weight)
    nn.init.constant_(interpreter.decoder[-1].bias, logit)
    return interpreter


@pytest.mark.parametrize("training", [True, False])
def test_mask_loss_by_hand_with_a_threshold_of_each_clips_own(training):
    # 1 of 4 bins is above 0.35 max in the loud clip, 2 of 4 in the quiet one, none in the silent one
    levels = torch.tensor([[[8.0, 2.7], [1.0, 0.0]], [[0.01, 0.0036], [0.0, 0.0034]], [[0.0, 0.0], [0.0, 0.0]]])
    interpreter = with_constant_logit(piq(), 1.5).train(training)
    terms = interpreter.loss(None, sound(levels), evidence(torch.randn(3, 4, 3, 3), [0, 1, 1]))
    one, zero = math.log1p(math.exp(-1.5)), math.log1p(math.exp(1.5))
    expected = [one / 4 + zero * 3 / 4, (one + zero) / 2, zero]
    assert terms["mask"].tolist() == pytest.approx(expected, rel=1e-5)


def test_quantisation_terms_are_the_distance_to_the_codes_for_each_clip():
    interpreter = piq(codebook_weight=2.0, commitment_weight=0.25).eval()
    given = evidence(torch.randn(2, 4, 3, 3), [1, 0])
    encoded = interpreter.encode(given)
    codes = interpreter.codebook(encoded, given.prediction).codes
    distance = [(encoded[clip] - codes[clip]).square().mean().item() for clip in range(2)]
    terms = interpreter.loss(None, sound(torch.rand(2, 5, 6)), given)
    assert terms["codebook"].tolist() == pytest.approx([2 * one for one in distance], rel=1e-5)
    assert terms["commitment"].tolist() == pytest.approx([one / 4 for one in distance], rel=1e-5)


def test_codebook_term_moves_codes_and_commitment_term_moves_the_adapter():
    for term, moved, still in (("codebook", "codebook", "down"), ("commitment", "down", "codebook")):
        interpreter = piq()
        terms = interpreter.loss(None, sound(torch.rand(1, 5, 6)), evidence(torch.randn(1, 4, 3, 3), [0]))
        terms[term].sum().backward()
        assert all(one.grad.abs().sum() > 0 for one in getattr(interpreter, moved).parameters())
        assert all(one.grad is None for one in getattr(interpreter, still).parameters())


def test_terms_of_weight_zero_are_left_out():
    interpreter = piq(codebook_weight=0.0, commitment_weight=0.0)
    terms = interpreter.loss(None, sound(torch.rand(1, 5, 6)), evidence(torch.randn(1, 4, 3, 3), [0]))
    assert list(terms) == ["mask"]


def test_no_term_depends_on_the_other_clips():
    interpreter = piq().eval()
    magnitude, given = torch.rand(4, 30, 40), evidence(torch.randn(4, 4, 5, 5), [0, 1, 1, 0])
    magnitude[2] *= 50
    together = interpreter.loss(None, sound(magnitude), given)
    assert set(together) == {"mask", "codebook", "commitment"}
    for clip in range(4):
        only = slice(clip, clip + 1)
        own = Evidence(given.logits[only], Features(given.features.embedding, (given.features.maps[0][only],)))
        for name, value in interpreter.loss(None, sound(magnitude[only]), own).items():
            assert value.shape == (1,)
            torch.testing.assert_close(value[0], together[name][clip], rtol=1e-5, atol=1e-6)


def test_losses_stay_in_float32_under_low_precision():
    interpreter = piq().train()
    given, heard = evidence(torch.randn(2, 4, 5, 5), [0, 1]), sound(torch.rand(2, 30, 40))
    exact = interpreter.loss(None, heard, given)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = interpreter.loss(None, heard, given)
    for name, value in rounded.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.05, atol=0.01)


def test_loss_falls_on_a_toy_whose_mask_follows_the_class():
    torch.manual_seed(0)
    interpreter = piq(channels=8, num_codes=8).train()
    levels = torch.zeros(2, 40, 48)
    levels[0, :, :24], levels[1, :, 24:] = 1, 1
    given = evidence(torch.randn(2, 4, 2, 2), [0, 1])
    optimizer = torch.optim.Adam(interpreter.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = sum(interpreter.loss(None, sound(levels), given).values()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    mask = interpreter.interpret(None, sound(levels), given).mask
    assert mask[0, :, :20].mean() > 0.6 > 0.4 > mask[0, :, 28:].mean()


CLASSIFIERS = {
    "focalnet": ({"size": "nano"}, {}),
    "vit": ({"size": "nano"}, {"upsample": 1}),
    "cnn14": ({"width": 0.0625}, {"decoder": "spectrogram"}),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_clips_of_any_length_are_split_in_two(name):
    torch.manual_seed(0)
    settings, options = CLASSIFIERS[name]
    with (HPARAMS / "classifiers" / f"{name}_network.yaml").open() as stream:
        classifier = load_hyperpyyaml(stream, settings)["classifier"].freeze()
    with BLOCK.open() as stream:
        make = load_hyperpyyaml(stream, {"channels": 4, **options})["interpreter"]
    interpreter = make(info=classifier.describe()).eval()
    for samples in (16000, 21920, 80000):
        with torch.no_grad():
            heard = classifier.frontend.analyze(torch.randn(1, samples) / 10)
            found = classifier(heard)
            answer = interpreter.interpret(classifier, heard, found)
        mask = answer.mask
        assert mask.shape == heard.log_magnitude.shape and 0 <= mask.min() < mask.max() <= 1
        both = answer.relevant.log_magnitude + answer.residual.log_magnitude
        torch.testing.assert_close(both, heard.log_magnitude)
        assert torch.equal(answer.target, found.prediction)
        assert all(one.isfinite().all() for one in interpreter.loss(None, heard, found).values())


def test_the_mask_of_a_clip_depends_on_its_class():
    interpreter = piq().eval()
    nn.init.normal_(interpreter.codebook.embedding.weight)
    maps, heard = torch.randn(1, 4, 3, 3), sound(torch.rand(1, 20, 20))
    masks = [interpreter.interpret(None, heard, evidence(maps, [target])).mask for target in (0, 1)]
    assert not torch.allclose(*masks, atol=1e-3)


def test_threshold_makes_the_mask_binary():
    heard, given = sound(torch.rand(1, 20, 20)), evidence(torch.randn(1, 4, 3, 3), [0])
    soft = piq().eval().interpret(None, heard, given).mask
    level = soft.median().item()
    binary = piq(threshold=level).eval().interpret(None, heard, given).mask
    assert torch.equal(binary, (soft > level).float()) and 0 < binary.mean() < 1


def test_the_block_stands_alone_and_has_the_published_size():
    with BLOCK.open() as stream:
        make = build_trusted(resolve_references(stream).read(), BLOCK)["interpreter"]
    with torch.device("meta"):
        interpreter = make(info=info(channels=1024, classes=50))
    assert sum(one.numel() for one in interpreter.parameters()) == 71_405_569  # 71.4M in arXiv 2402.02754


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"decoder": "audio"}, "decoder='audio' must be one of image, spectrogram"),
        ({"map_index": 1}, "map_index=1 does not exist: this classifier has 1 maps"),
        ({"channels": 0}, "channels=0 and upsample=2 must be whole and 1 or more"),
        ({"upsample": 0}, "channels=4 and upsample=0 must be whole and 1 or more"),
        ({"threshold": 1.5}, "threshold=1.5 in \\[0, 1\\] or null"),
        ({"energy_threshold": 1.0}, "energy_threshold=1.0 must be in \\[0, 1\\)"),
        ({"owners": "mine"}, "owners='mine' is not one of even, published"),
        ({"num_codes": 1}, "num_codes=1 leaves some of the 2 classes without a code"),
    ],
)
def test_wrong_settings_are_told_in_one_sentence(settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        piq(**settings)


def test_a_classifier_without_maps_is_refused():
    with pytest.raises(UsageError, match="PIQ needs maps of a classifier, and this one has no maps"):
        PIQ(ClassifierInfo(2, 16000, 1024, (), frozenset({"gradient"})))


def test_weights_say_whose_a_code_is():
    """What takes over a release's weights, such as a fine-tuning or a check, has other settings than its adoption."""
    released = ClassCodebook(6, 2, 3, "published", class_order=[2, 0, 1])
    taken = ClassCodebook(6, 2, 3)
    assert taken.owner.tolist() == [0, 0, 1, 1, 2, 2]
    taken.load_state_dict(released.state_dict())
    assert taken.owner.tolist() == released.owner.tolist() == [2, 2, 0, 0, 1, 1]


def test_weights_without_owners_leave_them_to_the_settings():
    """Releases and bundles of before hold the codes alone."""
    codebook = ClassCodebook(6, 2, 3, class_order=[2, 0, 1])
    codebook.load_state_dict({"embedding.weight": torch.ones(6, 2)})
    assert codebook.owner.tolist() == [2, 2, 0, 0, 1, 1]
