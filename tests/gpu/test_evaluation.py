"""Grid, features and loader on a GPU against the CPU's."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from builders import images, tiny_model
from switchablecompat.evaluation.cells import rank_cells
from switchablecompat.evaluation.features import extract_features
from switchablecompat.evaluation.ranking import ProtocolMatches
from switchablecompat.evaluation.task import RetrievalTask
from switchablecompat.fastreid_shims.loading import use_cpu_loader

pytestmark = pytest.mark.gpu
WIDTHS = (0.25, 0.5, 1.0)


@pytest.mark.parametrize("integers", [True, False], ids=["ties", "distinct"])
def test_the_grid_is_the_cpus(integers, device):
    torch.backends.cuda.matmul.allow_tf32 = False
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    shape, number = (300, 32), 60
    if integers:  # products of small integers are exact on every device, and tie
        features = [torch.randint(-2, 3, shape, generator=generator).float() for _ in WIDTHS]
    else:
        features = [torch.nn.functional.normalize(torch.randn(shape, generator=generator)) for _ in WIDTHS]
    pids, camids = rng.integers(0, 12, 300), rng.integers(0, 4, 300)
    matches = ProtocolMatches(pids[:number], pids[number:], camids[:number], camids[number:])

    def cells(where):
        moved = [f.to(where) for f in features]
        return rank_cells(RetrievalTask(WIDTHS, [f[:number] for f in moved], [f[number:] for f in moved], matches))

    for row, expected in zip(cells(device), cells("cpu"), strict=True):
        for a, b in zip(row, expected, strict=True):
            for key in ("average_precision", "inverse_negative_penalty"):
                # a pair of scores that differ in the last bit may change places
                np.testing.assert_allclose(getattr(a, key), getattr(b, key), atol=0 if integers else 5e-3)
            assert a.mAP == pytest.approx(b.mAP, abs=1e-9 if integers else 0.01)


def test_features_are_the_cpus(device):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = tiny_model().eval()
    batches = [{"images": images(6), "targets": torch.arange(6), "camids": torch.arange(6)} for _ in range(2)]
    expected = extract_features(model, batches)
    found = extract_features(model.to(device), batches)
    for a, b in zip(found.values, expected.values, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-3, atol=1e-3)


class Numbers(Dataset):
    """Item i is a picture that holds i everywhere."""

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return {"images": torch.full((3, 128, 64), float(index)), "targets": index}


def test_batches_come_from_pinned_memory_and_stay_what_they_are_while_the_device_is_behind():
    from fastreid.data.build import fast_batch_collator
    from fastreid.data.data_utils import DataLoaderX

    use_cpu_loader(False)
    try:
        loader = DataLoaderX(
            0, dataset=Numbers(), batch_size=4, shuffle=False, pin_memory=True,
            collate_fn=lambda items: fast_batch_collator(
                [{"images": item["images"], "targets": torch.tensor(item["targets"])} for item in items]
            ),
        )  # fmt: skip
        sums = []
        for batch in loader:
            assert batch["images"].is_cuda
            torch.cuda._sleep(20_000_000)  # ten milliseconds: the host runs ahead, and batches are dropped meanwhile
            sums.append(batch["images"].mean(dim=(1, 2, 3)))
            del batch
        assert torch.cat(sums).tolist() == [float(index) for index in range(64)]
    finally:
        use_cpu_loader(None)
