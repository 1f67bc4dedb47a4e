"""How a recipe is put together: what it extends, dotted keys, blocks, references, and names that have moved."""

import pytest
from recipe_files import HPARAMS

from models.errors import UsageError
from recipes.config.moved import FILES, MODULES, current_name, with_current_names
from recipes.config.recipe import load_recipe
from recipes.config.tagged import Tagged
from recipes.config.yaml_text import parse

BLOCK = """
decoder: !name:builtins.dict
    width: 128
sparsity: 0.4
depth:
    inner: 3
interpreter: !name:builtins.dict
    decoder: !ref <decoder>
    sparsity: !ref <sparsity>
    inner: !ref <depth[inner]>
"""


@pytest.fixture
def write(tmp_path):
    """(name, text) -> the path of a file of that text; the block is there already."""

    def make(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    make("block.yaml", BLOCK)
    make("base.yaml", "seed: 1\nepochs: 2\ninterpreter: !include:block.yaml\n    sparsity: 0.8\n")
    return make


def built(*arguments: str) -> dict:
    """The block's dictionary with its decoder called."""
    found = load_recipe(list(arguments)).build()["interpreter"]["interpreter"]()
    return found | {"decoder": found["decoder"]()}


def test_a_block_is_changed_below_its_include(write):
    path = write("mine.yaml", "extends: base.yaml\n")
    assert built(path) == {"decoder": {"width": 128}, "sparsity": 0.8, "inner": 3}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("interpreter.sparsity: 6.4", {"decoder": {"width": 128}, "sparsity": 6.4, "inner": 3}),
        ("sparsity: 6.4", {"decoder": {"width": 128}, "sparsity": 6.4, "inner": 3}),
        ("interpreter:\n    sparsity: 6.4", {"decoder": {"width": 128}, "sparsity": 6.4, "inner": 3}),
        ("interpreter.decoder.width: 64", {"decoder": {"width": 64}, "sparsity": 0.8, "inner": 3}),
        ("width: 64", {"decoder": {"width": 64}, "sparsity": 0.8, "inner": 3}),
        ("interpreter.depth.inner: 9", {"decoder": {"width": 128}, "sparsity": 0.8, "inner": 9}),
        ("interpreter.decoder: !name:builtins.dict {d: 5}", {"decoder": {"d": 5}, "sparsity": 0.8, "inner": 3}),
    ],
)  # fmt: skip
def test_one_line_changes_a_setting_of_a_block_in_a_file_and_on_the_command_line(write, change, expected):
    assert built(write("mine.yaml", f"extends: base.yaml\n{change}\n")) == expected
    key, _, value = change.partition(": ")
    if "\n" not in change:
        assert built(write("plain.yaml", "extends: base.yaml\n"), f"--{key}={value}") == expected


def test_a_list_of_files_is_extended_in_order_and_the_recipe_has_the_last_word(write):
    write("first.yaml", "seed: 1\nepochs: 2\nbatch_size: 4\n")
    write("second.yaml", "epochs: 3\nbatch_size: 5\nsubset: null\n")
    values = load_recipe([write("mine.yaml", "extends: [first.yaml, second.yaml]\nbatch_size: 6\n")]).values
    kept = {key: values[key] for key in ("seed", "epochs", "batch_size", "subset")}
    assert kept == {"seed": 1, "epochs": 3, "batch_size": 6, "subset": None}


def test_tagged_values_may_be_changed_and_keys_added(write):
    text = "extends: base.yaml\nbase_lr: 0.1\noptimizer: !name:builtins.dict\n    lr: !ref <base_lr>\n"
    recipe = load_recipe([write("mine.yaml", text), "--base_lr=0.2"])
    assert recipe.build()["optimizer"]() == {"lr": 0.2}
    replaced = "extends: base.yaml\noptimizer: !name:builtins.dict\n    lr: 3\n"
    write("mine.yaml", replaced)
    again = load_recipe([write("other.yaml", "extends: mine.yaml\noptimizer: !name:builtins.list\n")])
    assert again.build()["optimizer"] is list


def test_several_levels_are_extended_and_a_circle_is_told(write):
    write("middle.yaml", "extends: base.yaml\nepochs: 7\n")
    assert load_recipe([write("mine.yaml", "extends: middle.yaml\n")]).values["epochs"] == 7
    with pytest.raises(UsageError, match="extends itself: take it out of its own `extends`"):
        load_recipe([write("round.yaml", "extends: round.yaml\n")])


