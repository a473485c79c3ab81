"""The wheel alone, beside a FastReID: its command, and the configs in it, from a folder that has none."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "configs", "results/paper", "projects")
# what pip writes into the file bin/switchablecompat
COMMAND = "from importlib.metadata import entry_points as e; e(group='console_scripts')['switchablecompat'].load()()"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in a copy: the checkout gets no build folder."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(target)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """Run the command in an environment with the wheel, and of this one only what stands beside torch and FastReID."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", with_pip=False)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    beside = {Path(importlib.util.find_spec(name).origin).parents[1] for name in ("torch", "fastreid", "numpy")}
    (site / "beside.pth").write_text("\n".join(map(str, beside)))  # .pth files in there (the checkout's) are not read
    (folder / "work").mkdir()

    def run(*arguments, code=COMMAND):
        hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        environment = {key: value for key, value in os.environ.items() if key not in hidden}
        environment |= {"FASTREID_DATASETS": str(folder / "datasets"), "OMP_NUM_THREADS": "1"}
        command = [str(folder / "env" / "bin" / "python"), "-I", "-c", code, *arguments]
        done = subprocess.run(command, cwd=folder / "work", env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    run.folder = folder
    return run


def test_the_checkout_is_not_what_is_tested(run):
    found = run(code="import switchablecompat_command as c; c.postponed = True; import switchablecompat as s; "
                     "print(c.__file__, s.__file__)")  # fmt: skip
    assert all(Path(path).is_relative_to(run.folder) for path in found.split())


def test_the_tiny_config_of_the_wheel_trains_to_its_grid(run):
    out = run("train", "--config-file", "configs/quick/sfsc_tiny.yml", "OUTPUT_DIR", "out")
    grid = json.loads((run.folder / "work" / "out" / "grid.json").read_text())
    assert len(grid["mAP"]) == 4
    assert "Cross-tests: " in out
    # a line for each epoch, and the end: not the network, the config or the environment
    assert sum(line.startswith("epoch ") for line in out.splitlines()) == 2
    assert len(out.splitlines()) < 30
    assert out.splitlines()[-1].startswith("Next: switchablecompat report --weights out/model_final.pth ")
    assert "SlimmableConv2d" in (run.folder / "work" / "out" / "log.txt").read_text()


def test_suites_and_the_configs_that_they_name_are_found_too(run):
    out = run("compare", "--suite", "suites/quick.yml", "--dry-run")
    assert "-m switchablecompat_command train --config-file configs/" in out
    assert "-m switchablecompat_command grid " in out


def test_a_short_name_is_enough_and_a_file_that_is_there_comes_first(run):
    code = "from switchablecompat.files import shipped; import sys; print(shipped(sys.argv[1]))"
    found = Path(run("Synthetic/sfsc_demo.yml", code=code).strip())
    assert found.read_bytes() == (ROOT / "configs" / "Synthetic" / "sfsc_demo.yml").read_bytes()
    own = run.folder / "work" / "configs" / "Synthetic" / "sfsc_demo.yml"
    own.parent.mkdir(parents=True)
    own.write_text("SEED: 1\n")
    assert run("configs/Synthetic/sfsc_demo.yml", code=code).strip() == "configs/Synthetic/sfsc_demo.yml"
    assert run("Synthetic/none.yml", code=code).strip() == "Synthetic/none.yml"


def test_no_benchmark_is_a_command(run):
    out = run("--help")
    assert "  train " in out
    assert not any(word in out for word in ("benchmark", "update", "describe", "install"))
