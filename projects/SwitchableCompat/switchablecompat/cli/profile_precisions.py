"""Measure what int8 and float16 gain and lose at each width."""

import argparse
from pathlib import Path

from ..deploy.files.held_out import HeldOut, calibration_pictures
from ..deploy.profiles.precisions import profile_precisions, render_precisions
from ..files import write_json, write_texts
from .encoders import open_to_export


def main(arguments: argparse.Namespace) -> None:
    model = open_to_export(arguments)
    content = profile_precisions(
        model,
        HeldOut(model),
        calibration_pictures(model, arguments.calibration_images),
        max_drop=arguments.max_map_drop,
        repeats=arguments.repeats,
    )
    text = render_precisions(content)
    files = [write_json(Path(arguments.output, "precisions.json"), content)]
    files += write_texts(arguments.output, {"precisions.md": text})
    print(f"\n{text}\nWritten: {files[0]}, {files[1]}")
