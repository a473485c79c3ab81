"""Against loops over anchors and pairs that follow the formulas, on batches with and without positives or negatives."""

import math

import pytest
import torch

from switchablecompat.losses import asymmetric_loss
from switchablecompat.losses.asymmetric import KINDS

BATCHES = {
    "pairs": [0, 0, 1, 1, 2, 2],
    "unequal": [0, 0, 0, 1, 1, 2],
    "all different": [0, 1, 2, 3, 4, 5],
    "one identity": [3, 3, 3, 3, 3, 3],
    "one image": [5],
}


def distance(x, y):
    """Euclidean, between unit vectors."""
    nx, ny = (math.sqrt(sum(a * a for a in v)) for v in (x, y))
    return math.sqrt(sum((a / nx - b / ny) ** 2 for a, b in zip(x, y, strict=True)))


def by_loops(student, teacher, labels, kind, margin):
    n, total = len(labels), 0.0
    for a in range(n):
        d = [distance(student[a], teacher[x]) for x in range(n)]
        positives = [x for x in range(n) if labels[x] == labels[a] and x != a]
        negatives = [x for x in range(n) if labels[x] != labels[a]]
        reg = d[a] ** 2 / 2
        contr = sum(max(0.0, margin - d[x]) ** 2 for x in negatives) / 2
        if positives:
            contr += sum(d[x] ** 2 for x in positives) / len(positives) / 2
        triplet = 0.0
        if negatives:
            hardest = max(d[x] ** 2 for x in (*positives, a))
            triplet = max(0.0, margin + hardest - min(d[x] ** 2 for x in negatives))
        total += {"reg": reg, "contr": contr, "contr_plus": contr + reg, "triplet": triplet}[kind]
    return total / n


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("margin", [0.3, 0.7, 1.6])  # the last one has many pairs on either side
@pytest.mark.parametrize("kind", KINDS)
def test_against_naive_loops(kind, margin, labels):
    student, teacher = (torch.randn(len(labels), 3, dtype=torch.float64) * 2 for _ in range(2))
    loss = asymmetric_loss(student, teacher, torch.tensor(labels), kind=kind, margin=margin)
    expected = by_loops(student.tolist(), teacher.tolist(), labels, kind, margin)
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_by_hand():
    """Two identities, unit vectors at right angles: d(a, g(a))^2 = 2, and the negative is where the anchor is."""
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 5.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1])
    value = {kind: asymmetric_loss(student, teacher, labels, kind=kind, margin=0.7).item() for kind in KINDS}
    assert value["reg"] == pytest.approx(1.0)
    assert value["contr"] == pytest.approx(0.7**2 / 2, rel=1e-5)  # d is 1e-6 instead of 0
    assert value["contr_plus"] == pytest.approx(1.0 + 0.7**2 / 2, rel=1e-5)
    assert value["triplet"] == pytest.approx(0.7 + 2.0 - 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_student_gets_a_gradient(kind):
    labels = torch.tensor([0, 0, 1, 1])
    student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    loss = asymmetric_loss(student, teacher, labels, kind=kind, margin=1.5)
    loss.backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda x: asymmetric_loss(x, teacher, labels, kind=kind, margin=1.5), student)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
def test_gradients_are_finite_where_student_and_teacher_agree(kind, labels):
    """At distance 0 a square root has no slope; a student that starts from its teacher begins there."""
    teacher = torch.randn(1, 8).expand(len(labels), 8)
    student = teacher.clone().requires_grad_()
    loss = asymmetric_loss(student, teacher, torch.tensor(labels), kind=kind, margin=0.7)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_do_not_count_and_autocast_does_not_reach_it(kind):
    student, teacher, labels = torch.randn(6, 8), torch.randn(6, 8), torch.tensor([0, 0, 1, 1, 2, 2])
    plain = asymmetric_loss(student, teacher, labels, kind=kind, margin=0.7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = asymmetric_loss(student * 8, teacher / 4, labels, kind=kind, margin=0.7)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_it_brings_the_student_to_its_teacher(kind):
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    teacher = torch.eye(3)[labels] + 0.1 * torch.randn(6, 3)
    student = torch.randn(6, 3, requires_grad=True)
    optimizer = torch.optim.SGD([student], lr=0.5)
    for _ in range(300):
        loss = asymmetric_loss(student, teacher, labels, kind=kind, margin=0.7)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    nearest = torch.cdist(torch.nn.functional.normalize(student), torch.eye(3)).argmin(dim=1)
    assert torch.equal(nearest, labels)


def test_pure_relation_losses_are_not_on_offer():
    with pytest.raises(ValueError, match="kind must be one of .* found 'rkd'"):
        asymmetric_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1).long(), kind="rkd", margin=0.7)
