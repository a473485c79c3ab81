"""Try an index early: FAISS accepts some that it cannot train, fill, store or search by inner products.

Some factory strings crash the process. So a separate process tries them on random features: it runs this file as a
script, which imports only FAISS and NumPy.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import faiss
import numpy as np

ERROR = re.compile(r"^Error in .*?\.cpp:\d+: (Error: '.*' failed: )?")  # C++ function, file and condition
MOST_FEATURES = 5000  # a trial uses at most so many features
MOST_LISTS = 256
PATIENCE = 30.0  # seconds; a string whose trial takes longer is accepted
TOP, LEAST_FOUND = 100, 0.1  # share of features that find themselves in their top 100; by chance 2 % do


def reason_against(factory: str, dimension: int, num_features: int) -> str:
    """Why a factory string is unsuitable for so many features of this dimension; empty if no reason was found."""
    command = [sys.executable, __file__, factory, str(dimension), str(num_features)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return ""
    if done.returncode < 0:
        return f"it ends FAISS's process (signal {-done.returncode})"
    return done.stdout.strip().rpartition("\n")[2]


def try_factory(factory: str, dimension: int, num_features: int) -> str:
    """:func:`reason_against` in this process, which a bad string may crash."""
    if num_features > MOST_FEATURES:
        num_features = MOST_FEATURES
        factory = re.sub(r"IVF(\d+)", lambda found: f"IVF{min(int(found[1]), MOST_LISTS)}", factory)
    features = np.random.default_rng(0).standard_normal((num_features, dimension)).astype(np.float32)
    faiss.normalize_L2(features)
    doing = "made"
    try:
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            return "it compares by another metric than the inner product"
        _train_quickly(index)
        doing = "trained"
        if not index.is_trained:
            index.train(features)
        doing = "filled"
        index.add(features[: num_features // 2])  # as galleries are filled, in blocks
        index.add(features[num_features // 2 :])
        doing = "stored"
        with tempfile.TemporaryDirectory() as folder:
            faiss.write_index(index, str(Path(folder) / "index"))
            index = faiss.read_index(str(Path(folder) / "index"))
        doing = "searched"
        chosen = np.unique(np.linspace(0, num_features - 1, 200).astype(int))
        _, rows = index.search(features[chosen], min(TOP, num_features))
    except RuntimeError as error:
        text = ERROR.sub("", " ".join(str(error).split()))
        return f"{text} (when it is {doing})"
    found = float((rows == chosen[:, None]).any(axis=1).mean())
    if num_features > TOP / LEAST_FOUND and found < LEAST_FOUND:
        return f"it finds {100 * found:.0f} % of the features themselves among the first {TOP}"
    return ""


def _train_quickly(index: faiss.Index) -> None:
    """Skip a step of training that takes seconds and changes only the numbering of a product quantiser's codes."""
    inner: faiss.Index | None = index
    while inner is not None:
        inner = faiss.downcast_index(inner)
        if hasattr(inner, "do_polysemous_training"):
            inner.do_polysemous_training = False
        inner = getattr(inner, "index", None) or getattr(inner, "base_index", None)


if __name__ == "__main__":
    print(try_factory(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
