"""Stock FastReID training steps through the shims: parameters must move, and as plain torch moves them."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from fastreid.config import CfgNode, get_cfg
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.solver import build_optimizer
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.events import EventStorage
from torch import nn

from switchablecompat.fastreid_shims.training import buffer_keeping_optimizer


class TinyModel(nn.Module):
    """Convolution, batch norm and a classifier, with FastReID's training interface."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.heads = nn.Linear(4, 5)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        logits = self.heads(self.backbone(batch["images"]).mean(dim=(2, 3)))
        return {"loss_cls": nn.functional.cross_entropy(logits, batch["targets"])}


def stock_config(**solver: object) -> CfgNode:
    cfg = get_cfg()
    cfg.SOLVER.OPT = "SGD"
    cfg.SOLVER.BASE_LR = 0.1
    cfg.SOLVER.MOMENTUM = 0.0
    cfg.SOLVER.WEIGHT_DECAY = cfg.SOLVER.WEIGHT_DECAY_BIAS = cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    cfg.SOLVER.BIAS_LR_FACTOR = cfg.SOLVER.HEADS_LR_FACTOR = 1.0
    for key, value in solver.items():
        setattr(cfg.SOLVER, key, value)
    return cfg


def batches(n: int) -> list[dict[str, torch.Tensor]]:
    return [{"images": torch.rand(6, 3, 8, 8), "targets": torch.randint(5, (6,))} for _ in range(n)]


def train(model: nn.Module, cfg: CfgNode, data: list[dict[str, torch.Tensor]], contiguous: bool = True) -> None:
    """What FastReID's DefaultTrainer does in each iteration."""
    optimizer, wrapper = build_optimizer(cfg, model, contiguous=contiguous)
    trainer = SimpleTrainer(model, data, optimizer, wrapper)
    with EventStorage(0):
        for _ in data:
            trainer.run_step()


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
def test_every_parameter_moves_with_contiguous_parameters(optimizer: str) -> None:
    model = TinyModel()
    before = copy.deepcopy(dict(model.named_parameters()))
    train(model, stock_config(OPT=optimizer), batches(2))
    assert [name for name, p in model.named_parameters() if torch.equal(p, before[name])] == []


@pytest.mark.parametrize("contiguous", [True, False])
def test_steps_equal_plain_sgd(contiguous: bool) -> None:
    model, data = TinyModel(), batches(3)
    reference = copy.deepcopy(model)
    train(model, stock_config(), data, contiguous)
    sgd = torch.optim.SGD(reference.parameters(), lr=0.1)
    for batch in data:
        sgd.zero_grad()
        reference(batch)["loss_cls"].backward()
        sgd.step()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)  # the same float32 steps, flat or not


def test_clipping_and_freezing_keep_their_meaning() -> None:
    cfg = stock_config(FREEZE_ITERS=2)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.MODEL.FREEZE_LAYERS = ["backbone"]
    model = TinyModel()
    before = copy.deepcopy(dict(model.named_parameters()))
    train(model, cfg, batches(2))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"heads.weight", "heads.bias"}


@pytest.mark.parametrize("contiguous", [True, False])
def test_only_flat_buffers_keep_their_gradient(contiguous: bool) -> None:
    model = TinyModel()
    optimizer, _ = build_optimizer(stock_config(), model, contiguous=contiguous)
    model(batches(1)[0])["loss_cls"].backward()
    optimizer.zero_grad()
    for parameter in model.parameters():
        if contiguous:
            assert parameter.grad.abs().sum() == 0
        else:
            assert parameter.grad is None


def test_scaled_gradients_are_found() -> None:
    """Without the shim: ``AssertionError: No inf checks were recorded for this optimizer``."""
    model = TinyModel()
    before = model.heads.weight.detach().clone()
    optimizer, wrapper = build_optimizer(stock_config(), model)
    scaler = torch.amp.GradScaler("cpu")
    optimizer.zero_grad()
    scaler.scale(model(batches(1)[0])["loss_cls"]).backward()
    scaler.step(optimizer)
    wrapper.assert_buffer_is_valid()
    assert not torch.equal(before, model.heads.weight)


def test_optimizer_class_keeps_its_name_and_kind() -> None:
    optimizer, _ = build_optimizer(stock_config(), TinyModel())
    assert type(optimizer).__name__ == "SGD"
    assert isinstance(optimizer, torch.optim.SGD)


def test_optimizer_state_survives_a_round_trip() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = buffer_keeping_optimizer(torch.optim.Adam)([parameter])
    parameter.sum().backward()
    optimizer.step()
    other = buffer_keeping_optimizer(torch.optim.Adam)([nn.Parameter(torch.ones(2))])
    other.load_state_dict(optimizer.state_dict())
    assert other.state_dict()["state"][0]["step"] == 1


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])
def test_numpy_values_load(dtype: str) -> None:
    file = io.BytesIO()
    torch.save({"array": np.ones(2, dtype), "scalar": np.ones((), dtype)[()]}, file)
    file.seek(0)
    loaded = Checkpointer(nn.Linear(1, 1))._load_file(file)
    assert loaded["array"].tolist() == [1, 1]
    assert loaded["scalar"] == 1


def test_numpy_1_names_load() -> None:
    file = io.BytesIO()
    # The plain pickle: no archive whose checksums the replacement below would break.
    torch.save({"scalar": np.float64(0.5)}, file, _use_new_zipfile_serialization=False)
    old = file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in old
    assert Checkpointer(nn.Linear(1, 1))._load_file(io.BytesIO(old))["scalar"] == 0.5


class Code:
    """What a hostile checkpoint would carry."""

    def __reduce__(self):
        return print, ("executed",)


def test_code_in_a_checkpoint_is_still_refused(capsys: pytest.CaptureFixture[str]) -> None:
    file = io.BytesIO()
    torch.save({"model": Code()}, file)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="Unsupported"):
        Checkpointer(nn.Linear(1, 1))._load_file(file)
    assert capsys.readouterr().out == ""
