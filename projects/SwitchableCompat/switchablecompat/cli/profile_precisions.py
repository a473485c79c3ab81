"""What int8 and float16 cost and gain at each width."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from ..deploy.held_out import HeldOut, calibration_pictures
from ..deploy.precision_profile import profile_precisions, render_precisions
from ..deploy.run import TrainedRun
from ..files import write_texts, writing_to


def main(arguments: argparse.Namespace) -> None:
    """Run the command."""
    run = TrainedRun.load(arguments.config_file, arguments.weights, [*arguments.opts, "MODEL.DEVICE", "cpu"])
    content = profile_precisions(
        run,
        HeldOut(run),
        calibration_pictures(run, arguments.calibration_images),
        max_drop=arguments.max_map_drop,
        repeats=arguments.repeats,
        say=partial(print, flush=True),
    )
    text, folder = render_precisions(content), Path(arguments.output)
    with writing_to("--output"):
        write_texts(folder, {"precisions.json": json.dumps(content, indent=2) + "\n", "precisions.md": text})
    print(f"\n{text}\nWritten: {folder}/precisions.json, {folder}/precisions.md")
