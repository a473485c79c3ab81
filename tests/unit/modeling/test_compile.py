"""The stance on torch.compile: an extracted sub-model is one graph; the switchable network is one graph per width.

Dynamo does the tracing whatever the backend; here its graphs run as they are, so that features must stay bit-equal.
"""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from builders import images, tiny_model
from switchablecompat.evaluation.features import inference_mode
from switchablecompat.modeling import extract_submodel


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("width", [0.25, 1.0])
def test_an_extracted_submodel_is_one_graph_for_all_batch_sizes(width):
    plain = extract_submodel(tiny_model().eval(), width)
    counter = CompileCounter()
    compiled = torch.compile(copy.deepcopy(plain).backbone, backend=counter, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for n in (2, 3, 8):
            x = images(n)
            assert torch.equal(compiled(x), plain.backbone(x))
    assert counter.frame_count == 1


def test_the_switchable_network_compiles_once_for_each_width():
    model = tiny_model().eval()
    counter = CompileCounter()
    compiled = torch.compile(model.backbone, backend=counter, fullgraph=True)
    x = images(2)
    with inference_mode(model):
        for _ in range(2):
            for index in range(len(model.switch)):
                with model.switch.use(index):
                    assert torch.equal(compiled(x), model.backbone(x)), model.switch.name
    assert counter.frame_count == len(model.switch)
