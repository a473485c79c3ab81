"""Images to features, in order, whatever is read in the meantime."""

import numpy as np
import pytest
from PIL import Image

from gallery_builders import pooled_by_hand, pooling_encoder, write_images
from switchablecompat.deploy.encoder import encode
from switchablecompat.deploy.image_list import LabelledImage, items_of_dataset, items_of_paths
from switchablecompat.errors import InputError


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 2), (64, 4)])
def test_every_image_once_and_in_order(tmp_path, batch_size, workers):
    paths = write_images(tmp_path, 10)
    batches = list(encode(pooling_encoder(), items_of_paths([tmp_path]), batch_size=batch_size, workers=workers))
    assert [position for batch in batches for position in batch.positions] == list(range(10))
    assert [item.path for batch in batches for item in batch.items] == [str(path) for path in paths]
    features = np.concatenate([batch.features for batch in batches])
    np.testing.assert_allclose(features, [pooled_by_hand(path) for path in paths], atol=1e-5)
    assert max(len(batch.items) for batch in batches) <= batch_size


def test_an_unreadable_image_ends_it_or_is_left_out_with_a_warning(tmp_path, caplog):
    paths = write_images(tmp_path, 9)
    for number in (3, 4, 5, 8):
        paths[number].write_bytes(b"no picture")
    items = items_of_paths([tmp_path])
    with pytest.raises(InputError, match="003.png: must be a readable image"):
        list(encode(pooling_encoder(), items, batch_size=3))
    batches = list(encode(pooling_encoder(), items, batch_size=3, skip_unreadable=True))
    assert [batch.positions for batch in batches] == [[0, 1, 2], [6, 7]]
    np.testing.assert_allclose(batches[1].features[1], pooled_by_hand(paths[7]), atol=1e-5)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["left out"] * 4


def test_files_stand_as_given_and_folders_by_name(tmp_path):
    write_images(tmp_path / "b", 2)
    write_images(tmp_path / "a" / "deep", 1)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (single,) = write_images(tmp_path / "single", 1)
    items = items_of_paths([single, tmp_path / "b", tmp_path / "a"])
    names = ["single/000.png", "b/000.png", "b/001.png", "a/deep/000.png"]
    assert items == [LabelledImage(str(tmp_path / name)) for name in names]


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_no_images_are_refused_by_name(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"{name}: must"):
        items_of_paths([tmp_path / name])


def test_identities_of_a_data_set_carry_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    files = {"query": ["0002_c1s1_0"], "bounding_box_test": ["0002_c3s1_0", "0007_c1s1_0"], "bounding_box_train": []}
    for name, stems in files.items():
        folder = tmp_path / "Market-1501-v15.09.15" / name
        folder.mkdir(parents=True)
        for stem in stems:
            (folder / f"{stem}.jpg").touch()
    items = items_of_dataset("Market1501", "gallery")
    assert {(item.pid, item.camid) for item in items} == {("Market1501_2", "2"), ("Market1501_7", "0")}
    assert [item.pid for item in items_of_dataset("Market1501", "query")] == ["Market1501_2"]


def test_a_manifests_names_are_kept(tmp_path):
    Image.new("RGB", (4, 8)).save(tmp_path / "1.png")
    Image.new("RGB", (4, 8)).save(tmp_path / "2.png")
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,pid,camid,split\n1.png,zoe,till,query\n2.png,anna,door,gallery\n")
    assert items_of_dataset("ManifestReID", "query", str(manifest)) == [
        LabelledImage(str(tmp_path / "1.png"), "zoe", "till")
    ]
    assert items_of_dataset("ManifestReID", "gallery", str(manifest)) == [
        LabelledImage(str(tmp_path / "2.png"), "anna", "door")
    ]
    manifest.write_text("path,pid,camid,split\n1.png,zoe,till,query\n")
    with pytest.raises(InputError, match="data set ManifestReID: must have images in the split gallery, found none"):
        items_of_dataset("ManifestReID", "gallery", str(manifest))
