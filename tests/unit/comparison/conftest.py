"""Fabricated results: invented numbers for the arithmetic of tables, never a measurement."""

import json
import sys
from pathlib import Path

import pytest

from builders import CROSS_ENTROPY, TINY
from switchablecompat.comparison.results import Result
from switchablecompat.comparison.suite import parse_suite
from switchablecompat.evaluation.grid import CompatibilityGrid
from switchablecompat.provenance import versions

FAKE_TRAIN = """
import json, os, pathlib, sys
options = dict(zip(sys.argv[-2::-2], sys.argv[:0:-2]))
folder = pathlib.Path(options["OUTPUT_DIR"])
print("arguments", *sys.argv[1:])
if os.environ.get("FAKE_FAILS", "nothing") in str(folder):
    print("fabricated trouble")
    sys.exit(3)
(folder / "config.yaml").write_text("")
(folder / "last_checkpoint").write_text("model_final.pth")
(folder / "model_final.pth").write_text("")
(folder / "grid.json").write_text(json.dumps({"seed": int(options["SEED"])}))
"""
FAKE_CROSS_TEST = """
import json, pathlib, sys
import numpy as np
folder = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
grid = {"format": 1, "dataset": "fabricated", "widths": [0.5, 1.0], "rows": "query", "columns": "gallery",
        "mAP": [[50.0, 55.0], [56.0, 60.0]], "seed": 0, "family": "sha256:fabricated", "config": str(folder.absolute()),
        "versions": VERSIONS}
(folder / "grid.json").write_text(json.dumps(grid))
np.savez(folder / "queries.npz", format=1, widths=[0.5, 1.0], defined=np.ones((2, 2), bool), family="sha256:fabricated",
         first_hit_rank=np.array([[[1, 1], [1, 2]], [[1, 1], [1, 1]]]), average_precision=np.ones((2, 2, 2)))
"""


@pytest.fixture
def suite():
    """Two widths, two seeds, every kind of method."""
    common = {"MODEL.SWITCHABLE.WIDTHS": [0.5, 1.0], **CROSS_ENTROPY}
    influence = {"MODEL.LOSSES.NAME": "('CompatibleLoss', 'InfluenceLoss')"}
    methods = [
        {"name": "ours", "title": "Ours", "kind": "switchable", "config": TINY},
        {"name": "unified", "title": "Unified", "kind": "separate", "config": TINY},
        {
            "name": "bct",
            "title": "B_C_T",
            "kind": "separate",
            "config": TINY,
            "reference": "unified",
            "opts": influence,
        },
    ]
    content = {"name": "toy", "dataset": "Fabricated numbers.", "seeds": [0, 1], "opts": common, "methods": methods}
    return parse_suite(content, "toy.yml")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Fabricated commands that leave the files of a run and of a grid, in no time."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "train.py").write_text(FAKE_TRAIN)
    (folder / "grid.py").write_text(FAKE_CROSS_TEST.replace("VERSIONS", repr(versions())))
    (folder / "__main__.py").write_text(
        "import runpy, sys\nsys.argv[0] = sys.argv.pop(1)\nrunpy.run_path(f'{sys.path[0]}/{sys.argv[0]}.py')\n"
    )
    return folder


@pytest.fixture
def program(tools: Path) -> list[str]:
    """What runs these scripts by the names of the commands."""
    return [sys.executable, str(tools)]


def make_result(method: str, seed: int, matrix: list, flips: list | None = None, **changes) -> Result:
    """A result of the toy suite with these mAP values."""
    grid = CompatibilityGrid((0.5, 1.0), {"mAP": matrix}, "fabricated", {"versions": {"torch": "0"}})
    values = {
        "method": method,
        "seed": seed,
        "settings": {},
        "grid": grid,
        "negative_flips": flips or [[None, None], [None, None]],
        "timing": {"train_seconds": 60.0 * (seed + 1)},
        "hardware": {"cpu": "abacus", "cores": 1, "gpu": None},
        "code": ["sha256:0123456789abcdef"],
    }
    return Result(**{**values, **changes})


@pytest.fixture
def results():
    """Ours and BCT on two seeds, Unified too: round numbers, so that means and intervals can be worked out by hand."""
    return [
        make_result("ours", 0, [[50.0, 56.0], [58.0, 70.0]], [[None, 4.0], [2.0, None]]),
        make_result("ours", 1, [[54.0, 60.0], [60.0, 72.0]], [[None, 6.0], [4.0, None]]),
        make_result("unified", 0, [[46.0, None], [None, 74.0]]),
        make_result("unified", 1, [[48.0, None], [None, 74.0]]),
        make_result("bct", 0, [[46.0, 50.0], [45.0, None]]),
        make_result("bct", 1, [[52.0, 51.0], [55.0, None]]),
    ]


@pytest.fixture
def fabricate():
    """Leave the files of a training run below a folder."""

    def leave(folder: Path, *names: str, seed: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_text(json.dumps({"seed": seed}) if name == "grid.json" else "")

    return leave


@pytest.fixture
def python() -> str:
    """The interpreter of this process."""
    return sys.executable
