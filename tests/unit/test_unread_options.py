"""Options that nothing would read are refused before any work, and the others have their defaults."""

import pytest

from switchablecompat.cli.parsers import COMMANDS
from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.errors import InputError

MODEL, RUN = ["--model", "w.onnx"], ["--weights", "w.pth", "--width", "1.0"]
IMAGES, OUT = ["--images", "a"], ["--output", "out"]
FAISS = ["index", *MODEL, *IMAGES, *OUT]
MILVUS = ["--engine", "milvus", "--uri", "a.db"]
SHARDS = ["index", "--shards", "a", *OUT]
QUERY = ["query", "--gallery", "g", *MODEL, *IMAGES]
SHOW = ["show", "--results", "f.json"]
EXPORT = ["--weights", "w.pth", "--all", *OUT]
REHEARSE = ["--weights", "w.pth", *OUT]
TABLE_ONLY = "must stand without --table-only, which runs nothing and makes the tables of all results"
ENCODED = "is for images: shards are encoded"
FOR_MILVUS = "is for --engine milvus"
FOR_SERVER = "is for a Milvus server, --uri http://host:19530"
ROWS = [
    ("search", [*FAISS, "--index-type", "HNSW"], f"--index-type: {FOR_MILVUS}, found HNSW"),
    ("search", [*FAISS, "--index-type", "FLAT"], f"--index-type: {FOR_MILVUS}, found FLAT"),
    ("search", [*FAISS, "--index-parameters", "M=8", "ef=9"], f"--index-parameters: {FOR_MILVUS}, found M=8 ef=9"),
    ("search", [*FAISS, "--key", "path"], f"--key: {FOR_MILVUS}, found path"),
    ("search", [*FAISS, "--collection", "gallery"], f"--collection: {FOR_MILVUS}, found gallery"),
    ("search", [*FAISS, "--token", "me:secret"], f"--token: {FOR_MILVUS}"),
    ("search", [*FAISS, "--columns", "a.csv"], f"--columns: {FOR_MILVUS}, found a.csv"),
    ("search", [*FAISS, "--again"], f"--again: {FOR_MILVUS}"),
    ("search", ["index", "--uri", "a.db", *MODEL, *IMAGES], f"--uri: {FOR_MILVUS}, found a.db"),
    ("search", [*FAISS, *MILVUS], "--output: is for --engine faiss, found out"),
    ("search", ["index", *MODEL, *IMAGES, *MILVUS, "--key", "id"],
     "--key: is for --shards; the path identifies images, found id"),
    ("search", ["index", *MODEL, *IMAGES, *MILVUS, "--token", "a:b"],
     f"--token: {FOR_SERVER}"),
    *(("search", [*SHARDS, f"--{name}", value], f"--{name}: {ENCODED}, found {value}") for name, value in (
        ("width", "0.5"), ("device", "cpu"), ("precision", "float32"), ("batch-size", "8"), ("workers", "3"),
        ("manifest", "m.csv"))),
    ("search", [*QUERY, "--collection", "b"], f"--collection: {FOR_MILVUS}, found b"),
    ("search", [*QUERY, "--token", "a:b"], f"--token: {FOR_MILVUS}"),
    ("search", [*QUERY, "--depth", "3"], "--depth: is for --dataset; images without ident"),
    ("search", [*QUERY, "--rows", "8"], "--rows: is for --picture, found 8"),
    ("search", [*SHOW, "--rows", "8"], "--rows: is for --picture, found 8"),
    ("search", [*SHOW, "--against", "o.json"], "--against: is for --pick flipped, found o.json"),
    ("search", [*QUERY, "--device", "cpu"], "--device: is for --weights; exported files compute on the CPU, found cpu"),
    ("search", ["delete", "--all", *MILVUS, "--token", "a:b"], f"--token: {FOR_SERVER}"),
    ("extract", [*MODEL, *IMAGES, *OUT, "--device", "cuda"],
     "--device: is for --weights; exported files compute on the CPU, found cuda"),
    ("extract", [*MODEL, *IMAGES, *OUT, "--split", "query"],
     "--split: is for --dataset; images are in no split, found query"),
    ("extract", [*MODEL, *IMAGES, *OUT, "--split", "gallery"], "--split: is for --dataset"),
    ("extract", [*MODEL, *IMAGES, *OUT, "--manifest", "m.csv"], "--manifest: is for --dataset ManifestReID, found"),
    ("extract", [*MODEL, "--dataset", "Market1501", *OUT, "--manifest", "m.csv"], "--manifest: is for --dataset Manif"),
    ("try-index", ["--shards", "a", "--queries", "b", "--factory", "Flat", *OUT, "--dimension", "128"],
     "--dimension: is for --generate; shards have their own, found 128"),
    ("compare", ["--suite", "s.yml", "--table-only", "--dry-run"], f"--dry-run: {TABLE_ONLY}"),
    ("compare", ["--suite", "s.yml", "--table-only", "--only", "a,b"], f"--only: {TABLE_ONLY}, found a b"),
    ("compare", ["--suite", "s.yml", "--table-only", "--seeds", "0,1"], f"--seeds: {TABLE_ONLY}, found 0 1"),
    ("compare", ["--suite", "s.yml", "--table-only", "--jobs", "1"], f"--jobs: {TABLE_ONLY}, found 1"),
    ("train", ["--config-file", "c.yml", "--resume", "--eval-only"],
     "--resume: is for training; --eval-only evaluates MODEL.WEIGHTS"),
    ("export", [*EXPORT, "--kind", "program", "--openvino"], "--openvino: is for --kind onnx, found program"),
    ("export", [*EXPORT, "--max-map-drop", "0"], "--max-map-drop: needs --precision float16 or int8, found 0.0"),
    ("export", [*EXPORT, "--max-map-drop", "1", "--precision", "float32"], "--max-map-drop: needs --precision float16"),
    ("export", [*EXPORT, "--calibration-images", "128"], "--calibration-images: needs --precision int8, found 128"),
    ("export", [*EXPORT, "--calibration-images", "8", "--precision", "float16"], "--calibration-images: needs --preci"),
    ("export", [*EXPORT, "--images", "a", "--precision", "int8"], "--images: is for --precision float32; other precis"),
    ("export", [*EXPORT, "--tolerance", "0", "--precision", "int8"], "--tolerance: is for --precision float32; other"),
    ("export", [*EXPORT, "--tolerance", "0", "--kind", "checkpoint"], "--tolerance: is for --kind onnx and program; a"),
    ("rehearse", [*REHEARSE, "--precision", "float32", "--max-map-drop", "3"],
     "--max-map-drop: is for --precision float16 or int8, found 3.0"),
    ("rehearse", [*REHEARSE, "--token", "a:b"], f"--token: {FOR_SERVER}"),
    *(("rehearse", [*REHEARSE, "--far", value], f"argument --far: must be a number above 0 and below 1, found '{value}")
      for value in ("5", "nan", "0", "1", "-0.1", "few")),
]  # fmt: skip


