"""What the tools around a trained family refuse: one line that names key or file, rule and value, and exit code 2.

``test_bad_input.py`` does the same for training and evaluation. Here no file may be made, changed or lost either.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from builders import TINY, Hostile, tiny_config, tiny_model
from gallery_builders import CARD, pooling_encoder, unit_features, write_images, write_onnx, write_shard
from switchablecompat.deploy.gallery.faiss_build import build_from_images
from switchablecompat.deploy.image_list import items_of_paths
from switchablecompat.modeling.checkpoint import RECORD_KEY
from switchablecompat.modeling.opened import CARD_KEY
from switchablecompat.modeling.trained import run_record

ROOT = Path(__file__).parents[2]
WIDTHS = ("MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]")
OUT = ["--output", "{m}/out"]
FILE = "{m}/images/000.png"  # a file where a folder should be
RUN = ["--config-file", "{run}/config.yaml", "--weights", "{run}/model_final.pth"]


def of_run(weights="{run}/model_final.pth", config="{run}/config.yaml"):
    """A trained run by its two files."""
    return ["--config-file", config, "--weights", weights]


OTHER_WIDTHS = (
    "MODEL.SWITCHABLE.WIDTHS: must be [0.25, 0.5, 1.0], as {m}/three_widths.pth was trained, found [0.5, 1.0] in "
    "{run}/config.yaml"
)
BAD_RUNS = [
    (of_run("{m}/absent.pth"), "absent.pth: must be an existing checkpoint"),
    (of_run("{m}/cut.pth"), "cut.pth: must be a whole checkpoint of tensors"),
    (of_run("{m}/code.pth"), "code.pth: must be a whole checkpoint of tensors"),
    (of_run("{m}/three_widths.pth"), OTHER_WIDTHS),
    (of_run("{m}/list.pth"), "list.pth: must be a checkpoint"),
    (of_run(config="{m}/broken.yml"), "broken.yml: must be a valid config"),
]

EXPORT = [
    *((["--all", *run, *OUT], message) for run, message in BAD_RUNS),
    (["--all", *of_run(config="{m}/absent.yml"), *OUT], "--config-file: must be an existing yaml file"),
    ([*RUN, "--width", "0.25", *OUT], "model_final.pth: must have a sub-model of width 0.25, found"),
    ([*RUN, "--width", "nan", *OUT], "must have a sub-model of width nan, found widths [0.5, 1.0]"),
    ([*RUN, "--all", "--kind", "tflite", *OUT], "argument --kind: invalid choice: 'tflite'"),
    ([*RUN, "--all"], "the following arguments are required: --output"),
    ([*RUN, "--all", "--output", FILE], "--output: must be a folder that can be written to, found {m}/images/000.png"),
    ([*RUN, "--all", "--output", FILE + "/below"], "--output: must be a folder that can be written to, found"),
    ([*RUN, "--width", "0.5", "--output", "{m}/taken"], "found {m}/taken/w050-checkpoint"),
    ([*RUN, "--width", "0.5", "--precision", "int8", "--output", "{m}/taken"], "found {m}/taken/w050-onnx-int8"),
    ([*RUN, "--width", "0.5", "--precision", "float16", "--output", "{m}/taken"], "found {m}/taken/w050-onnx-float16"),
    ([*RUN, "--all", "--images", "{m}/damaged", *OUT], "damaged: must hold at least 8 images"),
    ([*RUN, "--all", "--images", "{m}/unreadable", *OUT], "unreadable/3.png: must be a readable image"),
    ([*RUN, "--all", "--tolerance", "nan", *OUT], "argument --tolerance: must be a number of at least 0, found 'nan'"),
    ([*RUN, "--all", *OUT, "DATASETS.TESTS", "('Market1501',)"], "--images: must name a folder of images where"),
    ([*RUN, "--all", *OUT, "SEED"], "KEY VALUE overrides: must come in pairs, found SEED"),
    ([*RUN, "--all", *OUT, "--kind", "program", "--openvino"], "--openvino: is for --kind onnx, found program"),
    ([*RUN, "--all", *OUT, "--max-map-drop", "0.5"], "--max-map-drop: needs --precision float16 or int8, found 0.5"),
]

PROFILE = [
    *(([*run, *OUT], message) for run, message in BAD_RUNS[:4]),
    (["--config-file", "{m}/absent.yml", *OUT], "--config-file: must be an existing yaml file"),
    (["--config-file", "{m}/broken.yml", *OUT], "broken.yml: must be a valid config"),
    (
        ["--config-file", TINY, "--batch", "-1", *OUT],
        "argument --batch: must be a whole number of at least 1, found '-1'",
    ),
    (
        ["--config-file", TINY, "--batch", "1.5", *OUT],
        "argument --batch: must be a whole number of at least 1, found '1.5'",
    ),
    (
        ["--config-file", TINY, "--threads", "0", *OUT],
        "argument --threads: must be a whole number of at least 1, found '0'",
    ),
    (
        ["--config-file", TINY, "--repeats", "-3", *OUT],
        "argument --repeats: must be a whole number of at least 1, found '-3'",
    ),
    (["--config-file", TINY, "--output", FILE], "--output: must be a folder that can be written to"),
    (["--config-file", TINY, *OUT, "MODEL.SWITCHABLE.WIDTHS", "[1.0, 0.5]"], "MODEL.SWITCHABLE.WIDTHS: must be"),
]

REPORT = [
    *(([*run, *OUT], message) for run, message in BAD_RUNS),
    ([*RUN, "--output", FILE], "--output: must be a folder that can be written to"),
    ([*RUN, "--output", FILE + "/below"], "--output: must be a folder that can be written to"),
    ([*RUN, "--dataset", "Market1501", *OUT], "data set Market1501: needs"),
    ([*RUN, "--dataset", "Nothing", *OUT], "data set: must be one of"),
    ([*RUN, "--undefined", "1.0", *OUT], "--undefined: must be QUERY,GALLERY widths, such as 1.0,1.0, found 1.0"),
    ([*RUN, "--model", "0.5", *OUT], "--model: must be WIDTH=RUN_DIR with an existing folder, found 0.5"),
    (["--model", "0.75={run}", *OUT], "model_final.pth: must have a sub-model of width 0.75, found"),
    (["--config-file", TINY, *OUT], "--config-file needs --weights"),
    ([*RUN, *OUT, "MODEL.DEVICE", "phone"], "MODEL.DEVICE: must be cpu, cuda or cuda:N, found 'phone'"),
    ([*RUN, *OUT, "DATASETS.TESTS", "()"], "DATASETS.TESTS: must "),
]

MODEL = ["--model", "{m}/w100.onnx"]
IMAGES = ["--images", "{m}/images"]
LONG = 300 * "x"  # the system refuses to read such a name: that is no fault of the output
# What encodes and what is encoded are the same options in search.py (index, query) and extract.py.
BAD_ENCODERS = [
    (["--model", "{m}/absent.onnx"], "absent.onnx: must be an existing exported model"),
    (["--model", "{m}/empty"], "model.json: must be a readable model card"),
    (["--model", FILE], "000.png: must end in .onnx, .pt2, .pth"),
    (["--model", "{m}/cut.onnx"], "cut.onnx: must be a whole ONNX file"),
    (["--model", "{m}/none.onnx"], "none.onnx: must be a whole ONNX file"),
    (["--model", "{m}/cardless.onnx"], "cardless.onnx: must be written by the command export"),
    (["--model", "{m}/word_card.onnx"], "word_card.onnx: must be a readable model card"),
    (["--model", "{m}/cut.pt2"], "cut.pt2: must be a whole program of torch.export"),
    (["--model", "{run}/model_final.pth"], "model_final.pth: must be written by the command export"),
    ([*of_run("{m}/cut.pth"), "--width", "0.5"], "cut.pth: must be a whole checkpoint of tensors"),
    ([*of_run("{m}/three_widths.pth"), "--width", "0.5"], OTHER_WIDTHS),
    ([*of_run(config="{m}/broken.yml"), "--width", "0.5"], "broken.yml: must be a valid config"),
    ([*RUN, "--width", "0.75", "--device", "cpu"], "model_final.pth: must have a sub-model of width 0.75, found"),
    ([*RUN, "--width", "0.5", "--device", "phone"], "MODEL.DEVICE: must be cpu, cuda or cuda:N, found 'phone'"),
    ([*RUN], "command line: must have --model, or --weights with --width"),
]
BAD_IMAGES = [
    (["--images", "{m}/absent"], "absent: must be an existing folder of images"),
    (["--images", "{m}/empty"], "empty: must hold images"),
    (["--images", LONG], f"{LONG}: must be readable, or writable, found File name too long"),
    ([], "command line: must have --images or --dataset"),
    (["--dataset", "Nothing"], "data set: must be one of"),
    (["--dataset", "Market1501"], "data set Market1501: needs"),
    (["--dataset", "ManifestReID", "--manifest", "{m}/absent.csv"], "absent.csv: must be a CSV file"),
    ([*IMAGES, "--batch-size", "-1"], "argument --batch-size: must be a whole number of at least 1, found '-1'"),
    ([*IMAGES, "--workers", "0"], "argument --workers: must be a whole number of at least 1, found '0'"),
]

INDEX = [
    *((["index", *OUT, *IMAGES, *encoder], message) for encoder, message in BAD_ENCODERS),
    *((["index", *OUT, *MODEL, *images], message) for images, message in BAD_IMAGES),
    (["index", *MODEL, *IMAGES, "--output", FILE], "--output: must be a folder that can be written to"),
    (["index", *MODEL, *IMAGES, "--output", "{m}/images"], "images: must be new, or the folder of a gallery that may"),
    (["index", *MODEL, *IMAGES, *OUT, "--factory", "Best"], "--factory: must be an index of FAISS for inner products"),
    (["index", *MODEL, *IMAGES, *OUT, "--factory", "IVF64,Flat"], "--factory: IVF64,Flat must suit a gallery of 12"),
    (["index", *MODEL, *IMAGES, *OUT, "--factory", "PQ5"], "--factory: must be an index of FAISS"),
    (["index", *OUT, "--shards", "{m}/absent"], "absent: must be a folder of feature files, found no such folder"),
    (["index", *OUT, "--shards", "{m}/empty"], "empty: must hold feature files (*.parquet), found none"),
    (["index", *OUT, "--shards", "{m}/shards_cut"], "cut.parquet: must be a whole Parquet file"),
    (["index", *OUT, "--shards", "{m}/shards_word"], "word.parquet: must be a whole Parquet file"),
    (["index", *OUT, "--shards", "{m}/shards_foreign"], "foreign.parquet: must have a model card"),
    (["index", *OUT, "--shards", "{m}/shards_long"], "long.parquet: the feature of id 3 must have length one, found 2"),
    (["index", *OUT, "--shards", "{m}/shards_nan"], "nan.parquet: the feature of id 0 must have length one, found nan"),
    (["index", *OUT, "--shards", "{m}/shards", "{m}/shards_family"], "family: must be the same to compare features"),
    (["index", *OUT, "--shards", "{m}/shards", "{m}/shards"], "id: must occur once in a gallery, found 0 twice"),
    (["index", *OUT, "--shards", "{m}/shards_job"], "extract.json: must be what the command extract wrote"),
    (["index", *OUT, "--shards", "{m}/shards_none"], "gallery: must have at least one image, found 0"),
    (["index", *MODEL, *IMAGES, *OUT, "--index-type", "HNSW"], "--index-type: is for --engine milvus, found HNSW"),
    (["index", *OUT, "--shards", "{m}/shards", "--batch-size", "8"], "--batch-size: is for images: shards are encoded"),
]

QUERY = [
    *((["query", "--gallery", "{m}/g", *IMAGES, *encoder], message) for encoder, message in BAD_ENCODERS[:5]),
    *((["query", "--gallery", "{m}/g", *MODEL, *images], message) for images, message in BAD_IMAGES[:4]),
    *(
        (["query", "--gallery", f"{{m}}/{gallery}", *MODEL, *IMAGES], message)
        for gallery, message in (
            ("absent", "index.json: must be the readable card of a gallery"),
            ("empty", "index.json: must be the readable card of a gallery"),
            ("g_cut_index", "index.faiss: must be a FAISS index of"),
            ("g_other_index", "index.faiss: must be a FAISS index"),
            ("g_no_index", "index.faiss: must be a FAISS index of"),
            ("g_cut_items", "items.parquet: must be a whole Parquet file"),
            ("g_word_card", "index.json: must be the readable card of a gallery"),
            ("g_list_card", "index.json: must be the readable card of a gallery, found list"),
            ("g_empty_card", "index.json: format: must be 1"),
            ("g_half_card", "index.json: model: must be given"),
            ("g_count", "must have the 11 items of index.json, found 12"),
        )
    ),
    (["query", "--gallery", "{m}/g", "--model", "{m}/family.onnx", *IMAGES], "family: must be the same to compare"),
    (["query", "--gallery", "{m}/g", "--model", "{m}/dimension.onnx", *IMAGES], "dimension: must be the same to"),
    (["query", "--gallery", "{m}/g", *RUN, "--width", "0.5", "--device", "cpu", *IMAGES], "family: must be the same"),
    (
        ["query", "--gallery", "{m}/g", *MODEL, "--dataset", "SyntheticReIDTiny", "--depth", "13"],
        "number of items to find: must be from 1 to the 12 of the gallery, found 13",
    ),
    *(
        (["query", "--gallery", "{m}/g", *MODEL, *IMAGES, *more], message)
        for more, message in (
            (["--top", "13"], "number of items to find: must be from 1 to the 12 of the gallery, found 13"),
            (["--top", "-1"], "argument --top: must be a whole number of at least 1, found '-1'"),
            (["--depth", "12"], "--depth: is for --dataset; images without identities have no metrics, found 12"),
            (["--show", "none"], "argument --show: must be a whole number of at least 1, found 'none'"),
            (["--rows", "0"], "argument --rows: must be a whole number of at least 1, found '0'"),
            (["--parameters", "nprobe=2"], "--parameters: must be NAME=VALUE that this index has, not nprobe=2"),
            (["--parameters", "many"], "--parameters: must be NAME=VALUE that this index has, not many"),
            (["--pick", "worst"], "--pick: must be spread where there are no metrics, found worst"),
            (["--json", "{m}/images"], "--json: must be a file, not a folder, found {m}/images"),
            (["--json", FILE + "/found.json"], "--json: must be a file that can be written, found {m}/images/000.png"),
            (["--picture", "{m}/images"], "--picture: must be a file, not a folder, found {m}/images"),
            (["--picture", FILE + "/found.png"], "--picture: must be a file that can be written"),
        )
    ),
]

EXTRACT = [
    *(([*OUT, *IMAGES, *encoder], message) for encoder, message in BAD_ENCODERS),
    *(([*OUT, *MODEL, *images], message) for images, message in BAD_IMAGES),
    ([*MODEL, *IMAGES, "--output", FILE], "--output: must be a folder that can be written to"),
    ([*MODEL, *IMAGES, "--output", FILE + "/below"], "--output: must be a folder that can be written to"),
    ([*MODEL, *IMAGES, *OUT, "--shard-size", "0"], "argument --shard-size: must be a whole number of at least 1"),
    ([*MODEL, *IMAGES, *OUT, "--first-id", "-1"], "argument --first-id: must be a whole number of at least 0"),
    ([*MODEL, *IMAGES, *OUT, "--split", "query"], "--split: is for --dataset; images are in no split, found query"),
    ([*MODEL, *IMAGES, *OUT, "--device", "cuda"], "--device: is for --weights; exported files compute on the CPU"),
    ([*MODEL, *IMAGES, *OUT, "--split", "train"], "argument --split: invalid choice: 'train'"),
    ([*MODEL, *IMAGES, "--output", "{m}/shards_other_job"], "holds an extraction of another num_images, 5"),
    ([*MODEL, *IMAGES, "--output", "{m}/shards_job"], "extract.json: must be what the command extract wrote"),
]

GENERATE = ["--generate", "600", "--dimension", "8"]
TRY_INDEX = [
    ([*GENERATE, "--factory", "Best", *OUT], "--factory: must be an index of FAISS for inner products in 8 dimensions"),
    ([*GENERATE, "--factory", "Flat", "--parameters", "nprobe=1", *OUT], "--parameters: must be NAME=VALUE that this"),
    (
        [*GENERATE, "--factory", "Flat", "--top", "601", *OUT],
        "--top: must be at most the number of vectors, 600",
    ),
    ([*GENERATE, "--factory", "Flat", "--output", FILE], "--output: must be a folder that can be written to"),
    (
        [*GENERATE, "--factory", "Flat", "--output", "{m}/taken_by_files"],
        "taken_by_files/shards: must be readable, or writable",
    ),
    ([*GENERATE, *OUT], "the following arguments are required: --factory"),
    (["--generate", "0", "--factory", "Flat", *OUT], "argument --generate: must be a whole number of at least 1"),
    (["--generate", "9", "--dimension", "-8", "--factory", "Flat", *OUT], "argument --dimension: "),
    (["--shards", "{m}/shards", "--factory", "Flat", *OUT], "either --generate, or --shards with --queries, must be"),
    ([*GENERATE, "--shards", "{m}/shards", "--factory", "Flat", *OUT], "either --generate, or --shards with --queries"),
    *(
        (["--shards", f"{{m}}/{shards}", "--queries", f"{{m}}/{queries}", "--factory", "Flat", *OUT, *more], message)
        for shards, queries, more, message in (
            ("absent", "shards", [], "absent: must be a folder of feature files, found no such folder"),
            ("shards", LONG, [], f"{LONG}: must be readable, or writable, found File name too long"),
            ("shards", "empty", [], "empty: must hold feature files (*.parquet), found none"),
            ("shards_cut", "shards", [], "cut.parquet: must be a whole Parquet file"),
            ("shards", "shards_family", [], "family: must be the same to compare features"),
            ("shards", "shards", ["--top", "13"], "--top: must be at most the number of vectors, 12, found 13"),
            ("shards", "shards", ["--factory", "PQ5"], "--factory: must be an index of FAISS"),
        )
    ),
]

BENCHMARK = [
    ([], "the following arguments are required: COMMAND"),
    (["sleep"], "argument COMMAND: invalid choice: 'sleep'"),
    (["step", "--repeats", "0"], "--repeats must be at least 1"),
    (["step", "--batch", "-1"], "--batch must be at least 1"),
    (["step", "--threads", "-1"], "--threads must be at least 0"),
    (["step", "--config-file", "{m}/absent.yml"], "--config-file: must be an existing yaml file"),
    (["step", "--config-file", "{m}/broken.yml"], "broken.yml: must be a valid config"),
    (["step", "NO.KEY", "1"], "NO.KEY: must be an existing key"),
    (["step", "--config-file", TINY, "MODEL.LOSSES.NAME", "('CircleLoss',)"], "MODEL.LOSSES.NAME: must "),
    (["scaling", "--config-file", TINY, "MODEL.SWITCHABLE.WIDTHS", "[0.5]"], "MODEL.SWITCHABLE.WIDTHS: must end in"),
    (["aggregation", "--config-file", TINY, "--widths", "2,x"], "--widths: must be numbers of at least 2"),
    (["aggregation", "--config-file", TINY, "--widths", ""], "--widths: must be numbers of at least 2"),
    (["extraction", "--config-file", TINY, "DATASETS.TESTS", "('Market1501',)"], "data set Market1501: needs"),
    (["extraction", "--config-file", TINY, "DATASETS.TESTS", "()"], "DATASETS.TESTS: must "),
    (["grid", "--output", FILE], "--output: must be a folder that can be written to"),
    (["step", "--config-file", TINY, "--output", FILE + "/below"], "--output: must be a folder that can be written to"),
]

INSTALL = [
    ([], "the following arguments are required: CHECKOUT"),
    (["{m}/absent"], "absent: must be a FastReID checkout, with"),
    (["{m}/images"], "images: must be a FastReID checkout, with"),
    ([FILE], "000.png: must be a FastReID checkout, with"),
    (["--copy", "--link", "{m}/checkout"], "argument --link: not allowed with argument --copy"),
    (["--uninstall", "{m}/checkout_free"], "SwitchableCompat: must have been installed by this tool, found nothing"),
    (["--uninstall", "{m}/checkout"], "must have been installed by this tool, which leaves installed.json; it is not"),
    (["{m}/checkout"], "must have been installed by this tool, which leaves installed.json; it is not touched"),
    (["{m}/checkout_file"], "must have been installed by this tool, which leaves installed.json; it is not touched"),
    (["{m}/checkout_manifest"], "must have been installed by this tool, which leaves installed.json; it is not"),
]

DESCRIBE = [
    ([], "the following arguments are required: --json"),
    (["--json", "{m}/out.json", "--family", "AlexNet"], "argument --family: invalid choice: 'AlexNet'"),
    (["--json", "{m}/images"], "--json: must be a file, not a folder, found {m}/images"),
    (["--json", FILE + "/out.json"], "--json: must be a file that can be written, found {m}/images/000.png"),
]
SYNTHETIC = [
    ([], "the following arguments are required: --json"),
    (["--json", "{m}/images"], "--json: must be a file, not a folder, found {m}/images"),
    (["--json", "{m}/out.json", "--sheet", FILE + "/x.jpg"], "--sheet: must be a file that can be written"),
]
CHECK = [
    ([], "one of the arguments --config-file --manifest --dataset is required"),
    (["--config-file", "{m}/absent.yml"], "--config-file: must be an existing yaml file"),
    (["--config-file", "{m}/broken.yml"], "broken.yml: must be a valid config"),
    (["--dataset", "Nothing"], "data set: must be one of"),
    (["--dataset", "Market1501", "--root", "{m}/absent"], "data set Market1501: needs"),
    (["--manifest", "{m}/images"], "images: must be a CSV file"),
    (["--dataset", "SyntheticReIDTiny", "SEED", "1"], "KEY VALUE needs --config-file, found SEED 1"),
    (["--config-file", TINY, "--json", "{m}/images"], "--json: must be a file, not a folder, found {m}/images"),
]
PATTERN = ["--pattern", r"(?P<pid>\d+)"]
MANIFEST = [
    (["{m}/images", *PATTERN], "the following arguments are required: --output"),
    (["{m}/absent", *PATTERN, "--only", "test", "--query", "1", *OUT], "absent: must be an existing folder of images"),
    (["{m}/empty", *PATTERN, "--only", "test", "--query", "1", *OUT], "empty: must hold images"),
    (["{m}/images", *PATTERN, "--output", "{m}/empty"], "--output: must be a file, not a folder"),
    (["{m}/images", *PATTERN, "--output", FILE + "/m.csv"], "--output: must be a file that can be written"),
    (["{m}/images", "--pattern", "(", *OUT], "--pattern: must be a regular expression"),
    (["{m}/images", *PATTERN, *OUT], "--test-share or --test: must be given where the pattern has no group split"),
    (["{m}/images", *PATTERN, "--only", "test", "--query", "1", *OUT], "split: gallery must not be empty"),
]

TOOLS = {
    "export_submodel": EXPORT,
    "profile_submodels": PROFILE,
    "report": REPORT,
    "search": [([], "the following arguments are required: index|query"), *INDEX, *QUERY],
    "extract": EXTRACT,
    "try_index": TRY_INDEX,
    "benchmark": BENCHMARK,
    "install_into_fastreid": INSTALL,
    "describe_backbones": DESCRIBE,
    "describe_synthetic": SYNTHETIC,
    "check_dataset": CHECK,
    "make_manifest": MANIFEST,
}
TABLE = [(tool, arguments, message) for tool, rows in TOOLS.items() for arguments, message in rows]


def write_models(folder, run):
    """Checkpoints and exported models, sound and damaged."""
    whole = (run / "model_final.pth").read_bytes()
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    torch.save({"model": {}, "extra": Hostile(folder / "ran")}, folder / "code.pth")
    torch.save([1, 2], folder / "list.pth")
    three = ("MODEL.SWITCHABLE.WIDTHS", "[0.25, 0.5, 1.0]")
    record = {RECORD_KEY: run_record(tiny_config(*three))}
    torch.save({"model": tiny_model(*three).state_dict(), **record}, folder / "three_widths.pth")
    (folder / "broken.yml").write_text("MODEL: [")
    onnx_file = write_onnx(folder / "w100.onnx")
    write_onnx(folder / "family.onnx", family="sha256:2")
    write_onnx(folder / "dimension.onnx", dimension=12)
    (folder / "cut.onnx").write_bytes(onnx_file.read_bytes()[:-40])
    (folder / "none.onnx").write_bytes(b"")
    (folder / "cut.pt2").write_bytes(b"PK\x03\x04" + bytes(40))
    for name, key in (("cardless", b"x" * len(CARD_KEY)), ("word_card", CARD_KEY.encode())):
        content = onnx_file.read_bytes().replace(CARD_KEY.encode(), key)
        (folder / f"{name}.onnx").write_bytes(content.replace(b'{"format"', b'["format"'))


def write_shards(folder):
    """Folders of feature files, sound and with one fault each."""
    values = unit_features(12)
    write_shard(folder / "shards" / "sound.parquet", values)
    write_shard(folder / "shards_family" / "family.parquet", values, first_id=12, family="sha256:2")
    write_shard(folder / "shards_long" / "long.parquet", values * np.where(np.arange(12) == 3, 2, 1)[:, None])
    write_shard(folder / "shards_nan" / "nan.parquet", values * np.nan)
    write_shard(folder / "shards_none" / "none.parquet", values[:0])
    for name in ("cut", "word", "foreign", "job", "other_job"):
        (folder / f"shards_{name}").mkdir()
    whole = (folder / "shards" / "sound.parquet").read_bytes()
    (folder / "shards_cut" / "cut.parquet").write_bytes(whole[:-20])
    (folder / "shards_word" / "word.parquet").write_text("no table")
    pq.write_table(pa.table({"id": [1, 2]}), folder / "shards_foreign" / "foreign.parquet")
    (folder / "shards_job" / "extract.json").write_text('{"num_images": "many", "shard_size": 2}')
    same = {key: getattr(CARD, key) for key in ("family", "dimension", "metric", "preprocessing", "width")}
    job = {"format": 1, **same, "first_id": 0, "num_images": 5, "shard_size": 65536}
    (folder / "shards_other_job" / "extract.json").write_text(json.dumps(job))


def write_galleries(folder):
    """A gallery of the twelve images, and copies with one fault each."""
    build_from_images(pooling_encoder(), items_of_paths([folder / "images"]), folder / "g", "Flat", "images")
    card = json.loads((folder / "g" / "index.json").read_text())
    index, items = ((folder / "g" / name).read_bytes() for name in ("index.faiss", "items.parquet"))
    faults = {
        "cut_index": ("index.faiss", index[:-10]),
        "other_index": ("index.faiss", bytes(len(index))),
        "cut_items": ("items.parquet", items[:-10]),
        "word_card": ("index.json", b"{"),
        "list_card": ("index.json", b"[]"),
        "empty_card": ("index.json", b"{}"),
        "half_card": ("index.json", json.dumps({key: card[key] for key in card if key != "model"}).encode()),
        "count": ("index.json", json.dumps({**card, "num_items": 11}).encode()),
    }
    for name, (file, content) in faults.items():
        shutil.copytree(folder / "g", folder / f"g_{name}")
        (folder / f"g_{name}" / file).write_bytes(content)
    shutil.copytree(folder / "g", folder / "g_no_index")
    (folder / "g_no_index" / "index.faiss").unlink()


def write_checkouts(folder):
    """What looks like a checkout of FastReID, with something else where the project goes."""
    for name in ("checkout", "checkout_free", "checkout_file", "checkout_manifest"):
        for file in ("fastreid/__init__.py", "tools/train_net.py", "projects/README.md"):
            (folder / name / file).parent.mkdir(parents=True)
            (folder / name / file).touch()
    (folder / "checkout" / "projects" / "SwitchableCompat").mkdir()
    (folder / "checkout" / "projects" / "SwitchableCompat" / "mine.py").touch()
    (folder / "checkout_file" / "projects" / "SwitchableCompat").touch()
    (folder / "checkout_manifest" / "projects" / "SwitchableCompat").mkdir()
    (folder / "checkout_manifest" / "projects" / "SwitchableCompat" / "installed.json").write_text('{"files": 1}')


@pytest.fixture(scope="module")
def material(evaluated_run, tmp_path_factory):
    """A folder of sound and bad files."""
    folder = tmp_path_factory.mktemp("material")
    images = write_images(folder / "images", 12)
    for name in ("empty", "damaged", "unreadable", "taken"):
        (folder / name).mkdir()
    for number, image in enumerate(images[:8]):
        shutil.copy(image, folder / "unreadable" / f"{number}.png")
    (folder / "unreadable" / "3.png").write_bytes(images[3].read_bytes()[:-30])
    shutil.copy(images[0], folder / "damaged")
    for kind in ("checkpoint", "onnx-int8", "onnx-float16"):
        (folder / "taken" / f"w050-{kind}").touch()
    (folder / "taken_by_files").mkdir()
    (folder / "taken_by_files" / "shards").touch()
    write_models(folder, evaluated_run)
    write_shards(folder)
    write_galleries(folder)
    write_checkouts(folder)
    return folder


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("tool", "arguments", "message"), TABLE, ids=[f"{tool} {' '.join(arguments)}" for tool, arguments, _ in TABLE]
)
def test_one_line_exit_code_2_and_nothing_written(tool, arguments, message, material, evaluated_run, refused):
    places = {"m": material, "run": evaluated_run}
    before = contents(material, evaluated_run)
    line = refused(f"{tool}.py", [text.format(**places) for text in arguments])
    assert (message.format(**places) if "{" in message else message) in line
    assert contents(material, evaluated_run) == before


def contents(*folders):
    """Everything below folders, with size and time of change."""
    paths = [path for folder in folders for path in folder.rglob("*")]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()} | {
        path: "folder" for path in paths if path.is_dir()
    }


def test_the_rows_of_the_table_differ():
    assert len({(tool, *arguments) for tool, arguments, _ in TABLE}) == len(TABLE)


PAGE = "<!-- {0} -->\nold\n<!-- /{1} -->\n"


@pytest.mark.parametrize(
    ("page", "arguments", "message"),
    [
        (PAGE.format("grid: absent.json", "grid"), [], "README.md: absent.json: must be what a grid is made from"),
        (PAGE.format("grid: cut.json", "grid"), [], "README.md: cut.json: must be what a grid is made from"),
        (PAGE.format("grid: list.json", "grid"), [], "README.md: list.json: must be what a grid is made from"),
        (PAGE.format("profile: half.json", "profile"), [], "half.json: must be what a profile is made from"),
        (PAGE.format("benchmark: half.json", "benchmark"), [], "half.json: must have results of tools/benchmark.py"),
        (PAGE.format("song: half.json", "song"), [], "README.md: half.json: must be a table of benchmark, grid"),
        (PAGE.format("difficulty: sound.json", "difficulty"), ["--check"], "README.md: must be current, found tables"),
        ("", ["--chek"], "command line: unrecognized arguments: --chek"),
        (None, [], "README.md: must be a page that can be read and written"),
    ],
)
def test_pages_whose_tables_cannot_be_made(page, arguments, message, tmp_path, monkeypatch, refused):
    (tmp_path / "tools").mkdir()
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "tools" / "update_docs.py", tmp_path / "tools")
    if page is not None:
        (tmp_path / "README.md").write_text(page)
    figures = {key: {"mAP": 1.0, "Rank-1": 2.0} for key in ("raw_pixels", "stripe_histograms")}
    texts = {"cut": "{", "list": "[]", "half": "{}", "sound": json.dumps(figures)}
    for name, text in texts.items():
        (tmp_path / f"{name}.json").write_text(text)
    monkeypatch.chdir(tmp_path)  # and back again: the tool changes to the folder of its pages
    before = contents(tmp_path)
    assert message in refused(tmp_path / "tools" / "update_docs.py", arguments)
    assert contents(tmp_path) == before
