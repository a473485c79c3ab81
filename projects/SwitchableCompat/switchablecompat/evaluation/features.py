"""Extract the features of every sub-model in one pass over the data."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from fastreid.utils import comm
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..choices import FULL
from ..modeling import SwitchableBaseline
from ..modeling.modes import kept_modes
from .memory import CPU, roomy
from .precision import computing_in

logger = logging.getLogger("fastreid.switchablecompat.evaluation")


@dataclass(frozen=True)
class Features:
    """Raw (not normalised) float32 features of the sub-models that ran, by default in order of width, and labels.

    Features are on the model's device if it has room, else on the CPU. Labels are on the CPU.
    """

    values: tuple[Tensor, ...]  # [N, D] each
    pids: Tensor  # identities, [N] int64
    camids: Tensor  # cameras, [N] int64


@contextmanager
def inference_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients. Afterwards, also on errors, every module gets its own mode back.

    FastReID's ``inference_context`` calls ``model.train()`` at the end, which puts frozen batch norms into training
    mode.
    """
    with kept_modes(model), torch.no_grad():
        model.eval()
        yield


def extract_features(
    model: SwitchableBaseline,
    loader: DataLoader | Sequence[dict],
    *,
    flip: bool = False,
    precision: str = FULL,
    indices: Sequence[int] | None = None,
) -> Features | None:
    """Run every sub-model on every batch; each image is decoded and normalised once.

    Args:
        loader: FastReID's test loader: dicts of ``images`` [B, 3, H, W] (0-255), ``targets`` and ``camids`` [B].
        flip: Average the features of the image and of its mirror image.
        precision: Precision of the network, see :func:`~.precision.computing_in`.
        indices: Indices of the sub-models to run, in this order. Default: all.

    Returns:
        The features in the order of the data set; None on all ranks but the first.
    """
    indices = range(len(model.switch)) if indices is None else indices
    values: list[list[Tensor]] = [[] for _ in indices]
    pids: list[Tensor] = []
    camids: list[Tensor] = []
    total, processes, home = len(loader), comm.get_world_size(), CPU
    start = told = time.perf_counter()
    with inference_mode(model), computing_in(precision, model.device):
        for done, batch in enumerate(loader, start=1):
            images = model.preprocess_image(batch)
            for index, features in zip(indices, values, strict=True):
                with model.switch.use(index):
                    output = model.heads(model.backbone(images))
                    if flip:
                        output = (output + model.heads(model.backbone(images.flip(dims=[3])))) / 2
                output = output.float()
                if not pids and index == indices[0]:  # two copies: gathered features, and normalised features
                    home = roomy(output.device, 2 * output.nbytes * len(indices) * total * processes)
                features.append(output.to(home if processes == 1 else CPU))
            # Copies, because each tensor from a loader's process holds an open file, and the limit is about a thousand.
            pids.append(batch["targets"].to("cpu", copy=True))
            camids.append(batch["camids"].to("cpu", copy=True))
            if time.perf_counter() - told > 20:
                told = time.perf_counter()
                left = (told - start) / done * (total - done)
                logger.info(f"Features of batch {done}/{total}, about {left:.0f} s left")
    local = (*map(torch.cat, values), torch.cat(pids), torch.cat(camids)) if pids else None
    if processes > 1:
        parts = [part for part in comm.gather(local, dst=0) if part is not None]
        if not comm.is_main_process():
            return None
        local = tuple(map(torch.cat, zip(*parts, strict=True)))
    assert local is not None  # a test set has images
    *found, identities, cameras = local
    return Features(tuple(value.to(home) for value in found), identities, cameras)
