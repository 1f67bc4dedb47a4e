"""Several processes as one run: who writes, who takes which clips, and how what each found becomes one result.

`torchrun` starts the processes and SpeechBrain's Brain averages their gradients. A recipe's `batch_size` is that of
all processes together, so that steps, rates and checkpoints mean the same under any number of them.
"""

import atexit
from collections.abc import Callable, Iterator
from functools import partial
from os import environ
from typing import Any, cast

import torch
import torch.nn.functional as F
from speechbrain.utils.distributed import ddp_init_group, infer_device, is_distributed_initialized, main_process_only
from speechbrain.utils.run_opts import RunOptions
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Sampler

from models.errors import UsageError


def join(run_opts: RunOptions) -> None:
    """Meet the other processes that `torchrun` started, over NCCL on GPUs and gloo on CPUs; alone, do nothing.

    The group is left when Python ends: gloo's threads otherwise outlive it now and then, and abort a finished run.
    Raises UsageError for a GPU that is named: each process has its own.
    """
    if "LOCAL_RANK" in environ and not is_distributed_initialized():
        if run_opts.device not in (None, "cpu"):
            raise UsageError(f"device={run_opts.device!r} under torchrun: leave it out (a GPU a process), or pass cpu")
        on_cpu = (run_opts.device or infer_device()) == "cpu"
        ddp_init_group({"distributed_backend": "gloo" if on_cpu else "nccl"})
        atexit.register(distributed.destroy_process_group)


def rank() -> int:
    """This process's number, 0 for the one that writes."""
    return distributed.get_rank() if is_distributed_initialized() else 0


def world_size() -> int:
    """How many processes the run has."""
    return distributed.get_world_size() if is_distributed_initialized() else 1


def on_main(function: Callable, *arguments):
    """Call a function in process 0 only; every process returns its value, or raises its UsageError."""

    def attempt() -> tuple:
        try:
            return function(*arguments), None
        except UsageError as error:
            return None, error

    value, error = main_process_only(attempt)()
    if error is not None:
        raise error
    return value


def gather(value) -> list:
    """What every process gives, in the order of their numbers; each gets the whole list."""
    values = [value] * world_size()
    if len(values) > 1:
        distributed.all_gather_object(values, value)
    return values


class Share(Sampler):
    """This process's share of a sequence of batches: every n-th batch or, if `within`, every n-th clip of each.

    Whole batches keep the arithmetic of scoring what it is in one process, whatever the number of clips. Shares of
    batches keep the training steps the same. Raises UsageError for batches that cannot be divided so.
    """

    def __init__(self, batches: Any, within: bool):
        if within and batches.batch_size % world_size():
            raise UsageError(
                f"batch_size={batches.batch_size} cannot be divided among {world_size()} processes: it counts the "
                "clips of all of them; make it a multiple"
            )
        self.batches, self.within = batches, within

    def __len__(self) -> int:
        return len(self.batches) if self.within else len(range(rank(), len(self.batches), world_size()))

    def __iter__(self) -> Iterator[list[int]]:
        for number, batch in enumerate(self.batches):
            if self.within:
                yield batch[rank() :: world_size()]
            elif number % world_size() == rank():
                yield batch


def replicate(module: nn.Module) -> nn.Module:
    """The module with its gradients averaged, and its batch norms taken, over all processes.

    Buffers need no copying then, so that a pass without gradients asks nothing of the other processes. Published
    backbones hold parameters that no loss reaches: a FocalNet's last layer norm, a ViT's pooler.
    """
    if distributed.get_backend() == "gloo":
        for norm in module.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.forward = partial(_batch_norm, norm)
    else:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)


def _batch_norm(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    """What torch.nn.SyncBatchNorm computes; it runs on accelerators only. x [B, C, ...]."""
    if not norm.training:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    rows = x.float().transpose(0, 1).flatten(1)  # [C, values]
    count = all_reduce(torch.tensor(float(rows.shape[1])))
    mean = all_reduce(rows.sum(1)) / count
    rows = rows - mean[:, None]
    variance = all_reduce(rows.square().sum(1)) / count
    momentum = cast(float, norm.momentum)
    with torch.no_grad():
        cast(Tensor, norm.num_batches_tracked).add_(1)
        cast(Tensor, norm.running_mean).lerp_(mean, momentum)
        cast(Tensor, norm.running_var).lerp_(variance * count / (count - 1), momentum)
    rows = rows * (variance + norm.eps).rsqrt()[:, None] * norm.weight[:, None] + norm.bias[:, None]
    return rows.unflatten(1, (x.shape[0], *x.shape[2:])).transpose(0, 1).to(x.dtype)
