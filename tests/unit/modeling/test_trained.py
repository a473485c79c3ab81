"""A checkpoint and its settings: which config counts, what contradicts it, and what a run keeps."""

import shutil

import pytest
import torch

from builders import reference_files, save_run, tiny_config, tiny_model
from switchablecompat.errors import InputError
from switchablecompat.modeling.checkpoint import RECORD_KEY, read_checkpoint
from switchablecompat.modeling.trained import read_trained, run_record

POOL = ("MODEL.HEADS.POOL_LAYER", "GlobalMaxPool")


@pytest.fixture
def run(tmp_path):
    """A run whose checkpoint lies alone in another folder than it was trained in."""
    save_run(tmp_path / "trained", *POOL, "MODEL.PIXEL_MEAN", "[1.0, 2.0, 3.0]")
    (tmp_path / "moved").mkdir()
    shutil.move(tmp_path / "trained" / "model_final.pth", tmp_path / "moved")
    return tmp_path / "moved" / "model_final.pth"


def test_the_checkpoint_knows_its_config_wherever_it_is(run):
    cfg = read_trained(str(run)).cfg
    expected = tiny_config(*POOL, "MODEL.PIXEL_MEAN", "[1.0, 2.0, 3.0]", "OUTPUT_DIR", run.parent)
    assert cfg == expected
    assert read_trained(str(run), opts=["TEST.IMS_PER_BATCH", "7"]).cfg.TEST.IMS_PER_BATCH == 7


def test_nothing_of_the_machines_folders_is_in_it(run):
    assert str(run.parents[1]) not in str(read_checkpoint(str(run))[RECORD_KEY])


def test_a_config_that_says_otherwise_is_refused_in_one_line_with_both_values(run, tmp_path):
    (tmp_path / "other.yml").write_text(tiny_config("MODEL.BACKBONE.LAST_STRIDE", 1).dump())
    with pytest.raises(InputError) as error:
        read_trained(str(run), str(tmp_path / "other.yml"))
    assert str(error.value) == (
        f"MODEL.HEADS.POOL_LAYER: must be 'GlobalMaxPool', as {run} was trained, found 'GlobalAvgPool' in "
        f"{tmp_path}/other.yml; also MODEL.PIXEL_MEAN [1.0, 2.0, 3.0] there and "
        "[123.675, 116.28, 103.53] here"
    )
    with pytest.raises(InputError, match=r"INPUT.SIZE_TEST: must be \[64, 32\], .* found \[32, 32\] in the KEY VALUE"):
        read_trained(str(run), opts=["INPUT.SIZE_TEST", "[32, 32]"])


def test_the_config_beside_a_checkpoint_counts_where_it_keeps_none(tmp_path):
    (tmp_path / "config.yaml").write_text(tiny_config(*POOL).dump())
    torch.save({"model": tiny_model().state_dict()}, tmp_path / "model_final.pth")
    assert read_trained(str(tmp_path / "model_final.pth")).cfg.MODEL.HEADS.POOL_LAYER == "GlobalMaxPool"
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"^--config-file: must be given: .*model_final.pth keeps no settings"):
        read_trained(str(tmp_path / "model_final.pth"))


def test_a_method_without_a_name_is_custom_and_none_is_guessed():
    assert run_record(tiny_config("METHOD", ""))["method"] == "custom"
    assert run_record(tiny_config("METHOD", "mine"))["method"] == "mine"


def test_a_recipe_is_what_is_trained_and_not_where_when_or_by_what():
    def digest(*opts):
        return run_record(tiny_config(*opts))["config"]

    for same in (
        ("METHOD", "mine"), ("SEED", 7), ("OUTPUT_DIR", "x"), ("MODEL.DEVICE", "cpu"), ("DATALOADER.NUM_WORKERS", 3),
        ("TEST.EVAL_PERIOD", 9), ("MODEL.WEIGHTS", "nowhere.pth"), ("TEST.RERANK.ENABLED", True),
    ):  # fmt: skip
        assert digest(*same) == digest(), same
    for another in (("SOLVER.BASE_LR", 0.2), POOL, ("SOLVER.MAX_EPOCH", 3), ("MODEL.LOSSES.COMPAT.KIND", "ce")):
        assert digest(*another) != digest(), another


def test_equal_files_in_other_places_are_one_recipe_and_other_files_are_another(tmp_path):
    """A reference model, weights to start from, weights of the backbone, a manifest."""
    recipes = {}
    for name, seed in (("here", 1), ("there", 1), ("other", 2)):
        torch.manual_seed(seed)
        (tmp_path / name).mkdir()
        _, files = reference_files(tmp_path / name)
        (tmp_path / name / "m.csv").write_text(f"path,pid,camid,split\n{seed}.png,0,0,train\n")
        files = dict(zip(files[::2], files[1::2], strict=True))
        for key, value in {
            **files,
            "MODEL.WEIGHTS": files["MODEL.REFERENCE.WEIGHTS"],
            "DATASETS.MANIFEST": tmp_path / name / "m.csv",
            "MODEL.BACKBONE.PRETRAIN_PATH": files["MODEL.REFERENCE.WEIGHTS"],
        }.items():
            recipes[key, name] = run_record(tiny_config("MODEL.BACKBONE.PRETRAIN", True, key, value))["config"]
    for key in ("MODEL.WEIGHTS", "MODEL.REFERENCE.WEIGHTS", "DATASETS.MANIFEST", "MODEL.BACKBONE.PRETRAIN_PATH"):
        assert recipes[key, "here"] == recipes[key, "there"] != recipes[key, "other"], key
        assert recipes[key, "here"] != run_record(tiny_config("MODEL.BACKBONE.PRETRAIN", True))["config"], key


def test_a_file_with_more_than_tensors_counts_by_its_bytes(tmp_path):
    digests = set()
    for epoch in (1, 2):
        torch.save({"student": {"conv1.weight": torch.ones(1)}, "epoch": epoch}, tmp_path / f"{epoch}.pth")
        digests.add(run_record(tiny_config("MODEL.WEIGHTS", tmp_path / f"{epoch}.pth"))["files"]["MODEL.WEIGHTS"])
    assert len(digests - {""}) == 2


def test_a_reference_used_in_another_way_is_another_one(tmp_path):
    """Its config decides what its weights mean."""
    _, files = reference_files(tmp_path)
    plain = run_record(tiny_config(*files))["config"]
    (tmp_path / "config.yaml").write_text(tiny_config(*POOL).dump())
    torch.save(read_checkpoint(files[3]), tmp_path / "model_final.pth")  # at a new time: digests are kept by it
    assert run_record(tiny_config(*files))["config"] != plain


def test_a_manifest_below_the_data_root_counts_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    digests = []
    for people in (1, 2):
        (tmp_path / "split.csv").write_text("path,pid,camid,split\n" + people * "a.png,0,0,train\n")
        digests.append(run_record(tiny_config("DATASETS.MANIFEST", "split.csv"))["files"]["DATASETS.MANIFEST"])
    assert len({*digests, ""}) == 3
