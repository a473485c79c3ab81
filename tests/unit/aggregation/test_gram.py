"""Oracle: PCGrad as printed in its paper, a loop over flat vectors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from switchablecompat.aggregation import GradientProjection, SumAggregator, gram


def vector_loop(gradients, orders, regions=None):
    """PCGrad on vectors; ``regions[i, j]`` is a mask of the parameters that count for the pair."""
    total = torch.zeros_like(gradients[0])
    for i, order in enumerate(orders.tolist()):
        v = gradients[i].clone()
        for j in order:
            mask = torch.ones_like(v) if regions is None else regions[i][j]
            product = (v * gradients[j] * mask).sum()
            if product < 0:
                v = v - product / (gradients[j] * mask).square().sum() * gradients[j] * mask
        total += v
    return total


def nested_gradients(m, n, seed, scale=1.0):
    """m gradients of n elements, sub-model i owning a leading part (all of it for the last), and their shells."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [*sorted(torch.randint(1, n + 1, (m - 1,), generator=generator).tolist()), n]
    gradients = torch.randn(m, n, dtype=torch.float64, generator=generator) * scale
    for i, size in enumerate(sizes):
        gradients[i, size:] = 0
    shells = torch.tensor([next(i for i, size in enumerate(sizes) if e < size) for e in range(n)])
    grams = torch.stack([gradients[:, shells == r] @ gradients[:, shells == r].T for r in range(m)])
    return gradients, sizes, shells, grams


@pytest.mark.parametrize("m", [2, 3, 4, 6])
@pytest.mark.parametrize("seed", range(5))
def test_full_support_is_the_vector_loop(m, seed):
    gradients, _, _, grams = nested_gradients(m, 12, seed)
    orders = gram.random_orders(m, torch.Generator().manual_seed(seed))
    coefficients = gram.projection_coefficients(gram.full_grams(grams), orders)
    result = gram.full_weights(coefficients, m)[0] @ gradients
    torch.testing.assert_close(result, vector_loop(gradients, orders), atol=1e-12, rtol=0)


@pytest.mark.parametrize("m", [2, 3, 4, 6])
@pytest.mark.parametrize("seed", range(5))
def test_pairwise_support_is_the_vector_loop_on_common_parameters(m, seed):
    gradients, sizes, shells, grams = nested_gradients(m, 12, seed)
    orders = gram.random_orders(m, torch.Generator().manual_seed(seed))
    regions = [[(torch.arange(12) < sizes[min(i, j)]).double() for j in range(m)] for i in range(m)]
    weights = gram.pairwise_weights(gram.projection_coefficients(gram.pairwise_grams(grams), orders))
    result = (weights[shells] * gradients.T).sum(dim=1)
    torch.testing.assert_close(result, vector_loop(gradients, orders, regions), atol=1e-12, rtol=0)


def test_pairwise_never_leaves_a_sub_model():
    """v_i has parts in sub-model i only, so in the largest shell only the full model's own row counts."""
    _, _, _, grams = nested_gradients(4, 40, 3)
    orders = gram.random_orders(4, torch.Generator().manual_seed(0))
    coefficients = gram.projection_coefficients(gram.pairwise_grams(grams), orders)
    assert torch.equal(gram.pairwise_weights(coefficients)[3], coefficients[3])


