"""What the tests on a GPU share; without one they are skipped."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _gpu_or_skip():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    torch.cuda.manual_seed_all(0)
    former = torch.backends.cudnn.deterministic, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    (
        torch.backends.cudnn.deterministic,
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    ) = former
    torch.compiler.reset()
