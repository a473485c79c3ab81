"""VehicleID's protocol: what is drawn, and means over draws against FastReID's ranking of each."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fastreid.evaluation.rank import evaluate_rank

from builders import Items, images, tiny_config, tiny_model
from switchablecompat.errors import InputError
from switchablecompat.evaluation.evaluator import evaluate_grid
from switchablecompat.evaluation.features import extract_features
from switchablecompat.evaluation.gallery_draws import draw_gallery, mean_grid
from switchablecompat.evaluation.grid import CompatibilityGrid
from switchablecompat.modeling.calibration import calibrate_bn

PIDS = np.array([7, 3, 7, 7, 3, 5, 5, 7])


def test_a_draw_has_one_image_of_each_identity_and_asks_for_all_others():
    drawn = set()
    for seed in range(60):
        query, gallery = draw_gallery(PIDS, seed)
        assert sorted(PIDS[gallery]) == [3, 5, 7]
        assert sorted([*query, *gallery]) == list(range(8))
        drawn.update(gallery.tolist())
    assert drawn == set(range(8))  # each can be drawn
    np.testing.assert_array_equal(draw_gallery(PIDS, 3)[1], draw_gallery(PIDS, 3)[1])


def test_means_are_those_of_cells_and_undefined_stays_so():
    grids = [CompatibilityGrid((0.5, 1.0), {"mAP": [[a, None], [a + 1, a + 2]]}, "d") for a in (10.0, 20.0)]
    refined = mean_grid([grid.with_refined(grid) for grid in grids])
    assert refined.values["mAP"] == ((15.0, None), (16.0, 17.0))
    assert refined.refined.values["mAP"] == refined.values["mAP"]
    assert refined.metadata["gallery_draws"] == 2


def vehicle_loader(gallery_pids):
    """Ten identities of four images, each its own camera as in VehicleID's class."""
    pids = torch.cat([torch.arange(40 - len(gallery_pids)) % 10, gallery_pids])

    class Loader(list):
        dataset = Items(pids)

    return Loader([{"images": images(40, 16, 8), "targets": pids, "camids": torch.arange(40)}])


def test_the_grid_is_the_mean_over_draws_of_fastreids_ranking():
    loader, model = vehicle_loader(torch.arange(10)), tiny_model()
    calibrate_bn(model, loader)
    grid = evaluate_grid(tiny_config("TEST.GALLERY_DRAWS", 5), model, loader, 30, "vehicles")
    features = extract_features(model, loader)
    small, full = (F.normalize(features.values[index]).numpy() for index in (0, 3))
    pids, camids, values = features.pids.numpy(), features.camids.numpy(), []
    for seed in range(5):
        query, gallery = draw_gallery(pids, seed)
        _, precision, _ = evaluate_rank(
            -small[query] @ full[gallery].T,
            pids[query],
            pids[gallery],
            camids[query],
            camids[gallery],
            use_cython=False,
        )
        values.append(100 * np.mean(precision))
    assert grid[0, 3] == pytest.approx(np.mean(values), abs=1e-4)
    assert np.std(values) > 0.1
    assert grid.metadata["gallery_draws"] == 5


def test_a_gallery_that_is_given_is_not_drawn():
    loader, model = vehicle_loader(torch.arange(10) // 2), tiny_model()
    with pytest.raises(InputError, match="TEST.GALLERY_DRAWS: must be 1 for a data set whose gallery has several"):
        evaluate_grid(tiny_config("TEST.GALLERY_DRAWS", 2), model, loader, 30, "vehicles")
