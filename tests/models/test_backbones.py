"""FocalNet, ViT and CNN14: sizes, features, hooks, and weights from elsewhere."""

import pickle
import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models.Cnn14 import Cnn14
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain.lobes.models.PIQ import Conv2dEncoder_v2
from torch import nn
from transformers import (
    FocalNetBackbone,
    FocalNetConfig,
    FocalNetForImageClassification,
    ViTForImageClassification,
    ViTModel,
)

from models.adapters import MelAdapter, PlaneAdapter
from models.classifier import AudioClassifier, CosineHead
from models.cnn14 import CNN14
from models.conv2d import Conv2d
from models.errors import UsageError
from models.focal_modulation import Modulation
from models.focalnet import SIZES as FOCALNET_SIZES
from models.focalnet import FocalNet, published_config
from models.frontend import FrontEnd
from models.heads import Head
from models.pretrained import check_reachable, load_speechbrain, read_checkpoint
from models.vit import SIZES as VIT_SIZES
from models.vit import ViT
from recipes.config.recipe import load_recipe

CLASSIFIERS = Path(__file__).parents[2] / "hparams" / "classifiers"


def millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def shapes(maps) -> list[tuple[int, ...]]:
    return [tuple(one.shape[1:]) for one in maps]


def stock_focalnet(backbone: FocalNet) -> FocalNetBackbone:
    """The network of `transformers` with a backbone's weights."""
    stock = FocalNetBackbone(published_config(24, [1, 1, 2, 1], 0.1))
    stock.load_state_dict(backbone.model.state_dict())
    return stock


@pytest.mark.parametrize("shape", [(1, 3, 96, 96), (2, 3, 64, 64), (1, 3, 70, 90)])
def test_the_focal_network_is_that_of_transformers(shape):
    torch.manual_seed(3)
    stock = FocalNetBackbone(published_config(24, [1, 1, 2, 1], 0.5))
    drawn_next = torch.rand(3)
    torch.manual_seed(3)
    ours = FocalNet("nano", drop_path=0.5).model
    assert torch.equal(torch.rand(3), drawn_next)
    assert list(ours.state_dict()) == list(stock.state_dict())
    assert all(torch.equal(value, stock.state_dict()[name]) for name, value in ours.state_dict().items())
    image = torch.randn(shape)
    for training in (False, True):
        outputs = []
        for network in (stock.train(training), ours.train(training)):
            torch.manual_seed(4)  # of the dropped paths
            network.zero_grad()
            answer = network(image)
            maps = answer if isinstance(answer, list) else answer.feature_maps
            sum(part.square().sum() for part in maps).backward()
            outputs.append((maps, {name: value.grad for name, value in network.named_parameters()}))
        (expected, expected_gradients), (found, gradients) = outputs
        # to rounding: on a CPU, query, context and gates are products of their own
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.fixture(scope="module")
def full_cnn14() -> AudioClassifier:
    with (CLASSIFIERS / "cnn14_network.yaml").open() as stream:
        return load_hyperpyyaml(stream)["classifier"]


@pytest.mark.parametrize("name, expected", [("focalnet", 87.3), ("vit", 86.5)])
def test_parameters_with_50_classes_are_the_papers(name, expected):
    with torch.device("meta"), (CLASSIFIERS / f"{name}_network.yaml").open() as stream:
        assert millions(load_hyperpyyaml(stream)["classifier"]) == pytest.approx(expected, abs=0.05)


def test_parameters_of_conv2d_with_50_classes_are_those_of_the_stock_modules():
    with torch.device("meta"), (CLASSIFIERS / "conv2d_network.yaml").open() as stream:
        classifier = load_hyperpyyaml(stream)["classifier"]
        stock = [Conv2dEncoder_v2(256), Classifier(256, lin_blocks=1, out_neurons=50)]
    assert millions(classifier) == sum(map(millions, stock)) == 3.869248


