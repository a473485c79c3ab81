"""The grid from separate members: order, cells that are left out, and what is refused."""

import hashlib

import pytest
import torch
import torch.nn.functional as F

from switchablecompat.errors import InputError
from switchablecompat.evaluation.cross_test import Member, cross_test, joint_family, undefined_cells
from switchablecompat.evaluation.grid import grid_from_features

PIDS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 4])
CAMIDS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])


def member(width, family="sha256:a", dim=5, seed=None):
    generator = torch.Generator().manual_seed(int(100 * width) if seed is None else seed)
    return Member(width, torch.randn(9, dim, generator=generator), f"m{width}.pth", family)


def test_members_in_any_order_give_the_grid_of_their_features():
    members = [member(1.0), member(0.25), member(0.5)]
    grid, queries = cross_test(members, PIDS, CAMIDS, 4, "toy", metadata={"seed": 3})
    values = [F.normalize(m.features) for m in sorted(members, key=lambda m: m.width)]
    labels = (PIDS[:4], PIDS[4:], CAMIDS[:4], CAMIDS[4:])
    expected = grid_from_features([v[:4] for v in values], [v[4:] for v in values], *labels, (0.25, 0.5, 1.0), "toy")
    assert grid.values == expected.values
    assert grid.metadata == {"seed": 3, "family": "sha256:a"}
    assert queries.family == "sha256:a"
    assert queries.first_hit_rank.shape == (3, 3, 4)


def test_separate_models_get_a_joint_family_that_knows_no_order():
    members = [member(0.5, "sha256:b"), member(1.0, "sha256:a")]
    grid, queries = cross_test(members, PIDS, CAMIDS, 4, "toy")
    expected = "sha256:" + hashlib.sha256(b"sha256:a\nsha256:b").hexdigest()
    assert grid.metadata["family"] == queries.family == expected == joint_family(["sha256:b", "sha256:a", "sha256:b"])
    assert grid.metadata["families"] == {"w050": "sha256:b", "w100": "sha256:a"}


def test_what_a_method_does_not_define_is_left_out():
    members = [member(0.5), member(1.0)]
    bct, _ = cross_test(members, PIDS, CAMIDS, 4, "toy", undefined=[(1.0, 1.0)])
    assert [[v is None for v in row] for row in bct.values["mAP"]] == [[False, False], [False, True]]
    unified, queries = cross_test(members, PIDS, CAMIDS, 4, "toy", diagonal_only=True)
    assert [[v is None for v in row] for row in unified.values["mAP"]] == [[False, True], [True, False]]
    assert queries.defined.tolist() == [[True, False], [False, True]]


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
        cross_test(members, PIDS, CAMIDS, 4, "toy")
