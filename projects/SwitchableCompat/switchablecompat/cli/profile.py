"""What each width of a switchable model costs."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from ..deploy.profile import profile, render_profile
from ..deploy.run import TrainedRun
from ..files import write_texts, writing_to


def main(arguments: argparse.Namespace) -> None:
    """Run the command."""
    opts = [*arguments.opts, "MODEL.DEVICE", "cpu"]
    if arguments.weights:
        run = TrainedRun.load(arguments.config_file, arguments.weights, opts)
    else:
        run = TrainedRun.untrained(arguments.config_file, opts)
    content = profile(
        run,
        batches=arguments.batch,
        threads=arguments.threads,
        repeats=arguments.repeats,
        say=partial(print, flush=True),
    )
    text, folder = render_profile(content), Path(arguments.output)
    with writing_to("--output"):
        write_texts(folder, {"profile.json": json.dumps(content, indent=2) + "\n", "profile.md": text})
    print(f"\n{text}\nWritten: {folder}/profile.json, {folder}/profile.md")
