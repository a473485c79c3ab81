#!/usr/bin/env python
"""Fill the tables of README.md and docs/ from committed JSON files; ``--check`` only reports stale pages."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from tabulate import tabulate

import startup  # noqa: F401  (before torch is loaded)

sys.path.insert(0, str(Path(__file__).parents[1]))  # to import benchmarks/ and gpu/
from benchmarks import report
from gpu import scale_out
from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.comparison.published import read_published
from switchablecompat.comparison.render import render_headline, render_overview
from switchablecompat.comparison.results import load_results
from switchablecompat.comparison.suite import load_suite
from switchablecompat.comparison.table import Comparison
from switchablecompat.deploy.card import ModelCard
from switchablecompat.deploy.profiles.engines import render_engines
from switchablecompat.deploy.profiles.precisions import render_precisions
from switchablecompat.deploy.profiles.submodels import render_profile
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.evaluation.grid import CompatibilityGrid
from switchablecompat.evaluation.grid_files import render_table
from switchablecompat.files import atomic_write

ROOT = Path(__file__).parents[1]
REFINEMENTS = {
    "plain": "plain",
    "flip": "flip test",
    "aqe": "AQE",
    "rerank": "re-ranking",
    "aqe_rerank": "AQE, then re-ranking",
}
BENCHMARKS = ("step", "aggregation", "grid", "extraction", "scaling", "options")


def grid_table(path: Path) -> str:
    """The mAP grid and its verdict in the form that a run prints."""
    content = json.loads(path.read_text())
    grid = CompatibilityGrid.from_dict(content)
    return f"```text\n{render_table(grid, 'mAP')}\n{grid.verdict()}\n```\n\n({made_with(content)})"


def made_with(content: Mapping[str, Any]) -> str:
    """One line of provenance: data, method, seed, hardware and versions of a grid."""
    versions, machine = content["versions"], content["hardware"]
    return (
        f"{content['dataset']}, {content['method']}, seed {content['seed']}; {machine['gpu'] or machine['cpu']}, "
        f"{machine['cores']} cores; Python {versions['python']}, torch {versions['torch']}, "
        f"FastReID {versions['fastreid']}"
    )


def difficulty_table(path: Path) -> str:
    """mAP and Rank-1 of features that need no training."""
    content = json.loads(path.read_text())
    rows = [
        [title, content[key]["mAP"], content[key]["Rank-1"]]
        for title, key in (("raw pixels", "raw_pixels"), ("colour histograms of six stripes", "stripe_histograms"))
    ]
    return tabulate(rows, headers=["feature", "mAP (%)", "Rank-1 (%)"], tablefmt="github", floatfmt=".1f")


def comparison_table(path: Path, render: Callable[[Comparison], str] = render_overview) -> str:
    """One line per method of a suite, from the results of its runs."""
    suite = load_suite(os.path.relpath(path))
    results = load_results(suite, ROOT / "results" / suite.name)
    if not results:
        raise InputError(path, "must have results", f"none in results/{suite.name}")
    return render(Comparison(suite, results))


def difference_table(comparison: Comparison) -> str:
    """mAP of our method minus each baseline over the cells that both define, and our cross-tests by seed."""
    ours = comparison.titles[comparison.suite.ours]
    order = range(len(comparison.widths))
    rows = []
    for baseline in comparison.baselines:
        found = {(q, g): comparison.difference(baseline, q, g) for q, g in itertools.product(order, order)}
        means = {cell: difference.mean for cell, difference in found.items() if difference}
        ends = [min(means, key=means.__getitem__), max(means, key=means.__getitem__)]
        above = sum(mean > 0 for mean in means.values())
        rows.append(
            [comparison.titles[baseline], f"{above} of {len(means)}", f"{fmean(means.values()):+.2f}"]
            + [f"{means[q, g]:+.2f} ({comparison.names[q]} on {comparison.names[g]})" for q, g in ends]
        )
    headers = [f"{ours} minus", "cells above", "mean", "lowest", "highest"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    grids = [result.grid for result in comparison.of(comparison.suite.ours).values()]
    passed = [f"{len(grid.cross_tests()) - len(grid.failed_cells())} of {len(grid.cross_tests())}" for grid in grids]
    return (
        f"{table}\n\n(Points of mAP, means over the seeds. Cross-tests of {ours} that pass, by seed: "
        f"{', '.join(passed)}.)"
    )


def published_table(path: Path) -> str:
    """Published figures, a line per method: self-tests, corners and the mean of the cross-tests."""
    published = read_published(str(path))
    m = 1 + max(query for cells in published.cells.values() for query, _ in cells)
    columns = [*((i, i) for i in range(m)), (0, m - 1), (m - 1, 0)]
    rows = []
    for method, cells in published.cells.items():
        crossed = [value for (query, gallery), value in cells.items() if query != gallery]
        values = [cells.get(cell) for cell in columns] + [fmean(crossed) if crossed else None]
        rows.append([method, *("-" if value is None else f"{value:.1f}" for value in values)])
    names = [f"phi{i + 1}" for i in range(m)]
    headers = ["mAP (%)", *names, f"{names[0]} on {names[-1]}", f"{names[-1]} on {names[0]}", "mean cross-test"]
    return f"{tabulate(rows, headers, tablefmt='github', disable_numparse=True)}\n\n({published.source}.)"


def threshold_table(path: Path) -> str:
    """The cost of shared thresholds, from ``report.json``: one line per target FAR."""
    content = json.loads(path.read_text())
    rows = []
    for one in content["verification"]:
        pooled = [cell["FAR"] / one["target_FAR"] for cell in one["pooled"]["cells"].values()]
        cells = (one["own"], one["pooled"]["cells"], one["strictest"]["cells"])
        tar = [f"{fmean(cell['TAR'] for cell in each.values()):.1f}" for each in cells]
        rows.append([f"{one['target_FAR']:g}", f"{min(pooled):.2f} to {max(pooled):.2f}", *tar])
    headers = ["target FAR", "FAR of single cells at `pooled`, in targets", "mean TAR (%): `own`", "`pooled`"]
    table = tabulate(rows, [*headers, "`strictest`"], tablefmt="github", disable_numparse=True)
    return f"{table}\n\n({made_with(content['grid'])})"


def mixed_table(path: Path) -> str:
    """mAP while a gallery is re-encoded, from ``report.json``: one line per query sub-model."""
    content = json.loads(path.read_text())
    mixed, rows = content["mixed_gallery"], []
    for name, curves in mixed["random"].items():
        random, isolated = np.array(curves), np.array(mixed["isolated"][name])
        mean = random.mean(axis=0)
        way = slice(1, -1)
        levels = [mean[0], mean[-1], mean[way].min(), np.ptp(random[:, way], axis=0).max()]
        rows.append([name, *(f"{level:.1f}" for level in levels), f"{(isolated - mean)[way].mean():+.1f}"])
    headers = ["queries by", f"mAP (%) on {mixed['old']}", f"on {mixed['new']}", "lowest on the way, random orders"]
    headers += ["largest gap between random orders", "isolated first minus random, mean over the way"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    return f"{table}\n\n({made_with(content['grid'])})"


def trial_table(path: Path) -> str:
    """Memory and recall of indexes, from ``trial.json`` of ``tools/try_index.py``, one file per index."""
    trials = [json.loads(file.read_text()) for file in sorted(path.glob("*.json"))]
    if not trials:
        raise InputError(path, "must have results of tools/try_index.py")
    first = trials[0]
    rows = []
    for trial in trials:
        memory = [trial["index_bytes"], trial["peak_bytes"] - trial["imports_bytes"]]
        for row in trial["recall"]:
            recall = next(f"{value:.2f}" for key, value in row.items() if key.startswith("recall"))
            rows.append(
                [f"`{trial['factory']}`", *(f"{size / 1e6:,.0f}" for size in memory), row["parameters"], recall]
            )
    headers = ["index", "size (MB)", "peak memory while building (MB)", "parameters", "recall@10 (%)"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    return (
        f"{table}\n\n({first['num_vectors']:,} generated vectors of {first['dimension']} dimensions, "
        f"{first['vector_bytes'] / 1e6:,.0f} MB, and {first['num_queries']:,} queries. Peak memory is above that of "
        f"Python and its packages. {versions})"
    )


def benchmark_table(path: Path) -> str:
    """The ratios that ``tools/benchmark.py`` measured, from a folder of its JSON files."""
    records = [
        json.loads((path / f"{name}.json").read_text()) for name in BENCHMARKS if (path / f"{name}.json").is_file()
    ]
    if not records:
        raise InputError(path, "must have results of tools/benchmark.py")
    return f"{report.render(records)}\n\n{report.describe(records)}"


def refinement_table(path: Path) -> str:
    """mAP of the outermost cells, plain and with FastReID's test options, from a folder of grids."""
    rows, plain = [], CompatibilityGrid.from_dict(json.loads((path / "plain.json").read_text()))
    for file, title in REFINEMENTS.items():
        grid = CompatibilityGrid.from_dict(json.loads((path / f"{file}.json").read_text()))
        grid = grid.refined or grid
        last = len(grid.widths) - 1
        cells = [grid[cell] for cell in ((0, 0), (last, last), (0, last), (last, 0))]
        passed = len(grid.cross_tests()) - len(grid.failed_cells())
        rows.append([title, *cells, f"{passed} of {len(grid.cross_tests())}"])
    small, large = plain.names[0], plain.names[-1]
    headers = ["mAP (%)", small, large, f"{small} on {large}", f"{large} on {small}", "cross-tests that pass"]
    table = tabulate(rows, headers=headers, tablefmt="github", floatfmt=".2f")
    return f"{table}\n\n({made_with(json.loads((path / 'plain.json').read_text()))})"


