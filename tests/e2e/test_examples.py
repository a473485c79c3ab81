"""The examples run as written, as their first lines say."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(folder, command):
    """A command of an example's first lines, in a folder that holds nothing."""
    words = [str(EXAMPLES / word.removeprefix("examples/")) if "examples/" in word else word for word in command]
    environment = {**os.environ, "FASTREID_DATASETS": str(folder / "datasets"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def documented(name):
    """The command in an example's docstring."""
    text = (EXAMPLES / name).read_text().replace("\\\n", " ")
    return shlex.split(re.search(r"^ *(python .*?)$", text, re.MULTILINE)[1], comments=True)


def test_first_steps(tmp_path):
    out = run(tmp_path, documented("first_steps.py"))
    assert "full width computes what the network did: True" in out
    assert "half width gives (2, 16, 64, 32) of (2, 32, 64, 32)" in out
    assert "the same features, bit for bit: True" in out
    assert re.search(r"Cross-tests: \d of 2 pass", out)
    numbers = re.search(r"half width ([\d,]+), full width ([\d,]+)", out).groups()
    half, full = (int(text.replace(",", "")) for text in numbers)
    assert full / 4.1 < half < full / 2
    assert len((EXAMPLES / "first_steps.py").read_text().splitlines()) <= 70


def test_own_components_take_part_in_a_training(tmp_path):
    command = documented("own_components.py")
    assert {"build_two_convs", "('CompatibleLoss', 'CompactLoss')", "strongest"} < {*command}
    out = run(tmp_path, [*command, "OUTPUT_DIR", "out"])
    assert "Cross-tests: " in out
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "(backbone): TwoConvs(" in log
    assert float(re.search(r"loss_compactloss_w025: (\S+)", log)[1]) > 0
