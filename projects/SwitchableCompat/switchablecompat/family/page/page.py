"""The content of the page, from the report: plain values for the template, which escapes every value."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import jinja2
import numpy as np
from fastreid.data import common
from PIL import Image

from ...evaluation.grid import REFINED, CompatibilityGrid, format_value
from ...evaluation.grid_files import describe_refinement
from ..mixed_gallery import MixedGallery
from ..report import FamilyReport, LostQuery
from ..verification import Verification
from .charts import STYLES
from .plots import cmc_charts, histogram_charts, mixed_gallery_charts
from .tables import Matrix, format_far, rule_line, value_matrix, verification_tables

HEADLINE_FAR = 1e-3  # the target FAR of the verdict and the histograms
FIRST_KEYS = ("method", "seed", "family", "families", "config")
PICTURE = (240, 160)  # largest width and height in pixels


def render_page(report: FamilyReport) -> str:
    """The report as HTML, without scripts or network access, with pictures and plots embedded."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("switchablecompat.family.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    grid, refined, mixed = report.grid, report.grid.refined, report.mixed_gallery
    metadata = {key: grid.metadata[key] for key in FIRST_KEYS if key in grid.metadata} | dict(grid.metadata)
    metadata.pop(REFINED, None)  # shown as tables
    headline = next((one for one in report.verifications if one.target == HEADLINE_FAR and one.pooled.points), None)
    return environment.get_template("template.html").render(
        title=", ".join(str(part) for part in (grid.dataset, grid.metadata.get("method")) if part),
        names=grid.names,
        styles=STYLES,
        num_queries=len(report.items),
        summary=grid.compatibility(),
        verdict=grid.verdict().splitlines(),
        threshold=headline and _threshold_verdict(report, headline),
        flips_verdict=_flips_verdict(report),
        upgrade=mixed and [_upgrade_verdict(mixed, name) for name in mixed.random],
        metrics=_metrics(grid),
        refined=refined
        and {
            "how": describe_refinement(refined),
            "verdict": refined.verdict().splitlines(),
            "metrics": _metrics(refined),
        },
        cmc=cmc_charts(report),
        histograms=histogram_charts(report, headline),
        headline_far=f"{HEADLINE_FAR:g}",
        verifications=[verification_tables(report, one) for one in report.verifications],
        flips=value_matrix(report.flips),
        lost=[_lost(report, one) for one in report.lost],
        mixed_gallery=mixed,
        mixed_gallery_charts=mixed and mixed_gallery_charts(mixed),
        provenance=[(key, _plain(value)) for key, value in metadata.items()],
        format_value=format_value,
    )


def _metrics(grid: CompatibilityGrid) -> dict[str, Matrix]:
    return {"mAP": value_matrix(grid.values["mAP"], grid.failed_cells()), "Rank-1": value_matrix(grid.values["Rank-1"])}


def _threshold_verdict(report: FamilyReport, one: Verification) -> dict[str, Any]:
    own = [point.tar for point in one.own.values() if point.tar is not None]
    lowest = min(point.far for point in one.pooled.points.values())
    return {
        "target": f"{one.target:g}",
        "own_mean": format_value(sum(own) / len(own)),
        "lowest_far": format_far(lowest),
        "pooled": rule_line(report, one, "pooled", one.pooled),
        "strictest": rule_line(report, one, "strictest", one.strictest),
    }


def _flips_verdict(report: FamilyReport) -> dict[str, str] | None:
    shares = {(q, g): v for q, row in enumerate(report.flips) for g, v in enumerate(row) if v is not None}
    if not shares:
        return None
    worst = max(shares, key=shares.__getitem__)
    mean = sum(shares.values()) / len(shares)
    return {"mean": format_value(mean), "worst": format_value(shares[worst]), "cell": report.cell_name(worst)}


def _upgrade_verdict(mixed: MixedGallery, name: str) -> dict[str, Any]:
    """The lowest point of one sub-model's queries during the upgrade, and the mean gain by the order."""
    random = np.mean(mixed.random[name], axis=0)
    isolated = np.array(mixed.isolated[name])
    lowest = int(np.argmin(random))
    return {
        "query": name,
        "start": format_value(float(random[0])),
        "end": format_value(float(random[-1])),
        "lowest": format_value(float(random[lowest])),
        "share": f"{mixed.shares[lowest]:g}",
        "dip": format_value(float(min(random[0], random[-1]) - random[lowest])),
        "dips": bool(random[lowest] < min(random[0], random[-1])),
        "order_gain": f"{float((isolated - random)[1:-1].mean()):+.2f}",
    }


def _lost(report: FamilyReport, one: LostQuery) -> dict[str, Any]:
    q, g = (report.grid.names[index] for index in (one.flip.q, one.flip.g))
    items = {"query": one.query, f"{q}/{q}": one.alone, f"{q}/{g}": one.crossed}
    pictures = [
        {
            "what": what,
            "state": "" if what == "query" else ("right" if item.pid == one.query.pid else "wrong"),
            "uri": data_uri(item.path),
            "item": item,
        }
        for what, item in items.items()
    ]
    return {"cell": f"{q}/{g}", "rank": one.flip.rank, "pictures": pictures}


def data_uri(path: str) -> str:
    """Read an image as FastReID does, shrink it to fit, and return it as a ``data:`` address of a JPEG."""
    image = common.read_image(path).convert("RGB")
    image.thumbnail(PICTURE, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _plain(value: Any) -> str:
    """Metadata as text, nested keys on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        separator = " x " if all(isinstance(item, int) for item in value) else ", "
        return separator.join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:.10g}"
    return "-" if value is None else str(value)
