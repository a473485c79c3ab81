"""What the tools refuse: one line that names key or file, rule and value, exit code 2, and nothing trained.

Contradictions within a config are in ``tests/unit/test_config.py``, which needs no tool; here is what a command line,
a file or a data set does to the tools, each through its own entry, in this process.
"""

import json
import os
import pickle
import runpy
import signal
from pathlib import Path

import fastreid.data.build
import pytest
import torch
from PIL import Image

from builders import TINY, Hostile, tiny_model
from switchablecompat.config import load_config
from switchablecompat.fastreid_shims.loading import use_cpu_loader
from switchablecompat.modeling.checkpoint import RECORD_KEY
from switchablecompat.modeling.trained import run_record

ROOT = Path(__file__).parents[2]
CONFIG = ["--config-file", TINY]
RUN = ["--config-file", "{bad}/run/config.yaml", "--weights"]


def weights(name):
    """Evaluate a checkpoint."""
    return [*CONFIG, "--eval-only", "MODEL.WEIGHTS", f"{{bad}}/{name}"]


def resume(name, *opts):
    """Resume the run in a folder."""
    return [*CONFIG, "--resume", *opts, "OUTPUT_DIR", f"{{bad}}/{name}"]


PRETRAIN = ["MODEL.BACKBONE.PRETRAIN", "True", "MODEL.BACKBONE.PRETRAIN_PATH"]


def manifest(name, *opts):
    """Train on a manifest."""
    data = ["DATASETS.NAMES", "('ManifestReID',)", "DATASETS.TESTS", "('ManifestReID',)", "TEST.PRECISE_BN.ENABLED"]
    batch = ["False", "SOLVER.IMS_PER_BATCH", "8", "SOLVER.WARMUP_ITERS", "0", "DATALOADER.SAMPLER_TRAIN"]
    return [*CONFIG, "DATASETS.MANIFEST", f"{{bad}}/{name}.csv", *data, *batch, "TrainingSampler", *opts]


ONCE = ("SOLVER.SCHED", "MultiStepLR", "SOLVER.MAX_EPOCH", "1")

