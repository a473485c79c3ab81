"""The whole way from ``.grad`` to ``.grad`` on a real switchable model, against loops over plain vectors."""

import pytest
import torch

from builders import TINY, batch, tiny_config, tiny_model
from switchablecompat.aggregation import (
    GradientAggregation,
    GradientProjection,
    SumAggregator,
    build_aggregation,
    gradient_bank,
    gram,
    segment_sums,
)
from switchablecompat.layers import shared_parameters

ITERATION = 11
MOBILENET = "configs/Manifest/sfsc_MobileNetV2.yml"


def gradients_of_each_width(model, data):
    """Per width: name -> gradient (zeros where there is none), by ordinary autograd."""
    images, found = model.preprocess_image(data), []
    for index in range(len(model.switch)):
        model.zero_grad(set_to_none=True)
        losses, _ = model.submodel_losses(images, data["targets"], index)
        sum(losses.values()).backward()
        found.append(
            {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
        )
    model.zero_grad(set_to_none=True)
    return found


def aggregate(model, data, aggregation):
    images = model.preprocess_image(data)
    for index in range(len(model.switch)):
        losses, _ = model.submodel_losses(images, data["targets"], index)
        sum(losses.values()).backward()
        aggregation.collect(index)
    return aggregation.aggregate(ITERATION)


def make(model, aggregator, granularity, summed=(), seed=5):
    return GradientAggregation(
        shared_parameters(model), model.switch.names, aggregator, granularity=granularity,
        exceptions=dict.fromkeys(summed, "none"), seed=seed,
    )  # fmt: skip


def loop_over_vectors(model, gradients, support, granularity, orders, summed):
    """PCGrad group by group on flat vectors, masks from the owned elements."""
    shared = shared_parameters(model)
    if granularity == "filter":
        return loop_over_filters(model, gradients, support, orders, summed)
    group_of = {"global": lambda n: "", "layer": lambda n: n.rpartition(".")[0], "tensor": lambda n: n}[granularity]
    groups = {}
    for p in shared:
        groups.setdefault("+" if p.name in summed else group_of(p.name), []).append(p)
    expected, conflicts, pairs = {}, 0, 0
    for group, members in groups.items():
        flat = [torch.cat([g[p.name].flatten() for p in members]).double() for g in gradients]
        owner = torch.cat(
            [torch.zeros(p.parameter.numel()) if p.shells is None else p.shells.flatten() for p in members]
        )
        total = torch.zeros_like(flat[0])
        for i, order in enumerate(orders.tolist()):
            v = flat[i].clone()
            for j in order:
                mask = (owner <= min(i, j)).double() if support == "pairwise" else torch.ones_like(v)
                product = (v * flat[j] * mask).sum()
                if group != "+" and product < 0:
                    v = v - product / (flat[j] * mask).square().sum() * flat[j] * mask
            total += v
        if group != "+":
            for i in range(len(flat)):
                for j in range(i):
                    pairs, conflicts = pairs + 1, conflicts + int((flat[i] * flat[j]).sum() < 0)
        for p, piece in zip(members, total.split([p.parameter.numel() for p in members]), strict=True):
            expected[p.name] = piece.view_as(p.parameter)
    return expected, conflicts / pairs


def loop_over_filters(model, gradients, support, orders, summed):
    """The same, one output channel of one tensor after the other."""
    expected, conflicts, pairs = {}, 0, 0
    for p in shared_parameters(model):
        own = torch.stack([g[p.name] for g in gradients]).double()
        owner = torch.zeros(p.parameter.shape) if p.shells is None else p.shells
        result = own.sum(dim=0)
        for k in range(p.parameter.shape[0]) if p.name not in summed else ():
            flat, total = own[:, k].flatten(1), torch.zeros_like(own[0, k].flatten())
            for i, order in enumerate(orders.tolist()):
                v = flat[i].clone()
                for j in order:
                    mask = (owner[k].flatten() <= (min(i, j) if support == "pairwise" else 9)).double()
                    product = (v * flat[j] * mask).sum()
                    if product < 0:
                        v = v - product / (flat[j] * mask).square().sum() * flat[j] * mask
                    both = bool(j < i and flat[i].any() and flat[j].any())
                    pairs, conflicts = pairs + both, conflicts + int(both and (flat[i] * flat[j]).sum() < 0)
                total += v
            result[k] = total.view_as(result[k])
        expected[p.name] = result
    return expected, conflicts / pairs


@pytest.mark.parametrize("support", ["full", "pairwise"])
@pytest.mark.parametrize("granularity", ["global", "layer", "tensor", "filter"])
@pytest.mark.parametrize("summed", [(), ("heads.weight",)])
def test_projection_equals_a_loop_over_vectors(support, granularity, summed):
    model = tiny_model("MODEL.SWITCHABLE.CLASSIFIER_GRAD", "all").train()
    data = batch()
    gradients = gradients_of_each_width(model, data)
    scalars = aggregate(model, data, make(model, GradientProjection(support), granularity, summed))
    orders = gram.random_orders(4, torch.Generator().manual_seed(5 * 1_000_003 + ITERATION))
    expected, rate = loop_over_vectors(model, gradients, support, granularity, orders, summed)
    for p in shared_parameters(model):
        torch.testing.assert_close(p.parameter.grad.double(), expected[p.name], atol=1e-6, rtol=1e-4, msg=p.name)
    assert scalars["conflict_rate"].item() == pytest.approx(rate)
    if granularity != "global":
        assert rate > 0, "this test needs conflicts to mean anything"


def test_conflicts_are_also_counted_by_part_of_the_network():
    model = tiny_model("MODEL.SWITCHABLE.CLASSIFIER_GRAD", "all").train()
    data = batch()
    gradients = gradients_of_each_width(model, data)
    scalars = aggregate(model, data, make(model, GradientProjection("full"), "tensor", ()))
    parts = {key.removeprefix("conflict_rate_") for key in scalars if key.startswith("conflict_rate_")}
    assert parts == {".".join(p.name.split(".")[:2]) for p in shared_parameters(model) if p.parameter.numel() > 1}
    flat = [g["heads.weight"].double().flatten() for g in gradients]
    products = [flat[i] @ flat[j] for i in range(4) for j in range(i)]
    assert scalars["conflict_rate_heads.weight"].item() == sum(bool(p < 0) for p in products) / 6


@pytest.mark.parametrize("granularity", ["global", "filter"])
def test_columns_are_cut_where_memory_ends(granularity, monkeypatch):
    """Segments longer than a chunk, and chunks of several segments that do not divide their number."""
    monkeypatch.setattr(segment_sums, "_CHUNK", 50)
    test_projection_equals_a_loop_over_vectors("pairwise", granularity, ("heads.weight",))


@pytest.mark.parametrize("granularity", ["global", "layer", "filter"])
@pytest.mark.parametrize("piece", [7, segment_sums._PIECE])
def test_a_gpus_sums_equal_the_loop_too(granularity, piece, monkeypatch):
    monkeypatch.setattr(segment_sums, "_PIECE", piece)
    monkeypatch.setattr(gradient_bank, "segment_sums", segment_sums.RaggedSums)
    test_projection_equals_a_loop_over_vectors("pairwise", granularity, ("heads.weight",))


def test_sum_is_ordinary_joint_training():
    model = tiny_model().train()
    data = batch()
    sum(model(data).values()).backward()
    joint = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    aggregate(model, data, make(model, SumAggregator(), "global"))
    for name, p in model.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(p.grad, joint[name], atol=1e-6, rtol=1e-5, msg=name)


def test_private_gradients_stay_and_diagnostics_are_right():
    model = tiny_model().train()
    data = batch()
    gradients = gradients_of_each_width(model, data)
    scalars = aggregate(model, data, make(model, GradientProjection(), "layer"))
    shared = [p.name for p in shared_parameters(model)]
    flat = [torch.cat([g[name].flatten() for name in shared]).double() for g in gradients]
    for i, name in enumerate(model.switch.names):
        assert scalars[f"grad_norm_{name}"].item() == pytest.approx(flat[i].norm().item(), rel=1e-5)
    cosine = torch.nn.functional.cosine_similarity(flat[0], flat[3], dim=0).item()
    assert scalars["grad_cosine_w025_w100"].item() == pytest.approx(cosine, abs=1e-6)
    for name, p in model.named_parameters():
        if p.requires_grad and name not in shared:
            assert torch.equal(p.grad, sum(g[name] for g in gradients)), name


@pytest.mark.parametrize("config_file", [TINY, MOBILENET], ids=["ResNet", "depthwise"])
@pytest.mark.parametrize("granularity", ["global", "filter"])
def test_channels_last_weights_get_gradients_of_their_own_memory_format(config_file, granularity):
    """A fused optimiser walks through memory: on a GPU it refuses other strides, on a CPU it mixes elements up."""
    found = []
    for last in (False, True):
        torch.manual_seed(0)
        opts = ("MODEL.SWITCHABLE.CHANNELS_LAST", last, "MODEL.BACKBONE.PRETRAIN", False)
        model = tiny_model(*opts, config_file=config_file)
        aggregation = make(model, GradientProjection(), granularity)
        generator = torch.Generator().manual_seed(1)
        for index in range(len(model.switch)):
            for p in shared_parameters(model):
                gradient = torch.randn(p.parameter.shape, generator=generator)
                owned = gradient if p.shells is None else gradient * (p.shells <= index)
                p.parameter.grad = torch.empty_like(p.parameter).copy_(owned)
            aggregation.collect(index)
        scalars = aggregation.aggregate(ITERATION)
        assert all(p.parameter.grad.stride() == p.parameter.stride() for p in shared_parameters(model))
        found.append((scalars, {p.name: p.parameter.grad.clone() for p in shared_parameters(model)}))
    assert any(not gradient.is_contiguous() for gradient in found[1][1].values())
    assert {k: v.item() for k, v in found[1][0].items()} == pytest.approx({k: v.item() for k, v in found[0][0].items()})
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, msg=name)


