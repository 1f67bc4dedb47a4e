"""Masks of fixed areas scored on a classifier whose evidence is known: sound below 2 kHz against sound above."""

import pytest
import torch
from torch import nn

from interpreters.fixed_area import top_share
from interpreters.ground_truth import Truth
from models.classifier import Evidence, Features
from models.errors import UsageError
from models.frontend import FrontEnd
from recipes.scoring.fixed_area import AREAS, Heard, Setting, score_importance, score_map, settings_of, shown

LOW, HIGH = slice(0, 128), slice(128, 513)  # below and above 2 kHz
SILENT_20 = Setting(0.2, "silence")


class Bands(nn.Module):
    """Class 0 is sound below 2 kHz, class 1 sound above; the louder one wins."""

    def __init__(self):
        super().__init__()
        self.frontend = FrontEnd()

    def forward(self, spectrogram):
        energy = spectrogram.log_magnitude
        bands = torch.stack([energy[..., LOW].mean(dim=(1, 2)), energy[..., HIGH].mean(dim=(1, 2))], dim=1)
        return Evidence(3 * bands, Features(bands))


@pytest.fixture(scope="module")
def heard() -> Heard:
    """Low noise with faint high noise, and the other way round; the filling of a clip is the other one."""
    torch.manual_seed(0)
    frontend = FrontEnd()
    noise = frontend.analyze(torch.rand(2, 16000) * 2 - 1)
    low, high = (noise.masked(_band(band)) for band in (LOW, HIGH))
    first, second = (frontend.synthesize(part)[0] for part in (low, high))
    own, rest = torch.stack([first, second]), torch.stack([second, first]) * 0.3
    classifier = Bands()
    spectrogram = frontend.analyze(own + rest)
    evidence = classifier(spectrogram)
    labels = torch.tensor([[0, 1], [1, 0]])
    truth = Truth.of(frontend, own + rest, torch.stack((own, rest), dim=1), labels, evidence.prediction)
    other = frontend.analyze(own.roll(1, dims=0))
    return Heard(spectrogram, evidence, {"noise_floor": noise.masked(torch.zeros(513)), "another_clip": other}, truth)


def _band(band: slice) -> torch.Tensor:
    mask = torch.zeros(513)
    mask[band] = 1
    return mask


def _inside(heard: Heard) -> torch.Tensor:
    """[B, T, F] 1 where the predicted class has its band."""
    chosen = torch.stack([_band(LOW), _band(HIGH)])[heard.evidence.prediction]
    return chosen[:, None, :].expand_as(heard.spectrogram.log_magnitude)


def test_the_classifier_hears_each_clips_louder_band(heard):
    assert heard.evidence.prediction.tolist() == [0, 1]


def test_the_right_map_beats_a_random_one_and_that_the_wrong_one(heard):
    energy = heard.spectrogram.log_magnitude
    right = energy * _inside(heard)
    wrong = energy * (1 - _inside(heard))
    random = torch.rand_like(energy)
    scored = [score_importance(Bands(), heard, each, [SILENT_20])[SILENT_20] for each in (right, random, wrong)]
    assert scored[0]["fid_i"].tolist() == [1, 1]
    assert scored[2]["fid_i"].tolist() == [0, 0]
    for score in ("fa", "ap"):
        best, middle, worst = (columns[score].mean() for columns in scored)
        assert best > middle + 0.02
        assert best > worst + 0.1
    assert scored[0]["pointing"].tolist() == [1, 1]


def test_a_fifth_of_the_plane_overlaps_by_hand(heard):
    mask = top_share(_inside(heard) + 0.1 * torch.rand_like(_inside(heard)), 0.2)
    columns = score_importance(Bands(), heard, mask, [SILENT_20])[SILENT_20]
    ideal = heard.truth.ideal & heard.truth.audible
    kept = mask.bool() & heard.truth.audible
    expected = (kept & ideal).sum(dim=(1, 2)) / (kept | ideal).sum(dim=(1, 2))
    torch.testing.assert_close(columns["iou"], expected.double())


def test_a_filling_of_the_other_class_is_heard_where_nothing_is_kept(heard):
    nothing = torch.zeros_like(heard.spectrogram.log_magnitude)
    other = Bands()(shown(heard, nothing, "another_clip"))
    assert other.prediction.tolist() == [1, 0]
    setting = Setting(0.05, "another_clip")
    columns = score_importance(Bands(), heard, torch.rand_like(nothing), [setting])[setting]
    assert columns["fid_i"].tolist() == [0, 0]  # a twentieth of the clip cannot outweigh all of another


def test_the_loudest_bins_of_equal_energy_are_scored_beside_the_headline(heard):
    quiet = -heard.spectrogram.log_magnitude
    scored = score_importance(Bands(), heard, quiet, settings_of())
    assert set(scored) == set(settings_of())
    with_control = [setting for setting, columns in scored.items() if "fid_i_equal_energy" in columns]
    assert with_control == [SILENT_20]
    # the quietest fifth holds little energy, and the loudest bins with as little lie in the predicted band
    assert scored[SILENT_20]["fid_i_equal_energy"].tolist() == [1, 1]
    assert scored[SILENT_20]["fid_i"].tolist() != [1, 1]


def test_every_area_under_silence_and_the_headline_under_the_rest():
    settings = settings_of()
    assert [setting.area for setting in settings if setting.removal == "silence"] == list(AREAS)
    assert Setting(0.2, "noise_floor") in settings and Setting(0.2, "another_clip") in settings


def test_what_is_unknown_has_no_score(heard):
    assert score_map(Heard(heard.spectrogram, heard.evidence, {}), torch.rand(2, 87, 513)) == {}
    neither = Truth(**{**vars(heard.truth), "known": torch.tensor([True, False])})
    scores = score_map(Heard(heard.spectrogram, heard.evidence, {}, neither), heard.spectrogram.log_magnitude)
    for name in ("ap", "pointing"):
        assert scores[name][0].isfinite() and scores[name][1].isnan()


@pytest.mark.parametrize("area, removal", [(0.0, "silence"), (1.1, "silence"), (0.2, "nothing")])
def test_settings_out_of_range_are_refused(area, removal):
    with pytest.raises(UsageError, match=r"area=|removal="):
        Setting(area, removal)
