"""What a command line says: paths and names as they stand, everything else as YAML reads it."""

import pytest
from recipe_files import HPARAMS
from speechbrain.utils.run_opts import HELP_TEXTS, RunOptions

from models.errors import UsageError
from recipes.config.options import RUN_OPTIONS, SWITCH, TEXT, WORDS
from recipes.config.recipe import each_recipe, load_recipe
from recipes.config.yaml_text import parse

MODULATION = str(HPARAMS / "modulation.yaml")
NAMES = (
    "#1.flac", "dog #3.flac", "&dog.flac", "!dog.flac", "[dog].flac", "{dog}.flac", "@home.flac", "%20.flac",
    "a: b.flac", "*.flac", "2024", "1e-3", "true", "2024-01-01", "0x10", "a,b.flac", "'quoted'.flac", '"double".flac',
    "it's.flac", "back\\slash.flac", "- dash.flac", "? mark.flac", "|pipe.flac", ">more.flac", "a<b>.flac",
    "日本語.flac", "Fußgänger.flac",
    "a=b.flac", " leading.flac", "trailing.flac ", "~x.flac", "<seed>", "!ref <seed>", "x" * 300,
)  # fmt: skip


def loaded(*changes: str) -> dict:
    return load_recipe([MODULATION, *changes]).values


def refusal(*changes: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_recipe([MODULATION, *changes])
    return str(caught.value)


@pytest.mark.parametrize("key", ["audio", "data_folder", "experiment", "classifier"])
@pytest.mark.parametrize("name", NAMES)
def test_a_path_or_a_name_is_kept_as_it_stands_and_in_the_kept_configuration(name, key):
    recipe = load_recipe([MODULATION, f"--{key}={name}"])
    assert recipe.values[key] == name
    assert parse(recipe.text, "kept")[key] == name


@pytest.mark.parametrize("name", ["#1.flac", "a: b (2).flac", "2024", "a<b>.flac", "日本語.flac", "!x", "'x'"])
def test_a_path_with_odd_characters_reaches_what_is_built(name, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("seed: 1\nweights: null\nmodel:\n    classifier: !new:builtins.dict\n        a: !ref <weights>\n")
    assert load_recipe([str(recipe), f"--weights={name}"]).build()["model"]["classifier"] == {"a": name}


@pytest.mark.parametrize("text", ["2024", "1e-3", "2024-01-01", "true", "007", "0x1F", "1_000"])
def test_a_name_in_a_file_is_text_whatever_it_looks_like(tmp_path, text):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"extends: {MODULATION}\nexperiment: {text}\n")
    loaded = load_recipe([str(recipe)])
    assert loaded.values["experiment"] == text
    assert parse(loaded.text, "kept")["experiment"] == text


def test_null_is_null_and_nothing_is_refused_and_a_home_folder_is_spelt_out(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert loaded("--audio=null")["audio"] is None
    assert loaded("--audio=~")["audio"] is None
    # of an empty variable of the shell: null would score the whole data set
    assert "--audio= has no value, as where a variable of the shell is empty" in refusal("--audio=")
    assert "--noise_folder= has no value" in refusal("--noise_folder=")
    assert loaded("--data_folder=~/sounds #2")["data_folder"] == "/home/someone/sounds #2"
    assert refusal("--data_folder=null").endswith("data_folder=None must be a path")


def test_a_home_folder_is_spelt_out_in_a_file_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"extends: {MODULATION}\ndata_folder: ~/sounds\n")
    assert load_recipe([str(recipe)]).values["data_folder"] == "/home/someone/sounds"


def test_a_name_in_parentheses_would_become_a_tuple_and_is_refused():
    assert refusal("--data_folder=(1, 2)").endswith(
        "data_folder='(1, 2)' must be a path; write ./(1, 2) for a file or folder of that name"
    )
    assert loaded("--data_folder=./(1, 2)")["data_folder"] == "./(1, 2)"


def test_several_words_after_audio_are_several_files():
    assert loaded("--audio", "a b.wav", "c.wav")["audio"] == ["a b.wav", "c.wav"]
    assert loaded("--audio", "a b.wav")["audio"] == "a b.wav"
    assert loaded("--audio=[a.wav, b.wav]")["audio"] == ["a.wav", "b.wav"]
    assert loaded("--audio=[a.wav,", "b c.wav]")["audio"] == ["a.wav", "b c.wav"]
    assert loaded("--audio=[ab].wav")["audio"] == "[ab].wav"


def test_a_file_whose_name_looks_like_a_list_is_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[a,b]").touch()
    assert loaded("--audio=[a,b]")["audio"] == "[a,b]"


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("--quantile=[0.5", "a '[' is not closed, or a comma is missing"),
        ("--quantile={a", "a '{' is not closed, or a comma is missing"),
        ("--quantile='0.5", "a quotation mark is not closed"),
        ("--subset=@x", "a value cannot begin with this character"),
        ("--subset=*x", "'*' stands for a reference, and there is none of that name"),
        ("--subset=&x", "'&' begins a reference"),
        ("--subset=!x", "'!' begins a tag, such as !name:torch.optim.SGD"),
        ("--subset=#x", "'#' begins a comment"),
        ("--subset=esc10 #x", "'#' begins a comment"),
        ("--subset=a: b", "a colon stands where no key can be"),
    ],
)
def test_a_value_that_yaml_cannot_read_is_told_in_plain_words(argument, reason):
    told = refusal(argument)
    assert told.startswith(f"{argument} cannot be read: {reason}; put text with such characters into quotation marks")
    assert not any(word in told for word in ("token", "scalar", "flow", "stream", "column", "parser"))


