"""A thin ResNet for small crops: an ordinary FastReID backbone that trains on a CPU in minutes.

FastReID's ResNet is hard-coded to 64 base channels and a stem for 256x128 crops. This network takes its channels from
``MODEL.BACKBONE.FEAT_DIM`` and uses FastReID's BasicBlock. It is an ordinary backbone and is converted like any other.
"""

import math

from fastreid.config import CfgNode
from fastreid.layers import get_norm
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.backbones.resnet import BasicBlock
from torch import Tensor, nn

from ..errors import InputError
from ..layers import ChannelLayout
from .convert import Conversion, Converted, register_converter

BLOCKS = {"10x": (1, 1, 1, 1), "18x": (2, 2, 2, 2)}


class ThinResNet(nn.Module):
    """Stem (3x3, stride 2) and four stages of BasicBlocks with C/8, C/4, C/2 and C ``channels``.

    With a ``last_stride`` of 1 the output is 1/8 of the image size, with 2 it is 1/16. Only the first three stages have
    IBN. Squeeze-and-excitation has a reduction of 4, because there are few channels.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self, *, channels: int, blocks: tuple[int, ...], last_stride: int, norm: str, with_ibn: bool, with_se: bool
    ) -> None:
        super().__init__()
        planes = channels // 8
        self.conv1 = nn.Conv2d(3, planes, 3, stride=2, padding=1, bias=False)
        self.bn1 = get_norm(norm, planes)
        self.relu = nn.ReLU(inplace=True)
        inplanes = planes
        for stage, (count, stride) in enumerate(zip(blocks, (1, 2, 2, last_stride), strict=True), start=1):
            layers = []
            for i in range(count):
                stride_i, downsample = (stride if i == 0 else 1), None
                if stride_i != 1 or inplanes != planes:
                    downsample = nn.Sequential(
                        nn.Conv2d(inplanes, planes, 1, stride=stride_i, bias=False), get_norm(norm, planes)
                    )
                ibn = with_ibn and stage < 4
                layers.append(BasicBlock(inplanes, planes, norm, ibn, with_se, stride_i, downsample, reduction=4))
                inplanes = planes
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
            planes *= 2
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0, math.sqrt(2.0 / fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, 3, H, W] to [N, C, H/8, W/8] (for a last stride of 1)."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


@BACKBONE_REGISTRY.register()
def build_thin_resnet_backbone(cfg: CfgNode) -> ThinResNet:
    """Build a :class:`ThinResNet` from FastReID's backbone keys (DEPTH ``10x`` or ``18x``, FEAT_DIM for C).

    Raises:
        InputError: Unknown depth, channels not a multiple of 8, or pretrained weights without a file.
    """
    backbone = cfg.MODEL.BACKBONE
    if backbone.DEPTH not in BLOCKS:
        raise InputError("MODEL.BACKBONE.DEPTH", f"the thin ResNet has {sorted(BLOCKS)}", backbone.DEPTH)
    if backbone.FEAT_DIM % 8 or backbone.FEAT_DIM <= 0:
        raise InputError("MODEL.BACKBONE.FEAT_DIM", "must be a multiple of 8", backbone.FEAT_DIM)
    if backbone.PRETRAIN:
        rule = "must name a file: the thin ResNet has no weights of its own"
        raise InputError("MODEL.BACKBONE.PRETRAIN_PATH", rule, "''")
    if backbone.WITH_NL:
        raise InputError("MODEL.BACKBONE.WITH_NL", "the thin ResNet has no non-local layers", backbone.WITH_NL)
    return ThinResNet(
        channels=backbone.FEAT_DIM,
        blocks=BLOCKS[backbone.DEPTH],
        last_stride=backbone.LAST_STRIDE,
        norm=backbone.NORM,
        with_ibn=backbone.WITH_IBN,
        with_se=backbone.WITH_SE,
    )


@register_converter(ThinResNet)
def _convert_thin_resnet(network: ThinResNet, ctx: Conversion, x: ChannelLayout) -> Converted:
    return network, ctx.in_order(network, x, "conv1", "bn1", "relu", "layer1", "layer2", "layer3", "layer4")
