"""The memory of a long run: what is sampled, and the slope that is reported."""

import pytest

from recipes.training import interpreter_brain
from tools.load import Sample, growth, read_samples, settled, watch


def test_growth_is_the_slope_after_the_run_has_settled():
    early = [Sample(16, 100.0, 0.0), Sample(64, 900.0, 0.0)]
    late = [Sample(clips, 500 + 0.003 * clips, 0.0) for clips in (100, 400, 700, 1000)]
    assert settled(early + late) == late
    assert growth(early + late) == pytest.approx(3.0)


def test_every_scored_batch_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(interpreter_brain, "score_batch", lambda *args: iter(args[2:]))
    watch(tmp_path / "memory")
    for clips in ([0] * 16, [0] * 4):
        assert list(interpreter_brain.score_batch(None, None, clips, "rest")) == [clips, "rest"]
    samples = read_samples(tmp_path / "memory")
    assert [sample.clips for sample in samples] == [16, 20]
    assert all(sample.own > 1 for sample in samples)
