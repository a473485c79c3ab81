"""Tables of what ``benchmarks/`` measures: ratios, backbones, and the difficulty of the generated data."""

from __future__ import annotations

from pathlib import Path

from benchmarks import report
from switchablecompat.errors import InputError

from .markdown import read, table

BENCHMARKS = ("step", "aggregation", "grid", "extraction", "scaling", "options")


def benchmark_table(path: Path) -> str:
    """The ratios that ``tools/benchmark.py`` measured, from a folder of its JSON files."""
    records = [read(path / f"{name}.json") for name in BENCHMARKS if (path / f"{name}.json").is_file()]
    if not records:
        raise InputError(path, "must have results of tools/benchmark.py")
    return f"{report.render(records)}\n\n{report.describe(records)}"


def difficulty_table(path: Path) -> str:
    """mAP and Rank-1 of features that need no training."""
    content = read(path)
    titles = {"raw_pixels": "raw pixels", "stripe_histograms": "colour histograms of six stripes"}
    rows = [[title, content[key]["mAP"], content[key]["Rank-1"]] for key, title in titles.items()]
    return table(["feature", "mAP (%)", "Rank-1 (%)"], rows, floatfmt=".1f")


def backbone_table(path: Path) -> str:
    """One line per family of FastReID's backbones: depths that convert, cost of each width, exactness."""
    content = read(path)
    names = " / ".join(f"{width:g}" for width in content["widths"][:-1])

    def shares(values: list[int]) -> str:
        return " / ".join(f"{100 * value / values[-1]:.1f}" for value in values[:-1])

    rows, refusals = [], []
    for row in content["families"]:
        refusals += [f"- {row['family']} {name} does not convert: {why}" for name, why in row["refused"].items()]
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
    note = f"(FastReID {made['fastreid']}, torch {made['torch']}, channel divisor {content['channel_divisor']})"
    return "\n".join([table(headers, rows), "", *refusals, "", note])
