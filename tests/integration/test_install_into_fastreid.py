"""Into a checkout assembled from the installed FastReID and out again: what is there, what runs, what is refused."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from builders import tiny_model
from switchablecompat.config import load_config

ROOT = Path(__file__).parents[2]
QUICK = "projects/SwitchableCompat/configs/quick/sfsc_tiny.yml"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """The installed FastReID, laid out as its repository is."""
    folder = tmp_path_factory.mktemp("checkout") / "fast-reid"
    installed = importlib.util.find_spec("fastreid").submodule_search_locations[0]
    shutil.copytree(installed, folder / "fastreid", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in {
        "tools/train_net.py": "import sys\nsys.path.append('.')\n",
        "projects/README.md": "# Projects\n",
        "projects/FastDistill/train_net.py": "import sys\nsys.path.append('.')\n",
        "configs/Base-bagtricks.yml": "MODEL:\n  META_ARCHITECTURE: Baseline\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def checkout(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "fast-reid"))


def tool(*arguments):
    """Without site-packages: it must run before anything is installed."""
    command = [sys.executable, "-S", str(ROOT / "tools" / "install_into_fastreid.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT.parent)


def content(folder):
    """Everything below a folder, without following links."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found


def assert_refused(result, *parts):
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    for part in ("error: ", *parts):
        assert part in result.stderr


@pytest.mark.parametrize("how", [(), ("--copy",), ("--link",)], ids=lambda how: " ".join(how) or "default")
def test_in_and_out_again_leaves_nothing_and_changes_nothing(checkout, how):
    before = content(checkout)
    result = tool(checkout, *how)
    assert (result.returncode, result.stderr) == (0, "")
    assert "installed in" in result.stdout
    project = checkout / "projects" / "SwitchableCompat"
    during = content(checkout)
    assert {name: during.get(name) for name in before} == before
    assert all(name.startswith("projects/SwitchableCompat") for name in set(during) - set(before))
    assert (project / "switchablecompat").is_symlink() == (how == ("--link",))
    for name in ("train_net.py", "switchablecompat/modeling/convert.py", "switchablecompat/py.typed"):
        assert (project / name).read_bytes() == (ROOT / "projects" / "SwitchableCompat" / name).read_bytes()
    result = tool(checkout, "--uninstall")
    assert (result.returncode, result.stderr) == (0, "")
    assert content(checkout) == before


def test_every_config_says_the_same_after_the_install(checkout, monkeypatch):
    names = [p.relative_to(ROOT) for p in sorted((ROOT / "configs").rglob("*.yml")) if "suites" not in p.parts]
    names = [name for name in names if not name.name.startswith("Base-")]
    assert len(names) > 30
    original = [load_config(str(ROOT / name)).dump() for name in names]
    monkeypatch.chdir(checkout)
    for how in ("--copy", "--link"):
        tool(checkout, how)
        installed = [load_config(f"projects/SwitchableCompat/{name}").dump() for name in names]
        assert installed == original, how


LOAD_SUITES = """
import sys
from pathlib import Path
sys.path[:0] = [".", "projects/SwitchableCompat"]
import switchablecompat
from switchablecompat.comparison.suite import load_suite
assert Path(switchablecompat.__file__).is_relative_to(Path.cwd()), switchablecompat.__file__
for path in sorted(Path("projects/SwitchableCompat/configs/suites").glob("*.yml")):
    print(load_suite(str(path)).name)
"""


@pytest.mark.parametrize("how", ["--copy", "--link"])
def test_every_suite_loads_after_the_install(checkout, how):
    names = sorted(path.stem for path in (ROOT / "configs" / "suites").glob("*.yml"))
    assert "market1501" in names, "it has the paper's figures beside its own"
    tool(checkout, how)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", LOAD_SUITES]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(names)


def run_project(checkout, *arguments, data, entry=("train_net.py",)):
    """The project's own entry point from inside the checkout, with nothing of ours on PYTHONPATH."""
    hidden = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"OMP_NUM_THREADS": "1", "FASTREID_DATASETS": str(data)}
    script = [f"projects/SwitchableCompat/{entry[0]}", *entry[1:]]
    command = [sys.executable, *script, "--config-file", QUICK, *map(str, arguments)]
    return subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, timeout=300, check=False, env=environment
    )