def backbone_table(path: Path) -> str:
    """One line per family of FastReID's backbones: depths that convert, cost of each width, exactness."""
    content = json.loads(path.read_text())
    widths = content["widths"][:-1]
    names = " / ".join(f"{width:g}" for width in widths)

    def shares(values: list[int]) -> str:
        return " / ".join(f"{100 * value / values[-1]:.1f}" for value in values[:-1])

    rows, refusals = [], []
    for row in content["families"]:
        refusals += [f"{row['family']} {name} does not convert: {reason}" for name, reason in row["refused"].items()]
        if "macs" not in row:
            rows.append([row["family"], "-", row["depth"], *["-"] * 7])
            continue
        checks = (all(row["full_width_equal"].values()), all(row["extraction_equal"]))
        parameters, macs = row["parameters"], row["macs"]
        rows.append(
            [row["family"], " ".join(row["converts"]), row["depth"], row["features"][-1]]
            + [f"{parameters[-1] / 1e6:.2f}", shares(parameters), f"{macs[-1] / 1e9:.3g}", shares(macs)]
            + ["yes" if check else "no" for check in checks]
        )
    headers = ["family", "depths that convert", "measured", "FEAT_DIM", "parameters (M)", f"at {names} (%)"]
    headers += ["MACs (G)", f"at {names} (%)", "full width exact", "extraction exact"]
    made = content["versions"]
    made_with = f"FastReID {made['fastreid']}, torch {made['torch']}, channel divisor {content['channel_divisor']}"
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return "\n".join([table, "", *(f"- {refusal}" for refusal in refusals), "", f"({made_with})"])