def test_parameters_of_cnn14_with_50_classes(full_cnn14):
    assert millions(full_cnn14) == pytest.approx(75.6, abs=0.05)


def test_named_sizes_are_as_large_as_documented():
    with torch.device("meta"):
        focalnets = {size: millions(FocalNet(size)) for size in FOCALNET_SIZES}
        vits = {size: millions(ViT(size)) for size in VIT_SIZES}
    assert focalnets == {
        "nano": pytest.approx(0.8, abs=0.05),
        "mini": pytest.approx(7, abs=0.5),
        "tiny": pytest.approx(28, abs=0.5),
        "small": pytest.approx(49, abs=0.5),
        "base": pytest.approx(87, abs=0.5),
    }
    assert vits == {
        "nano": pytest.approx(0.2, abs=0.1),
        "tiny": pytest.approx(5.6, abs=0.05),
        "small": pytest.approx(22, abs=0.5),
        "base": pytest.approx(86, abs=0.5),
    }


def test_features_of_focalnet():
    network = FocalNet("nano").eval()
    features = network(torch.randn(2, 3, 224, 224))
    assert features.embedding.shape == (2, network.embedding_size) == (2, 192)
    assert shapes(features.maps) == [(48, 28, 28), (96, 14, 14), (192, 7, 7), (192, 7, 7)]
    assert features.native_map.shape == (2, 1, 7, 7) and features.native_map.min() >= 0
    # layers by stage: 1, 1, 2 and 1, the last of which has the native map
    assert shapes(features.earlier_maps) == [(1, 56, 56), (1, 28, 28), (1, 14, 14), (1, 14, 14)]
    torch.testing.assert_close(features.embedding, features.maps[-1].mean(dim=(2, 3)))
    assert network.provenance == "from scratch"
    in_training = network.train()(torch.randn(2, 3, 224, 224))
    assert in_training.earlier_maps == () and in_training.native_map.shape == (2, 1, 7, 7)


def test_gradients_of_contexts_lie_channels_last_as_the_contexts_do():
    modulation, layouts = Modulation(8), []

    def keep_layout(layer, slopes_in, slopes_out):
        layouts.append(slopes_out[0].is_contiguous(memory_format=torch.channels_last))

    for layer in modulation.focal_layers:
        layer.register_full_backward_hook(keep_layout)
    modulation(torch.randn(2, 6, 7, 8)).square().sum().backward()
    assert layouts == [True, True]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_modulation_without_a_gradient_is_the_one_with_it_and_leaves_its_input(precision):
    modulation, x = Modulation(8), torch.randn(2, 6, 7, 8)
    before = x.clone()
    with torch.autocast("cpu", precision, enabled=precision is torch.bfloat16):
        expected = modulation(x)
        with torch.no_grad():
            found = modulation(x)
    assert found.dtype == precision and torch.equal(x, before)
    torch.testing.assert_close(found, expected.detach())


def test_gradients_of_a_focalnet_from_scratch_are_finite_on_digital_silence():
    torch.manual_seed(5)
    network = FocalNet("small")
    image = torch.rand(1, 3, 224, 224)
    image[..., 100:] = 0
    network(image).embedding.square().mean().backward()
    squares = [weight.grad.square().sum() for weight in network.parameters() if weight.grad is not None]
    assert torch.stack(squares).sum().sqrt() < 100


def test_features_of_vit():
    network = ViT("nano").eval()
    image = torch.randn(2, 3, 224, 224)
    features = network(image)
    tokens = network.model(image).last_hidden_state
    assert shapes(features.maps) == [(48, 14, 14)] * 4 and network.embedding_size == 48
    assert features.native_map.shape == (2, 1, 14, 14) and features.native_map.min() >= 0
    assert features.native_map.sum() <= 2  # the class token attends to itself as well
    torch.testing.assert_close(features.embedding, tokens.mean(dim=1))


