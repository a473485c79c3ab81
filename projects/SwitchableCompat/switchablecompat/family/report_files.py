"""The report on a family as files: ``report.json``, ``queries.csv`` and ``report.html``."""

import csv
import io
import json
from pathlib import Path

from ..files import write_texts
from .page.page import render_page
from .report import FamilyReport


def write_report(report: FamilyReport, folder: str | Path) -> list[Path]:
    """Write the three files into ``folder``, each complete or not at all; returns their paths."""
    texts = {
        "report.json": json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n",
        "queries.csv": render_queries(report),
        "report.html": render_page(report),
    }
    return write_texts(folder, texts)


def render_queries(report: FamilyReport) -> str:
    """One line per query: file, names of identity and camera, average precision and rank of the first hit in each cell.

    Average precision is in [0, 1]. Both values are empty for a query without a match in the gallery.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    cells = list(report.counts)
    measures = [f"{measure} {report.cell_name(cell)}" for cell in cells for measure in ("AP", "first_hit_rank")]
    writer.writerow(["query", "pid", "camid", *measures])
    for number, item in enumerate(report.items):
        values: list[object] = []
        for q, g in cells:
            rank = int(report.queries.first_hit_rank[q, g, number])
            values += [float(report.queries.average_precision[q, g, number]), rank] if rank else ["", ""]
        writer.writerow([item.name, report.labels.pid(item.pid), report.labels.camid(item.camid), *values])
    return text.getvalue()
