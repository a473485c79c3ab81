"""Two processes with gloo, through FastReID's launch, against one process that has the whole batch."""

import os
import subprocess
import sys

import pytest
import torch

import two_processes
from two_processes import SPOILED, STEPS

needs_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="gloo on the CPU; a GPU would be NCCL's")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the processes wrote."""
    folder, root = tmp_path_factory.mktemp("seen"), str(tmp_path_factory.mktemp("datasets"))
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "FASTREID_DATASETS": root, "PYTHONPATH": paths}
    command = [sys.executable, two_processes.__file__, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def seen(folder):
    """What the two processes saw, and what one alone saw."""
    return [torch.load(folder / name, weights_only=False) for name in ("2-0.pt", "2-1.pt", "1-0.pt")]


@needs_cpu
@pytest.mark.timeout(240)
def test_identities_are_numbered_alike_and_images_are_shared_out(seen):
    first, second, alone = seen
    assert first["pids"] == second["pids"] == alone["pids"]
    for mine, yours, whole in zip(first["images"], second["images"], alone["images"], strict=True):
        assert len(mine) == len(yours) == 8
        assert [path for pair in zip(mine, yours, strict=True) for path in pair] == whole


@needs_cpu
def test_processes_agree_bit_for_bit_on_gradients_orders_weights_and_parameters(seen):
    first, second, _ = seen
    assert len(first["steps"]) == STEPS
    for one, other in zip(first["steps"], second["steps"], strict=True):
        assert torch.equal(one["orders"], other["orders"])
        assert torch.equal(one["weights"], other["weights"])
        assert all(torch.equal(a, b) for a, b in zip(one["rows"], other["rows"], strict=True))
        assert all(torch.equal(value, other["parameters"][name]) for name, value in one["parameters"].items())


@needs_cpu
def test_twice_half_a_batch_is_once_a_batch(seen):
    """Each width's gradient is the mean over the processes before the Gram matrices; float32 sums in another order.

    So do losses over pairs of images. In the second step the parameters differ by rounding already.
    """
    first, _, alone = seen
    for step, (both, one) in enumerate(zip(first["steps"][: STEPS - 1], alone["steps"], strict=False)):
        assert torch.equal(both["orders"], one["orders"])
        for row, whole in zip(both["rows"], one["rows"], strict=True):
            assert (row - whole).norm() <= (1e-5, 1e-3)[step] * whole.norm(), step
        for name, value in both["parameters"].items():
            torch.testing.assert_close(value, one["parameters"][name], atol=1e-6, rtol=1e-5, msg=name)


@needs_cpu
def test_an_evaluation_sees_every_image_once(seen):
    first, second, alone = seen
    for count in (7, 1):
        assert first[f"test{count}"] == alone[f"test{count}"] == list(range(count))
        assert second[f"test{count}"] is None


@needs_cpu
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", SPOILED)
def test_all_processes_end_alike_where_one_loss_is_not_a_number(folder, kind):
    """By one and the same error, so that none waits for the other; or by skipping the step, all together."""
    first, second = (torch.load(folder / f"{kind}-{rank}.pt") for rank in range(2))
    assert first == second
    said, moved, scale = first
    assert moved == 0
    assert scale == (512 if kind == "scaled" else None)
    assert said.startswith(
        "iteration 0: loss_compat_w025 is nan, loss_asymmetric_w025 is nan (beside " if kind == "plain" else ""
    )
    assert bool(said) is (kind == "plain")
