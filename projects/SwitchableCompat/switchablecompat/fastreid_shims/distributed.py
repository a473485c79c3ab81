"""Several processes on the CPU: gloo instead of NCCL, ``DistributedDataParallel`` without device ids."""

import gc
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from fastreid.engine import defaults
from fastreid.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .base import shim

_launch = sys.modules["fastreid.engine.launch"]  # the attribute fastreid.engine.launch is the function
_RENAMED = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters


def cpu_worker(
    local_rank: int,
    main_func: Callable[..., Any],
    world_size: int,
    num_gpus_per_machine: int,
    machine_rank: int,
    dist_url: str,
    args: tuple[Any, ...],
) -> None:
    """FastReID's ``_distributed_worker`` for processes that compute on the CPU; same arguments."""
    # Each process would take every core for itself.
    torch.set_num_threads(max(1, torch.get_num_threads() // num_gpus_per_machine))
    rank = machine_rank * num_gpus_per_machine + local_rank
    dist.init_process_group(backend="gloo", init_method=dist_url, world_size=world_size, rank=rank)
    comm.synchronize()
    for machine in range(world_size // num_gpus_per_machine):
        first = machine * num_gpus_per_machine
        group = dist.new_group(list(range(first, first + num_gpus_per_machine)))
        if machine == machine_rank:
            comm._LOCAL_PROCESS_GROUP = group
    main_func(*args)
    # Only after success: a failed process must report its own error before the others see a closed connection. All
    # together, and nothing of it left to the interpreter's exit, where a group's threads would end the process.
    comm.synchronize()
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    gc.collect()
    dist.destroy_process_group()


@shim("launch-on-cpu", needed=lambda: not torch.cuda.is_available() and _launch._distributed_worker is not cpu_worker)
def _patch_launch() -> None:
    """fastreid/engine/launch.py:77 ``_distributed_worker`` asserts CUDA and asks for NCCL.

    Two processes on the CPU: ``AssertionError: cuda is not available. Please check your installation.`` Where CUDA is
    available nothing is patched; ``CUDA_VISIBLE_DEVICES=`` (empty) gives CPU processes there.
    """
    _launch._distributed_worker = cpu_worker  # type: ignore[attr-defined]  # of FastReID


class CpuAwareDataParallel(DistributedDataParallel):
    """``DistributedDataParallel`` that ignores device ids for a model on the CPU.

    It also spells ``broadcast_buffers`` as current torch wants it, which warns about the old name. The new argument
    differs in that the buffers are synchronised once, at the start, when they are equal anyway.
    """

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, *args: Any, **kwargs: Any) -> None:
        if all(p.device.type == "cpu" for p in module.parameters()):
            device_ids = None
        if _RENAMED and "broadcast_buffers" in kwargs:
            kwargs.setdefault("forward_sync_buffers", kwargs.pop("broadcast_buffers"))
        super().__init__(module, device_ids, *args, **kwargs)


@shim("data-parallel-on-cpu", needed=lambda: defaults.DistributedDataParallel is not CpuAwareDataParallel)
def _patch_data_parallel() -> None:
    """fastreid/engine/defaults.py:208 always passes ``device_ids=[rank]``.

    For a model on the CPU: ``ValueError: DistributedDataParallel device_ids and output_device arguments only work with
    single-device/multiple-device GPU modules or CPU modules, but got device_ids [1]``.
    """
    defaults.DistributedDataParallel = CpuAwareDataParallel
