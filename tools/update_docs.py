#!/usr/bin/env python
"""Fill the tables of README.md and docs/ from committed JSON files; ``--check`` only says whether they are current."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tabulate import tabulate

import startup  # noqa: F401  (before torch is loaded)
from switchablecompat.benchmarks import report
from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.comparison.render import render_headline, render_overview
from switchablecompat.comparison.results import load_results
from switchablecompat.comparison.suite import load_suite
from switchablecompat.comparison.table import Comparison
from switchablecompat.deploy.card import ModelCard
from switchablecompat.deploy.engine_profile import render_engines
from switchablecompat.deploy.precision_profile import render_precisions
from switchablecompat.deploy.profile import render_profile
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.evaluation.grid import CompatibilityGrid
from switchablecompat.evaluation.report import render_table
from switchablecompat.files import atomic_write

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/synthetic.md",
    "docs/experiments.md",
    "docs/backbones.md",
    "docs/speed.md",
    "docs/deploy.md",
    "docs/milvus.md",
    "docs/recipes.md",
)
REFINEMENTS = {
    "plain": "plain",
    "flip": "flip test",
    "aqe": "AQE",
    "rerank": "re-ranking",
    "aqe_rerank": "AQE, then re-ranking",
}
BENCHMARKS = ("step", "aggregation", "grid", "extraction", "scaling", "options")


def grid_table(path: Path) -> str:
    """The mAP grid as it is printed at the end of a run, and its verdict."""
    content = json.loads(path.read_text())
    grid = CompatibilityGrid.from_dict(content)
    return f"```text\n{render_table(grid, 'mAP')}\n{grid.verdict()}\n```\n\n({made_with(content)})"


def made_with(content: Mapping[str, Any]) -> str:
    """Data, method, seed, hardware and versions of a grid."""
    versions, machine = content["versions"], content["hardware"]
    return (
        f"{content['dataset']}, {content['method']}, seed {content['seed']}; {machine['gpu'] or machine['cpu']}, "
        f"{machine['cores']} cores; Python {versions['python']}, torch {versions['torch']}, "
        f"FastReID {versions['fastreid']}"
    )


def difficulty_table(path: Path) -> str:
    """mAP and Rank-1 of hand-made features."""
    content = json.loads(path.read_text())
    rows = [
        [title, content[key]["mAP"], content[key]["Rank-1"]]
        for title, key in (("raw pixels", "raw_pixels"), ("colour histograms of six stripes", "stripe_histograms"))
    ]
    return tabulate(rows, headers=["feature", "mAP (%)", "Rank-1 (%)"], tablefmt="github", floatfmt=".1f")


def comparison_table(path: Path, render: Callable[[Comparison], str] = render_overview) -> str:
    """A suite, one line per method, from the results of its runs."""
    suite = load_suite(os.path.relpath(path))
    results = load_results(suite, ROOT / "results" / suite.name)
    if not results:
        raise InputError(path, "must have results", f"none in results/{suite.name}")
    return render(Comparison(suite, results))


def benchmark_table(path: Path) -> str:
    """The ratios of ``tools/benchmark.py``, from its JSON files in a folder."""
    records = [
        json.loads((path / f"{name}.json").read_text()) for name in BENCHMARKS if (path / f"{name}.json").is_file()
    ]
    if not records:
        raise InputError(path, "must have results of tools/benchmark.py")
    return f"{report.render(records)}\n\n{report.describe(records)}"


def refinement_table(path: Path) -> str:
    """mAP of the outermost cells, plain and with FastReID's extras at test time, from a folder of grids."""
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
    """FastReID's backbones, one line per family: what converts, what each width costs, what is exact."""
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
    """What each sub-model costs, as ``tools/profile_submodels.py`` prints it."""
    return render_profile(json.loads(path.read_text())).strip()


def precision_table(path: Path) -> str:
    """What each precision costs and gains, as ``tools/profile_precisions.py`` prints it."""
    return render_precisions(json.loads(path.read_text())).strip()


def rehearsal_table(path: Path) -> str:
    """An upgrade by tenths, from ``rehearsal.json``."""
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
    headers = ["encoded anew", "mAP (%)", "TAR (%)", "FAR", "queries answered meanwhile"]
    table = tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=["right"] * len(headers))
    return (
        f"{table}\n\n({content['dataset']}: {content['num_queries']} queries by {camera.name} {camera.precision}, "
        f"{content['num_gallery']} items by {old.name}, then {new.name}; threshold {content['threshold']} for FAR "
        f"{content['target_FAR']:g}; {content['hardware']['cpu']}, {content['hardware']['cores']} cores)"
    )


def engine_table(path: Path) -> str:
    """FAISS and Milvus Lite side by side, as ``tools/try_engines.py`` prints it."""
    return render_engines(json.loads(path.read_text())).strip()


RENDERERS: dict[str, Callable[[Path], str]] = {
    "benchmark": benchmark_table,
    "grid": grid_table,
    "profile": profile_table,
    "precisions": precision_table,
    "rehearsal": rehearsal_table,
    "engines": engine_table,
    "difficulty": difficulty_table,
    "comparison": comparison_table,
    "backbones": backbone_table,
    "refinements": refinement_table,
    "headline": partial(comparison_table, render=render_headline),
}
BLOCK = re.compile(r"<!-- (?P<kind>\w+): (?P<path>\S+) -->\n(?P<body>.*?)<!-- /(?P=kind) -->", re.DOTALL)


def update(page: Path) -> str:
    """The text of a page with every block rendered anew."""

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
    os.chdir(ROOT)  # suites name their configs from there
    for name in PAGES:
        page = ROOT / name
        try:
            text = update(page)
            if text == page.read_text():
                continue
            if args.check:
                found = "tables that differ from their JSON; run tools/update_docs.py"
                raise InputError(name, "must be current", found)
            with atomic_write(page) as temporary:
                temporary.write_text(text)
        except OSError as error:
            raise InputError(name, "must be a page that can be read and written", error) from error
        print(f"updated {name}")


if __name__ == "__main__":
    exit_on_input_error(main)
