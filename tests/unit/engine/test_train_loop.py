"""The inner loop on a toy meta-architecture of forty parameters, with FastReID's own hooks and storage."""

import json

import pytest
import torch
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.utils.events import EventStorage
from torch import nn

from builders import tiny_config
from switchablecompat.aggregation import GradientAggregation, GradientProjection, SumAggregator
from switchablecompat.aggregation.build import AGGREGATORS, build_aggregator
from switchablecompat.engine import SwitchableTrainLoop
from switchablecompat.engine.certainty import ClassCertainty
from switchablecompat.engine.priorities import UncertaintyPriorities
from switchablecompat.engine.step_plan import StepPlan
from switchablecompat.engine.writers import JSONWriter
from switchablecompat.layers import ChannelRule, SlimmableLinear, SwitchableBatchNorm2d, WidthSwitch, shared_parameters


class ToyArchitecture(nn.Module):
    """Two widths: a slimmable layer (without bias: before a norm it gets no gradient), a norm, a shared readout."""

    def __init__(self, spoil=None):
        super().__init__()
        self.switch, rule = WidthSwitch([0.5, 1.0]), ChannelRule([0.5, 1.0], 1)
        self.body = SlimmableLinear.convert(nn.Linear(3, 4, bias=False), self.switch, rule.fixed(3), rule.slim(4))
        self.norm = SwitchableBatchNorm2d.convert(nn.BatchNorm2d(4), self.switch, rule.slim(4))
        self.head = SlimmableLinear.convert(nn.Linear(4, 2), self.switch, rule.slim(4), rule.fixed(2))
        self.normalised, self.spoil, self.steps = 0, spoil, 0

    def prepare_training(self):
        pass

    def end_step(self):
        self.steps += 1

    def preprocess_image(self, batch):
        self.normalised += 1
        return batch["images"] / 10

    def submodel_losses(self, images, targets, index):
        with self.switch.use(index):
            x = self.head(self.norm(self.body(images)[..., None, None])[..., 0, 0].relu())
            loss = nn.functional.cross_entropy(x, targets)
            if self.spoil == self.switch.name:
                loss = loss * float("nan")
            return {f"loss_compat_{self.switch.name}": loss}, {f"uncertainty_{self.switch.name}": loss.detach()}


def batches():
    generator = torch.Generator().manual_seed(0)
    while True:
        x = torch.randn(16, 3, generator=generator)
        yield {"images": x * 10, "targets": (x[:, 0] > 0).long()}


def make(aggregator=None, spoil=None, lr=0.1, plan=None, priorities=None, certainty=None):
    torch.manual_seed(0)
    model = ToyArchitecture(spoil)
    inner = SimpleTrainer(model, batches(), torch.optim.SGD(model.parameters(), lr), None)
    shared = shared_parameters(model)
    aggregation = GradientAggregation(
        shared, model.switch.names, aggregator or GradientProjection(), granularity="layer"
    )
    loop = SwitchableTrainLoop(inner, aggregation, plan, priorities, certainty)
    loop.iter = 0
    return loop


def test_one_step_moves_every_trainable_parameter():
    loop = make()
    before = {name: p.detach().clone() for name, p in loop.model.named_parameters()}
    with EventStorage():
        loop.run_step()
    assert [name for name, p in loop.model.named_parameters() if torch.equal(p, before[name])] == []


def step_beside_ordinary_joint_training(loop, weights):
    """One step of the loop, and of plain autograd on the weighted sum of the losses; returns the losses."""
    reference, data = ToyArchitecture(), next(batches())
    reference.load_state_dict(loop.model.state_dict())
    optimizer = torch.optim.SGD(reference.parameters(), 0.1)
    x = reference.preprocess_image(data)
    losses = [sum(reference.submodel_losses(x, data["targets"], i)[0].values()) for i in range(2)]
    sum(weight * loss for weight, loss in zip(weights, losses, strict=True)).backward()
    optimizer.step()
    with EventStorage() as storage:
        loop.run_step()
    for (name, p), q in zip(loop.model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-7, rtol=1e-6, msg=name)
    return torch.stack(losses).detach(), storage