TRAIN = [
    # the command line
    (["--config-file", "nowhere.yml"], "--config-file: must be an existing yaml file, found nowhere.yml"),
    (["--config-file", "configs"], "--config-file: must be an existing yaml file, found configs"),
    ([*CONFIG, "--num-gpus", "x"], "argument --num-gpus: must be a whole number of at least 1, found 'x'"),
    ([*CONFIG, "--num-gpus", "0"], "argument --num-gpus: must be a whole number of at least 1, found '0'"),
    ([*CONFIG, "--num-machines", "0"], "argument --num-machines: must be a whole number of at least 1, found '0'"),
    ([*CONFIG, "--machine-rank", "1"], "--machine-rank: must be below --num-machines 1, found 1"),
    ([*CONFIG, "--num-machines", "2"], "--dist-url: must be given for several machines"),
    ([*CONFIG, "--unknown"], "unrecognized arguments: --unknown"),
    ([*CONFIG, "SEED"], "KEY VALUE overrides: must come in pairs, found SEED"),
    ([*CONFIG, "NO.KEY", "1"], "NO.KEY: must be an existing key"),
    ([*CONFIG, "SEED", "1.5"], "SEED: must be an existing key with a value of its type"),
    ([*CONFIG, "SOLVER", "5"], "SOLVER: must be an existing key with a value of its type"),
    ([*CONFIG, "SOLVER.BASE_LR.X", "5"], "SOLVER.BASE_LR.X: must be an existing key"),
    # config files
    (["--config-file", "{bad}/broken.yml"], "broken.yml: must be a valid config"),
    (["--config-file", "{bad}/list.yml"], "list.yml: must be a valid config"),
    (["--config-file", "{bad}/word.yml"], "word.yml: must be a valid config"),
    (["--config-file", "{bad}/empty.yml"], "empty.yml: must be a valid config"),
    (["--config-file", "{bad}/binary.yml"], "binary.yml: must be a valid config"),
    (["--config-file", "{bad}/unknown.yml"], "Non-existent config key: MODEL.WIDTHS"),
    (["--config-file", "{bad}/type.yml"], "type.yml: must be a valid config"),
    (["--config-file", "{bad}/base.yml"], "base.yml: _BASE_ must be an existing file"),
    (["--config-file", "{bad}/cycle.yml"], "cycle.yml: must not be its own _BASE_"),
    (["--config-file", "{bad}/code.yml"], "code.yml: must be a valid config, found could not determine a constructor"),
    # values of FastReID's own keys
    ([*CONFIG, "MODEL.SWITCHABLE.WIDTHS", "[0.5]"], "MODEL.SWITCHABLE.WIDTHS: must end in 1.0"),
    ([*CONFIG, "MODEL.DEVICE", "gpu"], "MODEL.DEVICE: must be cpu, cuda or cuda:N, found 'gpu'"),
    ([*CONFIG, "MODEL.DEVICE", "meta"], "MODEL.DEVICE: must be cpu, cuda or cuda:N, found 'meta'"),
    ([*CONFIG, "INPUT.SIZE_TRAIN", "[64]"], "INPUT.SIZE_TRAIN: must be height and width in pixels, found [64]"),
    ([*CONFIG, "INPUT.SIZE_TEST", "[0, 32]"], "INPUT.SIZE_TEST: must be height and width in pixels, found [0, 32]"),
    ([*CONFIG, "INPUT.SIZE_TRAIN", "['a', 32]"], "INPUT.SIZE_TRAIN: must be height and width in pixels"),
    ([*CONFIG, "MODEL.PIXEL_MEAN", "[0.5, 0.5]"], "MODEL.PIXEL_MEAN: must be three numbers, found [0.5, 0.5]"),
    ([*CONFIG, "MODEL.PIXEL_STD", "[1.0, 1.0, 0.0]"], "MODEL.PIXEL_STD: must be three numbers above 0"),
    ([*CONFIG, "MODEL.HEADS.NUM_CLASSES", "-1"], "MODEL.HEADS.NUM_CLASSES: must be at least 0, found -1"),
    ([*CONFIG, "MODEL.HEADS.NUM_CLASSES", "5"], "MODEL.HEADS.NUM_CLASSES: must be 0"),
    ([*CONFIG, "MODEL.BACKBONE.LAST_STRIDE", "0"], "MODEL.BACKBONE.LAST_STRIDE: must be at least 1, found 0"),
    ([*CONFIG, "MODEL.BACKBONE.DEPTH", "99x"], "MODEL.BACKBONE.DEPTH: the thin ResNet has ['10x', '18x'], found 99x"),
    ([*CONFIG, "MODEL.BACKBONE.FEAT_DIM", "100"], "MODEL.BACKBONE.FEAT_DIM: must be a multiple of 8, found 100"),
    ([*CONFIG, "MODEL.SWITCHABLE.BACKBONE", "x"], "MODEL.SWITCHABLE.BACKBONE: must be one of ["),
    ([*CONFIG, "MODEL.SWITCHABLE.CHANNEL_DIVISOR", "128"], "MODEL.SWITCHABLE.WIDTHS: no two may keep the same"),
    ([*CONFIG, "DATALOADER.NUM_WORKERS", "-1"], "DATALOADER.NUM_WORKERS: must be at least 0, found -1"),
    ([*CONFIG, "SOLVER.BASE_LR", "-0.1"], "SOLVER.BASE_LR: must be positive, found -0.1"),
    ([*CONFIG, "SOLVER.BASE_LR", "1e999"], "SOLVER.BASE_LR: must be positive, found inf"),
    ([*CONFIG, "SOLVER.MOMENTUM", "-0.5"], "SOLVER.MOMENTUM: must be between 0 and 1, found -0.5"),
    ([*CONFIG, "SOLVER.WEIGHT_DECAY", "-1.0"], "SOLVER.WEIGHT_DECAY: must be a finite number, not negative, found -1"),
    ([*CONFIG, "SOLVER.WARMUP_ITERS", "-1"], "SOLVER.WARMUP_ITERS: must be at least 0, found -1"),
    (
        [*CONFIG, "SOLVER.AMP.DTYPE", "float8"],
        "SOLVER.AMP.DTYPE: must be one of ['float16', 'bfloat16'], found 'float8'",
    ),
    ([*CONFIG, "SOLVER.MAX_EPOCH", "1"], "SOLVER.MAX_EPOCH: must leave epochs for the cosine schedule"),
    ([*CONFIG, "SOLVER.IMS_PER_BATCH", "128"], "training data: "),
    ([*CONFIG, "OUTPUT_DIR", ""], "OUTPUT_DIR: must name a folder, found ''"),
    ([*CONFIG, "OUTPUT_DIR", "{bad}/word.yml"], "OUTPUT_DIR: must be a folder that can be written, found"),
    ([*CONFIG, "OUTPUT_DIR", "{bad}/word.yml/below"], "OUTPUT_DIR: must be a folder that can be written, found"),
    # data sets
    ([*CONFIG, "DATASETS.NAMES", "()"], "DATASETS.NAMES: must name a data set to train on, found ()"),
    ([*CONFIG, "DATASETS.TESTS", "()"], "DATASETS.TESTS: must name a data set to evaluate on, found ()"),
    ([*CONFIG, "DATASETS.NAMES", "('Market1501',)"], "data set Market1501: needs Market-1501-v15.09.15/"),
    ([*CONFIG, "DATASETS.TESTS", "('Nothing',)"], "data set: must be one of "),
    ([*CONFIG, "TEST.PRECISE_BN.DATASET", "Market1501"], "data set Market1501: needs"),
    (manifest("absent"), "absent.csv: must be a CSV file, absolute or relative to"),
    (manifest("header"), "header.csv:1: header must have the columns path, pid, camid, split"),
    (manifest("lost"), "lost.csv: path must name a file, relative to this CSV, found 1 missing"),
    (manifest("twice"), "twice.csv:3: a path may occur once in the split train"),
    (manifest("one_identity"), "training data: all training images are of one identity, 0:"),
    (manifest("one_camera"), "have their identity in the gallery only from their own camera"),
    (manifest("strangers"), "1 have an identity (4) that is not in the gallery ("),
    (manifest("train_only"), "test data ManifestReID: no query images"),
    (manifest("alpha"), "alpha.png: must be an RGB or greyscale image; convert it, found mode RGBA"),
    (manifest("damaged"), "damaged.png: must be a readable image"),
    # checkpoints
    ([*CONFIG, "--eval-only"], "MODEL.WEIGHTS: must be an existing checkpoint with --eval-only, found ''"),
    ([*CONFIG, "MODEL.WEIGHTS", "/nowhere.pth"], "MODEL.WEIGHTS: must be an existing checkpoint, or empty"),
    (weights("word.yml"), "word.yml: must be a whole checkpoint of tensors"),
    (weights("cut.pth"), "cut.pth: must be a whole checkpoint of tensors"),
    (weights("none.pth"), "none.pth: must be a whole checkpoint of tensors"),
    (weights("code.pth"), "code.pth: must be a whole checkpoint of tensors"),
    (weights("pickle.pth"), "pickle.pth: must be a whole checkpoint of tensors"),
    (weights("list.pth"), "list.pth: must be a checkpoint or a state dict of tensors, found list"),
    (weights("two_widths.pth"), f"two_widths.pth: must be a checkpoint of {TINY} (same backbone, widths and"),
    ([*CONFIG, "MODEL.WEIGHTS", "{bad}/half.pth"], "half.pth: must hold the whole backbone of this config"),
    ([*CONFIG, "MODEL.WEIGHTS", "{bad}/code.pth"], "code.pth: must be a whole checkpoint of tensors"),
    ([*CONFIG, *PRETRAIN, "/nowhere.pth"], "MODEL.BACKBONE.PRETRAIN_PATH: must be an existing file"),
    ([*CONFIG, *PRETRAIN, "{bad}/half.pth"], "half.pth: must hold the whole backbone of this config"),
    ([*CONFIG, *PRETRAIN, "{bad}/code.pth"], "code.pth: must be a whole checkpoint of tensors"),
    ([*CONFIG, "MODEL.BACKBONE.PRETRAIN", "True"], "MODEL.BACKBONE.PRETRAIN_PATH: must name a file: the thin ResNet"),
    (resume("lost"), "model_0007.pth: must be an existing checkpoint"),
    (resume("nameless"), "nameless/: must be a whole checkpoint of tensors"),
    (resume("cut"), "model_0000.pth: must be a whole checkpoint of tensors"),
    (["--resume", "OUTPUT_DIR", "{bad}/new"], "--config-file: must be given to resume, as no checkpoint stores its"),
    (resume("run", "SEED", "8"), "SEED: must be 0 to resume"),
    (resume("run", "MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]"), "MODEL.SWITCHABLE.WIDTHS: must be [0.25, 0.5, 0.75, 1.0]"),
    (
        resume("run", "SOLVER.OPT", "Adam"),
        "SOLVER.OPT: must be 'SGD' to resume {bad}/run/model_final.pth, found 'Adam'",
    ),
    (
        [*weights("run/model_final.pth"), "MODEL.HEADS.POOL_LAYER", "GlobalMaxPool"],
        "POOL_LAYER: must be 'GlobalAvgPool'",
    ),
    (resume("run", "MODEL.HEADS.EMBEDDING_DIM", "64"), "MODEL.HEADS.EMBEDDING_DIM: must be 128 to resume"),
]
if not torch.cuda.is_available():
    TRAIN.append(([*CONFIG, "MODEL.DEVICE", "cuda"], "MODEL.DEVICE: no CUDA device is usable here"))
    TRAIN.append(([*CONFIG, "MODEL.DEVICE", "cuda:7"], "MODEL.DEVICE: no CUDA device is usable here"))