def test_maps_of_vit_are_its_layers_without_the_class_token():
    network = ViT("tiny").eval()
    image = torch.randn(1, 3, 224, 224)
    hidden = network.model(image, output_hidden_states=True).hidden_states
    for found, layer in zip(network(image).maps, (3, 6, 9, 12), strict=True):
        torch.testing.assert_close(found[0, :, 2, 5], hidden[layer][0, 1 + 2 * 14 + 5])


def test_features_of_cnn14():
    network = CNN14(width=1 / 16).eval()
    features = network(torch.randn(2, 431, 80))
    assert features.embedding.shape == (2, network.embedding_size) == (2, 128)
    assert shapes(features.maps) == [(16, 53, 10), (32, 26, 5), (64, 13, 2), (128, 13, 2)]
    assert features.native_map is None
    last = features.maps[-1].mean(dim=3)  # maximum over time plus mean over time, as PANNs pools
    torch.testing.assert_close(features.embedding, last.amax(dim=2) + last.mean(dim=2))


@pytest.mark.parametrize("training", [False, True])
def test_features_of_conv2d_are_those_of_the_stock_encoder(training):
    network = Conv2d(8).train(training)
    stock = Conv2dEncoder_v2(8).train(training)
    stock.load_state_dict(network.model.state_dict())
    plane = torch.rand(2, 431, 513)
    features = network(plane)
    torch.testing.assert_close(features.maps[-1], stock(plane), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(features.embedding, features.maps[-1].mean(dim=(-1, -2)))
    assert shapes(features.maps) == [(8, 107, 128), (8, 53, 64), (8, 26, 32), (8, 26, 32)]
    assert torch.equal(network.model.bn4.running_mean, stock.bn4.running_mean)


def test_the_plane_that_conv2d_sees_is_the_spectrogram_padded_at_its_end():
    spectrogram = FrontEnd().analyze(torch.randn(1, 1000))
    frames = spectrogram.log_magnitude.shape[1]
    plane = PlaneAdapter()(spectrogram)
    assert frames < 16 and plane.shape == (1, 16, 513)
    assert torch.equal(plane[:, :frames], spectrogram.log_magnitude) and plane[:, frames:].abs().max() == 0
    assert shapes(Conv2d(4)(plane).maps)[-1] == (4, 1, 32)


def test_rows_of_maps_are_time_and_columns_frequency(classifier):
    spectrogram = classifier.eval().frontend.analyze(0.1 * torch.randn(1, 80000))
    log_magnitude = spectrogram.log_magnitude.requires_grad_()
    last_and_lowest = classifier(spectrogram).features.maps[0][0, :, -1, 0]
    (gradient,) = torch.autograd.grad(last_and_lowest.square().sum(), log_magnitude)
    low, high = gradient[0].abs().split([256, 257], dim=1)
    parts = {
        (time, band): plane[rows].mean()
        for time, rows in (("early", slice(0, 215)), ("late", slice(215, 431)))
        for band, plane in (("low", low), ("high", high))
    }
    assert max(parts, key=parts.get) == ("late", "low")


@pytest.mark.parametrize("name", ["focalnet", "vit"])
def test_hooks_are_gone_after_a_pass_and_after_a_failure(name, request):
    network = request.getfixturevalue(name).backbone
    listened = [
        module for key, module in network.named_modules() if key.endswith(("projection_context", "q_proj", "k_proj"))
    ]
    assert len(listened) == {"focalnet": 5, "vit": 8}[name]
    network(torch.zeros(1, 3, 224, 224))
    assert not any(module._forward_hooks for module in listened)
    with pytest.raises((ValueError, RuntimeError)):
        network(torch.zeros(1, 2, 64, 64))
    assert not any(module._forward_hooks for module in listened)


@pytest.mark.parametrize(
    "build, sentence",
    [
        (lambda: FocalNet("huge"), "size='huge' is not one of nano, mini, tiny, small, base"),
        (lambda: ViT("mini"), "size='mini' is not one of nano, tiny, small, base"),
        (lambda: CNN14(width=0.001), r"width=0\.001 leaves CNN14's first block without channels"),
    ],
)
def test_an_unknown_size_is_told(build, sentence):
    with pytest.raises(UsageError, match=sentence):
        build()


@pytest.mark.parametrize(
    "backbone, with_head", [(FocalNet, FocalNetForImageClassification), (ViT, ViTForImageClassification)]
)
def test_weights_come_from_a_local_folder(tmp_path, backbone, with_head):
    stored = backbone("nano")
    stock = stored.model if backbone is ViT else stock_focalnet(stored)
    stock.save_pretrained(tmp_path / "backbone")
    loaded = backbone("nano", weights=str(tmp_path / "backbone"))
    assert loaded.provenance == str(tmp_path / "backbone")
    assert loaded.state_dict().keys() == stored.state_dict().keys()
    assert all(torch.equal(value, stored.state_dict()[key]) for key, value in loaded.state_dict().items())

    # Hubs hold image classifiers: other heads, and no pooler, which no backbone here uses.
    image_classifier = with_head(stock.config).eval()
    image_classifier.save_pretrained(tmp_path / "classifier")
    loaded = backbone("nano", weights=str(tmp_path / "classifier")).eval()
    image = torch.randn(1, 3, 224, 224)
    hidden = image_classifier.base_model(image).last_hidden_state.mean(dim=1)
    if backbone is ViT:
        torch.testing.assert_close(loaded(image).embedding, hidden)
    else:
        last = image_classifier.base_model.encoder.state_dict()
        assert all(torch.equal(value, last[key]) for key, value in loaded.model.focalnet.encoder.state_dict().items())


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine that holds a model `here/it-is` and nothing else."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path.startswith("/here/it-is/") else 404)
            self.send_header("ETag", '"1"')
            self.end_headers()

        def log_message(self, *arguments):
            """Say nothing."""

    server = HTTPServer(("localhost", 0), Answer)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://localhost:{server.server_port}")
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://localhost:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    with server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_hub_is_asked_once_before_weights_are_loaded(hub, tmp_path):
    check_reachable("here/it-is")
    check_reachable(str(tmp_path))  # a folder needs no hub
    with pytest.raises(OSError, match=r"no such folder, and from the hub: .*404"):
        check_reachable("here/it-is-not")
    with pytest.raises(OSError, match="no such folder, and from the hub: Repo id"):
        check_reachable(str(tmp_path / "nowhere"))


def test_a_hub_that_does_not_answer_is_told_at_once(hub, monkeypatch):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(UsageError, match="no such folder, and from the hub"):
        FocalNet("nano", weights="here/it-is")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="HF_HUB_OFFLINE is set, and nothing is kept"):
        check_reachable("here/it-is")


