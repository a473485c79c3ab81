import pytest
import torch

from switchablecompat.engine.priorities import UncertaintyPriorities

NAMES = ("w025", "w050", "w100")


def step(*values):
    return {f"uncertainty_{name}": torch.tensor(value) for name, value in zip(NAMES, values, strict=True) if value}


def test_off_there_are_no_factors():
    priorities = UncertaintyPriorities(NAMES)
    priorities.update(step(0.9, 0.5, 0.1))
    assert priorities.factors() is None


def test_they_start_alike_and_follow_the_running_mean():
    priorities = UncertaintyPriorities(NAMES, 1.0)
    torch.testing.assert_close(priorities.factors(), torch.ones(3))
    priorities.update(step(0.5, 0.2, 0.1))
    # 0.9 x 1 + 0.1 x (0.5, 0.2, 0.1) = (0.95, 0.92, 0.91), sum 2.78
    torch.testing.assert_close(priorities.factors(), 3 * torch.tensor([0.95, 0.92, 0.91]) / 2.78)


@pytest.mark.parametrize("exponent", [-1.0, 0.5, 3.0])
def test_factors_sum_to_the_number_of_sub_models(exponent):
    priorities = UncertaintyPriorities(NAMES, exponent)
    priorities.uncertainties = torch.tensor([0.4, 0.0, 1e-4])  # 0 is what float32 may round a tiny one to
    factors = priorities.factors()
    assert torch.isfinite(factors).all()
    assert factors.sum().item() == pytest.approx(3)
    assert (factors[0] > factors[2]) == (exponent > 0)


def test_who_was_not_trained_or_is_no_number_keeps_the_former_value():
    priorities = UncertaintyPriorities(NAMES, 1.0)
    priorities.update(step(0.5, None, float("nan")))
    torch.testing.assert_close(priorities.uncertainties, torch.tensor([0.95, 1.0, 1.0]))


def test_it_continues_from_its_state():
    first, resumed = UncertaintyPriorities(NAMES, 1.0), UncertaintyPriorities(NAMES, 1.0)
    first.update(step(0.5, 0.2, 0.1))
    resumed.load_state_dict(first.state_dict())
    assert torch.equal(first.factors(), resumed.factors())
