"""A few kills of the tool that is run by hand with more."""

import runpy
from pathlib import Path


def test_nothing_but_the_epoch_in_work_is_lost(tmp_path):
    tool = runpy.run_path(str(Path(__file__).with_name("kill_and_resume.py")))
    said = []
    tool["kill_and_resume"](tmp_path, 4, said.append)
    assert sum(line.startswith("kill ") for line in said) == 4
    assert said[-1].endswith("done, with the uninterrupted run's weights")