if os.getuid():
    TRAIN.append(
        ([*CONFIG, "OUTPUT_DIR", "{bad}/read-only/run"], "OUTPUT_DIR: must be a folder that can be written, found")
    )

CHECK = [
    (["--manifest", "{bad}/binary.yml"], "binary.yml: must be a readable CSV file in UTF-8"),
    (["--manifest", "{bad}/empty.yml"], "empty.yml:1: header must have the columns"),
    (["--manifest", "{bad}"], ": must be a CSV file, absolute or relative to"),
    (["--manifest", "{bad}/split.csv"], "split.csv:2: split must be one of train, query, gallery, found 'test'"),
    (["--manifest", "{bad}/fields.csv"], "fields.csv:2: must have 4 fields like the header, found 3"),
    (["--manifest", "{bad}/cameras.csv"], "cameras.csv:3: camid must be filled in every row, or in none"),
    (["--manifest", "{bad}/damaged.csv", "--images"], "1 of 12 images cannot be decoded"),
    (["--manifest", "{bad}/alpha.csv", "--images"], "1 of 12 images are neither RGB nor greyscale"),
    (["--manifest", "{bad}/one_camera.csv"], "only from their own camera, which the protocol leaves out"),
    (["--dataset", "Market1501", "--root", "{bad}"], "data set Market1501: needs Market-1501-v15.09.15/"),
    (["--dataset", "Market1501", "--manifest", "x"], "command line: argument --manifest: not allowed with argument"),
    (["--config-file", TINY, "SEED"], "KEY VALUE overrides: must come in pairs, found SEED"),
    (
        ["--manifest", "{bad}/sound.csv", "--json", "{bad}/word.yml/x"],
        "--json: must be a file that can be written, found",
    ),
]

