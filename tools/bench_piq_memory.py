"""Peak memory and time of one training step of PIQ on FocalNet-base at paper size, Adam's state included.

    python tests/benchmarks/bench_piq_memory.py --precision bf16 --batch_size 6

Runs on the CPU with random weights and noise and prints one line.
"""

import argparse
import resource
import time

import torch

from interpreters.piq import PIQ
from models.adapters import ImageAdapter
from models.classifier import AudioClassifier, CosineHead
from models.focalnet import FocalNet
from models.frontend import FrontEnd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--batch_size", type=int, default=6)
    parser.add_argument("--channels", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=1)
    options = parser.parse_args()

    frontend = FrontEnd()
    classifier = AudioClassifier(
        frontend, ImageAdapter(), FocalNet("base"), lambda size: CosineHead(size, 50, num_blocks=1)
    ).freeze()
    interpreter = PIQ(classifier.describe(), channels=options.channels).train()
    optimizer = torch.optim.Adam(interpreter.parameters(), lr=2e-4, weight_decay=2e-6)
    for parameter in interpreter.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # so that Adam's state is there while the first step is measured, as it is in the second
    waveform = torch.randn(options.batch_size, round(options.seconds * frontend.sample_rate)) / 10

    started = time.monotonic()
    for _ in range(options.steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            spectrogram = frontend.analyze(waveform)
            with torch.no_grad():
                evidence = classifier(spectrogram)
            terms = interpreter.loss(classifier, spectrogram, evidence)
        optimizer.zero_grad()
        sum(terms.values()).mean().backward()
        optimizer.step()
    seconds = (time.monotonic() - started) / options.steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    parameters = sum(one.numel() for one in interpreter.parameters())
    print(
        f"FocalNet-base PIQ, {parameters / 1e6:.1f}M parameters, batch {options.batch_size}, "
        f"{options.precision}: peak RSS {peak:.2f} GB, {seconds:.1f} s, {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
