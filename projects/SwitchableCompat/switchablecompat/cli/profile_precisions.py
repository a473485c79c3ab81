"""Measure what int8 and float16 gain and lose at each width."""

from __future__ import annotations

import argparse

from ..deploy.files.held_out import HeldOut, calibration_pictures
from ..deploy.profiles.precisions import profile_precisions, render_precisions
from ..modeling.opened import open_model
from .written import write_measured


def main(arguments: argparse.Namespace) -> None:
    """Run the command."""
    model = open_model(arguments.weights, arguments.config_file, [*arguments.opts, "MODEL.DEVICE", "cpu"])
    content = profile_precisions(
        model,
        HeldOut(model),
        calibration_pictures(model, arguments.calibration_images),
        max_drop=arguments.max_map_drop,
        repeats=arguments.repeats,
    )
    write_measured(arguments.output, "precisions", content, render_precisions(content))