def test_two_sub_models_by_hand():
    # g1 = (1, 0), g2 = (-1, 1): product -1, norms 1 and 2. v1 = g1 + g2/2, v2 = g2 + g1: weights 2 and 3/2
    grams = torch.tensor([[[1.0, -1.0], [-1.0, 2.0]]], dtype=torch.float64).unsqueeze(0)
    weights = GradientProjection("full")(grams, torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights, torch.tensor([[[2.0, 1.5]]], dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 6),
    n=st.integers(1, 20),
    seed=st.integers(0, 10_000),
    exponent=st.sampled_from([-15, -6, 0, 6, 15]),
)
def test_properties(m, n, seed, exponent):
    gradients, _, _, grams = nested_gradients(m, n, seed, 10.0**exponent)
    before = grams.clone()
    for support in ("full", "pairwise"):
        shells = grams.unsqueeze(0) if support == "pairwise" else grams.sum(0).view(1, 1, m, m)
        weights = GradientProjection(support)(shells, torch.Generator().manual_seed(seed))
        assert torch.isfinite(weights).all()
        owners = weights[0, 0]  # the region of the smallest: everyone's own gradient counts there at least once
        assert (owners >= 1 - 1e-12).all()
        unscaled = GradientProjection(support)(shells / 100.0**exponent, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(weights, unscaled, atol=1e-9, rtol=1e-9)
        if (gradients @ gradients.T >= 0).all() and (grams >= 0).all():
            assert torch.equal(weights[0, 0], torch.ones(m, dtype=torch.float64))
    assert torch.equal(grams, before)


@given(m=st.integers(1, 6), n=st.integers(1, 20), seed=st.integers(0, 10_000))
def test_without_a_conflict_every_aggregate_is_the_sum(m, n, seed):
    gradients, _, shells, _ = nested_gradients(m, n, seed)
    gradients = gradients.abs()  # no pair conflicts, on any part
    grams = torch.stack([gradients[:, shells == r] @ gradients[:, shells == r].T for r in range(m)])
    for support in ("full", "pairwise"):
        weights = GradientProjection(support)(grams.unsqueeze(0), torch.Generator().manual_seed(seed))[0]
        total = (weights.expand(m, m)[shells] * gradients.T).sum(dim=1)
        torch.testing.assert_close(total, gradients.sum(dim=0), atol=1e-12, rtol=1e-12)


def test_after_projection_a_pair_does_not_conflict():
    gradients = torch.tensor([[1.0, 0.2, 0.0], [-1.0, 1.0, 0.5]], dtype=torch.float64)
    grams = gradients @ gradients.T
    coefficients = gram.projection_coefficients(gram.full_grams(grams.view(1, 2, 2)), torch.tensor([[1], [0]]))
    projected = coefficients @ gradients
    assert grams[0, 1] < 0
    torch.testing.assert_close((projected * gradients.flip(0)).sum(1), torch.zeros(2, dtype=torch.float64))


def test_zero_gradients_are_never_projected_on():
    grams = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    assert torch.equal(GradientProjection("full")(grams, torch.Generator()), torch.ones(1, 1, 3, dtype=torch.float64))


def test_groups_are_independent():
    grams = torch.stack([nested_gradients(3, 9, seed)[3] for seed in range(4)])
    for aggregator in (GradientProjection("pairwise"), SumAggregator()):
        together = aggregator(grams, torch.Generator().manual_seed(1))
        apart = torch.cat([aggregator(g.unsqueeze(0), torch.Generator().manual_seed(1)) for g in grams])
        assert torch.equal(together, apart)


def test_orders_are_permutations_of_the_others_and_seeded():
    orders = gram.random_orders(5, torch.Generator().manual_seed(3))
    assert [sorted([i, *row]) for i, row in enumerate(orders.tolist())] == [list(range(5))] * 5
    assert torch.equal(orders, gram.random_orders(5, torch.Generator().manual_seed(3)))
    assert not torch.equal(orders, gram.random_orders(5, torch.Generator().manual_seed(4)))
    assert gram.random_orders(1, torch.Generator()).shape == (1, 0)


def test_diagnostics():
    gradients = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.1], [0.0, 0.0]], dtype=torch.float64)
    g = gradients @ gradients.T
    one = torch.tensor([0])

    def rates(grams, part, parts):
        return gram.conflict_rates(gram.conflict_counts(grams, part, parts)).tolist()

    assert rates(g.unsqueeze(0), one, 1) == pytest.approx([2 / 3])  # (0, 2), (1, 2); g_3 is zero
    both = torch.stack((g, torch.ones(4, 4, dtype=torch.float64)))  # the second group has six pairs without a conflict
    assert rates(both, torch.tensor([0, 0]), 1) == pytest.approx([2 / 9])
    assert rates(both, torch.tensor([2, 0]), 3) == pytest.approx([0.0, 0.0, 2 / 3])
    assert gram.cosines(g)[0, 1].item() == pytest.approx(2**-0.5)
    assert gram.cosines(g)[0, 3].item() == 0
    assert rates(torch.ones(1, 1, 1), one, 1) == [0.0]