OUT = ["--output", "{bad}/out"]
CROSS = [
    ([*RUN, "{bad}/cut.pth", *OUT], "cut.pth: must be a whole checkpoint of tensors"),
    ([*RUN, "{bad}/code.pth", *OUT], "code.pth: must be a whole checkpoint of tensors"),
    ([*RUN, "{bad}/absent.pth", *OUT], "absent.pth: must be an existing checkpoint"),
    ([*RUN, "{bad}/two_widths.pth", *OUT], "two_widths.pth: must be a checkpoint of {bad}/run/config.yaml"),
    ([*RUN, "{bad}/list.pth", *OUT], "list.pth: must be a checkpoint"),
    (["--config-file", "{bad}/broken.yml", "--weights", "{bad}/two_widths.pth", *OUT], "broken.yml: must be a valid"),
    (
        ["--config-file", "absent.yml", "--weights", "{bad}/two_widths.pth", *OUT],
        "--config-file: must be an existing yaml file, found absent.yml",
    ),
    (["--weights", "{bad}/two_widths.pth", *OUT], "--config-file: must be given: {bad}/two_widths.pth keeps no"),
    (["--model", "0.5={bad}", *OUT], "model_final.pth: must be an existing checkpoint"),
    (["--model", "0.0={bad}", *OUT], "--model: must have width multipliers in (0, 1], found 0.0="),
    (["--model", "nan={bad}", *OUT], "--model: must have width multipliers in (0, 1], found nan="),
    ([*RUN, "{bad}/run/model_final.pth", "--undefined", "1,x", *OUT], "--undefined: must have width multipliers"),
    ([*RUN, "{bad}/run/model_final.pth", "--dataset", "Market1501", *OUT], "data set Market1501: needs"),
    (
        [*RUN, "{bad}/run/model_final.pth", *OUT, "MODEL.DEVICE", "phone"],
        "MODEL.DEVICE: must be cpu, cuda or cuda:N, found 'phone'",
    ),
    (["--output"], "command line: argument --output: expected one argument"),
    (
        [*RUN, "{bad}/run/model_final.pth", "--output", "{bad}/word.yml"],
        "--output: must be a folder that can be written",
    ),
]