def test_weights_that_are_missing_or_do_not_fit_are_told(tmp_path):
    absent = str(tmp_path / "absent")
    with pytest.raises(UsageError, match=f"weights={absent!r} could not be loaded as size 'nano'.*give a hub name"):
        ViT("nano", weights=absent)
    with pytest.raises(UsageError, match="could not be loaded as size 'nano'"):
        FocalNet("nano", weights=str(tmp_path))
    stock_focalnet(FocalNet("nano")).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="could not be loaded as size 'mini'"):
        FocalNet("mini", weights=str(tmp_path))
    shallow = published_config(24, [1, 1, 1, 1], 0.1)
    FocalNetBackbone(shallow).save_pretrained(tmp_path / "shallow")
    with pytest.raises(UsageError, match=r"do not fit size 'nano': \d+ tensors such as .*stages\.2\.layers\.1"):
        FocalNet("nano", weights=str(tmp_path / "shallow"))


# What the ViT modules of transformers 4, and so the published checkpoints, were called.
OLD_VIT_NAMES = {
    r"^layers\.(\d+)\.attention\.q_proj\.": r"encoder.layer.\1.attention.attention.query.",
    r"^layers\.(\d+)\.attention\.k_proj\.": r"encoder.layer.\1.attention.attention.key.",
    r"^layers\.(\d+)\.attention\.v_proj\.": r"encoder.layer.\1.attention.attention.value.",
    r"^layers\.(\d+)\.attention\.o_proj\.": r"encoder.layer.\1.attention.output.dense.",
    r"^layers\.(\d+)\.mlp\.fc1\.": r"encoder.layer.\1.intermediate.dense.",
    r"^layers\.(\d+)\.mlp\.fc2\.": r"encoder.layer.\1.output.dense.",
    r"^layers\.(\d+)\.": r"encoder.layer.\1.",
}


