"""What the tests on a GPU share. Without one, those that take a ``device`` rehearse on the CPU; others are skipped."""

import pytest
import torch


@pytest.fixture
def device():
    """The device that is compared with the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def _gpu_or_skip(request):
    if not torch.cuda.is_available():
        if "device" not in request.fixturenames:
            pytest.skip("needs a CUDA device")
        yield
        return
    torch.cuda.manual_seed_all(0)
    former = torch.backends.cudnn.deterministic, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    (
        torch.backends.cudnn.deterministic,
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    ) = former
    torch.compiler.reset()
