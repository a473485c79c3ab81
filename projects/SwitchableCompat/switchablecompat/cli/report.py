"""A report on a family of sub-models."""

from __future__ import annotations

import argparse

from ..engine.cross_test import extract_sources
from ..engine.screen import show_own_lines
from ..evaluation.family_files import write_family_report
from ..evaluation.family_report import build_family_report
from ..evaluation.report import render_summary
from ..files import writing_to
from .models import read_pairs, read_sources


def main(arguments: argparse.Namespace) -> None:
    """Run the command."""
    sources, undefined = read_sources(arguments), read_pairs(arguments.undefined)
    show_own_lines()
    found = extract_sources(sources, arguments.opts, dataset=arguments.dataset, method=arguments.method)
    report = build_family_report(
        found.members,
        found.pids,
        found.camids,
        found.paths,
        found.num_query,
        found.dataset,
        undefined=undefined,
        diagonal_only=arguments.diagonal_only,
        refinement=found.refinement,
        metadata=found.metadata,
        labels=found.labels,
    )
    with writing_to("--output"):
        files = write_family_report(report, arguments.output)
    print(render_summary(report.grid), "Written: " + ", ".join(map(str, files)), sep="\n")
