"""Weights from elsewhere: a hub, a local folder, or checkpoints that SpeechBrain published."""

import re
from collections.abc import Callable, Iterator, Mapping
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
    """The tensors of a legacy .ckpt/.pt state dict, read without running any pickled code.

    Raises UsageError when the file is missing or holds anything but tensors.
    """
    check_allowed(path)
    if not path.is_file():
        raise UsageError(f"no checkpoint {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(f"{path} is not a plain state dict of tensors and was not loaded") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UsageError(f"{path} is not a plain state dict of tensors and was not loaded")
    return state


def load_speechbrain(classifier: nn.Module, folder: str | Path) -> None:
    """Fill an `AudioClassifier` from `embedding_model.ckpt` and `classifier.ckpt` as SpeechBrain publishes them.

    Layouts: `speechbrain/focalnet-base-esc50`, `vit-base-esc50`, `cnn14-esc50`. Their classes are numbered by first
    appearance in folds 1 to 3, not by ESC-50's target: hand their `label_encoder.txt` order to the bundle.
    Raises UsageError when a file is missing or its tensors are not exactly this classifier's.
    """
    parts = {
        "embedding_model": classifier.get_submodule("backbone.model"),
        "classifier": classifier.get_submodule("head.classifier"),
    }
    _fill(parts, folder, "classifier")


def load_codec(encoder: nn.Module, decoder: nn.Module, folder: str | Path) -> None:
    """Fill a filterbank from `encoder.ckpt` and `decoder.ckpt` as SpeechBrain's SepFormer releases lay them out.

    Raises UsageError when a file is missing or its tensors are not exactly this filterbank's.
    """
    _fill({"encoder": encoder, "decoder": decoder}, folder, "codec")


def _fill(parts: Mapping[str, nn.Module], folder: str | Path, whole: str) -> None:
    """Fill every module from the checkpoint of its name in a folder, strictly."""
    for name, module in parts.items():
        path = Path(folder) / f"{name}.ckpt"
        state = {_renamed(key): value for key, value in read_checkpoint(path).items()}
        try:
            module.load_state_dict(state, strict=True)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:300]
            raise UsageError(f"{path} does not fit this {whole}: {detail}") from error


def _renamed(key: str) -> str:
    for old, new in VIT_RENAMED:
        key = re.sub(old, new, key)
    return key
