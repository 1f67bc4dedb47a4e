"""Weights from elsewhere: a hub, a local folder, or checkpoints that SpeechBrain published."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from models.errors import UsageError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# transformers renamed ViT's modules in version 5; SpeechBrain's released checkpoints carry the older names.
VIT_RENAMED = (
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.attention\.query\.", ".attention.q_proj."),
    (r"\.attention\.attention\.key\.", ".attention.k_proj."),
    (r"\.attention\.attention\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(layers\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)

EMBEDDING_FILES = ("embedding_model_esc50ft.ckpt", "embedding_modelft.ckpt", "embedding_model.ckpt")
HEAD_FILES = ("classifier_esc50.ckpt", "classifier.ckpt")
"""What SpeechBrain's releases call the backbone and the head. Where one holds a fine-tuned backbone (`ft`), the head
belongs to it, and `embedding_model.ckpt` is what its training started from."""

CONFIG = "config.json"
HUB_SECONDS = 20

_forbidden: ContextVar[bool] = ContextVar("forbidden", default=False)


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Within it `load_backbone` and `read_checkpoint` raise UsageError instead of reading or fetching weights."""
    token = _forbidden.set(True)
    try:
        yield
    finally:
        _forbidden.reset(token)


def check_allowed(weights: object) -> None:
    if _forbidden.get():
        raise UsageError(f"weights={str(weights)!r} may not be loaded here: a bundle brings its own")


def check_reachable(weights: str) -> None:
    """Raise OSError for weights that are neither in a folder, nor kept from before, nor to be had from the hub now.

    transformers tries the hub again for a minute and a half, and then says that a file is missing.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if Path(weights).exists():
        return
    try:
        if isinstance(try_to_load_from_cache(weights, CONFIG), str):
            return
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set, and nothing is kept from before")
        get_hf_file_metadata(hf_hub_url(weights, CONFIG), timeout=HUB_SECONDS)
    except Exception as error:  # of huggingface_hub, or of the HTTP client that its version uses
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise OSError(f"no such folder, and from the hub: {reason}") from error


def load_backbone(
    network: "type[PreTrainedModel]",
    make_config: "Callable[..., PretrainedConfig]",
    sizes: Mapping[str, dict],
    size: str,
    weights: str | None,
    drop: float,
) -> "tuple[PreTrainedModel, str]":
    """A transformers network of one of the named sizes, with or without pretrained weights.

    weights: hub name, local folder with config.json, or None. drop: the network's own regularisation rate.
    Returns the network and where its weights came from. Raises UsageError for an unknown size, weights that cannot
    be found, or weights that leave a parameter of the network unset, its pooler excepted: no backbone here uses it,
    and image classifiers on the hub are stored without.
    """
    if size not in sizes:
        raise UsageError(f"size={size!r} is not one of {', '.join(sizes)}")
    config = make_config(*sizes[size].values(), drop)
    if weights is None:
        return network(config), "from scratch"
    check_allowed(weights)
    try:
        check_reachable(weights)
        model, report = network.from_pretrained(weights, config=config, output_loading_info=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"weights={weights!r} could not be loaded as size {size!r} ({str(error).splitlines()[0]}): give a hub "
            "name, a local folder that holds config.json and the weights, or null to train from scratch"
        ) from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    missing += sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise UsageError(f"weights={weights!r} do not fit size {size!r}: {len(missing)} tensors such as {missing[0]}")
    return model, str(weights)


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a legacy .ckpt/.pt/.pth state dict, read without running any pickled code.

    The state dict may stand beside facts of its training, under the name `model`, as PANNs and many others are stored.
    Raises UsageError when the file is missing or holds anything but tensors.
    """
    state = _read(path)
    if isinstance(state.get("model"), dict):
        state = state["model"]
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UsageError(f"{path} is not a plain state dict of tensors and was not loaded")
    return state


def facts_of_checkpoint(path: Path) -> dict:
    """What a checkpoint keeps beside its state dict `model`; nothing where it is a state dict itself.

    Raises UsageError as `read_checkpoint`.
    """
    state = _read(path)
    if not isinstance(state.get("model"), dict):
        return {}
    return {name: value for name, value in state.items() if name != "model"}


