"""A sub-model as devices run it: one graph from pixels to L2-normalised features."""

import torch
from fastreid.modeling.meta_arch.baseline import Baseline
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...modeling import extract_submodel
from ...modeling.opened import OpenedModel


class PixelsToFeatures(nn.Module):
    """A plain sub-model with pixel normalisation before it and L2 normalisation after it, without in-place operations.

    It shares its parameters with ``model``, an extracted sub-model, and is in evaluation mode.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: Baseline) -> None:
        super().__init__()
        self.backbone, self.heads = model.backbone, model.heads
        self.register_buffer("pixel_mean", model.pixel_mean)
        self.register_buffer("pixel_std", model.pixel_std)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """``images`` are [N, 3, H, W] float32, RGB, 0-255; the result is [N, D], of length one."""
        features = self.heads(self.backbone((images - self.pixel_mean) / self.pixel_std))
        # As F.normalize, without its expansion, which would add four operations to the exported graph.
        return features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)


def standalone(model: OpenedModel, width: float) -> Baseline:
    """Extract one sub-model as a plain network in evaluation mode. Its classifier is empty (has no rows)."""
    network = extract_submodel(model.network, model.widths[model.index_of(width)])
    network.heads.weight = nn.Parameter(network.heads.weight.detach()[:0].clone())
    return network


@torch.no_grad()
def count_macs(model: nn.Module, images: Tensor) -> int:
    """Multiply-accumulates of one forward pass: those of convolutions, linear layers and matrix products.

    Normalisation, activations, pooling and sums are left out, as is usual. (PyTorch's own counter counts two operations
    for each multiply-accumulate.) A switchable model is counted at its active width.
    """
    with FlopCounterMode(display=False) as counter:
        model(images)
    return counter.get_total_flops() // 2
