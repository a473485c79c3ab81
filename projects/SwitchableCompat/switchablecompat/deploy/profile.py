"""What each sub-model costs: parameters, multiply-accumulates, file sizes, and latency as measured."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..provenance import hardware, versions
from ..widths import width_name
from .encoder import load_encoder
from .export import FILES, packages
from .extractor import FeatureExtractor, count_macs
from .images import input_size, preprocessing_of
from .run import TrainedRun
from .timing import Timing, take_turns
from .writers import write_checkpoint, write_onnx

RUNTIMES = ("pytorch", "onnxruntime")


def profile(
    run: TrainedRun,
    *,
    batches: Sequence[int] = (1, 8),
    threads: int = 1,
    repeats: int = 50,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Profile all sub-models of a run on the CPU.

    Args:
        run: A run, trained or not, on the CPU.
        batches: Batch sizes to time.
        threads: Of PyTorch, and of onnxruntime.
        repeats: How often each is timed.
        say: Told about progress.

    Returns:
        What ``profile.json`` holds: the setting, and for each sub-model ``parameters``, ``macs`` (of one image),
        ``checkpoint_bytes``, ``onnx_bytes`` and ``latency_ms`` by runtime and batch size.

    Raises:
        InputError: A package is missing.
    """
    optional_versions = packages("onnx")
    submodels: list[dict[str, Any]] = []
    calls: dict[tuple[str, int, int], Callable[[], object]] = {}
    with _threads(threads), tempfile.TemporaryDirectory() as folder:
        for index, width in enumerate(run.widths):
            say(f"{width_name(width)}: counting, writing its files")
            entry, models = _submodel(run, width, Path(folder))
            submodels.append(entry)
            for runtime, batch in itertools.product(RUNTIMES, batches):
                images = torch.rand(batch, 3, *input_size(preprocessing_of(run.cfg))) * 255
                calls[runtime, batch, index] = partial(models[runtime], images)
        say(f"timing {len(calls)} combinations {repeats} times")
        with torch.inference_mode():
            seconds = take_turns(calls, repeats, say=say)
    for index, entry in enumerate(submodels):
        entry["latency_ms"] = {runtime: {} for runtime in RUNTIMES}
        for runtime, batch in itertools.product(RUNTIMES, batches):
            full = seconds[runtime, batch, len(submodels) - 1]
            entry["latency_ms"][runtime][str(batch)] = asdict(Timing.of(seconds[runtime, batch, index], full))
    return {
        "format": 1,
        "submodels": submodels,
        "input_size": list(input_size(preprocessing_of(run.cfg))),
        "batches": list(batches),
        "threads": threads,
        "repeats": repeats,
        "family": run.family if run.weights else None,
        "method": run.record["method"],
        "config": run.record["config"],
        "versions": {**versions(), **optional_versions},
        "hardware": hardware(),
    }


def _submodel(run: TrainedRun, width: float, folder: Path) -> tuple[dict[str, Any], dict[str, Callable]]:
    """One sub-model's counts and file sizes, and the model that each runtime runs."""
    card = run.card(width, kind="onnx", file=FILES["onnx"], l2_normalised=True)
    model = run.submodel(width)
    extractor = FeatureExtractor(model)
    checkpoint, onnx = (folder / card.name / FILES[kind] for kind in ("checkpoint", "onnx"))
    onnx.parent.mkdir()
    write_checkpoint(model, checkpoint, card, run.cfg, checkpoint)
    write_onnx(model, onnx, card)
    entry = {
        "width": card.width,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "macs": count_macs(extractor, torch.zeros(1, 3, *input_size(card.preprocessing))),
        "checkpoint_bytes": checkpoint.stat().st_size,
        "onnx_bytes": onnx.stat().st_size,
    }
    return entry, {"pytorch": extractor, "onnxruntime": load_encoder(onnx)}


def render_profile(content: dict[str, Any]) -> str:
    """The profile as two Markdown tables, sizes and latencies, and what they were measured with."""
    entries = content["submodels"]
    full = entries[-1]
    lines = [
        "| sub-model | parameters | rel. | MACs | rel. | checkpoint (bytes) | rel. | ONNX (bytes) | rel. |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for entry in entries:
        cells = [width_name(entry["width"])]
        for key in ("parameters", "macs", "checkpoint_bytes", "onnx_bytes"):
            cells += [f"{entry[key]:,}", f"{entry[key] / full[key]:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "| runtime | batch | sub-model | median (ms) | quartiles (ms) | per image (ms) | relative to full |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for runtime in RUNTIMES:
        for batch in content["batches"]:
            for entry in entries:
                time = entry["latency_ms"][runtime][str(batch)]
                spread = f"{time['low']:.3f} to {time['high']:.3f}"
                cells = [runtime, str(batch), width_name(entry["width"]), f"{time['median']:.3f}", spread]
                cells += [f"{time['median'] / batch:.3f}", f"{time['relative']:.3f}"]
                lines.append(f"| {' | '.join(cells)} |")
    height, width = content["input_size"]
    machine, used = content["hardware"], content["versions"]
    named = ", ".join(f"{name} {used[name]}" for name in ("python", "torch", "onnxruntime", "switchablecompat"))
    lines += [
        "",
        f"Images of {height}x{width}; MACs of one image; rel.: relative to the full model. {content['repeats']} "
        f"repeats in turns, {content['threads']} thread(s) on {machine['cores']} cores of {machine['cpu']}; {named}.",
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def _threads(count: int) -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)
