from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from fastreid.modeling.losses import cross_entropy_loss
from torch.distributions import Dirichlet, kl_divergence

from builders import tiny_config
from switchablecompat.losses import PRESETS, CompatibleLoss, EvidentialOptions

K = 30
labels = torch.tensor([0, 3, 29, 5])


def test_paper_preset_is_edl():
    """softplus evidence, alpha = e + 1, digamma risk + 5e-4 KL, mean over the batch."""
    logits = torch.randn(4, K, dtype=torch.float64) * 3
    alphas = F.softplus(logits) + 1
    risk = torch.digamma(alphas.sum(1)) - torch.digamma(alphas[torch.arange(4), labels])
    y = F.one_hot(labels, K)
    tilde = y + (1 - y) * alphas
    kl = kl_divergence(Dirichlet(tilde), Dirichlet(torch.ones_like(tilde)))
    loss, uncertainty, _ = CompatibleLoss(PRESETS["paper"])(logits, labels)
    torch.testing.assert_close(loss, (risk + 5e-4 * kl).mean())
    torch.testing.assert_close(uncertainty, (K / alphas.sum(1)).mean())


def test_certainties_are_the_expected_probabilities_if_asked_for():
    logits = torch.randn(4, K, dtype=torch.float64)
    assert CompatibleLoss(PRESETS["paper"])(logits, labels).certainty is None
    alphas = F.softplus(logits) + 1
    found = CompatibleLoss(PRESETS["paper"], with_certainty=True)(logits, labels).certainty
    torch.testing.assert_close(found, alphas[torch.arange(4), labels] / alphas.sum(1))
    asked = {kind: tiny_config("MODEL.SWITCHABLE.CLASSIFIER_GRAD", kind) for kind in ("certain", "full", "all")}
    assert [kind for kind, cfg in asked.items() if CompatibleLoss.from_config(cfg).with_certainty] == ["certain"]


def test_stable_preset_units():
    options = PRESETS["stable"]
    assert options.prior_mass(300) == pytest.approx(100)
    assert (options.evidence, options.risk, options.kl_weight) == ("exp", "log", 0.0)


def test_the_unit_of_the_kl_weight():
    assert replace(PRESETS["stable"], kl_weight=0.4).kl_factor(300) == pytest.approx(0.4 / 300)
    assert PRESETS["paper"].kl_factor(300) == 5e-4


@pytest.mark.parametrize("classes", [100, 751])
def test_stable_preset_gives_hard_negatives_a_gradient_of_the_cross_entropys_size(classes):
    """The reason for the preset: at re-ID's K the paper's loss gives a hard negative a much weaker gradient."""
    logits = torch.zeros(1, classes)
    logits[0, 1] = 12.0
    label = torch.tensor([0])

    def pull(loss):
        z = logits.clone().requires_grad_()
        loss(z).backward()
        return z.grad[0, 1].item()

    reference = pull(lambda z: F.cross_entropy(z, label))
    stable = pull(lambda z: CompatibleLoss(PRESETS["stable"])(z, label)[0])
    paper = pull(lambda z: CompatibleLoss(PRESETS["paper"])(z, label)[0])
    assert 0.8 * reference < stable < 1.5 * reference
    assert paper < 0.2 * reference


def test_cross_entropy_is_fastreids():
    logits = torch.randn(4, K)
    for epsilon in (0.0, 0.1, -1.0):
        loss, uncertainty, _ = CompatibleLoss(None, label_smoothing=epsilon, smoothing_alpha=0.2, scale=2.0)(
            logits, labels
        )
        torch.testing.assert_close(loss, 2 * cross_entropy_loss(logits, labels, epsilon, 0.2))
        assert uncertainty is None


def test_temperature_divides_the_logits():
    logits = torch.randn(4, K)
    hot, *_ = CompatibleLoss(PRESETS["stable"], temperature=4.0)(logits * 4, labels)
    plain, *_ = CompatibleLoss(PRESETS["stable"])(logits, labels)
    torch.testing.assert_close(hot, plain)


def test_evidential_terms_stay_out_of_autocast():
    logits = torch.randn(4, 751)
    expected, *_ = CompatibleLoss(PRESETS["paper"])(logits.bfloat16().float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, *_ = CompatibleLoss(PRESETS["paper"])(logits.bfloat16(), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def test_it_can_train():
    logits = torch.zeros(4, K, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=5.0)
    for preset in PRESETS.values():
        losses = []
        for _ in range(30):
            loss, *_ = CompatibleLoss(preset)(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
    assert torch.equal(logits.argmax(1), labels)


def test_from_config():
    key = "MODEL.LOSSES.COMPAT."
    assert CompatibleLoss.from_config(tiny_config()).options == PRESETS["stable"]
    custom = tiny_config("MODEL.LOSSES.COMPAT.PRESET", "custom")
    assert CompatibleLoss.from_config(custom).options == PRESETS["stable"], (
        "defaults of custom: one changes what one sets"
    )
    assert CompatibleLoss.from_config(tiny_config(key + "PRESET", "paper")).options == PRESETS["paper"]
    assert CompatibleLoss.from_config(tiny_config(key + "KIND", "ce")).options is None
    custom = CompatibleLoss.from_config(
        tiny_config(
            key + "PRESET", "custom", key + "EVIDENCE", "softplus", key + "RISK", "log", key + "PRIOR", 2.0,
            key + "PRIOR_UNIT", "absolute", key + "KL_WEIGHT", 0.01, key + "KL_UNIT", "absolute",
            key + "TEMPERATURE", 2.0, key + "SCALE", 0.5, "MODEL.LOSSES.CE.EPSILON", 0.1,
        )
    )  # fmt: skip
    assert custom.options == EvidentialOptions("softplus", "log", 2.0, "absolute", 0.01, "absolute", "all")
    assert (custom.temperature, custom.scale, custom.label_smoothing) == (2.0, 0.5, 0.1)


def test_the_kl_term_can_be_the_full_models_alone():
    logits = torch.randn(4, K, dtype=torch.float64)
    values = ("exp", "log", 1.0, "classes", 0.4, "per_class")
    everyone, full = EvidentialOptions(*values), EvidentialOptions(*values, kl_submodels="full")
    without = EvidentialOptions("exp", "log", 1.0, "classes", 0.0, "per_class")

    def loss(options, is_full):
        return CompatibleLoss(options)(logits, labels, is_full)[0]

    assert loss(full, True) == loss(everyone, True) == loss(everyone, False)
    assert loss(full, False) == loss(without, False) < loss(full, True)
