"""PaSST: values of the authors' own network, published checkpoints, patch-out, and where its maps lie."""

import functools

import pytest
import torch
from torch import nn

from interpreters.maps import QuantileMap
from models.classifier import AudioClassifier
from models.conformance import check_classifier
from models.frontend import FrontEnd
from models.mobilenet import PreemphasisMelAdapter
from models.passt import PaSST
from tests.helpers import refusal, scattered


def network(size: str = "nano", **options) -> PaSST:
    return PaSST(PreemphasisMelAdapter(FrontEnd()), size, **options)


def by_rule(made: PaSST) -> PaSST:
    """The network with tensors that a rule gives, so that another network can be given the same ones."""
    with torch.no_grad():
        for seed, (name, tensor) in enumerate(sorted(made.state_dict().items())):
            if tensor.ndim > 1:
                tensor.copy_(2 / tensor[0].numel() ** 0.5 * scattered(tensor.shape, seed))
            else:  # biases, and the factors of layer norms
                tensor.copy_(0.2 * scattered(tensor.shape, seed) + float(name.endswith("weight")))
    return made.eval()


def published(made: PaSST) -> dict[str, torch.Tensor]:
    """Its tensors as the authors publish them, with the predictors of AudioSet's classes."""
    width = made.embedding_size
    predictors = {}
    for layer in ("head.1", "head_dist"):
        predictors |= {f"{layer}.weight": torch.zeros(527, width), f"{layer}.bias": torch.zeros(527)}
    return made.state_dict() | predictors


class Unmixed(nn.Module):
    """A layer that leaves its tokens as they are and keeps them."""

    def forward(self, tokens):
        self.heard = tokens
        return tokens

    def attention(self, tokens):
        return tokens.new_ones(tokens.shape[:2])


@pytest.fixture
def classifier() -> AudioClassifier:
    frontend = FrontEnd()
    adapter = PreemphasisMelAdapter(frontend)
    torch.manual_seed(0)
    backbone = PaSST(adapter, "nano", frames=600)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return AudioClassifier(frontend, adapter, backbone, functools.partial(nn.Linear, out_features=5))


# stride, frames: the first four numbers of both clips' embeddings, and the attention to their second column at 625 Hz
AUTHORS = {
    (10, 60): (
        [[0.057262, 0.489548, 1.161479, 2.289757], [-0.513101, -0.841236, 1.281528, 2.040278]],
        [0.0141319, 0.0162787],
    ),
    (16, 100): (
        [[-0.487828, -1.293596, 0.934256, 1.916378], [-0.166807, -0.886390, 1.560576, 2.229481]],
        [0.0253306, 0.0185327],
    ),
}


@pytest.mark.parametrize(("stride", "frames"), AUTHORS)
def test_the_answer_is_that_of_the_authors_network(stride, frames):
    """Computed by `PaSST` of hear21passt 0.0.26 (distilled, of this size) from the same tensors and images."""
    made = by_rule(network(stride=stride))
    with torch.no_grad():
        features = made(scattered(torch.Size([2, 1, 128, frames]), 0))
    embedding, attention = AUTHORS[stride, frames]
    torch.testing.assert_close(features.embedding[:, :4], torch.tensor(embedding), rtol=0, atol=1e-4)
    torch.testing.assert_close(features.native_map[:, 0, 1, 40], torch.tensor(attention), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("size", "count"), [("light", 49_903_872), ("base", 85_343_232)])
def test_the_sizes_have_the_parameters_of_the_authors_network(size, count):
    """Those of hear21passt 0.0.26 without the two predictors of 527 classes."""
    made = network(size)
    assert sum(parameter.numel() for parameter in made.parameters()) == count


def test_rows_of_maps_run_along_time_and_columns_along_mel():
    made = network().eval()
    image = torch.zeros(1, 1, 128, 100)
    silence = made(image).maps[0]
    image[..., 27:29, 61:63] = 1  # bands 20 to 35 are patches' row 2; frames 50 to 65 and 60 to 75 columns 5 and 6
    changed = (made(image).maps[0] - silence).abs().sum(dim=1)[0]
    assert changed.shape == (9, 12)
    assert changed.nonzero().tolist() == [[5, 2], [6, 2]]


def test_positions_of_row_and_column_add_up():
    made = network()
    made.blocks = nn.Sequential(Unmixed())
    nn.init.zeros_(made.patch_embed.proj.bias)
    made.eval()(torch.zeros(1, 1, 128, 100))
    tokens = made.blocks[0].heard[0, 2:].unflatten(0, (12, 9))
    row, column = made.freq_new_pos_embed[0, :, 7, 0], made.time_new_pos_embed[0, :, 0, 4]
    torch.testing.assert_close(tokens[7, 4], row + column)