def test_a_quoted_value_may_hold_such_characters():
    assert refusal("--subset='#x'").endswith("subset='#x' must be null or 'esc10'")


def test_the_table_of_run_options_is_speechbrains():
    defaults = RunOptions().as_dict()
    assert set(RUN_OPTIONS) == {*HELP_TEXTS, "jit_module_keys", "compile_module_keys"} - {"optimizer_step_limit"}
    for name, kind in RUN_OPTIONS.items():
        default = defaults[name]
        if kind == SWITCH:
            assert default is False
        elif kind in (TEXT, WORDS):
            assert default is None or isinstance(default, str)
        elif isinstance(kind, tuple):
            assert default in kind
        else:
            assert type(default) is kind


@pytest.mark.parametrize("arguments", [("--debug",), ("--debug_batches=3",), ("--device", "cpu"), ("--test_only",),
                                       ("--nonfinite_patience=0", "--tqdm_colored_bar")])  # fmt: skip
def test_run_options_are_what_speechbrain_makes_of_them(arguments):
    ours = load_recipe([MODULATION, *arguments]).run_opts
    theirs = RunOptions.from_command_line_args([MODULATION, *arguments])[1]
    for name in RUN_OPTIONS:
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.overridden_args == theirs.overridden_args


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--debug_batches=x", "debug_batches='x' must be a whole number"),
        ("--debug_batches", "debug_batches needs a value, as in --debug_batches=VALUE"),
        ("--debug=1", "debug is a switch: pass --debug without '1'"),
    ],
)
def test_a_wrong_run_option_is_told(argument, told):
    assert refusal(argument) == told


def test_a_recipe_is_looked_up_by_its_own_name(tmp_path):
    for name, told in (
        ("nope.yaml", "no recipe nope.yaml; `python"),
        ("lmac.yaml", "no recipe lmac.yaml; did you mean "),
    ):
        with pytest.raises(UsageError) as caught:
            load_recipe([name])
        assert str(caught.value).startswith(told)
        assert "lime" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "command", "told"),
    [
        ("lmac", "train.py", "explains a classifier: run `python interpret.py"),
        ("grad_cam", "train.py", "explains a classifier: run `python interpret.py"),
        ("focalnet", "interpret.py", "trains a classifier: run `python train.py"),
    ],
)
def test_a_recipe_of_the_other_command_is_told(recipe, command, told):
    path = HPARAMS / f"{recipe}.yaml"
    with pytest.raises(UsageError) as caught:
        load_recipe([str(path)], command=command)
    assert str(caught.value) == f"{path} {told} {path}`"


