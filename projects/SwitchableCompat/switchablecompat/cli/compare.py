"""Run every method of a suite on every seed, then make tables and plots."""

import argparse
import signal
import sys
from functools import partial
from pathlib import Path

from ..comparison.deviations import find_deviations
from ..comparison.execute import Runner
from ..comparison.plots import write_plots
from ..comparison.render import DEVIATE, write_tables
from ..comparison.results import load_results
from ..comparison.runs import plan
from ..comparison.suite import Suite, load_suite
from ..comparison.table import Comparison
from ..errors import InputError
from ..files import refuse_unwritable


def write_comparison(suite: Suite, folder: Path, jobs_dir: Path) -> None:
    results = load_results(suite, folder)
    if not results:
        raise InputError(folder, "must hold results of the suite's methods and seeds", "none")
    comparison = Comparison(suite, results, find_deviations(suite, results, (jobs_dir, folder)))
    for text in comparison.deviations:
        print(f"note: {DEVIATE}: {text}", flush=True)
    files = [*write_tables(comparison, folder), *write_plots(comparison, folder)]
    expected = len(suite.methods) * len(suite.seeds)
    print(f"{len(results)} of {expected} results; written: " + ", ".join(map(str, files)), flush=True)


def main(arguments: argparse.Namespace) -> int:
    # `kill` then raises SystemExit, on which the runner ends its training processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    suite = load_suite(arguments.suite)
    results_dir = Path(arguments.results_dir) / suite.name
    refuse_unwritable(results_dir, "--results-dir")
    jobs_dir = Path(arguments.jobs_dir or Path("outputs") / "suites" / suite.name)
    failed = []
    if not arguments.table_only:
        refuse_unwritable(jobs_dir, "--jobs-dir")
        jobs = plan(suite, jobs_dir, arguments.seeds or list(suite.seeds), arguments.only)
        runner = Runner(suite, jobs, results_dir, jobs_dir, partial(print, flush=True), arguments.jobs)
        if arguments.dry_run:
            runner.dry_run()
            return 0
        try:
            failed = runner.run()
        except KeyboardInterrupt:
            print("interrupted; the same command continues", file=sys.stderr)
            return 130
    if not failed or load_results(suite, results_dir):
        write_comparison(suite, results_dir, jobs_dir)
    if failed:
        print(f"{len(failed)} failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0
