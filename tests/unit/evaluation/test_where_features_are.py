"""Features are ranked where they are: ranks counted as a GPU counts them, and the CPU where a GPU has no room."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from builders import images, tiny_model
from switchablecompat.evaluation import exact_ranks, memory
from switchablecompat.evaluation.evaluator import evaluate_task
from switchablecompat.evaluation.exact_ranks import counted_ranks, ranks_by_row
from switchablecompat.evaluation.features import extract_features
from switchablecompat.evaluation.query_expansion import QueryExpansion
from switchablecompat.evaluation.refinement import Refinement
from switchablecompat.evaluation.reranking import ReRanking
from switchablecompat.evaluation.task import RetrievalTask, normalised

GPU = torch.device("cuda", 0)


def by_sorting(scores, row, col):
    """Ranks of the items of each list by one stable sort, list after list."""
    ranks = []
    for number in np.unique(row):
        order = np.argsort(-scores[number], kind="stable")
        ranks += (np.flatnonzero(np.isin(order, col[row == number])) + 1).tolist()
    return ranks


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 60)),
    share=st.floats(0, 1),
    values=st.sampled_from([1, 3, 1000]),
    block_bytes=st.sampled_from([1, 2000, 2**20]),
)
def test_counting_and_sorting_give_the_ranks_of_a_stable_sort(seed, shape, share, values, block_bytes):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-values, values + 1, shape).astype(np.float32)
    kind = rng.random(shape)
    row, col = np.nonzero(kind < share)
    scores[kind > 0.5 + share / 2] = -np.inf  # junk, never one of the items
    mixed = np.concatenate([rng.permutation(np.flatnonzero(row == number)) for number in range(shape[0])])
    row, col = row[mixed], col[mixed]
    for ranks in (counted_ranks, ranks_by_row):
        found = ranks(torch.from_numpy(scores.copy()), row, col, block_bytes=block_bytes)
        assert found.tolist() == by_sorting(scores, row, col)


def task_of(device="cpu", refined=False):
    """Two sub-models with exact, often equal similarities; with ``refined``, ones that a sort can tell apart."""
    rng = np.random.default_rng(0)
    pids, camids = (torch.from_numpy(rng.integers(high, size=200)) for high in (20, 3))
    values = [torch.from_numpy(rng.integers(-2, 3, size=(200, 4))).float() for _ in range(2)]
    if refined:
        values = normalised([torch.from_numpy(rng.standard_normal((200, 8))).float() for _ in range(2)])
    values = [value.to(device) for value in values]
    return RetrievalTask.of_images((0.5, 1.0), values, (pids, camids), slice(50), slice(50, None), dataset="toy")


def test_a_grid_whose_ranks_are_counted_is_the_cpus(monkeypatch):
    """What a GPU does, here on the CPU: everything but the device."""
    expected, queries = evaluate_task(task_of())
    monkeypatch.setattr(exact_ranks, "ranks_of", None)
    monkeypatch.setattr("switchablecompat.evaluation.ranking.ranks_by_row", counted_ranks)
    grid, counted = evaluate_task(task_of())
    assert grid == expected
    np.testing.assert_array_equal(counted.first_hit_rank, queries.first_hit_rank)
    np.testing.assert_array_equal(counted.average_precision, queries.average_precision)


@pytest.fixture
def limit(monkeypatch):
    """Set the memory that a GPU says it has left."""
    return lambda size: monkeypatch.setattr(memory, "free_bytes", lambda device: size)


def test_features_stay_on_a_gpu_that_has_room_for_them_and_for_ranking(limit):
    with FakeTensorMode(allow_non_fake_inputs=True):  # tensors without content, on a device that need not be there
        values = [torch.empty(100, 8, device=GPU) for _ in range(2)]
        limit(memory.BLOCKS + 2 * 100 * 8 * 4)
        assert [value.device for value in normalised(values)] == [GPU, GPU]
        limit(memory.BLOCKS + 2 * 100 * 8 * 4 - 1)
        assert [value.device.type for value in normalised(values)] == ["cpu", "cpu"]


def test_features_of_a_run_are_kept_where_they_fit(limit, monkeypatch):
    asked = []
    monkeypatch.setattr("switchablecompat.evaluation.features.roomy", lambda *a: asked.append(a) or torch.device("cpu"))
    model = tiny_model("MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]")
    batch = {"images": images(8), "targets": torch.arange(8), "camids": torch.zeros(8)}
    features = extract_features(model, [batch, batch, {key: value[:2] for key, value in batch.items()}])
    (width,) = {values.shape[1] for values in features.values}
    assert asked == [(torch.device("cpu"), 2 * 2 * 3 * 8 * width * 4)]  # two copies of three batches by two sub-models


@pytest.mark.parametrize(("free", "kept"), [(2**40, "cuda"), (memory.BLOCKS - 1, "cpu")])
def test_room_is_asked_for_on_a_gpu_only(limit, free, kept):
    limit(free)
    assert memory.roomy(GPU, 10**6).type == kept
    assert memory.roomy(torch.device("cpu"), 10**15).type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnAGpu:
    def test_the_grid_is_the_cpus(self):
        for refined in (False, True):
            how = Refinement(QueryExpansion(5, 1, 3.0), ReRanking(10, 4, 0.3)) if refined else None
            (expected, queries), (grid, found) = (evaluate_task(task_of(d, refined), how) for d in ("cpu", "cuda"))
            for metric, rows in expected.values.items():
                np.testing.assert_allclose(grid.values[metric], rows, atol=1e-6)
            np.testing.assert_array_equal(found.first_hit_rank, queries.first_hit_rank)

    def test_features_stay_there_while_there_is_room(self, limit):
        model = tiny_model("MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]").to("cuda")
        batch = {"images": images(8), "targets": torch.arange(8), "camids": torch.zeros(8)}
        assert {values.device.type for values in extract_features(model, [batch]).values} == {"cuda"}
        limit(0)
        assert {values.device.type for values in extract_features(model, [batch]).values} == {"cpu"}

    def test_free_memory_is_what_others_and_torch_leave(self):
        found = []
        for _ in range(10):  # other processes may take or free memory at any time
            before = memory.free_bytes(GPU)
            held = torch.empty(2**28, dtype=torch.uint8, device=GPU)
            during = memory.free_bytes(GPU)
            del held  # torch keeps it, and can give it again
            found.append((before - during >= 2**28, abs(before - memory.free_bytes(GPU)) < 2**24))
        assert (True, True) in found
