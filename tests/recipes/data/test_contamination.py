"""Contaminations: their level, what is drawn and from which part, silence, and the table of draws."""

import csv
import math

import numpy as np
import pytest
import soundfile
import torch

import recipes.data.noise
from models.errors import UsageError
from recipes.data.audio import load_mono
from recipes.data.clips import ClipBatch, ClipDataset, collate
from recipes.data.contamination import (
    GENERATED,
    Contamination,
    ContaminationSettings,
    GeneratedNoise,
    check_contamination,
)
from recipes.data.corpus import indices
from recipes.data.kinds import FOLDER_KINDS, KINDS, SNR_DB
from recipes.data.noise import NoiseFolder
from recipes.data.preparation import prepare
from recipes.synthetic import make_corpus

RATE = 8000
SAMPLES = 4000
LEVELS = {"mixture": 12.0412, "white": 6.0206, "speech": 12.0412, "noise": 0.0}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Folds 1 and 2, each with four clips of two classes and a silent one of a third."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    (folder / "meta").mkdir()
    (folder / "audio").mkdir()
    rows = ["filename,fold,target,category"]
    for fold in (1, 2):
        for number in range(5):
            name, target = f"{fold}-{number}.wav", 2 if number == 4 else number % 2
            rows.append(f"{name},{fold},{target},{('dog', 'rain', 'none')[target]}")
            peak = 0 if number == 4 else 0.5
            soundfile.write(folder / "audio" / name, peak * rng.uniform(-1, 1, SAMPLES), RATE)
    (folder / "meta" / "mine.csv").write_text("\n".join(rows))
    return prepare(folder, folder / "cache", RATE, SAMPLES / RATE)


@pytest.fixture
def noises(tmp_path):
    return write_noises(tmp_path / "noises", [f"{letter}.wav" for letter in "abcdefghij"])


