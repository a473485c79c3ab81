"""The margins are FastReID's own, in values and gradients; a layer of another class is called as it is."""

import pytest
import torch
from fastreid.layers import any_softmax

from switchablecompat.modeling.margins import with_margin

SHAPE = (6, 5)
TARGETS = torch.tensor([0, 4, 2, 2, 1, 3])


def cosines():
    return (
        torch.rand(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1.9 - 0.95
    ).requires_grad_()


@pytest.mark.parametrize("kind", ["Linear", "CosSoftmax", "ArcSoftmax", "CircleSoftmax"])
def test_values_and_gradients_are_fastreids(kind):
    layer = getattr(any_softmax, kind)(num_classes=SHAPE[1], scale=16, margin=0.35)
    mine, theirs = cosines(), cosines()
    found, expected = with_margin(layer, mine, TARGETS), layer(theirs.clone(), TARGETS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    direction = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for output in (found, expected):
        (output * direction).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_a_layer_of_ones_own_is_called_on_a_copy():
    class Own(any_softmax.CosSoftmax):
        def forward(self, logits, targets):
            return logits.mul_(self.s).add_(targets[:, None])

    logits = cosines()
    before = logits.detach().clone()
    found = with_margin(Own(num_classes=SHAPE[1], scale=2, margin=0.1), logits, TARGETS)
    torch.testing.assert_close(found, 2 * before + TARGETS[:, None])
    assert torch.equal(logits, before)
