"""The compatible loss. All sub-models learn from one shared classifier and therefore share a feature space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from fastreid.config import CfgNode
from torch import Tensor

from ..config_rules import POSITIVE, Rule, check_rules, one_of
from . import evidential
from .fastreid_losses import cross_entropy_loss
from .precision import at_least_float32


@dataclass(frozen=True)
class EvidentialOptions:
    """Settings of the evidential loss. :mod:`.evidential` has the formulas.

    Attributes:
        evidence: ``softplus`` or ``exp``.
        risk: ``digamma`` or ``log``.
        prior: Prior mass P, in ``prior_unit``.
        prior_unit: ``classes`` (P = prior * K) or ``absolute`` (P = prior).
        kl_weight: Weight lambda of the KL term, in ``kl_unit``.
        kl_unit: ``per_class`` (lambda = kl_weight / K, the KL grows with K) or ``absolute`` (lambda = kl_weight).
        kl_submodels: Sub-models with a KL term: ``all``, or ``full`` (only the full model; it then shapes the class
            vectors, to which the others adapt without a KL term).
    """

    evidence: str
    risk: str
    prior: float
    prior_unit: str
    kl_weight: float
    kl_unit: str
    kl_submodels: str = "all"

    def prior_mass(self, classes: int) -> float:
        return self.prior * classes if self.prior_unit == "classes" else self.prior

    def kl_factor(self, classes: int) -> float:
        return self.kl_weight / classes if self.kl_unit == "per_class" else self.kl_weight


PRESETS = {
    # Evidential deep learning as first published: alpha = e + 1, constant KL weight.
    "paper": EvidentialOptions("softplus", "digamma", 1.0, "classes", 5e-4, "absolute"),
    # Gradients of a cross-entropy's size at re-ID's number of classes, and no KL term, which costs cross-tests
    # (docs/experiments.md).
    "stable": EvidentialOptions("exp", "log", 1.0 / 3.0, "classes", 0.0, "per_class"),
}

RULES: dict[str, Rule] = {  # of MODEL.LOSSES
    "COMPAT.KIND": one_of("evidential", "ce"),
    "COMPAT.PRESET": one_of(*PRESETS, "custom"),
    "COMPAT.EVIDENCE": one_of(*evidential.EVIDENCE),
    "COMPAT.RISK": one_of(*evidential.RISK),
    "COMPAT.PRIOR": POSITIVE,
    "COMPAT.PRIOR_UNIT": one_of("classes", "absolute"),
    "COMPAT.KL_WEIGHT": ("must not be negative", lambda value: value >= 0),
    "COMPAT.KL_UNIT": one_of("per_class", "absolute"),
    "COMPAT.KL_SUBMODELS": one_of("all", "full"),
    "COMPAT.TEMPERATURE": POSITIVE,
    "COMPAT.SCALE": POSITIVE,
    "COMPAT.CERTAINTY_POWER": POSITIVE,
    "CE.SCALE": POSITIVE,
}


class CompatibleTerms(NamedTuple):
    """Results of the loss for a batch of N images. Only the loss has a graph."""

    loss: Tensor  # scalar
    uncertainty: Tensor | None = None  # mean uncertainty mass, scalar; None for the cross-entropy
    certainty: Tensor | None = None  # expected probability of the right class, [N]; None unless it was asked for


@dataclass(frozen=True)
class CompatibleLoss:
    """Computes the loss and the uncertainty of one sub-model from its logits.

    L = mean over the batch of (risk + lambda KL), or FastReID's cross-entropy when ``options`` is None. The evidential
    terms run outside autocast in float32 (the KL term in float64), because half-precision lgamma overflows with the
    number of classes in re-ID.

    Attributes:
        options: Settings of the evidential loss, or None for the cross-entropy.
        temperature: Divides the logits before the evidence function.
        label_smoothing: Epsilon of FastReID's label smoothing. -1 selects adaptive smoothing (only with the
            cross-entropy).
        smoothing_alpha: Alpha of adaptive smoothing.
        scale: Factor on the loss.
        with_certainty: Whether the evidential loss also gives certainties.
    """

    options: EvidentialOptions | None
    temperature: float = 1.0
    label_smoothing: float = 0.0
    smoothing_alpha: float = 0.2
    scale: float = 1.0
    with_certainty: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> CompatibleLoss:
        """Read ``MODEL.LOSSES.COMPAT``, and label smoothing and scale from ``MODEL.LOSSES.CE``, which it replaces.

        Raises:
            InputError: An option is unknown, or a number is out of its range.
        """
        node, ce = cfg.MODEL.LOSSES.COMPAT, cfg.MODEL.LOSSES.CE
        check_rules(cfg, RULES, "MODEL.LOSSES.")
        options = None
        if node.KIND == "evidential":
            in_range = ("must be in [0, 1) with an evidential loss", lambda value: 0 <= value < 1)
            check_rules(cfg, {"MODEL.LOSSES.CE.EPSILON": in_range})
            custom = (node.EVIDENCE, node.RISK, node.PRIOR, node.PRIOR_UNIT, node.KL_WEIGHT, node.KL_UNIT)
            options = PRESETS.get(node.PRESET) or EvidentialOptions(*custom, node.KL_SUBMODELS)
        return cls(
            options,
            temperature=node.TEMPERATURE,
            label_smoothing=ce.EPSILON,
            smoothing_alpha=ce.ALPHA,
            scale=node.SCALE * ce.SCALE,
            with_certainty=cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD == "certain",
        )

    def __call__(self, logits: Tensor, labels: Tensor, is_full: bool = True) -> CompatibleTerms:
        """Loss, uncertainty and certainty from logits [N, K], after margins and scale, and labels [N] int64."""
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
                certainty = evidential.expected_probability(log_alphas, labels) if self.with_certainty else None
            return CompatibleTerms(loss * self.scale, mean_uncertainty, certainty)
