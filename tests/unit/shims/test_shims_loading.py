"""FastReID's data pipeline through the shims: devices, errors, unreadable images, tensors of images."""

import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from fastreid.data import CommDataset, build_reid_test_loader, common, data_utils
from fastreid.data.transforms import ToTensor, functional
from PIL import Image
from torch.utils.data import DataLoader

from switchablecompat.data.check import check_images
from switchablecompat.errors import InputError
from switchablecompat.fastreid_shims import deprecations, loading
from switchablecompat.fastreid_shims.loading import (
    DeviceAwareLoader,
    ForwardingGenerator,
    RandomAffine,
    cpu_loader_in_use,
    use_cpu_loader,
)


@pytest.fixture(autouse=True)
def _default_device() -> None:
    yield
    use_cpu_loader(None)


class Copied(torch.Tensor):
    """Stands for a tensor on a GPU that remembers which streams read it."""

    is_cuda = True
    streams: list[str]

    def record_stream(self, stream: str) -> None:
        self.streams = [*getattr(self, "streams", []), stream]


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> dict:
    """FastReID's loader on a machine with a GPU: what was done to it."""
    (original,), seen = DeviceAwareLoader.__bases__, {}

    def init(self, local_rank: int, **kwargs: object) -> None:
        seen["rank"] = local_rank
        DataLoader.__init__(self, **kwargs)

    monkeypatch.setattr(original, "__init__", init)
    monkeypatch.setattr(original, "__iter__", lambda self: iter(["on the GPU"]))
    monkeypatch.setattr(original, "__next__", lambda self: seen["batch"])
    monkeypatch.setattr(original, "shutdown", lambda self: seen.update(ended=True))
    return seen


def test_the_memory_of_a_batch_is_kept_until_the_stream_that_reads_it_is_done(monkeypatch, upstream) -> None:
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "of the step")
    batch = {"images": torch.ones(2).as_subclass(Copied), "targets": torch.ones(2), "img_paths": ["a", "b"]}
    upstream["batch"] = batch
    use_cpu_loader(False)
    assert next(DeviceAwareLoader(0, dataset=[0])) is batch
    assert batch["images"].streams == ["of the step"]