def old_name(key: str) -> str:
    for new, old in OLD_VIT_NAMES.items():
        key = re.sub(new, old, key)
    return key


def published(
    folder: Path, embedding_model: nn.Module, classifier: nn.Module, rename=str, files=("embedding_model", "classifier")
) -> None:
    state = {rename(key): value for key, value in embedding_model.state_dict().items()}
    torch.save(state, folder / f"{files[0]}.ckpt")
    torch.save(classifier.state_dict(), folder / f"{files[1]}.ckpt")


def cosines(classifier: AudioClassifier, spectrogram) -> torch.Tensor:
    return classifier.eval()(spectrogram).logits / classifier.head.scale


@torch.no_grad()
def test_speechbrains_focalnet_checkpoint_loads(focalnet, tmp_path):
    nano = published_config(24, [1, 1, 2, 1], 0.1)
    settings = nano.to_dict() | {"out_features": ["stage4"], "out_indices": None}
    config = FocalNetConfig(**settings)
    stock, head = FocalNetBackbone(config).eval(), Classifier(192, lin_blocks=1, out_neurons=5).eval()
    published(tmp_path, stock, head)
    load_speechbrain(focalnet, tmp_path)
    spectrogram = focalnet.frontend.analyze(torch.randn(2, 16000))
    hidden = stock(focalnet.adapter(spectrogram)).feature_maps[-1].mean(dim=(2, 3))
    torch.testing.assert_close(cosines(focalnet, spectrogram), head(hidden.unsqueeze(1)).squeeze(1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_speechbrains_vit_checkpoint_loads_under_its_old_names(vit, tmp_path):
    stock, head = ViTModel(vit.backbone.model.config).eval(), Classifier(48, lin_blocks=1, out_neurons=5).eval()
    published(tmp_path, stock, head, old_name)
    names = torch.load(tmp_path / "embedding_model.ckpt", weights_only=True).keys()
    assert "encoder.layer.0.attention.attention.query.weight" in names
    assert "encoder.layer.3.layernorm_before.bias" in names and not any(
        "proj." in one for one in names if "layer" in one
    )
    load_speechbrain(vit, tmp_path)
    spectrogram = vit.frontend.analyze(torch.randn(2, 16000))
    hidden = stock(vit.adapter(spectrogram)).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(cosines(vit, spectrogram), head(hidden.unsqueeze(1)).squeeze(1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_speechbrains_cnn14_checkpoint_loads(full_cnn14, tmp_path):
    stock, head = Cnn14(mel_bins=80, emb_dim=2048).eval(), Classifier(2048, out_neurons=50).eval()
    published(tmp_path, stock, head)
    load_speechbrain(full_cnn14, tmp_path)
    spectrogram = full_cnn14.frontend.analyze(torch.randn(2, 16000))
    embedding = stock(full_cnn14.adapter(spectrogram))
    torch.testing.assert_close(cosines(full_cnn14, spectrogram), head(embedding).squeeze(1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_cnn14_starts_from_speechbrains_weights_of_vggsound(tmp_path):
    stock = Cnn14(mel_bins=80, emb_dim=2048)
    stock.norm0.running_mean.normal_()
    torch.save(stock.state_dict(), tmp_path / "cnn14_vggsound.ckpt")
    network = CNN14(weights=str(tmp_path / "cnn14_vggsound.ckpt")).eval()
    mel = torch.rand(2, 87, 80)
    torch.testing.assert_close(network(mel).embedding, stock.eval()(mel).squeeze(1), atol=1e-5, rtol=0)
    assert network.provenance == str(tmp_path / "cnn14_vggsound.ckpt")
    with pytest.raises(UsageError, match=r"not those of this CNN14: .*norm0"):
        CNN14(num_mels=64, weights=str(tmp_path / "cnn14_vggsound.ckpt"))
    with pytest.raises(UsageError, match=r"are of width 1, not 0\.5: pass --width=1 or --weights=null"):
        CNN14(width=0.5, weights=str(tmp_path / "cnn14_vggsound.ckpt"))


@torch.no_grad()
def test_a_cnn14_starts_from_the_convolutions_of_panns(tmp_path):
    stock = Cnn14(mel_bins=64, emb_dim=2048)
    stock.norm0.running_mean.fill_(-40.0)  # mel bands in dB
    state = {}
    for key, value in stock.state_dict().items():
        state[re.sub(r"(^|\.)norm(\d)\.", r"\1bn\2.", key)] = value
    state |= {"fc1.weight": torch.zeros(2048, 2048), "fc_audioset.bias": torch.zeros(527)}
    state |= {"spectrogram_extractor.stft.conv_real.weight": torch.zeros(513, 1, 1024)}
    state |= {"logmel_extractor.melW": torch.zeros(513, 64)}
    torch.save({"iteration": 600000, "model": state}, tmp_path / "panns.pth")
    network = CNN14(weights=str(tmp_path / "panns.pth")).eval()
    block, image = network.model.conv_block1, torch.rand(1, 1, 32, 64)
    torch.testing.assert_close(block(image), stock.eval().conv_block1(image), atol=1e-5, rtol=0)
    expected = stock.state_dict() | CNN14(width=1 / 16).model.norm0.state_dict(prefix="norm0.")
    assert all(torch.equal(value, expected[key]) for key, value in network.model.state_dict().items())


@torch.no_grad()
def test_speechbrains_piq_classifier_loads_with_the_backbone_that_was_fine_tuned(tmp_path):
    stock, head = Conv2dEncoder_v2(256).eval(), Classifier(256, lin_blocks=1, out_neurons=50).eval()
    torch.save(Conv2dEncoder_v2(256).state_dict(), tmp_path / "embedding_model.ckpt")  # as the release has beside it
    published(tmp_path, stock, head, files=("embedding_modelft", "classifier"))
    with (CLASSIFIERS / "conv2d_network.yaml").open() as stream:
        classifier = load_hyperpyyaml(stream)["classifier"]
    load_speechbrain(classifier, tmp_path)
    spectrogram = classifier.frontend.analyze(torch.randn(2, 16000))
    hidden = stock(spectrogram.log_magnitude).mean(dim=(-1, -2))
    expected = head(hidden.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(cosines(classifier, spectrogram), expected, atol=1e-5, rtol=0)
    network = Conv2d(weights=str(tmp_path / "embedding_modelft.ckpt")).eval()
    torch.testing.assert_close(network(spectrogram.log_magnitude).embedding, hidden, atol=1e-5, rtol=0)
    with pytest.raises(UsageError, match=r"embedding_modelft\.ckpt' are not those of this Conv2d: .*size mismatch"):
        Conv2d(128, weights=str(tmp_path / "embedding_modelft.ckpt"))


def cnn14_with(head: str, blocks: int) -> AudioClassifier:
    """A full-width CNN14 as hparams/cnn14.yaml builds it."""
    changes = [f"--head={head}", f"--head_blocks={blocks}", "--data_folder=none"]
    return load_recipe([str(CLASSIFIERS.parent / "cnn14.yaml"), *changes]).build()["model"]["classifier"].eval()


@torch.no_grad()
def test_speechbrains_cnn14_of_april_2024_loads(tmp_path):
    stock, head = Cnn14(mel_bins=80, emb_dim=2048).eval(), Classifier(2048, lin_blocks=1, out_neurons=50).eval()
    published(tmp_path, stock, head, files=("embedding_model_esc50ft", "classifier_esc50"))
    # the release holds the weights before fine-tuning, too
    torch.save(Cnn14(mel_bins=80, emb_dim=2048).state_dict(), tmp_path / "embedding_model.ckpt")
    classifier = cnn14_with("cosine", 1)
    load_speechbrain(classifier, tmp_path)
    spectrogram = classifier.frontend.analyze(torch.randn(2, 16000))
    embedding = stock(classifier.adapter(spectrogram))
    torch.testing.assert_close(cosines(classifier, spectrogram), head(embedding).squeeze(1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_cnn14_that_lmac_explains_loads(tmp_path):
    stock, head = Cnn14(mel_bins=80, emb_dim=2048).eval(), nn.Linear(2048, 50)
    published(tmp_path, stock, head)
    with pytest.raises(
        UsageError, match=r"holds a linear head with 0 blocks, .* a cosine one with 1; pass --head=linear"
    ):
        load_speechbrain(cnn14_with("cosine", 1), tmp_path)
    classifier = cnn14_with("linear", 0)
    load_speechbrain(classifier, tmp_path)
    spectrogram = classifier.frontend.analyze(torch.randn(2, 16000))
    expected = head(stock(classifier.adapter(spectrogram))).squeeze(1)
    torch.testing.assert_close(classifier(spectrogram).logits, expected, atol=1e-5, rtol=0)
    assert classifier.describe().logit_scale == 1


def test_heads_that_do_not_exist_are_refused():
    with pytest.raises(UsageError, match="head='round' is not one of cosine, linear"):
        Head(8, "round")
    with pytest.raises(UsageError, match="head_blocks=1 stand before a cosine head only"):
        Head(8, "linear", num_blocks=1)


def test_checkpoints_of_another_network_are_told(focalnet, cnn14, tmp_path):
    with pytest.raises(UsageError, match=r"no checkpoint .*embedding_model\.ckpt"):
        load_speechbrain(focalnet, tmp_path)
    published(tmp_path, cnn14.backbone.model, cnn14.head.classifier)
    with pytest.raises(UsageError, match=r"embedding_model\.ckpt does not fit this classifier: .*Missing key"):
        load_speechbrain(focalnet, tmp_path)
    published(tmp_path, cnn14.backbone.model, focalnet.head.classifier)
    with pytest.raises(UsageError, match=r"classifier\.ckpt does not fit this classifier"):
        load_speechbrain(cnn14, tmp_path)


class Malicious:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, save):
    save({"weight": Malicious(tmp_path / "ran")}, tmp_path / "evil.ckpt")
    with pytest.raises(UsageError, match=r"evil\.ckpt is not a plain state dict of tensors and was not loaded"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", [[torch.zeros(1)], {"weight": 1}, {"state": {"weight": torch.zeros(1)}}, {"model": {"weight": 1}}]
)
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UsageError, match="is not a plain state dict of tensors"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_a_download_that_was_cut_short_is_told(tmp_path):
    torch.save({"weight": torch.zeros(1000)}, tmp_path / "whole.pt")
    half = (tmp_path / "whole.pt").read_bytes()[:2000]
    for name, content in (("half.pt", half), ("page.pt", b"<html>404</html>")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=rf"{name} is not .* where its download was cut short, fetch it again"):
            read_checkpoint(tmp_path / name)


def test_a_narrow_cnn14_is_the_same_network_with_fewer_channels():
    narrow, head = CNN14(width=0.25), CosineHead(512, num_classes=50)
    assert millions(narrow) == pytest.approx(4.7, abs=0.05) and head.classifier.weight.shape == (50, 512)
    classifier = AudioClassifier(FrontEnd(), MelAdapter(FrontEnd()), narrow, lambda size: CosineHead(size, 50))
    assert classifier.describe().map_channels == (64, 128, 256, 512)