def profile_table(path: Path) -> str:
    """The cost of each sub-model, as ``tools/profile_submodels.py`` prints it."""
    return render_profile(json.loads(path.read_text())).strip()


def precision_table(path: Path) -> str:
    """The cost and gain of each precision, as ``tools/profile_precisions.py`` prints them."""
    return render_precisions(json.loads(path.read_text())).strip()


def rehearsal_table(path: Path) -> str:
    """One line per tenth of an upgrade, from ``rehearsal.json``."""
    content = json.loads(path.read_text())
    rows = [
        [
            f"{stage['share']:.0f} %",
            f"{stage['mAP']:.2f}",
            f"{stage['tar']:.2f}",
            f"{stage['far']:.4f}",
            stage["answered"],
        ]
        for stage in content["stages"]
    ]
    camera, old, new = (ModelCard.from_dict(content[name]) for name in ("camera", "old", "new"))
    headers = ["re-encoded", "mAP (%)", "TAR (%)", "FAR", "queries answered during this step"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=["right"] * len(headers))
    return (
        f"{table}\n\n({content['dataset']}: {content['num_queries']} queries by {camera.name} {camera.precision}, "
        f"{content['num_gallery']} items by {old.name}, then {new.name}; threshold {content['threshold']} for FAR "
        f"{content['target_FAR']:g}; {content['hardware']['cpu']}, {content['hardware']['cores']} cores)"
    )


def engine_table(path: Path) -> str:
    """The comparison of FAISS and Milvus Lite, as ``tools/try_engines.py`` prints it."""
    return render_engines(json.loads(path.read_text())).strip()


