"""Write a report on a family of sub-models."""

import argparse

from ..evaluation.grid_files import render_summary
from ..family.report import build_report
from ..family.report_files import write_report
from .models import open_evaluation


def main(arguments: argparse.Namespace) -> None:
    found = open_evaluation(arguments)
    report = build_report(found.task, found.images, refinement=found.refinement, labels=found.labels)
    files = write_report(report, arguments.output)
    print(render_summary(report.grid), "Written: " + ", ".join(map(str, files)), sep="\n")
