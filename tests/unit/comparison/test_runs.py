"""The plan of a suite, and when a run is new, interrupted, done, or somebody else's."""

import json
from dataclasses import replace

import pytest

from switchablecompat.comparison.results import finished, portable
from switchablecompat.comparison.runs import DONE, INTERRUPTED, NEW, plan, read_record
from switchablecompat.comparison.same_settings import difference
from switchablecompat.errors import InputError

from .conftest import make_result


@pytest.fixture
def jobs(suite, tmp_path):
    return {(job.method.name, job.seed): job for job in plan(suite, tmp_path, [0, 1])}


def option(run, key):
    return run.opts[run.opts.index(key) + 1]


def test_a_switchable_method_is_one_run(jobs, tmp_path):
    (run,) = jobs["ours", 1].runs
    assert run.folder == tmp_path / "ours" / "seed1"
    assert option(run, "SEED") == "1"
    assert run.arguments()[-2:] == ["OUTPUT_DIR", str(run.folder)]
    arguments = jobs["ours", 1].arguments()
    assert arguments[:4] == ["--config-file", f"{run.folder}/config.yaml", "--weights", f"{run.folder}/model_final.pth"]
    assert "--undefined" not in arguments


def test_a_setting_may_follow_the_seed(suite, tmp_path):
    suite = replace(suite, opts=(*suite.opts, "DATASETS.MANIFEST", "split{seed}.csv"))
    for job in plan(suite, tmp_path, [0, 1]):
        assert {option(run, "DATASETS.MANIFEST") for run in job.models} == {f"split{job.seed}.csv"}


def test_separate_models_without_reference_define_the_diagonal_only(jobs):
    job = jobs["unified", 0]
    assert [option(run, "MODEL.SWITCHABLE.ONLY_WIDTH") for run in job.runs] == ["0.5", "1.0"]
    assert [run.folder.name for run in job.runs] == ["w050", "w100"]
    assert "--diagonal-only" in job.arguments()


def test_a_reference_is_the_full_model_of_the_same_seed_and_is_not_trained_again(jobs):
    job, unified = jobs["bct", 1], jobs["unified", 1]
    assert [run.width for run in job.runs] == [0.5]
    assert job.models == (*job.runs, unified.runs[-1])
    assert option(job.runs[0], "MODEL.REFERENCE.WEIGHTS") == str(unified.runs[-1].folder / "model_final.pth")
    arguments = job.arguments()
    assert arguments[arguments.index("--undefined") + 1] == "1.0,1.0"


@pytest.mark.parametrize("name", ["ours", "unified", "bct"])
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DATASETS.TESTS", "('SmallVehicleID', 'LargeVehicleID')", "must name one data set, .*'LargeVehicleID'"),
        ("TEST.GALLERY_DRAWS", "10", "must be 1, because .*, found 10"),
    ],
)
def test_a_run_with_several_grids_is_refused_before_anything_starts(name, key, value, message, suite, tmp_path):
    suite = replace(suite, opts=(*suite.opts, key, value))
    reference = {"bct": "unified"}.get(name, name)  # whose job is made first
    with pytest.raises(InputError, match=f"^method {reference}: {key}: {message}") as refused:
        plan(suite, tmp_path, [0], [name])
    assert "\n" not in str(refused.value)


def test_seeds_and_methods_can_be_chosen_among_the_suites(suite, tmp_path):
    assert [(job.method.name, job.seed) for job in plan(suite, tmp_path, [1], ["bct"])] == [("bct", 1)]
    pairs = [(job.method.name, job.seed) for job in plan(suite, tmp_path, [1, 0], ["bct", "ours"])]
    assert pairs == [("bct", 1), ("ours", 1), ("bct", 0), ("ours", 0)], "seed by seed: rows can be paired early"
    with pytest.raises(InputError, match=r"--seeds: must be among the suite's seeds \[0, 1\], found 7"):
        plan(suite, tmp_path, [7])
    with pytest.raises(InputError, match="method: must be one of"):
        plan(suite, tmp_path, [0], ["none"])