def gpu_tables(path: Path) -> str:
    """The results of ``make gpu``: tests, ratios, and grids of short trainings; or a line that it was never run."""
    if not (path / "manifest.json").is_file():
        return "Not measured yet: `make gpu` has not been run on a GPU."
    manifest = json.loads((path / "manifest.json").read_text())
    parts = [[name, part["status"], part.get("seconds", "")] for name, part in manifest["parts"].items()]
    blocks = [tabulate(parts, ["part", "status", "seconds"], tablefmt="github")]
    files = {name: path / f"{name}.json" for name in manifest["parts"]}
    content = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    if "tests" in content:
        blocks.append("Tests: " + ", ".join(f"{n} {what}" for what, n in sorted(content["tests"]["counts"].items())))
    if records := [content[name] for name in ("step", "grid") if name in content]:
        blocks.append(report.render(records))
    if "finetune" in content:
        blocks.append(gpu_trainings(content["finetune"]))
    made = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    dry = "; a dry run, whose numbers mean nothing" if manifest["dry_run"] else ""
    return "\n\n".join([*blocks, f"({manifest['hardware']['gpu'] or manifest['hardware']['cpu']}; {made}{dry})"])


def scale_out_table(path: Path) -> str:
    """The modelled cost of a step on several GPUs, and a line on whether its time on one GPU is measured."""
    step = scale_out.step_seconds()
    assumed = "assumed" if step == scale_out.ASSUMED else "measured"
    return f"{scale_out.table(step, (2, 8))}\n\n(ResNet-50; {1000 * step:.0f} ms for a step on one GPU, {assumed}.)"


def gpu_trainings(content: Mapping[str, Any]) -> str:
    """mAP of short trainings from the same start, one line per method."""
    rows, names = [], ["w025", "w050", "w075", "w100"]
    for method, run in content["runs"].items():
        if "grid" not in run:
            continue
        grid = CompatibilityGrid.from_dict(run["grid"])
        own = dict(zip(grid.names, grid.self_tests(), strict=True))
        passed = f"{len(grid.cross_tests()) - len(grid.failed_cells())} of {len(grid.cross_tests())}"
        small = grid[0, len(grid.widths) - 1] if len(grid.widths) > 1 else None
        rows.append([method, *(own.get(name) for name in names), small, passed, run["seconds"]])
    headers = ["mAP (%)", *names, "w025 on w100", "cross-tests that pass", "seconds"]
    table = tabulate(rows, headers, tablefmt="github", floatfmt=".1f", missingval="-")
    ids, images = content["persons"]["train"]
    return f"{table}\n\n({content['steps']} steps of {content['batch']} images, {ids} persons, {images} images.)"


RENDERERS: dict[str, Callable[[Path], str]] = {
    "benchmark": benchmark_table,
    "grid": grid_table,
    "profile": profile_table,
    "precisions": precision_table,
    "rehearsal": rehearsal_table,
    "engines": engine_table,
    "gpu": gpu_tables,
    "scale_out": scale_out_table,
    "difficulty": difficulty_table,
    "comparison": comparison_table,
    "backbones": backbone_table,
    "refinements": refinement_table,
    "headline": partial(comparison_table, render=render_headline),
    "differences": partial(comparison_table, render=difference_table),
    "published": published_table,
    "thresholds": threshold_table,
    "mixed": mixed_table,
    "trials": trial_table,
}
BLOCK = re.compile(r"<!-- (?P<kind>\w+): (?P<path>\S+) -->\n(?P<body>.*?)<!-- /(?P=kind) -->", re.DOTALL)


def update(page: Path) -> str:
    """Return the text of a page with every generated block rendered anew."""

    def render(match: re.Match) -> str:
        kind, path = match["kind"], match["path"]
        if kind not in RENDERERS:
            raise InputError(f"{page.name}: {path}", f"must be a table of {', '.join(RENDERERS)}", kind)
        try:
            body = RENDERERS[kind](page.parent / path)
        except InputError:
            raise
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(f"{page.name}: {path}", f"must be what a {kind} is made from", repr(error)) from error
        return f"<!-- {kind}: {path} -->\n{body}\n<!-- /{kind} -->"

    return BLOCK.sub(render, page.read_text())


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, epilog="example: python tools/update_docs.py --check")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 2 if a page is not current")
    args = parser.parse_args()
    os.chdir(ROOT)  # suites name their configs relative to this folder
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        name = page.relative_to(ROOT)
        try:
            text = update(page)
            if text == page.read_text():
                continue
            if args.check:
                found = "tables that differ from their JSON; run tools/update_docs.py"
                raise InputError(str(name), "must be current", found)
            with atomic_write(page) as temporary:
                temporary.write_text(text)
        except OSError as error:
            raise InputError(str(name), "must be a page that can be read and written", error) from error
        print(f"updated {name}")


if __name__ == "__main__":
    exit_on_input_error(main)
