import math

import pytest
import torch
import torch.nn.functional as F

from switchablecompat.losses import influence_loss

N, D, K = 5, 6, 4
LABELS = torch.tensor([0, 1, 2, 3, 1])


@pytest.fixture
def features():
    return torch.randn(N, D, dtype=torch.float64)


@pytest.fixture
def classifier():
    return torch.randn(K, D, dtype=torch.float64)


@pytest.mark.parametrize(("cosine", "scale"), [(False, 1.0), (False, 3.0), (True, 16.0)])
def test_it_is_the_cross_entropy_of_the_old_classifier_image_by_image(features, classifier, cosine, scale):
    total = 0.0
    for x, y in zip(features, LABELS.tolist(), strict=True):
        logits = []
        for w in classifier:
            z = sum(a * b for a, b in zip(x.tolist(), w.tolist(), strict=True))
            if cosine:
                z /= math.sqrt(sum(a * a for a in x.tolist()) * sum(b * b for b in w.tolist()))
            logits.append(scale * z)
        total += math.log(sum(math.exp(z) for z in logits)) - logits[y]
    loss = influence_loss(features, LABELS, classifier, cosine=cosine, scale=scale)
    assert loss.item() == pytest.approx(total / N, rel=1e-12)


def test_label_smoothing_is_the_recipes(features, classifier):
    epsilon = 0.1
    log_p = F.log_softmax(features @ classifier.T, dim=1)
    own = log_p[torch.arange(N), LABELS]
    expected = -((1 - epsilon) * own + epsilon / (K - 1) * (log_p.sum(1) - own)).mean()
    torch.testing.assert_close(influence_loss(features, LABELS, classifier, label_smoothing=epsilon), expected)


def test_features_get_a_gradient_and_the_old_classifier_none(features, classifier):
    features.requires_grad_(), classifier.requires_grad_()
    influence_loss(features, LABELS, classifier).backward()
    assert features.grad.abs().sum() > 0
    assert classifier.grad is None
    assert torch.autograd.gradcheck(lambda x: influence_loss(x, LABELS, classifier, cosine=True, scale=8.0), features)


def test_no_margin_is_applied():
    """A feature on its class vector has cosine 1, whatever margin its head was trained with."""
    features = 5 * torch.eye(N, dtype=torch.float64)
    loss = influence_loss(features, torch.arange(N), features.clone(), cosine=True, scale=3.0)
    assert loss.item() == pytest.approx(math.log(1 + (N - 1) * math.exp(-3)), rel=1e-12)


def test_it_stays_out_of_autocast():
    features, classifier = torch.randn(N, D).bfloat16(), torch.randn(K, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = influence_loss(features, LABELS, classifier)
    torch.testing.assert_close(loss, influence_loss(features.float(), LABELS, classifier), rtol=0, atol=0)
