"""What a frozen classifier says of clips that never change, computed once for all epochs of a training."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from models.classifier import AudioClassifier, Evidence
from models.frontend import Spectrogram
from recipes.data.clips import ClipDataset, collate
from recipes.system.console import track

MAX_BYTES = 10**9  # 1700 five-second clips of the MobileNet, 330 of FocalNet-base


class KeptEvidence:
    """Evidence by clip, of as many clips as fit into `MAX_BYTES`; that of the others is computed at every call.

    A clip is always heard in the same company, in the order of the data set, so that a training that was interrupted
    goes on with the same numbers.
    """

    def __init__(self, classifier: AudioClassifier):
        self.classifier = classifier
        self.by_clip: dict[int, Evidence] = {}

    @torch.no_grad()
    def fill(self, dataset: ClipDataset, batch_size: int, name: str) -> None:
        """Hear the data set's clips, from the first on; name: what the bar of progress says."""
        free = MAX_BYTES
        loader = DataLoader(dataset, batch_size, collate_fn=collate)
        for batch in track(loader, name, len(loader)):
            evidence = self.classifier(self.classifier.frontend.analyze(batch.waveform))
            size = evidence.num_bytes
            if size > free:
                return
            free -= size
            for position, clip in enumerate(batch.index.tolist()):
                self.by_clip[clip] = Evidence.joined([evidence[position : position + 1]])

    @torch.no_grad()
    def of(self, spectrogram: Spectrogram, clips: Tensor) -> Evidence:
        """The evidence of these clips, `clips` [B] being their positions in the corpus."""
        order = clips.tolist()
        waiting = [position for position, clip in enumerate(order) if clip not in self.by_clip]
        computed = {}
        if waiting:
            evidence = self.classifier(spectrogram[torch.tensor(waiting)])
            for number, position in enumerate(waiting):
                computed[position] = evidence[number : number + 1]
        parts = []
        for position, clip in enumerate(order):
            parts.append(computed[position] if position in computed else self.by_clip[clip])
        return Evidence.joined(parts)
