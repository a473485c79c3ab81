"""Measure each precision of each sub-model: file size, latency in onnxruntime, mAP in each cell."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...choices import REDUCED
from ...modeling.opened import OpenedModel
from ...settings import preprocessing_of
from ...widths import width_name
from ..files.export import FILES, describe
from ..files.graph import standalone
from ..files.held_out import HeldOut
from ..files.low_precision import Limits, export_precision
from ..files.opening import open_encoder
from ..files.writers import write_onnx
from ..images import input_size
from . import timing


def profile_precisions(
    model: OpenedModel, held_out: HeldOut, calibration: tuple[Tensor, str], *, max_drop: float, repeats: int = 50
) -> dict[str, Any]:
    """Write every width in every precision to a temporary folder, and measure the files on one thread of the CPU.

    The arguments are those of :func:`~..files.low_precision.export_precision`; a file that loses more than ``max_drop``
    points of mAP is rejected. Each file is timed ``repeats`` times, on one image.

    Returns:
        The content of ``precisions.json``: the setting, and for each file its ``width``, ``precision``,
        ``file_bytes``, ``latency_ms`` and the result of :meth:`~.held_out.HeldOut.compare`.
    """
    entries: list[dict[str, Any]] = []
    calls: dict[tuple[float, str], Callable[[], object]] = {}
    image = torch.rand(1, 3, *input_size(preprocessing_of(model.cfg))) * 255
    limits = Limits(max_drop)
    with timing.threads(1), tempfile.TemporaryDirectory() as folder:
        for width in model.widths:
            network = standalone(model, width)
            source = Path(folder) / f"{width_name(width)}.onnx"
            write_onnx(network, source, describe(model, network, width, "onnx", file=source.name))
            files = {"float32": source}
            inputs = (held_out, calibration, limits)
            for precision in REDUCED:
                target, _ = export_precision(model, width, precision, folder, *inputs, source=source)
                files[precision] = target / FILES["onnx"]
            for precision, file in files.items():
                encoder = open_encoder(file)
                extra = encoder.card.extra
                entries.append({
                    "width": width,
                    "precision": precision,
                    "file_bytes": file.stat().st_size,
                    "float32_layers": extra.get("float32_layers", []),
                    **(extra["proof"] if "proof" in extra else held_out.compare(encoder)),
                })  # fmt: skip
                calls[width, precision] = partial(encoder, image)
        seconds = timing.take_turns(calls, repeats)
    for entry in entries:
        own, full = (seconds[entry["width"], precision] for precision in (entry["precision"], "float32"))
        entry["latency_ms"] = timing.latency(own, full)
    return {
        "format": 1,
        "entries": entries,
        "calibration": {"images": len(calibration[0]), "source": calibration[1]},
        "max_map_drop": max_drop,
        "repeats": repeats,
        **timing.measured_on(model),
    }


def render_precisions(content: dict[str, Any]) -> str:
    """A Markdown table with one line per file, and a line on the setting of the measurement."""
    entries: Sequence[dict[str, Any]] = content["entries"]
    galleries = [cell["gallery"] for cell in entries[0]["mAP"][:-1]]
    rows = []
    for entry in entries:
        time = entry["latency_ms"]
        row = [f"{width_name(entry['width'])} {entry['precision']}", f"{entry['file_bytes']:,}"]
        row += [f"{time['median']:.3f}", f"{time['relative']:.2f}", f"{entry['cosine']['lowest']:.4f}"]
        for cell in entry["mAP"]:
            loss = "" if entry["precision"] == "float32" else f" ({signed(-cell['drop'])})"
            row.append(f"{cell['mAP']:.2f}{loss}")
        rows.append([*row, str(len(entry["float32_layers"])) if entry["precision"] == "int8" else "-"])
    headers = ["query sub-model", "file (bytes)", "median (ms)", "rel. to float32", "lowest cosine to float32"]
    headers += [f"mAP on {name}" for name in galleries] + ["mAP on itself", "layers left in float32"]
    table = timing.markdown(headers, rows)
    height, width = content["input_size"]
    machine, used = content["hardware"], content["versions"]
    named = ", ".join(f"{name} {used[name]}" for name in ("python", "torch", "onnxruntime"))
    return (
        f"{table}\n\nIn parentheses: points of mAP against float32 queries. {entries[0]['images']} held-out images of "
        f"{entries[0]['source']}, {height}x{width}; calibrated on {content['calibration']['images']} training images; "
        f"{content['method']}, seed {content['seed']}. Latency of one image in onnxruntime on one thread of "
        f"{machine['cpu']}, median of {content['repeats']} repeats in turns; {named}.\n"
    )


def signed(points: float) -> str:
    """Format a number with two decimals and its sign; zero has no sign."""
    return f"{points:+.2f}" if round(points, 2) else "0.00"
