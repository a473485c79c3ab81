"""What every tool does before anything else."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
ENTRY = TOOLS.parent / "projects" / "SwitchableCompat" / "train_net.py"
LOADS_TORCH = ("torch", "fastreid", "faiss", "switchablecompat")


@pytest.mark.parametrize("path", sorted(TOOLS.glob("*.py")), ids=lambda path: path.stem)
def test_startup_comes_before_torch(path):
    if path.stem in ("startup", "install_into_fastreid"):  # itself; and one that loads nothing
        return
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names += [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(str(node.module).split(".")[0])
    ours = [name for name in names if name in (*LOADS_TORCH, "startup", "gallery_arguments", "model_arguments")]
    assert ours[0] not in LOADS_TORCH


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "9"}, "None")],
)
def test_waiting_threads_sleep_unless_the_user_has_said_otherwise(variables, expected):
    """Told by the environment that torch finds when it is loaded."""
    watch = (
        "import os, sys, importlib.abc\n"
        "class Watch(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch':\n"
        "            print(os.environ.get('OMP_WAIT_POLICY'))\n"
        "            os._exit(0)\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"sys.path.insert(0, {str(TOOLS)!r})\n"
        "import runpy, pathlib\n"
        f"for path in ({str(TOOLS / 'train_net.py')!r}, {str(ENTRY)!r})[int(sys.argv[1]):]:\n"
        "    runpy.run_path(path)\n"
    )
    kept = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    for entry in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", watch, entry], env={**kept, **variables}, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected, done.stderr
