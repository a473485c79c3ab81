"""``tools/train_net.py`` as a user runs it: in a process of its own, on generated data, on the CPU."""

import json
import subprocess
import sys

import pytest
import torch

from builders import R18, TINY, train_net

EXTRAS = (
    "SOLVER.AGGREGATION.NAME", "gradvac", "MODEL.LOSSES.COMPAT.PRIORITY", 0.5, "MODEL.SWITCHABLE.SANDWICH", 1,
    "MODEL.SWITCHABLE.SLOW_START", 0.5, "MODEL.SWITCHABLE.LOSS_WEIGHTS", "[0.5, 1.0, 1.0, 1.0]",
    "MODEL.SWITCHABLE.CHANNELS_LAST", True, "MODEL.LOSSES.NAME", "('CompatibleLoss', 'DistillationLoss')",
    "MODEL.SWITCHABLE.CLASSIFIER_GRAD", "certain",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """One run of the quick recipe: its folder and its output."""
    folder = tmp_path_factory.mktemp("run")
    result = train_net("--config-file", TINY, "OUTPUT_DIR", folder, data=data)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return folder, result.stdout + result.stderr


def test_a_run_writes_everything_and_says_where(trained):
    folder, output = trained
    names = {p.name for p in folder.iterdir()}
    assert {"grid.json", "grid.csv", "grid.md", "grid.png", "metrics.json", "config.yaml", "model_final.pth",
            "model_best.pth", "last_checkpoint", "log.txt"} <= names  # fmt: skip
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert "query \\ gallery" in output
    assert "Cross-tests: " in output
    assert str(folder / "grid.png") in output


def test_no_warning_is_left_in_a_normal_run(trained):
    assert [line for line in trained[1].splitlines() if "Warning" in line] == []


def test_the_last_evaluation_is_in_metrics_json_and_in_tensorboard(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = trained
    grid = json.loads((folder / "grid.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    last = [row for row in rows if "mAP_w025_w100" in row][-1]
    assert last["mAP_w025_w100"] == pytest.approx(grid["mAP"][0][3])
    assert last["iteration"] == 11
    keys = set().union(*rows)
    for width in ("w025", "w050", "w075", "w100"):
        assert {f"loss_compat_{width}", f"uncertainty_{width}", f"grad_norm_{width}", f"cls_accuracy_{width}"} <= keys
    assert {"conflict_rate", "grad_cosine_w025_w100", "lr", "total_loss", "metric"} <= keys
    events = EventAccumulator(str(folder)).Reload()
    assert events.Scalars("mAP_w025_w100")[-1].value == pytest.approx(grid["mAP"][0][3], rel=1e-6)


def test_training_moved_every_trainable_parameter_and_every_statistic(trained, data, tmp_path):
    """FastReID's flat optimiser trains nothing on torch 2, and its losses look normal: compare weights, not metrics."""
    from fastreid.modeling.meta_arch import build_model
    from fastreid.utils.env import seed_all_rng

    from builders import tiny_config

    folder, _ = trained
    final = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    seed_all_rng(0)
    model = build_model(tiny_config("MODEL.HEADS.NUM_CLASSES", final["heads.weight"].shape[0]))
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    same = {k for k, v in model.state_dict().items() if torch.equal(v, final[k])}
    assert same <= frozen


def test_eval_only_reproduces_the_grid_exactly(trained, data, tmp_path):
    folder, _ = trained
    result = train_net(
        "--config-file",
        TINY,
        "--eval-only",
        "MODEL.WEIGHTS",
        folder / "model_final.pth",
        "OUTPUT_DIR",
        tmp_path,
        data=data,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    first, second = (json.loads((f / "grid.json").read_text()) for f in (folder, tmp_path))
    assert first == second


def test_an_evaluation_leaves_the_training_runs_record_alone(trained, data):
    """Another method and seed on the command line say nothing about the weights, and config.yaml stays."""
    folder, _ = trained
    before = {name: (folder / name).read_text() for name in ("config.yaml", "grid.json")}
    result = train_net(
        "--config-file", TINY, "--eval-only", "MODEL.WEIGHTS", folder / "model_final.pth", "OUTPUT_DIR", folder,
        "SEED", 9, "MODEL.LOSSES.COMPAT.KIND", "ce", data=data,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert {name: (folder / name).read_text() for name in before} == before
    assert (folder / "config_eval.yaml").exists()


def test_the_same_seed_gives_the_same_weights(trained, data, tmp_path):
    result = train_net("--config-file", TINY, "OUTPUT_DIR", tmp_path, data=data)
    assert result.returncode == 0
    first, second = (torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (trained[0], tmp_path))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_resume_continues_and_a_finished_run_is_only_evaluated(data, tmp_path):
    """With nearly everything that is off by default."""

    def run(*options):
        result = train_net("--config-file", TINY, *options, *EXTRAS, "OUTPUT_DIR", tmp_path, data=data)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
        return result.stdout

    run("SOLVER.MAX_EPOCH", 1, "SOLVER.SCHED", "MultiStepLR", "SOLVER.WARMUP_ITERS", 0)
    options = ("SOLVER.MAX_EPOCH", 3, "SOLVER.SCHED", "MultiStepLR", "SOLVER.WARMUP_ITERS", 0)
    best = tmp_path / "model_best.pth"  # an unbeatable one: what a resumed run finds must not be forgotten
    torch.save({**torch.load(best, weights_only=True), "metric": 99.0}, best)
    resumed = run("--resume", *options)
    assert torch.load(best, weights_only=True)["metric"] == 99.0
    assert "Starting training from epoch 1" in resumed
    assert "Loading aggregation from" in (tmp_path / "log.txt").read_text()  # of FastReID: not on the screen
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["aggregation"]["state"]["_phi_t"].abs().sum() > 0
    rows = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert max(row["iteration"] for row in rows if "total_loss" in row) == 17
    grid = (tmp_path / "grid.json").read_text()
    assert "only evaluating" in run("--resume", *options)
    assert (tmp_path / "grid.json").read_text() == grid


def test_fastreids_resnet_with_frozen_layers_triplet_and_margin(data, tmp_path):
    result = train_net("--config-file", R18, "OUTPUT_DIR", tmp_path, data=data)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert 'Freeze layer group "backbone" training for 2 iterations' in result.stdout
    assert 'Open layer group "backbone" training' in result.stdout
    assert len(json.loads((tmp_path / "grid.json").read_text())["mAP"]) == 2


def test_an_ordinary_fastreid_checkpoint_is_a_starting_point(data, tmp_path):
    """Widths start as slices of a plain FastReID ResNet: nothing but the head's private norms is new."""
    from fastreid.modeling.meta_arch import build_model

    from builders import tiny_config

    cfg = tiny_config("MODEL.HEADS.NUM_CLASSES", 16, config_file=R18).clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME = "Baseline", "EmbeddingHead"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "plain.pth")
    result = train_net("--config-file", R18, "OUTPUT_DIR", tmp_path / "out",
                       "MODEL.WEIGHTS", tmp_path / "plain.pth", data=data)  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert "tensors loaded" in result.stdout


@pytest.mark.timeout(240)
def test_two_processes_train_one_family_that_evaluates_alike_in_one(data, tmp_path):
    """Without common BN statistics each rank would extract its part of the test set with its own."""
    both, alone = tmp_path / "both", tmp_path / "alone"
    loader = ("DATALOADER.NUM_WORKERS", 1)  # in each process, for training and for the test set
    result = train_net("--config-file", TINY, "--num-gpus", 2, *EXTRAS, *loader, "OUTPUT_DIR", both, data=data)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    result = train_net(
        "--config-file", TINY, "--eval-only", "MODEL.WEIGHTS", both / "model_final.pth", "OUTPUT_DIR", alone,
        "MODEL.SWITCHABLE.CHANNELS_LAST", True, data=data,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    first, second = (json.loads((f / "grid.json").read_text()) for f in (both, alone))
    assert first["family"] == second["family"]
    for metric in ("mAP", "Rank-1", "mINP"):
        for row, other in zip(first[metric], second[metric], strict=True):
            assert row == pytest.approx(other, abs=1e-3)  # other batches: the last bits of features differ


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_run_in_the_folder_of_one_that_runs_is_refused(processes, data, tmp_path):
    script = f"import time; from switchablecompat.engine.output_folder import lock; lock({str(tmp_path)!r})"
    hold = f"{script}; print('held', flush=True); time.sleep(300)"
    first = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    try:
        result = train_net("--config-file", TINY, "--num-gpus", processes, "OUTPUT_DIR", tmp_path, data=data)
        assert result.returncode == 2
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert "OUTPUT_DIR: must be a folder in which nothing else runs; choose another, or wait" in line
        assert f"found process {first.pid} on " in line
        assert {path.name for path in tmp_path.iterdir()} == {".lock"}
    finally:
        first.kill()
        first.communicate()


@pytest.mark.timeout(240)
def test_two_processes_resume_what_one_left_and_set_it_aside_for_a_new_run(data, tmp_path):
    def run(*options):
        common = ("SOLVER.SCHED", "MultiStepLR", "SOLVER.STEPS", "[]", "OUTPUT_DIR", tmp_path)
        result = train_net("--config-file", TINY, *options, *common, data=data)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
        return result.stdout

    run("SOLVER.MAX_EPOCH", 1)
    resumed = run("--num-gpus", 2, "--resume", "SOLVER.MAX_EPOCH", 2)
    assert "Starting training from epoch 1" in resumed
    assert "Resumed with another SOLVER.MAX_EPOCH: 1 before, 2 now" in resumed
    family = json.loads((tmp_path / "grid.json").read_text())["family"]
    fresh = run("--num-gpus", 2, "SOLVER.MAX_EPOCH", 1)
    assert f"held an earlier run, which is now in {tmp_path}/earlier-1" in fresh
    assert json.loads((tmp_path / "earlier-1" / "grid.json").read_text())["family"] == family
    assert json.loads((tmp_path / "grid.json").read_text())["family"] != family


def test_bad_input_is_one_line_and_exit_code_2(data, tmp_path):
    result = train_net("--config-file", TINY, "SOLVER.IMS_PER_BATCH", "128", "OUTPUT_DIR", tmp_path, data=data)
    assert result.returncode == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("error: training data: ")]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "model_final.pth").exists()


def test_help_has_an_example(data):
    result = train_net("--help", data=data)
    assert result.returncode == 0
    assert "example: python tools/train_net.py --config-file configs/Synthetic/sfsc_demo.yml" in " ".join(
        result.stdout.split()
    )
