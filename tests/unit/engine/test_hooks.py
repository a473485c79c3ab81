"""Freezing, calibration and the statistics of several processes."""

from types import SimpleNamespace

import pytest
import torch
from fastreid.solver import build_lr_scheduler

from builders import R18, batch, images, tiny_config, tiny_model
from switchablecompat.aggregation import build_aggregation
from switchablecompat.engine.hooks import BNCalibration, SteadyLRScheduler, SwitchableLayerFreeze
from switchablecompat.engine.trainer import SwitchableTrainer
from switchablecompat.errors import InputError
from switchablecompat.layers import SwitchableNorm


def train_step(model, aggregation, optimizer):
    data = batch()
    x = model.preprocess_image(data)
    optimizer.zero_grad(set_to_none=True)
    for index in range(len(model.switch)):
        sum(model.submodel_losses(x, data["targets"], index)[0].values()).backward()
        aggregation.collect(index)
    aggregation.aggregate(0)
    optimizer.step()


def test_frozen_layers_do_not_move_for_the_first_iterations_also_after_a_resume():
    cfg = tiny_config("MODEL.FREEZE_LAYERS", "['backbone']", "SOLVER.FREEZE_ITERS", 4, "SOLVER.OPT", "SGD")
    model = tiny_model().train()
    optimizer, _ = SwitchableTrainer.build_optimizer(cfg, model)
    hook = SwitchableLayerFreeze(model, cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS)
    hook.trainer = SimpleNamespace(iter=2)
    aggregation = build_aggregation(cfg, model)

    def moved():
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        train_step(model, aggregation, optimizer)
        return {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}

    hook.before_step()
    assert moved() == {"heads"}, "neither by gradient nor by weight decay"
    hook.trainer.iter = 4
    hook.before_step()
    assert moved() == {"backbone", "heads"}

    resumed = SwitchableLayerFreeze(model, cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS)
    resumed.trainer = SimpleNamespace(iter=6)
    resumed.before_step()
    assert moved() == {"backbone", "heads"}


def test_opening_leaves_what_was_frozen_for_other_reasons():
    model = tiny_model().train()
    hook = SwitchableLayerFreeze(model, ["heads"], 1)
    hook.freeze_specific_layer()
    assert not any(p.requires_grad for p in model.heads.parameters())
    hook.open_all_layer()
    assert not model.heads.bottleneck[1].bias.requires_grad, "the BN-neck's bias is never trained"
    assert model.heads.weight.requires_grad


def test_narrow_widths_of_a_frozen_plain_backbone_do_not_feed_the_head_a_constant():
    """With sliced statistics in evaluation mode the smallest sub-model's features hardly depend on the image."""
    model = tiny_model(config_file=R18).train()
    for module in model.modules():  # an ordinary checkpoint: widths start from the full model's statistics
        if isinstance(module, SwitchableNorm):
            module.load_state_dict({k: v for k, v in module.state_dict().items() if "narrow" not in k}, strict=False)
    x = model.preprocess_image({"images": images(16, 64, 32)})

    def spread():
        with model.switch.use(0), torch.no_grad():
            pooled = model.backbone(x).mean(dim=(2, 3))
        return (pooled.std(dim=0).mean() / pooled.abs().mean()).item()

    free = spread()
    SwitchableLayerFreeze(model, ["backbone"], 1).freeze_specific_layer()
    assert not model.backbone.bn1.training
    assert spread() > 0.8 * free


def test_a_part_of_the_backbone_can_be_frozen():
    model = tiny_model().train()
    hook = SwitchableLayerFreeze(model, ["backbone.layer1", "heads"], 1)
    free = {name for name, p in model.named_parameters() if p.requires_grad}
    hook.freeze_specific_layer()
    held = free - {name for name, p in model.named_parameters() if p.requires_grad}
    assert held == {name for name in free if name.startswith(("backbone.layer1.", "heads."))}
    assert not model.backbone.layer1[0].bn1.training
    assert model.backbone.layer2[0].bn1.training
    hook.open_all_layer()
    assert free == {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["backbon"], "must name modules of the model, as backbone.layer1, found backbon"),
        (["backbone.layer9"], "must name modules of the model, .*, found backbone.layer9"),
        (["backbone", "heads"], "must leave something to train, found .'backbone', 'heads'.$"),
    ],
)
def test_wrong_names_of_layers_are_refused(layers, message):
    with pytest.raises(InputError, match=f"^MODEL.FREEZE_LAYERS: {message}"):
        SwitchableLayerFreeze(tiny_model(), layers, 5)


def test_calibration_ends_its_loader_thread():
    class Loader(list):
        ended = 0

        def shutdown(self):
            self.ended += 1

    model = tiny_model().train()
    loader = Loader([{"images": images(4)} for _ in range(3)])
    hook = BNCalibration(model, loader, 2)
    hook.trainer = SimpleNamespace(epoch=0, max_epoch=2)
    hook.after_epoch()
    assert loader.ended == 0, "only after the last epoch"
    hook.trainer.epoch = 1
    before = model.backbone.bn1.narrow["w025"].running_mean.clone()
    hook.after_epoch()
    assert loader.ended == 1
    assert not torch.equal(model.backbone.bn1.narrow["w025"].running_mean, before)


@pytest.mark.parametrize("method", ["constant", "linear", "exp"])
def test_the_warm_up_ends_at_the_base_rate_also_if_the_scaler_skips_steps(method, recwarn):
    """FastReID's takes no step of the warm-up where the scaler's factor changes, and never makes up for it."""
    cfg = tiny_config("SOLVER.WARMUP_ITERS", 10, "SOLVER.WARMUP_METHOD", method, "SOLVER.OPT", "SGD")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    schedule = build_lr_scheduler(cfg, optimizer, iters_per_epoch=100)
    written, scales = [], iter([65536, 32768, 32768, 16384, 16384, 16384, 16384] + 20 * [8192])
    hook = SteadyLRScheduler(optimizer, schedule)
    hook.trainer = SimpleNamespace(
        iter=0, warmup_iters=10, grad_scaler=SimpleNamespace(get_scale=lambda: next(scales)),
        storage=SimpleNamespace(put_scalar=lambda name, value, smoothing_hint: written.append(value)),
    )  # fmt: skip
    hook.before_train()
    for iteration in range(12):
        hook.trainer.iter = iteration
        hook.before_step()
        hook.after_step()  # no optimiser step, as in a step that is skipped
    assert optimizer.param_groups[0]["lr"] == pytest.approx(cfg.SOLVER.BASE_LR)
    assert written[0] == pytest.approx(cfg.SOLVER.WARMUP_FACTOR * cfg.SOLVER.BASE_LR)
    assert written[9] < written[10] == pytest.approx(cfg.SOLVER.BASE_LR)
    assert not recwarn, "torch's order of optimiser and schedule"
