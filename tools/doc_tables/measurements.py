"""Tables of what ``benchmarks/`` and ``gpu/`` measure: ratios, backbones, difficulty of the generated data, a GPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import report
from gpu import scale_out
from switchablecompat.errors import InputError
from switchablecompat.evaluation.grid import CompatibilityGrid

from .grids import passed
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
    note = f"FastReID {made['fastreid']}, torch {made['torch']}, channel divisor {content['channel_divisor']}"
    for row in content["families"]:
        if "versions" in row:  # measured earlier than the others
            note += f"; {row['family']}: FastReID {row['versions']['fastreid']}, torch {row['versions']['torch']}"
    return "\n".join([table(headers, rows), "", *refusals, "", f"({note})"])


def gpu_tables(path: Path) -> str:
    """The results of ``make gpu``: tests, ratios, and grids of short trainings; or a line that it was never run."""
    if not (path / "manifest.json").is_file():
        return "Not measured yet: `make gpu` has not been run on a GPU."
    manifest = read(path / "manifest.json")
    parts = [[name, part["status"], part.get("seconds", "")] for name, part in manifest["parts"].items()]
    blocks = [table(["part", "status", "seconds"], parts, floatfmt="g")]
    files = {name: path / f"{name}.json" for name in manifest["parts"]}
    content = {name: read(file) for name, file in files.items() if file.is_file()}
    if "tests" in content:
        blocks.append("Tests: " + ", ".join(f"{n} {what}" for what, n in sorted(content["tests"]["counts"].items())))
    if records := [content[name] for name in ("step", "grid") if name in content]:
        blocks.append(report.render(records))
    if "finetune" in content:
        blocks.append(trainings(content["finetune"]))
    made: dict[str, list[str]] = {}
    for name, part in manifest["parts"].items():
        made.setdefault(_session(part.get("session", manifest)), []).append(name)
    notes = [f"{', '.join(names)}: {text}" for text, names in made.items()] if len(made) > 1 else made
    return "\n\n".join([*blocks, *(f"({note})" for note in notes)])


def _session(manifest: Mapping[str, Any]) -> str:
    """Card or processor, and versions, of a session of ``make gpu``."""
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    dry = "; a dry run, whose numbers mean nothing" if manifest["dry_run"] else ""
    return f"{manifest['hardware']['gpu'] or manifest['hardware']['cpu']}; {versions}{dry}"


def trainings(content: Mapping[str, Any]) -> str:
    """mAP of short trainings from the same start, one line per method."""
    rows, names = [], ["w025", "w050", "w075", "w100"]
    for method, run in content["runs"].items():
        if "grid" not in run:
            continue
        grid = CompatibilityGrid.from_dict(run["grid"])
        own = dict(zip(grid.names, grid.self_tests(), strict=True))
        cross: list[Any] = [None] * 3
        if len(grid.widths) > 1:
            cross = [grid[0, len(grid.widths) - 1], grid.compatibility()["AM"], passed(grid)]
        rows.append([method, *(own.get(name) for name in names), *cross, run["seconds"]])
    headers = ["mAP (%)", *names, "w025 on w100", "mean of all cells", "cross-tests that pass", "seconds"]
    ids, images = content["persons"]["train"]
    note = f"{content['steps']} steps of {content['batch']} images, {ids} persons, {images} images."
    return table(headers, rows, note, floatfmt=".1f", missingval="-")


def scale_out_table(path: Path) -> str:
    """The modelled cost of a step on several GPUs, and a line on whether its time on one GPU is measured."""
    step = scale_out.step_seconds()
    assumed = "assumed" if step == scale_out.ASSUMED else "measured"
    return f"{scale_out.table(step, (2, 8))}\n\n(ResNet-50; {1000 * step:.0f} ms for a step on one GPU, {assumed}.)"