def test_a_misspelt_key_names_its_own_file(write):
    write("middle.yaml", "extends: base.yaml\nepoch: 7\n")
    with pytest.raises(UsageError) as caught:
        load_recipe([write("mine.yaml", "extends: middle.yaml\nseeed: 7\n")])
    told = str(caught.value)
    assert "nothing uses the key 'seeed'; did you mean seed?" in told
    assert "nothing uses the key 'epoch' of " in told
    assert "middle.yaml; did you mean epochs?" in told


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--interpreter.sparsty=1", "did you mean --interpreter.sparsity?"),
        ("--interpreter.decoder.widht=1", "did you mean --interpreter.decoder.width?"),
        ("--sparsty=1", "did you mean --sparsity?"),
        (
            "--interpreter.nothing.like=1",
            "known keys: interpreter.decoder, interpreter.sparsity, interpreter.depth, ",
        ),
        ("--epochs.x=1", "has no key 'epochs.x'"),
    ],
)
def test_a_misspelt_dotted_key_names_the_nearest_one(write, argument, told):
    with pytest.raises(UsageError) as caught:
        load_recipe([write("mine.yaml", "extends: base.yaml\n"), argument])
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 2\nb: !ref <a>\n", 2),
        ("a: 2\nb: !ref <a> * 3 + 1\n", 7),
        ("a: x/y\nb: !ref <a>/z\n", "x/y/z"),
        ("a: 3/2\nb: !ref <a>\n", "3/2"),
        ("a: {c: [1, 2]}\nb: !ref <a[c]>\n", [1, 2]),
        ("b: !ref <a>\na: !ref <c>\nc: 4\n", 4),
        ("a: [1]\nb: !copy <a>\n", [1]),
        ("b: !env:EARWITNESS_NOT_SET some/folder\n", "some/folder"),
        ("b: !env:EARWITNESS_SET some/folder\n", "elsewhere"),
    ],
)
def test_references_stand_for_what_they_name(write, monkeypatch, text, expected):
    monkeypatch.setenv("EARWITNESS_SET", "elsewhere")
    used = "optimizer: !name:builtins.dict\n" + "".join(f"    {key}: !ref <{key}>\n" for key in parse(text, "keys"))
    recipe = load_recipe([write("mine.yaml", f"seed: 1\n{text}{used}")])
    assert parse(recipe.text, "kept")["b"] == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("subset: !ref <nothing>\n", "!ref <nothing> names a key that is not there"),
        ("subset: !ref <folds>\nfolds: !ref <subset>\n", "the references"),
        ("interpreter: !include:gone.yaml\n", "gone.yaml, which is not there"),
        ("interpreter: !include:block.yaml\n    sparsty: 1\n", "has no key 'sparsty'; did you mean --sparsity?"),
        ("interpreter: !include:block.yaml\n    decoder:\n        widht: 1\n", "has no key 'decoder.widht'"),
    ],
)
def test_what_is_not_there_is_named(write, text, told):
    with pytest.raises(UsageError) as caught:
        load_recipe([write("mine.yaml", f"seed: 1\n{text}")])
    assert told in str(caught.value)


def test_an_object_named_twice_is_built_once(write):
    text = "seed: 1\nmodel:\n    a: !new:collections.Counter\n    classifier: !new:builtins.list\n"
    text += "        - [!ref '<model[a]>', !ref '<model[a]>']\n"
    first, second = load_recipe([write("mine.yaml", text)]).build()["model"]["classifier"]
    assert first is second


def test_the_kept_configuration_reads_back_as_itself(write, tmp_path):
    recipe = load_recipe(
        [write("mine.yaml", "extends: base.yaml\nexperiment: '2024'\naudio: null\n"), "--audio=#1: a.flac"]
    )
    again = load_recipe([write("kept.yaml", recipe.text)])
    assert again.text == recipe.text
    assert again.values == recipe.values


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_that_moved_is_where_the_table_says(name):
    moved = HPARAMS.parent / f"{MODULES[name].replace('.', '/')}.py"
    assert moved.is_file()
    assert not (HPARAMS.parent / f"{name.replace('.', '/')}.py").exists()


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_moved_is_found_under_its_old_name(name):
    assert (HPARAMS / FILES[name]).is_file()
    assert not (HPARAMS / name).exists()


def test_old_dotted_names_work_in_recipes_and_in_what_they_include(write):
    write("old.yaml", "augmentation: !new:recipes.augmentation.Augmentation\n    shift: true\n")
    text = "seed: 1\nepochs: 3\npeak_lr: 0.1\naugmentation: !include:old.yaml\n"
    text += "schedule: !name:recipes.schedules.WarmupCosine\n    peak_lr: !ref <peak_lr>\n    epochs: !ref <epochs>\n"
    recipe = load_recipe([write("mine.yaml", text)])
    settings = recipe.build()
    assert type(settings["augmentation"]["augmentation"]).__module__ == "recipes.data.augmentation"
    assert settings["schedule"].func.__module__ == "recipes.training.schedules"
    assert "recipes.schedules" not in recipe.text


@pytest.mark.parametrize(
    ("name", "now"),
    [
        ("recipes.schedules.Cyclic", "recipes.training.schedules.Cyclic"),
        ("recipes.esc50.read_corpus", "recipes.data.corpus.read_corpus"),
        ("recipes.esc50.ClipStore", "recipes.data.clips.ClipStore"),
        ("recipes.training.schedules.Cyclic", "recipes.training.schedules.Cyclic"),
        ("my_module.recipes.schedules.Cyclic", "my_module.recipes.schedules.Cyclic"),
        ("torch.optim.Adam", "torch.optim.Adam"),
    ],
)
def test_a_moved_name_is_todays(name, now):
    assert current_name(name) == now


def test_only_tags_are_renamed():
    text = "a: !name:recipes.schedules.Cyclic\nb: recipes.schedules.Cyclic  # recipes.schedules\n"
    assert with_current_names(text) == text.replace("!name:recipes.schedules", "!name:recipes.training.schedules")
    assert parse(with_current_names(text), "x")["a"] == Tagged("name:recipes.training.schedules.Cyclic", "")
