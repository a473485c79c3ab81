"""The compatible loss: every sub-model is trained on the one shared classifier, so that they share a feature space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from fastreid.config import CfgNode
from torch import Tensor, nn

from ..config_check import one_of
from ..errors import InputError
from . import evidential
from .fastreid_losses import cross_entropy_loss
from .precision import at_least_float32


@dataclass(frozen=True)
class EvidentialOptions:
    """What an evidential loss is made of; see :mod:`.evidential` for the formulas.

    Attributes:
        evidence: ``softplus`` or ``exp``.
        risk: ``digamma`` or ``log``.
        prior: Prior mass P, in ``prior_unit``.
        prior_unit: ``classes`` (P = prior * K) or ``absolute`` (P = prior).
        kl_weight: Weight lambda of the KL term, in ``kl_unit``.
        kl_unit: ``per_class`` (lambda = kl_weight / K, the KL grows with K) or ``absolute`` (lambda = kl_weight).
        kl_submodels: ``all``, or ``full``: the KL term shapes the full model, and with it the class vectors that the
            others meet without it.
    """

    evidence: str
    risk: str
    prior: float
    prior_unit: str
    kl_weight: float
    kl_unit: str
    kl_submodels: str = "all"

    def prior_mass(self, classes: int) -> float:
        """P for this number of classes."""
        return self.prior * classes if self.prior_unit == "classes" else self.prior

    def kl_factor(self, classes: int) -> float:
        """lambda for this number of classes."""
        return self.kl_weight / classes if self.kl_unit == "per_class" else self.kl_weight


PRESETS = {
    # Evidential deep learning as first published: alpha = e + 1, constant KL weight.
    "paper": EvidentialOptions("softplus", "digamma", 1.0, "classes", 5e-4, "absolute"),
    # Gradients of a cross-entropy's size at re-ID's number of classes, and no KL term, which costs cross-tests
    # (docs/experiments.md).
    "stable": EvidentialOptions("exp", "log", 1.0 / 3.0, "classes", 0.0, "per_class"),
}


class CompatibleTerms(NamedTuple):
    """What the loss says of a batch of N images.

    Attributes:
        loss: Scalar, to be differentiated.
        uncertainty: Mean uncertainty mass, scalar without graph; None for the cross-entropy.
        certainty: Expected probability of the right class, [N] without graph; None for the cross-entropy.
    """

    loss: Tensor
    uncertainty: Tensor | None = None
    certainty: Tensor | None = None


class CompatibleLoss(nn.Module):
    """Loss of one sub-model's logits, and how uncertain the sub-model is.

    L = mean over the batch of (risk + lambda KL), or FastReID's cross-entropy when ``options`` is None. The evidential
    terms run outside autocast in float32 (the KL in float64): half-precision lgamma overflows at re-ID's class counts.

    Args:
        options: The evidential loss, or None for the cross-entropy.
        temperature: Logits are divided by it before they become evidence.
        label_smoothing: Epsilon of FastReID's label smoothing; -1 is its adaptive one (cross-entropy only).
        smoothing_alpha: Alpha of the adaptive smoothing.
        scale: Factor on the loss.
    """

    def __init__(
        self,
        options: EvidentialOptions | None,
        *,
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        smoothing_alpha: float = 0.2,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.options = options
        self.temperature = temperature
        self.label_smoothing = label_smoothing
        self.smoothing_alpha = smoothing_alpha
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> CompatibleLoss:
        """Read ``MODEL.LOSSES.COMPAT`` and the label smoothing and scale of ``MODEL.LOSSES.CE``, which it stands for.

        Raises:
            InputError: An option that is unknown, or a number out of its range.
        """
        node, ce = cfg.MODEL.LOSSES.COMPAT, cfg.MODEL.LOSSES.CE
        _check(cfg)
        options = None
        if node.KIND == "evidential":
            options = PRESETS.get(node.PRESET) or EvidentialOptions(
                node.EVIDENCE,
                node.RISK,
                node.PRIOR,
                node.PRIOR_UNIT,
                node.KL_WEIGHT,
                node.KL_UNIT,
                node.KL_SUBMODELS,
            )
        return cls(
            options,
            temperature=node.TEMPERATURE,
            label_smoothing=ce.EPSILON,
            smoothing_alpha=ce.ALPHA,
            scale=node.SCALE * ce.SCALE,
        )

    def forward(self, logits: Tensor, labels: Tensor, is_full: bool = True) -> CompatibleTerms:
        """Loss of one sub-model's logits, and what it knows.

        Args:
            logits: [N, K], margins and scale already applied.
            labels: [N] int64.
            is_full: Whether they are the full model's.
        """
        if self.options is None:
            loss = cross_entropy_loss(logits, labels, self.label_smoothing, self.smoothing_alpha)
            return CompatibleTerms(loss * self.scale)
        with torch.autocast(logits.device.type, enabled=False):
            classes = logits.shape[1]
            prior = self.options.prior_mass(classes)
            logits = at_least_float32(logits)
            log_alphas = evidential.log_alpha(logits / self.temperature, self.options.evidence, prior)
            targets = evidential.smoothed_targets(labels, classes, self.label_smoothing)
            loss = evidential.bayes_risk(log_alphas, targets, self.options.risk).mean()
            factor = self.options.kl_factor(classes)
            if factor and (is_full or self.options.kl_submodels == "all"):
                kl = evidential.misleading_evidence_kl(log_alphas, labels, prior).mean()
                loss = loss + factor * kl.to(loss.dtype)
            with torch.no_grad():
                mean_uncertainty = evidential.uncertainty(log_alphas, prior).mean()
                certainty = evidential.expected_probability(log_alphas, labels)
            return CompatibleTerms(loss * self.scale, mean_uncertainty, certainty)

    def extra_repr(self) -> str:
        return f"options={self.options}, temperature={self.temperature}, label_smoothing={self.label_smoothing}"


def _check(cfg: CfgNode) -> None:
    node, key = cfg.MODEL.LOSSES.COMPAT, "MODEL.LOSSES.COMPAT"
    one_of(cfg, f"{key}.KIND", ["evidential", "ce"])
    one_of(cfg, f"{key}.PRESET", [*PRESETS, "custom"])
    one_of(cfg, f"{key}.EVIDENCE", evidential.EVIDENCE)
    one_of(cfg, f"{key}.RISK", evidential.RISK)
    one_of(cfg, f"{key}.PRIOR_UNIT", ["classes", "absolute"])
    one_of(cfg, f"{key}.KL_UNIT", ["per_class", "absolute"])
    one_of(cfg, f"{key}.KL_SUBMODELS", ["all", "full"])
    for name, rule, good in (
        ("PRIOR", "must be positive", node.PRIOR > 0),
        ("KL_WEIGHT", "must not be negative", node.KL_WEIGHT >= 0),
        ("TEMPERATURE", "must be positive", node.TEMPERATURE > 0),
        ("SCALE", "must be positive", node.SCALE > 0),
        ("CERTAINTY_POWER", "must be positive", node.CERTAINTY_POWER > 0),
    ):
        if not good:  # NaN is not either
            raise InputError(f"{key}.{name}", rule, node[name])
    epsilon, scale = cfg.MODEL.LOSSES.CE.EPSILON, cfg.MODEL.LOSSES.CE.SCALE
    if node.KIND == "evidential" and not 0 <= epsilon < 1:
        raise InputError("MODEL.LOSSES.CE.EPSILON", "must be in [0, 1) with an evidential loss", epsilon)
    if not scale > 0:
        raise InputError("MODEL.LOSSES.CE.SCALE", "must be positive", scale)
