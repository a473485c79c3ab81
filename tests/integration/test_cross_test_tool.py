"""tools/cross_test.py on models saved to disk: the trainer's own grid, separate models, and what is refused."""

import functools
import json

import pytest
import torch

from builders import save_run, tiny_config
from switchablecompat.engine import SwitchableTrainer
from switchablecompat.evaluation.cells import QueryResults
from switchablecompat.fastreid_shims.loading import use_cpu_loader


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders by name, on generated data; a switchable one with the grid that the trainer itself writes."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tmp_path_factory.mktemp("datasets")))
        use_cpu_loader(True)
        model = save_run(root / "joint", "MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]")
        SwitchableTrainer.test(
            tiny_config("MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]", "OUTPUT_DIR", root / "joint"), model
        )
        for width in (0.25, 0.5, 1.0):
            save_run(root / f"only{width}", "MODEL.SWITCHABLE.ONLY_WIDTH", width)
        yield root
        use_cpu_loader(None)


@pytest.fixture
def tool(runs, run_tool):
    """Run the script in this process; returns exit code, output and errors."""
    return functools.partial(run_tool, "cross_test.py")


def joint_arguments(runs):
    return ["--config-file", runs / "joint" / "config.yaml", "--weights", runs / "joint" / "model_final.pth"]


def grid_of(folder):
    return json.loads((folder / "grid.json").read_text())


def test_a_switchable_checkpoint_gives_the_trainers_own_grid(tool, runs, tmp_path):
    code, out, err = tool(*joint_arguments(runs), "--output", tmp_path)
    assert code == 0, err
    assert grid_of(tmp_path) == grid_of(runs / "joint")
    assert {path.name for path in tmp_path.iterdir()} == {
        "grid.json", "grid.csv", "grid.md", "grid.png", "queries.npz",
    }  # fmt: skip
    assert "query \\ gallery" in out
    queries = QueryResults.read(tmp_path / "queries.npz")
    for q in range(2):
        for g in range(2):
            assert 100 * queries.average_precision[q, g].mean() == pytest.approx(grid_of(tmp_path)["mAP"][q][g])


def test_separate_models_and_the_cell_that_bct_does_not_define(tool, runs, tmp_path):
    models = [part for w in (1.0, 0.25, 0.5) for part in ("--model", f"{w}={runs}/only{w}")]
    code, _, err = tool(*models, "--undefined", "1.0,1.0", "--method", "bct", "--output", tmp_path)
    assert code == 0, err
    grid = grid_of(tmp_path)
    assert (grid["widths"], grid["method"], grid["mAP"][2][2]) == ([0.25, 0.5, 1.0], "bct", None)
    assert sum(value is not None for row in grid["mAP"] for value in row) == 8
    assert set(grid["families"]) == {"w025", "w050", "w100"}
    assert grid["family"] not in grid["families"].values()


def test_query_expansion_and_re_ranking_of_separate_models(tool, runs, tmp_path):
    models = [part for w in (0.5, 1.0) for part in ("--model", f"{w}={runs}/only{w}")]
    options = ("TEST.AQE.ENABLED", True, "TEST.AQE.QE_K", 3, "TEST.RERANK.ENABLED", True)
    code, out, err = tool(*models, "--undefined", "0.5,1.0", "--output", tmp_path, *options)
    assert code == 0, err
    grid = grid_of(tmp_path)
    refined = grid["refined"]
    assert refined["refinement"]["aqe"] == {"k": 3, "times": 1, "alpha": 3.0}
    for content in (grid, refined):
        assert [[value is None for value in row] for row in content["mAP"]] == [[False, True], [False, False]]
    assert refined["mAP"] != grid["mAP"]
    assert "After aqe (k 3, times 1, alpha 3.0), rerank (k1 20, k2 6, weight 0.3):" in out


def test_a_mix_takes_the_switchable_models_cells_unchanged(tool, runs, tmp_path):
    code, _, err = tool(*joint_arguments(runs), "--model", f"0.25={runs}/only0.25", "--output", tmp_path)
    assert code == 0, err
    mixed, joint = grid_of(tmp_path)["mAP"], grid_of(runs / "joint")["mAP"]
    assert [row[1:] for row in mixed[1:]] == joint


