import pytest
from fastreid.modeling.backbones import build_backbone

from builders import images, tiny_config
from switchablecompat.errors import InputError


@pytest.mark.parametrize(("depth", "last_stride", "size"), [("10x", 1, (8, 4)), ("18x", 2, (4, 2))])
def test_output_shape(depth, last_stride, size):
    network = build_backbone(tiny_config("MODEL.BACKBONE.DEPTH", depth, "MODEL.BACKBONE.LAST_STRIDE", last_stride))
    assert network(images(2, 64, 32)).shape == (2, 128, *size)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.BACKBONE.DEPTH", "50x"),
        ("MODEL.BACKBONE.FEAT_DIM", 100),
        ("MODEL.BACKBONE.WITH_NL", True),
    ],
)
def test_what_it_cannot_do_is_refused_by_key(key, value):
    with pytest.raises(InputError, match=f"^{key}: .*, found {value}"):
        build_backbone(tiny_config(key, value))


def test_unknown_backbones_and_missing_weights_are_named():
    with pytest.raises(InputError, match=r"^MODEL.SWITCHABLE.BACKBONE: must be one of .*build_resnet_backbone"):
        build_backbone(tiny_config("MODEL.SWITCHABLE.BACKBONE", "build_nothing"))
    r18 = ("MODEL.SWITCHABLE.BACKBONE", "build_resnet_backbone", "MODEL.BACKBONE.DEPTH", "18x")
    with pytest.raises(InputError, match=r"^MODEL.BACKBONE.FEAT_DIM: must be 512, found 128"):
        build_backbone(tiny_config(*r18))
    with pytest.raises(InputError, match=r"^MODEL.BACKBONE.PRETRAIN_PATH: must name a file: the thin ResNet has no"):
        build_backbone(tiny_config("MODEL.BACKBONE.PRETRAIN", True))
    with pytest.raises(InputError, match=r"^MODEL.BACKBONE.PRETRAIN_PATH: must be an existing file, found /nowhere"):
        build_backbone(tiny_config(*r18, "MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", "/nowhere"))


def test_widths_that_come_out_alike_are_refused():
    with pytest.raises(InputError, match=r"^MODEL.SWITCHABLE.WIDTHS: no two may keep the same .*, found 0.25 and 0.26"):
        build_backbone(tiny_config("MODEL.SWITCHABLE.WIDTHS", "[0.25, 0.26, 1.0]"))
