"""The compiled step on a GPU; the last of the files, since compiling takes longest."""

import pytest
import torch

from loops import make_loop, train

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("mode", ["aot_eager", "cudagraphs", "reduce-overhead"])
def test_the_compiled_step_trains_as_the_other(mode, caplog):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with caplog.at_level("WARNING"):
        compiled = train(make_loop("MODEL.SWITCHABLE.COMPILE", mode), 8)
    assert not [r for r in caplog.records if "COMPILE" in r.getMessage()]
    assert compiled == pytest.approx(train(make_loop(), 8), rel=0.02)