def test_a_copy_runs_with_the_checkouts_fastreid_and_can_still_be_taken_away(checkout, tmp_path):
    before = content(checkout)
    tool(checkout)
    torch.save({"model": tiny_model().state_dict()}, tmp_path / "model.pth")
    weights, out = ("MODEL.WEIGHTS", tmp_path / "model.pth"), tmp_path / "out"
    result = run_project(checkout, "--eval-only", *weights, "OUTPUT_DIR", out, data=tmp_path / "data")
    assert result.returncode == 0, result.stderr
    assert (out / "grid.json").is_file()
    python, path, command, *options = result.stdout.splitlines()[-1].removeprefix("Next: ").split()
    assert (python, command) == ("python", "report")
    entry = (path.removeprefix("projects/SwitchableCompat/"), command)
    report = run_project(checkout, *options, data=tmp_path / "data", entry=entry)
    assert report.returncode == 0, report.stderr
    assert (out / "report" / "report.html").is_file()
    assert f"@{checkout / 'fastreid'}" in (out / "log.txt").read_text()
    # what was imported has been compiled
    assert any((checkout / "fastreid" / "modeling" / "__pycache__").iterdir())
    assert any((checkout / "projects" / "SwitchableCompat" / "switchablecompat" / "__pycache__").iterdir())
    result = tool(checkout, "--uninstall")
    assert result.returncode == 0, result.stderr
    assert {name: value for name, value in content(checkout).items() if "__pycache__" not in name} == before


def test_a_link_runs_with_the_checkouts_fastreid(checkout, tmp_path):
    tool(checkout, "--link")
    result = run_project(checkout, "SEED", data=tmp_path)
    assert_refused(result, "KEY VALUE overrides: must come in pairs, found SEED")
    assert any((checkout / "fastreid" / "modeling" / "__pycache__").iterdir())


@pytest.mark.parametrize("arguments", [("--uninstall",), ("--copy",), ("--link",)])
def test_what_the_user_changed_or_added_is_named_and_kept(checkout, arguments):
    tool(checkout)
    project = checkout / "projects" / "SwitchableCompat"
    (project / "configs" / "mine.yml").write_text("_BASE_: Base-SwitchableCompat.yml\n")
    with (project / "train_net.py").open("a") as file:
        file.write("# mine\n")
    (project / "README.md").unlink()
    before = content(checkout)
    assert_refused(
        tool(checkout, *arguments),
        f"{project}: must hold only what was installed",
        "found configs/mine.yml (added), train_net.py (changed)\n",
    )
    assert content(checkout) == before


def test_an_unchanged_installation_is_replaced(checkout):
    tool(checkout, "--link")
    result = tool(checkout, "--copy")
    assert result.returncode == 0
    assert "replaced in" in result.stdout
    assert not (checkout / "projects" / "SwitchableCompat" / "configs").is_symlink()
    assert sorted(path.name for path in (checkout / "projects").iterdir()) == [
        "FastDistill",
        "README.md",
        "SwitchableCompat",
    ]


@pytest.mark.parametrize("arguments", [(), ("--link",), ("--uninstall",)])
def test_a_foreign_folder_is_not_touched(checkout, arguments):
    foreign = checkout / "projects" / "SwitchableCompat"
    foreign.mkdir()
    (foreign / "train_net.py").write_text("mine")
    before = content(checkout)
    assert_refused(tool(checkout, *arguments), f"{foreign}: must have been installed by this tool", "something else")
    assert content(checkout) == before


def test_what_is_no_checkout_is_refused(tmp_path, checkout):
    rule = "must be a FastReID checkout, with fastreid/__init__.py, tools/train_net.py, projects, found no "
    assert_refused(tool(tmp_path), f"{tmp_path}: {rule}fastreid/__init__.py, tools/train_net.py, projects")
    assert_refused(tool(tmp_path / "nowhere"), rule)
    assert_refused(tool(ROOT), f"{rule}fastreid/__init__.py")
    shutil.rmtree(checkout / "projects")
    assert_refused(tool(checkout), f"{rule}projects\n")
    assert_refused(tool(), "command line: the following arguments are required: CHECKOUT")
    assert_refused(tool(checkout, "--link", "--copy"), "not allowed with argument")


def test_uninstalling_what_is_not_there(checkout):
    assert_refused(tool(checkout, "--uninstall"), "must have been installed by this tool, found nothing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_checkout_that_cannot_be_written(checkout):
    (checkout / "projects").chmod(0o555)
    assert_refused(tool(checkout), "must be writable")
