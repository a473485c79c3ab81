"""Run the tests that need a GPU, and write the outcome of each as soon as it is known."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from switchablecompat.files import write_json
from switchablecompat.provenance import hardware, versions

from .options import Options, read_options

ROOT = Path(__file__).parents[1]
OUTCOME = re.compile(
    r"^\[gw\d+\] \[ *\d+%\] (?P<outcome>PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (?P<test>tests/.+?)\s*$"
)
PROCESSES = 4  # that share the GPU; most of a test's time is its CPU's
FIRST = ["test_a_whole_run.py", "test_evaluation.py", "test_training_compiled.py"]  # one of long tests, then others


def command(options: Options) -> list[str]:
    """The command that runs pytest on the marked tests; in a dry run, on a few that need no GPU."""
    chosen = ["tests/unit/test_widths.py"] if options.dry_run else ["-m", "gpu", *marked_files()]
    # Unknown warnings of other versions must not fail the tests.
    flags = ["-v", "-W", "default", "-p", "no:cacheprovider", "-p", "gpu.failures", "--tb=short", "--color=no"]
    flags += ["-n", str(PROCESSES), "--dist", "load", "--maxschedchunk", "1"]
    return [sys.executable, "-m", "pytest", *flags, *chosen]


def marked_files() -> list[str]:
    """Test files that contain the mark. Others may need packages that a machine with a GPU lacks."""
    files = sorted((ROOT / "tests").rglob("test_*.py"), key=_turn)
    return [str(path.relative_to(ROOT)) for path in files if "pytest.mark.gpu" in path.read_text()]


def _turn(path: Path) -> tuple[int, Path]:
    """The longest tests come early, each with a short one behind it in the queue of its process."""
    return (FIRST.index(path.name) if path.name in FIRST else len(FIRST), path)


def follow(lines: Iterable[str], options: Options) -> dict[str, str]:
    """Collect the outcome of each test from pytest's output, and rewrite the file after each."""
    outcomes: dict[str, str] = {}
    for line in lines:
        print(line, end="", flush=True)
        if (found := OUTCOME.match(line)) is not None:
            outcomes[found["test"]] = found["outcome"].lower()
            write(outcomes, options, complete=False)
    return outcomes


def write(outcomes: dict[str, str], options: Options, *, complete: bool) -> None:
    """Write the part's file."""
    content = {"format": 1, "complete": complete, "counts": dict(Counter(outcomes.values())), "outcomes": outcomes}
    write_json(options.output, content | {"hardware": hardware(), "versions": versions()})


def main() -> None:
    """Run the tests."""
    options = read_options(__doc__)
    with subprocess.Popen(command(options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        outcomes = follow(process.stdout, options)
    write(outcomes, options, complete=True)
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
