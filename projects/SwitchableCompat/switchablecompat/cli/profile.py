"""Measure the cost of each width of a switchable model."""

from __future__ import annotations

import argparse

from ..deploy.profiles.submodels import profile, render_profile
from ..modeling.opened import open_model
from .written import write_measured


def main(arguments: argparse.Namespace) -> None:
    """Run the command."""
    opts = [*arguments.opts, "MODEL.DEVICE", "cpu"]
    content = profile(
        open_model(arguments.weights, arguments.config_file, opts),
        batches=arguments.batch,
        threads=arguments.threads,
        repeats=arguments.repeats,
    )
    write_measured(arguments.output, "profile", content, render_profile(content))
