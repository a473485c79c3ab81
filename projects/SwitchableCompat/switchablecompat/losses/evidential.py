"""The evidential loss as pure functions: subjective logic on the logits of a classifier.

Sensoy et al., "Evidential Deep Learning to Quantify Classification Uncertainty", NeurIPS 2018; Han et al., "Trusted
Multi-View Classification", ICLR 2021. With evidence e >= 0 and a prior mass P over K classes:

    alpha_k = e_k + P/K      S = sum_k alpha_k = sum_k e_k + P      belief b_k = e_k / S      uncertainty u = P / S

so that sum_k b_k + u = 1. Evidential deep learning has P = K, so alpha = e + 1. All functions take ln alpha, because
``exp`` evidence of a scaled cosine logit (64 and more) can overflow float32, while its logarithm cannot.

Shape shorthand: N images, K classes; labels are int64 [N].
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LARGE = 15.0  # digamma(x) = ln x - 1/(2x) to 3e-15 for x > e^15
_KL_LOG_ALPHA_MAX = 20.0  # above this, rounding of lgamma in float64 exceeds 1e-6 of the slope of the result

EVIDENCE = ("softplus", "exp")
RISK = ("digamma", "log")


def log_alpha(logits: Tensor, evidence: str, prior: float) -> Tensor:
    """Logarithm of the Dirichlet parameters alpha from logits z, both [N, K], and the prior mass P.

    Evidence is ``softplus``, e = ln(1 + exp z), or ``exp``, e = exp z.
    """
    if evidence == "exp":
        return torch.logaddexp(logits, torch.full_like(logits, math.log(prior / logits.shape[1])))
    if evidence == "softplus":
        return torch.log(F.softplus(logits) + prior / logits.shape[1])
    raise ValueError(f"evidence must be one of {EVIDENCE}, found {evidence!r}")


def uncertainty(log_alphas: Tensor, prior: float) -> Tensor:
    """Uncertainty mass u = P / S of each image, [N], in (0, 1]."""
    return torch.exp(math.log(prior) - torch.logsumexp(log_alphas, dim=1))


def expected_probability(log_alphas: Tensor, labels: Tensor) -> Tensor:
    """Expected probability alpha_y / S of the correct class, per image, [N]; 1/K without evidence."""
    return log_alphas.log_softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1).exp()


def bayes_risk(log_alphas: Tensor, targets: Tensor, risk: str) -> Tensor:
    """Expected cross-entropy under the Dirichlet, per image, [N].

    ``digamma`` is the exact Bayes risk, sum_k t_k (psi(S) - psi(alpha_k)). ``log`` is the cross-entropy of the mean
    (type II maximum likelihood), sum_k t_k (ln S - ln alpha_k); it depends on relative, not on absolute evidence.
    Rows of the targets t [N, K] sum to 1 (one-hot or smoothed).
    """
    log_strength = torch.logsumexp(log_alphas, dim=1, keepdim=True)
    if risk == "log":
        return (targets * (log_strength - log_alphas)).sum(dim=1)
    if risk == "digamma":
        return (targets * (_digamma_exp(log_strength) - _digamma_exp(log_alphas))).sum(dim=1)
    raise ValueError(f"risk must be one of {RISK}, found {risk!r}")


def misleading_evidence_kl(log_alphas: Tensor, labels: Tensor, prior: float) -> Tensor:
    """KL( Dir(alpha~) || Dir(a) ) with a = P/K and alpha~ = a y + (1 - y) alpha, per image, [N], float64.

    Penalises only evidence for wrong classes. Sensoy et al., equation 5, is the case P = K, a = 1. The reference is
    Dir(a), because alpha equals a without evidence. Against Dir(1), a prior mass below K would reward evidence for
    wrong classes until alpha = 1. Evidence above e^20 does not increase the penalty.
    """
    classes = log_alphas.shape[1]
    base = prior / classes
    wrong = labels.unsqueeze(1) != torch.arange(classes, device=labels.device)
    alphas = torch.where(wrong, log_alphas.double().clamp(max=_KL_LOG_ALPHA_MAX).exp(), base)
    strength = alphas.sum(dim=1)
    normaliser = torch.lgamma(strength) - torch.lgamma(alphas).sum(dim=1)
    normaliser = normaliser - math.lgamma(prior) + classes * math.lgamma(base)
    shift = torch.digamma(alphas) - torch.digamma(strength).unsqueeze(1)
    return normaliser + ((alphas - base) * shift).sum(dim=1)


def smoothed_targets(labels: Tensor, classes: int, epsilon: float) -> Tensor:
    """Targets of FastReID's label smoothing, [N, K] float32: 1 - epsilon for the label, else epsilon / (K - 1)."""
    targets = torch.full((len(labels), classes), epsilon / max(classes - 1, 1), device=labels.device)
    return targets.scatter_(1, labels.unsqueeze(1), 1.0 - epsilon)


def _digamma_exp(log_x: Tensor) -> Tensor:
    """psi(exp(log_x)) without overflow."""
    small = torch.digamma(log_x.clamp(max=_LARGE).exp())
    return torch.where(log_x > _LARGE, log_x - 0.5 * torch.exp(-log_x), small)
