"""Adopting released interpreters: files as the stock modules write them, and outputs equal to the stock modules'."""

from pathlib import Path

import pytest
import torch
from recipe_files import HPARAMS
from speechbrain.lobes.models.Cnn14 import CNN14PSI_stft
from speechbrain.lobes.models.dual_path import Decoder, Dual_Path_Model, Encoder, SBTransformerBlock
from speechbrain.lobes.models.L2I import CNN14PSI_stft_2d, NMFDecoderAudio, PsiOptimized, Theta
from speechbrain.lobes.models.PIQ import VectorQuantizedPSI_Audio
from torch import nn

from interpreters.decoders import PaperMapDecoder
from models.classifier import Evidence
from models.errors import UsageError
from models.frontend import Spectrogram
from recipes.adopt import main
from recipes.runs.subject import Subject, load_interpreter, load_subject
from recipes.tables import main as tables_main

SMALL = {"width": 16, "chunk": 50, "heads": 2, "feed_forward": 16, "layers": 1, "intra_layers": 1, "inter_layers": 1}


@pytest.fixture(scope="module")
def subject(bundle) -> Subject:
    """A small CNN14, whose maps have the published proportions of channels."""
    return load_subject(bundle("cnn14"), "cpu")


@pytest.fixture(scope="module")
def heard(subject) -> tuple[Spectrogram, Evidence]:
    torch.manual_seed(0)
    spectrogram = subject.classifier.frontend.analyze(torch.randn(2, 80000) * 0.1)
    with torch.no_grad():
        return spectrogram, subject.classifier(spectrogram)


@pytest.fixture
def adopt(arguments, subject, tmp_path):
    """(recipe, folder of the release, *changes) -> the adopted interpreter."""

    def run(recipe: Path, folder: Path, *changes: str) -> nn.Module:
        _, *options = arguments(recipe, tmp_path / "runs", f"--classifier={subject.bundle.path}", *changes)
        main([str(recipe), str(folder), *options])
        (run_folder,) = (tmp_path / "runs").glob("*/*")
        return load_interpreter(run_folder, subject, "train").network

    return run


def release(tmp_path: Path, **parts: nn.Module) -> Path:
    """A folder with a checkpoint of each part."""
    folder = tmp_path / "released"
    folder.mkdir()
    for name, part in parts.items():
        torch.save(part.state_dict(), folder / f"{name}.ckpt")
    return folder


