"""Our copies of FastReID's losses, which ask the device nothing, against FastReID's own: equal bit for bit."""

import pytest
import torch
from fastreid.modeling import losses as theirs

from switchablecompat.losses import fastreid_losses as ours


def value_and_gradient(loss, x, *options):
    x = x.clone().requires_grad_()
    value = loss(x, *options)
    value.backward()
    return value.detach(), x.grad


@pytest.mark.parametrize("epsilon", [0.0, 0.1, -1.0])
@pytest.mark.parametrize("certain", [False, True], ids=["all count", "some without loss"])
def test_cross_entropy(epsilon, certain):
    logits, labels = 5 * torch.randn(13, 31), torch.randint(0, 31, (13,))
    if certain:  # without smoothing their loss is exactly zero, and FastReID does not count them
        logits[:4] = -1e4
        logits[range(4), labels[:4]] = 1e4
    expected = value_and_gradient(theirs.cross_entropy_loss, logits, labels, epsilon, 0.2)
    found = value_and_gradient(ours.cross_entropy_loss, logits, labels, epsilon, 0.2)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_cross_entropy_without_any_loss_is_zero():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    assert ours.cross_entropy_loss(logits, torch.tensor([0, 1]), 0.0) == 0


@pytest.mark.parametrize("margin", [0.0, 0.3])
@pytest.mark.parametrize("norm_feat", [False, True])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("size", [1.0, 1e4], ids=["ordinary", "soft margin overflows"])
def test_triplet(margin, norm_feat, hard, size):
    features, labels = size * torch.randn(16, 8), torch.arange(16) // 4
    expected = value_and_gradient(theirs.triplet_loss, features, labels, margin, norm_feat, hard)
    found = value_and_gradient(ours.triplet_loss, features, labels, margin, norm_feat, hard)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert found[1].isfinite().all()