SUITE = ["--suite", "{bad}/suite.yml", "--jobs-dir", "{bad}/jobs", "--results-dir", "{bad}/results"]
COMPARE = [
    ([], "command line: the following arguments are required: --suite"),
    (["--suite", "{bad}/broken.yml"], "broken.yml: must be valid yaml"),
    (["--suite", "{bad}/code.yml"], "code.yml: must be valid yaml, found could not determine a constructor"),
    (["--suite", "{bad}/list.yml"], "list.yml: must map keys"),
    (["--suite", "{bad}/binary.yml"], "binary.yml: must be valid yaml"),
    ([*SUITE, "--seeds", "-1"], "--seeds: must be among the suite's seeds [0], found -1"),
    ([*SUITE, "--seeds", ""], "argument --seeds: must be integers with commas between them, found ''"),
    ([*SUITE, "--only", "bct"], "method: must be one of ['sfsc'], found 'bct'"),
    ([*SUITE, "--only", "sfsc,bct"], "method: must be one of ['sfsc'], found 'bct'"),
    (["--suite", "{bad}/suite_opts.yml", *SUITE[2:]], "SOLVER.NO_KEY: must be an existing key"),
    ([*SUITE, "--table-only", "--results-dir", "{bad}/damaged-results"], "sfsc-seed0.json: "),
    ([*SUITE, "--table-only", "--dry-run"], "--dry-run: must stand without --table-only, which runs nothing"),
    ([*SUITE, "--table-only", "--only", "sfsc"], "--only: must stand without --table-only, which runs nothing"),
    ([*SUITE[:2], *SUITE[4:], "--jobs-dir", "{bad}/damaged-jobs"], "run.json: must be the record of a run"),
    ([*SUITE[:4], "--results-dir", "{bad}/word.yml"], "--results-dir: must be a folder that can be written to"),
    ([*SUITE, "--jobs-dir", "{bad}/word.yml/jobs"], "--jobs-dir: must be a folder that can be written to"),
]
TOOLS = {"train_net": TRAIN, "check_dataset": CHECK, "cross_test": CROSS, "compare": COMPARE}
TABLE = [(tool, arguments, message) for tool, rows in TOOLS.items() for arguments, message in rows]


