"""Measure what int8 and float16 gain and lose at each width."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from ..deploy.files.held_out import HeldOut, calibration_pictures
from ..deploy.profiles.precisions import profile_precisions, render_precisions
from ..files import write_texts, writing_to
from ..modeling.opened import open_model


def main(arguments: argparse.Namespace) -> None:
    """Run the command."""
    model = open_model(arguments.weights, arguments.config_file, [*arguments.opts, "MODEL.DEVICE", "cpu"])
    content = profile_precisions(
        model,
        HeldOut(model),
        calibration_pictures(model, arguments.calibration_images),
        max_drop=arguments.max_map_drop,
        repeats=arguments.repeats,
        say=partial(print, flush=True),
    )
    text, folder = render_precisions(content), Path(arguments.output)
    with writing_to("--output"):
        write_texts(folder, {"precisions.json": json.dumps(content, indent=2) + "\n", "precisions.md": text})
    print(f"\n{text}\nWritten: {folder}/precisions.json, {folder}/precisions.md")
