"""L2I: a dictionary of known parts, relevance and mask by hand, the loss's terms, and clips of any length."""

import pytest
import torch

from interpreters.l2i import L2I
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import Spectrogram

INFO = ClassifierInfo(3, 16000, 8, (4, 6), frozenset({"maps"}))  # five frequency bins
SIZES = {"components": 2, "width": 4}


def sound(log_magnitude: torch.Tensor) -> Spectrogram:
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), 100)


def evidence(clips: int, prediction: int = 1) -> Evidence:
    logits = 2.0 * torch.eye(3)[[prediction] * clips]
    return Evidence(logits, Features(torch.zeros(clips, 1), (torch.rand(clips, 4, 8, 6), torch.rand(clips, 6, 4, 3))))


class Known(L2I):
    """Two components that share no bin, with activations [1, 2, T] that are given."""

    def __init__(self, given: torch.Tensor, **options):
        super().__init__(INFO, **SIZES, **options)
        self.given = given
        self.dictionary.copy_(torch.tensor([[1.0, 0], [1, 0], [0, 2], [0, 1], [0, 0]]))
        torch.nn.init.zeros_(self.attention.weight)  # of a softmax: the mean over time

    def activations(self, evidence, frames):
        return self.given.expand(len(evidence.logits), -1, -1)


def clips_of(dictionary: torch.Tensor, frames: int) -> list[Spectrogram]:
    """Batches of clips that are sums of a dictionary's columns, with silent frames between."""
    weight = torch.rand(6, frames, dictionary.shape[1]).pow(4)
    weight[:, ::5] = 0
    return list(map(sound, (weight @ dictionary.T).split(2)))


def test_the_dictionary_finds_the_parts_that_the_clips_are_made_of():
    parts = torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    interpreter = L2I(INFO, **SIZES)
    assert interpreter.dictionary.isnan().all()
    interpreter.fit(iter(clips_of(parts, 200)))
    found = interpreter.dictionary[:, interpreter.dictionary[0].argsort(descending=True)]
    torch.testing.assert_close(found, parts / parts.norm(dim=0), rtol=0, atol=0.1)
    assert "dictionary" in interpreter.state_dict()


def test_the_dictionary_is_the_same_from_the_same_clips():
    clips = clips_of(torch.rand(5, 2), 60)
    first, second = L2I(INFO, **SIZES), L2I(INFO, **SIZES)
    before = torch.get_rng_state()
    first.fit(clips)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    second.fit(clips)
    assert torch.equal(first.dictionary, second.dictionary)
    torch.testing.assert_close(first.dictionary.norm(dim=0), torch.ones(2))
    assert (first.dictionary >= 0).all()


