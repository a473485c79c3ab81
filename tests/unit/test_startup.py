"""How every command starts: help and bad usage load nothing that takes long, waiting threads sleep."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from fastreid.engine import default_argument_parser

from switchablecompat import cli
from switchablecompat.cli.parsers import COMMANDS
from switchablecompat.cli.parsers.shared import Parser

TOOLS = Path(__file__).parents[2] / "tools"
PROJECT = "projects/SwitchableCompat"
ENTRY = TOOLS.parent / PROJECT / "train_net.py"
ALL = sorted(path for path in TOOLS.glob("*.py") if path.stem != "startup")
SCRIPTS = [path for path in ALL if "from startup import command" in path.read_text()]
SLOW = {"torch", "fastreid", "numpy", "matplotlib", "faiss", "yaml"}
AFTER = (
    "import runpy, sys\n"
    "try:\n"
    "    runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    "except SystemExit as stop:\n"
    f"    print(stop.code, sorted({SLOW!r} & sys.modules.keys()), file=sys.stderr)\n"
)
WATCH = (
    "import os, sys, importlib.abc, runpy\n"
    "class Watch(importlib.abc.MetaPathFinder):\n"
    "    def find_spec(self, name, path, target=None):\n"
    "        if name == 'torch':\n"
    "            print(os.environ.get('GOMP_SPINCOUNT'))\n"
    "            os._exit(0)\n"
    "sys.meta_path.insert(0, Watch())\n"
    "runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
)


def python(code, *arguments, **environment):
    """A program in a process of its own, as a user starts a script of tools/."""
    hidden = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(TOOLS)!r})\n{code}", *map(str, arguments)]
    return subprocess.run(command, env={**kept, "COLUMNS": "120", **environment}, capture_output=True, text=True)


def test_every_command_has_a_script():
    assert {f"{cli.SCRIPTS.get(name, name).replace('-', '_')}.py" for name in COMMANDS} == {p.name for p in SCRIPTS}


@pytest.mark.parametrize("path", [*ALL, ENTRY], ids=lambda path: path.stem)
def test_help_and_bad_usage_load_nothing_that_takes_long(path):
    done = python(AFTER, path, "--help")
    assert done.stderr == "0 []\n"
    assert f"python {path.relative_to(TOOLS.parent)} " in done.stdout.split("example")[1]
    assert len(done.stdout.splitlines()) <= 40, "more than a screen"
    done = python(AFTER, path, "--none", "x")
    line, loaded = done.stderr.splitlines()
    assert line.startswith("error: command line: ")
    assert loaded == "2 []"


@pytest.mark.parametrize("arguments", [("--help",), (), ("--version",), ("none",), ("search", "query", "--help")])
def test_the_installed_command_answers_at_once_too(arguments):
    done = python(AFTER, ENTRY.with_name("switchablecompat_command.py"), *arguments)
    code = "2" if "none" in arguments else "0"
    assert done.stderr.splitlines()[-1] == f"{code} []"
    if arguments in ((), ("--help",)):
        assert all(f"  {name} " in done.stdout for name in COMMANDS)
    if code == "2":
        assert done.stderr.startswith("error: command line: must start with one of train, grid, ")


@pytest.mark.parametrize("path", [*SCRIPTS[:1], TOOLS / "train_net.py", ENTRY], ids=lambda path: str(path.parent.name))
@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, "1000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"), ({"GOMP_SPINCOUNT": "9"}, "9")],
)
def test_waiting_threads_sleep_unless_the_user_has_said_otherwise(variables, expected, path):
    """Told by the environment that torch finds when it is loaded."""
    done = python(WATCH, path, "--config-file", "none.yml", **variables)
    assert done.stdout.strip() == expected, done.stderr


def test_train_has_fastreids_flags():
    """The parser is ours, so that FastReID need not be loaded for its help."""
    ours, theirs = Parser(COMMANDS["train"]), default_argument_parser()
    options = [{text for action in parser._actions for text in action.option_strings} for parser in (ours, theirs)]
    assert options[0] - options[1] == {"--verbose"}
    assert options[0] >= options[1]
    for flag in ("--resume", "--eval-only"):
        line = ["--config-file", "x.yml", flag, "--num-gpus", "2", "SEED", "1"]
        assert vars(ours.read(line)) == {**vars(theirs.parse_args(line)), "verbose": False, "dist_url": "auto"}


@pytest.mark.parametrize("missing", ["fastreid", "pyarrow"])
@pytest.mark.parametrize("name", ["search", "extract", "try_index"])
def test_what_is_not_installed_is_one_line_that_says_how_to_get_it(name, missing):
    arguments = {
        "search": ["index", "--model", "x", "--images", "x", "--output", "x"],
        "extract": ["--model", "x", "--images", "x", "--output", "x"],
        "try_index": ["--generate", "10", "--factory", "Flat", "--output", "x"],
    }
    hide = (
        "import sys, importlib.util\n"
        f"sys.modules[{missing!r}] = None\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == {missing!r} else find(name, *rest)\n"
    )
    done = python(hide + AFTER, TOOLS / f"{name}.py", *arguments[name])
    expected = {
        "fastreid": "error: FastReID is not installed: pip install --no-deps fastreid==1.4.0 ",
        "pyarrow": "error: pyarrow is needed for galleries: pip install 'switchablecompat[deploy]'",
    }
    line, code = done.stderr.splitlines()
    assert line.startswith(expected[missing])
    assert code.startswith("2 ")


@pytest.mark.parametrize(
    ("script", "report", "train"),
    [
        ("tools/train_net.py", "python tools/report.py", "python tools/train_net.py"),
        (f"{PROJECT}/train_net.py", f"python {PROJECT}/switchablecompat_command.py report",
         f"python {PROJECT}/train_net.py"),
        ("bin/switchablecompat", "switchablecompat report", "switchablecompat train"),
    ],
)  # fmt: skip
def test_a_spawned_process_names_commands_as_the_user_started_them(script, report, train, monkeypatch):
    monkeypatch.setattr("sys.argv", [script, "--num-gpus", "2"])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert [*pool.map(cli.typed, ("report", "train"))] == [report, train]


@pytest.mark.parametrize(
    "path", [TOOLS / "train_net.py", ENTRY, "as pip writes it", "python -m"], ids=lambda path: Path(path).parent.name
)
def test_a_process_started_anew_can_read_fastreids_objects(path, tmp_path):
    """``multiprocessing`` runs the main script under another name, and then unpickles, a loader's data set first."""
    if path == "as pip writes it":
        path = tmp_path / "switchablecompat"
        path.write_text("from switchablecompat_command import main\nif __name__ == '__main__':\n    main()\n")
    start = f"runpy.run_path({str(path)!r}, run_name='__mp_main__')"
    if path == "python -m":
        start = "runpy.run_module('switchablecompat_command', run_name='__mp_main__', alter_sys=True)"
    done = python(f"import pickle, runpy\n{start}\nprint(pickle.loads(b'cfastreid.data\\nCommDataset\\n.').__name__)")
    assert done.stdout == "CommDataset\n", done.stderr
