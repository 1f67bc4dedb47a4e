"""Learning-rate schedules by hand."""

import math

import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer

from recipes.training.schedules import Cyclic, Plateau, WarmupCosine

PUBLISHED = {"base_lr": 1e-8, "max_lr": 2e-4, "step_size": 65000}


def optimizer(rate: float = 1e-6) -> torch.optim.Optimizer:
    """Two groups, because a schedule must set them all."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    return torch.optim.SGD(groups, lr=rate)


def rates(schedule, steps: int) -> list[float]:
    """The rate after each of so many steps."""
    adam, found = optimizer(), []
    for _ in range(steps):
        schedule.on_batch_end(adam)
        assert adam.param_groups[0]["lr"] == adam.param_groups[1]["lr"]
        found.append(adam.param_groups[0]["lr"])
    return found


def test_the_published_cycle_ends_at_2_3e_5_after_100_epochs_of_75_steps():
    found = rates(Cyclic(75, **PUBLISHED), 7500)
    slope = (2e-4 - 1e-8) / 65000
    assert found[:3] == pytest.approx([1e-8 + slope, 1e-8 + 2 * slope, 1e-8 + 3 * slope])
    assert found[-1] == pytest.approx(1e-8 + 7500 * slope)
    assert found[-1] == pytest.approx(2.3e-5, rel=0.01)
    assert found == sorted(found)


def test_a_cycle_turns_at_its_peak():
    found = rates(Cyclic(1, base_lr=1.0, max_lr=3.0, step_size=2), 5)
    assert found == pytest.approx([2, 3, 2, 1, 2])


def test_equal_ends_are_a_constant_rate():
    assert rates(Cyclic(75, base_lr=2e-4, max_lr=2e-4, step_size=1000), 5) == pytest.approx([2e-4] * 5)


def test_the_warm_up_is_linear_and_the_rest_half_a_cosine_to_zero():
    # 2 epochs of 4 steps: 4 steps up, then 4 down
    schedule = WarmupCosine(4, peak_lr=1.0, epochs=2, warmup_epochs=1)
    assert [schedule.rate(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    falling = [1.0, 0.5 + math.sqrt(2) / 4, 0.5, 0.5 - math.sqrt(2) / 4, 0.0]
    assert [schedule.rate(step) for step in range(4, 9)] == pytest.approx(falling, abs=1e-12)
    assert schedule.rate(1000) == pytest.approx(0, abs=1e-12)


def test_the_rate_set_after_a_step_is_the_next_steps():
    assert rates(WarmupCosine(4, peak_lr=1.0, epochs=2, warmup_epochs=1), 4) == [0.5, 0.75, 1.0, 1.0]


def test_a_warm_up_may_be_a_fraction_of_an_epoch_or_nothing():
    assert WarmupCosine(10, 1.0, epochs=5, warmup_epochs=0.5).warmup_steps == 5
    none = WarmupCosine(10, 1.0, epochs=1, warmup_epochs=0)
    assert (none.warmup_steps, none.rate(0)) == (1, 1.0)
    # shorter than its warm-up: still no division by zero
    assert WarmupCosine(1, 1.0, epochs=1, warmup_epochs=4).rate(5) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: WarmupCosine(4, peak_lr=1.0, epochs=2, warmup_epochs=1),
        lambda: Cyclic(4, base_lr=0.1, max_lr=1.0, step_size=3),
    ],
)
def test_a_schedule_goes_on_from_its_checkpoint(make, tmp_path):
    whole = rates(make(), 7)
    before, after = make(), make()
    rates(before, 3)
    Checkpointer(tmp_path, {"schedule": before}).save_checkpoint()
    Checkpointer(tmp_path, {"schedule": after}).recover_if_possible()
    assert rates(after, 4) == whole[3:]


def rates_after(schedule: Plateau, losses: list[float], first: int = 1) -> list[float]:
    """The rate after each epoch, the first of them numbered `first`."""
    adam = optimizer(2e-4)
    rates = []
    for epoch, loss in enumerate(losses, start=first):
        schedule.on_epoch_end(adam, epoch, loss)
        assert adam.param_groups[0]["lr"] == adam.param_groups[1]["lr"]
        rates.append(adam.param_groups[0]["lr"])
    return rates


def test_a_plateau_halves_the_rate_with_the_fourth_worse_epoch_in_a_row():
    losses = [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.9, 2.0, 2.0, 2.0, 2.0]
    rates = rates_after(Plateau(75, first_epoch=0), losses)
    assert rates == pytest.approx([2e-4] * 4 + [1e-4] * 6 + [5e-5])


def test_a_plateau_before_its_first_epoch_changes_nothing():
    """As the papers' recipes have it: not before epoch 100 is over, and from the loss of epoch 100 on."""
    rates = rates_after(Plateau(75), [0.1] + [5.0] * 99)
    assert rates == pytest.approx([2e-4] * 100)
    rates = rates_after(Plateau(75), [5.0, 6.0, 6.0, 6.0, 6.0], first=100)
    assert rates == pytest.approx([2e-4] * 4 + [1e-4])


def test_a_resumed_plateau_goes_on_where_it_stopped(tmp_path):
    losses = [1.0, 2.0, 2.0, 2.0, 2.0]
    whole = rates_after(Plateau(1, first_epoch=0), losses)
    first = Plateau(1, first_epoch=0)
    rates_after(first, losses[:3])
    Checkpointer(tmp_path, {"schedule": first}).save_checkpoint()
    second = Plateau(1, first_epoch=0)
    Checkpointer(tmp_path, {"schedule": second}).recover_if_possible()
    assert rates_after(second, losses[3:], first=4) == pytest.approx(whole[3:])