def _read(path: Path) -> dict:
    """A checkpoint of plain values. Raises UsageError when the file is missing or is none."""
    check_allowed(path)
    if not path.is_file():
        raise UsageError(f"no checkpoint {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(
            f"{path} is not a plain state dict of tensors and was not loaded; where its download was cut short, fetch "
            "it again"
        ) from error
    if not isinstance(state, dict):
        raise UsageError(f"{path} is not a plain state dict of tensors and was not loaded")
    return state


def load_speechbrain(classifier: nn.Module, folder: str | Path) -> None:
    """Fill an `AudioClassifier` from the two checkpoints of its backbone and its head as SpeechBrain publishes them.

    Layouts: `speechbrain/focalnet-base-esc50` and `vit-base-esc50` (cosine head, one block), `cnn14-esc50` (the same
    head, in `embedding_model_esc50ft.ckpt` and `classifier_esc50.ckpt`), `PIQ-ESC50` (the same head, a `Conv2d`, in
    `embedding_modelft.ckpt`) and `fpaissan/r` (linear head). Their classes are numbered by first appearance in folds 1
    to 3, not by ESC-50's target: hand their `label_encoder.txt` order to the bundle.

    Raises UsageError when a file is missing, when the head is of another kind than this classifier's, and when tensors
    are not exactly this classifier's.
    """
    _fill(classifier.get_submodule("backbone.model"), _file_of(folder, EMBEDDING_FILES), "classifier")
    head, path = head_module(classifier), _file_of(folder, HEAD_FILES)
    (kind, blocks), (own_kind, own_blocks) = _head_layout(read_checkpoint(path)), _head_layout(head.state_dict())
    if (kind, blocks) != (own_kind, own_blocks):
        raise UsageError(
            f"{path} does not fit this classifier: it holds a {kind} head with {blocks} blocks, and the recipe builds "
            f"a {own_kind} one with {own_blocks}; pass --head={kind} --head_blocks={blocks}"
        )
    _fill(head, path, "classifier")


def head_module(classifier: nn.Module) -> nn.Module:
    """The part of a classifier that a published head's tensors belong to."""
    head = classifier.get_submodule("head")
    return getattr(head, "classifier", head)


def _file_of(folder: str | Path, names: Sequence[str]) -> Path:
    """The first of these files that the folder holds, or else the last."""
    paths = [Path(folder) / name for name in names]
    for path in paths:
        if path.is_file():
            return path
    return paths[-1]


def _head_layout(state: Mapping[str, torch.Tensor]) -> tuple[str, int]:
    """The kind of a head, and its number of blocks, by the names of its tensors."""
    blocks = sum(key.startswith("blocks.") and key.endswith(".norm.weight") for key in state)
    return ("linear" if "bias" in state else "cosine"), blocks


def load_codec(encoder: nn.Module, decoder: nn.Module, folder: str | Path) -> None:
    """Fill a filterbank from `encoder.ckpt` and `decoder.ckpt` as SpeechBrain's SepFormer releases lay them out.

    Raises UsageError when a file is missing or its tensors are not exactly this filterbank's.
    """
    _fill(encoder, Path(folder) / "encoder.ckpt", "codec")
    _fill(decoder, Path(folder) / "decoder.ckpt", "codec")


def load_parts(parts: Mapping[str, nn.Module], folder: str | Path) -> None:
    """Fill the parts of an interpreter from released checkpoints, given by the names of their files.

    Raises UsageError when a file is missing or its tensors are not exactly its part's.
    """
    for name, part in parts.items():
        _fill(part, Path(folder) / name, "interpreter")


def _fill(module: nn.Module, path: Path, whole: str) -> None:
    """Fill a module from a checkpoint, strictly. whole: what the module is a part of."""
    state = {_renamed(key): value for key, value in read_checkpoint(path).items()}
    fill(module, state, f"{path} does not fit this {whole}")


def fill(module: nn.Module, state: Mapping[str, torch.Tensor], otherwise: str) -> None:
    """Give a module these tensors, which must be exactly its own.

    Raises UsageError with the sentence `otherwise`, and with which tensors are missing, too many or of another shape.
    """
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise UsageError(f"{otherwise}: {detail}") from error


def _renamed(key: str) -> str:
    for old, new in VIT_RENAMED:
        key = re.sub(old, new, key)
    return key
