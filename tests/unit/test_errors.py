import argparse
import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import ProcessRaisedException

from switchablecompat.cli import train
from switchablecompat.errors import InputError, exit_on_input_error, name_some


def test_one_line_with_subject_rule_and_value():
    assert str(InputError("KEY", "must be small", 9)) == "KEY: must be small, found 9"
    assert str(InputError("file.csv", "must exist")) == "file.csv: must exist"


def test_it_survives_a_process_boundary():
    error = pickle.loads(pickle.dumps(InputError("KEY", "must be small", 9)))
    assert type(error) is InputError
    assert str(error) == "KEY: must be small, found 9"


def test_exit_codes(capsys):
    for main, code in ((lambda: None, 0), (lambda: 3, 3)):
        with pytest.raises(SystemExit) as stop:
            exit_on_input_error(main)
        assert stop.value.code == code

    def bad():
        raise InputError("KEY", "must be small", 9)

    with pytest.raises(SystemExit) as stop:
        exit_on_input_error(bad)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: KEY: must be small, found 9\n"


def test_some_names_and_how_many_more():
    assert name_some(["a", "b", "c", "d"]) == "a, b, c and 1 more"
    assert name_some(("a", 2), limit=2) == "a, 2"
    assert name_some([]) == ""


def ended(main, capsys):
    """Exit code and standard error of a command."""
    with pytest.raises(SystemExit) as stop:
        exit_on_input_error(main)
    return stop.value.code, capsys.readouterr().err


def of_cause(error, cause):
    error.__cause__ = cause
    return error


WORKER = "Caught OSError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File ...\n"
MACHINE = [
    (OSError(errno.ENOSPC, "No space left on device", "out/grid.json"),
     "out/grid.json: must have room, found No space left on device"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "files: must have room on their disk"),
    (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), "files: must have room"),
    (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "files: must have room"),
    (of_cause(KeyError("x"), OSError(errno.ENOSPC, "No space left on device", "a.pth")), "a.pth: must have room"),
    (OSError(errno.EMFILE, "Too many open files", "a.jpg"), "open files: must be allowed in greater number (ulimit"),
    (OSError(f"{WORKER}OSError: [Errno 24] Too many open files"), "open files: must be allowed in greater number"),
    (RuntimeError("received 0 items of ancdata"), "open files: must be"),
    (RuntimeError("unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)"),
     "open files: must be"),
    (OSError(errno.EISDIR, "Is a directory", "out/.grid.tmp", None, "out/grid.csv"), "out/grid.csv: must be readable"),
    (OSError(errno.EROFS, "Read-only file system", "out"), "out: must be readable, or writable, found Read-only"),
    (OSError(errno.EACCES, "Permission denied", "a.yml"), "a.yml: must be readable, or writable, found Permission"),
    (UnicodeEncodeError("ascii", "ä", 0, 1, "ordinal not in range(128)"), "text: must be UTF-8, and this locale ("),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "text: must be UTF-8, and this locale ("),
    (MemoryError(), "memory: must hold a batch: lower the batch size"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
     "memory: must hold a batch: lower the batch size, found [enforce fail]"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), "memory: must hold a batch"),
    (FloatingPointError("iteration 3: loss_w100 is nan"), "training: must stay within finite numbers: lower "
     "SOLVER.BASE_LR, found iteration 3: loss_w100 is nan"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "line"), MACHINE, ids=[str(line)[:40] for _, line in MACHINE])
def test_what_the_machine_refuses_is_one_line(error, line, capsys):
    def main():
        raise error

    code, err = ended(main, capsys)
    assert code == 2
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [KeyError("a"), ValueError("b"), RuntimeError("shapes (2, 3)"), AssertionError()])
def test_what_is_the_programs_fault_keeps_its_traceback(error):
    def main():
        raise error

    with pytest.raises(type(error)):
        exit_on_input_error(main)


def test_ctrl_c_is_one_line_and_130(capsys):
    def main():
        raise KeyboardInterrupt

    assert ended(main, capsys) == (130, "interrupted\n")


def run(code, **kwargs):
    """A Python program with the tools at hand, in a process of its own."""
    folder = Path(__file__).parents[2]
    paths = os.pathsep.join([str(folder / "tools"), str(folder / "projects" / "SwitchableCompat")])
    environment = {**os.environ, "PYTHONPATH": paths, **kwargs.pop("env", {})}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, **kwargs)


def test_ctrl_c_while_a_tool_imports_is_one_line_and_130():
    """startup.py is imported first; what comes after it may take seconds."""
    done = run("import startup\nraise KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (130, b"interrupted\n")
    done = run("import startup\nraise KeyError('x')")
    assert done.returncode == 1
    assert b"Traceback" in done.stderr


PRINT = "from switchablecompat.errors import exit_on_input_error\nexit_on_input_error(lambda: print({text}))"


@pytest.mark.parametrize("text", [r"'\udcff.jpg'", r"'\u00e4.jpg \u2713'"])
def test_any_name_can_be_printed_in_any_locale(text):
    code = PRINT.format(text=text)
    done = run(code, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b".jpg\n") or b".jpg" in done.stdout


def test_a_full_disk_behind_the_standard_output_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PRINT.format(text="'x'")], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "error: files: must have room on their disk, found No space left on device\n"


def test_a_reader_that_has_gone_is_no_error():
    code = PRINT.format(text="'x' * 200000")
    command = f'{sys.executable} -c "{code}" | head -c 1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout == "x141\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("last", "line"),
    [
        ("PermissionError: [Errno 13] Permission denied: 'out/x.pth'", "files: must be readable, or writable, found"),
        ("OSError: [Errno 28] No space left on device", "files: must have room on their disk, found"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "memory: must hold a batch"),
        ("MemoryError", "memory: must hold a batch"),
        ("RuntimeError: [enforce fail at inline_container.cc:595] . unexpected pos", "files: must have room on their"),
        ("FloatingPointError: loss of w025 is nan", "training: must stay within finite numbers"),
        ("RuntimeError: a fault of ours", None),
        ("KeyError: 'model'", None),
    ],
)
def test_failures_of_the_machine_in_one_of_several_processes_are_one_line_too(last, line, monkeypatch, capsys):
    def launch(*args, **kwargs):
        text = f"\n\n-- Process 1 terminated:\nTraceback (most recent call last):\n  ...\n{last}\n"
        raise ProcessRaisedException(text, 1, 4242)

    monkeypatch.setattr(train, "launch", launch)
    args = argparse.Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")
    if line is None:
        with pytest.raises(ProcessRaisedException, match="Traceback"):
            exit_on_input_error(lambda: train.main(args))
        return
    with pytest.raises(SystemExit) as stop:
        exit_on_input_error(lambda: train.main(args))
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {line}")
