"""Aggregators of TorchJD. Oracles: its own aggregators on flat gradients, SciPy's solvers, the papers' conditions."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls
from torchjd import aggregation as jd
from torchjd.linalg import QuadprogProjector

from switchablecompat.aggregation import GradientAggregation, GradientProjection
from switchablecompat.aggregation.gram import random_orders
from switchablecompat.aggregation.torchjd import NAMES, TorchJDAggregator
from switchablecompat.errors import InputError
from switchablecompat.layers import SharedParameter

RADIUS = 0.4


def gradients_of(m, n, seed, spread=1.0):
    """m gradients whose norms differ by up to e^spread."""
    generator = torch.Generator().manual_seed(seed)
    scales = (torch.rand(m, 1, dtype=torch.float64, generator=generator) * spread).exp()
    return torch.randn(m, n, dtype=torch.float64, generator=generator) * scales


def weights_of(aggregator, gradients, seed=0):
    """Weights [m] for one group."""
    grams = (gradients @ gradients.T).view(1, 1, len(gradients), len(gradients))
    return aggregator(grams, torch.Generator().manual_seed(seed))[0, 0]


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_projection_is_torchjds_pcgrad_with_the_same_orders(m, seed, monkeypatch):
    gradients = gradients_of(m, 3, seed)
    orders = random_orders(m, torch.Generator().manual_seed(seed)).tolist()
    ours = weights_of(GradientProjection("full"), gradients, seed)
    queue = [torch.tensor([*row, i]) for i, row in enumerate(orders)]  # it draws all m and passes over i itself
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: queue.pop(0))
    theirs = jd.PCGradWeighting()(gradients @ gradients.T)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


# name: TorchJD's aggregator of the Jacobian, and by what it is to be multiplied for three gradients
THEIRS = {
    "cagrad": (lambda: jd.CAGrad(RADIUS), 3 / (1 + RADIUS)),
    "mgda": (jd.MGDA, 3),
    "upgrad": (lambda: jd.UPGrad(projector=QuadprogProjector(reg_eps=1e-9)), 3),
    "imtl_g": (jd.IMTLG, 3),
}


@pytest.mark.parametrize("granularity", ["global", "layer", "tensor", "filter"])
@pytest.mark.parametrize("name", THEIRS)
def test_every_granularity_is_theirs_on_the_flat_gradients_of_a_group(name, granularity):
    make, scale = THEIRS[name]
    shapes = {"a.weight": (2, 5), "a.bias": (2,), "b.weight": (2, 4)}
    shared = [SharedParameter(key, torch.nn.Parameter(torch.zeros(shape)), None) for key, shape in shapes.items()]
    groups = {
        "global": [[(key, k) for key in shapes for k in (0, 1)]],
        "layer": [[(key, k) for key in shapes if key[0] == layer for k in (0, 1)] for layer in "ab"],
        "tensor": [[(key, k) for k in (0, 1)] for key in shapes],
        "filter": [[("a.weight", k), ("a.bias", k)] for k in (0, 1)] + [[("b.weight", k)] for k in (0, 1)],
    }[granularity]
    generator = torch.Generator().manual_seed(3)
    gradients = [{key: torch.randn(shape, generator=generator) for key, shape in shapes.items()} for _ in range(3)]
    aggregator = TorchJDAggregator(name, radius=RADIUS)
    aggregation = GradientAggregation(shared, ["x", "y", "z"], aggregator, granularity=granularity)
    for index, own in enumerate(gradients):
        for p in shared:
            p.parameter.grad = own[p.name].clone()
        aggregation.collect(index)
    aggregation.aggregate(0)
    found = {p.name: p.parameter.grad for p in shared}
    for group in groups:
        jacobian = torch.stack([torch.cat([own[key][k].flatten() for key, k in group]) for own in gradients]).double()
        expected = scale * make()(jacobian)
        flat = torch.cat([found[key][k].flatten() for key, k in group]).double()
        torch.testing.assert_close(flat, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_gradvac_is_torchjds_over_several_steps_and_groups(m, seed):
    """With global random numbers that start from the same seed for every group, and leave no trace."""
    ours, theirs = TorchJDAggregator("gradvac", beta=0.3), [jd.GradVac(0.3, eps=0.0) for _ in range(2)]
    for step in range(4):
        sets = [gradients_of(m, 4, 100 * seed + 10 * step + group) for group in range(2)]
        before = torch.get_rng_state()
        weights = ours(torch.stack([g @ g.T for g in sets]).unsqueeze(1), torch.Generator().manual_seed(step))
        assert torch.equal(before, torch.get_rng_state())
        drawn = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(step)))
        for gradients, own, aggregator in zip(sets, weights[:, 0], theirs, strict=True):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(drawn)
                expected = aggregator(gradients)
            torch.testing.assert_close(own @ gradients, expected, atol=1e-5, rtol=1e-5)


def test_gradvac_continues_from_its_state():
    first, resumed = TorchJDAggregator("gradvac", beta=0.3), TorchJDAggregator("gradvac", beta=0.3)
    assert first.state_dict() == {}
    for step in range(3):
        weights_of(first, gradients_of(3, 4, step), step)
    (targets,) = first.state_dict().values()
    assert targets.shape == (1, 3, 3)
    assert targets.any()
    resumed.load_state_dict(first.state_dict())
    new = gradients_of(3, 4, 9)
    continued = weights_of(resumed, new)
    assert torch.equal(weights_of(first, new), continued)
    assert not torch.equal(weights_of(TorchJDAggregator("gradvac", beta=0.3), new), continued)


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_imtl_g_is_equal_on_every_direction(m, seed):
    gradients = gradients_of(m, 8, seed, spread=3.0)
    along = (weights_of(TorchJDAggregator("imtl_g"), gradients) @ gradients) @ torch.nn.functional.normalize(
        gradients
    ).T
    torch.testing.assert_close(along, along[:1].expand(m), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_mgda_is_the_shortest_combination(m, seed):
    """Karush-Kuhn-Tucker: no gradient has a smaller product with the result than the result with itself."""
    gradients = gradients_of(m, m + seed % 3 - 1, seed, spread=2.0)  # also fewer dimensions than gradients
    w = weights_of(TorchJDAggregator("mgda"), gradients) / m
    assert (w >= 0).all()
    assert w.sum().item() == pytest.approx(1, abs=1e-9)
    shortest = w @ gradients
    # Frank-Wolfe stops after 100 rounds, with an error in the order of one in a hundred
    assert (gradients @ shortest >= shortest @ shortest - 2e-2 * gradients.square().sum(dim=1).max()).all()


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_upgrad_projects_every_gradient_onto_the_dual_cone(m, seed):
    """By non-negative least squares: the projection of g_i is g_i + J^T u, u >= 0, as short as it can be."""
    gradients = gradients_of(m, 5, seed)
    total = torch.zeros(5, dtype=torch.float64)
    for g in gradients:
        u, _ = nnls(gradients.T.numpy(), -g.numpy())
        total += g + gradients.T @ torch.from_numpy(u)
    result = weights_of(TorchJDAggregator("upgrad"), gradients) @ gradients
    torch.testing.assert_close(result, total, atol=1e-4, rtol=1e-4)  # regularised, and J is not well conditioned
    assert (gradients @ result >= -1e-4).all(), "nothing conflicts with the result"


@pytest.mark.parametrize("ratio", [1e-1, 1e-2, 1e-3])
def test_upgrad_serves_a_much_smaller_gradient_too(ratio):
    gradients = torch.tensor([[1.0, 0.2], [-1.0, 0.5]], dtype=torch.float64)
    gradients[1] *= ratio
    result = weights_of(TorchJDAggregator("upgrad"), gradients) @ gradients
    assert torch.cosine_similarity(result, gradients[1], dim=0) > -1e-3
    assert torch.cosine_similarity(result, gradients[0], dim=0) > 0


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("c", [0.2, 0.9])
@pytest.mark.parametrize("seed", range(2))
def test_cagrad_solves_its_dual(m, c, seed):
    gradients = gradients_of(m, 6, seed).numpy()
    mean = gradients.mean(axis=0)

    def dual(w):
        return w @ gradients @ mean + c * np.linalg.norm(mean) * np.linalg.norm(w @ gradients)

    found = minimize(dual, np.full(m, 1 / m), method="SLSQP", bounds=[(0, 1)] * m, options={"ftol": 1e-14},
                     constraints={"type": "eq", "fun": lambda w: w.sum() - 1})  # fmt: skip
    step = found.x @ gradients
    expected = mean + c * np.linalg.norm(mean) * step / np.linalg.norm(step)
    weights = weights_of(TorchJDAggregator("cagrad", radius=c), torch.from_numpy(gradients))
    result = (weights @ torch.from_numpy(gradients)).numpy() * (1 + c) / m
    worst = min(gradients @ expected) - 1e-3 * np.abs(gradients @ expected).max()  # the solver's accuracy
    assert min(gradients @ result) >= worst, "the worst-off is served as well"
    assert np.linalg.norm(result - mean) == pytest.approx(c * np.linalg.norm(mean), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(m=st.integers(1, 5), seed=st.integers(0, 1000), exponent=st.sampled_from([-15, 0, 15]))
def test_properties(name, m, seed, exponent):
    gradients = gradients_of(m, 6, seed)
    weights = weights_of(TorchJDAggregator(name), gradients)
    assert torch.isfinite(weights).all()
    scaled = weights_of(TorchJDAggregator(name), gradients * 10.0**exponent)
    torch.testing.assert_close(scaled, weights, atol=1e-5, rtol=1e-5)
    alike = weights_of(TorchJDAggregator(name), gradients[:1].expand(m, -1))
    torch.testing.assert_close(alike.sum(), torch.tensor(float(m), dtype=torch.float64), atol=1e-4, rtol=1e-4)
    # A sub-model that has no gradient in a group (a detached classifier) does not change what the others get.
    with_absent = weights_of(TorchJDAggregator(name), torch.cat((gradients, torch.zeros(1, 6, dtype=torch.float64))))
    assert torch.isfinite(with_absent).all()
    assert with_absent[-1] == 0
    if name != "gradvac":  # which draws other orders for another number
        torch.testing.assert_close(with_absent[:m] @ gradients, weights @ gradients, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_at_all_and_opposite_gradients_are_finite(name):
    for gradients in (torch.zeros(3, 4), torch.tensor([[1.0, 0], [-1, 0]]), torch.tensor([[1.0, 0], [-1, 0], [0, 1]])):
        assert torch.isfinite(weights_of(TorchJDAggregator(name), gradients.double())).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_an_overflow_spoils_its_own_group_and_stops_nothing(name, value):
    """The gradient scaler finds it in the gradients, and skips the step."""
    good = gradients_of(3, 5, 0)
    bad = good.clone()
    bad[1, 2] = value
    grams = torch.stack([g @ g.T for g in (good, bad)]).unsqueeze(1)
    aggregator = TorchJDAggregator(name)
    weights = aggregator(grams, torch.Generator().manual_seed(0))
    alone = TorchJDAggregator(name)(grams[:1], torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights[0], alone[0])
    assert weights[1].isnan().all()
    for targets in aggregator.state_dict().values():
        assert targets[0].any(), "gradvac has learnt of the first group, and nothing of the second"
        assert not targets[1].any()


@pytest.mark.parametrize("name", NAMES)
def test_groups_are_independent(name):
    sets = [gradients_of(3, 5, seed) for seed in range(4)]
    grams = torch.stack([(g @ g.T).unsqueeze(0) for g in sets])
    together = TorchJDAggregator(name)(grams, torch.Generator().manual_seed(1))
    apart = [TorchJDAggregator(name)(g.unsqueeze(0), torch.Generator().manual_seed(1)) for g in grams]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("name", "package"), [("mgda", "torchjd"), ("upgrad", "qpsolvers"), ("cagrad", "cvxpy")])
def test_a_package_that_is_missing_is_named(name, package, monkeypatch):
    if package == "torchjd":
        monkeypatch.setitem(sys.modules, "torchjd", None)
    else:
        monkeypatch.setattr("torchjd._mixins.find_spec", lambda key: None if key == package else True)
    with pytest.raises(InputError, match=rf"NAME: needs pip install .*\[torchjd\].*{package}.*found '{name}'"):
        TorchJDAggregator(name)
