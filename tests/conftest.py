"""Every test starts from the same random state; FastReID is imported through the plug-in's shims."""

import random
import signal

import numpy as np
import pytest
import torch
from hypothesis import settings

import switchablecompat  # noqa: F401  # before anything of FastReID

# The same examples in every run: a new one may fail on the machine of whoever looks for it, not in CI.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a shell's background job; children would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # tensors are small here; threads that wait for each other cost more than they bring


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
