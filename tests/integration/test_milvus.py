"""tools/search.py --engine milvus, on Milvus Lite's files and its server: FAISS's results, loads that break off."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient

from gallery_builders import PREPROCESSING, pooled_by_hand, write_images, write_onnx
from switchablecompat.deploy.gallery import milvus_load
from switchablecompat.deploy.gallery.milvus_gallery import MilvusGallery
from switchablecompat.deploy.gallery.milvus_server import connection

ROOT = Path(__file__).parents[2]
FIRST, SECOND = range(8), range(8, 12)


@pytest.fixture
def tool(run_tool):
    """Run the script in this process; returns its output."""

    def run(*arguments):
        code, out, err = run_tool("search.py", *arguments)
        assert code == 0, err[-2000:]
        return out

    return run


@pytest.fixture
def milvus(tmp_path):
    """The options of a database in a file."""
    return ["--engine", "milvus", "--uri", tmp_path / "gallery.db"]


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", 12)


@pytest.fixture
def models(tmp_path):
    return {width: write_onnx(tmp_path / f"w{width}.onnx", width=width) for width in (0.25, 1.0)}


def found(path):
    return [[(hit["id"], hit["path"]) for hit in query["found"]] for query in json.loads(path.read_text())["queries"]]


def expected_order(query, paths):
    scores = np.array([pooled_by_hand(path) for path in paths]) @ pooled_by_hand(query)
    return [str(paths[i]) for i in np.argsort(-scores)]


def test_results_and_metrics_are_those_of_faiss(tool, evaluated_run, milvus, tmp_path):
    name = json.loads((evaluated_run / "grid.json").read_text())["dataset"]
    run = ["--weights", evaluated_run / "model_final.pth", "--device", "cpu", "--dataset", name]
    tool("index", *run, "--width", 1.0, "--output", tmp_path / "faiss")
    out = tool("index", *run, "--width", 1.0, *milvus)
    assert "0 replaced, 0 were there" in out
    query = ["query", *run, "--width", 0.5, "--top", 7]
    tool(*query, "--gallery", tmp_path / "faiss", "--json", tmp_path / "faiss.json")
    tool(*query, *milvus, "--json", tmp_path / "milvus.json")
    ours, theirs = (json.loads((tmp_path / f"{engine}.json").read_text()) for engine in ("milvus", "faiss"))
    assert found(tmp_path / "milvus.json") == found(tmp_path / "faiss.json")
    for one, other in zip(ours["queries"], theirs["queries"], strict=True):
        assert [hit["match"] for hit in one["found"]] == [hit["match"] for hit in other["found"]]
        np.testing.assert_allclose(*([hit["score"] for hit in x["found"]] for x in (one, other)), atol=1e-6)
    for metric, value in theirs["metrics"].items():
        assert ours["metrics"][metric] == pytest.approx(value, abs=1e-9)
    assert ours["gallery"]["encoders"] == {"w100": len_of(theirs)}


def len_of(content):
    return content["gallery"]["num_items"]


def test_shards_give_the_same_as_their_images(tool, run_tool, milvus, images, models, tmp_path):
    arguments = ["--model", models[1.0], "--images", tmp_path / "images", "--output", tmp_path / "shards"]
    assert run_tool("extract.py", *arguments, "--shard-size", 5, "--first-id", 100)[0] == 0
    tool("index", "--shards", tmp_path / "shards", *milvus)
    assert "0 items added, 0 replaced, 12 were there" in tool("index", "--shards", tmp_path / "shards", *milvus)
    assert "12 were there" in tool("index", "--model", models[1.0], "--images", tmp_path / "images", *milvus)
    tool("query", *milvus, "--model", models[0.25], "--images", images[3], "--top", 12, "--json", tmp_path / "f.json")
    (hits,) = found(tmp_path / "f.json")
    assert [path for _, path in hits] == expected_order(images[3], images)
    assert [number for number, _ in hits] == [100 + images.index(Path(path)) for _, path in hits]


def test_a_part_is_replaced_by_another_width_and_keeps_its_labels(tool, run_tool, milvus, images, models, tmp_path):
    (tmp_path / "manifest.csv").write_text(
        "path,pid,camid,split,time,site\n"
        + "".join(f"images/{path.name},p{i % 3},c{i % 2},gallery,{900 + i},north\n" for i, path in enumerate(images))
        + "images/000.png,p0,c7,query,1,south\nimages/000.png,p0,c7,train,1,south\n"
    )
    set_of = ["--dataset", "ManifestReID", "--manifest", tmp_path / "manifest.csv"]
    columns = tmp_path / "columns.csv"
    columns.write_text("path,time\n" + "".join(f"images/{path.name},{900 + i}\n" for i, path in enumerate(images)))
    tool("index", *milvus, "--model", models[0.25], *set_of, "--columns", columns)
    out = tool("index", *milvus, "--model", models[1.0], "--images", *images[8:])
    assert "0 items added, 4 replaced, 0 were there, by w100" in out
    assert "now 12 items (8 by w025, 4 by w100)" in out
    query = ["query", *milvus, "--model", models[1.0], "--images", images[9], "--json", tmp_path / "f.json"]
    out = tool(*query, "--top", 12)
    assert "gallery by w025 (8), w100 (4)" in out
    (hits,) = json.loads((tmp_path / "f.json").read_text())["queries"]
    for hit in hits["found"]:
        number = hit["id"]
        assert (hit["path"], hit["pid"], hit["camid"]) == (str(images[number]), f"p{number % 3}", f"c{number % 2}")
    tool(*query, "--top", 2, "--filter", 'time > 907 and camid == "c1"')
    assert {number for number, _ in found(tmp_path / "f.json")[0]} == {9, 11}
    code, _, err = run_tool("search.py", *map(str, query), "--top", "3", "--filter", 'time > 907 and camid == "c1"')
    assert (code, err) == (2, "error: number of items to find: must be from 1 to the 2 of the gallery, found 3\n")


def test_an_item_with_new_labels_or_columns_is_written_again(tool, milvus, images, models, tmp_path):
    index = ["index", *milvus, "--model", models[1.0]]
    columns, manifest = tmp_path / "columns.csv", tmp_path / "manifest.csv"

    def write_columns(later):
        lines = (f"images/{path.name},{900 + i + 100 * (i in later)},{i / 2}\n" for i, path in enumerate(images))
        columns.write_text("path,time,speed\n" + "".join(lines))

    write_columns(later=())
    assert "12 items added" in tool(*index, "--images", *images)
    with_columns = [*index, "--images", *images, "--columns", columns]
    assert "0 items added, 12 replaced, 0 were there" in tool(*with_columns)
    assert "0 items added, 0 replaced, 12 were there" in tool(*with_columns)
    query = ["query", *milvus, "--model", models[0.25], "--images", images[0], "--json", tmp_path / "f.json"]
    tool(*query, "--top", 2, "--filter", "time > 909 and speed >= 5.0")
    assert {path for _, path in found(tmp_path / "f.json")[0]} == {str(path) for path in images[10:]}
    write_columns(later=(4, 7))
    assert "0 items added, 2 replaced, 10 were there" in tool(*with_columns)
    tool(*query, "--top", 2, "--filter", "time > 1000")
    assert {number for number, _ in found(tmp_path / "f.json")[0]} == {4, 7}, "the ids remain"

    rows = "".join(f"images/{path.name},p{i % 3},c{i % 2},gallery\n" for i, path in enumerate(images))
    manifest.write_text(f"path,pid,camid,split\n{rows}images/000.png,p0,c7,query\nimages/000.png,p0,c7,train\n")
    labelled = [*index, "--dataset", "ManifestReID", "--manifest", manifest]
    assert "0 items added, 12 replaced, 0 were there" in tool(*labelled)
    assert "0 items added, 0 replaced, 12 were there" in tool(*labelled)
    assert "12 were there" in tool(*index, "--images", *images), "what is not given again stays"
    tool(*query, "--top", 1, "--filter", 'camid == "c1" and time > 1000')
    assert found(tmp_path / "f.json")[0] == [(7, str(images[7]))]


def test_shards_with_other_labels_are_written_again(tool, run_tool, milvus, images, models, tmp_path):
    rows = "".join(f"images/{path.name},p{i % 3},c{i % 2},gallery\n" for i, path in enumerate(images))
    rows += "images/000.png,p0,c7,query\nimages/000.png,p0,c7,train\n"
    (tmp_path / "m.csv").write_text(f"path,pid,camid,split\n{rows}")
    tool("index", *milvus, "--model", models[1.0], "--images", *images)
    shards = ["--dataset", "ManifestReID", "--manifest", tmp_path / "m.csv", "--output", tmp_path / "shards"]
    assert run_tool("extract.py", "--model", models[1.0], *shards)[0] == 0
    index = ["index", *milvus, "--shards", tmp_path / "shards"]
    assert "0 items added, 12 replaced, 0 were there" in tool(*index)
    assert "0 items added, 0 replaced, 12 were there" in tool(*index)


def test_added_items_get_new_ids_and_deleted_ones_are_gone(tool, milvus, images, models, tmp_path):
    tool("index", *milvus, "--model", models[1.0], "--images", *images[:8])
    assert "4 items added" in tool("index", *milvus, "--model", models[1.0], "--images", *images[8:])
    images[2].unlink()  # what is gone from disk is still in the gallery
    assert "3 items deleted" in tool("delete", *milvus, "--images", *images[:3])
    write_images(tmp_path / "images", 12)
    assert "1 items deleted" in tool("delete", *milvus, "--filter", f'path like "%{images[5].name}"')
    query = ["query", *milvus, "--model", models[1.0], "--images", images[5], "--json", tmp_path / "f.json"]
    tool(*query, "--top", 8)
    (hits,) = found(tmp_path / "f.json")
    left = [path for i, path in enumerate(images) if i not in (0, 1, 2, 5)]
    assert [path for _, path in hits] == expected_order(images[5], left)
    assert len({number for number, _ in hits}) == 8
    assert "4 items added, 0 replaced, 8 were" in tool("index", *milvus, "--model", models[1.0], "--images", *images)
    tool("delete", *milvus, "--all")
    assert "12 items added" in tool("index", *milvus, "--model", models[1.0], "--images", *images)


def test_an_item_is_one_however_its_path_is_spelt(tool, milvus, images, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool("index", *milvus, "--model", models[1.0], "--images", "images")
    assert "12 were there" in tool("index", *milvus, "--model", models[1.0], "--images", "./images/")
    assert "1 were there" in tool("index", *milvus, "--model", models[1.0], "--images", "images/../images//003.png")


KILLED = """
import os, signal, sys
from switchablecompat.deploy.gallery import milvus_load
from pymilvus import MilvusClient
milvus_load.BLOCK, milvus_load.ROWS = 5, 3  # messages of 3, 2, 3, 2 and 2 items
upsert, calls = MilvusClient.upsert, []
def dying(self, *arguments):
    upsert(self, *arguments)
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
MilvusClient.upsert = dying
from switchablecompat_command import main
main("search", "search")
"""


def test_a_load_that_was_killed_ends_as_an_undisturbed_one(tool, run_tool, milvus, images, models, tmp_path):
    index = ["index", *milvus, "--model", models[1.0], "--images", tmp_path / "images", "--batch-size", "1"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, index)], cwd=ROOT, capture_output=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    query = ["query", "--model", models[0.25], "--images", *images[:3], "--top", 12]
    code, _, err = run_tool("search.py", *map(str, [*query, *milvus]))
    assert code == 2
    rule = f"must hold all 12 items of {tmp_path / 'images'}: start the same index command again, found "
    assert err.startswith(f"error: collection gallery: {rule}")
    number = int(err.rpartition("found ")[2])
    assert number == 8
    code, _, err = run_tool("search.py", *map(str, ["index", *milvus, "--model", models[1.0], "--images", images[0]]))
    assert code == 2
    assert f"must first be loaded whole, with the 12 items of {tmp_path / 'images'} (or be deleted: --all)" in err
    assert f"{12 - number} items added, 0 replaced, {number} were there" in tool(*index)
    tool(*query, *milvus, "--json", tmp_path / "again.json")
    other = ["--engine", "milvus", "--uri", tmp_path / "other.db"]
    tool("index", *other, "--model", models[1.0], "--images", tmp_path / "images")
    tool(*query, *other, "--json", tmp_path / "once.json")
    assert found(tmp_path / "again.json") == found(tmp_path / "once.json")


def test_messages_stay_below_the_servers_limit(milvus, images, models, tmp_path, tool, monkeypatch):
    sizes = []
    upsert = MilvusClient.upsert
    monkeypatch.setattr(milvus_load, "MESSAGE", 3 * (4 * 24 + milvus_load.OTHER) + 1)
    monkeypatch.setattr(
        MilvusClient, "upsert", lambda self, name, rows: (sizes.append(len(rows)), upsert(self, name, rows))
    )
    tool("index", *milvus, "--model", models[1.0], "--images", tmp_path / "images")
    assert sizes == [3, 3, 3, 3]


def test_a_server_takes_the_same_commands(tool, images, models, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", tmp_path / "server", "--port", str(port)]
    server = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        there = ["--engine", "milvus", "--uri", f"http://127.0.0.1:{port}", "--collection", "people"]
        hnsw = ["--index-type", "HNSW", "--index-parameters", "M=16", "efConstruction=100"]
        out = tool("index", *there, *hnsw, "--model", models[1.0], "--images", tmp_path / "images")
        assert "collection people: 12 items added" in out
        assert out.strip().endswith("index HNSW")
        query = ["--model", models[0.25], "--images", images[4], "--top", 5, "--parameters", "ef=64"]
        tool("query", *there, *query, "--json", tmp_path / "f.json")
        assert [path for _, path in found(tmp_path / "f.json")[0]] == expected_order(images[4], images)[:5]
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ({"family": "sha256:2"}, ("family", "sha256:1", "sha256:2")),
        ({"dimension": 12}, ("dimension", "24", "12")),
        ({"preprocessing": {**PREPROCESSING, "size": [16, 8]}}, ("preprocessing.size", "[8, 4]", "[16, 8]")),
    ],
)
@pytest.mark.parametrize("command", ["index", "query"])
def test_another_feature_space_is_refused(tool, refused, milvus, images, models, tmp_path, change, values, command):
    tool("index", *milvus, "--model", models[1.0], "--images", images[0])
    model = write_onnx(tmp_path / "other.onnx", **change)
    line = refused(
        "search.py",
        [command, *milvus, "--model", model, "--images", images[1], *["--top", 1][: 2 * (command == "query")]],
    )
    assert line.startswith(f"error: {values[0]}: must be the same to compare features, found ")
    assert f"{values[1]}" in line
    assert f"{values[2]}" in line
    assert "the collection gallery" in line


def plain_collection(uri):
    with connection(str(uri), create=True) as client:
        client.create_collection("gallery", dimension=24)


CASES = {
    "no uri": (["--engine", "milvus"], None, "command line: must have --uri with --engine milvus"),
    "no suffix": (["--engine", "milvus", "--uri", "gallery"], None, "--uri: must be a file that ends in .db"),
    "no file": (["--engine", "milvus", "--uri", "none.db"], None, "none.db: must be an existing database of Milvus"),
    "no server": (["--engine", "milvus", "--uri", "http://127.0.0.1:9"], None, "http://127.0.0.1:9: must be a running"),
    "not a gallery": (["--engine", "milvus", "--uri", "a.db"], plain_collection,
                      "collection gallery: must be a gallery"),
    "no collection": (["--engine", "milvus", "--uri", "a.db", "--collection", "b"], plain_collection,
                      "collection b: must be in this database, which has gallery"),
    "not a database": (["--engine", "milvus", "--uri", "a.db"], lambda path: path.write_text("no"),
                       "a.db: must be a whole database of Milvus Lite"),
    "both": (["--engine", "milvus", "--uri", "a.db", "--gallery", "g"], None, "--gallery: is for --engine faiss"),
    "uri of faiss": (["--gallery", "g", "--uri", "a.db"], None, "--uri: is for --engine milvus, found a.db"),
    "filter of faiss": (["--gallery", "g", "--filter", "id > 3"], None, "--filter: is for --engine milvus"),
    "neither": ([], None, "command line: must have --gallery"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line(refused, images, models, tmp_path, monkeypatch, case):
    arguments, prepare, message = CASES[case]
    monkeypatch.chdir(tmp_path)
    if prepare:
        prepare(Path("a.db"))
    line = refused("search.py", ["query", *arguments, "--model", models[1.0], "--images", images[0]])
    assert line.startswith(f"error: {message}"), line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "a.csv"], "a.csv: must have a line for each of the 12 items, found none for "),
        (["--columns", "no.csv"], "no.csv: must be a readable CSV"),
        (["--columns", "other.csv"], "other.csv: must have a column path"),
        (["--columns", "taken.csv"], "--columns: must be letters, digits and underscores, and none of key, id, "),
        (["--columns", "short.csv"], "short.csv: line 3: must have 2 fields, found 1"),
        (["--columns", "labels.csv"], "labels.csv: must have no columns pid and camid: labels come from the data set "),
        (["--collection", "a b"], "--collection: must be letters, digits and underscores"),
        (["--index-type", "NOPE"], "command line: argument --index-type: invalid choice: 'NOPE'"),
        (["--index-parameters", "M"], "--index-parameters: must be NAME=VALUE, found M"),
        (["--factory", "Flat"], "--factory: is for --engine faiss"),
        (["--output", "out"], "--output: is for --engine faiss"),
    ],
)
def test_bad_loads_are_one_line(refused, images, models, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("path,time\nimages/000.png,3\n")
    Path("other.csv").write_text("file,time\nimages/000.png,3\n")
    Path("taken.csv").write_text("path,width\n" + "".join(f"images/{path.name},3\n" for path in images))
    Path("short.csv").write_text("path,time\nimages/000.png,3\nimages/001.png\n")
    Path("labels.csv").write_text("path,pid\n" + "".join(f"images/{path.name},3\n" for path in images))
    index = ["index", "--engine", "milvus", "--uri", "gallery.db", "--model", models[1.0], "--images", "images"]
    line = refused("search.py", [*index, *arguments])
    assert line.startswith(f"error: {message}"), line


def test_a_collection_keeps_its_index_and_another_is_refused(tool, refused, milvus, images, models):
    load = ["index", *milvus, "--model", models[1.0], "--images", images[0]]
    index = ["--index-type", "HNSW", "--index-parameters", "M=16"]
    tool(*load, *index)
    assert "1 were there" in tool(*load, *index)  # the same command again
    assert "index HNSW" in tool(*load)
    line = refused("search.py", [*load, "--index-type", "FLAT"])
    assert line == "error: --index-type: must be that of the collection gallery, HNSW, found FLAT"
    line = refused("search.py", [*load, "--index-parameters", "M=32"])
    assert line == "error: --index-parameters: must be those of the collection gallery, M=16, found M=32"


def test_a_filter_over_no_column_is_refused(tool, refused, milvus, images, models):
    tool("index", *milvus, "--model", models[1.0], "--images", images[0])
    query = ["query", *milvus, "--model", models[1.0], "--images", images[0], "--top", 1]
    line = refused("search.py", [*query, "--filter", 'camera == "time" and time > 3'])
    assert line.startswith(
        "error: --filter: must be over the columns key, id, path, pid, camid, width, precision, found"
    )
    line = refused("search.py", ["delete", *milvus, "--filter", "time > 3"])
    assert "found time" in line
    line = refused("search.py", [*query, "--filter", "id >"])
    assert "must be a Milvus database that does what it is asked" in line


@pytest.mark.parametrize("package", ["pymilvus", "milvus_lite"])
def test_a_missing_package_says_what_to_install(refused, milvus, images, models, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    line = refused("search.py", ["index", *milvus, "--model", models[1.0], "--images", images[0]])
    assert line.startswith(f"error: {package}: is needed for ")
    assert "pip install 'switchablecompat[milvus]'" in line


def test_labels_are_those_of_their_rows(tool, milvus, images, models, tmp_path):
    rows = "".join(f"images/{path.name},p{i % 3},c{i % 5},gallery\n" for i, path in enumerate(images))
    rows += "images/000.png,p0,c7,query\nimages/000.png,p0,c7,train\n"
    (tmp_path / "m.csv").write_text(f"path,pid,camid,split\n{rows}")
    tool("index", *milvus, "--model", models[1.0], "--dataset", "ManifestReID", "--manifest", tmp_path / "m.csv")
    with connection(str(milvus[-1])) as client:
        gallery = MilvusGallery(client, "gallery")
        query = np.array([pooled_by_hand(images[7])], dtype=np.float32)
        _, some = gallery.search(query, 3)  # rows that are known before the labels
        pids, camids = gallery.labels()
        _, rows = gallery.search(query, 12)
        assert rows[0, :3].tolist() == some[0].tolist()
        for row, (number, item) in gallery.items(rows).items():
            assert (pids[row], camids[row]) == (item.pid, item.camid) == (f"p{number % 3}", f"c{number % 5}")


def test_another_process_may_open_it_afterwards(tool, milvus, images, models, tmp_path):
    tool("index", *milvus, "--model", models[1.0], "--images", *images)
    moved = tmp_path / "moved.db"
    shutil.move(milvus[-1], moved)  # card and items travel with it
    command = [
        sys.executable,
        "tools/search.py",
        "query",
        "--engine",
        "milvus",
        "--uri",
        moved,
        "--model",
        models[0.25],
    ]
    command += ["--images", images[2], "--top", "1"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    assert images[2].name in done.stdout


def ids_of(milvus):
    client = MilvusClient(str(milvus[3]))
    client.load_collection("gallery")
    rows = client.query("gallery", filter="id >= 0", output_fields=["id", "path"])
    client.close()
    return sorted(row["id"] for row in rows)


def test_ids_are_unique_whatever_loads_come_together(tool, run_tool, milvus, images, models, tmp_path):
    extract = ["--model", models[1.0], "--images"]
    for name, some, first in (("a", images[:3], 3), ("b", images[3:6], 4), ("c", images[3:6], 20)):
        shards = ["--output", tmp_path / name, "--first-id", first]
        assert run_tool("extract.py", *map(str, [*extract, *some, *shards]))[0] == 0
    tool("index", "--shards", tmp_path / "a", *milvus)
    tool("index", "--model", models[1.0], "--images", *images[8:], *milvus)  # after the largest id, not their number
    assert ids_of(milvus) == [3, 4, 5, 6, 7, 8, 9]
    code, _, err = run_tool("search.py", "index", "--shards", str(tmp_path / "b"), *map(str, milvus))
    assert code == 2
    found = "must be new in the collection gallery; extract with --first-id 10, for example, found 4 of another item"
    assert err.strip().splitlines()[-1] == f"error: id: {found}"
    assert len(ids_of(milvus)) == 7
    tool("index", "--shards", tmp_path / "c", *milvus)
    assert ids_of(milvus) == [3, 4, 5, 6, 7, 8, 9, 20, 21, 22]
    shards = ["--output", tmp_path / "d", "--first-id", "50"]
    assert run_tool("extract.py", *map(str, ["--model", models[0.25], "--images", *images[:3], *shards]))[0] == 0
    assert "0 items added, 3 replaced" in tool("index", "--shards", tmp_path / "d", *milvus)
    assert ids_of(milvus) == [3, 4, 5, 6, 7, 8, 9, 20, 21, 22], "a replaced item keeps its id"