def test_patchout_leaves_rows_and_columns_out_in_training_alone():
    made = network(patchout_time=0.2, patchout_mel=0.25)
    made.blocks = nn.Sequential(Unmixed())
    with torch.no_grad():  # a patch is told by its position: row + 100 * column
        for parameter in made.parameters():
            parameter.zero_()
        made.freq_new_pos_embed += torch.arange(12.0)[:, None]
        made.time_new_pos_embed += 100 * torch.arange(99.0)
    image = torch.zeros(2, 1, 128, 500)
    made.eval()(image)
    assert made.blocks[0].heard.shape == (2, 2 + 12 * 49, 48)
    features = made.train()(image)
    heard = made.blocks[0].heard
    assert heard.shape == (2, 2 + 9 * 39, 48)  # 3 of 12 rows and 10 of 49 columns are left out
    assert features.native_map is None and features.maps[0].shape == (2, 48, 39, 9)
    assert torch.equal(heard[0], heard[1])
    places = heard[0, 2:, 0].unflatten(0, (9, 39)).long()
    rows, columns = places[:, 0] % 100, places[0] // 100
    assert torch.equal(places, rows[:, None] + 100 * columns)
    assert (rows.diff() > 0).all() and (columns.diff() > 0).all()
    # a clip of 49 columns lies somewhere among the 99 that the network knows
    starts = set()
    for _ in range(20):
        made(image)
        starts.add(int(made.blocks[0].heard[0, 2, 0]) // 100)
    assert len(starts) > 5 and max(starts) > 10


def test_a_published_checkpoint_is_loaded_whole_without_its_predictors(tmp_path):
    made, path = by_rule(network(stride=16)), tmp_path / "passt-s-f128-p16-s16-ap.468.pt"
    torch.save(published(made), path)
    loaded = network(weights=str(path), stride=16)
    assert loaded.provenance == str(path)
    assert loaded.state_dict().keys() == made.state_dict().keys()
    assert all(torch.equal(value, made.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_other_checkpoints_and_settings_are_refused(tmp_path):
    path = tmp_path / "passt.pt"
    torch.save(published(network(stride=16)), path)
    sentence = refusal(network, weights=str(path))
    assert sentence.startswith(
        f"weights='{path}' are not those of a PaSST of size nano with stride=10 and frames=998: "
    )
    assert "size mismatch for freq_new_pos_embed" in sentence
    torch.save({"cls_token": torch.zeros(1, 1, 48)}, path)
    assert "Missing key(s)" in refusal(network, weights=str(path))
    assert refusal(network, weights=str(tmp_path / "absent.pt")) == f"no checkpoint {tmp_path / 'absent.pt'}"
    assert refusal(network, "large") == "size='large' is not one of nano, light, base"
    assert refusal(network, stride=17) == (
        "stride=17 must be from 1 to 16, the size of a patch, and frames=998 at least 16"
    )
    assert "shares from 0 to less than 1" in refusal(network, patchout_time=10)


def test_it_conforms_and_gradients_reach_the_sound(classifier):
    assert check_classifier(classifier) == []
    info = classifier.describe()
    assert (info.map_channels, info.mel_top, info.map_name) == ((48,) * 4, 15000.0, "attention")
    assert info.provides == {"maps", "gradient", "native_map"}
    waveform = (0.1 * torch.randn(1, 16000)).requires_grad_()
    classifier(classifier.frontend.analyze(waveform)).logits[0, 0].backward()
    assert waveform.grad.abs().min() < waveform.grad.abs().max() and waveform.grad.isfinite().all()
    last = classifier(classifier.frontend.analyze(waveform.detach())).features
    assert last.maps[-1].requires_grad is False


def test_every_map_leads_to_the_logits(classifier):
    """Grad-CAM on what the last layer says of patches would be 0: the head reads two tokens alone."""
    evidence = classifier.eval()(classifier.frontend.analyze(0.1 * torch.randn(1, 16000)))
    for slope in torch.autograd.grad(evidence.logits[0, 0], evidence.features.maps):
        assert slope.abs().max() > 0


def test_short_clips_are_heard_and_long_ones_refused(classifier):
    assert classifier(classifier.frontend.analyze(torch.randn(1, 400))).features.maps[0].shape == (1, 48, 1, 12)
    sentence = refusal(classifier, classifier.frontend.analyze(torch.randn(1, 7 * 16000)))
    assert sentence == (
        "this classifier hears 6.1 s at most: set clip_seconds to no more, or let it hear windows, "
        "--windows='{seconds: 6.1}'"
    )
    assert classifier(classifier.frontend.analyze(torch.randn(1, round(6.1 * 16000)))).logits.shape == (1, 5)


def test_its_attention_is_a_map_of_linear_frequency(classifier):
    linear = classifier.backbone.linear
    assert linear.shape == (12, 513)
    # row 5 has bands 50 to 65, and mel(15000 Hz) is divided into 129 equal parts
    middle = (57.5 + 1) / 129 * 1127 * torch.log1p(torch.tensor(15000 / 700))
    assert abs(int(linear[5].argmax()) * 16000 / 1024 - 700 * torch.expm1(middle / 1127)) < 16
    spectrogram = classifier.frontend.analyze(0.1 * torch.randn(1, 16000))
    evidence = classifier.eval()(spectrogram)
    assert evidence.features.native_map.shape == (1, 1, 9, 513)
    mask = QuantileMap(classifier.describe(), 0.9, "attention").interpret(classifier, spectrogram, evidence).mask
    assert mask.mean() == pytest.approx(0.1, abs=0.02)