def test_independent_models_have_a_diagonal_only(tool, runs, tmp_path):
    models = [part for w in (0.5, 1.0) for part in ("--model", f"{w}={runs}/only{w}")]
    code, out, err = tool(*models, "--diagonal-only", "--output", tmp_path)
    assert code == 0, err
    assert [[value is None for value in row] for row in grid_of(tmp_path)["mAP"]] == [[False, True], [True, False]]
    assert "No cross-test can be judged." in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "0.5={runs}/only0.5", "--model", "0.5={runs}/only0.5"], "width 0.5: must come from one model"),
        (["--model", "0.25={runs}/only0.5"], "must have a sub-model of width 0.25, found widths [0.5]"),
        (["--model", "0.5={runs}/none"], "--model: must be WIDTH=RUN_DIR with an existing folder"),
        (["--model", "half={runs}/only0.5"], "--model: must have width multipliers"),
        (["--model", "0.5={runs}/only0.5", "--undefined", "1.0"], "--undefined: must be QUERY,GALLERY"),
        (["--model", "0.5={runs}/only0.5", "--undefined", "1.0,1.0"], "undefined cell: must be of the widths [0.5]"),
        (["--model", "0.5={runs}/only0.5", "--dataset", "None"], "data set: must be one of"),
        (["--model", "0.5={runs}/only0.5", "NO.KEY", "1"], "NO.KEY: must be an existing key"),
        (["--config-file", "{runs}/joint/config.yaml"], "command line: --config-file needs --weights"),
        ([], "command line: --weights or --model must be given"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tool, runs, tmp_path, arguments, message):
    code, _, err = tool(*(text.format(runs=runs) for text in arguments), "--output", tmp_path / "out")
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "name", "found"),
    [
        ("INPUT.SIZE_TEST", "[32, 32]", "preprocessing.size", "found [64, 32] in {first} and [32, 32] in {other}"),
        ("MODEL.PIXEL_MEAN", "[0.0, 0.0, 0.0]", "preprocessing.pixel_mean", "[0.0, 0.0, 0.0] in {other}"),
        ("INPUT.CROP", "[32, 32]", "preprocessing.center_crop", "found None in {first} and [32, 32] in {other}"),
        ("TEST.FLIP.ENABLED", "True", "TEST.FLIP.ENABLED", "found False in {first} and True in {other}"),
        ("MODEL.HEADS.EMBEDDING_DIM", "64", "dimension", "found 128 in {first} and 64 in {other}"),
        ("MODEL.HEADS.NECK_FEAT", "before", "MODEL.HEADS.NECK_FEAT", "found after in {first} and before in {other}"),
    ],
)
def test_models_that_cannot_be_compared_are_refused_with_both_values(tool, runs, tmp_path, key, value, name, found):
    opts = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", value) if key == "INPUT.CROP" else (key, value)
    save_run(tmp_path / "other", "MODEL.SWITCHABLE.ONLY_WIDTH", 0.5, *opts)
    code, _, err = tool(
        "--model", f"1.0={runs}/only1.0", "--model", f"0.5={tmp_path}/other", "--output", tmp_path / "out"
    )
    assert code == 2
    files = {"first": f"{runs}/only1.0/model_final.pth", "other": f"{tmp_path}/other/model_final.pth"}
    assert f"error: {name}: must be the same to compare features, found" in err
    assert found.format(**files) in err
    assert not (tmp_path / "out").exists()


def test_a_model_trained_with_a_reference_does_not_need_it_any_more(tool, runs, tmp_path):
    folder = tmp_path / "bct"
    folder.mkdir()
    weights = torch.load(runs / "only0.5" / "model_final.pth", weights_only=True)["model"]
    torch.save({"model": weights}, folder / "model_final.pth")  # without a record, its config says what it is
    gone = ("MODEL.REFERENCE.CONFIG_FILE", "gone/config.yaml", "MODEL.REFERENCE.WEIGHTS", "gone/model_final.pth")
    losses = ("MODEL.LOSSES.NAME", "('CompatibleLoss', 'InfluenceLoss')")
    opts = ("MODEL.SWITCHABLE.ONLY_WIDTH", 0.5, *losses, *gone, "METHOD", "mine")
    (folder / "config.yaml").write_text(tiny_config(*opts).dump())
    code, _, err = tool("--model", f"0.5={folder}", "--output", tmp_path / "out")
    assert code == 0, err
    assert grid_of(tmp_path / "out")["method"] == "mine"


def gate(tool, runs, tmp_path, requirements):
    """Run the tool on the switchable model with a requirements file; it leaves its files in any case."""
    (tmp_path / "require.json").write_text(json.dumps(requirements))
    result = tool(*joint_arguments(runs), "--output", tmp_path / "out", "--require", tmp_path / "require.json")
    assert grid_of(tmp_path / "out") == grid_of(runs / "joint")
    return result


def test_a_grid_that_meets_its_requirements_passes(tool, runs, tmp_path):
    cells = grid_of(runs / "joint")["mAP"]
    requirements = {
        "mAP": {"w050/w100": cells[0][1]},
        "baseline": str(runs / "joint" / "grid.json"),
        "max_drop": 0.0,
    }
    code, out, err = gate(tool, runs, tmp_path, requirements)
    assert (code, "all requirements hold." in out, "Broken" in out) == (0, True, False), err


def test_broken_requirements_are_named_and_the_exit_code_is_one(tool, runs, tmp_path):
    stored = grid_of(runs / "joint")
    found = stored["mAP"][1][0]
    stored["mAP"][1][0] += 2.0
    (tmp_path / "better.json").write_text(json.dumps(stored))
    requirements = {"Rank-1": {"w100/w100": 100}, "baseline": "better.json", "max_drop": 1.5}
    code, out, _ = gate(tool, runs, tmp_path, requirements)
    assert code == 1
    assert [line for line in out.splitlines() if line.startswith("Broken")] == [
        f"Broken: Rank-1 w100/w100: at least 100 required, {stored['Rank-1'][1][1]:.4f} found",
        f"Broken: mAP w100/w050: at most 1.5 below the baseline's {found + 2:.4f} required, {found:.4f} found",
    ]
    assert "2 broken." in out


def test_cells_of_no_sub_model_are_bad_input_not_a_broken_requirement(tool, runs, tmp_path):
    code, _, err = gate(tool, runs, tmp_path, {"mAP": {"w033/w100": 1}})
    assert code == 2
    assert "require.json: mAP: must name cells of the sub-models w050, w100, found w033/w100" in err


def test_a_bad_requirements_file_is_refused_before_any_work(tool, runs, tmp_path):
    (tmp_path / "require.yaml").write_text("map: {}")
    code, _, err = tool(*joint_arguments(runs), "--output", tmp_path / "out", "--require", tmp_path / "require.yaml")
    assert code == 2
    assert "require.yaml: may have the keys mAP, Rank-1" in err
    assert not (tmp_path / "out").exists()


def test_help_has_an_example(tool):
    code, out, _ = tool("--help")
    assert code == 0
    assert "python tools/cross_test.py --model 0.25=outputs/bct/w025" in out
