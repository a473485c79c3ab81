"""Statistics over seeds, and scores of the literature on backward compatibility, as pure functions on numbers.

Values are per cent of some metric (mAP unless said otherwise); ``None`` = not defined. Rows of a matrix ``[m][m]`` are
query sub-models, columns are gallery sub-models. ``M(q, g)`` is a cell of a method's own grid, ``M*(i)`` the self-test
of an independently trained model of the same size (no compatibility term).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

CONFIDENCE = 0.95

Value = float | None


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (divisor ``n - 1``) of ``n`` values, without deviation for ``n`` = 1."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """Mean of ``n`` paired differences and its t confidence interval, without interval for ``n`` = 1."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def sure(self) -> bool:
        """Whether the interval excludes zero; False for one pair."""
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high


def spread(values: Sequence[Value]) -> Spread | None:
    """Mean and spread of the defined values; None if there are none."""
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    return Spread(statistics.fmean(defined), statistics.stdev(defined) if len(defined) > 1 else None, len(defined))


def paired_difference(
    ours: Mapping[int, Value], theirs: Mapping[int, Value], test_per_train: float = 0.0
) -> Difference | None:
    """``ours - theirs`` over the common seeds. Pairing cancels the effects of a seed on both.

    The interval is Student's t interval, ``mean +- t_{n-1} s sqrt(1/n + test_per_train)``. It assumes roughly normal
    differences, and says nothing about other data sets or settings. None if no seed has both values.

    Args:
        ours: values by seed.
        theirs: values by seed.
        test_per_train: size of the test set divided by that of the training set, where each seed draws both anew from
            the same items. Such splits overlap, so their differences are not independent and the plain interval (0) is
            too narrow; see Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 2003.
    """
    pairs = [(value, theirs.get(seed)) for seed, value in ours.items()]
    summary = spread([a - b for a, b in pairs if a is not None and b is not None])
    if summary is None:
        return None
    if summary.std is None:
        return Difference(summary.mean, None, None, summary.n)
    t = float(stdtrit(summary.n - 1, 0.5 + CONFIDENCE / 2))
    half = t * summary.std / math.sqrt(summary.n / (1.0 + summary.n * test_per_train))
    return Difference(summary.mean, summary.mean - half, summary.mean + half, summary.n)


def update_gain(cross: Value, old: Value, independent: Value) -> Value:
    """Update gain of Shen et al., "Towards Backward-Compatible Representation Learning", CVPR 2020, section 3.1.

    ``(M(new, old) - M(old, old)) / (M*(new) - M(old, old))``: the share of the gain of full re-indexing that new
    queries reach on the old gallery. 1 is all of it; below 0 is worse than no update. The arguments are the three
    values in this order: ``M(new, old)``, ``M(old, old)``, ``M*(new)``. None if one is not defined, or if the new model
    alone is not better (no gain).
    """
    if cross is None or old is None or independent is None or independent <= old:
        return None
    return (cross - old) / (independent - old)


def compatibility_scores(cross: Value, old: Value, new: Value, independent: Value) -> dict[str, Value]:
    """Scores of Pan et al., "Boundary-Aware Backward-Compatible Representation via Adversarial Learning", CVPR 2023.

    ``P_up = sigmoid((M(new, new) - M*(new)) / M*(new))``: 50 % if the new model is as good as without compatibility.
    ``P_comp = sigmoid(update gain)``: 50 % if new queries gain nothing on the old gallery, 73.1 % if as much as by
    re-indexing. ``P_1`` is their harmonic mean. The arguments are ``M(new, old)``, ``M(old, old)``, ``M(new, new)`` and
    ``M*(new)``; the scores, by name, are in per cent.
    """
    gain = update_gain(cross, old, independent)
    p_up = None if new is None or not independent else 100.0 * _sigmoid((new - independent) / independent)
    p_comp = None if gain is None else 100.0 * _sigmoid(gain)
    p_1 = None if p_up is None or p_comp is None else 2.0 * p_up * p_comp / (p_up + p_comp)
    return {"P_up": p_up, "P_comp": p_comp, "P_1": p_1}


def _sigmoid(x: float) -> float:
    """The logistic function, without overflow for any argument."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
