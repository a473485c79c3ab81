"""Shards of features: by several processes as by one, after interruptions as without."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gallery_builders import pooling_encoder, write_images
from switchablecompat.deploy.encoder import Encoder
from switchablecompat.deploy.features.shards import Process, extract, open_shards
from switchablecompat.deploy.image_list import items_of_paths
from switchablecompat.errors import InputError

SIZE = 3
NAMES = [f"part-{number:05d}-of-00004.parquet" for number in range(4)]


@pytest.fixture
def items(tmp_path):
    """Eleven images: three shards of three and one of two."""
    write_images(tmp_path / "images", 11)
    return items_of_paths([tmp_path / "images"])


def rows(folder):
    """All rows of all shards as one table."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))])


def assert_same_rows(one, two):
    """Everything equal, and features but for the last bit: sums depend on how memory is aligned."""
    assert one.drop_columns("feature").equals(two.drop_columns("feature"))
    features = [np.array(table["feature"].to_pylist()) for table in (one, two)]
    np.testing.assert_allclose(*features, atol=1e-6)


class Counting:
    """The pooling encoder, which counts the images that it gets."""

    def __init__(self, stop_after=None, **card):
        self.images, self.stop_after, inner = 0, stop_after, pooling_encoder(**card)

        def forward(images):
            if self.images == self.stop_after:
                raise KeyboardInterrupt
            self.images += len(images)
            return inner(images)

        self.encoder = Encoder(inner.card, forward)


def test_two_processes_write_the_rows_of_one(tmp_path, items):
    assert extract(pooling_encoder(), items, tmp_path / "one", shard_size=SIZE) == (4, 0, 0)
    counts = [Counting(), Counting()]
    for rank, counting in enumerate(counts):
        extract(counting.encoder, items, tmp_path / "two", shard_size=SIZE, process=Process(rank, 2), batch_size=2)
    assert [counting.images for counting in counts] == [6, 5]
    assert [path.name for path in sorted((tmp_path / "two").glob("*.parquet"))] == NAMES
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert_same_rows(one, two)
    assert one["id"].to_pylist() == list(range(11))
    assert one["path"].to_pylist() == [item.path for item in items]
    assert [file.num_rows for file in open_shards([tmp_path / "two"])] == [3, 3, 3, 2]


def test_after_a_kill_only_what_is_missing_is_done(tmp_path, items):
    extract(pooling_encoder(), items, tmp_path / "whole", shard_size=SIZE)
    folder = tmp_path / "shards"
    with pytest.raises(KeyboardInterrupt):
        extract(Counting(stop_after=4).encoder, items, folder, shard_size=SIZE, batch_size=1)
    assert [path.name for path in sorted(folder.glob("part*"))] == NAMES[:1]  # the second one was half done
    (folder / ".part-00001-of-00004.abc.tmp.parquet").write_bytes(b"what kill -9 leaves")
    with pytest.raises(InputError, match=f"must hold all 4 shards: start .* again, found 1, without {NAMES[1]}"):
        open_shards([folder])
    again = Counting()
    assert extract(again.encoder, items, folder, shard_size=SIZE, process=Process(0, 2)) == (1, 1, 0)
    assert extract(again.encoder, items, folder, shard_size=SIZE, process=Process(0, 1)) == (2, 2, 0)
    assert again.images == 11 - 3
    assert_same_rows(rows(folder), rows(tmp_path / "whole"))
    assert extract(again.encoder, items, folder, shard_size=SIZE) == (0, 4, 0)
    assert again.images == 11 - 3
    assert [file.path.name for file in open_shards([folder])] == NAMES


def test_a_missing_and_a_damaged_shard_are_made_again(tmp_path, items, caplog):
    folder = tmp_path / "shards"
    extract(pooling_encoder(), items, folder, shard_size=SIZE)
    before = rows(folder)
    (folder / NAMES[1]).unlink()
    (folder / NAMES[3]).write_bytes((folder / NAMES[3]).read_bytes()[:100])
    again = Counting()
    assert extract(again.encoder, items, folder, shard_size=SIZE) == (2, 2, 0)
    assert again.images == 3 + 2
    assert_same_rows(rows(folder), before)
    assert f"{NAMES[3]}: must be a whole Parquet file" in caplog.text


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("width", {"width": 0.25}),
        ("family", {"family": "sha256:2"}),
        ("shard_size", {}),
        ("first_id", {}),
        ("images", {}),
    ],
)
def test_a_folder_takes_one_extraction(tmp_path, items, key, change):
    folder = tmp_path / "shards"
    extract(pooling_encoder(), items, folder, shard_size=SIZE)
    before = rows(folder)
    other = [*items[:-1], items[-1]._replace(path="elsewhere.png")]
    with pytest.raises(InputError, match=f"shards: holds an extraction of another {key}, .*; choose a new folder"):
        extract(
            pooling_encoder(**change),
            other if key == "images" else items,
            folder,
            shard_size=4 if key == "shard_size" else SIZE,
            first_id=1 if key == "first_id" else 0,
        )
    assert rows(folder).equals(before)


def test_a_shard_of_another_extraction_is_not_taken_for_done(tmp_path, items):
    for name, family in (("a", "sha256:1"), ("b", "sha256:2")):
        extract(pooling_encoder(family=family), items, tmp_path / name, shard_size=SIZE)
    (tmp_path / "b" / NAMES[2]).write_bytes((tmp_path / "a" / NAMES[2]).read_bytes())
    with pytest.raises(InputError, match=f"{NAMES[2]}: must be a shard of this extraction, sha256:.*, found sha256:"):
        extract(pooling_encoder(family="sha256:2"), items, tmp_path / "b", shard_size=SIZE)