def write_noises(folder, names, seconds=1.0, rate=RATE, channels=1):
    """Files whose every crop is unlike any other."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels))
        soundfile.write(folder / name, samples, rate, subtype="FLOAT")
    return folder


def audible(store, fold=1):
    return [i for i in indices(store.corpus, [fold]) if store.corpus.clips[i].label != "none"]


def batch_of(store, clips) -> ClipBatch:
    dataset = ClipDataset(store, clips)
    return collate([dataset[i] for i in range(len(clips))])


def make(store, kind, noises, seed=3, part="test", **options):
    fold = 2 if part == "train" else 1
    settings = ContaminationSettings(kind, seed, folder=noises, **options)
    return Contamination(settings, store, part, audible(store, fold))


def measured_snr(clip: torch.Tensor, mixed: torch.Tensor, added: np.ndarray) -> float:
    """Solve mixed = a clip + b added by least squares and compare the two terms."""
    terms = np.stack([clip.double().numpy(), added.astype(np.float64)], axis=1)
    (a, b), residual, *_ = np.linalg.lstsq(terms, mixed.double().numpy(), rcond=None)
    assert residual < 1e-6
    return 20 * math.log10(np.linalg.norm(a * terms[:, 0]) / np.linalg.norm(b * terms[:, 1]))


# --- the level ---


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("snr_db", [None, -7.5, 30.0])
def test_snr_is_the_stated_one_and_the_peak_is_one(store, noises, kind, snr_db):
    contamination = make(store, kind, noises, snr_db=snr_db)
    batch = batch_of(store, contamination.clips)
    mixed = contamination.apply(batch)
    assert mixed.waveform.dtype == torch.float32
    torch.testing.assert_close(mixed.waveform.abs().amax(dim=1), torch.ones(4))
    assert torch.equal(mixed.label, batch.label)
    assert torch.equal(mixed.index, batch.index)
    expected = LEVELS[kind] if snr_db is None else snr_db
    for row, index in enumerate(contamination.clips):
        added = contamination.draw(index).waveform
        snr = measured_snr(batch.waveform[row], mixed.waveform[row], added)
        assert snr == pytest.approx(expected, abs=0.01)


def test_the_published_mixture_is_four_to_one(store):
    contamination = make(store, "mixture", None)
    index = contamination.clips[0]
    batch = batch_of(store, [index])
    clip, other = (store.waveform(i) for i in (index, contamination.partner(index)))
    expected = 0.8 * clip / np.linalg.norm(clip) + 0.2 * other / np.linalg.norm(other)
    expected /= np.abs(expected).max()
    np.testing.assert_allclose(contamination.apply(batch).waveform[0], expected, atol=1e-5)


def test_clean_returns_the_batch_itself(store):
    contamination = make(store, "clean", None)
    batch = batch_of(store, contamination.clips)
    assert contamination.apply(batch) is batch


def test_the_batch_is_not_changed(store):
    contamination = make(store, "white", None)
    batch = batch_of(store, contamination.clips)
    before = batch.waveform.clone()
    contamination.apply(batch)
    assert torch.equal(batch.waveform, before)


def test_names_and_facts(store, noises):
    assert make(store, "clean", None).name == "clean"
    assert make(store, "mixture", None).name == "mixture@12.0dB"
    assert make(store, "noise", noises, snr_db=-3).name == "noise@-3.0dB"
    assert make(store, "clean", None).facts() == {
        "kind": "clean",
        "snr_db": None,
        "seed": 3,
        "part": "test",
        "source": None,
    }
    facts = make(store, "noise", noises).facts()
    assert facts["snr_db"] == 0.0
    assert facts["source"] == "2 test recordings of noises"


# --- what is drawn ---


@pytest.mark.parametrize("kind", LEVELS)
def test_draws_depend_on_neither_batch_nor_order(store, noises, kind):
    contamination = make(store, kind, noises)
    clips = contamination.clips
    together = contamination.apply(batch_of(store, clips)).waveform
    backwards = contamination.apply(batch_of(store, clips[::-1])).waveform.flip(0)
    alone = torch.cat([contamination.apply(batch_of(store, [i])).waveform for i in clips])
    listed = Contamination(ContaminationSettings(kind, 3, folder=noises), store, "test", clips[::-1])
    for other in (backwards, alone, listed.apply(batch_of(store, clips)).waveform):
        torch.testing.assert_close(together, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", LEVELS)
def test_draws_follow_seed_and_epoch(store, noises, kind):
    def added(seed, epoch=0, snr_db=None):
        contamination = make(store, kind, noises, seed, snr_db=snr_db)
        return np.stack([contamination.draw(i, epoch).waveform for i in contamination.clips])

    assert np.array_equal(added(3), added(3))
    assert np.array_equal(added(3), added(3, snr_db=1.0))
    seeds = {added(seed).tobytes() for seed in range(5)}
    epochs = {added(3, epoch).tobytes() for epoch in range(5)}
    assert len(seeds) > 1
    assert len(epochs) > 1


def test_the_draw_is_the_same_in_every_process_and_version(store):
    """Pinned: a change here means that mixtures scored earlier cannot be repeated."""
    contamination = make(store, "mixture", None)
    clips = store.corpus.clips
    partners = {clips[i].id: clips[contamination.partner(i)].id for i in contamination.clips}
    assert partners == {"1-0": "1-1", "1-1": "1-2", "1-2": "1-1", "1-3": "1-0"}


def test_draws_do_not_follow_the_rows_of_the_metadata(store, tmp_path):
    audio = store.corpus.clips[0].path.parent
    (tmp_path / "audio").symlink_to(audio)
    header, *rows = (audio.parent / "meta" / "mine.csv").read_text().splitlines()
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "mine.csv").write_text("\n".join([header, *rows[::-1]]))
    turned = prepare(tmp_path, tmp_path / "cache", RATE, SAMPLES / RATE)
    for number, each in enumerate((store, turned)):
        make(each, "mixture", None).write_draws(tmp_path / f"{number}.csv")
    tables = [(tmp_path / f"{number}.csv").read_text().splitlines() for number in (0, 1)]
    assert tables[0] != tables[1]
    assert sorted(tables[0]) == sorted(tables[1])


def test_partner_has_another_label_in_the_same_part(store):
    contamination = make(store, "mixture", None)
    clips = store.corpus.clips
    partners = {i: {contamination.partner(i, epoch) for epoch in range(20)} for i in contamination.clips}
    for index, found in partners.items():
        assert found == {i for i in contamination.clips if clips[i].label != clips[index].label}


def test_only_clips_of_the_part_are_taken(store):
    contamination = make(store, "white", None)
    with pytest.raises(ValueError, match="is not among the test clips"):
        contamination.apply(batch_of(store, audible(store, fold=2)))
    with pytest.raises(ValueError, match=r"not in white@6\.0dB"):
        contamination.partner(contamination.clips[0])


# --- silence ---


def test_a_silent_clip_stays_as_it_is(store, tmp_path):
    clips = indices(store.corpus, [1])
    contamination = Contamination(ContaminationSettings("white", 0), store, "test", clips)
    batch = batch_of(store, clips)
    batch.waveform[4] = 5e-5
    mixed = contamination.apply(batch).waveform
    assert torch.equal(mixed[4], batch.waveform[4])
    assert not torch.equal(mixed[3], batch.waveform[3])
    contamination.write_draws(tmp_path / "draws.csv")
    assert (tmp_path / "draws.csv").read_text().splitlines()[5] == "1-4,,,"


def test_a_silent_partner_is_drawn_again(store):
    clips = indices(store.corpus, [1])
    contamination = Contamination(ContaminationSettings("mixture", 0), store, "test", clips)
    partners = {contamination.partner(i, epoch) for i in clips for epoch in range(20)}
    assert partners == set(audible(store))
    assert torch.isfinite(contamination.apply(batch_of(store, clips)).waveform).all()


def test_a_silent_crop_is_drawn_again_and_silence_alone_is_refused(store, tmp_path):
    loud = np.zeros(60000)
    loud[57000] = 0.5
    soundfile.write(tmp_path / "one.wav", loud, RATE)
    contamination = make(store, "noise", tmp_path)
    for index in contamination.clips:
        draw = contamination.draw(index)
        assert draw.offset <= 57000 < draw.offset + SAMPLES
    with pytest.raises(UsageError, match="noise met only silence in 100 draws for clip 2-0: draw from sounds"):
        make(store, "noise", tmp_path, part="train").draw(audible(store, 2)[0])


# --- folders of sound files ---


def crops(folder, part, count=200):
    noise, rng = NoiseFolder(folder, part, RATE), np.random.default_rng(0)
    return [noise.draw(rng, SAMPLES) for _ in range(count)]


@pytest.mark.parametrize(("count", "sizes"), [(3, (1, 1, 1)), (10, (6, 2, 2)), (13, (7, 3, 3))])
def test_a_file_belongs_to_one_part(tmp_path, count, sizes):
    names = [f"{number}.wav" for number in range(count)]
    folder = write_noises(tmp_path, names)
    owned = [{crop.file for crop in crops(folder, part)} for part in ("train", "valid", "test")]
    assert tuple(map(len, owned)) == sizes
    assert set.union(*owned) == set(names)


def test_one_or_two_recordings_are_divided_in_time(tmp_path):
    folder = write_noises(tmp_path, ["a.wav", "b.wav"], seconds=10)
    bounds = {"train": (0, 48000), "valid": (48000, 64000), "test": (64000, 80000)}
    for part, (start, stop) in bounds.items():
        found = crops(folder, part)
        assert {crop.file for crop in found} == {"a.wav", "b.wav"}
        assert all(start <= crop.offset and crop.offset + SAMPLES <= stop for crop in found)
        assert min(crop.offset for crop in found) < start + 1000
        assert max(crop.offset for crop in found) > stop - SAMPLES - 1000


def test_wham_folders_are_respected(tmp_path):
    folder = write_noises(tmp_path, ["w/tr/1.wav", "w/tr/2.wav", "w/cv/1.wav", "w/tt/1.wav", "other.wav"])
    assert {crop.file for crop in crops(folder, "train")} == {"w/tr/1.wav", "w/tr/2.wav"}
    assert {crop.file for crop in crops(folder, "valid")} == {"w/cv/1.wav"}
    assert {crop.file for crop in crops(folder, "test")} == {"w/tt/1.wav"}
    (folder / "w" / "cv" / "1.wav").unlink()
    with pytest.raises(UsageError, match=r"leaves nothing for valid: .* the folder cv"):
        NoiseFolder(folder, "valid", RATE)


@pytest.mark.parametrize("names", [["a.wav"], ["a.wav", "b.wav", "c.wav"]])
def test_crops_are_the_file_at_the_offset(tmp_path, names):
    folder = write_noises(tmp_path, names, seconds=4)
    for crop in crops(folder, "test", 10):
        whole = load_mono(folder / crop.file, RATE)
        assert np.array_equal(crop.waveform, whole[crop.offset : crop.offset + SAMPLES])


def test_a_short_noise_is_repeated_from_its_offset(tmp_path):
    folder = write_noises(tmp_path, ["a.wav", "b.wav", "c.wav"], seconds=0.1)
    for crop in crops(folder, "test", 10):
        whole = load_mono(folder / crop.file, RATE)
        assert 0 <= crop.offset < 800
        expected = np.tile(np.roll(whole, -crop.offset), 5)
        assert np.array_equal(crop.waveform, expected)


@pytest.mark.parametrize("file_rate", [4000, 8000, 11025, 16000, 44100, 8001])
def test_reading_a_crop_equals_cutting_it_from_the_whole(tmp_path, monkeypatch, file_rate):
    folder = write_noises(tmp_path, ["a.wav"], seconds=12, rate=file_rate, channels=2)
    kept = crops(folder, "train", 20)
    monkeypatch.setattr(recipes.data.noise, "IN_MEMORY_SECONDS", 1)
    read = crops(folder, "train", 20)
    assert [crop.offset for crop in read] == [crop.offset for crop in kept]
    for a, b in zip(kept, read, strict=True):
        assert len(b.waveform) == SAMPLES
        np.testing.assert_allclose(a.waveform, b.waveform, atol=1e-6)


def test_offsets_point_into_the_resampled_file(tmp_path):
    """Also where a part begins within the recording; the filter's reach at the cuts is left out."""
    folder = write_noises(tmp_path, ["a.wav"], seconds=12, rate=11025)
    whole = load_mono(folder / "a.wav", RATE)
    for crop in crops(folder, "valid", 10):
        expected = whole[crop.offset : crop.offset + SAMPLES]
        np.testing.assert_allclose(crop.waveform[100:-100], expected[100:-100], atol=1e-5)


