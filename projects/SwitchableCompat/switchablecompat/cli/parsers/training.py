"""Commands that train, evaluate and compare."""

import argparse

from ...choices import PRECISIONS
from ...errors import InputError
from ...files import shipped
from .shared import Parser, add_config, add_models, positive
from .unread import fill_in, refuse_unread


def train(parser: Parser) -> None:
    """Train or evaluate a switchable model; writes checkpoints, metrics, log and grid to OUTPUT_DIR.

    Prints one line per epoch, and the grid at the end. OUTPUT_DIR/log.txt has the full log. The flags are FastReID's.
    kill (SIGTERM) writes a checkpoint of the last step and exits with 143. Ctrl-C exits at once.

    example: %(prog)s --config-file configs/Synthetic/sfsc_demo.yml SEED 1
    """
    add_config(parser, help="yaml, by its path or by the name of one that came with the package")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="only evaluate MODEL.WEIGHTS")
    parser.add_argument("--verbose", action="store_true", help="print the full log")
    parser.add_argument("--num-gpus", type=positive, default=1, metavar="N", help="GPUs of this machine (default 1)")
    parser.add_argument("--num-machines", type=positive, default=1, metavar="N", help="machines (default 1)")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="N", help="this machine, from 0 (default 0)")
    parser.add_argument(
        "--dist-url", default="auto", metavar="URL", help="tcp://HOST:PORT for several machines (default: a free port)"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys to override")
    parser.checks += [_check_processes, _check_resume]


def _check_processes(arguments: argparse.Namespace) -> None:
    """Reject numbers of processes that would wait for each other forever."""
    rank, machines = arguments.machine_rank, arguments.num_machines
    if not 0 <= rank < machines:
        raise InputError("--machine-rank", f"must be below --num-machines {machines}", rank)
    if machines > 1 and arguments.dist_url == "auto":
        raise InputError("--dist-url", "must be given for several machines, such as tcp://HOST:PORT", "auto")


def _check_resume(arguments: argparse.Namespace) -> None:
    if arguments.eval_only:
        refuse_unread(arguments, "is for training; --eval-only evaluates MODEL.WEIGHTS", "resume")


def grid(parser: Parser) -> None:
    """Evaluate the compatibility grid of trained models: one switchable checkpoint, separate ones, or a mix.

    Rows are query sub-models, columns are gallery sub-models. Every model runs once over the same test set. Models with
    different preprocessing or dimension are rejected, because their features cannot be compared. Writes grid.json,
    .csv, .md and .png, and queries.npz with each query's rank of the first match and average precision in every cell.

    With --require the exit code is 1 if the grid does not meet the requirements in a file (docs/report.md), with one
    line for each that it misses. The files are written in any case. The exit code is 2 on bad usage or input.

    examples:
      %(prog)s --weights outputs/demo/model_final.pth --output outputs/demo/cross_test --require require.yaml
      %(prog)s --model 0.25=outputs/bct/w025 --model 1.0=outputs/unified/w100 --undefined 1.0,1.0 \\
          --output outputs/bct/grid MODEL.DEVICE cpu
    """
    add_models(parser)
    parser.add_argument("--require", metavar="FILE", help="yaml or JSON with requirements for the grid")


def compare(parser: Parser) -> None:
    """Run every method of a suite on every seed, then make the table, the statistics and the plots.

    Every run is resumable: the same command continues after an interruption, and skips finished runs. With --jobs
    several runs share this machine. To share the work, start the same command in other shells, or on other machines
    that share --jobs-dir and --results-dir: each takes runs that no other has taken. Ctrl-C and kill end all runs of
    this command, with a checkpoint. Results go to results/SUITE/, one JSON per method and seed. The tables and plots
    there are made from these files alone. The exit code is 1 if a run failed (the others still run), and 2 on bad usage
    or input.

    examples:
      %(prog)s --suite configs/suites/quick.yml
      %(prog)s --suite configs/suites/synthetic.yml --only sfsc,bct_s --seeds 0,1 --jobs 2
    """
    parser.add_argument(
        "--suite", required=True, type=shipped, metavar="YML", help="suite of methods and seeds, see configs/suites/"
    )
    parser.add_argument("--jobs-dir", metavar="DIR", help="checkpoints and logs (default: outputs/suites/SUITE)")
    parser.add_argument("--results-dir", default="results", metavar="DIR", help="parent of results (default results)")
    only = "run only these methods (default: all of the suite); may be repeated"
    parser.add_argument("--only", type=_names, action="extend", default=[], metavar="A,B", help=only)
    parser.add_argument("--seeds", type=_seeds, metavar="0,1", help="run only these seeds (default: all of the suite)")
    jobs = "runs at once, each with cores / N threads and one GPU (default 1)"
    parser.add_argument("--jobs", type=positive, metavar="N", help=jobs)
    parser.add_argument("--dry-run", action="store_true", help="only print what would be run")
    parser.add_argument("--table-only", action="store_true", help="run nothing, only make tables and plots again")
    parser.checks.append(_check_table)


def _check_table(arguments: argparse.Namespace) -> None:
    if arguments.table_only:
        rule = "must stand without --table-only, which runs nothing and makes the tables of all results"
        refuse_unread(arguments, rule, "dry_run", "only", "seeds", "jobs")
    fill_in(arguments, jobs=1)


def _names(text: str) -> list[str]:
    return text.split(",")


def _seeds(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(map(int, text.split(","))))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be integers with commas between them, found {text!r}") from None


def report(parser: Parser) -> None:
    """Report on a family of sub-models: which cells are compatible, which fail, and which thresholds to use.

    Runs the models once over a test set. Writes report.html (one self-contained page: grid, CMC curves, similarities,
    thresholds of every cell and of the family, negative flips with pictures, a gallery that is re-encoded step by
    step), report.json with all figures, and queries.csv with every query in every cell. See docs/report.md.

    examples:
      %(prog)s --weights outputs/demo/model_final.pth --output outputs/demo/report
      %(prog)s --weights outputs/demo/model_final.pth --output outputs/demo/report_mine --dataset ManifestReID \\
          DATASETS.MANIFEST my_images/manifest.csv
    """
    add_models(parser)


def compare_precision(parser: Parser) -> None:
    """Measure the effect of half precision: every cell of a trained model in float32 and in another precision.

    All models run twice over the same test set. Prints mAP and Rank-1 of every cell with their difference in percentage
    points, and the lowest and the mean cosine between both features of the same image for every sub-model. Writes the
    same figures to precision.json. A CPU supports bfloat16, a GPU also float16.

    example:
      %(prog)s --weights outputs/demo/model_final.pth --precision bfloat16 --output outputs/demo/bfloat16
    """
    add_models(parser)
    parser.add_argument("--precision", choices=PRECISIONS[1:], required=True, help="precision to compare with float32")
