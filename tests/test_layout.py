"""The shape of the repository: arrows between packages, file sizes, and who may transform sound or take a softmax."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "models": {"models"},
    "interpreters": {"interpreters", "models"},
    "recipes": {"recipes", "interpreters", "models"},
}
# the rooms of recipes/, from the top down: a file imports from its own room and from those below it
ROOMS = ("", "report", "training", "runs", "scoring", "data", "config", "system")
MAX_LEVELS = 8
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).glob("**/*.py"))
TRANSFORMS = {"stft", "istft", "STFT", "ISTFT", "rfft", "irfft", "log1p", "expm1"}
SOFTMAX = {"softmax", "log_softmax", "Softmax", "LogSoftmax"}

# Who may use a name besides its owner, and why.
MAY_TRANSFORM = {
    "models/frontend.py": TRANSFORMS,
    # AudioSet weights hear 32 kHz power spectra of their own, made of the sound that a spectrogram stands for.
    "models/mobilenet.py": {"rfft", "irfft"},
    # CLAP's weights hear a power spectrogram of their own at 48 kHz, made of the sound that a spectrogram stands for.
    "models/clap.py": {"stft"},
    # shapes noise; no spectrogram is involved
    "recipes/synthetic_sounds.py": {"rfft", "irfft"},
    # puts other complex values into a spectrogram's bins; it transforms nothing
    "interpreters/removal.py": {"stft"},
}
MAY_SOFTMAX = {
    "models/labels.py": {"softmax"},
    # attention weights, not a posterior
    "models/vit.py": {"softmax"},
    "interpreters/separator.py": {"softmax"},
    # of the kernels that a convolution mixes
    "models/dymn.py": {"softmax"},
    "interpreters/l2i.py": {"softmax"},
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> str:
    """The top-level package that a file lies in, however deep."""
    return path.relative_to(ROOT).parts[0]


def room_of(dotted: str) -> str:
    """The room of a module of recipes/; "" for the commands on top: recipes.data.audio -> data."""
    room = dotted.split(".")[1] if "." in dotted else ""
    return room if room in ROOMS else ""


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """Dotted names of all modules a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def names(path: Path) -> set[str]:
    """All names that a file imports, reads or calls, without what stands before the dot."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.name.rpartition(".")[2])
    return found


def test_there_is_something_to_check():
    assert {package_of(path) for path in FILES} == set(MAY_IMPORT) and len(FILES) > 30
    folders = {path.parent.name for path in FILES if package_of(path) == "recipes"}
    assert folders == {"recipes", *ROOMS} - {""}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package):
    ours = set(MAY_IMPORT) | {"train", "interpret", "tests", "tools"}
    wrong = {
        f"{relative(path)} imports {name}"
        for path in FILES
        if package_of(path) == package
        for name in imports(path)
        if name.partition(".")[0] in ours - MAY_IMPORT[package]
    }
    assert wrong == set()


def test_rooms_import_downwards():
    wrong = set()
    for path in FILES:
        if package_of(path) != "recipes":
            continue
        room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        above = set(ROOMS[: ROOMS.index(room)])
        for name in imports(path):
            if name.startswith("recipes.") and room_of(name) in above:
                wrong.add(f"{relative(path)} imports {name}")
    assert wrong == set()


def module_of(path: Path) -> str:
    """Dotted name of a file: recipes/data/audio.py -> recipes.data.audio."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_at_start(path: Path, modules: set[str]) -> set[str]:
    """Those of the modules that a file imports at its top level, so that importing it imports them."""
    imported = set()
    for node in tree(path).body:
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    return imported & modules


def levels(graph: dict[str, set[str]]) -> dict[str, int]:
    """Each module's level: 1 for one that imports no other, else one above the highest that it imports.

    Raises ValueError naming the modules of a circle.
    """
    level: dict[str, int] = {}
    while len(level) < len(graph):
        ready = [module for module in graph if module not in level and graph[module] <= level.keys()]
        if not ready:
            raise ValueError(f"a circle of imports among {sorted(graph.keys() - level.keys())}")
        for module in ready:
            level[module] = 1 + max((level[imported] for imported in graph[module]), default=0)
    return level


def test_levels_of_imports():
    assert levels({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"c": 1, "b": 2, "a": 3}
    with pytest.raises(ValueError, match=r"among \['b', 'c'\]"):
        levels({"a": set(), "b": {"c"}, "c": {"b"}})


def test_modules_of_recipes_import_each_other_in_no_circle_and_on_few_levels():
    paths = {module_of(path): path for path in FILES if package_of(path) == "recipes"}
    graph = {module: imported_at_start(path, set(paths)) - {module} for module, path in paths.items()}
    by_level = levels(graph)
    deepest = max(by_level, key=by_level.get)
    assert by_level[deepest] <= MAX_LEVELS, f"{deepest} stands on {by_level[deepest]} levels of imports"


def test_importing_a_file_changes_no_other_package():
    """A top-level statement may define, import and configure its own names; it may not call or set an imported one."""
    wrong = []
    for path in FILES:
        imported = {name for node in tree(path).body for name in names_bound_by_import(node)}
        for node in tree(path).body:
            touched = []
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                touched = [node.value.func]
            elif isinstance(node, ast.Assign | ast.AugAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                touched = [target for target in targets if isinstance(target, ast.Attribute | ast.Subscript)]
            wrong += [f"{relative(path)}:{node.lineno}" for part in touched if root_name(part) in imported]
    assert wrong == []


def names_bound_by_import(node: ast.stmt) -> set[str]:
    """What an import statement binds; nothing for another statement."""
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return set()
    return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}


def root_name(node: ast.expr) -> str | None:
    """The name at the start of `name.attribute[...].call()`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def test_only_recipes_know_the_brain_and_the_command_line():
    foreign = ("speechbrain.core", "speechbrain.Brain", "speechbrain.dataio", "speechbrain.utils", "argparse")
    wrong = {
        f"{relative(path)} imports {name}"
        for path in FILES
        if package_of(path) != "recipes"
        for name in imports(path)
        if name == "speechbrain" or name.startswith(foreign)
    }
    assert wrong == set()


def test_commands_stay_out_of_the_networks():
    for command in ("train.py", "interpret.py"):
        assert {name.partition(".")[0] for name in imports(ROOT / command)} <= {"recipes", "sys"}


def test_no_file_is_longer_than_400_lines():
    lines = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 400} == {}


@pytest.mark.parametrize("owned, allowed", [(TRANSFORMS, MAY_TRANSFORM), (SOFTMAX, MAY_SOFTMAX)])
def test_each_transform_has_its_owner(owned, allowed):
    used = {relative(path): names(path) & owned for path in FILES}
    assert {name: found for name, found in used.items() if found - allowed.get(name, set())} == {}
    assert {name for name, found in used.items() if found} == set(allowed), "the list of exceptions is out of date"
