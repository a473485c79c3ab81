"""A ratio means something only if both sides do the same work: they must come to the same result."""

import numpy as np
import pytest
import torch

from benchmarks import aggregation, grid, scaling, step
from builders import TINY
from switchablecompat.errors import InputError


def config(*opts):
    return step.load(TINY, ["MODEL.DEVICE", "cpu", *opts])


@pytest.mark.parametrize("losses", [("CompatibleLoss",), ("CompatibleLoss", "TripletLoss", "DistillationLoss")])
def test_the_ideal_step_has_the_losses_and_gradients_of_ours(losses):
    """With plain summation the switchable step's gradient is the sum of the plain sub-models' in their own slices."""
    cfg = config(
        "SOLVER.AGGREGATION.NAME", "sum", "MODEL.SWITCHABLE.CLASSIFIER_GRAD", "all", "MODEL.LOSSES.NAME", losses
    )
    batch = step.random_batch(cfg, 8)
    ours, ideal = step.SwitchableStep(cfg, batch), step.IdealStep(cfg, batch)
    for (name, own), (_, other) in zip(ours.model.named_parameters(), ideal.model.named_parameters(), strict=True):
        assert torch.equal(own, other), f"{name}: both start from the same weights"
    ours()
    ideal()
    for key in ("backbone.conv1.weight", "heads.bottleneck.0.weight", "heads.weight"):
        found = dict(ours.model.named_parameters())[key].grad
        expected = torch.zeros_like(found)
        for submodel in ideal.plain:
            own = dict(submodel.named_parameters())[key].grad
            expected[: own.shape[0], : own.shape[1]] += own
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6, msg=key)


@pytest.mark.parametrize("m", [2, 4])
def test_all_aggregations_of_agreeing_gradients_are_their_sum(m):
    """Without conflict PCGrad is summation, whatever the order that each side draws."""
    shared = aggregation.shared_of(config(), m)
    gradients = [[g.abs() for g in own] for own in aggregation.random_gradients(shared, m)]
    expected = [sum(parts) for parts in zip(*gradients, strict=True)]
    for run in (
        aggregation.ours(shared, gradients, "global", "full"),
        aggregation.ours(shared, gradients, "filter", "pairwise"),
        aggregation.torchjd(shared, gradients),
        aggregation.textbook(shared, gradients),
    ):
        run()
        for p, total in zip(shared, expected, strict=True):
            torch.testing.assert_close(p.parameter.grad, total, rtol=1e-4, atol=1e-5)


def test_two_conflicting_gradients_have_one_projection():
    """With m = 2 there is one order only: ours, TorchJD's and the textbook's must agree under conflict too."""
    shared = aggregation.shared_of(config(), 2)
    gradients = aggregation.random_gradients(shared, 2)
    gradients[0] = [g - 0.5 * h * (g != 0) for g, h in zip(*gradients, strict=True)]
    flat = [torch.cat([g.flatten() for g in own]).double() for own in gradients]
    product = flat[0] @ flat[1]
    assert product < 0
    expected = (
        flat[0] + flat[1] - product / flat[1].square().sum() * flat[1] - product / flat[0].square().sum() * flat[0]
    )
    for run in (
        aggregation.ours(shared, gradients, "global", "full"),
        aggregation.torchjd(shared, gradients),
        aggregation.textbook(shared, gradients),
    ):
        run()
        found = torch.cat([p.parameter.grad.flatten() for p in shared]).double()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_grid_and_fastreid_rank_alike():
    task = grid.random_task(40, 300, 20, 16, 2, separation=2)
    cells = grid.ours(task)()
    with grid.quiet():
        theirs = grid.fastreid(task, (0, 1), cython=False)()
    assert grid.largest_difference(cells, (0, 1), theirs) < 1e-4
    assert 20 < theirs[0] < 100, "neither hopeless nor trivial"


def test_the_products_are_of_the_same_size_as_the_ranking():
    task = grid.random_task(5, 50, 4, 16, 3)
    assert np.shape(task.labels[1]) == (50,)
    assert [tuple(f.shape) for f in task.query] == [(5, 16)] * 3
    grid.products(task)()


def test_multiply_accumulates_of_a_hand_made_case():
    """Doubling the number of widths adds the narrower networks' own; the full one's is in both."""
    cfg = config()
    one = scaling.macs_of_all_widths(step.changed(cfg, "MODEL.SWITCHABLE.WIDTHS", [1.0]))
    two = scaling.macs_of_all_widths(step.changed(cfg, "MODEL.SWITCHABLE.WIDTHS", [0.5, 1.0]))
    half = two - one
    assert one / 4 < half < one / 2  # a quarter in the layers that are sliced on both sides, half in the first and last


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match=r"MODEL\.LOSSES\.NAME: must be of .*, found AsymmetricLoss"):
        step.load("configs/Synthetic/asymmetric_s.yml", [])