def test_a_typo_is_blamed_on_the_recipe_that_was_named(tmp_path):
    with pytest.raises(UsageError) as caught:
        load_recipe([str(HPARAMS / "grad_cam.yaml"), "--quantle=0.5"])
    assert str(caught.value) == f"{HPARAMS / 'grad_cam.yaml'} has no key 'quantle'; did you mean --quantile?"


def test_a_recipes_text_may_be_of_another_encoding_and_is_told(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("experiment: Fußgänger\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin\.yaml is not UTF-8 text: save it as UTF-8"):
        load_recipe([str(tmp_path / "latin.yaml")])


def test_an_argument_that_a_factory_does_not_take_is_told_with_those_it_takes(tmp_path):
    recipe = tmp_path / "mine.yaml"
    schedule = "optimizer: !name:recipes.training.schedules.WarmupCosine\n    lr: 1\n"
    recipe.write_text(f"extends: {HPARAMS / 'lmac.yaml'}\n{schedule}")
    with pytest.raises(UsageError) as caught:
        load_recipe([str(recipe)]).build()
    assert str(caught.value).startswith(
        f"{recipe}: recipes.training.schedules.WarmupCosine got an unexpected keyword argument 'lr'; it takes "
    )
    inner = load_recipe([str(HPARAMS / "lmac.yaml"), "--interpreter.decoder={height: 3}"])
    with pytest.raises(UsageError, match=r"LightDecoder got an unexpected keyword argument 'height'; it takes .*width"):
        inner.build()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("--interpreter.samples=many", "samples='many' must be a whole number"),
        ("--interpreter.samples=1.5", "samples=1.5 must be a whole number"),
        ("--interpreter.noise=true", "noise=True must be a number"),
        ("--interpreter.method=3", "method=3 must be text"),
    ],
)
def test_an_argument_of_another_type_is_told_with_the_type(change, sentence):
    recipe = load_recipe([str(HPARAMS / "gradient.yaml"), change])
    with pytest.raises(UsageError) as caught:
        recipe.build()
    assert str(caught.value) == f"{HPARAMS / 'gradient.yaml'}: interpreters.gradients.Gradient: {sentence}"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("--cell=8", "cell=8 must be a list of whole numbers"),
        ("--cell=[2.5,3]", "cell=[2.5, 3] must be a list of whole numbers"),
        ("--areas=some", "areas='some' must be a number or a list of numbers"),
        ("--areas=[0.1,true]", "areas=[0.1, True] must be a number or a list of numbers"),
    ],
)
def test_a_list_is_held_to_the_type_of_its_items(change, sentence):
    recipe = load_recipe([str(HPARAMS / "extremal.yaml"), change])
    with pytest.raises(UsageError) as caught:
        recipe.build()
    assert str(caught.value) == sentence
    load_recipe([str(HPARAMS / "extremal.yaml"), "--cell=[2,3]", "--areas=[0.1,0.2]"]).build()


def test_several_recipes_take_the_same_keys():
    line = ["a.yaml", "b.yaml", "--audio=x.wav", "--target", "rooster"]
    assert each_recipe(line) == [
        ["a.yaml", "--audio=x.wav", "--target", "rooster"],
        ["b.yaml", "--audio=x.wav", "--target", "rooster"],
    ]
    assert each_recipe(["a.yaml"]) == [["a.yaml"]]
    assert each_recipe(["--audio=x.wav"]) == [["--audio=x.wav"]]
