"""Kill a tiny training with SIGKILL again and again, resume it each time, and compare it with one left in peace.

    python tests/e2e/kill_and_resume.py --kills 50

Every other kill comes at a random moment, the others while a checkpoint is being written. After each of them
``last_checkpoint`` must name a whole file of no earlier epoch than before, and every run that reaches its end must have
the uninterrupted run's weights, bit for bit. A run that ends before it is killed is followed by a new one; the last is
left to end.
"""

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import torch

from switchablecompat.cli import train as command
from switchablecompat.modeling.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[2]
# Fork: a new Python and torch for every kill would take ten times as long as what is to be killed.
PROCESSES = multiprocessing.get_context("fork")
OPTIONS = ("SEED", "5", "SOLVER.MAX_EPOCH", "3", "MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]")


def train(folder: Path) -> None:
    """One process of the training: starts, or continues from its last checkpoint."""
    with open(folder / "output.txt", "a") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    torch.set_num_threads(1)
    config = str(ROOT / "configs" / "quick" / "sfsc_tiny.yml")
    options = [*OPTIONS, "OUTPUT_DIR", str(folder)]
    command.run(argparse.Namespace(config_file=config, opts=options, eval_only=False, resume=True, verbose=False))


def start(folder: Path) -> multiprocessing.Process:
    """Start :func:`train` in a process of its own."""
    folder.mkdir(exist_ok=True)
    process = PROCESSES.Process(target=train, args=(folder,))
    process.start()
    return process


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of a run that has reached its end."""
    return read_checkpoint(str(folder / "model_final.pth"))["model"]


def epochs_done(folder: Path) -> int:
    """Epochs behind the last checkpoint, which must be a whole file; 0 if there is none."""
    last = folder / "last_checkpoint"
    return read_checkpoint(str(folder / last.read_text()))["epoch"] + 1 if last.exists() else 0


def kill_while_writing(process: multiprocessing.Process, folder: Path) -> None:
    """Kill the process a moment after the first, second or third temporary file of a checkpoint appears."""
    seen = {path.name for path in folder.glob(".*.tmp.pth")}
    wanted = len(seen) + random.randint(1, 3)
    while process.is_alive() and len(seen) < wanted:
        seen |= {path.name for path in folder.glob(".*.tmp.pth")}
        time.sleep(0.0005)
    time.sleep(random.uniform(0, 0.01))
    process.kill()


def kill_and_resume(folder: Path, kills: int, say=print) -> None:
    """Kill and resume ``kills`` times below ``folder``.

    Raises:
        AssertionError: Something but the epoch in work was lost.
    """
    whole = folder / "whole"
    begin = time.perf_counter()
    process = start(whole)
    process.join()
    seconds = time.perf_counter() - begin
    assert process.exitcode == 0, (whole / "output.txt").read_text()[-3000:]
    expected = weights(whole)
    say(f"uninterrupted run: {seconds:.1f} s")

    killed, runs, done, at_work = 0, 0, 0, False
    while killed < kills or at_work:
        run = folder / f"run{runs}"
        process = start(run)
        if killed < kills and killed % 2:
            kill_while_writing(process, run)
        elif killed < kills:
            process.join(random.uniform(0, seconds))
            process.kill()
        process.join()
        assert process.exitcode in (0, -9), (run / "output.txt").read_text()[-3000:]
        if process.exitcode == 0:
            same = all(torch.equal(value, expected[key]) for key, value in weights(run).items())
            assert same, f"{run} has other weights than the uninterrupted run"
            runs, done, at_work = runs + 1, 0, False
            say(f"{run.name}: done, with the uninterrupted run's weights")
            continue
        before, done = done, epochs_done(run)
        assert done >= before, f"{run}: epoch {before} was done before the kill, {done} after it"
        killed, at_work = killed + 1, True
        say(f"kill {killed}/{kills}: {done} epochs done")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how often to kill (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default 0)")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        kill_and_resume(Path(folder), arguments.kills)
    print(f"{arguments.kills} kills survived")


if __name__ == "__main__":
    main()