def write_configs(bad):
    """Config files and suites that are none."""
    widths = "MODEL:\n  {}\n"
    method = f"methods: [{{name: sfsc, kind: switchable, config: {TINY}}}]\n"
    files = {
        "broken.yml": "MODEL: [",
        "list.yml": "- MODEL\n",
        "word.yml": "MODEL\n",
        "empty.yml": "",
        "unknown.yml": widths.format("WIDTHS: [1.0]"),
        "type.yml": widths.format("SWITCHABLE: {WIDTHS: wide}"),
        "base.yml": "_BASE_: absent.yml\n",
        "cycle.yml": "_BASE_: cycle.yml\n",
        "code.yml": f"MODEL: !!python/object/apply:builtins.open [{bad / 'ran'}, w]\n",
        "suite.yml": f"name: toy\nseeds: [0]\n{method}",
        "suite_opts.yml": f"name: toy\nseeds: [0]\nopts: {{SOLVER.NO_KEY: 1}}\n{method}",
    }
    for name, text in files.items():
        (bad / name).write_text(text)
    (bad / "binary.yml").write_bytes(bytes(range(128, 256)))
    for folder in ("damaged-results/toy", "damaged-jobs/sfsc/seed0"):
        (bad / folder).mkdir(parents=True)
    (bad / "damaged-jobs" / "sfsc" / "seed0" / "run.json").write_text("{}")
    (bad / "damaged-results" / "toy" / "sfsc-seed0.json").write_text("{")


