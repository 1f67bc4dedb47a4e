"""Bundles: the same logits after a round trip, nothing altered passes, and no foreign code is built."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models import bundle, frontend
from models.bundle import BundleInfo, build_trusted, load_bundle, read_info, save_bundle
from models.classifier import AudioClassifier
from models.errors import UsageError

MODEL = """
frontend: &frontend !new:models.frontend.FrontEnd
classifier: !new:models.classifier.AudioClassifier
  frontend: *frontend
  adapter: !new:models.adapters.MelAdapter
    frontend: *frontend
  backbone: !new:models.cnn14.CNN14
    width: 0.0625
  head: !name:models.classifier.CosineHead
    num_classes: 3
"""
INFO = BundleInfo("classifier", ("dog", "rain", "siren"), 16000, 5.0, {"seed": 7, "test_acc": 0.5})


@pytest.fixture
def network() -> AudioClassifier:
    network = build_trusted(MODEL, "here")["classifier"]
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return network


@pytest.fixture
def folder(network, tmp_path) -> Path:
    return save_bundle(tmp_path / "run" / "classifier", network, MODEL, INFO)


def test_a_bundle_gives_the_same_logits_back(network, folder):
    loaded = load_bundle(folder, "classifier")
    spectrogram = network.frontend.analyze(torch.randn(2, 16000))
    assert not loaded.network.training and loaded.path == folder
    assert torch.equal(loaded.network(spectrogram).logits, network.eval()(spectrogram).logits)
    assert loaded.info.class_names == ("dog", "rain", "siren") and loaded.info.source == INFO.source
    assert (loaded.info.sample_rate, loaded.info.clip_seconds) == (16000, 5.0)
    assert read_info(folder, "classifier") == loaded.info
    assert {one.name for one in folder.iterdir()} == {"bundle.json", "model.yaml", "weights.safetensors"}


def test_an_interpreter_is_made_with_what_the_loader_knows(tmp_path):
    save_bundle(
        tmp_path / "one",
        nn.Linear(4, 3),
        "interpreter: !name:torch.nn.Linear\n  out_features: 3\n",
        BundleInfo("interpreter", (), 16000, 5.0),
    )
    assert load_bundle(tmp_path / "one", "interpreter", in_features=4).network.weight.shape == (3, 4)


def test_shared_and_strided_tensors_are_stored_whole(tmp_path):
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    network[0].bias = nn.Parameter(torch.arange(6.0)[::2])
    folder = save_bundle(tmp_path / "one", network, "classifier: 1\n", INFO)
    state = load_file(folder / "weights.safetensors")
    assert state.keys() == network.state_dict().keys() and state["0.bias"].tolist() == [0, 2, 4]
    assert torch.equal(state["1.weight"], network[0].weight)


@pytest.mark.parametrize("name", ["model.yaml", "weights.safetensors"])
@pytest.mark.parametrize("change", ["altered", "missing"])
def test_a_file_that_is_not_the_recorded_one_is_refused(folder, name, change):
    if change == "missing":
        (folder / name).unlink()
    else:
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"{name} is missing or altered: its SHA-256 is not the one in bundle.json"):
        load_bundle(folder, "classifier")


def rerecord(folder: Path, **changes) -> None:
    """Give bundle.json the SHA-256 of the files as they are now, as whoever forges a bundle would."""
    content = json.loads((folder / "bundle.json").read_text())
    content["sha256"] = {name: bundle._sha256(folder / name) for name in bundle.FILES}
    (folder / "bundle.json").write_text(json.dumps(content | changes))


@pytest.mark.parametrize("change", ["one less", "one more", "another shape", "no tensors"])
def test_weights_of_another_network_are_refused(folder, change):
    weights = folder / "weights.safetensors"
    state = load_file(weights)
    name = "backbone.model.conv_block1.conv1.weight"
    if change == "one less":
        del state[name]
    elif change == "one more":
        state["head.other"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(1)
    save_file(state, weights)
    if change == "no tensors":
        weights.write_bytes(b"weights")
    rerecord(folder)
    with pytest.raises(UsageError, match=r"weights\.safetensors does not fit its model\.yaml: "):
        load_bundle(folder, "classifier")


def test_what_is_no_bundle_or_another_kind_is_told(folder, tmp_path):
    with pytest.raises(UsageError, match=r"nowhere is not a bundle: it has no bundle\.json"):
        load_bundle(tmp_path / "nowhere", "classifier")
    with pytest.raises(UsageError, match="is not a bundle"):
        read_info(folder / "bundle.json", "classifier")
    with pytest.raises(UsageError, match="is a bundle of kind 'classifier'; a 'interpreter' is needed here"):
        read_info(folder, "interpreter")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"class_names": ["a"]}', '{"class_names": ["a"], "kind": "x", "other": 1}']
)
def test_a_damaged_bundle_json_is_told(folder, content):
    (folder / "bundle.json").write_text(content)
    with pytest.raises(UsageError, match=r"bundle\.json is damaged"):
        read_info(folder, "classifier")


@pytest.mark.parametrize("text", ["other: 1", "classifier: 1"])
def test_a_model_yaml_without_the_network_is_told(folder, text):
    (folder / "model.yaml").write_text(text)
    rerecord(folder)
    with pytest.raises(UsageError, match=r"model\.yaml has no network under 'classifier'"):
        load_bundle(folder, "classifier")


def test_a_failed_write_leaves_nothing_or_the_bundle_before(network, folder, tmp_path, monkeypatch):
    before = load_bundle(folder, "classifier")
    network.head.classifier.weight.data.zero_()

    monkeypatch.setattr(bundle, "save_file", lambda *_: 1 / 0)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(ZeroDivisionError):
            save_bundle(target, network, MODEL, INFO)
    monkeypatch.undo()
    assert not (tmp_path / "new").exists()

    replace = Path.replace

    def fail_to_move_in(path, target):
        if path.name == "new":
            raise OSError("disk gone")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail_to_move_in)
    with pytest.raises(OSError, match="disk gone"):
        save_bundle(folder, network, MODEL, INFO)
    monkeypatch.undo()

    after = load_bundle(folder, "classifier")
    assert after.info == before.info
    assert torch.equal(after.network.head.classifier.weight, before.network.head.classifier.weight)
    assert [one.name for one in folder.parent.iterdir()] == ["classifier"]


def test_a_bundle_replaces_the_one_before(network, folder):
    network.head.classifier.weight.data.zero_()
    save_bundle(folder, network, MODEL, INFO)
    assert load_bundle(folder, "classifier").network.head.classifier.weight.abs().max() == 0
    assert [one.name for one in folder.parent.iterdir()] == ["classifier"]


@pytest.mark.parametrize(
    "yaml, tag",
    [
        ("a: !apply:os.system [touch {ran}]", "!apply:os.system"),
        ("a: !new:os.system [touch {ran}]", "!new:os.system"),
        ("a: !new:torch.hub.load [someone/repository, model]", "!new:torch.hub.load"),
        ("a: !name:subprocess.run\n  args: [touch, {ran}]", "!name:subprocess.run"),
        ("a: !module:os", "!module:os"),
        ("a: !include:/etc/passwd", "!include:/etc/passwd"),
        ("a: !applyref:os.system [touch {ran}]", "!applyref:os.system"),
        ("a: !ref <b>\nb: 1", "!ref"),
        ("a: !copy <b>\nb: 1", "!copy"),
        ("a: !PLACEHOLDER", "!PLACEHOLDER"),
        ("a: !!python/object/apply:os.system [touch {ran}]", "tag:yaml.org,2002:python/object/apply:os.system"),
        ("a: !!python/object/new:os.system [touch {ran}]", "tag:yaml.org,2002:python/object/new:os.system"),
        ("a: !!python/name:os.system", "tag:yaml.org,2002:python/name:os.system"),
        ("a: !<!apply:os.system> [touch {ran}]", "!apply:os.system"),
        ("a: !%61pply:os.system [touch {ran}]", "!apply:os.system"),
        ("%TAG !e! !apply:\n---\na: !e!os.system [touch {ran}]", "!apply:os.system"),
        ("a:\n- b: [1, {{c: !apply:os.system [touch {ran}]}}]", "!apply:os.system"),
        ("? !apply:os.system [touch {ran}]\n: 1", "!apply:os.system"),
        ("<<: !apply:os.system [touch {ran}]", "!apply:os.system"),
        ("a: !new:torch.nn.Linear\n  in_features: !apply:os.system [touch {ran}]", "!apply:os.system"),
        ("!apply:os.system\na: touch {ran}", "!apply:os.system"),
    ],
)
def test_code_is_refused_by_name_and_does_not_run(tmp_path, yaml, tag):
    with pytest.raises(UsageError) as refusal:
        build_trusted(yaml.format(ran=tmp_path / "ran"), "model.yaml")
    assert f"model.yaml asks for {tag!r}, which a bundle may not build: only torch modules of models," in str(
        refusal.value
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "path",
    [
        "torch.nn.functional.relu",
        "torch.nn.init.zeros_",
        "models.bundle.load_bundle",
        "models.pretrained.read_checkpoint",
        "models.bundle.BundleInfo",
        "models.frontend.torch",
        "torch.nn.utils.clip_grad_norm_",
        "speechbrain.nnet.schedulers.NoamScheduler",
    ],
)
def test_what_is_no_module_is_refused(path):
    with pytest.raises(
        UsageError, match=f"asks for '!name:{path}', which a bundle may not build: it is no torch module"
    ):
        build_trusted(f"a: !name:{path}", "model.yaml")


@pytest.mark.parametrize(
    "path, reason",
    [
        ("models.bundle.os.system", "does not exist here"),
        ("models.frontend.torch.hub.load", "does not exist here"),
        ("models..frontend.FrontEnd", "does not exist here"),
        ("models.frontend.FrontEnd.synthesize", "does not exist here"),
        ("models.frontend.Nothing", "does not exist here"),
        ("torch.nn.", "does not exist here"),
        ("modelsx.frontend.FrontEnd", "only torch modules of"),
        (".models.frontend.FrontEnd", "only torch modules of"),
        ("models/frontend.FrontEnd", "only torch modules of"),
        ("../models.frontend.FrontEnd", "only torch modules of"),
        ("models", "only torch modules of"),
        ("", "only torch modules of"),
        ("torch.fx.GraphModule", "only torch modules of"),
        ("torch.distributed.nn.RemoteModule", "only torch modules of"),
        # These run the code of the repository they are told to fetch.
        ("speechbrain.integrations.huggingface.mert.MERT", "only torch modules of"),
        ("speechbrain.lobes.models.huggingface_transformers.mert.MERT", "only torch modules of"),
        ("speechbrain.nnet.containers.torch.fx.GraphModule", "does not exist here"),
        ("transformers.models.vit.modeling_vit.ViTModel", "only torch modules of"),
    ],
)
def test_tricks_with_paths_are_refused(path, reason):
    with pytest.raises(UsageError, match=reason):
        build_trusted(f"a: !new:{path} {{}}", "model.yaml")


def laughs(depth: int) -> str:
    """Ten to the power of `depth` scalars out of a few lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, depth):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "yaml, sentence",
    [
        (laughs(9), "model.yaml unfolds to more than 2000 nodes and was not read"),
        ("a: &a [*a]", "model.yaml nests too deeply and was not read"),
        ("a: " + 3000 * "[" + 3000 * "]", "model.yaml nests too deeply and was not read"),
        ("a: " + 100_000 * "x", "model.yaml has more than 100000 bytes and was not read"),
        ("a: " + 40_000 * "€", "model.yaml has more than 100000 bytes and was not read"),
        ("", "model.yaml must hold keys with values"),
        ("- 1", "model.yaml must hold keys with values"),
        ("just text", "model.yaml must hold keys with values"),
        ("a: [1", "model.yaml is not valid YAML: "),
        ("a: 1\n---\nb: !apply:os.getcwd []", "model.yaml is not valid YAML: "),
        ("a: 1\na: !name:torch.nn.Linear", "model.yaml is not valid YAML: "),
        ("a: !new:torch.nn.Linear\n  inputs: 1", "model.yaml does not fit the modules it asks for: .*'inputs'"),
    ],
)
def test_what_is_no_model_is_refused(yaml, sentence):
    with pytest.raises(UsageError, match=sentence):
        build_trusted(yaml, "model.yaml")


