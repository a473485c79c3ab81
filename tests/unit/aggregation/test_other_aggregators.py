"""Aggregators beside projection. Oracles: TorchJD (MIT), SciPy's solvers, and the papers' formulas on plain vectors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls
from torchjd.aggregation import GradVacWeighting, IMTLGWeighting, PCGradWeighting

from switchablecompat.aggregation import GradientProjection
from switchablecompat.aggregation.common_descent import MGDA, CAGrad
from switchablecompat.aggregation.gram import random_orders
from switchablecompat.aggregation.impartial import IMTLG
from switchablecompat.aggregation.integration import ConflictAwareIntegration
from switchablecompat.aggregation.quadratic import orthant_minimum, simplex_minimum, subsets
from switchablecompat.aggregation.upgrad import UPGrad
from switchablecompat.aggregation.vaccine import GradVac

OTHERS = [MGDA, CAGrad, UPGrad, IMTLG, ConflictAwareIntegration, GradVac]


def gradients_of(m, n, seed, spread=1.0):
    """m gradients whose norms differ by up to e^spread."""
    generator = torch.Generator().manual_seed(seed)
    scales = (torch.rand(m, 1, dtype=torch.float64, generator=generator) * spread).exp()
    return torch.randn(m, n, dtype=torch.float64, generator=generator) * scales


def weights_of(aggregator, gradients, seed=0):
    """Weights [m] for one group."""
    grams = (gradients @ gradients.T).view(1, 1, len(gradients), len(gradients))
    return aggregator(grams, torch.Generator().manual_seed(seed))[0, 0]


def same_draws(call, monkeypatch, orders):
    """Run a TorchJD weighting with our random orders in place of its own."""
    # Its permutation is of positions among the others in ascending order, ours names the others themselves.
    m = len(orders)
    queue = [torch.tensor([[j for j in range(m) if j != i].index(j) for j in row]) for i, row in enumerate(orders)]
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: queue.pop(0))
    result = call()
    monkeypatch.undo()
    return result


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_projection_is_torchjds_pcgrad_with_the_same_orders(m, seed, monkeypatch):
    gradients = gradients_of(m, 3, seed)
    orders = random_orders(m, torch.Generator().manual_seed(seed)).tolist()
    ours = weights_of(GradientProjection("full"), gradients, seed)
    queue = [torch.tensor([*row, i]) for i, row in enumerate(orders)]  # it draws all m and passes over i itself
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: queue.pop(0))
    theirs = PCGradWeighting()(gradients @ gradients.T)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_gradvac_is_torchjds_over_several_steps(m, seed, monkeypatch):
    ours, theirs = GradVac(0.3), GradVacWeighting(beta=0.3, eps=0.0)
    for step in range(4):
        gradients = gradients_of(m, 4, 10 * seed + step)
        orders = random_orders(m, torch.Generator().manual_seed(step)).tolist()
        expected = same_draws(lambda g=gradients: theirs(g @ g.T), monkeypatch, orders)
        torch.testing.assert_close(weights_of(ours, gradients, step), expected, atol=1e-9, rtol=1e-9)


def test_gradvac_continues_from_its_state():
    first, resumed = GradVac(0.3), GradVac(0.3)
    for step in range(3):
        weights_of(first, gradients_of(3, 4, step), step)
    resumed.load_state_dict(first.state_dict())
    new = gradients_of(3, 4, 9)
    continued = weights_of(resumed, new)
    assert torch.equal(weights_of(first, new), continued)
    assert not torch.equal(weights_of(GradVac(0.3), new), continued)


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_imtl_g_is_torchjds_and_equal_on_every_direction(m, seed):
    gradients = gradients_of(m, 8, seed, spread=3.0)
    ours = weights_of(IMTLG(), gradients)
    torch.testing.assert_close(ours, m * IMTLGWeighting()(gradients @ gradients.T), atol=1e-8, rtol=1e-8)
    along = (ours @ gradients) @ (gradients / gradients.norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(along, along[:1].expand(m), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_mgda_is_the_shortest_combination(m, seed):
    """Karush-Kuhn-Tucker: no gradient has a smaller product with the result than the result with itself."""
    gradients = gradients_of(m, m + seed % 3 - 1, seed, spread=2.0)  # also fewer dimensions than gradients
    w = weights_of(MGDA(), gradients) / m
    assert (w >= 0).all()
    assert w.sum().item() == pytest.approx(1, abs=1e-9)
    shortest = w @ gradients
    assert (gradients @ shortest >= shortest @ shortest - 1e-7 * gradients.square().sum()).all()


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_upgrad_projects_every_gradient_onto_the_dual_cone(m, seed):
    """By non-negative least squares: the projection of g_i is g_i + J^T u, u >= 0, as short as it can be."""
    gradients = gradients_of(m, 5, seed)
    total = torch.zeros(5, dtype=torch.float64)
    for g in gradients:
        u, _ = nnls(gradients.T.numpy(), -g.numpy())
        total += g + gradients.T @ torch.from_numpy(u)
    result = weights_of(UPGrad(), gradients) @ gradients
    torch.testing.assert_close(result, total, atol=1e-6, rtol=1e-6)
    assert (gradients @ result >= -1e-7).all(), "nothing conflicts with the result"


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_cagrad_solves_its_dual(m, c, seed):
    gradients = gradients_of(m, 6, seed).numpy()
    mean = gradients.mean(axis=0)

    def dual(w):
        return w @ gradients @ mean + c * np.linalg.norm(mean) * np.linalg.norm(w @ gradients)

    found = minimize(dual, np.full(m, 1 / m), method="SLSQP", bounds=[(0, 1)] * m, options={"ftol": 1e-14},
                     constraints={"type": "eq", "fun": lambda w: w.sum() - 1})  # fmt: skip
    step = found.x @ gradients
    expected = mean + c * np.linalg.norm(mean) * step / np.linalg.norm(step)
    result = (weights_of(CAGrad(c), torch.from_numpy(gradients)) @ torch.from_numpy(gradients)).numpy() * (1 + c) / m
    assert min(gradients @ result) >= min(gradients @ expected) - 1e-6, "the worst-off is served at least as well"
    assert np.linalg.norm(result - mean) == pytest.approx(c * np.linalg.norm(mean), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_conflict_aware_integration_on_plain_vectors(seed):
    gradients, power = gradients_of(4, 5, seed), 2.0
    projected, confidence = [], []
    for i, g in enumerate(gradients):
        new = g.clone()
        for j, other in enumerate(gradients):
            if j != i and g @ other < 0:
                new = new - (g @ other) / (other @ other) * other
        projected.append(new)
        confidence.append(((torch.cosine_similarity(new, g, dim=0) + 1) / 2) ** power)
    share = torch.stack(confidence) / sum(confidence)
    expected = 4 * (share.unsqueeze(1) * torch.stack(projected)).sum(dim=0)
    result = weights_of(ConflictAwareIntegration(power), gradients) @ gradients
    torch.testing.assert_close(result, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("make", OTHERS)
@settings(max_examples=25, deadline=None)
@given(m=st.integers(1, 5), seed=st.integers(0, 1000), exponent=st.sampled_from([-15, 0, 15]))
def test_properties(make, m, seed, exponent):
    gradients = gradients_of(m, 6, seed)
    weights = weights_of(make(), gradients)
    assert torch.isfinite(weights).all()
    scaled = weights_of(make(), gradients * 10.0**exponent)
    torch.testing.assert_close(scaled, weights, atol=1e-6, rtol=1e-6)
    alike = weights_of(make(), gradients[:1].expand(m, -1))
    torch.testing.assert_close(alike.sum(), torch.tensor(float(m), dtype=torch.float64), atol=1e-6, rtol=1e-6)
    # A sub-model that has no gradient in a group (a detached classifier) does not change what the others get.
    with_absent = weights_of(make(), torch.cat((gradients, torch.zeros(1, 6, dtype=torch.float64))))
    assert torch.isfinite(with_absent).all()
    if make is not GradVac:  # which draws other orders for another number
        torch.testing.assert_close(with_absent[:m] @ gradients, weights @ gradients, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", OTHERS)
def test_nothing_at_all_and_opposite_gradients_are_finite(make):
    for gradients in (torch.zeros(3, 4), torch.tensor([[1.0, 0], [-1, 0]]), torch.tensor([[1.0, 0], [-1, 0], [0, 1]])):
        assert torch.isfinite(weights_of(make(), gradients.double())).all()


@pytest.mark.parametrize("make", OTHERS)
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_an_overflow_spoils_its_own_group_and_stops_nothing(make, value):
    """The gradient scaler finds it in the gradients, and skips the step."""
    good = gradients_of(3, 5, 0)
    bad = good.clone()
    bad[1, 2] = value
    grams = torch.stack([g @ g.T for g in (good, bad)]).unsqueeze(1)
    weights = make()(grams, torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights[0], make()(grams[:1], torch.Generator().manual_seed(0))[0])
    assert weights[1].isnan().all()


@pytest.mark.parametrize("ratio", [1e-3, 1e-5, 1e-6])
def test_upgrad_serves_a_much_smaller_gradient_too(ratio):
    gradients = torch.tensor([[1.0, 0.2], [-1.0, 0.5]], dtype=torch.float64)
    gradients[1] *= ratio
    result = weights_of(UPGrad(), gradients) @ gradients
    assert torch.cosine_similarity(result, gradients[1], dim=0) > -1e-3
    assert torch.cosine_similarity(result, gradients[0], dim=0) > 0


@pytest.mark.parametrize("make", OTHERS)
def test_groups_are_independent(make):
    sets = [gradients_of(3, 5, seed) for seed in range(4)]
    grams = torch.stack([(g @ g.T).unsqueeze(0) for g in sets])
    together = make()(grams, torch.Generator().manual_seed(1))
    apart = torch.cat([make()(g.unsqueeze(0), torch.Generator().manual_seed(1)) for g in grams])
    torch.testing.assert_close(together, apart, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_quadratic_programs_against_scipy(seed):
    J = gradients_of(4, 6, seed)
    Q, b = J @ J.T, torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def value(x):
        return 0.5 * x @ Q.numpy() @ x + b.numpy() @ x

    allowed = torch.tensor([True, True, False, True])
    limits = [(0, 1 if a else 0) for a in allowed]
    simplex = minimize(value, np.array([1, 1, 0, 1]) / 3, method="SLSQP", bounds=limits, options={"ftol": 1e-14},
                       constraints={"type": "eq", "fun": lambda w: w.sum() - 1})  # fmt: skip
    w = simplex_minimum(Q, b, allowed)
    assert value(w.numpy()) <= simplex.fun + 1e-9
    assert w[2] == 0
    orthant = minimize(value, np.ones(4), method="L-BFGS-B", bounds=[(0, None)] * 4, options={"ftol": 1e-15})
    assert value(orthant_minimum(Q, b).numpy()) <= orthant.fun + 1e-9


def test_subsets_are_all_of_them():
    assert sorted(map(tuple, subsets(3).int().tolist())) == [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]


@pytest.mark.parametrize(("make", "value"), [(CAGrad, 1.0), (GradVac, -0.1), (ConflictAwareIntegration, -1.0)])
def test_wrong_options_are_named(make, value):
    with pytest.raises(ValueError, match=f"found {value}"):
        make(value)


def test_an_overflow_leaves_no_trace_in_gradvacs_targets():
    g = torch.randn(3, 2, 4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, spoiled = GradVac(0.5), GradVac(0.5)
    for grams in (g @ g.mT).unsqueeze(2):
        plain(grams, torch.Generator().manual_seed(0))
        spoiled(grams, torch.Generator().manual_seed(0))
        spoiled(grams * torch.inf, torch.Generator().manual_seed(1))
    assert torch.equal(plain.targets, spoiled.targets)
