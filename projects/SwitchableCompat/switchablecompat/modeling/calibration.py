"""BN calibration: exact batch-norm statistics for every sub-model (FastReID's PreciseBN, per width)."""

from collections.abc import Iterable, Sequence

import torch
from fastreid.utils import comm
from torch import Tensor

from ..layers import running_norms
from ..layers.switchable_norm import RunningNorm
from .convert import SwitchableNetwork
from .meta_arch import SwitchableBaseline
from .modes import kept_modes


@torch.no_grad()
def calibrate_bn(
    model: SwitchableBaseline, batches: Iterable[dict | Tensor], indices: Sequence[int] | None = None
) -> int:
    """Replace the running statistics of every width by averages over ``batches``, without gradient.

    Post-statistics of switchable networks (Yu & Huang, ICCV 2019, section 3.3): statistics are reset, then averaged
    cumulatively. Each batch is normalised once and passes through all widths. Modes and momenta are restored.

    Args:
        model: The switchable model.
        batches: In the form that the model accepts.
        indices: Sub-models to calibrate (default: all).

    Returns:
        Number of batches used. If it is 0, the statistics are unchanged.
    """
    chosen = range(len(model.switch)) if indices is None else indices
    momenta: dict[RunningNorm, float | None] = {}
    used = 0
    with kept_modes(model):
        model.eval()
        try:
            for used, batch in enumerate(batches, start=1):  # noqa: B007
                images = model.preprocess_image(batch)
                if not momenta:
                    for index in chosen:
                        for norm in running_norms(model, index):
                            norm.reset_running_stats()
                            momenta[norm] = norm.momentum
                            norm.momentum = None  # cumulative average
                            norm.train()
                for index in chosen:
                    with model.switch.use(index):
                        model.heads(model.backbone(images))
        finally:
            for norm, momentum in momenta.items():
                norm.momentum = momentum
    return used


@torch.no_grad()
def average_statistics(model: SwitchableBaseline | SwitchableNetwork) -> None:
    """Average the BN statistics of every width over the processes, if there are several."""
    norms = [norm for index in range(len(model.switch)) for norm in running_norms(model, index)]
    buffers = [b for norm in norms for b in (norm.running_mean, norm.running_var) if b is not None]
    if comm.get_world_size() == 1 or not buffers:  # such as a vision transformer whose head has no BNNeck
        return
    flat = torch.cat(buffers)
    torch.distributed.all_reduce(flat)
    flat /= comm.get_world_size()
    for buffer, piece in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(piece)
