"""The Python of docs/milvus.md runs as written; tools/try_engines.py measures both engines alike."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from gallery_builders import CARD, pooled_by_hand, write_images, write_onnx
from switchablecompat.deploy.image_list import items_of_paths

ROOT = Path(__file__).parents[2]


def test_qdrant_takes_a_gallery_and_finds_what_faiss_finds(run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = write_images(Path("my_images/gallery"), 12)
    Path("query.jpg").write_bytes(images[7].read_bytes())  # a PNG by content, which is what counts
    for name, width in (("w100", 1.0), ("w025", 0.25)):
        path = write_onnx(Path(f"outputs/export/{name}-onnx/model.onnx"), width=width)
        replace(CARD, kind="onnx", file=path.name, width=width).write(path.with_name("model.json"))
    arguments = ["--model", "outputs/export/w100-onnx", "--images", "my_images", "--output", "outputs/my_gallery"]
    code, _, err = run_tool("search.py", "index", *arguments)
    assert code == 0, err
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "milvus.md").read_text(), re.S):
        exec(compile(code, "docs/milvus.md", "exec"), names)
    features = np.array([pooled_by_hand(path) for path in images])
    order = np.argsort(-(features @ features[7]))[:5]
    paths = [item.path for item in items_of_paths(["my_images"])]
    assert [hit.id for hit in names["hits"]] == order.tolist()
    assert [hit.payload["path"] for hit in names["hits"]] == [paths[i] for i in order]
    names["client"].close()


def test_both_engines_are_exact_where_their_index_is(run_tool, tmp_path):
    small = ["--generate", 400, "--dimension", 16, "--queries", 20]
    code, out, err = run_tool("try_engines.py", *small, "--output", tmp_path)
    assert code == 0, err[-2000:]
    content = json.loads((tmp_path / "engines.json").read_text())
    by_name = {(entry["engine"], entry["index"]): entry for entry in content["engines"]}
    assert len(by_name) == 4
    assert by_name["faiss", "Flat"]["recall"] == by_name["milvus lite", "FLAT"]["recall"] == 100
    for entry in by_name.values():
        assert entry["disk_bytes"] > 100
        assert entry["search_ms"] > 0
        assert f"{entry['search_ms']:.2f}" in out
    assert {path.name for path in tmp_path.iterdir()} == {
        "engines.json", "exact.npy", "queries", "queries.npy", "shards"
    }  # fmt: skip
