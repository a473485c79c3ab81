"""Half precision: who computes in it, how far features move, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from builders import images, save_run, tiny_config, tiny_model
from switchablecompat.deploy.files.opening import open_encoder
from switchablecompat.engine.setup import check_device
from switchablecompat.errors import InputError
from switchablecompat.evaluation.features import extract_features
from switchablecompat.evaluation.precision import check_precision, computing_in
from switchablecompat.modeling.calibration import calibrate_bn


@pytest.fixture
def model():
    """A model whose features tell images apart."""
    model = tiny_model("MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]")
    calibrate_bn(model, [images(16)])
    return model


def batches():
    return [{"images": images(8), "targets": torch.arange(8), "camids": torch.zeros(8)}]


def test_bfloat16_features_are_float32_and_nearly_those_of_float32(model):
    loader = batches()
    full, half = (extract_features(model, loader, precision=name) for name in ("float32", "bfloat16"))
    for one, two in zip(full.values, half.values, strict=True):
        assert two.dtype == torch.float32
        assert not torch.equal(one, two)
        # bfloat16 has 8 bits: each of some ten layers adds up to 0.4 % of noise, which is random over the dimensions
        assert F.cosine_similarity(one, two).min() > 0.98
    again = extract_features(model, loader)
    assert all(torch.equal(one, two) for one, two in zip(full.values, again.values, strict=True))  # nothing is left on


def test_convolutions_really_compute_in_it(model):
    kinds = set()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    extract_features(model, batches(), precision="bfloat16")
    assert kinds == {torch.bfloat16}


@pytest.mark.parametrize("name", ["half", "fp16", "float64", ""])
def test_unknown_precisions_are_refused(name):
    with pytest.raises(InputError, match=r"^TEST.PRECISION: must be one of \['float32', 'bfloat16', 'float16'\]"):
        check_device(tiny_config("TEST.PRECISION", name))


def test_float16_needs_a_gpu():
    check_precision("float16", "cuda:0")
    with pytest.raises(InputError, match="^TEST.PRECISION: must be bfloat16 or float32 without a CUDA device, found"):
        computing_in("float16", "cpu")
    with pytest.raises(InputError, match="without a CUDA device"):
        check_device(tiny_config("TEST.PRECISION", "float16", "MODEL.DEVICE", "cpu"))


def test_an_encoder_of_a_run_computes_in_it_and_says_so(tmp_path):
    save_run(tmp_path / "run", "MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]")
    path = tmp_path / "run" / "model_final.pth"
    x = images(4, 64, 32)
    full, half = (open_encoder(path, 1.0, precision=p) for p in ("float32", "bfloat16"))
    assert full.card.precision == "float32"
    assert half.card.precision == "bfloat16"
    assert not torch.equal(full(x), half(x))
    assert torch.allclose(half(x).norm(dim=1), torch.ones(4), atol=1e-6)  # normalised in float32


def test_an_exported_file_that_cannot_is_refused(tmp_path):
    (tmp_path / "a.onnx").touch()
    with pytest.raises(InputError, match="--precision: must be float32 for .onnx files"):
        open_encoder(tmp_path / "a.onnx", precision="bfloat16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_on_a_gpu(model, name):
    model = model.to("cuda")
    loader = batches()
    full, half = (extract_features(model, loader, precision=one) for one in ("float32", name))
    for one, two in zip(full.values, half.values, strict=True):
        assert F.cosine_similarity(one, two).min() > 0.98
