"""A task of separate sub-models: order, cells that are left out, and what is refused."""

import hashlib

import pytest
import torch
import torch.nn.functional as F

from builders import save_run
from switchablecompat.engine.trained_task import Member, task_of_members, warn_of_strangers
from switchablecompat.errors import InputError
from switchablecompat.evaluation.task import undefined_cells
from switchablecompat.modeling.opened import open_model

LABELS = (torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 4]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1]))


def member(width, family="sha256:a", dim=5, seed=None):
    generator = torch.Generator().manual_seed(int(100 * width) if seed is None else seed)
    return Member(width, torch.randn(9, dim, generator=generator), f"m{width}.pth", family)


def test_members_in_any_order_are_split_into_queries_and_gallery():
    members = [member(1.0), member(0.25), member(0.5)]
    task = task_of_members(members, LABELS, 4, "toy", metadata={"seed": 3})
    assert (task.widths, task.dataset) == ([0.25, 0.5, 1.0], "toy")
    assert task.metadata == {"seed": 3, "family": "sha256:a"}
    for one, query, gallery in zip((members[1], members[2], members[0]), task.query, task.gallery, strict=True):
        assert torch.equal(torch.cat([query, gallery]), F.normalize(one.features))
        assert len(query) == 4
    assert task.matches.num_positives.tolist() == [1, 1, 1, 1]
    assert len(task.cells) == 9


def test_separate_models_get_a_joint_family_that_knows_no_order():
    members = [member(0.5, "sha256:b"), member(0.75, "sha256:b"), member(1.0, "sha256:a")]
    metadata = task_of_members(members, LABELS, 4, "toy").metadata
    assert metadata["family"] == "sha256:" + hashlib.sha256(b"sha256:a\nsha256:b").hexdigest()
    assert metadata["families"] == {"w050": "sha256:b", "w075": "sha256:b", "w100": "sha256:a"}


def test_what_a_method_does_not_define_is_left_out():
    members = [member(0.5), member(1.0)]
    bct = task_of_members(members, LABELS, 4, "toy", undefined=[(1.0, 1.0)])
    assert bct.cells == [(0, 0), (0, 1), (1, 0)]
    unified = task_of_members(members, LABELS, 4, "toy", diagonal_only=True)
    assert unified.cells == [(0, 0), (1, 1)]


def test_undefined_cells_name_query_and_gallery():
    assert undefined_cells([0.25, 0.5, 1.0], [(0.25, 1.0)]) == {(0, 2)}
    with pytest.raises(InputError, match=r"undefined cell: must be of the widths \[0.5, 1.0\], found 0.3"):
        undefined_cells([0.5, 1.0], [(1.0, 0.3)])
    with pytest.raises(InputError, match="undefined cells: must leave a cell to evaluate, found all 1"):
        undefined_cells([1.0], [(1.0, 1.0)])


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ([member(0.5), member(0.5, seed=1)], "width 0.5: must come from one model, found m0.5.pth and m0.5.pth"),
        ([member(0.5), member(1.0, dim=6)], "dimension: must be the same .* found 5 in m0.5.pth and 6 in m1.0"),
    ],
)
def test_members_that_do_not_fit_are_refused_with_both_values(members, match):
    with pytest.raises(InputError, match=match):
        task_of_members(members, LABELS, 4, "toy")


def test_a_grid_without_the_reference_of_its_models_is_said_to_be(tmp_path, caplog):
    """The reference's folder may have been trained again since."""
    torch.manual_seed(0)
    for name in ("reference", "another"):
        save_run(tmp_path / name)
    reference = tmp_path / "reference" / "model_final.pth"
    save_run(tmp_path / "student", "MODEL.LOSSES.NAME", "('CompatibleLoss', 'InfluenceLoss')",
             "MODEL.REFERENCE.WEIGHTS", reference)  # fmt: skip

    def said(*names):
        caplog.clear()
        models = [open_model(str(tmp_path / name / "model_final.pth")) for name in names]
        warn_of_strangers(models, [""] * len(models))
        return [line for line in caplog.messages if "compatible with a model that is not here" in line]

    assert not said("student", "reference")
    assert not said("student")
    assert not said("reference", "another")
    (line,) = said("student", "another")
    assert line.startswith(f"{tmp_path}/student/model_final.pth was trained to be compatible")


def test_models_of_different_manifests_are_said_to_be(tmp_path, caplog):
    for split in ("0", "1"):
        (tmp_path / f"{split}.csv").write_text(f"path,pid,camid,split\n{split}.png,0,0,train\n")
        save_run(tmp_path / split, "DATASETS.MANIFEST", tmp_path / f"{split}.csv")
    models = [open_model(str(tmp_path / split / "model_final.pth")) for split in ("0", "1")]
    warn_of_strangers(models[:1], [""])
    assert "different manifests" not in caplog.text
    warn_of_strangers(models, ["", ""])
    assert "trained by 2 different manifests" in caplog.text
