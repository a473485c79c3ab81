"""Measure speed and memory as ratios to the limit of the arithmetic, or to a peer in the same run.

Each sub-command measures in interleaved rounds, prints a table (median, quartiles of the ratio, target) and writes a
JSON, from which the tables of the documentation are made. Run nothing else on the machine.
"""

from __future__ import annotations

import startup  # noqa: F401  (before torch is loaded)

# isort: split
import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from fastreid.config import CfgNode

sys.path.insert(0, str(Path(__file__).parents[1]))  # to import benchmarks/
from benchmarks import aggregation, extraction, grid, report, scaling, training_step
from benchmarks.timing import Row, compare, compare_once, in_fresh_process, interleave
from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.engine import SwitchableTrainer
from switchablecompat.engine.setup import check_datasets
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.fastreid_shims.loading import use_cpu_loader
from switchablecompat.files import refuse_unwritable, write_json

EXAMPLES = """examples:
  python tools/benchmark.py step --threads 2 --batch 16
  python tools/benchmark.py grid --repeats 3 --output results/benchmark
"""
MARKET, MSMT = (3368, 19732, 751), (11659, 82161, 3060)  # queries, gallery, identities
R50 = "configs/Market1501/sfsc_R50.yml"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    help_of = {
        "step": "a training step against the plain sub-models' arithmetic, projection against summation, memory",
        "aggregation": "aggregating m gradients against TorchJD and against the textbook's loop",
        "grid": "the 4 x 4 grid at Market-1501's size against its matrix products and FastReID; memory at MSMT17's",
        "extraction": "features of all widths against one pass over the data and the forwards alone",
        "scaling": "step time over the number of widths, grid time over the gallery, two processes",
        "options": "channels-last memory, bfloat16 and a fused optimiser against the defaults",
    }
    for name, text in help_of.items():
        command = commands.add_parser(name, help=text, description=text, epilog=EXAMPLES)
        command.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds (default %(default)s)")
        command.add_argument("--threads", type=int, default=0, metavar="N", help="of a CPU (default: torch's choice)")
        command.add_argument("--output", metavar="DIR", help="write DIR/COMMAND.json (default: print only)")
        if name != "grid":
            default = "configs/Synthetic/sfsc.yml" if name == "extraction" else R50
            command.add_argument("--config-file", default=default, metavar="F", help="default %(default)s")
            command.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys to override")
        if name in ("step", "scaling", "options"):
            command.add_argument("--batch", type=int, default=16, metavar="N", help="images (default %(default)s)")
        if name == "aggregation":
            command.add_argument("--widths", default="2,4,8", metavar="M,M", help="numbers of gradients (%(default)s)")
    arguments = parser.parse_args(argv)
    for option, least in (("repeats", 1), ("batch", 1), ("threads", 0)):
        if getattr(arguments, option, least) < least:
            parser.error(f"--{option} must be at least {least}")
    return arguments


def load(arguments: argparse.Namespace) -> CfgNode:
    """Load the config, for the CPU if there is no GPU."""
    opts = list(arguments.opts)
    if not torch.cuda.is_available():
        opts += ["MODEL.DEVICE", "cpu"]
    return training_step.load(arguments.config_file, opts)


def step(arguments: argparse.Namespace) -> tuple[list[Row], dict]:
    """Measure the training step, projection, and memory."""
    cfg = load(arguments)
    batch, device = training_step.random_batch(cfg, arguments.batch), cfg.MODEL.DEVICE
    summed = training_step.changed(cfg, "SOLVER.AGGREGATION.NAME", "sum")
    tasks: dict[str, Callable[[], object]] = {
        "ours": training_step.SwitchableStep(cfg, batch),
        "sum": training_step.SwitchableStep(summed, batch),
        "ideal": training_step.IdealStep(cfg, batch),
    }
    seconds = interleave(tasks, arguments.repeats)
    on_gpu = device.startswith("cuda")
    rows = [
        compare("SFSC step", seconds, "ours", "ideal", 1.05 if on_gpu else 1.10, "plain sub-models, one after another"),
        compare("projection", seconds, "ours", "sum", 1.03, "the same step with plain summation"),
    ]
    del tasks
    threads = torch.get_num_threads()
    peaks = {
        name: in_fresh_process(training_step.peak_of, name, cfg, arguments.batch, threads)
        for name in ("switchable", "full")
    }
    m = len(cfg.MODEL.SWITCHABLE.WIDTHS)
    gradients = m * sum(p.parameter.numel() for p in aggregation.shared_of(cfg, m)) * 4 / 2**20
    limit = f"a step of the full model alone, and {m} flat gradients"
    rows.append(
        compare_once("peak memory of a step", peaks["switchable"], limit, peaks["full"] + gradients, 1.10, "MiB")
    )
    return rows, {"config": arguments.config_file, "opts": arguments.opts, "batch": arguments.batch}