def test_sum_is_one_step_of_ordinary_joint_training():
    step_beside_ordinary_joint_training(make(SumAggregator()), (1, 1))


def test_the_mean_share_of_each_submodel_in_the_class_vectors_is_logged():
    certainty = ClassCertainty(2, 2, power=1.0)
    certainty.probabilities = torch.tensor([[0.5, 1.0], [0.75, 0.75]])  # above chance 0, 1/2 and 1/4, 1/4
    loop = make(certainty=certainty)
    with EventStorage() as storage:
        loop.run_step()
    shares = [storage.history(f"classifier_share_{name}").latest() for name in ("w050", "w100")]
    assert shares == pytest.approx([0.25, 0.75])


def test_weights_are_those_of_a_weighted_sum():
    plan = StepPlan(2, weights=(0.25, 2.0))
    step_beside_ordinary_joint_training(make(SumAggregator(), plan=plan), (0.25, 2))


def test_priorities_are_a_weighted_sum_by_the_uncertainties_so_far():
    priorities = UncertaintyPriorities(("w050", "w100"), exponent=2.0)
    before = priorities.uncertainties = torch.tensor([0.6, 0.3])  # squares 0.36 and 0.09: factors 1.6 and 0.4
    losses, storage = step_beside_ordinary_joint_training(make(SumAggregator(), priorities=priorities), (1.6, 0.4))
    assert storage.history("priority_w050").latest() == pytest.approx(1.6)
    torch.testing.assert_close(priorities.uncertainties, 0.9 * before + 0.1 * losses)  # the toy's is its loss


def test_who_is_left_out_of_a_step_adds_nothing_to_it():
    class FullOnly(StepPlan):
        def submodels(self, iteration):
            return [1] if iteration else [1, 0]

    loop = make(SumAggregator(), plan=FullOnly(2))
    with EventStorage() as storage:
        loop.run_step()  # leaves both gradients in the bank
        loop.iter = storage.iter = 1
        reference = ToyArchitecture()
        reference.load_state_dict(loop.model.state_dict())
        optimizer, data = torch.optim.SGD(reference.parameters(), 0.1), batches()
        next(data)
        x = next(data)
        sum(reference.submodel_losses(x["images"] / 10, x["targets"], 1)[0].values()).backward()
        optimizer.step()
        loop.run_step()
    for (name, p), q in zip(loop.model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-7, rtol=1e-6, msg=name)


def test_training_lowers_every_widths_loss_and_normalises_once_a_step():
    loop = make()
    with EventStorage() as storage:
        for iteration in range(60):
            loop.iter = storage.iter = iteration
            loop.run_step()
        for name in loop.model.switch.names:
            history = [value for value, _ in storage.history(f"loss_compat_{name}").values()]
            assert sum(history[-5:]) < 0.7 * sum(history[:5])
        logged = set(storage.histories())
    assert loop.model.normalised == 60
    assert {"total_loss", "grad_norm_w050", "grad_norm_w100", "grad_cosine_w050_w100", "conflict_rate",
            "uncertainty_w050", "data_time"} <= logged  # fmt: skip


def test_a_nan_names_the_width_and_the_iteration_and_changes_nothing():
    loop = make(spoil="w050")
    loop.iter = 7
    before = [p.detach().clone() for p in loop.model.parameters()]
    with EventStorage(), pytest.raises(FloatingPointError) as error:
        loop.run_step()
    assert str(error.value).startswith("iteration 7: loss_compat_w050 is nan (beside loss_compat_w100 ")
    assert "\n" not in str(error.value)
    assert all(torch.equal(p, q) for p, q in zip(loop.model.parameters(), before, strict=True))


