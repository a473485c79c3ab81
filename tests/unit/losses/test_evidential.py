"""Oracles: torch.distributions, Monte-Carlo sampling, the explicit Dempster-Shafer rule, and limits that equal CE."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Dirichlet, kl_divergence

from switchablecompat.losses import evidential as ev

N, K = 5, 7


def alphas_of(logits, evidence, prior):
    e = logits.exp() if evidence == "exp" else F.softplus(logits)
    return e + prior / logits.shape[1]


@pytest.fixture
def logits():
    return torch.randn(N, K, dtype=torch.float64) * 3


labels = torch.tensor([0, 1, 2, 3, 6])


@pytest.mark.parametrize("evidence", ["softplus", "exp"])
@pytest.mark.parametrize("prior", [2.0, K, 100.0])
def test_log_alpha_and_uncertainty(logits, evidence, prior):
    alphas = alphas_of(logits, evidence, prior)
    log_alphas = ev.log_alpha(logits, evidence, prior)
    torch.testing.assert_close(log_alphas.exp(), alphas)
    uncertainty = ev.uncertainty(log_alphas, prior)
    belief = (alphas - prior / K) / alphas.sum(1, keepdim=True)
    torch.testing.assert_close(belief.sum(1) + uncertainty, torch.ones(N, dtype=torch.float64))


@pytest.mark.parametrize("evidence", ["softplus", "exp"])
def test_digamma_risk_is_the_expected_cross_entropy(logits, evidence):
    alphas = alphas_of(logits, evidence, float(K))
    risk = ev.bayes_risk(ev.log_alpha(logits, evidence, float(K)), F.one_hot(labels, K).double(), "digamma")
    samples = Dirichlet(alphas).sample((200_000,))
    losses = -samples[:, torch.arange(N), labels].log()
    error = losses.std(0) / math.sqrt(len(losses))
    assert ((losses.mean(0) - risk).abs() < 5 * error).all()


def test_log_risk_is_the_cross_entropy_of_the_mean(logits):
    alphas = alphas_of(logits, "exp", 3.0)
    mean = Dirichlet(alphas).mean
    risk = ev.bayes_risk(ev.log_alpha(logits, "exp", 3.0), F.one_hot(labels, K).double(), "log")
    torch.testing.assert_close(risk, -mean[torch.arange(N), labels].log())


def test_exp_evidence_without_prior_is_the_cross_entropy(logits):
    targets = F.one_hot(labels, K).double()
    risk = ev.bayes_risk(ev.log_alpha(logits, "exp", 1e-12), targets, "log")
    torch.testing.assert_close(risk, F.cross_entropy(logits, labels, reduction="none"), atol=1e-9, rtol=0)


@pytest.mark.parametrize("evidence", ["softplus", "exp"])
@pytest.mark.parametrize("prior", [2.0, K, 30.0])
def test_kl_against_torch_distributions(logits, evidence, prior):
    alphas = alphas_of(logits, evidence, prior)
    y, base = F.one_hot(labels, K).double(), prior / K
    tilde = base * y + (1 - y) * alphas
    expected = kl_divergence(Dirichlet(tilde), Dirichlet(torch.full_like(tilde, base)))
    kl = ev.misleading_evidence_kl(ev.log_alpha(logits, evidence, prior), labels, prior)
    torch.testing.assert_close(kl, expected, atol=1e-9, rtol=1e-9)


def test_kl_with_the_prior_of_edl_is_edls():
    """P = K: KL( Dir(y + (1 - y) alpha) || Dir(1) ), Sensoy et al., equation 5."""
    logits = torch.randn(5, K, dtype=torch.float64)
    y = F.one_hot(labels, K).double()
    tilde = y + (1 - y) * alphas_of(logits, "softplus", float(K))
    kl = ev.misleading_evidence_kl(ev.log_alpha(logits, "softplus", float(K)), labels, float(K))
    torch.testing.assert_close(kl, kl_divergence(Dirichlet(tilde), Dirichlet(torch.ones_like(tilde))))


@pytest.mark.parametrize("evidence", ["softplus", "exp"])
@pytest.mark.parametrize("prior", [2.0, 100.0, 751 / 3, 751.0, 1500.0])
@pytest.mark.parametrize("z", [-5.0, -2.0, 0.0, 3.0])
def test_kl_never_rewards_evidence_for_a_wrong_class(evidence, prior, z):
    logits = torch.full((1, 751), z, dtype=torch.float64)
    logits[0, 0] = 3.0
    logits.requires_grad_()
    ev.misleading_evidence_kl(ev.log_alpha(logits, evidence, prior), torch.tensor([0]), prior).sum().backward()
    assert (logits.grad[0, 1:] > 0).all()
    assert logits.grad[0, 0] == 0


def test_kl_at_the_size_of_re_id_in_float32_input():
    logits = torch.randn(4, 1501) * 4
    y, base = F.one_hot(labels[:4], 1501).double(), 500 / 1501
    tilde = base * y + (1 - y) * alphas_of(logits.double(), "exp", 500.0)
    expected = kl_divergence(Dirichlet(tilde), Dirichlet(torch.full_like(tilde, base)))
    kl = ev.misleading_evidence_kl(ev.log_alpha(logits, "exp", 500.0), labels[:4], 500.0)
    torch.testing.assert_close(kl, expected, atol=0, rtol=1e-5)  # float32 logits


def test_kl_sees_wrong_classes_only():
    logits = torch.full((1, K), -50.0, dtype=torch.float64)
    logits[0, 2] = 9.0
    log_alphas = ev.log_alpha(logits, "exp", float(K))
    assert ev.misleading_evidence_kl(log_alphas, torch.tensor([2]), float(K)) < 1e-12
    assert ev.misleading_evidence_kl(log_alphas, torch.tensor([1]), float(K)) > 1


def psi(x):
    """Digamma by its recurrence and series, independent of torch: psi(x) = psi(x + 50) - sum_n 1 / (x + n)."""
    y = x + 50
    return math.log(y) - 1 / (2 * y) - 1 / (12 * y**2) - sum(1 / (x + n) for n in range(50))


def test_golden_values_by_hand():
    # K = 2, P = 2, softplus(0) = ln 2: alpha = (1 + ln 2) twice, S = 2 + 2 ln 2
    log_alphas = ev.log_alpha(torch.zeros(1, 2, dtype=torch.float64), "softplus", 2.0)
    alpha, strength = 1 + math.log(2), 2 + 2 * math.log(2)
    target = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert ev.uncertainty(log_alphas, 2.0).item() == pytest.approx(2 / strength)
    assert ev.bayes_risk(log_alphas, target, "log").item() == pytest.approx(math.log(strength / alpha))
    assert ev.bayes_risk(log_alphas, target, "digamma").item() == pytest.approx(psi(strength) - psi(alpha), abs=1e-8)


@pytest.mark.parametrize("evidence", ["softplus", "exp"])
@pytest.mark.parametrize("risk", ["digamma", "log"])
def test_gradients_match_finite_differences(logits, evidence, risk):
    logits.requires_grad_()
    targets = ev.smoothed_targets(labels, K, 0.1).double()

    def loss(z):
        log_alphas = ev.log_alpha(z, evidence, K / 3)
        return (
            ev.bayes_risk(log_alphas, targets, risk).sum()
            + 0.1 * ev.misleading_evidence_kl(log_alphas, labels, K / 3).sum()
        )

    assert torch.autograd.gradcheck(loss, (logits,))


@pytest.mark.parametrize("evidence", ["softplus", "exp"])
@pytest.mark.parametrize("risk", ["digamma", "log"])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 30.0, 64.0, 300.0])
def test_finite_for_the_logits_of_any_margin_head(evidence, risk, scale):
    logits = (torch.randn(4, 751).clamp(-1, 1) * scale).requires_grad_()
    log_alphas = ev.log_alpha(logits, evidence, 751 / 3)
    targets = F.one_hot(labels[:4], 751).float()
    loss = (
        ev.bayes_risk(log_alphas, targets, risk).mean()
        + 1e-4 * ev.misleading_evidence_kl(log_alphas, labels[:4], 751 / 3).mean().float()
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("x", [-20.0, 0.0, 5.0, 14.99, 15.01, 30.0, 80.0])
def test_digamma_of_an_exponential_is_smooth_over_its_switch(x):
    value = ev._digamma_exp(torch.tensor(x, dtype=torch.float64))
    expected = torch.digamma(torch.tensor(x, dtype=torch.float64).exp())
    torch.testing.assert_close(value, expected, atol=1e-12, rtol=1e-12)


def test_smoothing_is_fastreids():
    targets = ev.smoothed_targets(torch.tensor([1]), 5, 0.1)
    torch.testing.assert_close(targets, torch.tensor([[0.025, 0.9, 0.025, 0.025, 0.025]]))


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match="evidence must be one of .* found 'relu'"):
        ev.log_alpha(torch.zeros(1, 2), "relu", 1.0)
    with pytest.raises(ValueError, match="risk must be one of .* found 'mse'"):
        ev.bayes_risk(torch.zeros(1, 2), torch.ones(1, 2), "mse")
