"""Images are read as FastReID's own test loader reads them."""

import numpy as np
import pytest
import torch
from PIL import Image

from builders import tiny_config
from switchablecompat.data.opening import open_dataset
from switchablecompat.deploy.image_list import list_images
from switchablecompat.deploy.images import input_size, read_images
from switchablecompat.engine import SwitchableTrainer
from switchablecompat.errors import InputError
from switchablecompat.fastreid_shims.loading import use_cpu_loader
from switchablecompat.settings import preprocessing_of


@pytest.mark.parametrize("crop", [False, True])
def test_the_same_pixels_as_fastreids_test_loader(crop, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    crop_keys = ("INPUT.CROP.ENABLED", "True", "INPUT.CROP.SIZE", "[40, 24]") if crop else ()
    cfg = tiny_config("INPUT.SIZE_TEST", "[48, 40]", *crop_keys)
    use_cpu_loader(True)
    try:
        loader, _ = SwitchableTrainer.build_test_loader(cfg, "SyntheticReIDTiny")
        (first, *_) = loader
    finally:
        use_cpu_loader(None)
    _, splits = open_dataset("SyntheticReIDTiny", str(tmp_path), "")
    paths = [item[0] for item in (*splits["query"], *splits["gallery"])][: len(first["images"])]
    preprocessing = preprocessing_of(cfg)
    images = read_images(paths, preprocessing)
    assert torch.equal(images, first["images"])
    assert images.shape[2:] == input_size(preprocessing) == ((40, 24) if crop else (48, 40))
    assert images.dtype == torch.float32
    assert images.max() > 1.5  # 0-255


def test_a_picture_of_the_right_size_is_its_own_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    colour, grey = read_images([tmp_path / "a.png", tmp_path / "grey.png"], {"size": [64, 32]})
    assert np.array_equal(colour.permute(1, 2, 0).numpy(), pixels)
    assert np.array_equal(grey.permute(1, 2, 0).numpy(), np.repeat(pixels[..., :1], 3, axis=2))


def test_what_is_no_rgb_picture_is_refused_by_name(tmp_path):
    Image.new("RGBA", (4, 4)).save(tmp_path / "alpha.png")
    (tmp_path / "broken.png").write_bytes(b"PNG")
    for name, rule in (
        ("alpha.png", "must be an RGB or greyscale image; convert it, found mode RGBA"),
        ("broken.png", "must be a readable"),
    ):
        with pytest.raises(InputError, match=f"{name}: {rule}"):
            read_images([tmp_path / name], {"size": [8, 8]})


def test_images_of_a_folder(tmp_path):
    for name in ("b/2.PNG", "a/1.jpg", "a/notes.txt", "0.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in list_images(tmp_path)] == ["0.jpeg", "a/1.jpg", "b/2.PNG"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: must hold images"):
        list_images(tmp_path / "empty")
    with pytest.raises(InputError, match="none: must be an existing folder"):
        list_images(tmp_path / "none")