class Explosive(torch.autograd.Function):
    """The identity; its gradient is infinite."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf")


def exploding(loop, name, monkeypatch):
    """Sub-model ``name`` has a finite loss and an infinite gradient; returns a copy of the loop's parameters."""
    original = loop.model.submodel_losses

    def submodel_losses(images, targets, index):
        losses, diagnostics = original(images, targets, index)
        if loop.model.switch.names[index] == name:
            losses = {key: Explosive.apply(loss) for key, loss in losses.items()}
        return losses, diagnostics

    monkeypatch.setattr(loop.model, "submodel_losses", submodel_losses)
    return [p.detach().clone() for p in loop.model.parameters()]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_skips_the_step_of_a_scaler(value, monkeypatch):
    loop = make(spoil="w050")
    loop.grad_scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    original = loop.model.submodel_losses

    def submodel_losses(images, targets, index):
        losses, diagnostics = original(images, targets, index)
        return {key: loss.nan_to_num(value, value, value) * value for key, loss in losses.items()}, diagnostics

    before = [p.detach().clone() for p in loop.model.parameters()]
    with EventStorage() as storage:
        with monkeypatch.context() as patch:
            patch.setattr(loop.model, "submodel_losses", submodel_losses)
            loop.run_step()
        assert loop.grad_scaler.get_scale() == 512
        assert all(torch.equal(p, q) for p, q in zip(loop.model.parameters(), before, strict=True))
        assert not [key for key in storage.latest() if "loss" in key], "no such value in metrics.json"
        loop.model.spoil = None
        loop.run_step()
    assert loop.grad_scaler.get_scale() == 512
    assert not any(torch.equal(p, q) for p, q in zip(loop.model.parameters(), before, strict=True))


def test_a_scaler_does_not_hide_for_ever_that_the_weights_are_lost():
    loop = make(spoil="w050")
    loop.grad_scaler = torch.amp.GradScaler("cpu")
    with EventStorage():
        for loop.iter in range(31):  # from a factor of 2**16 to one of 2**-15
            loop.run_step()
        with pytest.raises(FloatingPointError, match=r"loss_compat_w050 is nan"):
            loop.run_step()
    assert loop.grad_scaler.get_scale() == 2**-15


def test_an_infinite_gradient_names_the_width_too(monkeypatch):
    loop = make()
    before = exploding(loop, "w050", monkeypatch)
    with EventStorage(), pytest.raises(FloatingPointError, match=r"iteration 0: grad_norm_w050 is (nan|inf)"):
        loop.run_step()
    assert all(torch.equal(p, q) for p, q in zip(loop.model.parameters(), before, strict=True))


@pytest.mark.parametrize("name", ["w050", "w100"])
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_overflow_of_one_width_skips_the_step_of_all(aggregator, name, monkeypatch):
    cfg = tiny_config("SOLVER.AGGREGATION.NAME", aggregator)
    loop = make(build_aggregator(cfg))
    loop.grad_scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = exploding(loop, name, monkeypatch)
    with EventStorage():
        loop.run_step()
    assert loop.grad_scaler.get_scale() == 512
    assert all(torch.equal(p, q) for p, q in zip(loop.model.parameters(), before, strict=True))


def test_without_a_scaler_the_networks_compute_in_bfloat16_and_the_weights_stay_float32(monkeypatch):
    loop = make()
    loop.autocast = torch.bfloat16
    seen, original = [], nn.functional.linear
    monkeypatch.setattr(nn.functional, "linear", lambda *a: seen.append(original(*a).dtype) or original(*a))
    before = [p.detach().clone() for p in loop.model.parameters()]
    with EventStorage():
        loop.run_step()
    assert {*seen} == {torch.bfloat16}
    for p, q in zip(loop.model.parameters(), before, strict=True):
        assert (p.dtype, p.grad.dtype) == (torch.float32, torch.float32)
        assert not torch.equal(p, q)


def test_a_model_left_in_evaluation_mode_is_refused():
    loop = make()
    loop.model.eval()
    with EventStorage(), pytest.raises(RuntimeError, match="evaluation mode"):
        loop.run_step()


def test_the_full_model_comes_first_and_the_batch_ends_once(monkeypatch):
    loop, order = make(), []
    original = loop.model.submodel_losses
    monkeypatch.setattr(
        loop.model, "submodel_losses", lambda *a: order.append((a[2], loop.model.steps)) or original(*a)
    )
    with EventStorage():
        loop.run_step()
        loop.run_step()
    assert order == [(1, 0), (0, 0), (1, 1), (0, 1)]
    assert loop.model.steps == 2


