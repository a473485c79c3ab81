"""Which numbers are projected together: groups of a small network written down by hand, one element after the other."""

import pytest
import torch
from torch import nn

from builders import tiny_model
from switchablecompat.aggregation import GradientAggregation, GradientProjection, gram
from switchablecompat.layers import SharedParameter, shared_parameters

# Three sub-models. Shells: the smallest sub-model that owns an element.
PARAMETERS = {  # name: shape
    "conv.weight": (3, 2, 1, 2),
    "fc.weight": (3, 4),
    "fc.bias": (3,),
    "attention.in_proj_weight": (3, 3),
    "attention.in_proj_bias": (3,),
    "pool.p": (1,),
    "block.gamma": (4,),
    "odd.bias": (2,),
    "depthwise.weight": (3, 1, 1, 1),
    "heads.weight": (2, 4),
}
SHELLS = {
    "fc.weight": [
        [0, 1, 2, 2],
        [1, 1, 2, 2],
        [2, 2, 2, 2],
    ],  # the smallest owns one number of the first row and its bias
    "fc.bias": [0, 1, 2],
    "attention.in_proj_weight": [[0, 1, 2], [1, 1, 2], [2, 2, 2]],
    "attention.in_proj_bias": [0, 1, 2],
}
# By hand: what is projected together with GRANULARITY filter; every other number is summed.
FILTERS = [
    *([("conv.weight", (k,))] for k in range(3)),
    *([("fc.weight", (k,)), ("fc.bias", (k,))] for k in range(3)),
    *([("attention.in_proj_weight", (k,)), ("attention.in_proj_bias", (k,))] for k in range(3)),
    *([("heads.weight", (k,))] for k in range(2)),
]


def network():
    shared = []
    for name, shape in PARAMETERS.items():
        shells = torch.tensor(SHELLS[name]) if name in SHELLS else None
        shared.append(SharedParameter(name, nn.Parameter(torch.zeros(shape)), shells))
    return shared