def test_the_same_iteration_and_seed_give_the_same_result_and_others_differ():
    model = tiny_model("MODEL.SWITCHABLE.CLASSIFIER_GRAD", "all").train()
    data = batch()

    def result(seed):
        aggregate(model, data, make(model, GradientProjection("full"), "tensor", seed=seed))
        grads = torch.cat([p.parameter.grad.flatten() for p in shared_parameters(model)])
        model.zero_grad(set_to_none=True)
        return grads

    assert torch.equal(result(5), result(5))
    assert any(not torch.equal(result(5), result(seed)) for seed in range(6, 10))


def test_memory_is_what_each_sub_model_owns_and_collect_frees_grad():
    model = tiny_model().train()
    aggregation = make(model, GradientProjection(), "layer")
    shared = shared_parameters(model)
    owned = [sum(p.parameter.numel() if p.shells is None else int((p.shells <= i).sum()) for p in shared)
             for i in range(4)]  # fmt: skip
    assert [row.numel() for row in aggregation.bank.rows] == owned
    assert owned[0] < owned[3] / 4
    data = batch()
    losses, _ = model.submodel_losses(model.preprocess_image(data), data["targets"], 0)
    sum(losses.values()).backward()
    aggregation.collect(0)
    assert all(p.parameter.grad is None for p in shared)


def test_unknown_granularity_is_named():
    model = tiny_model()
    with pytest.raises(ValueError, match="granularity must be one of .* found 'block'"):
        make(model, SumAggregator(), "block")


@pytest.mark.parametrize("trained_by", ["full", "all"])
def test_a_mean_of_all_gradients_does_not_depend_on_the_granularity(trained_by):
    found = []
    for granularity in ("filter", "global"):
        opts = ["SOLVER.AGGREGATION.NAME", "sum", "SOLVER.AGGREGATION.MEAN", "all"]
        opts += ["SOLVER.AGGREGATION.GRANULARITY", granularity, "MODEL.SWITCHABLE.CLASSIFIER_GRAD", trained_by]
        torch.manual_seed(0)
        cfg = tiny_config(*opts)
        model = tiny_model(*opts)
        aggregate(model, batch(), build_aggregation(cfg, model))
        found.append({p.name: p.parameter.grad for p in shared_parameters(model)})
    assert found[0].keys() == found[1].keys()
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, msg=name)
