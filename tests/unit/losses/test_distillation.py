import pytest
import torch
import torch.nn.functional as F

from switchablecompat.losses import distillation_loss


def test_logits_by_hand():
    # full: p = (3/4, 1/4); sub-model: q = (1/2, 1/2). KL = 3/4 ln(3/2) + 1/4 ln(1/2)
    full = torch.tensor([[3.0, 1.0]]).log()
    loss = distillation_loss(torch.zeros(1, 2), full, kind="logits")
    assert loss.item() == pytest.approx(0.75 * torch.tensor(1.5).log().item() + 0.25 * torch.tensor(0.5).log().item())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_of_soft_labels_is_that_of_a_cross_entropy_with_them(temperature):
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(5, 7, dtype=torch.float64, generator=generator)
    z = torch.randn(5, 7, dtype=torch.float64, generator=generator, requires_grad=True)
    (ours,) = torch.autograd.grad(distillation_loss(z, full, kind="logits", temperature=temperature), z)
    soft = F.cross_entropy(z / temperature, (full / temperature).softmax(dim=1)) * temperature**2
    torch.testing.assert_close(ours, torch.autograd.grad(soft, z)[0], atol=1e-12, rtol=0)


def test_features_are_cosines_whatever_their_length():
    a, b = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 5.0], [0.0, 1.0]])
    assert distillation_loss(a, b, kind="features").item() == pytest.approx((1 + 0) / 2)


@pytest.mark.parametrize("kind", ["logits", "features"])
def test_agreement_costs_nothing_and_the_full_model_gets_no_gradient(kind):
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    teacher = x.detach().clone().requires_grad_()
    loss = distillation_loss(x, teacher, kind=kind)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    loss.backward()
    assert teacher.grad is None
    other = torch.randn(4, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: distillation_loss(z, other, kind=kind, temperature=2.0), x)


def test_half_precision_logits_are_taken_in_float32():
    z = torch.tensor([[1000.0, 0.0]], dtype=torch.float16)
    assert distillation_loss(z, torch.zeros(1, 2), kind="logits").dtype == torch.float32


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match="kind must be one of .* found 'rkd'"):
        distillation_loss(torch.zeros(1, 2), torch.zeros(1, 2), kind="rkd")
