"""Runs begun before recipes were put together from shared files go on: their kept text means what today's means."""

from recipe_files import HPARAMS

from recipes.config.meaning import meaning
from recipes.config.recipe import load_recipe
from recipes.config.tagged import Tagged

KEPT = """
# L-MAC on CNN14 (arXiv 2403.13086), as a run of an earlier version kept it
seed: 1234
experiment: lmac
output_folder: results
classifier: results/cnn14_scratch/1234/classifier
trust: []  # modules of your own

data_folder: data/ESC-50
cache_folder: results/cache
subset:
folds:       # all: five-fold cross-validation
train_folds: [1, 2, 3]
valid_folds: [4]
test_folds: [5]

audio:       # a sound file
contamination: clean
snr_db:
noise_folder:
report_clips: 8
eval_batch_size: 16
eval_precision: fp32

epochs: 4
batch_size: 16
peak_lr: 5.0e-4
start_from:
train_noise: clean
train_snr_db:
precision: auto
max_grad_norm: 5.0
grad_accumulation_factor: 1
tensorboard: false
ckpt_interval_minutes: 15
sparsity: 0.4
guidance: 0.0

interpreter:
  # the block's own comment
  width: 128
  use_input: false
  inside: 4.0
  outside: 0.2
  sparsity: 0.4
  smoothness: 0.0
  guidance: 0.0
  min_correlation: 0.6
  energy_threshold: 0.35

  interpreter: !name:interpreters.lmac.LMAC
    decoder: !name:interpreters.decoders.LightDecoder
      width: 128
      use_input: false
    inside: 4.0
    outside: 0.2
    sparsity: 0.4
    smoothness: 0.0
    guidance: 0.0
    min_correlation: 0.6
    energy_threshold: 0.35
optimizer: !name:torch.optim.Adam
  lr: 1.0e-6
  fused: true

schedule: !name:recipes.schedules.WarmupCosine
  peak_lr: 5.0e-4
  epochs: 4
  warmup_epochs: 1
"""


def differences(recipe_changes: tuple[str, ...] = (), kept: str = KEPT) -> set[str]:
    """The keys in which a kept text and today's recipe differ."""
    before, now = meaning(kept), meaning(load_recipe([str(HPARAMS / "lmac.yaml"), *recipe_changes]).text)
    return {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}


def test_a_kept_text_of_an_earlier_version_means_what_the_recipe_means_today():
    assert differences() == set()


def test_a_change_in_a_value_or_an_object_is_a_difference():
    assert differences(("--epochs=5",)) == {"epochs", "schedule"}
    assert differences(("--sparsity=6.4",)) == {"interpreter"}
    assert differences(("--interpreter.decoder.width=64",)) == {"interpreter"}
    assert differences(kept=KEPT.replace("lr: 1.0e-6", "lr: 1.0e-5")) == {"optimizer"}
    assert differences(kept=KEPT.replace("recipes.schedules.WarmupCosine", "recipes.schedules.Cyclic")) == {"schedule"}


def test_what_is_written_otherwise_is_no_difference():
    shuffled = "\n".join(["sparsity: 99.0", *(line for line in KEPT.splitlines() if line != "sparsity: 0.4")])
    assert differences(kept=shuffled) == set()


def test_an_object_without_arguments_is_written_in_one_way():
    assert (
        meaning("optimizer: !name:a.B\n")
        == meaning("optimizer: !name:a.B {}\n")
        == {"optimizer": Tagged("name:a.B", {})}
    )


def test_the_name_of_a_map_is_no_difference_because_the_classifier_decides_it():
    text = "interpreter:\n  interpreter: !name:interpreters.maps.QuantileMap\n    quantile: 0.9\n"
    assert meaning(text) == meaning(text + "    map: modulation\n")
    assert meaning(text) != meaning(text.replace("0.9", "0.8"))


def test_a_classifier_of_before_there_was_a_choice_of_losses_had_an_additive_margin():
    before = "margin: 0.2\nmodel: {classifier: !new:a.B {}}\n"
    assert meaning(before) == meaning("loss: additive_margin\n" + before)
    assert meaning(before) != meaning("loss: additive_angular_margin\n" + before)
    assert "loss" not in meaning(KEPT)


def test_an_argument_that_is_the_default_is_no_difference():
    text = "interpreter:\n  interpreter: !name:interpreters.lmac.LMAC\n    decoder: "
    text += "!name:interpreters.decoders.LightDecoder\n"
    assert meaning(text) == meaning(text + "      cell: [2, 2]\n      width: 128\n")
    assert meaning(text) != meaning(text + "      cell: [2, 8]\n")
    # of a class that is not this project's, nothing is known
    text = "optimizer: !name:torch.optim.Adam {}\n"
    assert meaning(text) != meaning(text.replace("{}", "{lr: 1.0e-3}"))
