"""The whole comparison: every method of a suite on every seed, then the table, the statistics and the plots.

Every run is resumable: the same command continues where it was interrupted, and skips what is done. With --jobs several
runs share this machine; the same command in other shells, or on other machines that share --jobs-dir and --results-dir,
takes runs that nobody has taken yet. Ctrl-C and kill end all runs of this command, with a checkpoint. Results go to
results/SUITE/, one JSON per method and seed; the tables and plots there are made from these files alone. Exit code 0;
1 if a run failed (the others are still run), 2 on bad usage or input.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import startup
from switchablecompat.comparison.execute import Runner
from switchablecompat.comparison.plots import write_plots
from switchablecompat.comparison.render import write_tables
from switchablecompat.comparison.results import load_results
from switchablecompat.comparison.runs import plan
from switchablecompat.comparison.suite import Suite, load_suite
from switchablecompat.comparison.table import Comparison
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable

EXAMPLES = """examples:
  python tools/compare.py --suite configs/suites/quick.yml
  python tools/compare.py --suite configs/suites/synthetic.yml --only sfsc --only bct_s --seeds 0,1
  python tools/compare.py --suite configs/suites/synthetic.yml --jobs 2
  python tools/compare.py --suite configs/suites/synthetic.yml --table-only
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--suite", required=True, metavar="YML", help="what to compare, see configs/suites/")
    parser.add_argument("--jobs-dir", metavar="DIR", help="checkpoints and logs (default: outputs/suites/SUITE)")
    parser.add_argument(
        "--results-dir", default="results", metavar="DIR", help="results go to DIR/SUITE (default results)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="METHOD", help="run this method; may be repeated"
    )
    parser.add_argument("--seeds", metavar="0,1", help="run these seeds (default: all of the suite)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs at once, with cores / N threads and one GPU each (default 1)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, and stop")
    parser.add_argument("--table-only", action="store_true", help="run nothing, make the tables again")
    return parser.parse_args(argv)


def read_seeds(text: str | None, suite: Suite) -> list[int]:
    """Seeds from ``0,1``."""
    if text is None:
        return list(suite.seeds)
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError("--seeds", "must be integers with commas between them", repr(text)) from None


def write_comparison(suite: Suite, folder: Path) -> None:
    """Make tables and plots from the results that exist."""
    results = load_results(suite, folder)
    if not results:
        raise InputError(folder, "must hold results of the suite's methods and seeds", "none")
    comparison = Comparison(suite, results)
    files = [*write_tables(comparison, folder), *write_plots(comparison, folder)]
    expected = len(suite.methods) * len(suite.seeds)
    print(f"{len(results)} of {expected} results; written: " + ", ".join(map(str, files)), flush=True)


def main() -> int:
    """Run the command."""
    # So that `kill` ends the training processes too, which the runner does on its way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = parse_arguments()
    if arguments.jobs < 1:
        raise InputError("--jobs", "must be at least 1", arguments.jobs)
    suite = load_suite(arguments.suite)
    results_dir = Path(arguments.results_dir) / suite.name
    refuse_unwritable(results_dir, "--results-dir")
    failed = []
    if not arguments.table_only:
        jobs_dir = Path(arguments.jobs_dir or Path("outputs") / "suites" / suite.name)
        refuse_unwritable(jobs_dir, "--jobs-dir")
        jobs = plan(suite, jobs_dir, read_seeds(arguments.seeds, suite), arguments.only)
        tools, at_once = Path(__file__).parent, arguments.jobs
        runner = Runner(suite, jobs, results_dir, jobs_dir, tools, lambda line: print(line, flush=True), at_once)
        if arguments.dry_run:
            runner.dry_run()
            return 0
        try:
            failed = runner.run()
        except KeyboardInterrupt:
            print("interrupted; the same command continues", file=sys.stderr)
            return 130
    if not failed or load_results(suite, results_dir):
        write_comparison(suite, results_dir)
    if failed:
        print(f"{len(failed)} failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    exit_on_input_error(main)