def test_several_processes_have_nothing_to_average_while_all_private_parameters_are_frozen(monkeypatch):
    loop = make()
    monkeypatch.setattr("fastreid.utils.comm.get_world_size", lambda: 2)
    for row in loop.aggregation.bank.rows:
        row.fill_(3.0)  # the sum over two processes
    loop._finish_averaging([])
    assert all((row == 1.5).all() for row in loop.aggregation.bank.rows)


def test_one_graph_at_a_time(monkeypatch):
    loop = make()
    alive, original = [], ToyArchitecture.submodel_losses
    graphs = []

    def watched(self, images, targets, index):
        import weakref

        alive.append(sum(ref() is not None for ref in graphs))
        losses, diagnostics = original(self, images, targets, index)
        graphs.append(weakref.ref(next(iter(losses.values()))))
        return losses, diagnostics

    monkeypatch.setattr(ToyArchitecture, "submodel_losses", watched)
    with EventStorage():
        loop.run_step()
    assert alive == [0, 0], "the first width's loss, and with it its graph, must be gone before the second starts"


def test_the_scaler_steps_unscaled_gradients_and_skips_all_widths_on_overflow():
    class Scaler:
        """A GradScaler by hand, for the CPU: fixed factor, the checks of torch's own."""

        def __init__(self, factor):
            self.factor, self.skipped = factor, 0

        def scale(self, loss):
            return loss * self.factor

        def get_scale(self):
            return self.factor

        def is_enabled(self):
            return True

        def step(self, optimizer):
            grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            for grad in grads:
                grad /= self.factor
            if all(torch.isfinite(grad).all() for grad in grads):
                optimizer.step()
            else:
                self.skipped += 1

        def update(self):
            pass

    scaled, plain = make(), make()
    scaled.grad_scaler = Scaler(1024.0)
    with EventStorage() as storage:
        scaled.run_step()
        norms = storage.latest()["grad_norm_w100"][0]
    with EventStorage() as storage:
        plain.run_step()
        assert norms == pytest.approx(storage.latest()["grad_norm_w100"][0], rel=1e-5)
    for p, q in zip(scaled.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(p, q)

    scaled.grad_scaler = Scaler(1e39)  # beyond float32
    before = [p.detach().clone() for p in scaled.model.parameters()]
    with EventStorage():
        scaled.run_step()
    assert scaled.grad_scaler.skipped == 1
    assert all(torch.equal(p, q) for p, q in zip(scaled.model.parameters(), before, strict=True))


def test_scalars_put_after_the_last_write_are_written(tmp_path):
    """FastReID's writer drops what an evaluation adds to an iteration that was written already."""
    path = tmp_path / "metrics.json"
    writer = JSONWriter(str(path))
    with EventStorage() as storage:
        storage.put_scalar("total_loss", 1.0)
        writer.write()
        storage.put_scalar("mAP", 50.0, smoothing_hint=False)
        writer.write()
        writer.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"iteration": 0, "total_loss": 1.0}, {"iteration": 0, "mAP": 50.0}]


def test_a_line_that_a_killed_run_left_unfinished_is_dropped(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 0, "total_loss": 1.0}\n{"iteration": 1, "tot')
    writer = JSONWriter(str(path))
    with EventStorage(1) as storage:
        storage.put_scalar("total_loss", 2.0)
        writer.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"iteration": 0, "total_loss": 1.0}, {"iteration": 1, "total_loss": 2.0}]


def test_a_memory_does_not_depend_on_the_scaler():
    """Its factor is the square root of the weight of a batch in a running mean of inner products."""
    remembered, norms = [], []
    for scale in (None, 4096.0):
        loop = make(GradientProjection(memory=0.5))
        if scale:
            loop.grad_scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1)  # doubles after a step
        with EventStorage() as storage:
            for loop.iter in range(3):
                loop.run_step()
            norms.append(storage.latest()["grad_norm_w100"][0])
        remembered.append(loop.aggregation.aggregator.mean)
    torch.testing.assert_close(remembered[1], remembered[0], rtol=1e-5, atol=1e-9)
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
