"""Measure the cost of each width of a switchable model."""

import argparse
from pathlib import Path

from ..deploy.profiles.submodels import profile, render_profile
from ..files import write_json, write_texts
from ..modeling.opened import open_model


def main(arguments: argparse.Namespace) -> None:
    opts = [*arguments.opts, "MODEL.DEVICE", "cpu"]
    content = profile(
        open_model(arguments.weights, arguments.config_file, opts),
        batches=arguments.batch,
        threads=arguments.threads,
        repeats=arguments.repeats,
    )
    text = render_profile(content)
    files = [write_json(Path(arguments.output, "profile.json"), content)]
    files += write_texts(arguments.output, {"profile.md": text})
    print(f"\n{text}\nWritten: {files[0]}, {files[1]}")
