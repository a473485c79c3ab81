"""Compare FAISS and Milvus Lite on galleries of one size: inserting, searching, recall, disk and memory."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..features.feature_file import FeatureFile
from ..gallery.faiss_build import build_from_shards
from ..gallery.faiss_gallery import Gallery
from ..gallery.milvus_gallery import MilvusGallery
from ..gallery.milvus_load import Target, load_shards
from ..gallery.milvus_server import connection
from ..gallery.scoring import recall
from ..gallery.search import AnyGallery
from .timing import markdown

NAME = "trial"


def profile_engine(
    engine: str,
    index: str,
    files: Sequence[FeatureFile],
    queries: np.ndarray,
    exact: np.ndarray,
    folder: Path,
    *,
    build: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure one engine in this process. Peak memory is that of the whole process so far.

    Args:
        engine, index: ``faiss`` and its factory string, or ``milvus lite`` and Milvus's name of an index.
        files, queries, exact: feature files of the gallery, features of the queries ``[Nq, D]``, and rows of their
            exact neighbours ``[Nq, k]``.
        folder: empty folder for the gallery.
        build, parameters: parameters of Milvus's index, and of the search.

    Returns:
        ``insert_s``, ``open_s``, ``search_ms`` per query, ``recall`` in per cent, ``disk_bytes``, ``peak_bytes`` (None
        on Windows).
    """
    own = dict(parameters or {})
    start = time.perf_counter()
    if engine == "faiss":
        build_from_shards(files, folder / "gallery", index, "generated")
        inserted = time.perf_counter() - start
        start = time.perf_counter()
        text = ",".join(f"{key}={value}" for key, value in own.items())
        measured = _search(Gallery.open(folder / "gallery", text), queries, exact, start)
    else:
        uri = str(folder / "gallery.db")
        with connection(uri, create=True) as client:
            load_shards(Target(client, NAME, index, build or {}), files, "generated")
        inserted = time.perf_counter() - start
        start = time.perf_counter()
        with connection(uri) as client:
            gallery = MilvusGallery(client, NAME, parameters=own)
            rows = gallery.rows_of(np.concatenate([file.ids() for file in files]))  # in the order of the files
            measured = _search(gallery, queries, rows[exact], start)
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    settings = ", ".join(f"{key}={value}" for key, value in {**(build or {}), **own}.items())
    return {
        "engine": engine,
        "index": index,
        "settings": settings,
        "insert_s": inserted,
        **measured,
        "disk_bytes": disk,
        "peak_bytes": peak_memory(),
    }


def peak_memory() -> int | None:
    """The most memory that this process has used so far, in bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _search(gallery: AnyGallery, queries: np.ndarray, exact: np.ndarray, start: float) -> dict[str, Any]:
    top = exact.shape[1]
    gallery.search(queries[:1], top)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    for query in queries:
        gallery.search(query[None], top)
    elapsed = time.perf_counter() - start
    return {"open_s": opened, "search_ms": 1000 * elapsed / len(queries), "recall": recall(gallery, queries, exact)}


def render_engines(content: dict[str, Any]) -> str:
    """A Markdown table with one line per engine and index, and a line on the setting of the measurement."""
    rows = []
    top = content["top"]
    for entry in content["engines"]:
        name = f"{entry['engine']} {entry['index']}" + (f" ({entry['settings']})" if entry["settings"] else "")
        peak = "-" if entry["peak_bytes"] is None else f"{entry['peak_bytes'] / 1e6:,.0f}"
        seconds = [f"{entry['insert_s']:.1f}", f"{entry['open_s']:.1f}", f"{entry['search_ms']:.2f}"]
        rows.append([name, *seconds, f"{entry['recall']:.2f}", f"{entry['disk_bytes'] / 1e6:,.0f}", peak])
    headers = ["engine, index", "insert (s)", "open (s)", "search, one query (ms)", f"recall@{top} (%)", "disk (MB)"]
    headers.append("peak memory (MB)")
    table = markdown(headers, rows)
    used, machine = content["versions"], content["hardware"]
    named = ", ".join(f"{name} {used[name]}" for name in ("faiss", "milvus_lite", "pymilvus", "python"))
    imports = f"{content['imports_bytes'] / 1e6:,.0f} MB"
    return (
        f"{table}\n\n{content['num_vectors']:,} generated vectors of {content['dimension']} dimensions "
        f"({content['vector_bytes'] / 1e6:,.0f} MB), {content['num_queries']} queries one by one. Each engine runs in "
        f"a process of its own, whose peak memory includes {imports} of Python and its packages. Disk: FAISS's "
        f"index and items, without the shards; Milvus's files. {machine['cores']} cores of {machine['cpu']}; {named}.\n"
    )
