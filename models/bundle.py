"""Bundles: what a run leaves behind so that other programs can load a model.

A bundle is a folder of data, not of code:

    bundle.json           kind, class names, sample rate, clip length, where it came from, SHA-256 of the files below
    model.yaml            the model part of the configuration, references resolved
    weights.safetensors   every parameter and buffer

`model.yaml` builds objects, so it is treated as a stranger's: only `!new:` and `!name:` of torch modules in `PACKAGES`
and of groups of their settings are built, everything else is refused by name. Not all of SpeechBrain and transformers
is among them: some of their modules fetch a repository and run the code in it. Whoever loads a bundle may add modules
of their own with `trust`.
"""

import hashlib
import io
import json
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path

import yaml
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml.error import YAMLError as RuamelError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from models.errors import UsageError
from models.pretrained import nothing_fetched
from models.settings import is_group, with_groups
from models.staging import STAGED

PACKAGES = (
    "models.",
    "interpreters.",
    "torch.nn.",
    "speechbrain.nnet.",
    "speechbrain.processing.",
    "speechbrain.lobes.models.Cnn14.",
    "speechbrain.lobes.models.ECAPA_TDNN.",
)
FILES = ("model.yaml", "weights.safetensors")
MAX_YAML_BYTES = 100_000
MAX_YAML_NODES = 2_000
MAX_CLIP_SECONDS = 3600


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle says about itself.

    kind: "classifier" or "interpreter". class_names: ordered as the logits. sample_rate in Hz. clip_seconds: length
    of the clips it was trained on. source: free facts such as experiment, seed, commit, weights and scores.
    sha256: of each file of `FILES`.
    """

    kind: str
    class_names: tuple[str, ...]
    sample_rate: int
    clip_seconds: float
    source: dict = field(default_factory=dict)
    sha256: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: the network in evaluation mode and what is known about it."""

    network: nn.Module
    info: BundleInfo
    path: Path


def save_bundle(folder: str | Path, network: nn.Module, model_yaml: str, info: BundleInfo) -> Path:
    """Write a bundle folder, whole or not at all: a reader never sees half of one."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=STAGED) as temporary:
        staged, old = Path(temporary) / "new", Path(temporary) / "old"
        staged.mkdir()
        (staged / "model.yaml").write_text(model_yaml, encoding="utf-8")
        state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
        save_file(state, staged / "weights.safetensors")
        content = asdict(info) | {"sha256": {name: _sha256(staged / name) for name in FILES}}
        (staged / "bundle.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            folder.replace(old)
        try:
            staged.replace(folder)
        except BaseException:
            if old.exists():
                old.replace(folder)
            raise
    return folder


def read_info(folder: str | Path, kind: str) -> BundleInfo:
    """The facts of a bundle, after checking that its files are whole.

    Raises UsageError as `read_facts`, and when a file's SHA-256 is not the recorded one.
    """
    folder, info = Path(folder), read_facts(folder, kind)
    for name in FILES:
        if (folder / name).resolve().parent != folder.resolve():
            raise UsageError(f"{folder / name} is a link out of the bundle's folder: put the file itself there")
        if not (folder / name).is_file() or _sha256(folder / name) != info.sha256.get(name):
            raise UsageError(f"{folder / name} is missing or altered: its SHA-256 is not the one in bundle.json")
    return info


def read_facts(folder: str | Path, kind: str) -> BundleInfo:
    """The facts of a bundle as its bundle.json tells them; whoever loads it has them checked by `read_info`.

    Raises UsageError when the folder is no bundle of that kind.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        info = BundleInfo(**content | {"class_names": tuple(content["class_names"])})
        _check_info(info)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{folder} is not a bundle: it has no bundle.json") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(f"{folder / 'bundle.json'} is damaged: {error}") from error
    if info.kind != kind:
        raise UsageError(f"{folder} is a bundle of kind {info.kind!r}; a {kind!r} is needed here")
    return info


def load_bundle(folder: str | Path, kind: str, trust: Collection[str] = (), **arguments) -> Bundle:
    """Rebuild a bundle's network and load its weights strictly.

    kind: "classifier" or "interpreter", also the key of model.yaml that holds the network. trust: importable modules
    beside `PACKAGES` whose torch modules it may build. A `!name:` factory under that key is called with `arguments`.
    Raises UsageError as `read_info` does, for a model.yaml that would run foreign code or fetch something, and for
    weights that are not exactly the network's.
    """
    folder = Path(folder)
    info = read_info(folder, kind)
    built = build_trusted((folder / "model.yaml").read_text(encoding="utf-8"), folder / "model.yaml", trust)
    network = built.get(kind)
    if not callable(network):
        raise UsageError(f"{folder / 'model.yaml'} has no network under {kind!r}")
    if not isinstance(network, nn.Module):
        with _strangers(folder / "model.yaml"):
            network = with_groups(network)(**arguments)
    try:
        network.load_state_dict(load_file(folder / "weights.safetensors"), strict=True)
    except (RuntimeError, SafetensorError) as error:
        detail = " ".join(str(error).split())[:300]
        raise UsageError(f"{folder / 'weights.safetensors'} does not fit its model.yaml: {detail}") from error
    return Bundle(network.eval(), info, folder)