def aggregate(arguments: argparse.Namespace) -> tuple[list[Row], dict]:
    """Measure aggregation alone."""
    cfg, rows = load(arguments), []
    for m in read_numbers(arguments.widths, "--widths"):
        shared = aggregation.shared_of(cfg, m)
        gradients = aggregation.random_gradients(shared, m)
        tasks = {
            "ours": aggregation.ours(shared, gradients, "global", "full"),
            "default": aggregation.ours(shared, gradients, "filter", "pairwise"),
            "TorchJD": aggregation.torchjd(shared, gradients),
            "textbook": aggregation.textbook(shared, gradients),
        }
        seconds = interleave(tasks, arguments.repeats)
        name = f"PCGrad of {m} gradients"
        rows += [
            compare(name, seconds, "ours", "TorchJD", 1.0, "TorchJD's PCGrad"),
            compare(name, seconds, "ours", "textbook", 0.2, "flatten-and-copy loop"),
            compare(f"{m} gradients, projection per filter", seconds, "default", "TorchJD", None, "TorchJD's PCGrad"),
        ]
        del tasks, gradients, shared
    return rows, {"config": arguments.config_file, "opts": arguments.opts}


def evaluate(arguments: argparse.Namespace) -> tuple[list[Row], dict]:
    """Measure grid evaluation."""
    rows, agreement = [], 0.0
    for dimension, separation, target in (
        (512, grid.TRAINED, 1.3),
        (2048, grid.TRAINED, 1.3),
        (512, grid.UNTRAINED, None),
    ):
        task = grid.random_task(*MARKET, dimension, 4, separation=separation)
        tasks = {"ours": grid.ours(task), "products": grid.products(task)}
        seconds = interleave(tasks, arguments.repeats)
        hardness = f"mAP {grid.ours(task)()[0][0].mAP:.0f}"
        name = f"4 x 4 grid, Market-1501's size, {dimension}-d, {hardness}"
        rows.append(compare(name, seconds, "ours", "products", target, "its 16 matrix products"))
    task = grid.random_task(*MARKET, 512, 1)
    with tempfile.TemporaryDirectory() as folder, grid.compiled_fastreid(Path(folder)), grid.quiet():
        peers = {
            f"FastReID, {name}": grid.fastreid(task, (0, 0), cython=name == "Cython") for name in ("Cython", "Python")
        }
        seconds = interleave({"ours": grid.ours(task), **peers}, arguments.repeats)
        cells = grid.ours(task)()
        for name, peer in peers.items():
            rows.append(compare("one cell, 512-d", seconds, "ours", name))
            agreement = max(agreement, grid.largest_difference(cells, (0, 0), peer()))
    threads = torch.get_num_threads()
    extra = in_fresh_process(grid.memory_of_a_cell, MSMT, threads)
    rows.append(compare_once("extra memory of a cell, MSMT17's size", extra, "1 GiB", 1024.0, 1.0, "MiB"))
    dense = 4 * sum(MARKET[:2]) ** 2 / 2**20
    for name in ("re-ranking", "query expansion"):
        extra = in_fresh_process(grid.memory_of_a_cell, MARKET, threads, name)
        against = "a matrix of all images against all (FastReID has several)"
        rows.append(compare_once(f"extra memory of {name}, Market-1501's size", extra, against, dense, 1.0, "MiB"))
    settings = {"market": MARKET, "msmt": MSMT, "largest_difference_to_fastreid_in_points": agreement}
    return rows, settings


def extract(arguments: argparse.Namespace) -> tuple[list[Row], dict]:
    """Measure feature extraction."""
    cfg = load(arguments)
    use_cpu_loader(not cfg.MODEL.DEVICE.startswith("cuda"))
    check_datasets(cfg, eval_only=True)
    (dataset,) = cfg.DATASETS.TESTS
    model, rows = SwitchableTrainer.build_model(cfg), []
    for workers in sorted({0, cfg.DATALOADER.NUM_WORKERS}):
        one = training_step.changed(cfg, "DATALOADER.NUM_WORKERS", workers)
        loader, _ = SwitchableTrainer.build_test_loader(one, dataset)
        tasks = {
            "ours": extraction.one_pass(model, loader),
            "separate": extraction.pass_for_each_width(model, loader),
            "data": extraction.data_alone(loader),
            "forwards": extraction.forwards_alone(model, list(loader)),
        }
        seconds = interleave(tasks, arguments.repeats)
        seconds["limit"] = seconds["data"] + seconds["forwards"]
        name = f"features of all widths, loader with {workers} workers"
        rows += [
            compare(name, seconds, "ours", "limit", 1.05, "one pass over the data + the forwards"),
            compare(name, seconds, "ours", "separate", None, "a pass for each width"),
        ]
    settings = {
        "config": arguments.config_file,
        "opts": arguments.opts,
        "images": sum(len(batch["targets"]) for batch in loader),
    }
    return rows, settings