def numbered_otherwise(folder: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """The classes in the order of a release, which its folder tells as SpeechBrain's encoders do."""
    published = names[3:] + names[:3]
    (folder / "label_encoder.txt").write_text("".join(f"'{name}' => {k}\n" for k, name in enumerate(published)))
    return published


def test_l_mac(adopt, heard, tmp_path):
    torch.manual_seed(1)
    stock = CNN14PSI_stft(dim=128, outdim=1).eval()
    ours = adopt(HPARAMS / "lmac_paper.yaml", release(tmp_path, psi_model=stock))
    spectrogram, evidence = heard
    with torch.no_grad():
        expected = stock(evidence.features.maps[::-1])[:, 0].sigmoid()
        result = ours.interpret(None, spectrogram, evidence)
    assert expected.shape == (2, 425, 513)
    torch.testing.assert_close(result.mask[:, :425], expected, atol=1e-5, rtol=1e-5)


def stock_mask_network() -> Dual_Path_Model:
    intra, inter = (
        SBTransformerBlock(1, 16, 2, 16, dropout=0.0, use_positional_encoding=True, norm_before=True) for _ in range(2)
    )
    return Dual_Path_Model(256, 16, intra, inter, num_layers=1, K=50, num_spks=1, linear_layer_after_inter_intra=False)


@pytest.mark.parametrize("alpha", [0, 1])
def test_lmac_td(adopt, heard, tmp_path, alpha):
    """The mask is SpeechBrain's before its activation, and the codec is SpeechBrain's but for frames at both ends."""
    torch.manual_seed(1)
    encoder, decoder = Encoder(16, 256), Decoder(256, 1, kernel_size=16, stride=8, bias=False)
    network = stock_mask_network()
    parts = {"encoder": encoder, "decoder": decoder, "masknet": network}
    small = [f"--interpreter.mask_network.{key}={value}" for key, value in SMALL.items()]
    if alpha:
        parts["convt_decoder"] = PaperMapDecoder((16, 32, 64, 128), 256)
    ours = adopt(HPARAMS / "lmac_td_paper.yaml", release(tmp_path, **parts), f"--alpha={alpha}", *small)
    waveform, maps = torch.randn(1, 80000) * 0.1, heard[1].features.maps
    with torch.no_grad():
        frames = encoder(waveform)
        torch.testing.assert_close(ours.codec.encode(waveform)[:, :, 1:-1], frames, atol=1e-5, rtol=1e-5)
        network.activation = nn.Sigmoid()
        torch.testing.assert_close(ours.mask_network(frames), network(frames)[0], atol=1e-5, rtol=1e-5)
        if alpha:
            torch.testing.assert_close(ours.map_decoder(maps), parts["convt_decoder"](maps))
        else:
            assert ours.map_decoder is None


def test_piq_codes_keep_their_classes(adopt, subject, heard, tmp_path):
    """A release numbers its classes in another order: each class finds the codes that the release trained for it."""
    torch.manual_seed(1)
    channels = subject.offers.map_channels[-1]
    stock = VectorQuantizedPSI_Audio(dim=channels, K=64, numclasses=10).eval()
    folder = release(tmp_path, psi_model=stock)
    names = subject.info.class_names
    published = numbered_otherwise(folder, names)
    options = ("--interpreter.channels=null", "--interpreter.num_codes=64", "--interpreter.owners=published")
    ours = adopt(HPARAMS / "piq_cnn14.yaml", folder, *options, "--interpreter.decoder=spectrogram")
    encoded = torch.randn(2, channels, 3, 2)
    ours_target = torch.tensor([0, 7])
    stock_target = torch.tensor([published.index(names[target]) for target in ours_target])
    with torch.no_grad():
        _, expected = stock.codebook.straight_through(encoded, stock_target)
    torch.testing.assert_close(ours.codebook(encoded, ours_target).codes, expected)
    assert "class_order:" in (tmp_path / "runs/piq_cnn14/1234/interpreter/model.yaml").read_text()
    ours.interpret(None, *heard)


@torch.no_grad()
def test_l2i(adopt, subject, heard, tmp_path):
    """Activations, the mimic's logits and masks are those of SpeechBrain's modules, whose classes have another order.

    Layouts: `psi_model.ckpt` of CNN14PSI_stft_2d (convt1 to convt9), `theta.ckpt` of Theta (hard_att.weight [1, 431]
    and classifier.0.weight [classes, components]), `nmf_decoder.ckpt` of NMFDecoderAudio (W [513, components]).
    """
    torch.manual_seed(2)
    psi, theta, nmf = CNN14PSI_stft_2d(dim=128, K=20), Theta(20, 431, 10), NMFDecoderAudio(20, 513)
    nmf.W.sub_(0.05)  # a trained W has numbers below 0, too
    folder = release(tmp_path, psi_model=psi, theta=theta, nmf_decoder=nmf)
    names = subject.info.class_names
    published = numbered_otherwise(folder, names)
    ours = adopt(HPARAMS / "paper/l2i.yaml", folder, "--interpreter.components=20")
    spectrogram, evidence = heard

    expected = psi(evidence.features.maps[::-1])
    assert expected.shape == (2, 20, 431) and (expected > 0).any(dim=2).sum() > 20
    activations = ours.activations(evidence, 431)
    torch.testing.assert_close(activations, expected, atol=1e-5, rtol=1e-5)

    order = [published.index(name) for name in names]
    answers = ours.theta(ours.pool(activations)).softmax(dim=1)
    torch.testing.assert_close(answers, theta(expected)[:, order], atol=1e-5, rtol=1e-5)

    target = torch.tensor([0, 7])
    masks = ours.interpret(None, spectrogram, evidence, target).mask
    for clip, asked in enumerate(target.tolist()):
        row = theta.classifier[0].weight[order[asked]]
        share = row * theta.hard_att(expected[clip]).squeeze(1)
        chosen = share / share.abs().max() > 0.2
        spectra = nmf.return_W()
        mask = spectra[:, chosen] @ expected[clip, chosen] / (spectra @ expected[clip] + 1e-10)
        assert chosen.any() and not chosen.all()
        torch.testing.assert_close(masks[clip], mask.T, atol=1e-5, rtol=1e-5)


def test_l2i_of_the_conv2d(arguments, bundle, tmp_path):
    """Layouts: `psi_model.ckpt` of PsiOptimized (decoder.0 to decoder.14), Theta of 417 frames, and the dictionary."""
    torch.manual_seed(2)
    subject = load_subject(bundle("conv2d"), "cpu")
    channels = subject.offers.map_channels[-1]
    psi = PsiOptimized(dim=channels, K=20, use_adapter=False, adapter_reduce_dim=False).eval()
    theta, nmf = Theta(20, 417, 10), NMFDecoderAudio(20, 513)
    folder = release(tmp_path, psi_model=psi, theta=theta, nmf_decoder=nmf)
    published = numbered_otherwise(folder, subject.info.class_names)
    classifier = f"--classifier={subject.bundle.path}"
    _, *options = arguments(HPARAMS / "l2i_conv2d.yaml", tmp_path / "runs", classifier, "--interpreter.components=20")
    main([str(HPARAMS / "l2i_conv2d.yaml"), str(folder), *options])
    ours = load_interpreter(tmp_path / "runs/l2i_conv2d/1234", subject, "train").network
    spectrogram = subject.classifier.frontend.analyze(torch.randn(2, 80000) * 0.1)
    with torch.no_grad():
        evidence = subject.classifier(spectrogram)
        expected = psi(evidence.features.maps[-1])[0].squeeze(1).transpose(1, 2)
        activations = ours.activations(evidence, 431)
        answers, their_answers = ours.theta(ours.pool(activations)).softmax(dim=1), theta(expected)
        mask = ours.interpret(None, spectrogram, evidence).mask
    torch.testing.assert_close(activations, expected, atol=1e-5, rtol=1e-5)
    order = [published.index(name) for name in subject.info.class_names]
    torch.testing.assert_close(answers, their_answers[:, order], atol=1e-5, rtol=1e-5)
    assert mask.shape == (2, 431, 513) and (mask[:, 417:] == 0).all()


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("lmac.yaml", "builds no network that was released for this classifier: LMAC needs the networks of its paper"),
        ("l2i.yaml", "L2I needs the networks of its paper, as hparams/paper sets them, and maps of the published chan"),
        ("lmac_paper.yaml", "no checkpoint .*psi_model.ckpt"),
        ("paper/l2i.yaml", "no .*label_encoder.txt: it says which of the classifier's outputs is which class"),
        ("grad_cam.yaml", "builds no network that was released"),
        ("piq_cnn14.yaml", "owned otherwise than owners=even says: pass --interpreter.owners=published"),
    ],
)
def test_what_was_not_released_is_refused(arguments, subject, tmp_path, recipe, sentence):
    _, *options = arguments(HPARAMS / recipe, tmp_path / "runs", f"--classifier={subject.bundle.path}")
    with pytest.raises(UsageError, match=sentence):
        main([str(HPARAMS / recipe), str(tmp_path), *options])
    assert not (tmp_path / "runs").exists()


