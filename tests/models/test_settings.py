"""Groups of settings: their types are checked, a bundle may build them, and loose arguments kept before still fit."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch

from interpreters.amortized import AmortizedMask, Finish, MaskTask, NetworkShape
from interpreters.extremal import Cells, Extremal, Objective, Search, StartingMap
from models.bundle import BundleInfo, build_trusted, load_bundle, save_bundle
from models.classifier import ClassifierInfo
from models.errors import UsageError
from models.settings import SettingsGroup, with_groups

INFO = ClassifierInfo(2, 16000, 1024, (2,), frozenset({"maps", "gradient"}))
KEPT_BEFORE = """
interpreter: !name:interpreters.amortized.AmortizedMask
  quantile: 0.7
  area: 0.25
  areas: [0.1, 0.3]
  removed: 2.0
  temperature: 0.4
  mixed: 0.1
  runner_up: 0.2
  infill: 0.15
  infill_steps: 7
  finish_steps: 3
  finish_level: 0.6
  keep: 5.0
  hold: 1.5
  chunk: 2
  frames_per_cell: 4
  bands: 16
  gated: true
"""
KEPT_BEFORE_OF_EXTREMAL = """
interpreter: !name:interpreters.extremal.Extremal
  areas: [0.3]
  steps: 2
  rate: 0.1
  cell: [4, 8]
  bands: 32
  start: flat
  strength: 3.0
  level: 0.5
  keep: 2.0
  remove: 0.0
  hold: 0.2
  smoothness: 0.1
  removal: noise
  chunk: 5
  seed: 9
  quantile: 0.6
"""


@dataclass(frozen=True)
class Pair(SettingsGroup):
    count: int = 1
    share: float | None = 0.5
    names: tuple[str, ...] = ()

    def check(self):
        if self.count < 0:
            raise UsageError("count must be 0 or more")


class Taker:
    def __init__(self, info: int, pair: Pair = Pair(), width: int = 3):
        self.info, self.pair, self.width = info, pair, width


@pytest.mark.parametrize(
    "values, told",
    [
        ({"count": 1.5}, "count=1.5 must be a whole number"),
        ({"count": True}, "count=True must be a whole number"),
        ({"share": "half"}, "share='half' must be a number or null"),
        ({"count": "2", "share": []}, r"count='2' must be a whole number; share=\[\] must be a number or null"),
        ({"count": -1}, "count must be 0 or more"),
    ],
)
def test_values_of_other_types_or_out_of_range_are_told(values, told):
    with pytest.raises(UsageError, match=f"^{told}$"):
        Pair(**values)


def test_whole_numbers_are_numbers_and_lists_are_left_to_the_group():
    assert Pair(share=1).share == 1 and Pair(share=None).share is None and Pair(names=[2]).names == [2]


def test_loose_arguments_go_into_their_group_and_leave_its_other_defaults():
    taker = with_groups(partial(Taker, count=4, width=7))(info=1)
    assert taker.pair == Pair(count=4) and taker.width == 7 and taker.info == 1


def test_a_factory_without_loose_arguments_is_as_it_was():
    grouped = with_groups(partial(Taker, pair=Pair(2)))
    assert grouped(info=1).pair == Pair(2)
    assert with_groups(partial(dict, count=4))() == {"count": 4}
    assert with_groups(Taker) is Taker


def test_a_group_beside_its_own_fields_is_refused():
    with pytest.raises(UsageError, match="count and pair are given beside each other: write all of them in pair"):
        with_groups(partial(Taker, count=4, pair=Pair()))


def kept(folder, model_yaml, network):
    """A bundle of an interpreter as an earlier version wrote it."""
    return save_bundle(folder, network, model_yaml, BundleInfo("interpreter", ("a", "b"), 16000, 5.0))


def test_a_bundle_of_the_amortised_mask_from_before_groups_is_loaded_with_its_settings(tmp_path):
    shape = NetworkShape(frames_per_cell=4, bands=16, gated=True)
    trained = AmortizedMask(INFO, network=shape)
    bundle = kept(tmp_path / "interpreter", KEPT_BEFORE, trained)
    loaded = load_bundle(bundle, "interpreter", info=INFO).network
    assert loaded.quantiles == (0.7,) and loaded.area == 0.25
    assert loaded.task == MaskTask([0.1, 0.3], 2.0, 0.4, 0.1, 0.2, 0.15, 7)
    assert loaded.finish == Finish(3, 0.6, 5.0, 1.5, 2)
    assert (loaded.grid.frames_per_cell, loaded.grid.bands, loaded.network.gated) == (4, 16, True)
    assert loaded.finishing.search == Search(0.25, 3, chunk=2)
    assert loaded.finishing.objective == Objective(keep=5.0, hold=1.5)
    for name, value in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_a_bundle_of_extremal_from_before_groups_is_loaded_with_its_settings(tmp_path):
    cells = Cells([4, 8], 32)
    bundle = kept(tmp_path / "interpreter", KEPT_BEFORE_OF_EXTREMAL, Extremal(INFO, cells=cells))
    loaded = load_bundle(bundle, "interpreter", info=INFO).network
    assert loaded.search == Search([0.3], 2, 0.1, 5, 9) and loaded.cells == cells and loaded.quantiles == (0.6,)
    assert loaded.starting_map == StartingMap("flat", 3.0, 0.5)
    assert loaded.objective == Objective(2.0, 0.0, 0.2, 0.1, "noise")


def test_a_misspelt_loose_argument_of_a_bundle_is_told(tmp_path):
    text = KEPT_BEFORE.replace("infill_steps", "infil_steps")
    bundle = kept(tmp_path / "interpreter", text, AmortizedMask(INFO))
    with pytest.raises(UsageError, match=r"does not fit the modules it asks for: .*infil_steps"):
        load_bundle(bundle, "interpreter", info=INFO)


def test_a_bundle_builds_groups_and_no_other_dataclass():
    assert build_trusted("a: !new:interpreters.extremal.Search\n  steps: 5", "model.yaml")["a"] == Search(steps=5)
    with pytest.raises(UsageError, match="it is no torch module and no group of settings"):
        build_trusted("a: !new:models.bundle.BundleInfo", "model.yaml")
    with pytest.raises(UsageError, match="steps=0 and chunk=1 must be 1 or more"):
        build_trusted("a: !new:interpreters.extremal.Search\n  steps: 0", "model.yaml")
