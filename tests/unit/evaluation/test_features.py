import os

import torch
import torch.nn.functional as F
from fastreid.data.build import fast_batch_collator
from fastreid.evaluation.rank import evaluate_rank
from torch.utils.data import DataLoader, Dataset

from builders import Items, images, tiny_config, tiny_model
from fastreid_evaluator import fastreid_results
from switchablecompat.evaluation.evaluator import evaluate_grid
from switchablecompat.evaluation.features import extract_features, inference_mode
from switchablecompat.modeling.calibration import calibrate_bn


class Loader(list):
    """Batches with a data set behind them, as a DataLoader."""

    @property
    def dataset(self):
        return Items(pid for batch in self for pid in batch["targets"])


def make_loader(n=36, size=8):
    x = images(n, 16, 8)
    pids, camids = torch.arange(n) % 6, torch.arange(n) // 6 % 3
    return Loader(
        {"images": x[i : i + size], "targets": pids[i : i + size], "camids": camids[i : i + size]}
        for i in range(0, n, size)
    )


def test_one_pass_gives_the_features_of_every_width_in_order():
    model, loader = tiny_model(), make_loader()
    calls = []
    model.preprocess_image = lambda batch, original=model.preprocess_image: (calls.append(1), original(batch))[1]
    features = extract_features(model, loader)
    assert len(calls) == len(loader), "every image is normalised once"
    model.eval()
    for index, values in enumerate(features.values):
        with model.switch.use(index), torch.no_grad():
            assert torch.equal(values, torch.cat([model(batch) for batch in loader]))
    assert torch.equal(features.pids, torch.arange(36) % 6)


def test_flip_averages_the_mirror_image_of_the_rightly_normalised_batch():
    model, loader = tiny_model().eval(), make_loader(8)
    features = extract_features(model, loader, flip=True)
    x = loader[0]["images"]
    for index, values in enumerate(features.values):
        with torch.no_grad(), model.switch.use(index):
            assert torch.equal(values, (model({"images": x}) + model({"images": x.flip(3)})) / 2)


def test_modes_come_back_as_they_were_even_when_partly_frozen_or_on_errors():
    model = tiny_model().train()
    model.backbone.eval()
    before = [m.training for m in model.modules()]
    try:
        with inference_mode(model):
            assert not any(m.training for m in model.modules())
            raise RuntimeError
    except RuntimeError:
        pass
    assert [m.training for m in model.modules()] == before


def test_every_cell_agrees_with_fastreids_evaluate_rank():
    """End to end over the evaluator: features, normalisation, split, and each cell of every metric."""
    model, loader = tiny_model(), make_loader(120)
    calibrate_bn(model, loader)  # centred features: without ties, whose order FastReID leaves open
    grid = evaluate_grid(tiny_config(), model, loader, 20, "toy")
    features = extract_features(model, loader)
    pids, camids = features.pids.numpy(), features.camids.numpy()
    normalised = [F.normalize(v) for v in features.values]
    for q in range(4):
        for g in range(4):
            distance = -(normalised[q][:20] @ normalised[g][20:].T).numpy()  # 1 - x would round ties into being
            cmc, ap, inp = evaluate_rank(distance, pids[:20], pids[20:], camids[:20], camids[20:], use_cython=False)
            expected = {"mAP": sum(ap) / len(ap), "mINP": sum(inp) / len(inp),
                        "Rank-1": cmc[0], "Rank-5": cmc[4], "Rank-10": cmc[9]}  # fmt: skip
            for metric, value in expected.items():
                assert abs(grid.values[metric][q][g] - 100 * value) < 1e-4, (metric, q, g)  # 1e-6 as a share
    content = grid.to_dict()
    assert content["family"].startswith("sha256:")
    assert content["method"] == "sfsc"
    assert content["seed"] == 0


def test_refined_cells_are_fastreids_evaluator_with_flip_test_on_normalised_features():
    model, loader = tiny_model(), make_loader(120)
    calibrate_bn(model, loader)
    opts = ("TEST.FLIP.ENABLED", True, "TEST.AQE.ENABLED", True, "TEST.RERANK.ENABLED", True, "TEST.RERANK.K1", 10)
    cfg = tiny_config(*opts)
    grid = evaluate_grid(cfg, model, loader, 20, "toy")
    assert grid.refined.metadata["refinement"]["rerank"] == {"k1": 10, "k2": 6, "weight": 0.3}
    features = extract_features(model, loader, flip=True)
    small, full = (F.normalize(features.values[index]) for index in (0, 3))
    mixed = torch.cat([small[:20], full[20:]])
    expected = fastreid_results(cfg, mixed, features.pids, features.camids, 20)
    for metric in ("mAP", "mINP", "Rank-1", "Rank-5", "Rank-10"):
        assert abs(grid.refined.values[metric][0][3] - expected[metric]) < 1e-4, metric
    assert abs(grid.values["mAP"][0][3] - expected["mAP"]) > 0.1


class Singles(Dataset):
    """Images of one colour each, with labels, as FastReID's test set gives them."""

    def __len__(self):
        return 90

    def __getitem__(self, index):
        return {"images": torch.full((3, 32, 16), float(index)), "targets": index, "camids": index % 2}


class CountingLoader(DataLoader):
    """Notes how many files are open after each batch."""

    def __iter__(self):
        self.open_files = []
        for batch in super().__iter__():
            yield batch
            self.open_files.append(len(os.listdir("/proc/self/fd")))


def test_batches_leave_no_open_files_behind():
    """Labels from a loader's process are files while they live: two a batch, and 1024 may be open."""
    loader = CountingLoader(Singles(), batch_size=1, num_workers=1, collate_fn=fast_batch_collator)
    features = extract_features(tiny_model(), loader)
    assert features.pids.tolist() == list(range(90))
    assert max(loader.open_files) - min(loader.open_files) < 20  # 180 if the labels were kept
