"""Evidence that is kept: equal to the classifier's, computed once, and as much as fits."""

import pytest
import torch
from recipe_files import HPARAMS
from torch.utils.data import DataLoader

from recipes.data.clips import collate, fold_set
from recipes.data.preparation import prepare
from recipes.training import kept_evidence
from recipes.training.interpreter_brain import InterpreterBrain
from recipes.training.kept_evidence import KeptEvidence

BATCH = 4


@pytest.fixture
def clips(corpus, tmp_path):
    store = prepare(corpus, tmp_path, 16000, 1.0)
    return fold_set(store, (1,), BATCH)


@pytest.fixture
def passes(focalnet):
    """How many clips each pass of the classifier has."""
    sizes: list[int] = []
    focalnet.freeze().register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    return sizes


def shuffled(clips):
    (batch, *_) = DataLoader(clips, BATCH, shuffle=True, collate_fn=collate)
    return batch


def test_what_is_kept_is_what_the_classifier_says(focalnet, clips, passes):
    kept = KeptEvidence(focalnet)
    kept.fill(clips, BATCH, "clips")
    assert sum(passes) == len(clips)
    batch = shuffled(clips)
    spectrogram = focalnet.frontend.analyze(batch.waveform)
    with torch.no_grad():
        expected = focalnet(spectrogram)
    passes.clear()
    evidence = kept.of(spectrogram, batch.index)
    assert passes == []
    torch.testing.assert_close(evidence.logits, expected.logits, atol=1e-5, rtol=1e-5)
    for kept_tensor, computed in zip(evidence.features.tensors, expected.features.tensors, strict=True):
        torch.testing.assert_close(kept_tensor, computed, atol=1e-5, rtol=1e-5)


def test_what_does_not_fit_is_computed_at_every_call(focalnet, clips, passes, monkeypatch):
    whole = KeptEvidence(focalnet)
    whole.fill(clips, BATCH, "clips")
    of_a_clip = next(iter(whole.by_clip.values())).num_bytes
    monkeypatch.setattr(kept_evidence, "MAX_BYTES", 2 * BATCH * of_a_clip)
    part = KeptEvidence(focalnet)
    part.fill(clips, BATCH, "clips")
    assert list(part.by_clip) == list(whole.by_clip)[: 2 * BATCH]
    first, *_, last = whole.by_clip
    items = [clips[clips.indices.index(clip)] for clip in (first, last, first)]
    batch = collate(items)
    passes.clear()
    evidence = part.of(focalnet.frontend.analyze(batch.waveform), batch.index)
    assert passes == [1]
    expected = whole.of(focalnet.frontend.analyze(batch.waveform), batch.index)
    torch.testing.assert_close(evidence.logits, expected.logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("noise, kept", [("clean", {"TRAIN", "VALID"}), ("white", set())])
def test_only_unchanged_clips_are_kept(interpret, bundle, tmp_path, monkeypatch, noise, kept):
    stages = {}
    forward = InterpreterBrain.compute_forward

    def note(brain, batch, stage):
        stages.update(brain.kept)
        return forward(brain, batch, stage)

    monkeypatch.setattr(InterpreterBrain, "compute_forward", note)
    small = ("--epochs=2", "--interpreter.decoder.width=16", f"--train_noise={noise}", "--report_clips=0")
    interpret(HPARAMS / "lmac.yaml", tmp_path, f"--classifier={bundle('cnn14')}", *small)
    assert {stage.name for stage in stages} == kept