@pytest.mark.parametrize("available", [True, False])
def test_loader_follows_cuda_by_default(monkeypatch: pytest.MonkeyPatch, available: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert cpu_loader_in_use() is not available


@pytest.mark.parametrize("on_cpu", [True, False])
def test_the_switch_overrides_cuda(on_cpu: bool, upstream: dict) -> None:
    use_cpu_loader(on_cpu)
    loader = DeviceAwareLoader(3, dataset=[7], pin_memory=on_cpu)
    batches = list(loader)
    loader.shutdown()
    if on_cpu:
        assert batches == [torch.tensor([7])]
        assert not loader.pin_memory
        assert upstream == {}
    else:
        assert batches == ["on the GPU"]
        assert upstream == {"rank": 3, "ended": True}


def test_a_loader_keeps_the_device_it_was_built_for() -> None:
    use_cpu_loader(True)
    loader = DeviceAwareLoader(0, dataset=[7])
    use_cpu_loader(False)
    assert list(loader) == [torch.tensor([7])]


@pytest.fixture
def background(monkeypatch: pytest.MonkeyPatch) -> type[threading.Thread]:
    """FastReID's background thread with forwarding, on a stand-in for a GPU."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda rank: None)
    assert data_utils.BackgroundGenerator is ForwardingGenerator
    return ForwardingGenerator


def failing_after(n: int):
    yield from range(n)
    raise InputError("a.jpg", "must be a readable image")


@pytest.mark.timeout(20)
def test_background_error_arrives_after_the_good_batches(background: type[threading.Thread]) -> None:
    generator = background(failing_after(2), 0)
    assert [next(generator), next(generator)] == [0, 1]
    with pytest.raises(InputError, match=r"a\.jpg"):
        next(generator)
    with pytest.raises(StopIteration):  # and not an endless wait
        next(generator)


@pytest.mark.timeout(20)
def test_background_ends_normally(background: type[threading.Thread]) -> None:
    assert list(background(iter(range(3)), 0)) == [0, 1, 2]


@pytest.mark.timeout(20)
def test_shutdown_after_an_error_does_not_raise(background: type[threading.Thread]) -> None:
    generator = background(failing_after(1), 0)
    generator.exit_event.set()
    assert list(generator) in ([], [0])  # what DataLoaderX.shutdown() does


@pytest.fixture
def truncated(tmp_path: Path) -> str:
    path = tmp_path / "0001_c1s1_truncated.jpg"
    Image.fromarray(np.random.randint(0, 255, (64, 32, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    return str(path)


@pytest.mark.parametrize("workers", [0, 1])
def test_truncated_image_is_named(truncated: str, workers: int) -> None:
    data = CommDataset([(truncated, 0, 0)], ToTensor(), relabel=False)
    loader, _ = build_reid_test_loader(test_set=data, test_batch_size=1, num_query=1, num_workers=workers)
    with pytest.raises(InputError, match="must be a readable image, found OSError: image file is trunc") as caught:
        list(loader)
    assert str(caught.value).startswith(f"{truncated}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.jpg: must be a readable image"):
        common.read_image(str(path))


def test_readable_image_is_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "x.png")
    pixels = np.random.randint(0, 255, (4, 3, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    assert np.array_equal(np.asarray(common.read_image(path)), pixels)
    monkeypatch.setattr(loading, "_read_image", lambda name, mode: (name, mode))
    assert common.read_image("a", "L") == ("a", "L")


def test_one_bit_per_pixel_is_black_and_white(tmp_path: Path) -> None:
    bits = np.array([[0, 1, 1], [1, 0, 0]], dtype=bool)
    Image.fromarray(bits).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "1"
    expected = np.repeat(bits[..., None] * np.uint8(255), 3, axis=2)
    assert np.array_equal(np.asarray(common.read_image(str(tmp_path / "x.png"))), expected)


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "CMYK"])
def test_what_would_be_misread_is_named(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.new("RGB", (4, 4), (9, 99, 200)).convert(mode).save(path)
    with pytest.raises(InputError, match=rf"{path.name}: must be an RGB or greyscale .*, found mode {mode}$"):
        common.read_image(str(path))


def test_a_decompression_bomb_is_named_before_it_is_unpacked(tmp_path: Path) -> None:
    """A few hundred bytes that claim 400 million pixels: Pillow refuses what is above twice its limit."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(InputError, match=r"bomb.png: must be a readable image, found DecompressionBombError"):
        common.read_image(str(path))
    (finding,) = check_images([str(path)])
    assert (finding.level, finding.code) == ("error", "unreadable-image")


def test_lack_of_memory_is_no_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(name: str, mode: str | None) -> None:
        raise MemoryError

    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    monkeypatch.setattr(loading, "_read_image", exhausted)
    with pytest.raises(MemoryError):
        common.read_image(str(tmp_path / "a.png"))


def test_random_affine_takes_old_and_new_names() -> None:
    image = Image.new("RGB", (8, 8), (255, 255, 255))
    old = RandomAffine(degrees=(45, 45), resample=False, fillcolor=7)
    new = RandomAffine(degrees=(45, 45), fill=7)
    assert np.array_equal(np.asarray(old(image)), np.asarray(new(image)))
    assert np.asarray(old(image)).min() == 7


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "YCbCr"])
def test_tensor_of_an_image_is_fastreids_own(mode: str) -> None:
    image = Image.fromarray(np.random.randint(0, 255, (5, 4, 3), dtype=np.uint8)).convert(mode)
    ours, upstream = functional.to_tensor(image), deprecations._to_tensor(image)
    assert torch.equal(ours, upstream)
    assert ours.dtype == torch.float32
    assert ours.stride() == upstream.stride()
    assert not np.shares_memory(ours.numpy(), np.asarray(image))


def test_tensor_of_an_array_is_upstreams_business() -> None:
    array = np.random.randint(0, 255, (5, 4, 3), dtype=np.uint8)
    assert torch.equal(functional.to_tensor(array), torch.from_numpy(array).permute(2, 0, 1).float())
