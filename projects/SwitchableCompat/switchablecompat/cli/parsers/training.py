"""Commands that train, evaluate and compare."""

from __future__ import annotations

import argparse

from ...choices import PRECISIONS
from ...errors import InputError
from ...files import shipped
from .shared import Command, Parser, add_config, add_models, check_counts


@Command
def train(parser: Parser) -> None:
    """Train or evaluate a switchable model; writes checkpoints, metrics, log and grid to OUTPUT_DIR.

    The screen shows a line for each epoch, and the grid at the end; OUTPUT_DIR/log.txt has everything. The flags are
    FastReID's. kill (SIGTERM) writes a checkpoint of the last step and exits with 143; Ctrl-C exits at once.

    example: %(prog)s --config-file configs/Synthetic/sfsc_demo.yml SEED 1
    """
    add_config(parser, help="yaml, by its path or by the name of one that came with the package")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument("--verbose", action="store_true", help="show all that goes to log.txt")
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="of this machine (default 1)")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N", help="(default 1)")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="N", help="of this one, from 0 (default 0)")
    parser.add_argument(
        "--dist-url", default="auto", metavar="URL", help="tcp://HOST:PORT of several machines (default: a free port)"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys to override")
    parser.checks.append(_check_processes)


def _check_processes(arguments: argparse.Namespace) -> None:
    """Refuse numbers of processes that would wait for each other for ever."""
    check_counts(arguments, "num_gpus", "num_machines")
    rank, machines = arguments.machine_rank, arguments.num_machines
    if not 0 <= rank < machines:
        raise InputError("--machine-rank", f"must be below --num-machines {machines}", rank)
    if machines > 1 and arguments.dist_url == "auto":
        raise InputError("--dist-url", "must be given for several machines, such as tcp://HOST:PORT", "auto")


@Command
def grid(parser: Parser) -> None:
    """The compatibility grid of trained models: one switchable checkpoint, several separate ones, or a mix.

    Rows are query sub-models, columns are gallery sub-models. Every model is run once over the same test set; models
    whose features cannot be compared (other preprocessing or dimension) are refused. Writes grid.json, .csv, .md and
    .png, and queries.npz with the rank of the first match and the average precision of every query in every cell.

    With --require it is a gate: exit code 1 if the grid does not meet a file's requirements (docs/report.md), one line
    for each that is broken; the files are written all the same. Exit code 2 on bad usage or input.

    examples:
      %(prog)s --weights outputs/demo/model_final.pth --output outputs/demo/cross_test --require require.yaml
      %(prog)s --model 0.25=outputs/bct/w025 --model 1.0=outputs/unified/w100 --undefined 1.0,1.0 \\
          --output outputs/bct/grid MODEL.DEVICE cpu
    """
    add_models(parser)
    parser.add_argument("--require", metavar="FILE", help="yaml or JSON of what the grid must reach")


@Command
def compare(parser: Parser) -> None:
    """The whole comparison: every method of a suite on every seed, then the table, the statistics and the plots.

    Every run is resumable: the same command continues where it was interrupted, and skips what is done. With --jobs
    several runs share this machine; the same command in other shells, or on other machines that share --jobs-dir and
    --results-dir, takes runs that nobody has taken yet. Ctrl-C and kill end all runs of this command, with a
    checkpoint. Results go to results/SUITE/, one JSON per method and seed; the tables and plots there are made from
    these files alone. Exit code 0; 1 if a run failed (the others are still run), 2 on bad usage or input.

    examples:
      %(prog)s --suite configs/suites/quick.yml
      %(prog)s --suite configs/suites/synthetic.yml --only sfsc --only bct_s --seeds 0,1 --jobs 2
    """
    parser.add_argument(
        "--suite", required=True, type=shipped, metavar="YML", help="what to compare, see configs/suites/"
    )
    parser.add_argument("--jobs-dir", metavar="DIR", help="checkpoints and logs (default: outputs/suites/SUITE)")
    parser.add_argument("--results-dir", default="results", metavar="DIR", help="for DIR/SUITE (default results)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="METHOD", help="run this method; may be repeated"
    )
    parser.add_argument("--seeds", metavar="0,1", help="run these seeds (default: all of the suite)")
    jobs = "runs at once, with cores / N threads and one GPU each (default 1)"
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help=jobs)
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, and stop")
    parser.add_argument("--table-only", action="store_true", help="run nothing, make the tables again")
    parser.checks.append(lambda arguments: check_counts(arguments, "jobs"))


@Command
def report(parser: Parser) -> None:
    """A report on a family of sub-models: what holds, where it breaks, and which thresholds to use.

    Runs the models once over a test set and writes report.html (one page that needs nothing else: grid, CMC curves,
    similarities, thresholds of every cell and of the family, negative flips with pictures, a gallery that is re-encoded
    step by step), report.json with all figures, and queries.csv with every query in every cell. See docs/report.md.

    examples:
      %(prog)s --weights outputs/demo/model_final.pth --output outputs/demo/report
      %(prog)s --weights outputs/demo/model_final.pth --output outputs/demo/report_mine --dataset ManifestReID \\
          DATASETS.MANIFEST my_images/manifest.csv
    """
    add_models(parser)


@Command
def compare_precision(parser: Parser) -> None:
    """What half precision changes: every cell of a trained model in float32 and in another precision, side by side.

    All models are run twice over the same test set. Prints mAP and Rank-1 of every cell with the difference in points,
    and how alike the features of every sub-model are in both (the lowest and the mean cosine); writes the same as
    precision.json. On a CPU bfloat16 can be compared, on a GPU float16 too.

    example:
      %(prog)s --weights outputs/demo/model_final.pth --precision bfloat16 --output outputs/demo/bfloat16
    """
    add_models(parser)
    parser.add_argument("--precision", choices=PRECISIONS[1:], required=True, help="what to compare with float32")
