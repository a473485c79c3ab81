"""Measure a training step of all sub-models as a ratio to plain ones, and the GPU's idle time between launches."""

import switchablecompat  # noqa: F401  (before anything of FastReID)

# isort: split
import gc
from collections.abc import Iterator

import torch
from fastreid.config import CfgNode
from torch.utils.benchmark import timer

from benchmarks.report import record
from benchmarks.step import Step, SwitchableStep, changed, load, measure_steps, random_batch
from benchmarks.timing import Row, compare, compare_once, interleave
from switchablecompat.files import write_json

from .options import Options, read_options

NETWORKS: dict[str, tuple[str, list[str]]] = {
    "ResNet-50": ("configs/Market1501/sfsc_R50.yml", []),
    "MobileNetV2": ("configs/Manifest/sfsc_MobileNetV2.yml", ["DATASETS.NAMES", "('Market1501',)"]),
}
TINY: dict[str, tuple[str, list[str]]] = {"thin ResNet": ("configs/Synthetic/sfsc.yml", [])}
SIZE = ["INPUT.SIZE_TRAIN", "[256, 128]", "SOLVER.AMP.ENABLED", "True", "MODEL.SWITCHABLE.CHANNELS_LAST", "True"]


def measure_network(name: str, cfg: CfgNode, options: Options) -> Iterator[Row]:
    """Measure one network without compilation."""
    batch = random_batch(cfg, 8 if options.dry_run else 64)
    rounds, warm_up = (1, 1) if options.dry_run else (15, 6)
    times, steps = measure_steps(cfg, batch, rounds, warm_up=warm_up, of=f"{name}: ")
    yield from times
    if options.device == "cuda":
        for task in ("ours", "plain"):
            busy, wall = busy_seconds(steps[task])
            label = "SFSC step" if task == "ours" else "plain sub-models"
            yield compare_once(f"{name}: GPU busy, {label}", busy, "wall time of the step", wall)


def busy_seconds(step: Step) -> tuple[float, float]:
    """Seconds of GPU kernels and of wall time of a step. The difference is idle time."""
    from torch.profiler import ProfilerActivity, profile

    step()
    started = timer()  # waits for the GPU
    step()
    wall = timer() - started  # without the profiler, which slows launches down
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize()
    kernels = [event for event in profiled.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(event.time_range.elapsed_us() for event in kernels) / 1e6, wall


def compiled_row(name: str, cfg: CfgNode, mode: str, options: Options) -> Row:
    """Measure the compiled step against the step without compilation."""
    batch = random_batch(cfg, 8 if options.dry_run else 64)
    eager = SwitchableStep(cfg, batch)
    compiled = SwitchableStep(changed(cfg, "MODEL.SWITCHABLE.COMPILE", mode), batch)
    started = timer()
    for _ in range(1 if options.dry_run else 4):  # traces, records, replays
        compiled()
    took = timer() - started
    repeats = 1 if options.dry_run else 10
    seconds = interleave({"compiled": compiled, "eager": eager}, repeats)
    peer = f"not compiled (the first steps took {took:.0f} s)"
    return compare(f"{name}: SFSC step, COMPILE {mode}", seconds, "compiled", "eager", None, peer)


def main() -> None:
    """Measure, and write after each row. Each network is also compiled in the mode that takes least time to compile."""
    options = read_options(__doc__)
    networks, modes = (TINY, ["aot_eager"]) if options.dry_run else (NETWORKS, ["cudagraphs", "reduce-overhead"])
    common = ["MODEL.DEVICE", options.device, *([] if options.dry_run else SIZE)]
    configs = {name: load(file, [*common, *opts]) for name, (file, opts) in networks.items()}
    rows: list[Row] = []

    def save() -> None:
        settings = {"batch": 8 if options.dry_run else 64, "networks": [*networks], "amp": not options.dry_run}
        settings["cudnn_benchmark"] = torch.backends.cudnn.benchmark  # off: its search would take half of the time
        write_json(options.output, record("gpu step", "make gpu", settings, rows))

    def keep(row: Row) -> None:
        rows.append(row)
        save()
        print(f"{row.name}: {options.left():.0f} s left", flush=True)

    def compiled(name: str, mode: str) -> None:
        gc.collect()
        if options.left() > 15:
            keep(compiled_row(name, configs[name], mode, options))

    first, *others = modes
    for name, cfg in configs.items():
        gc.collect()
        for row in measure_network(name, cfg, options):
            keep(row)
        compiled(name, first)
    for mode in others:
        for name in configs:
            compiled(name, mode)


if __name__ == "__main__":
    main()