def write_manifests(bad):
    """A sound manifest of 8 training, 1 query and 3 gallery images, and those with one fault each."""
    for number in range(13):
        Image.new("RGB", (32, 64), (number * 9, 0, 0)).save(bad / f"{number}.png")
    Image.new("RGBA", (32, 64)).save(bad / "alpha.png")
    (bad / "damaged.png").write_bytes((bad / "0.png").read_bytes()[:60])
    sound = [(f"{n}.png", n % 2, n // 4, "train") for n in range(8)] + [("8.png", 3, 0, "query")]
    sound += [(f"{n}.png", 3, 1, "gallery") for n in range(9, 12)]
    more = [("12.png", 4, 0, "query")]
    faults = {
        "sound": sound,
        "lost": [("lost.png", 0, 0, "train"), *sound[1:]],
        "twice": [sound[0], sound[0], *sound[1:]],
        "one_identity": [(path, 0, camera, split) if split == "train" else (path, pid, camera, split)
                         for path, pid, camera, split in sound],
        "one_camera": [(path, pid, 0, split) for path, pid, _, split in sound],
        "strangers": [*sound[:8], *more, *sound[9:]],
        "train_only": sound[:8],
        "alpha": [("alpha.png", *sound[0][1:]), *sound[1:]],
        "damaged": [("damaged.png", *sound[0][1:]), *sound[1:]],
        "split": [("0.png", 0, 0, "test")],
        "cameras": [sound[0], ("1.png", 1, "", "train")],
    }  # fmt: skip
    for name, rows in faults.items():
        lines = ["path,pid,camid,split", *(",".join(map(str, row)) for row in rows)]
        (bad / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (bad / "header.csv").write_text("path;pid;camid;split\n")
    (bad / "fields.csv").write_text("path,pid,camid,split\n0.png,0,train\n")


def write_checkpoints(bad):
    """A run as it is left by training, and files that cannot be loaded."""
    opts = ("MODEL.HEADS.NUM_CLASSES", "16", "OUTPUT_DIR", bad / "run", *ONCE)
    for name in ("run", "lost", "nameless", "cut", "read-only"):
        (bad / name).mkdir()
    cfg = load_config(TINY, [str(part) for part in opts])
    record = run_record(cfg)
    weights = tiny_model(*opts).state_dict()
    (bad / "run" / "config.yaml").write_text(cfg.dump())
    torch.save({"model": weights, "epoch": 0, RECORD_KEY: record}, bad / "run" / "model_final.pth")
    (bad / "run" / "last_checkpoint").write_text("model_final.pth")
    whole = (bad / "run" / "model_final.pth").read_bytes()
    (bad / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (bad / "none.pth").write_bytes(b"")
    torch.save({"model": weights, "extra": Hostile(bad / "ran")}, bad / "code.pth")
    (bad / "pickle.pth").write_bytes(pickle.dumps({"model": Hostile(bad / "ran")}, protocol=2))
    torch.save([1, 2], bad / "list.pth")
    torch.save({"model": tiny_model("MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]").state_dict()}, bad / "two_widths.pth")
    torch.save({key: weights[key] for key in list(weights)[:9]}, bad / "half.pth")
    (bad / "lost" / "last_checkpoint").write_text("model_0007.pth")
    (bad / "nameless" / "last_checkpoint").write_text("")
    (bad / "cut" / "last_checkpoint").write_text("model_0000.pth")
    (bad / "cut" / "model_0000.pth").write_bytes(whole[: len(whole) // 2])
    (bad / "read-only").chmod(0o500)


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of bad files, and an empty one of data sets."""
    torch.manual_seed(0)
    folder, root = tmp_path_factory.mktemp("bad"), str(tmp_path_factory.mktemp("datasets"))
    write_configs(folder)
    write_manifests(folder)
    write_checkpoints(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", root)
        patch.setattr(fastreid.data.build, "_root", root)  # read when it was imported
        yield folder
    use_cpu_loader(None)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("tool", "arguments", "message"), TABLE, ids=[f"{tool} {' '.join(arguments)}" for tool, arguments, _ in TABLE]
)
def test_one_line_and_exit_code_2(tool, arguments, message, bad, tmp_path, monkeypatch, refused):
    arguments = [text.replace("{bad}", str(bad)) for text in arguments]
    if tool == "train_net" and "OUTPUT_DIR" not in arguments:
        arguments += ["OUTPUT_DIR", str(tmp_path)] if arguments[-1] not in ("SEED", "--unknown") else []
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the handler of the test session stays
    before = set(bad.rglob("*.pth"))
    assert message.replace("{bad}", str(bad)) in refused(f"{tool}.py", arguments)
    assert not (bad / "ran").exists(), "code in a file has been run"
    assert not list(tmp_path.rglob("*.pth"))
    assert not (bad / "out").exists()
    assert not (bad / "jobs").exists()
    assert set(bad.rglob("*.pth")) == before


def test_the_table_is_long_enough_and_its_rows_differ():
    assert len(TABLE) >= 60
    assert len({(tool, *arguments) for tool, arguments, _ in TABLE}) == len(TABLE)


def test_what_has_no_fault_is_accepted(bad, tmp_path, monkeypatch, capsys):
    """The manifest and the run that the faults above are planted in; Rank-5 of a gallery of three is all of it."""
    for tool, arguments in (
        ("check_dataset", ["--manifest", "{bad}/sound.csv", "--images"]),
        ("train_net", manifest("sound", *ONCE, "OUTPUT_DIR", str(tmp_path))),
        ("train_net", resume("run", *ONCE)),
    ):
        script = ROOT / "tools" / f"{tool}.py"
        monkeypatch.setattr("sys.argv", [str(script), *(text.replace("{bad}", str(bad)) for text in arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(script), run_name="__main__")
        assert stop.value.code == 0, capsys.readouterr().err[-2000:]
    grid = json.loads((tmp_path / "grid.json").read_text())
    assert grid["Rank-5"] == [[100.0] * 4] * 4
    assert "only evaluating" in capsys.readouterr().out
