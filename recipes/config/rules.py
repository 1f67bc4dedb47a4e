"""What a recipe may say: its keys, their types and ranges, and what fits together.

Nothing here imports torch or SpeechBrain, so that a mistake on a command line is told at once.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations

from recipes.config.tagged import Tagged

OBJECTS = {"model", "interpreter", "optimizer", "schedule", "augmentation"}
BLOCKS = ("model", "interpreter", "augmentation")
FOLD_LISTS = ("train_folds", "valid_folds", "test_folds")
PATHS = ("output_folder", "data_folder", "cache_folder", "classifier", "reference")
PATHS_OR_NULL = ("weights", "audio", "noise_folder", "start_from")
TEXT_KEYS = frozenset({*PATHS, *PATHS_OR_NULL, "experiment", "target", "label_separator"})
"""Keys whose values are paths or names: text as it stands, whatever YAML would take it for."""

LOSSES = ("additive_margin", "additive_angular_margin", "cross_entropy", "binary_cross_entropy")
"""The losses of a classifier, by the names under which `recipes.training.losses` makes them."""

Check = Callable[[object], bool]


def _number(low: float, high: float, value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _whole(low: float, high: float, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _path(value: object) -> bool:
    return _text(value) and not _in_parentheses(value)


def _name(value: object) -> bool:
    return isinstance(value, str) and _path(value) and "/" not in value and not value.startswith(".")


def _in_parentheses(value: str) -> bool:
    """HyperPyYAML takes `(1, 2)` for a tuple, quoted or not."""
    return value.startswith("(") and value.endswith(")")


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and len(value) > 0 and all(check(item) for item in value)


def _or_list(check: Check) -> Check:
    return lambda value: check(value) or _list_of(check)(value)


def _one_of(*values: object) -> Check:
    return lambda value: value in values


def _names(value: object) -> bool:
    return isinstance(value, dict) and all(_text(key) and _text(name) for key, name in value.items())


def _mapping(value: object) -> bool:
    return isinstance(value, dict)  # `models.windows` judges what is in it


def _template(value: object) -> bool:
    return isinstance(value, str) and value.count("{}") == 1


def _modules(value: object) -> bool:
    return value == [] or _list_of(_text)(value)


_count = partial(_whole, 1, 1e9)
_fraction = partial(_number, 0, 1)
_PATH_RULE = ("a path", _path)
_PATH_OR_NULL_RULE = ("null or a path", _or_null(_path))
_LEVEL = ("null or a number of dB from -100 to 100", _or_null(partial(_number, -100, 100)))
_PRECISION = ("auto, fp32, bf16 or fp16", _one_of("auto", "fp32", "bf16", "fp16"))
_SIZE = ("a whole number of 1 or more", _count)
_SIZE_OR_NULL = ("null or a whole number of 1 or more", _or_null(_count))
_RATE = ("a number above 0", partial(_number, 1e-30, 1e3))
_WEIGHT = ("a number of 0 or more", partial(_number, 0, 1e9))

# key: (what is allowed, check). Keys not listed are checked by what they build.
RULES: dict[str, tuple[str, Check]] = {
    "seed": ("a whole number from 0 to 2147483648", partial(_whole, 0, 2**31)),
    "experiment": ("a name without '/'", _name),
    **dict.fromkeys(PATHS, _PATH_RULE),
    **dict.fromkeys(PATHS_OR_NULL, _PATH_OR_NULL_RULE),
    "audio": ("null, a path or a list of paths", _or_null(_or_list(_path))),
    "target": ("null, or a class by its name or index", lambda value: value is None or _text(value) or _count(value)),
    "contamination": ("a kind of contamination or a list of them", _or_list(_text)),
    "train_noise": ("a kind of contamination", _text),
    **dict.fromkeys(("snr_db", "train_snr_db"), _LEVEL),
    "tensorboard": ("true or false", lambda value: isinstance(value, bool)),
    **dict.fromkeys(FOLD_LISTS, ("a list of fold numbers", _list_of(partial(_whole, 0, 1e6)))),
    "folds": ("null (the three lists) or 'all' (cross-validation)", _one_of(None, "all")),
    "subset": ("null or 'esc10'", _one_of(None, "esc10")),
    "columns": ("null or names of a table's columns, such as {filename: path, category: label}", _or_null(_names)),
    "template": ("a sentence with {} where the name of a class goes", _template),
    "prompts": ("null or a list of sentences, one for each class", _or_null(_list_of(_text))),
    "windows": ("null or a mapping such as {seconds: 5, hop_seconds: 2.5, pooling: mean_logit}", _or_null(_mapping)),
    "label_separator": ("null or the text between two labels of a clip, such as ';'", _or_null(_text)),
    "clip_seconds": ("a number of seconds in (0, 3600]", partial(_number, 1e-3, 3600)),
    "num_classes": ("a whole number of 2 or more", partial(_whole, 2, 1e6)),
    **dict.fromkeys(("epochs", "batch_size", "eval_batch_size", "grad_accumulation_factor", "step_size"), _SIZE),
    **dict.fromkeys(("patience", "mask_clips", "mask_steps"), _SIZE_OR_NULL),
    **dict.fromkeys(("peak_lr", "base_lr", "max_lr", "lr"), _RATE),
    "loss": (", ".join(LOSSES[:-1]) + f" or {LOSSES[-1]}", _one_of(*LOSSES)),
    "margin": ("a number in [0, 1]", _fraction),
    "quantile": ("a number in [0, 1] or a list of them, or null (a soft mask)", _or_null(_or_list(_fraction))),
    "alpha": ("a number in [0, 1]", _fraction),
    **dict.fromkeys(("precision", "eval_precision"), _PRECISION),
    "trust": ("a list of importable modules, such as [my_module]", _modules),
    "report_clips": ("a whole number from 0 to 500", partial(_whole, 0, 500)),
    "max_grad_norm": ("a number; negative: no clipping", partial(_number, -1e9, 1e9)),
    "ckpt_interval_minutes": ("a number of 0 or more", partial(_number, 0, 1e9)),
    "probe_penalty": ("null or a number above 0", _or_null(partial(_number, 1e-30, 1e9))),
    **dict.fromkeys(("guidance", "sparsity"), _WEIGHT),
    "projection": ("a whole number of 0 or more", partial(_whole, 0, 1e6)),
    "width": ("a number above 0", partial(_number, 1e-6, 1e9)),
    "channels": ("null or a whole number of 1 or more", _or_null(_count)),
    **dict.fromkeys(("image_size", "filters", "kernel", "layers", "chunk", "intra_layers", "inter_layers"), _SIZE),
}
# what the commands read themselves; a key of another name must be referenced by one of these or by an object
METHOD_KEYS = {"quantile", "alpha", "guidance", "sparsity", "width", "channels", "image_size", "filters", "kernel"}
METHOD_KEYS |= {"layers", "chunk", "intra_layers", "inter_layers", "peak_lr", "base_lr", "max_lr", "lr", "step_size"}
METHOD_KEYS |= {"projection", "windows", "template", "prompts"}
READ_KEYS = {*RULES} - METHOD_KEYS


def value_problems(values: Mapping) -> list[str]:
    """Every plain value outside what is allowed, and folds used twice."""
    wrong, problems = [], []
    for key, (allowed, check) in RULES.items():
        if key == "epochs" and _needs_no_epoch(values):
            continue
        if key in values and not isinstance(values[key], Tagged) and not check(values[key]):
            wrong.append(key)
            problems.append(f"{key}={values[key]!r} must be {allowed}{_hint(values[key])}")
    if values.get("folds") is None and not set(wrong).intersection(FOLD_LISTS):
        problems += _shared_folds(values)
    return problems


def _needs_no_epoch(values: Mapping) -> bool:
    """Whether a recipe asks for no training and has none to do.

    A classifier whose classes are prompts classifies without, and an interpreter that starts from another is one.
    """
    if not _whole(0, 0, values.get("epochs")):
        return False
    return _text(values.get("start_from")) or "prompts" in block_settings(values)


def _hint(value: object) -> str:
    return f"; write ./{value} for a file or folder of that name" if _text(value) and _in_parentheses(value) else ""


def _shared_folds(values: Mapping) -> list[str]:
    problems = []
    for first, second in combinations(FOLD_LISTS, 2):
        shared = sorted(set(values.get(first, ())) & set(values.get(second, ())))
        if shared:
            numbers = ", ".join(map(str, shared))
            problems.append(f"{first} and {second} share fold {numbers}; they must be disjoint")
    return problems


def block_settings(values: Mapping) -> dict[str, object]:
    """Plain settings inside a recipe's blocks by their last name, such as sparsity.

    values: the resolved recipe. Of two settings of one name the outer counts; a name that stands for two values at one
    depth is left out. Below the blocks, only the arguments of this project's own objects count.
    """
    settings: dict[str, object] = {}
    level = list(filter(None, map(values.get, BLOCKS)))
    while level:
        at_this_depth: dict[str, list] = {}
        below: list[object] = []
        for node in level:
            for key, value in _arguments(node).items():
                if isinstance(value, Tagged | Mapping):
                    below.append(value)
                else:
                    at_this_depth.setdefault(key, []).append(value)
        for key, candidates in at_this_depth.items():
            if key not in settings and candidates.count(candidates[0]) == len(candidates):
                settings[key] = candidates[0]
        level = below
    return settings


def _arguments(node: object) -> Mapping:
    """The keys below a block, or the arguments of an object of this project's; nothing below another one."""
    if isinstance(node, Tagged):
        own = node.tag.partition(":")[2].startswith(("models.", "interpreters."))
        node = node.value if own else None
    return node if isinstance(node, Mapping) else {}
