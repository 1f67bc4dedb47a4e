"""SpeechBrain's run options, known by name and kind without importing SpeechBrain.

Importing SpeechBrain takes seconds, and a mistake on a command line should be told at once. A test compares this table
with SpeechBrain's own.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from models.errors import UsageError

SWITCH, TEXT, WORDS = "switch", "text", "words"
PRECISIONS = ("fp32", "fp16", "bf16")
# optimizer_step_limit is left out: SpeechBrain reads it as text and compares it with numbers
RUN_OPTIONS: dict[str, object] = {
    "test_only": SWITCH,
    "debug": SWITCH,
    "debug_batches": int,
    "debug_epochs": int,
    "debug_persistently": SWITCH,
    "log_config": TEXT,
    "device": TEXT,
    "data_parallel_backend": SWITCH,
    "distributed_backend": TEXT,
    "find_unused_parameters": SWITCH,
    "jit": SWITCH,
    "jit_module_keys": WORDS,
    "compile": SWITCH,
    "compile_module_keys": WORDS,
    "compile_mode": TEXT,
    "compile_using_fullgraph": SWITCH,
    "compile_using_dynamic_shape_tracing": SWITCH,
    "precision": PRECISIONS,
    "eval_precision": PRECISIONS,
    "auto_mix_prec": SWITCH,
    "bfloat16_mix_prec": SWITCH,
    "max_grad_norm": float,
    "skip_nonfinite_grads": SWITCH,
    "nonfinite_patience": int,
    "noprogressbar": SWITCH,
    "ckpt_interval_minutes": int,
    "ckpt_interval_steps": int,
    "grad_accumulation_factor": int,
    "tqdm_colored_bar": SWITCH,
    "remove_vector_weight_decay": SWITCH,
    "profile_training": SWITCH,
    "profile_warmup": int,
    "profile_steps": int,
}
"""Each option with its kind: a switch, a type, a text, several words, or a tuple of choices."""

INTERVALS = ("ckpt_interval_minutes", "ckpt_interval_steps")
NUMBERS = {int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Option:
    """One argument of a command line: `--key=value more words`; value is None where there is no `=`."""

    key: str
    value: str | None
    more: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """Everything that was given for the key."""
        return [*([] if self.value is None else [self.value]), *self.more]


def read_run_option(option: Option) -> object:
    """The value of one of SpeechBrain's run options. Raises UsageError where it is not of the option's kind."""
    kind, text = RUN_OPTIONS[option.key], " ".join(option.words)
    if kind == SWITCH:
        if option.words:
            raise UsageError(f"{option.key} is a switch: pass --{option.key} without {text!r}")
        return True
    if kind == WORDS:
        return option.words
    if not text:
        raise UsageError(f"{option.key} needs a value, as in --{option.key}=VALUE")
    if isinstance(kind, tuple):
        if text not in kind:
            raise UsageError(f"{option.key}={text!r} must be one of {', '.join(kind)}")
        return text
    if kind == TEXT:
        return text
    try:
        return kind(text)
    except ValueError as error:
        raise UsageError(f"{option.key}={text!r} must be {NUMBERS[kind]}") from error


def device_problems(options: Mapping, values: Mapping) -> list[str]:
    """A device that is not there, a precision that it lacks, and intervals that SpeechBrain refuses together.

    options: the run options of the command line. values: the recipe's, which know some of the same names. Imports
    torch only where a device or fp16 was asked for.
    """
    chosen = {}
    for name in ("precision", "eval_precision", *INTERVALS):
        chosen[name] = options[name] if name in options else values.get(name)
    problems = []
    halves = []
    for name in ("precision", "eval_precision"):
        if chosen[name] == "fp16":
            halves.append(f"{name}=fp16 needs a GPU; on a CPU pass fp32 or bf16")
    device = options.get("device")
    if halves or device not in (None, "cpu"):
        device = device or _default_device()
        problems += _unusable(device)
    if device == "cpu":
        problems += halves
    if all(isinstance(chosen[name], int | float) and chosen[name] > 0 for name in INTERVALS):
        problems.append(f"{' and '.join(INTERVALS)} exclude each other; pass 0 for one of them")
    return problems


def _default_device() -> str:
    import torch

    return str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"


def _unusable(device: str) -> list[str]:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        detail = str(error).splitlines()[0].rstrip(".")
        return [f"device={device!r} cannot be used ({detail}); pass cpu, cuda or cuda:1"]
    return []


def nearest(name: str, names: list[str], cutoff: float = 0.5) -> str | None:
    """The known name that is most like a misspelt one, or None."""
    near = difflib.get_close_matches(name, names, 1, cutoff=cutoff)
    return near[0] if near else None
