"""Measure the cost of each width of a switchable model."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from ..deploy.profiles.submodels import profile, render_profile
from ..files import write_texts, writing_to
from ..modeling.opened import open_model


def main(arguments: argparse.Namespace) -> None:
    """Run the command."""
    opts = [*arguments.opts, "MODEL.DEVICE", "cpu"]
    content = profile(
        open_model(arguments.weights, arguments.config_file, opts),
        batches=arguments.batch,
        threads=arguments.threads,
        repeats=arguments.repeats,
        say=partial(print, flush=True),
    )
    text, folder = render_profile(content), Path(arguments.output)
    with writing_to("--output"):
        write_texts(folder, {"profile.json": json.dumps(content, indent=2) + "\n", "profile.md": text})
    print(f"\n{text}\nWritten: {folder}/profile.json, {folder}/profile.md")