def scale(arguments: argparse.Namespace) -> tuple[list[Row], dict]:
    """Measure scaling."""
    cfg, rows = load(arguments), []
    batch = training_step.random_batch(cfg, arguments.batch)
    key = "MODEL.SWITCHABLE.WIDTHS"
    configs = {m: training_step.changed(cfg, key, aggregation.widths_of(m)) for m in (1, 2, 4, 8)}
    macs = {m: scaling.macs_of_all_widths(one) for m, one in configs.items()}
    tasks = {str(m): training_step.SwitchableStep(one, batch) for m, one in configs.items()}
    seconds = interleave(tasks, arguments.repeats)
    del tasks
    for m in (2, 4, 8):
        scaled = {**seconds, "macs": seconds["1"] * macs[m] / macs[1]}
        peer = f"one width's step x {macs[m] / macs[1]:.2f} (multiply-accumulates)"
        rows.append(compare(f"step of {m} widths", scaled, str(m), "macs", None, peer))
    sizes = (10_000, 20_000, 40_000, 80_000)  # about 20 positives per query at every size
    galleries = {str(size): grid.ours(grid.random_task(1000, size, size // 20, 512, 1)) for size in sizes}
    seconds = interleave(galleries, arguments.repeats)
    series = {size: float(np.median(seconds[str(size)])) for size in sizes}
    growth = sizes[-1] / sizes[0]
    seconds["linear"] = seconds[str(sizes[0])] * growth
    peer = f"a gallery {growth:g} times smaller, x {growth:g}"
    rows.append(compare("a cell, 1,000 queries, 80,000 gallery items", seconds, str(sizes[-1]), "linear", None, peer))
    task = grid.random_task(1000, 20_000, 1000, 512, 4)
    one = dataclasses.replace(task, query=task.query[:1], gallery=task.gallery[:1])
    seconds = interleave({"m": grid.ours(task), "one": grid.ours(one)}, arguments.repeats)
    seconds["linear"] = 16 * seconds["one"]
    rows.append(compare("4 x 4 grid, 1,000 queries", seconds, "m", "linear", None, "one cell x 16"))
    if arguments.output:
        report.draw_growth(series, Path(arguments.output) / "gallery.png")
    if not cfg.MODEL.DEVICE.startswith("cuda"):
        alone, two = (
            min(scaling.seconds_of_steps(cfg, arguments.batch, arguments.repeats, processes=count)) for count in (1, 2)
        )
        peer = "one process, one thread, half the images"
        rows.append(compare_once("step of two processes, one thread each", two, peer, alone))
    settings = {"config": arguments.config_file, "opts": arguments.opts, "batch": arguments.batch}
    return rows, {**settings, "macs": macs, "seconds_of_a_cell_by_gallery": series}


def options(arguments: argparse.Namespace) -> tuple[list[Row], dict]:
    """Measure options whose benefit depends on the machine."""
    cfg = load(arguments)
    batch = training_step.random_batch(cfg, arguments.batch)
    channels_last = ["MODEL.SWITCHABLE.CHANNELS_LAST", "True"]
    bfloat16 = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16"]
    choices = {
        "default": [],
        "channels last": channels_last,
        "bfloat16": bfloat16,
        "bfloat16, channels last": bfloat16 + channels_last,
    }
    off = ["MODEL.SWITCHABLE.CHANNELS_LAST", "False", "SOLVER.AMP.ENABLED", "False"]
    tasks = {
        name: training_step.SwitchableStep(training_step.changed(cfg, *off, *opts), batch)
        for name, opts in choices.items()
    }
    seconds = interleave(tasks, arguments.repeats)
    peer = "a float32 step, FastReID's memory format"
    rows = [compare(f"step, {name}", seconds, name, "default", None, peer) for name in list(tasks)[1:]]
    del tasks
    steps = {name: training_step.optimizer_step(cfg, fused=name == "fused") for name in ("default", "fused")}
    seconds = interleave(steps, 4 * arguments.repeats)
    rows.append(compare("optimiser alone, fused", seconds, "fused", "default", None, f"{cfg.SOLVER.OPT} as it is"))
    return rows, {"config": arguments.config_file, "opts": arguments.opts, "batch": arguments.batch}


def read_numbers(text: str, option: str) -> list[int]:
    """Parse numbers such as ``2,4,8``."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 2:
        raise InputError(option, "must be numbers of at least 2, such as 2,4,8", text)
    return numbers


RUN = {
    "step": step,
    "aggregation": aggregate,
    "grid": evaluate,
    "extraction": extract,
    "scaling": scale,
    "options": options,
}


def main() -> None:
    """Run the command."""
    arguments = parse_arguments()
    if arguments.output:
        refuse_unwritable(arguments.output, "--output")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows, settings = RUN[arguments.command](arguments)
    command = "python tools/benchmark.py " + " ".join(sys.argv[1:])
    content = report.record(arguments.command, command, {"repeats": arguments.repeats, **settings}, rows)
    print(report.render([content]))
    if arguments.output:
        print(f"Written: {write_json(Path(arguments.output) / f'{arguments.command}.json', content)}")


if __name__ == "__main__":
    exit_on_input_error(main)
