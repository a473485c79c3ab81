"""Tables of deployment: indexes, and an upgrade."""

from pathlib import Path

from switchablecompat.deploy.card import ModelCard
from switchablecompat.errors import InputError

from .markdown import read, table


def trial_table(path: Path) -> str:
    """Memory and recall of indexes, from ``trial.json`` of ``tools/try_index.py``, one file per index."""
    trials = [read(file) for file in sorted(path.glob("*.json"))]
    if not trials:
        raise InputError(path, "must have results of tools/try_index.py")
    first = trials[0]
    rows = []
    for trial in trials:
        memory = [trial["index_bytes"], trial["peak_bytes"] - trial["imports_bytes"]]
        sizes = [f"{size / 1e6:,.0f}" for size in memory]
        for row in trial["recall"]:
            recall = next(f"{value:.2f}" for key, value in row.items() if key.startswith("recall"))
            rows.append([f"`{trial['factory']}`", *sizes, row["parameters"], recall])
    headers = ["index", "size (MB)", "peak memory while building (MB)", "parameters", "recall@10 (%)"]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    note = (
        f"{first['num_vectors']:,} generated vectors of {first['dimension']} dimensions, "
        f"{first['vector_bytes'] / 1e6:,.0f} MB, and {first['num_queries']:,} queries. Peak memory is above that of "
        f"Python and its packages. {versions}"
    )
    return table(headers, rows, note)


def rehearsal_table(path: Path) -> str:
    """One line per tenth of an upgrade, from ``rehearsal.json``."""
    content = read(path)
    form = "{share:.0f} %|{mAP:.2f}|{tar:.2f}|{far:.4f}|{answered}"
    rows = [form.format(**stage).split("|") for stage in content["stages"]]
    camera, old, new = (ModelCard.from_dict(content[name]) for name in ("camera", "old", "new"))
    headers = ["re-encoded", "mAP (%)", "TAR (%)", "FAR", "queries answered during this step"]
    note = (
        f"{content['dataset']}: {content['num_queries']} queries by {camera.name} {camera.precision}, "
        f"{content['num_gallery']} items by {old.name}, then {new.name}; threshold {content['threshold']} for FAR "
        f"{content['target_FAR']:g}; {content['hardware']['cpu']}, {content['hardware']['cores']} cores"
    )
    return table(headers, rows, note, colalign=["right"] * len(headers))
