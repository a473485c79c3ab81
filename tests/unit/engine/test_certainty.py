"""What each sub-model knows of each class decides how much it moves the class's vector."""

import pytest
import torch

from switchablecompat.engine import certainty as module
from switchablecompat.engine.certainty import MEMORY, ClassCertainty


def test_running_means_by_hand_of_the_classes_that_were_shown():
    certainty = ClassCertainty(2, 4, power=1.0)
    certainty.update(0, torch.tensor([1, 1, 3]), torch.tensor([0.2, 0.4, 1.0]))
    expected = torch.full((4, 2), 0.25)
    expected[1, 0] = MEMORY * 0.25 + (1 - MEMORY) * 0.3
    expected[3, 0] = MEMORY * 0.25 + (1 - MEMORY) * 1.0
    torch.testing.assert_close(certainty.probabilities, expected)


def test_shares_by_hand_and_chance_has_none():
    certainty = ClassCertainty(3, 2, power=2.0)
    assert certainty.factors().tolist() == [[0.0, 0.0, 1.0]] * 2, "nobody knows anything yet: the full model alone"
    certainty.probabilities = torch.tensor([[0.5, 0.6, 0.7], [0.9, 0.4, 0.8]])
    # above chance 0, 0.1, 0.2 and 0.4, -0.1, 0.3; squares 0, 1, 4 of 5 and 16, 0, 9 of 25
    torch.testing.assert_close(certainty.factors(), torch.tensor([[0.0, 0.2, 0.8], [0.64, 0.0, 0.36]]))


def test_a_spoiled_batch_is_forgotten_and_the_state_comes_back():
    certainty = ClassCertainty(2, 3, power=1.0)
    certainty.update(1, torch.tensor([0, 1]), torch.tensor([torch.nan, 0.9]))
    assert certainty.probabilities[0, 1].item() == pytest.approx(1 / 3)
    again = ClassCertainty(2, 3, power=1.0)
    again.load_state_dict(certainty.state_dict())
    assert torch.equal(again.factors(), certainty.factors())


def test_with_a_large_power_the_most_certain_trains_alone():
    certainty = ClassCertainty(3, 2, power=1000.0)
    certainty.probabilities = torch.tensor([[0.8, 0.9, 0.7], [0.5, 0.9, 0.9]])
    torch.testing.assert_close(certainty.factors(), torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.5, 0.5]]))


def test_shares_are_those_of_the_sub_models_of_the_step():
    certainty = ClassCertainty(3, 2, power=1000.0)
    certainty.probabilities = torch.tensor([[0.8, 0.9, 0.7], [0.5, 0.9, 0.5]])
    shares = certainty.factors({1})
    torch.testing.assert_close(shares, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert torch.equal(certainty.factors(set()), certainty.factors())


def test_a_gpus_sums_are_those_of_the_cpu():
    """On the CPU by ``index_add_``, on a GPU by a mask; here the mask gets a CPU's numbers."""
    labels = torch.tensor([3, 0, 3, 5, 3])
    values = torch.rand(2, 5, dtype=torch.float64)
    expected = torch.zeros(2, 7, dtype=torch.float64)
    for column, label in enumerate(labels.tolist()):
        expected[:, label] += values[:, column]
    assert torch.allclose(module._sums_by_class(labels, values, 7), expected)
    assert torch.allclose(module._sums_over_mask(labels, values, 7), expected)