def test_galleries_extracted_apart_are_joined_by_their_ids(tmp_path, items):
    extract(pooling_encoder(), items[:5], tmp_path / "a", shard_size=SIZE)
    extract(pooling_encoder(), items[5:], tmp_path / "b", shard_size=SIZE, first_id=5)
    ids = [number for file in open_shards([tmp_path / "a", tmp_path / "b"]) for number in file.ids().tolist()]
    assert ids == list(range(11))


def test_unreadable_images_leave_gaps_in_the_ids(tmp_path, items):
    for number in (1, 9, 10):
        (tmp_path / "images" / f"{number:03d}.png").write_bytes(b"no picture")
    extract(pooling_encoder(), items, tmp_path / "shards", shard_size=SIZE, skip_unreadable=True)
    assert rows(tmp_path / "shards")["id"].to_pylist() == [0, 2, 3, 4, 5, 6, 7, 8]
    assert [file.num_rows for file in open_shards([tmp_path / "shards"])] == [2, 3, 3, 0]


def test_skipped_images_are_tried_again(tmp_path, items, caplog):
    folder, broken = tmp_path / "shards", {number: Path(items[number].path) for number in (1, 9, 10)}
    whole = {number: path.read_bytes() for number, path in broken.items()}
    times = {number: path.stat() for number, path in broken.items()}

    def repair(number):
        """A file that could not be read for a while: with the size and the times that it had then."""
        status = broken[number].stat()
        broken[number].write_bytes(whole[number])
        os.utime(broken[number], ns=(status.st_atime_ns, status.st_mtime_ns))

    for number, path in broken.items():
        path.write_bytes(bytes(len(whole[number])))
        os.utime(path, ns=(times[number].st_atime_ns, times[number].st_mtime_ns))
    assert extract(pooling_encoder(), items, folder, shard_size=SIZE, skip_unreadable=True) == (4, 0, 3)
    again = Counting()
    assert extract(again.encoder, items, folder, shard_size=SIZE, skip_unreadable=True) == (0, 4, 3)
    assert again.images == 0
    with pytest.raises(InputError, match="001.png: must be a readable image"):
        extract(again.encoder, items, folder, shard_size=SIZE)
    repair(10)
    assert extract(again.encoder, items, folder, shard_size=SIZE, skip_unreadable=True) == (1, 3, 2)
    assert f"made again: {folder / NAMES[3]}: it lacks 2 images that could not be read" in caplog.text
    assert rows(folder)["id"].to_pylist() == [0, 2, 3, 4, 5, 6, 7, 8, 10]
    repair(1)
    repair(9)
    assert extract(again.encoder, items, folder, shard_size=SIZE) == (2, 2, 0)
    fresh = tmp_path / "fresh"
    extract(pooling_encoder(), items, fresh, shard_size=SIZE)
    assert_same_rows(rows(folder), rows(fresh))


@pytest.mark.parametrize("name", ["none", "empty"])
def test_folders_without_shards_are_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"{name}: must"):
        open_shards([tmp_path / name])


def test_a_damaged_description_is_refused(tmp_path, items):
    extract(pooling_encoder(), items, tmp_path / "shards", shard_size=SIZE)
    path = tmp_path / "shards" / "extract.json"
    for text in ("{", "[]", json.dumps({"num_images": "many", "shard_size": 3})):
        path.write_text(text)
        with pytest.raises(InputError, match="extract.json: must be what the command extract wrote"):
            open_shards([tmp_path / "shards"])


def test_torchrun_says_which_process_this_is():
    assert Process.from_environment({}) == Process(0, 1)
    assert Process.from_environment({"RANK": "2", "WORLD_SIZE": "8"}) == Process(2, 8)
    for rank, size in (("2", "2"), ("-1", "2"), ("x", "2"), ("0", "")):
        with pytest.raises(InputError, match="RANK, WORLD_SIZE: must be"):
            Process.from_environment({"RANK": rank, "WORLD_SIZE": size})


@pytest.mark.parametrize("how", ["another picture", "another time", "another size", "taken away and put back"])
def test_a_picture_that_changed_under_its_name_gets_its_new_feature(tmp_path, items, how, caplog):
    folder = tmp_path / "shards"
    extract(pooling_encoder(), items, folder, shard_size=SIZE)
    path = Path(items[4].path)  # in the second shard
    if how == "another picture":
        Image.new("RGB", (4, 8), (255, 0, 0)).save(path)
    elif how == "another time":
        os.utime(path, (0, 0))
    elif how == "another size":
        status = path.stat()
        path.write_bytes(path.read_bytes() + b"x")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        Image.open(items[0].path).save(path.with_suffix(".bmp"))
        path.unlink()
        path.with_suffix(".bmp").rename(path)
    again = Counting()
    assert extract(again.encoder, items, folder, shard_size=SIZE) == (1, 3, 0)
    assert again.images == SIZE
    assert f"made again: {folder / NAMES[1]}: its images have been written since" in caplog.text
    fresh = tmp_path / "fresh"
    extract(pooling_encoder(), items, fresh, shard_size=SIZE)
    assert_same_rows(rows(folder), rows(fresh))
    assert extract(again.encoder, items, folder, shard_size=SIZE) == (0, 4, 0)


def test_a_picture_that_changes_while_it_is_read_is_noticed_the_next_time(tmp_path, items):
    folder = tmp_path / "shards"
    plain = pooling_encoder()

    def forward(images):
        Image.new("RGB", (4, 8), (255, 0, 0)).save(items[0].path)
        return plain(images)

    extract(Encoder(plain.card, forward), items[:3], folder, shard_size=SIZE)
    assert extract(plain, items[:3], folder, shard_size=SIZE) == (1, 0, 0)
