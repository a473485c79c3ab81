"""Run all parts on a machine with a GPU within a time budget, the most valuable first. Each part writes a file.

Downloads nothing. Packages that the machine lacks come from the wheels that ``make gpu-wheels`` collected.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import manifest, wheels

ROOT = Path(__file__).parents[1]
EXAMPLES = """examples:
  python -m gpu --budget 540                              on a CUDA machine: results/gpu/
  python -m gpu --dry-run                                 tiny numbers on a CPU: outputs/gpu_dry_run/
  python -m gpu --parts grid                              one part; results of the others stay
"""
PARTS = {"tests": 0.28, "step": 0.22, "grid": 0.05, "finetune": 0.45}  # shares of the budget; each writes NAME.json
OUTPUT, DRY_OUTPUT = "results/gpu", "outputs/gpu_dry_run"
GRACE = 8.0  # seconds between asking a part to end and ending it


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gpu", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=540, metavar="S", help="total seconds (default %(default)s)")
    where = f"results (default {OUTPUT}, with --dry-run {DRY_OUTPUT})"
    parser.add_argument("--output", metavar="DIR", help=where)
    parser.add_argument("--wheels", default="outputs/gpu_wheels", metavar="DIR", help="wheels (default %(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), metavar="A,B", help="parts to run (default %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="the same steps on a CPU, with tiny numbers")
    arguments = parser.parse_args(argv)
    arguments.output = arguments.output or (DRY_OUTPUT if arguments.dry_run else OUTPUT)
    arguments.parts = arguments.parts.split(",")
    if unknown := [name for name in arguments.parts if name not in PARTS]:
        parser.error(f"--parts must be of {','.join(PARTS)}, found {unknown[0]}")
    if arguments.budget <= 0:
        parser.error(f"--budget must be positive, found {arguments.budget:g}")
    return arguments


class Session:
    """The ordered parts, the clock, and the manifest, which is complete after each part."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.start = arguments, time.monotonic()
        self.output = Path(arguments.output).absolute()
        self.scratch = Path(tempfile.mkdtemp(prefix="gpu-"))
        self.environment = wheels.environment(ROOT, self.scratch / "site-packages")
        self.manifest: dict[str, Any] = {
            "format": 1,
            "budget_seconds": arguments.budget,
            "dry_run": arguments.dry_run,
            "started": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
            "parts": {},
        }

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.arguments.budget - (time.monotonic() - self.start)

    def save(self) -> None:
        """Write the manifest."""
        self.manifest["seconds"] = round(time.monotonic() - self.start, 1)
        manifest.write(self.output, self.manifest)

    def command(self, module: str, *options: object) -> list[str]:
        """The command line of a module of this folder."""
        dry = ["--dry-run"] if self.arguments.dry_run else []
        return [sys.executable, "-m", f"gpu.{module}", *map(str, options), *dry]

    def popen(self, command: list[str], log: str) -> subprocess.Popen:
        """Start a process in its own process group, with its output to a file."""
        with open(self.scratch / log, "w") as file:
            return subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=file, stderr=file, start_new_session=True
            )

    def run(self, name: str, weights: float) -> None:
        """Run one part within its share of the time left."""
        file = f"{name}.json"
        seconds = (self.left() - GRACE) * PARTS[name] / weights
        if seconds < 2:
            self.manifest["parts"][name] = {"status": "skipped", "reason": "no time was left"}
            return self.save()
        print(f"{name}: at most {seconds:.0f} s", flush=True)
        started = time.monotonic()
        options = ("--seconds", f"{seconds:.1f}", "--output", self.output / file, "--scratch", self.scratch)
        process = self.popen(self.command(name, *options), f"{name}.log")
        status = "done"
        try:
            if process.wait(seconds + GRACE / 2):
                status = "failed"
        except subprocess.TimeoutExpired:
            status = "cut"
        finally:
            end(process)
        part: dict[str, Any] = {"status": status, "seconds": round(time.monotonic() - started, 1)}
        if (self.output / file).is_file():
            part["file"] = file
        if status != "done":
            lines = (self.scratch / f"{name}.log").read_text(errors="replace").splitlines()
            part["last_lines"] = lines[-12:]
        self.manifest["parts"][name] = part
        self.save()
        self.keep(f"{name}.log")
        print(f"{name}: {status} after {part['seconds']:.0f} s", flush=True)

    def run_all(self) -> int:
        """Run everything. Returns 0 if all parts are done. Without packages or a GPU, earlier results stay."""
        try:
            self.manifest["parts"] = manifest.others(self.output, self.arguments.parts)
            return self.check_machine() or self.run_parts()
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def check_machine(self) -> int:
        """Install missing packages and describe the machine. Writes no results; returns 0 if parts can run."""
        missing = wheels.install_missing(Path(self.arguments.wheels), self.scratch / "site-packages")
        if missing:
            print(f"error: packages are missing, and no wheel has them: {', '.join(missing)}", file=sys.stderr)
            return 2
        machine = subprocess.run(
            self.command("machine"), cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if machine.returncode:
            print(machine.stderr.strip().splitlines()[-1], file=sys.stderr)
            return machine.returncode
        self.manifest |= json.loads(machine.stdout.splitlines()[-1])
        return 0

    def run_parts(self) -> int:
        """Run the parts in order, in place of their earlier results. Returns 0 if all are done."""
        parts = self.arguments.parts
        self.output.mkdir(parents=True, exist_ok=True)
        for name in (*(f"{part}.json" for part in parts), "log.txt"):
            (self.output / name).unlink(missing_ok=True)
        self.save()
        drawing = None
        try:
            if "finetune" in parts:  # runs during the tests, which use little of the CPU
                drawing = self.popen(self.command("persons", "--output", self.scratch / "persons.npz"), "persons.log")
            for number, name in enumerate(parts):
                self.run(name, sum(PARTS[other] for other in parts[number:]))
        finally:
            if drawing is not None:
                end(drawing)
                self.keep("persons.log")
        self.manifest["finished"] = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        self.save()
        return 0 if all(self.manifest["parts"][name]["status"] == "done" for name in parts) else 1

    def keep(self, log: str) -> None:
        """Append the output of a process to the one log that is kept."""
        with open(self.output / "log.txt", "a") as file:
            file.write(f"== {log}\n{(self.scratch / log).read_text(errors='replace')}\n")


def end(process: subprocess.Popen) -> None:
    """End a process and all processes that it started."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE / 4)
        except subprocess.TimeoutExpired:
            continue
    process.poll()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # ends the parts, too
    sys.exit(Session(parse_arguments()).run_all())