# --- the table of draws ---


@pytest.mark.parametrize("kind", ["mixture", "noise"])
def test_draws_repeat_from_the_table(store, noises, tmp_path, kind):
    contamination = make(store, kind, noises, snr_db=4.0)
    contamination.write_draws(tmp_path / "new" / "draws.csv")
    with (tmp_path / "new" / "draws.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "source", "offset", "snr_db"]
    assert [row["id"] for row in rows] == [store.corpus.clips[i].id for i in contamination.clips]
    assert {row["snr_db"] for row in rows} == {"4.0"}
    ids = [clip.id for clip in store.corpus.clips]
    for row, index in zip(rows, contamination.clips, strict=True):
        if kind == "mixture":
            assert ids.index(row["source"]) == contamination.partner(index)
            expected = store.waveform(ids.index(row["source"]))
        else:
            expected = load_mono(noises / row["source"], RATE)[int(row["offset"]) :][:SAMPLES]
        assert np.array_equal(contamination.draw(index).waveform, expected)


def test_white_noise_repeats_from_the_table(store, tmp_path):
    contamination = make(store, "white", None)
    contamination.write_draws(tmp_path / "draws.csv")
    row = (tmp_path / "draws.csv").read_text().splitlines()[1]
    source = row.split(",")[1]
    rng = np.random.default_rng(int(source.removeprefix("default_rng(").removesuffix(")")))
    expected = rng.standard_normal(SAMPLES, dtype=np.float32)
    assert np.array_equal(contamination.draw(contamination.clips[0]).waveform, expected)


def test_clean_draws_are_empty(store, tmp_path):
    make(store, "clean", None).write_draws(tmp_path / "draws.csv")
    assert (tmp_path / "draws.csv").read_text().splitlines()[1] == "1-0,,,"


# --- mistakes ---


@pytest.mark.parametrize("kind", KINDS)
def test_known_kinds_pass(noises, kind):
    check_contamination(kind, 3, noises)


@pytest.mark.parametrize(
    ("kind", "snr_db", "message"),
    [
        ("mixtures", None, "contamination is 'mixtures': did you mean mixture"),
        (None, None, "contamination is None: choose from clean, mixture, white, speech, noise"),
        ("white", math.nan, "SNR is nan: give a number of dB within"),
        ("white", -math.inf, "SNR is -inf"),
        ("clean", 101, "SNR is 101"),
        ("white", "3", "SNR is '3'"),
        ("white", True, "SNR is True"),
        ("noise", None, "noise draws from a folder of sound files: give its path"),
    ],
)
def test_mistakes_in_settings(kind, snr_db, message):
    with pytest.raises(UsageError, match=message):
        check_contamination(kind, snr_db, None)


def test_mistakes_in_folders(store, tmp_path):
    with pytest.raises(UsageError, match="gone is not a folder: give the path"):
        check_contamination("speech", None, tmp_path / "gone")
    for name in ("notes.txt", "broken.wav"):
        (tmp_path / name).write_text("no sound")
    write_noises(tmp_path, [".hidden.wav"])
    with pytest.raises(UsageError, match="holds no readable sound file"):
        check_contamination("noise", None, tmp_path)
    write_noises(tmp_path, ["fine.wav"])
    check_contamination("noise", None, tmp_path)
    with pytest.raises(UsageError, match=r"broken\.wav cannot be decoded"):
        make(store, "noise", tmp_path)


def test_samples_that_are_no_numbers(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(SAMPLES * 10, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(UsageError, match=r"a\.wav is cut off or holds NaN"):
        crops(tmp_path, "test")


def test_a_mixture_needs_two_labels(store):
    dogs = [i for i in audible(store) if store.corpus.clips[i].label == "dog"]
    with pytest.raises(UsageError, match="at least two labels, and the test clips have 1"):
        Contamination(ContaminationSettings("mixture", 0), store, "test", dogs)


# --- the parts of a mixture ---


@pytest.mark.parametrize("kind", LEVELS)
def test_the_parts_of_a_mixture_add_up_to_it_at_the_stated_snr(store, noises, kind):
    contamination = make(store, kind, noises)
    batch = batch_of(store, contamination.clips)
    found = contamination.mix(batch)
    torch.testing.assert_close(found.clip + found.added, found.batch.waveform)
    assert torch.equal(found.batch.waveform, contamination.apply(batch).waveform)
    snr = 20 * torch.log10(found.clip.norm(dim=1) / found.added.norm(dim=1))
    assert snr.tolist() == pytest.approx([LEVELS[kind]] * 4, abs=1e-3)
    partners = [
        store.corpus.clips[contamination.partner(i)].target if kind == "mixture" else -1 for i in contamination.clips
    ]
    assert found.added_label.tolist() == partners


def test_the_parts_of_a_synthetic_mixture_are_its_events_alone(tmp_path):
    folder = make_corpus(tmp_path / "corpus", clips_per_class=5, seconds=1.0, mixtures=0)
    store = prepare(folder, tmp_path / "cache", 16000, 1.0)
    chosen = indices(store.corpus, [1])
    contamination = Contamination(ContaminationSettings("mixture", 3, 0.0), store, "test", chosen)
    found = contamination.mix(batch_of(store, chosen))
    rest = found.batch.waveform - found.clip - found.added
    # what is left is the noise floor that both clips lie over, and no event
    assert (10 * torch.log10(rest.square().sum(dim=1) / found.batch.waveform.square().sum(dim=1)) < -20).all()
    assert (rest.abs().amax(dim=1) > 1e-4).all()
    support = {row["id"]: row for row in csv.DictReader((folder / "truth/support.csv").open())}
    for row, index in enumerate(chosen):
        for part, clip in ((found.clip, index), (found.added, contamination.partner(index))):
            facts = support[store.corpus.clips[clip].id]
            onset, offset = (round(float(facts[name]) * 16000) for name in ("onset_s", "offset_s"))
            assert part[row, onset:offset].any()
            assert not part[row, :onset].any() and not part[row, offset:].any()


def test_nothing_is_added_to_silence(store):
    silent = next(i for i in indices(store.corpus, [1]) if store.corpus.clips[i].label == "none")
    contamination = Contamination(ContaminationSettings("mixture", 3), store, "test", indices(store.corpus, [1]))
    found = contamination.mix(batch_of(store, [silent]))
    assert not found.added.any()
    assert not found.batch.waveform.any()
    assert found.added_label.tolist() == [-1]


def test_every_kind_with_a_level_is_drawn_from_clips_a_folder_or_a_generator():
    assert set(SNR_DB) == {"mixture", *FOLDER_KINDS, *GENERATED}
    assert ("clean", *SNR_DB) == KINDS


def test_a_generated_kind_is_a_level_and_a_row(store, monkeypatch):
    """What CONTRIBUTING says of a new kind of noise: nothing else has to change."""
    ones = GeneratedNoise("a constant", lambda rng, num_samples: np.ones(num_samples, np.float32))
    monkeypatch.setitem(GENERATED, "white", ones)
    contamination = Contamination(ContaminationSettings("white", seed=1), store, "test", range(len(store)))
    assert contamination.facts()["source"] == "a constant"
    assert np.array_equal(contamination.draw(0).waveform, np.ones(store.num_samples, np.float32))
