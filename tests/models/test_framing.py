"""Framing against sums by hand."""

import torch

from models.framing import cut_frames, overlap_add, padded_frames


def test_frames_add_where_they_overlap():
    frames = torch.tensor([[[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]])
    assert overlap_add(frames, hop=2).tolist() == [[1, 2, 13, 20, 30]]
    assert overlap_add(frames, hop=3).tolist() == [[1, 2, 3, 10, 20, 30]]
    assert overlap_add(frames, hop=1).tolist() == [[1, 12, 23, 30]]


def test_a_frame_is_cut_every_hop_and_times_the_window():
    window = torch.tensor([1.0, 10.0, 100.0])
    waveform = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], requires_grad=True)
    frames = cut_frames(waveform, window, hop=2)
    assert frames.tolist() == [[[1, 20, 300], [3, 40, 500]]]
    frames.sum().backward()
    assert waveform.grad.tolist() == [[1, 10, 101, 10, 100, 0]]  # the last sample is in no frame


def test_frames_for_an_fft_lie_where_they_are_wanted():
    waveform, window = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([1.0, 10.0])
    assert padded_frames(waveform, window, hop=2, n_fft=4).tolist() == [[[1, 20, 0, 0], [3, 40, 0, 0]]]
    assert padded_frames(waveform, window, hop=2, n_fft=4, start=1).tolist() == [[[0, 1, 20, 0], [0, 3, 40, 0]]]


def test_frames_cut_and_added_count_every_sample_by_its_frames():
    waveform, window = torch.rand(3, 50), torch.ones(12)
    times = overlap_add(torch.ones(1, 10, 12), hop=4)
    added = overlap_add(cut_frames(waveform, window, hop=4), hop=4)
    torch.testing.assert_close(added, waveform[:, :48] * times)