def test_states_of_a_run(jobs, fabricate):
    (run,) = jobs["ours", 0].runs
    assert run.state() == NEW
    run.record(started=1)
    assert run.state() == NEW  # ended before its first checkpoint
    fabricate(run.folder, "last_checkpoint")
    assert run.state() == INTERRUPTED
    fabricate(run.folder, "grid.json")  # of an evaluation on the way
    assert run.state() == INTERRUPTED
    fabricate(run.folder, "model_final.pth")
    assert run.state() == INTERRUPTED  # it is evaluated once more
    run.record(finished=True)
    assert run.state() == DONE
    fabricate(run.folder, "grid.json", seed=5)
    with pytest.raises(InputError, match=r"grid.json: must be of seed 0, found 5"):
        run.state()


def test_other_settings_are_refused_by_key(suite, jobs, tmp_path):
    (run,) = jobs["ours", 0].runs
    run.record(started=1)
    changed = [*suite.opts, "SOLVER.MAX_EPOCH", "3"]
    object.__setattr__(suite, "opts", tuple(changed))
    with pytest.raises(InputError, match="seed0: holds a run with other .* found SOLVER.MAX_EPOCH 2 there, 3 asked"):
        plan(suite, tmp_path, [0], ["ours"])[0].runs[0].state()


def test_a_run_that_the_suite_did_not_start_is_refused(jobs, fabricate):
    (run,) = jobs["ours", 0].runs
    fabricate(run.folder, "model_final.pth", "grid.json")
    with pytest.raises(InputError, match=r"holds a run that this suite did not start \(no run.json\)"):
        run.state()


def test_settings_know_the_reference_but_no_places(suite, jobs, tmp_path):
    run = jobs["bct", 0].runs[0]
    settings = run.settings()
    assert settings == plan(suite, tmp_path / "elsewhere", [0], ["bct"])[0].runs[0].settings()
    assert settings["reference.MODEL.SWITCHABLE.ONLY_WIDTH"] == 1.0
    joint = jobs["bct", 0].settings()
    assert joint["MODEL.SWITCHABLE.ONLY_WIDTH"] == [0.5, 1.0]
    assert joint["SEED"] == 0
    assert not [key for key in joint if key.startswith("reference.") or "OUTPUT_DIR" in key]


def test_keys_added_by_an_update_change_nothing_while_they_have_their_default(jobs):
    asked = jobs["ours", 0].runs[0].settings()
    there = {key: value for key, value in asked.items() if key != "MODEL.SWITCHABLE.ONLY_WIDTH"}
    assert difference(there, asked) == ""
    assert "ONLY_WIDTH 0.0 there, 0.5 asked" in difference(there, {**asked, "MODEL.SWITCHABLE.ONLY_WIDTH": 0.5})
    assert "GONE 1 there, None asked" in difference({**asked, "GONE": 1}, asked)
    assert difference({**asked, "SOLVER.AGGREGATION.POWER": 1.0}, asked) == "", "it was cgi's, which this is not"


def test_how_images_are_read_does_not_matter(jobs):
    asked = jobs["bct", 0].runs[0].settings()
    read = {"DATALOADER.KEEP_IMAGES": True, "DATALOADER.NUM_WORKERS": 7, "reference.DATALOADER.NUM_WORKERS": 7}
    assert difference({**asked, **read}, asked) == ""


