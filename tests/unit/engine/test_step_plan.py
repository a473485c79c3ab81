from collections import Counter

import pytest

from builders import tiny_config
from switchablecompat.engine.step_plan import StepPlan


def test_by_default_everyone_is_trained_with_equal_weight():
    plan = StepPlan(4)
    assert plan.submodels(0) == [3, 2, 1, 0]
    assert [plan.factor(i, 0) for i in range(4)] == [1.0] * 4


def test_slow_start_rises_linearly_and_leaves_the_full_model_alone():
    plan = StepPlan(3, weights=(2.0, 1.0, 0.5), slow_start=3)
    assert [plan.factor(0, t) for t in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert [plan.factor(2, t) for t in range(2)] == [0.5, 0.5]


def test_the_sandwich_always_has_its_ends_and_draws_the_middle_evenly():
    plan = StepPlan(6, sandwich=2, seed=3)
    steps = [plan.submodels(t) for t in range(2000)]
    assert all(step == sorted(step, reverse=True) and {0, 5} < {*step} and len(step) == 4 for step in steps)
    middle = Counter(i for step in steps for i in step if 0 < i < 5)
    # half of the steps each; the standard deviation of such a count is 22
    assert all(abs(middle[i] - 1000) < 110 for i in range(1, 5))
    assert steps[:50] == [StepPlan(6, sandwich=2, seed=3).submodels(t) for t in range(50)]
    assert steps[:50] != [StepPlan(6, sandwich=2, seed=4).submodels(t) for t in range(50)]


@pytest.mark.parametrize("m", [1, 2, 3])
def test_with_nobody_to_leave_out_all_are_trained(m):
    assert StepPlan(m, sandwich=1).submodels(5) == list(range(m - 1, -1, -1))


def test_it_is_read_from_the_config():
    cfg = tiny_config(
        "MODEL.SWITCHABLE.LOSS_WEIGHTS", "[0.5, 1, 1, 2.0]", "MODEL.SWITCHABLE.SLOW_START", 0.25,
        "MODEL.SWITCHABLE.SANDWICH", 1, "SEED", 4,
    )  # fmt: skip
    assert StepPlan.from_config(cfg, 4, 120) == StepPlan(4, (0.5, 1, 1, 2.0), 30, 1, 4)