def test_relevance_and_mask_by_hand():
    interpreter = Known(torch.tensor([[[1.0, 3.0], [2.0, 0.0]]]), threshold=0.2)  # means 2 and 1
    with torch.no_grad():
        interpreter.theta.weight.copy_(torch.tensor([[0.0, 0], [0.5, 4], [2, -1]]))
    h = interpreter.given
    assert interpreter.pool(h).tolist() == [[2, 1]]
    assert interpreter.relevance(h, torch.tensor([1])).tolist() == [[0.25, 1]]
    assert interpreter.relevance(h, torch.tensor([2])).tolist() == [[1, -0.25]]
    assert interpreter.relevance(h, torch.tensor([0])).tolist() == [[0, 0]]
    x = sound(torch.rand(1, 2, 5))
    # both components are kept: everything that the dictionary explains
    assert interpreter.interpret(None, x, evidence(1, 1)).mask.tolist() == [[[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]]
    # only the first one
    answer = interpreter.interpret(None, x, evidence(1, 2))
    assert answer.mask.tolist() == [[[1, 1, 0, 0, 0], [1, 1, 0, 0, 0]]]
    assert torch.equal(answer.residual.log_magnitude, x.log_magnitude * (1 - answer.mask))
    # none
    assert interpreter.interpret(None, x, evidence(1, 0)).mask.sum() == 0


def test_the_mask_is_the_share_of_components_that_share_a_bin():
    interpreter = Known(torch.tensor([[[1.0], [3.0]]]))
    interpreter.dictionary.fill_(0.5)
    with torch.no_grad():
        interpreter.theta.weight.copy_(torch.tensor([[0.0, 0], [1, -1], [0, 0]]))
    mask = interpreter.interpret(None, sound(torch.rand(1, 1, 5)), evidence(1, 1)).mask
    torch.testing.assert_close(mask, torch.full((1, 1, 5), 0.25))


def test_attention_weighs_the_frames():
    interpreter = Known(torch.tensor([[[0.0, 4.0], [1.0, 1.0]]]))
    with torch.no_grad():
        interpreter.attention.weight.copy_(torch.tensor([[100.0, 0.0]]))
    torch.testing.assert_close(interpreter.pool(interpreter.given), torch.tensor([[4.0, 1.0]]))


def test_each_frame_has_a_weight_and_a_longer_clip_is_stretched_to_them():
    interpreter = Known(torch.tensor([[[0.0, 2.0, 4.0, 6.0], [1.0, 1.0, 1.0, 1.0]]]), attention_frames=2)
    with torch.no_grad():
        interpreter.attention.weight.copy_(torch.tensor([[10.0, -1.0]]))
    torch.testing.assert_close(
        interpreter.pool(interpreter.given), torch.tensor([[5.0, 9.0]])
    )  # 10 x 1 - 5, and 10 - 1
    torch.testing.assert_close(
        interpreter.pool(interpreter.given[:, :, 1:3]), torch.tensor([[16.0, 9.0]])
    )  # 10 x 2 - 4


def test_the_decoders_activations_are_cut_at_0_by_relu():
    class Steps(torch.nn.Module):
        def forward(self, maps):
            return torch.tensor([[[-2.0, 4.0], [1.0, 3.0]]])

    interpreter = L2I(INFO, **SIZES, decoder=lambda channels, out_channels: Steps(), activation="relu")
    assert interpreter.activations(evidence(1), 2).tolist() == [[[0, 4], [1, 3]]]
    # at 1/8, 3/8, 5/8 and 7/8 of the clip
    assert interpreter.activations(evidence(1), 4).tolist() == [[[0, 0, 2.5, 4], [1, 1.5, 2.5, 3]]]


def test_the_loss_by_hand():
    interpreter = Known(torch.tensor([[[1.0, 3.0], [2.0, 0.0]]]), reconstruction=2.0, fidelity=3.0, sparsity=4.0)
    with torch.no_grad():
        interpreter.theta.weight.zero_()  # every class is as likely
    rebuilt = torch.tensor([[[1.0, 1, 4, 2, 0], [3, 3, 0, 0, 0]]])
    terms = interpreter.loss(None, sound(rebuilt + 0.5), evidence(1))
    assert {name: term.tolist() for name, term in terms.items()} == {
        "reconstruction": [pytest.approx(2 * 0.25)],
        "fidelity": [pytest.approx(3 * 1.0986, abs=1e-3)],
        "sparsity": [pytest.approx(4 * 1.5)],
    }


def test_a_term_of_weight_0_is_left_out():
    interpreter = Known(torch.ones(1, 2, 2), fidelity=0.0)
    assert set(interpreter.loss(None, sound(torch.rand(1, 2, 5)), evidence(1))) == {"reconstruction", "sparsity"}


@pytest.mark.parametrize("name", ["cnn14", "focalnet", "vit"])
@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_it_learns_from_any_classifier_at_any_length(name, seconds, request):
    classifier = request.getfixturevalue(name).freeze()
    spectrogram = classifier.frontend.analyze(torch.randn(2, round(16000 * seconds)))
    found = classifier(spectrogram)
    interpreter = L2I(classifier.describe(), components=6, width=8)
    interpreter.fit([spectrogram])
    losses = []
    optimizer = torch.optim.Adam(interpreter.parameters(), 1e-2)
    for _ in range(15):
        terms = interpreter.loss(classifier, spectrogram, found)
        assert all(term.shape == (2,) for term in terms.values())
        losses.append(sum(terms.values()).mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    assert all(parameter.grad is not None for parameter in interpreter.parameters())
    with torch.no_grad():
        together = interpreter.interpret(classifier, spectrogram, found)
        alone = interpreter.interpret(classifier, spectrogram[1:], classifier(spectrogram[1:]))
    assert together.mask.shape == spectrogram.log_magnitude.shape
    assert together.mask.min() >= 0 and together.mask.max() <= 1
    torch.testing.assert_close(alone.mask[0], together.mask[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"components": 0}, "components=0, width=64 and frames=32 must be 1 or more in L2I"),
        ({"sparsity": -1.0}, "'sparsity': -1.0} must be 0 or more in L2I"),
        ({"dictionary_sparsity": -0.1}, r"dictionary_sparsity=-0\.1 must be 0 or more in L2I"),
        ({"threshold": 1.0}, r"threshold=1.0 in \[0, 1\)"),
        ({"activation": "gelu"}, "activation='gelu' must be one of softplus, relu in L2I"),
        ({"attention_frames": 0}, "attention_frames=0 must be 1 or more, or null for a softmax, in L2I"),
    ],
)
def test_mistakes_are_told(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        L2I(INFO, **options)


def test_a_dictionary_larger_than_its_examples_is_told():
    with pytest.raises(UsageError, match="components=9 are too many for 12 training frames and 5 frequency bins"):
        L2I(INFO, components=9, width=4, frames=6).fit([sound(torch.rand(2, 50, 5))])
