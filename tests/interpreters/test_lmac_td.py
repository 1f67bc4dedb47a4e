"""LMAC-TD: the codec, what alpha lets through, the mask, windows of long sounds and a toy training."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models.dual_path import Dual_Path_Model, SBTransformerBlock
from torch import nn

from interpreters.decoders import MapDecoder, PaperMapDecoder
from interpreters.interpolation import sample_at
from interpreters.lmac_td import LMACTD
from interpreters.masking import masking_terms
from interpreters.separator import Codec, MaskNetwork
from models.adapters import MelAdapter
from models.classifier import AudioClassifier, ClassifierInfo, CosineHead
from models.cnn14 import CNN14
from models.errors import UsageError
from models.frontend import FrontEnd
from recipes.config.recipe import load_recipe

HPARAMS = Path(__file__).parents[2] / "hparams"
RECIPE = HPARAMS / "interpreters" / "lmac_td_method.yaml"
RATE = 16000
CODEC = partial(Codec, filters=64, kernel=32)
NETWORK = partial(MaskNetwork, width=16, layers=1, chunk=50, intra_layers=1, inter_layers=1, heads=2, feed_forward=16)


def interpreter(info: ClassifierInfo, codec=CODEC, **settings) -> LMACTD:
    torch.manual_seed(0)
    return LMACTD(info, codec=codec, mask_network=NETWORK, width=16, **settings)


@pytest.fixture(scope="module")
def classifier() -> AudioClassifier:
    torch.manual_seed(0)
    frontend = FrontEnd()
    head = partial(CosineHead, num_classes=5)
    return AudioClassifier(frontend, MelAdapter(frontend), CNN14(width=1 / 16), head).freeze()


@pytest.fixture(scope="module")
def info(classifier) -> ClassifierInfo:
    return classifier.describe()


def sound(clips: int, seconds: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(clips, round(seconds * RATE), generator=generator)


def looked_at(classifier: AudioClassifier, waveform: torch.Tensor):
    with torch.no_grad():
        spectrogram = classifier.frontend.analyze(waveform)
        return spectrogram, classifier(spectrogram)


def network_inputs(model: LMACTD, waveform: torch.Tensor, maps) -> list[torch.Tensor]:
    """What reaches the mask network, window by window."""
    seen = []
    hook = model.mask_network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.separate(waveform, maps)
    hook.remove()
    return seen


@pytest.mark.parametrize(("filters", "kernel"), [(256, 16), (64, 32), (128, 64)])
@pytest.mark.parametrize("samples", [1, 7, 16000, 16001])
def test_the_tight_frame_reconstructs(filters, kernel, samples):
    codec = Codec(filters, kernel)
    waveform = torch.randn(2, samples)
    frames = codec.encode(waveform)
    assert frames.shape == (2, filters, -(-samples // (kernel // 2)) + 1)
    assert frames.min() >= 0
    assert (codec.decode(frames, samples) - waveform).abs().max() < 1e-4


def test_the_codec_is_exact_under_autocast_and_at_batch_one():
    codec, waveform = Codec(), torch.randn(1, 4000)
    with torch.autocast("cpu", torch.bfloat16):
        rebuilt = codec.decode(codec.encode(waveform), 4000)
    assert rebuilt.shape == (1, 4000)
    assert (rebuilt - waveform).abs().max() < 1e-4


def test_a_frame_keeps_energy_and_a_random_codec_does_not_reconstruct():
    waveform = torch.randn(1, 8000)
    torch.testing.assert_close(Codec().encode(waveform).square().sum(), waveform.square().sum())
    torch.manual_seed(0)
    codec = Codec(init="random")
    assert (codec.decode(codec.encode(waveform), 8000) - waveform).abs().max() > 0.1


def test_a_pretrained_pair_replaces_the_initialisation(tmp_path):
    given = Codec(32, 8, init="random")
    torch.save(given.encoder.state_dict(), tmp_path / "encoder.ckpt")
    torch.save(given.decoder.state_dict(), tmp_path / "decoder.ckpt")
    loaded = Codec(32, 8, weights=str(tmp_path))
    torch.testing.assert_close(loaded.state_dict(), given.state_dict())
    with pytest.raises(UsageError, match=r"encoder\.ckpt does not fit this codec"):
        Codec(64, 8, weights=str(tmp_path))
    with pytest.raises(UsageError, match="no checkpoint"):
        Codec(64, 8, weights=str(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda info: Codec(64, 15), "kernel=15 samples must be even"),
        (lambda info: Codec(64, 16, init="wavelet"), "codec='wavelet' must be 'frame'"),
        (lambda info: Codec(24, 16), "filters=24 must be a multiple of 4 and at least twice kernel=16"),
        (lambda info: MaskNetwork(chunk=25), "chunk=25 frames must be even"),
        (lambda info: MaskNetwork(width=20, heads=8), "width=20 must be even and a multiple of heads=8"),
        (lambda info: MaskNetwork(output_gain=0.0), r"output_gain=0\.0 must be above 0"),
        (lambda info: interpreter(info, alpha=1.5), r"alpha=1\.5 must be in \[0, 1\]"),
        (lambda info: interpreter(info, sparsity=-1), "sparsity=-1 must be 0"),
        (lambda info: interpreter(info, map_decoder=PaperMapDecoder), "the codec has filters=64: set filters to 256"),
        (lambda info: PaperMapDecoder((8, 16), 256), r"needs four maps .* have \(8, 16\): use MapDecoder"),
        (lambda info: interpreter(info, max_seconds=0.001), r"max_seconds=0\.001 must be at least two"),
    ],
)
def test_mistakes_are_told_in_one_sentence(info, build, sentence):
    with pytest.raises(UsageError, match=sentence):
        build(info)


def test_a_classifier_without_maps_is_refused():
    with pytest.raises(UsageError, match="LMACTD needs maps of a classifier"):
        LMACTD(ClassifierInfo(5, RATE, 1024, (), frozenset({"gradient"})))


def test_alpha_zero_never_sees_the_maps(classifier, info):
    waveform = sound(2)
    maps = looked_at(classifier, waveform)[1].features.maps
    model = interpreter(info, alpha=0)
    nowhere = tuple(torch.full_like(one, float("nan")) for one in maps)
    with torch.no_grad():
        a, b = model.separate(waveform, maps), model.separate(waveform, nowhere)
    assert torch.equal(a.relevant, b.relevant)
    assert a.relevant.isfinite().all()


@pytest.mark.parametrize("balance", [True, False])
def test_alpha_one_never_shows_the_sound_to_the_mask_network(classifier, info, balance):
    maps = looked_at(classifier, sound(2))[1].features.maps
    model = interpreter(info, alpha=1, balance=balance)
    seen = [network_inputs(model, waveform, maps)[0] for waveform in (sound(2), sound(2, seed=1))]
    assert torch.equal(*seen)
    (other,) = network_inputs(model, sound(2), (*maps[:3], torch.rand_like(maps[3])))
    assert not torch.allclose(seen[0], other)


def test_alpha_mixes_what_it_says(classifier, info):
    waveform = sound(1)
    maps = looked_at(classifier, waveform)[1].features.maps
    ends = [interpreter(info, alpha=alpha, balance=False) for alpha in (0, 1)]
    ends[1].load_state_dict(ends[0].state_dict(), strict=False)
    model = interpreter(info, alpha=0.75, balance=False)
    model.load_state_dict(ends[1].state_dict())
    low, high, mixed = (network_inputs(one, waveform, maps)[0] for one in (*ends, model))
    torch.testing.assert_close(low, model.codec.encode(waveform))
    torch.testing.assert_close(mixed, 0.25 * low + 0.75 * high)


def test_balance_makes_the_mask_blind_to_loudness(classifier, info):
    waveform = sound(1)
    maps = looked_at(classifier, waveform)[1].features.maps
    model = interpreter(info)
    loud, faint = (network_inputs(model, gain * waveform, maps)[0] for gain in (1.0, 0.01))
    torch.testing.assert_close(loud, faint, rtol=1e-3, atol=1e-3)
    only_sound = network_inputs(interpreter(info, alpha=0), waveform, maps)[0]
    torch.testing.assert_close(only_sound.square().mean(), torch.tensor(1.0))


def test_the_mask_is_a_sigmoid_and_the_activation_an_argument():
    torch.manual_seed(0)
    frames = torch.randn(1, 32, 130)
    sigmoid, identity = NETWORK(32), NETWORK(32, activation=nn.Identity)
    sigmoid.end_conv1x1.weight.data *= 30
    identity.load_state_dict(sigmoid.state_dict())
    with torch.no_grad():
        mask, logit = sigmoid(frames), identity(frames)
    assert mask.shape == frames.shape
    assert logit.min() < -1
    assert logit.max() > 1
    assert mask.min() >= 0
    assert mask.max() <= 1
    torch.testing.assert_close(mask, logit.sigmoid())


def test_the_output_gain_spreads_the_first_masks():
    frames, masks = torch.rand(2, 32, 200), {}
    for gain in (1.0, 20.0):
        torch.manual_seed(0)
        masks[gain] = NETWORK(32, output_gain=gain)(frames)
    torch.testing.assert_close(masks[20.0], torch.sigmoid(20 * torch.logit(masks[1.0])), rtol=0, atol=1e-4)
    assert masks[1.0].std() < 0.1
    assert masks[20.0].std() > 0.2


def test_the_mask_network_is_speechbrains():
    torch.manual_seed(0)
    blocks = [
        SBTransformerBlock(n, 32, 4, 48, dropout=0.0, use_positional_encoding=True, norm_before=True) for n in (2, 1)
    ]
    stock = Dual_Path_Model(24, 32, *blocks, num_layers=2, K=20, num_spks=1, linear_layer_after_inter_intra=False)
    ours = MaskNetwork(24, 32, 2, 20, 2, 1, 4, 48, activation=nn.ReLU)
    ours.load_state_dict(stock.state_dict())
    frames = torch.randn(2, 24, 133)
    torch.testing.assert_close(ours(frames), stock(frames)[0], rtol=1e-4, atol=1e-5)


def test_sampling_places_steps_evenly():
    sequence = torch.tensor([[[0.0, 10.0, 20.0, 30.0]]])
    position = torch.tensor([0.0, 0.125, 0.25, 0.375, 0.5, 0.875, 1.0])
    expected = torch.tensor([[[0.0, 0.0, 5.0, 10.0, 15.0, 30.0, 30.0]]])
    torch.testing.assert_close(sample_at(sequence, position), expected)


@pytest.mark.parametrize("sizes", [[(28, 28), (14, 14), (7, 7), (7, 7)], [(14, 14)] * 4, [(3, 1)]])
def test_the_map_decoder_takes_maps_of_any_size(sizes):
    maps = [torch.randn(2, 4 + index, *size, requires_grad=True) for index, size in enumerate(sizes)]
    output = MapDecoder([one.shape[1] for one in maps], 16, 24)(maps)
    assert output.shape == (2, 24, sizes[0][0])
    output.square().sum().backward()
    assert all(one.grad.abs().sum() > 0 for one in maps)


def waves(size: tuple[int, ...], function=torch.cos) -> torch.Tensor:
    """The function of 0, 1, 2, ... in the shape of a tensor."""
    count = torch.Size(size).numel()
    return function(torch.arange(count, dtype=torch.float64)).float().view(size)


def published_maps() -> list[torch.Tensor]:
    """Maps of the sizes that a CNN14 has of 5 s, with few channels, fine to coarse."""
    return [waves((1, c, *size)) for c, size in ((4, (53, 10)), (8, (26, 5)), (16, (13, 2)), (32, (13, 2)))]


def test_the_published_map_decoder_gives_what_the_published_code_gives():
    """The values are those of `CNN14PSI_encoderdecoder(dim=32)` of lmac-td-code c431179 with the same weights."""
    decoder = PaperMapDecoder((4, 8, 16, 32), 256)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(0.2 * waves(tuple(parameter.shape), torch.sin))
        sequence = decoder(published_maps())
    assert sequence.shape == (1, 256, 10001)
    cropped = sequence[0, :, 1:-1]
    expected = {(0, 0): -0.033544935, (100, 5000): 0.022674628, (255, 9998): -0.0043951916, (17, 123): 0.012466338}
    for (feature, step), value in expected.items():
        assert cropped[feature, step].item() == pytest.approx(value, abs=1e-6)
    assert cropped.abs().mean().item() == pytest.approx(0.028020035, abs=1e-6)
    assert torch.equal(sequence[..., :1], sequence[..., 1:2]) and torch.equal(sequence[..., -1:], sequence[..., -2:-1])


def test_the_published_map_decoder_has_the_papers_size():
    with torch.device("meta"):
        decoder = PaperMapDecoder((256, 512, 1024, 2048), 256)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 139_080_577


def test_of_5_seconds_each_published_step_goes_to_the_frame_of_its_number(info):
    model = interpreter(info, alpha=1, balance=False, codec=partial(Codec, filters=64, kernel=16))
    guide = torch.randn(1, model.codec.filters, 10001)
    seen = []
    model.mask_network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model._mask(model.codec.encode(sound(1, 5.0)), guide, 0, 80000)
    assert torch.equal(seen[0], guide)


def test_the_published_map_decoder_stands_in_the_interpreter(classifier, info):
    model = interpreter(info, alpha=0.5, map_decoder=PaperMapDecoder, codec=partial(Codec, filters=256))
    waveform = sound(2)
    maps = looked_at(classifier, waveform)[1].features.maps
    separated = model.separate(waveform, maps)
    assert separated.relevant.shape == waveform.shape
    separated.relevant.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.map_decoder.parameters())


@pytest.mark.parametrize("seconds", [1.0, 1.37, 5.0])
@pytest.mark.parametrize("clips", [1, 2])
def test_lengths(classifier, info, seconds, clips):
    waveform = sound(clips, seconds)
    spectrogram, evidence = looked_at(classifier, waveform)
    with torch.no_grad():
        result = interpreter(info).interpret(classifier, spectrogram, evidence)
    assert result.mask.shape == result.relevant.log_magnitude.shape == spectrogram.log_magnitude.shape
    assert result.mask.min() >= 0
    assert result.mask.max() <= 1
    assert torch.equal(result.target, evidence.prediction)
    synthesize = classifier.frontend.synthesize
    parts = synthesize(result.relevant) + synthesize(result.residual)
    assert parts.shape == waveform.shape
    assert (parts - waveform).abs().max() < 1e-4


def test_silence_has_no_share_and_no_nan(classifier, info):
    spectrogram, evidence = looked_at(classifier, torch.zeros(1, RATE))
    model = interpreter(info, freeze_codec=False, reconstruction=1.0)
    assert not model.interpret(classifier, spectrogram, evidence).mask.any()
    terms = model.loss(classifier, spectrogram, evidence)
    sum(term.sum() for term in terms.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_mask_is_the_relevant_share(classifier, info):
    spectrogram, evidence = looked_at(classifier, sound(1))
    model = interpreter(info)
    model.mask_network = ConstantMask(0.25)
    mask = model.interpret(classifier, spectrogram, evidence).mask
    torch.testing.assert_close(mask, torch.full_like(mask, 0.25), rtol=0, atol=1e-3)


class ConstantMask(nn.Module):
    """The same mask value everywhere."""

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, frames):
        return torch.full_like(frames, self.value)


def test_loss_terms_have_their_weights(classifier, info):
    spectrogram, evidence = looked_at(classifier, sound(2))
    model = interpreter(info, reconstruction=0.5)
    model.mask_network = ConstantMask(1.0)
    terms = model.loss(classifier, spectrogram, evidence, clean=spectrogram)
    entropy = -evidence.probabilities.max(dim=1).values.log()
    silent = classifier(classifier.frontend.analyze(torch.zeros(2, RATE))).probabilities
    missing = -silent.gather(1, evidence.prediction[:, None]).squeeze(1).log()
    torch.testing.assert_close(terms["inside"], 4.0 * entropy, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(terms["outside"], -0.2 * missing, rtol=1e-3, atol=1e-3)
    expected = 0.4 * spectrogram.log_magnitude.mean(dim=(1, 2))
    torch.testing.assert_close(terms["sparsity"], expected, rtol=1e-3, atol=1e-3)
    assert (terms["reconstruction"] < -0.5 * 60).all()  # above 60 dB: nothing is lost


def test_terms_of_weight_zero_are_not_computed(classifier, info):
    spectrogram, evidence = looked_at(classifier, sound(1))
    assert set(interpreter(info).loss(classifier, spectrogram, evidence)) == {"inside", "outside", "sparsity"}
    none = interpreter(info, inside=0, outside=0, sparsity=0).loss(classifier, spectrogram, evidence)
    assert none == {}
    passes = []
    hook = classifier.register_forward_hook(lambda *_: passes.append(1))
    terms = masking_terms(classifier, spectrogram, spectrogram, evidence.prediction, 0.0, 1.0)
    hook.remove()
    assert list(terms) == ["outside"]
    assert len(passes) == 1


def test_a_clips_loss_does_not_depend_on_its_batch(classifier, info):
    waveform = torch.cat([sound(1), 0.1 * sound(1, seed=1)])
    model = interpreter(info, reconstruction=0.1).train()
    together = model.loss(classifier, *looked_at(classifier, waveform))
    for clip in range(2):
        alone = model.loss(classifier, *looked_at(classifier, waveform[clip : clip + 1]))
        for name, term in alone.items():
            torch.testing.assert_close(term[0], together[name][clip], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("alpha", [0, 0.75, 1])
def test_gradients_reach_what_is_trained_and_nothing_else(classifier, info, freeze, alpha):
    model = interpreter(info, alpha=alpha, freeze_codec=freeze).train()
    before = {name: value.clone() for name, value in model.codec.state_dict().items()}
    terms = model.loss(classifier, *looked_at(classifier, sound(1)))
    sum(term.sum() for term in terms.values()).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    expected = {name for name, _ in model.named_parameters() if not (freeze and name.startswith("codec."))}
    assert trained == expected
    assert all(parameter.grad is None for parameter in classifier.parameters())
    torch.optim.Adam(model.parameters(), 1e-2, weight_decay=0.1).step()
    kept = all(torch.equal(value, before[name]) for name, value in model.codec.state_dict().items())
    assert kept == freeze


def faded(pieces: dict[int, np.ndarray], samples: int, window: int) -> np.ndarray:
    """Windows by their first sample, each weighted by a trapezium with ramps of a quarter of its length."""
    edge = np.minimum(np.arange(1, window + 1), window // 4)
    trapezium = np.minimum(edge, edge[::-1])
    total, weight = np.zeros(samples), np.zeros(samples)
    for start, piece in pieces.items():
        total[start : start + window] += trapezium * piece
        weight[start : start + window] += trapezium
    return total / weight


def test_a_long_sound_is_separated_in_windows(info):
    model = interpreter(info, alpha=0, max_seconds=8.0)
    waveform = sound(1, 30.0)
    window, samples = 8 * RATE, 30 * RATE
    starts = [0, 6 * RATE, 12 * RATE, 18 * RATE, 22 * RATE]  # the last one ends with the sound
    inputs = network_inputs(model, waveform, ())
    assert [one.shape[2] for one in inputs] == [window // 16 + 1] * len(starts)
    with torch.no_grad():
        result = model.separate(waveform, ())
        parts = {start: model.separate(waveform[:, start : start + window], ()) for start in starts}
    for name in ("relevant", "residual"):
        pieces = {start: getattr(part, name)[0].numpy() for start, part in parts.items()}
        expected = torch.from_numpy(faded(pieces, samples, window)).float()
        torch.testing.assert_close(getattr(result, name)[0], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(result.relevant[0, : 6 * RATE], parts[0].relevant[0, : 6 * RATE])
    assert (result.relevant + result.residual - waveform).abs().max() < 1e-4


def test_a_window_sees_its_own_part_of_the_maps(classifier, info):
    waveform = sound(1, 3.0)
    maps = looked_at(classifier, waveform)[1].features.maps
    whole, windowed = (interpreter(info, alpha=1, balance=False, max_seconds=seconds) for seconds in (3.0, 1.0))
    (everything,) = network_inputs(whole, waveform, maps)
    pieces = network_inputs(windowed, waveform, maps)
    starts = [0, 12000, 24000, 32000]
    assert len(pieces) == len(starts)
    for start, piece in zip(starts, pieces, strict=True):
        torch.testing.assert_close(piece, everything[:, :, start // 16 : start // 16 + 1001])


def test_a_sound_within_the_window_is_not_touched(classifier, info):
    waveform = sound(2)
    maps = looked_at(classifier, waveform)[1].features.maps
    with torch.no_grad():
        just, ample = (interpreter(info, max_seconds=s).separate(waveform, maps) for s in (1.0, 60.0))
    assert torch.equal(just.relevant, ample.relevant)
    assert torch.equal(just.residual, ample.residual)


@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_the_relevant_sound_is_what_the_mask_leaves_of_the_code(classifier, info, alpha):
    waveform = sound(2)
    maps = looked_at(classifier, waveform)[1].features.maps
    model = interpreter(info, alpha=alpha)
    with torch.no_grad():
        masked_code = model.mask_of(waveform, maps) * model.codec.encode(waveform)
        expected = model.codec.decode(masked_code, waveform.shape[1])
        assert torch.equal(model.separate(waveform, maps).relevant, expected)


def test_training_lowers_the_loss(classifier, info):
    model = interpreter(info).train()
    spectrogram, evidence = looked_at(classifier, sound(2))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    history = []
    for _ in range(12):
        loss = sum(term.mean() for term in model.loss(classifier, spectrogram, evidence).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.9 * history[0]


def test_autocast_keeps_the_loss_in_float32(classifier, info):
    spectrogram, evidence = looked_at(classifier, sound(1))
    with torch.autocast("cpu", torch.bfloat16):
        terms = interpreter(info).loss(classifier, spectrogram, evidence)
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_the_recipe_is_the_papers_size(info):
    with RECIPE.open() as stream:
        model = load_hyperpyyaml(stream)["interpreter"](info=info)
    assert model.codec.encoder.conv1d.weight.shape == (256, 1, 16)
    assert model.codec.stride == 8
    assert model.alpha == 0.75
    assert isinstance(model.mask_network.activation, nn.Sigmoid)
    layers = model.mask_network.dual_mdl
    assert [(len(one.intra_mdl.mdl.layers), len(one.inter_mdl.mdl.layers)) for one in layers] == [(8, 2)] * 2
    # 20 transformer layers: attention 4 d (d + 1), feed-forward 2 d d + 2 d, two norms 4 d
    transformers = sum(p.numel() for n, p in model.mask_network.named_parameters() if ".mdl.layers." in n)
    assert transformers == 20 * (4 * 256 * 257 + 2 * 256 * 256 + 2 * 256 + 4 * 256)


def test_the_recipe_shrinks_by_scalars(classifier, info):
    small = (
        "--width=64",
        "--interpreter.codec.filters=128",
        "--interpreter.codec.kernel=64",
        "--layers=1",
        "--chunk=100",
    )
    recipe = load_recipe([str(HPARAMS / "lmac_td.yaml"), *small, "--intra_layers=2", "--inter_layers=1", "--alpha=0.5"])
    model = recipe.build()["interpreter"]["interpreter"](info=info)
    assert sum(p.numel() for p in model.mask_network.parameters()) < 200_000
    spectrogram, evidence = looked_at(classifier, sound(1))
    with torch.no_grad():
        assert model.interpret(classifier, spectrogram, evidence).mask.isfinite().all()