def gradients_of(shared, seed, m=3):
    """For each sub-model a gradient by name, zero on what it does not own."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(m):
        own = {}
        for p in shared:
            gradient = torch.randn(p.parameter.shape, generator=generator)
            own[p.name] = gradient if p.shells is None else gradient * (p.shells <= index)
        found.append(own)
    return found


def aggregated(shared, gradients, granularity, factors=None, **options):
    aggregation = GradientAggregation(
        shared, ["a", "b", "c"], GradientProjection(**options), granularity=granularity, seed=1
    )
    for index, own in enumerate(gradients):
        for p in shared:
            p.parameter.grad = own[p.name].clone()
        aggregation.collect(index, 1.0 if factors is None else factors[index])
    aggregation.aggregate(0)
    return {p.name: p.parameter.grad for p in shared}


def pcgrad(vectors, owners, orders, shares=None):
    """Algorithm 1 of PCGrad on vectors, each pair on what both own."""
    total = torch.zeros_like(vectors[0])
    for i, order in enumerate(orders.tolist()):
        v = vectors[i].clone()
        for j in order:
            common = (owners <= min(i, j)).to(v)
            product = (v * vectors[j] * common).sum()
            if product < 0:
                share = 1.0 if shares is None else shares[i][j]
                v = v - share * product / (vectors[j] * common).square().sum() * vectors[j] * common
        total += v
    return total


def by_hand(shared, gradients, shares=None):
    orders = gram.random_orders(3, torch.Generator().manual_seed(1_000_003))
    expected = {p.name: sum(own[p.name] for own in gradients).double() for p in shared}
    shells = {p.name: torch.zeros(p.parameter.shape) if p.shells is None else p.shells for p in shared}
    for group in FILTERS:
        vectors = [torch.cat([own[name][k].flatten() for name, k in group]).double() for own in gradients]
        owners = torch.cat([shells[name][k].flatten() for name, k in group])
        result = pcgrad(vectors, owners, orders, shares)
        sizes = [shells[name][k].numel() for name, k in group]
        for (name, k), piece in zip(group, result.split(sizes), strict=True):
            expected[name][k] = piece.view_as(expected[name][k])
    return expected


@pytest.mark.parametrize("seed", range(6))
def test_filters_are_those_written_down_by_hand(seed):
    shared = network()
    gradients = gradients_of(shared, seed)
    found, expected = aggregated(shared, gradients, "filter"), by_hand(shared, gradients)
    for name in PARAMETERS:
        torch.testing.assert_close(found[name].double(), expected[name], atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("factors", [(1.0, 1.0, 1.0), (1 / 673, 0.5, 1.0), (2.0, 1.0, 0.25), (0.0, 1.0, 3.0)])
def test_a_loss_gives_up_in_proportion_to_what_the_other_counts(seed, factors):
    shared = network()
    gradients = [
        {name: factor * g for name, g in own.items()}
        for own, factor in zip(gradients_of(shared, seed), factors, strict=True)
    ]
    shares = [[min(1.0, other / own) if own else float(other > 0) for other in factors] for own in factors]
    found, expected = aggregated(shared, gradients, "filter", factors), by_hand(shared, gradients, shares)
    for name in PARAMETERS:
        torch.testing.assert_close(found[name].double(), expected[name], atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("granularity", ["filter", "tensor", "layer"])
def test_single_numbers_are_summed(granularity):
    """(10, 5, 8, -0.01): PCGrad of numbers with mixed signs is exactly zero."""
    p = SharedParameter("pool.p", nn.Parameter(torch.zeros(1)), None)
    rows = SharedParameter("fc.weight", nn.Parameter(torch.zeros(2, 2)), torch.tensor([[0, 3], [0, 3]]))
    aggregation = GradientAggregation([p, rows], ["a", "b", "c", "d"], GradientProjection(), granularity=granularity)
    for index, value in enumerate((10.0, 5.0, 8.0, -0.01)):
        p.parameter.grad = torch.tensor([value])
        rows.parameter.grad = torch.tensor([[value, 0.0], [value, 0.0]])
        aggregation.collect(index)
    aggregation.aggregate(0)
    assert p.parameter.grad.item() == pytest.approx(22.99)
    if granularity == "filter":  # the smaller sub-models have one number of each row
        torch.testing.assert_close(rows.parameter.grad[:, 0], torch.tensor([22.99, 22.99]))


@pytest.mark.parametrize("granularity", ["filter", "tensor"])
def test_every_number_of_a_real_network_can_move(granularity):
    """GeM's exponent and SE's small layers, whose sub-models share one number, among them."""
    model = tiny_model("MODEL.BACKBONE.WITH_SE", True, "MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPoolingP")
    shared = shared_parameters(model)
    assert "heads.pool_layer.p" in {p.name for p in shared}
    names = model.switch.names
    aggregation = GradientAggregation(shared, names, GradientProjection(), granularity=granularity)
    generator = torch.Generator().manual_seed(0)
    for index in range(len(names)):
        for p in shared:
            gradient = torch.randn(p.parameter.shape, generator=generator)
            p.parameter.grad = gradient if p.shells is None else gradient * (p.shells <= index)
        aggregation.collect(index)
    aggregation.aggregate(0)
    # what several own: random numbers do not cancel by chance (a sum of four is below 1e-4 in one of 50,000)
    stuck = {p.name: int((p.parameter.grad.abs() < 1e-6).sum()) for p in shared}
    assert sum(stuck.values()) <= 2, stuck


def test_a_factor_of_zero_is_the_sub_model_left_out_and_small_ones_come_close():
    shared = network()
    plain = gradients_of(shared, 3)
    nothing = {name: torch.zeros_like(g) for name, g in plain[0].items()}
    without = aggregated(shared, [nothing, *plain[1:]], "filter")
    distances = []
    for factor in (0.0, 1e-6, 1e-3, 1e-1):
        scaled = [{name: factor * g for name, g in plain[0].items()}, *plain[1:]]
        found = aggregated(shared, scaled, "filter", (factor, 1.0, 1.0))
        distances.append(max((found[name] - without[name]).abs().max().item() for name in PARAMETERS))
    assert distances[0] < 1e-6
    assert distances[0] <= distances[1] < 1e-4 < distances[3]
    assert distances == sorted(distances)


def test_equal_factors_are_pcgrad_whatever_their_size():
    shared = network()
    gradients = gradients_of(shared, 4)
    plain = aggregated(shared, gradients, "filter")
    for factor in (1e-3, 7.0):
        scaled = [{name: factor * g for name, g in own.items()} for own in gradients]
        found = aggregated(shared, scaled, "filter", (factor,) * 3)
        for name in PARAMETERS:
            torch.testing.assert_close(found[name] / factor, plain[name], atol=1e-5, rtol=1e-4)


def test_the_aggregate_is_continuous_in_the_factors():
    """Also where two factors change places. Gradients are fixed, so only the shares move."""
    _, orders = None, gram.random_orders(3, torch.Generator().manual_seed(0))
    g = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    grams = gram.full_grams((g @ g.T).unsqueeze(0))
    before = None
    for step in range(401):
        factors = torch.tensor([step / 200, 1.0, 0.5], dtype=torch.float64)
        weights = gram.projection_coefficients(grams, orders, gram.yields(factors)).sum(dim=-2)
        assert (weights >= 1 - 1e-12).all()
        assert before is None or (weights - before).abs().max() < 0.2  # half of all the way would be a jump of 0.5
        before = weights


def test_the_full_model_can_be_protected():
    """Its gradient stays as it is; each other one gives up what conflicts with it, and nothing else."""
    shared = network()
    gradients = gradients_of(shared, 2)
    found = aggregated(shared, gradients, "filter", protect="full")
    name, k = "conv.weight", 1
    a, b, c = (own[name][k].flatten().double() for own in gradients)
    expected = c + sum(v - min(0.0, (v @ c / (c @ c)).item()) * c for v in (a, b))
    torch.testing.assert_close(found[name][k].flatten().double(), expected, atol=1e-6, rtol=1e-5)


def of_two(gradients, class_factors=None, **options):
    """A classifier of two classes and a trunk of two numbers, both of two sub-models; ``.grad`` of both.

    ``gradients``: of the classifier, from each sub-model; None: its loss does not reach it.
    """
    weight = SharedParameter("heads.weight", nn.Parameter(torch.zeros(2, 2)), None)
    trunk = SharedParameter("conv.weight", nn.Parameter(torch.zeros(1, 2)), torch.tensor([[0, 1]]))
    aggregation = GradientAggregation(
        [trunk, weight], ["a", "b"], GradientProjection(), class_vectors="heads.weight",
        **{"granularity": "none", **options},
    )  # fmt: skip
    for index, gradient in enumerate(gradients):
        weight.parameter.grad = None if gradient is None else torch.tensor(gradient)
        trunk.parameter.grad = torch.tensor([[1.0, float(index)]])
        aggregation.collect(index)
    aggregation.aggregate(0, class_factors)
    return trunk.parameter.grad, weight.parameter.grad


CONFLICT = ([[1.0, 0.0], [1.0, 0.0]], [[-1.0, 1.0], [-1.0, 1.0]])


@pytest.mark.parametrize("granularity", ["none", "filter"])
def test_class_vectors_may_count_by_class(granularity):
    """A factor of each class and sub-model scales its gradient there, and with it what the others give up to it."""
    factors = torch.tensor([[0.0, 1.0], [0.5, 1.0]])
    trunk, weight = of_two(CONFLICT, factors, exceptions={"heads.weight": granularity})
    torch.testing.assert_close(trunk, torch.tensor([[2.0, 1.0]]))
    torch.testing.assert_close(weight[0], torch.tensor([-1.0, 1.0]))  # class 0: the second alone
    if granularity == "none":
        torch.testing.assert_close(weight[1], torch.tensor([-0.5, 1.0]))
    else:  # a = (1/2, 0) gives up all to b: a + b/4; b gives up half of what conflicts: b + (1/2)(1/2)/(1/4) a = b + a
        torch.testing.assert_close(weight[1], torch.tensor([2 * 0.5 - 1.25, 1.25]))


def test_a_mean_is_over_those_that_train_an_element():
    sums = of_two(CONFLICT)
    trunk, weight = of_two(CONFLICT, mean="classifier")
    assert torch.equal(trunk, sums[0])
    assert torch.equal(weight, sums[1] / 2)
    trunk, weight = of_two(CONFLICT, mean="all")
    assert torch.equal(trunk, torch.tensor([[1.0, 1.0]])), "the second number belongs to the full model alone"
    assert torch.equal(weight, sums[1] / 2)
    by_one = (None, CONFLICT[1])
    for mean in ("classifier", "all"):
        assert torch.equal(of_two(by_one, mean=mean)[1], torch.tensor(CONFLICT[1])), "the second alone trains it"
    shares = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    assert torch.equal(of_two(CONFLICT, shares, mean="all")[1], of_two(CONFLICT, shares)[1]), (
        "shares are a mean already"
    )
