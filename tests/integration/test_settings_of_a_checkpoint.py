"""Every tool uses a checkpoint with the settings that it was trained with: it knows them, and refuses others."""

import fastreid.data.build
import pytest
import torch
import torch.nn.functional as F
import yaml
from fastreid.modeling.meta_arch import build_model

from builders import TINY, calibrated_run, images, tiny_config, write_pictures
from switchablecompat.config import load_config
from switchablecompat.deploy.files.opening import open_encoder
from switchablecompat.engine.output_folder import unlock
from switchablecompat.errors import InputError
from switchablecompat.fastreid_shims.loading import use_cpu_loader

OUT = ["--output", "{out}"]
FILES = ["{config}", "--weights", "{run}/model_final.pth"]  # {config}: the option with its file, or nothing
SEARCH = [*FILES, "--width", "1.0", "--device", "cpu", "--images", "{pictures}"]
STUDENT = [
    "--config-file", TINY, "MODEL.SWITCHABLE.ONLY_WIDTH", "0.25", "MODEL.LOSSES.NAME",
    "('CompatibleLoss', 'InfluenceLoss')", "MODEL.REFERENCE.WEIGHTS", "{run}/model_final.pth", "SOLVER.MAX_EPOCH", "1",
    "SOLVER.SCHED", "MultiStepLR", "SOLVER.STEPS", "[]", "TEST.PRECISE_BN.ENABLED", "False",
    "OUTPUT_DIR", "{out}",
]  # fmt: skip
TOOLS = {  # script and arguments
    "eval-only": ("train_net", ["{config}", "--eval-only", "MODEL.WEIGHTS", FILES[-1], "OUTPUT_DIR", "{out}"]),
    "export": ("export_submodel", [*FILES, "--width", "1.0", "--kind", "checkpoint", "--images", "{pictures}", *OUT]),
    "index": ("search", ["index", *SEARCH, *OUT]),
    "query": ("search", ["query", "--gallery", "{gallery}", "--top", "3", *SEARCH]),
    "extract": ("extract", [*SEARCH, *OUT]),
    "report": ("report", [*FILES, *OUT]),
    "cross_test": ("cross_test", [*FILES, *OUT]),
    "profile": ("profile_submodels", [*FILES, "--repeats", "1", "--batch", "1", *OUT]),
    "reference": ("train_net", [*STUDENT, "{reference}"]),
}  # fmt: skip
CHANGES = {"MODEL.HEADS.POOL_LAYER": "GlobalMaxPool", "MODEL.PIXEL_MEAN": [0.0, 0.0, 0.0]}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A run whose folder holds no config, a config that is another's, pictures and a gallery."""
    torch.manual_seed(0)
    data = str(tmp_path_factory.mktemp("datasets"))
    folder = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", data)
        patch.setattr(fastreid.data.build, "_root", data)  # read when it was imported
        use_cpu_loader(True)
        (folder / "pictures").mkdir()
        write_pictures(folder / "pictures", data)
        classes = ("MODEL.HEADS.NUM_CLASSES", 16)  # those of the generated people: a reference has their classifier
        model = calibrated_run(folder / "run", images(8, 64, 32), *classes)
        (folder / "run" / "config.yaml").rename(folder / "own.yml")
        for number, (key, value) in enumerate(CHANGES.items()):
            content = yaml.safe_load((folder / "own.yml").read_text())
            *nodes, leaf = key.split(".")
            node = content
            for name in nodes:
                node = node[name]
            node[leaf] = value
            (folder / f"other{number}.yml").write_text(yaml.safe_dump(content))
        yield {"run": folder / "run", "pictures": folder / "pictures", "gallery": folder / "gallery"}, folder, model
    use_cpu_loader(None)


@pytest.fixture
def run_tool_on(places, tmp_path, run_tool):
    """Run a tool with this config of the run, or none; returns exit code, output, errors, and where output goes."""

    def run(name, config=None):
        script, arguments = TOOLS[name]
        option = {
            "{config}": ["--config-file", config] if config else [],
            "{reference}": ["MODEL.REFERENCE.CONFIG_FILE", config] if config else [],
        }
        filled = [part for text in arguments for part in option.get(text, [text])]
        out = tmp_path / "out"
        code, text, err = run_tool(f"{script}.py", *(str(a).format(out=out, **places[0]) for a in filled))
        unlock(str(out))
        return code, text, err, out

    return run


@pytest.mark.parametrize("key", CHANGES)
def test_the_disagreement_is_one(key, places):
    """One image under the run's own settings and under the others: hardly the same feature."""
    _, folder, model = places
    number = [*CHANGES].index(key)
    other = build_model(load_config(str(folder / f"other{number}.yml"))).eval()
    other.load_state_dict(model.state_dict())
    x = images(4, 64, 32)
    with torch.no_grad():
        cosines = F.cosine_similarity(model.eval()({"images": x}), other({"images": x}))
    assert cosines.min() < 0.9


def first_line(err):
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("key", CHANGES)
@pytest.mark.parametrize("name", TOOLS)
def test_a_config_that_contradicts_the_checkpoint_is_refused_by_every_tool(name, key, places, run_tool_on):
    if name == "query":
        make_gallery(places, run_tool_on)
    config = places[1] / f"other{[*CHANGES].index(key)}.yml"
    code, _, err, out = run_tool_on(name, config)
    assert code == 2, err[-2000:]
    line = first_line(err)
    own = tiny_config()
    for part in key.split("."):
        own = own[part]
    assert line.startswith(f"error: {key}: must be {own!r}, as {places[0]['run']}/model_final.pth was trained, found ")
    assert f"{CHANGES[key]!r} in {config}" in line
    assert not list(out.rglob("*.json"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", TOOLS)
def test_no_tool_needs_a_config_file(name, places, run_tool_on):
    if name == "query":
        make_gallery(places, run_tool_on)
    code, _, err, _ = run_tool_on(name)
    assert code == 0, err[-2000:]


def test_an_evaluation_reads_no_settings_of_the_training(places, tmp_path, run_tool):
    """Neither a loss that they contradict nor a batch that its identities do not divide."""
    options = ("MODEL.LOSSES.COMPAT.KIND", "ce", "MODEL.LOSSES.COMPAT.PRIORITY", "1.0", "DATALOADER.NUM_INSTANCE", "5")
    weights = places[0]["run"] / "model_final.pth"
    code, _, err = run_tool("train_net.py", "--eval-only", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path, *options)
    unlock(str(tmp_path))
    assert code == 0, err[-2000:]
    assert (tmp_path / "grid.json").is_file()


def make_gallery(places, run_tool_on):
    """The gallery that is searched, if it is not there yet."""
    if not places[0]["gallery"].exists():
        code, _, err, out = run_tool_on("index")
        assert code == 0, err
        out.rename(places[0]["gallery"])


def test_an_exported_checkpoint_is_used_with_its_own_settings_too(places, run_tool_on):
    code, _, err, out = run_tool_on("export")
    assert code == 0, err
    folder = out / "w100-checkpoint"
    open_encoder(folder)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("GlobalAvgPool", "GlobalMaxPool"))
    with pytest.raises(InputError, match="MODEL.HEADS.POOL_LAYER: must be 'GlobalAvgPool', .* found 'GlobalMaxPool'"):
        open_encoder(folder)