def test_what_looks_like_a_tag_in_a_text_stays_a_text():
    built = build_trusted("a: '!apply:os.getcwd []'\nb: |\n  x\n  !apply:os.getcwd []\n", "model.yaml")
    assert built == {"a": "!apply:os.getcwd []", "b": "x\n!apply:os.getcwd []\n"}


def test_modules_of_the_known_packages_are_built():
    built = build_trusted(
        "a: !new:torch.nn.Linear [2, 3]\n"
        "b: !name:speechbrain.lobes.models.ECAPA_TDNN.Classifier\n  input_size: 4\n"
        "c: !new:speechbrain.nnet.linear.Linear\n  input_size: 4\n  n_neurons: 2\n",
        "model.yaml",
    )
    assert built["a"].weight.shape == (3, 2) and built["b"](out_neurons=2).weight.shape == (2, 4)
    assert built["c"].w.weight.shape == (2, 4)


def test_a_foreign_class_is_refused_under_a_trusted_name(monkeypatch):
    """A trusted package's namespace holds what it imported."""
    monkeypatch.setattr(frontend, "GraphModule", torch.fx.GraphModule, raising=False)
    with pytest.raises(UsageError, match=r"of torch\.fx\.graph_module, which a bundle may not build: only torch"):
        build_trusted("a: !name:models.frontend.GraphModule", "model.yaml")
