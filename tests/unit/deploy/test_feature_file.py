"""Feature files: what plain pyarrow reads in them, and what is refused."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gallery_builders import CARD, PREPROCESSING, some_items, unit_features, write_shard
from switchablecompat.deploy.card import ModelCard
from switchablecompat.deploy.features.feature_file import (
    GROUP_ROWS,
    FeatureFile,
    check_shards,
    feature_schema,
    parquet_writer,
    record_batch,
)
from switchablecompat.deploy.image_list import LabelledImage
from switchablecompat.errors import InputError


def test_plain_pyarrow_reads_the_documented_columns(tmp_path):
    features = unit_features(3)
    items = [
        LabelledImage("a/1.jpg", "anna", "door"),
        LabelledImage("a/2.jpg"),
        LabelledImage("b/ü.jpg", "bert", "till"),
    ]
    table = pq.read_table(write_shard(tmp_path / "f.parquet", features, 7, items, width=0.25))
    assert table.schema.remove_metadata() == pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            ("pid", pa.string()),
            ("camid", pa.string()),
            pa.field("width", pa.float64(), nullable=False),
            pa.field("family", pa.string(), nullable=False),
            pa.field("feature", pa.list_(pa.float32(), 24), nullable=False),
        ]
    )
    assert table["id"].to_pylist() == [7, 8, 9]
    assert table["path"].to_pylist() == ["a/1.jpg", "a/2.jpg", "b/ü.jpg"]
    assert table["pid"].to_pylist() == ["anna", None, "bert"]
    assert table["camid"].to_pylist() == ["door", None, "till"]
    assert table["width"].to_pylist() == [0.25] * 3
    assert table["family"].to_pylist() == ["sha256:1"] * 3
    assert np.array_equal(np.array(table["feature"].to_pylist(), dtype=np.float32), features)
    metadata = {key: value for key, value in table.schema.metadata.items() if not key.startswith(b"ARROW")}
    assert (metadata[b"family"], metadata[b"width"]) == (b"sha256:1", b"0.25")
    card = dataclasses.replace(CARD, width=0.25)
    assert ModelCard.from_dict(json.loads(metadata[b"model_card"])) == card


def test_rows_come_back_in_order_and_in_groups_worth_reading(tmp_path):
    features = unit_features(2 * GROUP_ROWS + 5, dimension=2)
    card = dataclasses.replace(CARD, dimension=2)
    schema = feature_schema(card)
    with parquet_writer(tmp_path / "f.parquet", schema) as write:
        for start in range(0, len(features), 1000):  # as an encoder's batches come
            part = features[start : start + 1000]
            write(record_batch(schema, card, range(start, start + len(part)), some_items(len(part)), part))
    file = FeatureFile(tmp_path / "f.parquet")
    assert np.array_equal(np.concatenate([file.features(block) for block in file.blocks()]), features)
    assert np.array_equal(file.ids(), np.arange(len(features)))
    metadata = pq.read_metadata(file.path)
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert max(sizes) <= GROUP_ROWS
    assert len(sizes) <= 6  # not one for each batch of 1000


def test_an_interrupted_file_never_has_its_name(tmp_path):
    schema = feature_schema(CARD)

    def interrupted():
        with parquet_writer(tmp_path / "f.parquet", schema) as write:
            write(record_batch(schema, CARD, range(2), some_items(2), unit_features(2)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_a_truncated_file_is_refused_by_name(tmp_path, keep):
    path = write_shard(tmp_path / "f.parquet", unit_features(50))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="f.parquet: must be a whole Parquet file, found"):
        FeatureFile(path)


def test_another_parquet_file_is_refused(tmp_path):
    path = write_shard(tmp_path / "f.parquet", unit_features(2))
    table = pq.read_table(path)
    pq.write_table(table.drop_columns("camid"), path)
    with pytest.raises(InputError, match=r"must have the columns .*camid \(string\), .*, found id \(int64\), path"):
        FeatureFile(path)
    for metadata, rule in (({}, "have a model card in its schema's metadata"), ({"model_card": "{"}, "be a readable")):
        pq.write_table(table.replace_schema_metadata(metadata), path)
        with pytest.raises(InputError, match=f"f.parquet: must {rule}"):
            FeatureFile(path)


@pytest.mark.parametrize(("value", "found"), [(np.nan, "nan"), (0.9, "0.9"), (2.0, "2")])
def test_features_that_are_not_of_length_one_are_refused(tmp_path, value, found):
    features = np.eye(24, dtype=np.float32)
    features[5, 5] = value
    file = FeatureFile(write_shard(tmp_path / "f.parquet", features, first_id=100))
    with pytest.raises(InputError, match=f"f.parquet: the feature of id 105 must have length one, found {found}$"):
        [file.features(block) for block in file.blocks()]


@pytest.mark.parametrize(("column", "value"), [("family", "sha256:2"), ("width", 0.5)])
def test_a_row_of_another_sub_model_is_refused(tmp_path, column, value):
    path = write_shard(tmp_path / "f.parquet", unit_features(4))
    table = pq.read_table(path)
    at = table.schema.get_field_index(column)
    values = table[column].to_pylist()
    values[2] = value
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(values)), path)
    with pytest.raises(InputError, match=f"must have one {column} in all rows, .*, found {value}"):
        list(FeatureFile(path).blocks())


@pytest.mark.parametrize(
    ("key", "change", "values"),
    [
        ("family", {"family": "sha256:2"}, ("sha256:1", "sha256:2")),
        ("width", {"width": 0.25}, ("1.0", "0.25")),
        ("preprocessing.size", {"preprocessing": {**PREPROCESSING, "size": [16, 8]}}, ("[8, 4]", "[16, 8]")),
        ("metric", {"metric": "euclidean"}, ("cosine", "euclidean")),
    ],
)
def test_shards_of_two_sub_models_are_refused_with_both_values(tmp_path, key, change, values):
    files = [
        FeatureFile(write_shard(tmp_path / "a.parquet", unit_features(2))),
        FeatureFile(write_shard(tmp_path / "b.parquet", unit_features(2), first_id=2, **change)),
    ]
    with pytest.raises(InputError) as error:
        check_shards(files)
    assert str(error.value).startswith(f"{key}: must be the same")
    for value, name in zip(values, ("a.parquet", "b.parquet"), strict=True):
        assert value in str(error.value)
        assert name in str(error.value)


def test_shards_of_two_dimensions_are_refused_with_both_values(tmp_path):
    files = [
        FeatureFile(write_shard(tmp_path / "a.parquet", unit_features(2))),
        FeatureFile(write_shard(tmp_path / "b.parquet", unit_features(2, dimension=12), first_id=2)),
    ]
    with pytest.raises(InputError, match="dimension: must be the same .* 24 in .*a.parquet and 12 in .*b.parquet"):
        check_shards(files)


def test_an_id_that_occurs_twice_is_refused_with_its_files(tmp_path):
    files = [
        FeatureFile(write_shard(tmp_path / f"{name}.parquet", unit_features(4), first_id=first))
        for name, first in (("a", 0), ("b", 10), ("c", 3))
    ]
    check_shards(files[:2])
    with pytest.raises(InputError, match="id: must occur once in a gallery, found 3 twice, in .*a.parquet and .*c.par"):
        check_shards(files)