def read(command, arguments):
    return Parser(COMMANDS[command], command).read(arguments)


@pytest.mark.parametrize(("command", "arguments", "message"), ROWS, ids=[f"{c} {' '.join(a)}" for c, a, _ in ROWS])
def test_an_option_that_nothing_reads_is_refused(command, arguments, message):
    with pytest.raises(InputError) as error:
        read(command, arguments)
    line = str(error.value).removeprefix("command line: ")
    assert line.startswith(message)
    assert "secret" not in line


SERVER = ["--engine", "milvus", "--uri", "http://host:19530", "--token", "a:b"]
ENCODING = {"precision": "float32", "batch_size": 64, "workers": 2}


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("search", FAISS, ENCODING),
        ("search", ["index", *RUN, *IMAGES, *OUT, "--device", "cpu"], {**ENCODING, "device": "cpu"}),
        ("search", ["index", *MODEL, *IMAGES, *MILVUS], {"key": "path", "collection": "gallery", "token": ""}),
        ("search", ["index", "--shards", "a", *SERVER, "--key", "id"], {"key": "id", "token": "a:b"}),
        ("search", ["index", *MODEL, "--dataset", "ManifestReID", "--manifest", "m", *OUT], {"manifest": "m"}),
        ("search", [*QUERY, "--token", ""], {"rows": 8, "depth": None}),  # as of a variable that is not set
        ("search", [*QUERY, "--picture", "a.png", "--rows", "3"], {"rows": 3}),
        ("search", [*SHOW, "--pick", "flipped", "--against", "o.json"], {"rows": 8, "against": "o.json"}),
        ("search", ["delete", "--all", *SERVER], {"collection": "gallery"}),
        ("extract", [*MODEL, *IMAGES, *OUT], {**ENCODING, "split": "gallery"}),
        ("extract", [*MODEL, "--dataset", "D", *OUT, "--split", "query"], {"split": "query"}),
        ("try-index", ["--generate", "9", "--factory", "Flat", *OUT], {"dimension": 128}),
        ("compare", ["--suite", "s.yml", "--table-only", "--jobs-dir", "j"], {"jobs": 1, "only": []}),
        ("compare", ["--suite", "s.yml", "--dry-run", "--jobs", "2", "--seeds", "0"], {"jobs": 2, "seeds": [0]}),
        ("export", EXPORT, {"tolerance": 1e-4, "max_map_drop": 1.0, "calibration_images": 128}),
        ("export", [*EXPORT, "--openvino"], {"openvino": True}),
        ("export", [*EXPORT, "--openvino", "--kind", "program", "--kind", "onnx"], {"openvino": True}),
        ("export", [*EXPORT, "--precision", "int8", "--max-map-drop", "0"], {"max_map_drop": 0.0}),
        ("export", [*EXPORT, "--precision", "int8", "--precision", "float32", "--images", "a"], {"images": "a"}),
        ("profile-precisions", REHEARSE, {"max_map_drop": 1.0, "calibration_images": 128}),
        ("rehearse", REHEARSE, {"far": 1e-2, "max_map_drop": 1.0, "token": ""}),
        ("rehearse", [*REHEARSE, "--uri", "http://host:1", "--token", "a:b", "--far", "1e-3"], {"token": "a:b"}),
    ],
)
def test_what_is_read_is_accepted_and_the_rest_has_its_defaults(command, arguments, expected):
    found = vars(read(command, arguments))
    assert {name: found[name] for name in expected} == expected