def build_trusted(text: str, origin: str | Path, trust: Collection[str] = ()) -> dict:
    """Build the objects of a stranger's YAML if, and only if, `check_trusted` lets all of them pass.

    Raises UsageError as `check_trusted`, for arguments that a module does not take, and for weights from elsewhere: a
    bundle brings its own, and a stranger's YAML reads no other file and fetches nothing.
    """
    check_trusted(text, origin, trust)
    with _strangers(origin):
        return load_hyperpyyaml(io.StringIO(text))


@contextmanager
def _strangers(origin: str | Path) -> Iterator[None]:
    """Construct what a stranger asks for: nothing else is read or fetched, and however it fails is told."""
    try:
        with nothing_fetched():
            yield
    except UsageError:
        raise
    except (yaml.YAMLError, RuamelError) as error:
        raise UsageError(f"{origin} is not valid YAML: {' '.join(str(error).split())[:200]}") from error
    except Exception as error:
        detail = " ".join(" ".join(map(str, error.args)).split())[:300]
        raise UsageError(f"{origin} does not fit the modules it asks for: {detail}") from error


def check_trusted(text: str, origin: str | Path, trust: Collection[str] = ()) -> None:
    """Let a YAML pass whose tags all name torch modules, or groups of their settings, of `PACKAGES` or of `trust`.

    Raises UsageError naming the first tag that is refused, and for a file too large, too deep or too aliased to be a
    model.
    """
    if len(text.encode()) > MAX_YAML_BYTES:
        raise UsageError(f"{origin} has more than {MAX_YAML_BYTES} bytes and was not read")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise UsageError(f"{origin} must hold keys with values")
        for node in _nodes(root, [MAX_YAML_NODES], origin):
            _check_tag(node.tag, origin, PACKAGES + tuple(f"{module}." for module in trust))
    except yaml.YAMLError as error:
        raise UsageError(f"{origin} is not valid YAML: {' '.join(str(error).split())[:200]}") from error
    except RecursionError as error:
        raise UsageError(f"{origin} nests too deeply and was not read") from error


def _nodes(node: yaml.Node, budget: list[int], origin: str | Path):
    """Every node, aliases followed, at most as many as the budget holds."""
    budget[0] -= 1
    if budget[0] < 0:
        raise UsageError(f"{origin} unfolds to more than {MAX_YAML_NODES} nodes and was not read")
    yield node
    for child in node.value if isinstance(node.value, list) else ():
        for part in child if isinstance(child, tuple) else (child,):
            yield from _nodes(part, budget, origin)


def _check_tag(tag: str, origin: str | Path, packages: tuple[str, ...]) -> None:
    if tag.startswith("tag:yaml.org,2002:") and not tag.startswith("tag:yaml.org,2002:python"):
        return
    prefix, _, path = tag.partition(":")
    allowed = f"only torch modules of {', '.join(package[:-1] for package in packages)}"
    module, _, name = path.rpartition(".")
    if prefix in ("!new", "!name") and module:
        allowed += f"; trust=[{module}] lets in a module of your own"
    if prefix not in ("!new", "!name") or not path.startswith(packages):
        raise UsageError(f"{origin} asks for {tag!r}, which a bundle may not build: {allowed}")
    try:
        network_class = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{origin} asks for {tag!r}, which does not exist here") from error
    is_module = isinstance(network_class, type) and issubclass(network_class, nn.Module)
    if not is_module and not is_group(network_class):
        raise UsageError(
            f"{origin} asks for {tag!r}, which a bundle may not build: it is no torch module and no group of settings"
        )
    defined_in = network_class.__module__
    if not f"{defined_in}.".startswith(packages):
        raise UsageError(f"{origin} asks for {tag!r} of {defined_in}, which a bundle may not build: {allowed}")


def _check_info(info: BundleInfo) -> None:
    """Raise ValueError for a value of another type than `BundleInfo` says."""
    sound = {
        "class_names": all(isinstance(name, str) for name in info.class_names),
        "sample_rate": isinstance(info.sample_rate, int) and info.sample_rate > 0,
        "clip_seconds": isinstance(info.clip_seconds, int | float) and 0 < info.clip_seconds <= MAX_CLIP_SECONDS,
        "source": isinstance(info.source, dict),
        "sha256": isinstance(info.sha256, dict),
    }
    wrong = [f"{name}={getattr(info, name)!r}"[:100] for name, holds in sound.items() if not holds]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} cannot be")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