def test_how_gradients_are_compared_does_not_matter_where_they_are_summed(jobs):
    projected = jobs["ours", 0].runs[0].settings()
    summed = {**projected, "SOLVER.AGGREGATION.NAME": "sum"}
    finer = {"SOLVER.AGGREGATION.GRANULARITY": "tensor", "SOLVER.AGGREGATION.SUPPORT": "full"}
    assert difference(summed, {**summed, **finer}) == ""
    assert "GRANULARITY" in difference(projected, {**projected, **finer})
    assert "NAME 'projection' there, 'sum' asked" in difference(projected, {**summed})
    of_reference = {f"reference.{key}": value for key, value in projected.items()}
    assert difference({**summed, **of_reference}, {**summed, **of_reference, **finer}) == ""
    coarser = {**of_reference, "reference.SOLVER.AGGREGATION.GRANULARITY": "global"}
    assert "reference." in difference({**summed, **of_reference}, {**summed, **coarser})


def test_the_options_of_a_custom_loss_do_not_matter_where_it_is_not_used(jobs):
    stable = jobs["ours", 0].runs[0].settings()
    other = {"MODEL.LOSSES.COMPAT.PRIOR": 0.33}
    assert difference(stable, {**stable, **other}) == ""
    custom = {**stable, "MODEL.LOSSES.COMPAT.PRESET": "custom", "MODEL.LOSSES.COMPAT.KIND": "evidential"}
    assert "PRIOR" in difference(custom, {**custom, **other})


def test_starts_and_seconds_add_up(jobs):
    (run,) = jobs["ours", 0].runs
    for seconds in (2.0, 3.5):
        run.record(started=1)
        run.record(seconds=seconds)
    record = read_record(run.folder)
    assert (record["starts"], record["seconds"]) == (2, 5.5)


def bct_of(suite, tmp_path, **opts):
    methods = (*suite.methods[:2], replace(suite.methods[2], opts=(*suite.methods[2].opts, *map(str, *opts.items()))))
    return plan(replace(suite, methods=methods), tmp_path, [0], ["bct"])[0]


@pytest.mark.parametrize(
    ("key", "same"), [("MODEL.LOSSES.INFLUENCE.SCALE", False), ("MODEL.LOSSES.DISTILL.SCALE", True)]
)
def test_what_one_model_of_a_job_reads_matters(key, same, suite, jobs, tmp_path):
    """The full model belongs to the reference and has no influence loss; the others have."""
    changed = bct_of(suite, tmp_path, **{key: 10.0})
    assert changed.settings()["MODEL.LOSSES.NAME"] == jobs["bct", 0].settings()["MODEL.LOSSES.NAME"]
    found = difference(jobs["bct", 0].settings(), changed.settings(), changed.apart())
    assert (found == "") is same
    assert same or found == f"{key} 1.0 there, [10.0, 1.0] asked"


def test_another_content_of_a_file_is_refused(suite, tmp_path):
    manifest = tmp_path / "split.csv"
    manifest.write_text("path,pid,camid,split\n")
    own = replace(suite, opts=(*suite.opts, "DATASETS.MANIFEST", str(manifest)))
    (job,) = plan(own, tmp_path / "jobs", [0], ["ours"])
    (run,) = job.runs
    run.record(started=1)
    assert run.state() == NEW
    result = tmp_path / "result.json"
    places = (tmp_path / "jobs", tmp_path)
    content = {"format": 1, **vars(make_result("ours", 0, [[1.0, 2.0], [3.0, 4.0]]))}
    content |= {"grid": content["grid"].to_dict(), "settings": job.settings(), "files": job.files()}
    result.write_text(json.dumps(portable(content, places)))
    assert finished(result, job, places)
    manifest.write_text("path,pid,camid,split\na.png,1,1,train\n")
    with pytest.raises(InputError, match=r"another content of a file; .*, found DATASETS.MANIFEST sha256:\w+ there"):
        finished(result, job, places)
    with pytest.raises(InputError, match=r"another content of a file; .*, found DATASETS.MANIFEST sha256:\w+ there"):
        run.state()
    manifest.unlink()
    assert finished(result, job, places), "a result is worth something without its data"
    del content["files"]  # of an earlier version
    result.write_text(json.dumps(portable(content, places)))
    assert finished(result, job, places)