def random_grams(groups, steps, d, seed=0):
    """Gram matrices of three gradients that have nothing in common but noise, [steps, groups, 1, 3, 3]."""
    g = torch.randn(steps, groups, 3, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (g @ g.mT).unsqueeze(2)


def test_a_memory_of_what_never_changes_is_pcgrad():
    _, _, _, grams = nested_gradients(4, 12, 1)
    plain, remembering = GradientProjection(), GradientProjection(memory=0.9)
    for step in range(5):
        expected = plain(grams.unsqueeze(0), torch.Generator().manual_seed(step))
        found = remembering(grams.unsqueeze(0), torch.Generator().manual_seed(step))
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


def test_noise_is_projected_by_each_batch_and_forgotten_by_a_memory():
    """Without a common direction the right weights are 1. A batch alone gives more, the running mean comes close."""
    grams = random_grams(groups=200, steps=300, d=9)
    excess = []
    for memory in (0.0, 0.9, 0.99):
        aggregator = GradientProjection("full", memory=memory)
        weights = [aggregator(step, torch.Generator().manual_seed(0)) for step in grams]
        excess.append(torch.stack(weights[200:]).mean().item() - 1)
    # of two of nine numbers E|cos|/2 = 0.14 at each of two meetings; a mean over n batches divides by sqrt(n)
    assert 0.2 < excess[0] < 0.4
    assert excess[1] < excess[0] / 3
    assert excess[2] < excess[0] / 8


def test_a_lasting_conflict_is_found_in_noise():
    g = torch.randn(400, 3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    g[:, 0] += 0.6
    g[:, 1] -= 0.6
    grams = (g @ g.mT).view(400, 1, 1, 3, 3)
    aggregator = GradientProjection("full", memory=0.98)
    weights = [aggregator(step, torch.Generator().manual_seed(0))[0, 0] for step in grams][200:]
    # the mean inner product is -9 (0.36), the mean square of the length 9 (1.36): a share of 0.26 each
    found = torch.stack(weights).mean(dim=0)
    torch.testing.assert_close(found[:2], torch.full((2,), 1 + 0.36 / 1.36, dtype=torch.float64), atol=0.06, rtol=0)
    assert found[2].item() == pytest.approx(1.0, abs=0.06)


def test_an_overflow_leaves_no_trace_and_a_resumed_memory_goes_on():
    grams = random_grams(groups=4, steps=6, d=5)
    plain, spoiled = (GradientProjection("full", memory=0.5) for _ in range(2))
    for step in grams:
        plain(step, torch.Generator())
        spoiled(step, torch.Generator())
        spoiled(step * torch.inf, torch.Generator())
    torch.testing.assert_close(spoiled.mean, plain.mean)
    resumed = GradientProjection("full", memory=0.5)
    resumed.load_state_dict(plain.state_dict())
    weights = [one(grams[0], torch.Generator().manual_seed(3)) for one in (plain, resumed)]
    assert torch.equal(*weights)
    assert GradientProjection().state_dict() == {}


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="support must be one of .* found 'half'"):
        GradientProjection("half")
    with pytest.raises(ValueError, match="memory must be in .* found 1"):
        GradientProjection(memory=1)


@pytest.mark.parametrize("support", ["full", "pairwise"])
def test_a_sub_model_that_some_steps_leave_out_is_remembered_from_its_own_steps(support):
    """With constant gradients there is nothing to average: a memory must change nothing, whoever takes part."""
    vectors = torch.randn(4, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    vectors *= torch.arange(8) // 2 <= torch.arange(4)[:, None]  # each sub-model owns two elements more than the last
    parts = vectors.view(4, 4, 2).transpose(0, 1)  # by shell
    constant = parts @ parts.mT
    assert (constant.sum(dim=0) < 0).any()
    plain, remembering = GradientProjection(support), GradientProjection(support, memory=0.9)
    for step in range(12):
        factors = torch.tensor([1.0, step % 2, (step + 1) % 2, 1.0], dtype=torch.float64)
        grams = (constant * factors.outer(factors))[None]
        results = (a(grams, torch.Generator().manual_seed(step), factors) for a in (plain, remembering))
        ours, expected = (weights * factors for weights in results)
        torch.testing.assert_close(ours, expected)
