"""Extremal perturbation: exact shares, the band that a classifier listens to, penalties, starts and removals."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from interpreters.extremal import Extremal, Search, StartingMap, exact_share
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import Spectrogram
from models.settings import with_groups

INFO = ClassifierInfo(2, 16000, 1024, (1,), frozenset({"gradient", "maps"}))
FRAMES, BINS = 16, 24
BANDS = (slice(4, 8), slice(16, 20))
SETTINGS = {"cell": (4, 4), "areas": 1 / 6, "quantile": 5 / 6, "steps": 15}


class Listener(nn.Module):
    """Logit k is the log1p magnitude in band k of two, 4 bins of 24; the only map is level everywhere."""

    def forward(self, spectrogram):
        x = spectrogram.log_magnitude
        logits = torch.stack([x[:, :, band].mean(dim=(1, 2)) for band in BANDS], dim=1) * 5
        level = x.mean(dim=(1, 2)).view(-1, 1, 1, 1).expand(-1, 1, 4, 4) * 1
        return Evidence(logits + 0 * level.mean(dim=(2, 3)), Features(logits, (level,)))


def sound(clips: int = 2) -> Spectrogram:
    """Noise that is as loud in every bin on average, and most in the first band."""
    log_magnitude = 1 + 0.1 * torch.rand(clips, FRAMES, BINS)
    log_magnitude[:, :, BANDS[0]] += 0.5
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), 1000)


def extremal(**options) -> Extremal:
    """A method with settings by their names, as recipes have them, from whatever group."""
    return with_groups(partial(Extremal, **options))(INFO)


def explain(spectrogram: Spectrogram, target=None, **options):
    classifier = Listener()
    with torch.no_grad():
        interpreter = extremal(**SETTINGS | {"start": "flat"} | options)
        return interpreter.interpret(classifier, spectrogram, classifier(spectrogram), target)


def share_in(mask: torch.Tensor, band: slice) -> torch.Tensor:
    """[B] share of what is kept that lies in a band."""
    return mask[:, :, band].sum(dim=(1, 2)) / mask.sum(dim=(1, 2))


@pytest.mark.parametrize("area, cells", [(0.01, 1), (0.25, 6), (0.5, 12), (0.99, 24)])
def test_the_share_is_exact_and_holds_the_highest_scores(area, cells):
    scores = torch.randn(3, 4, 6)
    mask = exact_share(scores, area)
    assert mask.sum(dim=(1, 2)).tolist() == [cells] * 3
    assert mask.unique().tolist() in ([0, 1], [1])
    lowest_kept = scores.masked_fill(mask == 0, torch.inf).amin(dim=(1, 2))
    highest_lost = scores.masked_fill(mask == 1, -torch.inf).amax(dim=(1, 2))
    assert (lowest_kept > highest_lost).all()


def test_equal_scores_do_not_make_the_share_larger():
    assert exact_share(torch.zeros(1, 4, 6), 0.25).sum() == 6


def test_the_gradient_of_a_share_is_a_sigmoids_around_the_threshold():
    scores = torch.tensor([[[0.0, 0.3, 0.6, 0.9]]], requires_grad=True)
    exact_share(scores, 0.5).sum().backward()
    logistic = torch.sigmoid((scores.detach() - 0.6) / 0.3)
    torch.testing.assert_close(scores.grad, logistic * (1 - logistic) / 0.3)


@pytest.mark.parametrize("removal", ["silence", "noise"])
def test_the_mask_finds_the_band_that_the_classifier_listens_to(removal):
    answer = explain(sound(), removal=removal)
    assert (share_in(answer.mask, BANDS[0]) > 0.9).all()
    torch.testing.assert_close(answer.mask.mean(dim=(1, 2)), torch.full((2,), 1 / 6))


def test_it_finds_the_band_of_the_asked_class_too():
    answer = explain(sound(), torch.tensor([1, 0]))
    assert share_in(answer.mask, BANDS[1])[0] > 0.9
    assert share_in(answer.mask, BANDS[0])[1] > 0.9
    assert answer.target.tolist() == [1, 0]


@pytest.mark.parametrize("weights", [{"keep": 0.0}, {"remove": 0.0}])
def test_either_part_alone_points_at_the_band(weights):
    assert (share_in(explain(sound(), hold=0.0, **weights).mask, BANDS[0]) > 0.9).all()


def test_a_clip_has_the_same_answer_in_any_company_and_at_any_time():
    spectrogram = sound(3)
    together, again, alone = explain(spectrogram), explain(spectrogram), explain(spectrogram[1:2])
    assert torch.equal(together.importance, again.importance)
    assert torch.equal(together.importance[1:2], alone.importance)
    torch.testing.assert_close(explain(spectrogram, chunk=3).importance, together.importance, atol=1e-3, rtol=1e-3)


def test_what_holds_it_keeps_it_at_its_start():
    start = explain(sound(), steps=1, rate=1e-9).importance
    held, free = explain(sound(), hold=1e6).importance, explain(sound(), hold=0.0).importance
    # Adam's steps are of the rate's size whatever the slope: it swings about the start
    assert (held - start).abs().max() < 2 * 0.3 < (free - start).abs().max()


def test_smooth_scores_differ_less_from_their_neighbours():
    rough = explain(sound(), hold=0.0).importance
    smooth = explain(sound(), hold=0.0, smoothness=1000.0).importance
    assert smooth.diff(dim=2).square().mean() < rough.diff(dim=2).square().mean() / 2


class InBand(Listener):
    """The map is the spectrogram, cut to 4 x 6, so that Grad-CAM knows where it is loud."""

    def forward(self, spectrogram):
        x = spectrogram.log_magnitude
        maps = nn.functional.adaptive_avg_pool2d(x.unsqueeze(1), (4, 6))
        logits = torch.stack([maps[:, 0, :, 1].mean(dim=1), maps[:, 0, :, 4].mean(dim=1)], dim=1)
        return Evidence(logits, Features(logits, (maps,)))


def test_grad_cam_is_the_start_scaled_to_deviation_1():
    classifier, spectrogram = InBand(), sound()
    interpreter = extremal(**SETTINGS | {"steps": 1, "rate": 1e-9})
    with torch.no_grad():
        found = interpreter.importance(classifier, spectrogram, classifier(spectrogram))
    assert found.mean().abs() < 0.01
    torch.testing.assert_close(found.std(dim=(1, 2), correction=0), torch.ones(2), atol=0.01, rtol=0)
    assert (found[:, :, BANDS[0]].mean(dim=(1, 2)) > found.amax(dim=(1, 2)) - 0.5).all()


def test_several_areas_take_turns_and_a_list_of_quantiles_is_swept():
    classifier, spectrogram = Listener(), sound()
    interpreter = extremal(**SETTINGS | {"start": "flat", "areas": [1 / 6, 1 / 3], "quantile": [0.5, 5 / 6]})
    with torch.no_grad():
        half, sixth = interpreter.sweep(classifier, spectrogram, classifier(spectrogram))
    assert half.mask.mean().item() == pytest.approx(0.5) and sixth.mask.mean().item() == pytest.approx(1 / 6)
    assert (share_in(sixth.mask, BANDS[0]) > 0.9).all()


def test_no_gradient_is_left_on_the_classifier(cnn14):
    cnn14.freeze()
    spectrogram = cnn14.frontend.analyze(torch.randn(1, 8000))
    interpreter = Extremal(cnn14.describe(), Search(steps=2))
    with torch.no_grad():
        answer = interpreter.interpret(cnn14, spectrogram, cnn14(spectrogram))
    assert answer.mask.mean().item() == pytest.approx(0.2, abs=0.02)
    assert all(parameter.grad is None for parameter in cnn14.parameters())


@pytest.mark.parametrize(
    "options, told",
    [
        ({"areas": []}, r"areas=\[\] must be a number in \(0, 1\)"),
        ({"areas": [0.1, 1.0]}, "areas=.* must be a number in"),
        ({"steps": 0}, "steps=0 and chunk=1 must be 1 or more"),
        ({"areas": "half"}, "areas='half' must be a number or a list"),
        ({"steps": 2.5}, "steps=2.5 must be a whole number"),
        ({"cell": (8,)}, "cell=.* must be two whole numbers"),
        ({"cell": 8}, "cell=8 must be a list of whole numbers"),
        ({"start": "loudest"}, "start='loudest' must be one of grad_cam, flat"),
        ({"removal": "clip"}, "removal='clip' must be one of silence, noise"),
        ({"hold": -1.0}, "hold=-1.0 must be 0"),
    ],
)
def test_mistakes_are_told(options, told):
    with pytest.raises(UsageError, match=told):
        extremal(**options)


def test_grad_cam_needs_maps():
    info = replace(INFO, map_channels=(), provides=frozenset({"gradient"}))
    with pytest.raises(UsageError, match="this classifier has none: use start: flat"):
        Extremal(info)
    Extremal(info, starting_map=StartingMap("flat"))


def answer_of(*log_odds: float) -> Evidence:
    """Two classes, the first with these log-odds."""
    logits = torch.tensor([[odds, 0.0] for odds in log_odds])
    return Evidence(logits, Features(logits, ()))


def test_with_a_margin_the_kept_part_lacks_what_it_is_less_sure_than_the_goal():
    method = extremal(start="flat", keep=2.0, remove=0.0, margin=1.0)
    target, goal = torch.tensor([0, 0, 0]), torch.tensor([5.0, 5.0, 5.0])
    terms = method.faithfulness(answer_of(3.5, 5.0, 9.0), answer_of(0.0, 0.0, 0.0), target, goal)
    torch.testing.assert_close(terms, torch.tensor([3.0, 0.0, 0.0]))


def test_the_goal_is_the_margin_above_the_log_odds_of_the_whole_clip():
    spectrogram, target = sound(), torch.tensor([0, 1])
    difference = Listener()(spectrogram).logits.diff(dim=1)[:, 0]
    expected = torch.stack([-difference[0], difference[1]]) + 0.5
    torch.testing.assert_close(extremal(start="flat", margin=0.5).goal(Listener(), spectrogram, target), expected)
    assert extremal(start="flat").goal(Listener(), spectrogram, target) is None


def test_a_margin_finds_the_band_that_the_classifier_listens_to():
    answer = explain(sound(), margin=1.0)
    assert (share_in(answer.mask, BANDS[0]) > 0.9).all()