def test_a_release_of_another_size_is_refused(adopt, tmp_path):
    with pytest.raises(UsageError, match=r"psi_model\.ckpt does not fit this interpreter"):
        adopt(HPARAMS / "lmac_paper.yaml", release(tmp_path, psi_model=CNN14PSI_stft(dim=64)))


def test_an_adopted_interpreter_is_scored_and_never_replaced(adopt, interpret, subject, tmp_path):
    folder = release(tmp_path, psi_model=CNN14PSI_stft(dim=128, outdim=1))
    adopt(HPARAMS / "lmac_paper.yaml", folder)
    with pytest.raises(UsageError, match="holds an interpreter already"):
        adopt(HPARAMS / "lmac_paper.yaml", folder)
    options = (f"--classifier={subject.bundle.path}", "--test_only", "--report_clips=0")
    scored = interpret(HPARAMS / "lmac_paper.yaml", tmp_path / "runs", *options)
    assert '"weights": "released checkpoint released"' in (scored / "metrics.json").read_text()


def test_an_adopted_interpreter_of_a_published_set_up_stands_below_its_row(adopt, interpret, subject, tmp_path, capsys):
    adopt(
        HPARAMS / "paper/lmac.yaml",
        release(tmp_path, psi_model=CNN14PSI_stft(dim=128, outdim=1)),
        "--train_noise=clean",
    )
    options = (f"--classifier={subject.bundle.path}", "--test_only", "--train_noise=clean", "--report_clips=0")
    interpret(HPARAMS / "paper/lmac.yaml", tmp_path / "runs", *options)
    capsys.readouterr()
    tables_main(["--paper", f"--runs={tmp_path / 'runs'}"])
    rows = [line for line in capsys.readouterr().out.splitlines() if "released checkpoint released" in line]
    assert len(rows) == 2  # two papers have this row
    assert all(row.startswith("| `lmac` | ours, seed 1234 |") for row in rows)
