"""A training loop on one batch, as a trainer builds it, for tests on a GPU."""

import torch
from fastreid.engine.train_loop import AMPTrainer, SimpleTrainer
from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage

from builders import Same, batch, tiny_config
from switchablecompat.aggregation import build_aggregation
from switchablecompat.engine import SwitchableTrainer, SwitchableTrainLoop
from switchablecompat.engine.certainty import ClassCertainty


def make_loop(*opts, device="cuda", scale=2.0**16, log=None):
    """The loop of a tiny network; under float16 with a gradient scaler that starts from ``scale``."""
    cfg = tiny_config("MODEL.DEVICE", device, *opts)
    torch.manual_seed(0)
    model = build_model(cfg)
    optimizer, _ = SwitchableTrainer.build_optimizer(cfg, model)
    generator = torch.Generator().manual_seed(3)
    data = batch(16)
    data["images"] = torch.randint(0, 256, data["images"].shape, generator=generator).float()
    loader = Same({key: value.to(device) for key, value in data.items()})
    dtype = getattr(torch, cfg.SOLVER.AMP.DTYPE) if cfg.SOLVER.AMP.ENABLED else None
    if dtype == torch.float16:
        inner = AMPTrainer(model, loader, optimizer, None, torch.amp.GradScaler(device, init_scale=scale))
    else:
        inner = SimpleTrainer(model, loader, optimizer, None)
    model.train()
    certainty = ClassCertainty.from_config(cfg, model)
    loop = SwitchableTrainLoop(inner, build_aggregation(cfg, model), certainty=certainty, autocast=dtype, log=log)
    loop.iter = 0
    return loop


def train(loop, steps):
    """So many steps; returns the mean loss of each, as the log has it after the last."""
    loop.log.epoch_length = steps
    with EventStorage() as storage:
        for loop.iter in range(steps):
            storage.iter = loop.iter
            loop.run_step()
    return [value for value, _ in storage.history("total_loss").values()]


def weights(loop):
    """A copy of the parameters, on the CPU."""
    return {name: p.detach().cpu().clone() for name, p in loop.model.named_parameters()}
