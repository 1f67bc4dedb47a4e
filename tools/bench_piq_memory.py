"""Peak memory and time of a training step of PIQ on FocalNet-base at the paper's size, Adam's state included.

    python -m tools.bench_piq_memory --precision bf16 --batch_size 6

Runs on the CPU with random weights and noise.
"""

import resource
import time

import torch

from interpreters.piq import PIQ
from models.adapters import ImageAdapter
from models.classifier import AudioClassifier, CosineHead
from models.focalnet import FocalNet
from models.frontend import FrontEnd
from recipes.system.entry import entry
from tools.runner import check_out, positive, report_result, tool_parser


def cosine_head(embedding_size: int) -> CosineHead:
    """A head for the 50 classes of ESC-50."""
    return CosineHead(embedding_size, 50, num_blocks=1)


def optimizer_with_state(network: torch.nn.Module) -> torch.optim.Adam:
    """Adam after a step of zero gradients, so that its state is in memory from the first measured step on."""
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, weight_decay=2e-6)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return optimizer


def measure(batch_size: int, steps: int, seconds: float, precision: str, channels: int | None) -> dict:
    """Train for some steps on noise; seconds a step and the process's peak memory."""
    frontend = FrontEnd()
    classifier = AudioClassifier(frontend, ImageAdapter(), FocalNet("base"), cosine_head).freeze()
    interpreter = PIQ(classifier.describe(), channels=channels).train()
    optimizer = optimizer_with_state(interpreter)
    waveform = torch.randn(batch_size, round(seconds * frontend.sample_rate)) / 10

    started = time.monotonic()
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            spectrogram = frontend.analyze(waveform)
            with torch.no_grad():
                evidence = classifier(spectrogram)
            terms = interpreter.loss(classifier, spectrogram, evidence)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum(dim=0).mean().backward()
        optimizer.step()
    step_seconds = (time.monotonic() - started) / steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    parameters = sum(parameter.numel() for parameter in interpreter.parameters())
    return {
        "parameters": parameters,
        "batch_size": batch_size,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "peak_gb": round(peak, 2),
        "seconds": round(step_seconds, 1),
    }


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("bench_piq_memory", __doc__)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--batch_size", type=positive, default=6)
    parser.add_argument("--channels", type=positive, default=None, help="of the bottleneck; without it the map's own")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a clip")
    parser.add_argument("--steps", type=positive, default=1)
    options = parser.parse_args(arguments)
    check_out(options.out)
    result = measure(options.batch_size, options.steps, options.seconds, options.precision, options.channels)
    report_result(result, options.out)


if __name__ == "__main__":
    entry(main)
