"""Cache, loader and clips.csv hold no sound in memory."""

from tools.stream import stream


def test_memory_does_not_hold_the_sound_of_a_set():
    found = stream(2000, 0.5)
    assert found["rows"] == 2000
    held = [step["own_mib"] for step in found["steps"].values()]
    assert found["sound_mib"] == 61.0
    assert max(held) - held[0] < found["sound_mib"] / 3
