"""The cost of each sub-model: parameters, multiply-accumulates, file sizes, and measured latency."""

import itertools
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...modeling.opened import OpenedModel
from ...settings import preprocessing_of
from ...widths import width_name
from ..files.export import FILES, describe, packages
from ..files.graph import PixelsToFeatures, standalone
from ..files.opening import open_encoder
from ..files.writers import write_checkpoint, write_onnx
from ..images import input_size
from . import timing

RUNTIMES = ("pytorch", "onnxruntime")


def profile(
    model: OpenedModel, *, batches: Sequence[int] = (1, 8), threads: int = 1, repeats: int = 50
) -> dict[str, Any]:
    """Profile all sub-models of a run, trained or not, on the CPU with ``threads`` threads of PyTorch and onnxruntime.

    Returns:
        The content of ``profile.json``: the setting, and for each sub-model ``parameters``, ``macs`` (for one image),
        ``checkpoint_bytes``, ``onnx_bytes`` and ``latency_ms`` by runtime and batch size.
    """
    packages("onnx")
    submodels: list[dict[str, Any]] = []
    calls: dict[tuple[str, int, int], Callable[[], object]] = {}
    with timing.threads(threads), tempfile.TemporaryDirectory() as folder:
        for index, width in enumerate(model.widths):
            entry, models = _submodel(model, width, Path(folder))
            submodels.append(entry)
            for runtime, batch in itertools.product(RUNTIMES, batches):
                images = torch.rand(batch, 3, *input_size(preprocessing_of(model.cfg))) * 255
                calls[runtime, batch, index] = partial(models[runtime], images)
        with torch.inference_mode():
            seconds = timing.take_turns(calls, repeats)
    for index, entry in enumerate(submodels):
        entry["latency_ms"] = {runtime: {} for runtime in RUNTIMES}
        for runtime, batch in itertools.product(RUNTIMES, batches):
            full = seconds[runtime, batch, len(submodels) - 1]
            entry["latency_ms"][runtime][str(batch)] = timing.latency(seconds[runtime, batch, index], full)
    own = {"submodels": submodels, "batches": list(batches), "threads": threads, "repeats": repeats}
    return {"format": 1, **own, **timing.measured_on(model)}


def _submodel(model: OpenedModel, width: float, folder: Path) -> tuple[dict[str, Any], dict[str, Callable]]:
    """Counts and file sizes of one sub-model, and a callable model for each runtime."""
    network = standalone(model, width)
    card = describe(model, network, width, "onnx")
    checkpoint, onnx = (folder / card.name / FILES[kind] for kind in ("checkpoint", "onnx"))
    onnx.parent.mkdir()
    write_checkpoint(network, checkpoint, card, model.cfg, checkpoint)
    write_onnx(network, onnx, card)
    entry = {
        "width": card.width,
        "parameters": card.parameters,
        "macs": card.macs,
        "checkpoint_bytes": checkpoint.stat().st_size,
        "onnx_bytes": onnx.stat().st_size,
    }
    return entry, {"pytorch": PixelsToFeatures(network), "onnxruntime": open_encoder(onnx)}


def render_profile(content: dict[str, Any]) -> str:
    """The profile as two Markdown tables, sizes and latencies, and a line on the setting of the measurement."""
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
