"""Galleries: FAISS against NumPy, shards against one file, and what is refused."""

import json

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

from gallery_builders import (
    CARD,
    pooled_by_hand,
    pooling_encoder,
    some_items,
    unit_features,
    write_images,
    write_shard,
)
from switchablecompat.deploy.card import ModelCard
from switchablecompat.deploy.features import feature_file
from switchablecompat.deploy.features.feature_file import FeatureFile
from switchablecompat.deploy.gallery.faiss_build import build_from_images, build_from_shards, sample_features
from switchablecompat.deploy.gallery.faiss_gallery import Gallery
from switchablecompat.deploy.gallery.faiss_index import check_factory, create_index, sample_size
from switchablecompat.deploy.gallery.search import check_top
from switchablecompat.deploy.image_list import LabelledImage, items_of_paths
from switchablecompat.errors import InputError


@pytest.fixture
def shards(tmp_path):
    """300 features in three shards of different size."""
    features = unit_features(300)
    items = some_items(300)
    parts = [slice(0, 100), slice(100, 250), slice(250, 300)]
    return [
        FeatureFile(write_shard(tmp_path / f"{i}.parquet", features[p], p.start + 1000, items[p]))
        for i, p in enumerate(parts)
    ]


def numpy_ranking(queries, features, top):
    scores = queries.astype(np.float64) @ features.astype(np.float64).T
    rows = np.argsort(-scores, axis=1)[:, :top]
    return np.take_along_axis(scores, rows, axis=1), rows


def test_flat_is_numpys_ranking_and_rows_lead_to_items(tmp_path, shards, monkeypatch):
    monkeypatch.setattr(feature_file, "GROUP_ROWS", 64)  # several groups of rows, to be looked up in
    card = build_from_shards(shards, tmp_path / "gallery", "Flat", "here")
    gallery = Gallery.open(tmp_path / "gallery")
    queries = unit_features(9, seed=1)
    scores, rows = gallery.search(queries, 20)
    expected = numpy_ranking(queries, unit_features(300), 20)
    assert np.array_equal(rows, expected[1])
    np.testing.assert_allclose(scores, expected[0], atol=1e-6)  # float32 sums of 24 products
    assert (len(gallery), card["num_items"], card["factory"], card["source"]) == (300, 300, "Flat", "here")
    assert ModelCard.from_dict(card["model"]) == gallery.card == CARD
    items = gallery.items(rows)
    assert items == {row: (row + 1000, some_items(300)[row]) for row in np.unique(rows).tolist()}
    pids, camids = gallery.labels()
    assert pids.tolist() == [item.pid for item in some_items(300)]
    assert camids.tolist() == [item.camid for item in some_items(300)]


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "PCA12,IVF4,PQ4x4"])
def test_shards_make_the_index_of_one_file(tmp_path, shards, factory):
    whole = FeatureFile(write_shard(tmp_path / "whole.parquet", unit_features(300), 1000, some_items(300)))
    for name, files in (("shards", shards), ("one", [whole])):
        build_from_shards(files, tmp_path / name, factory, name)
    a, b = ((tmp_path / name / "index.faiss").read_bytes() for name in ("shards", "one"))
    assert a == b
    items = [pq.read_table(tmp_path / name / "items.parquet") for name in ("shards", "one")]
    assert items[0].equals(items[1])
    assert "feature" not in items[0].column_names


def test_inverted_lists_visited_all_find_what_flat_finds(tmp_path, shards):
    build_from_shards(shards, tmp_path / "gallery", "IVF9,Flat", "")
    queries = unit_features(5, seed=1)
    expected = numpy_ranking(queries, unit_features(300), 10)[1]
    assert np.array_equal(Gallery.open(tmp_path / "gallery", "nprobe=9").search(queries, 10)[1], expected)
    gallery = Gallery.open(tmp_path / "gallery")
    assert gallery.description["parameters"] == "nprobe=3"
    assert faiss.extract_index_ivf(gallery.index).nprobe == 3
    assert not np.array_equal(gallery.search(queries, 10)[1], expected)


def test_a_gallery_of_images_holds_their_features(tmp_path):
    paths = write_images(tmp_path / "images", 10)
    items = items_of_paths([tmp_path / "images"])
    build_from_images(pooling_encoder(width=0.25), items, tmp_path / "gallery", "Flat", "", batch_size=3)
    table = pq.read_table(tmp_path / "gallery" / "items.parquet")
    expected = np.array([pooled_by_hand(path) for path in paths])
    np.testing.assert_allclose(np.array(table["feature"].to_pylist()), expected, atol=1e-5)
    assert table["path"].to_pylist() == [str(path) for path in paths]
    gallery = Gallery.open(tmp_path / "gallery")
    assert gallery.card.width == 0.25
    assert gallery.labels() is None
    scores, rows = gallery.search(expected, 1)
    assert rows[:, 0].tolist() == list(range(10))
    np.testing.assert_allclose(scores, 1, atol=1e-5)


def test_a_sample_has_the_asked_size_and_comes_from_everywhere(shards):
    everything = unit_features(300)
    sample = sample_features(shards, 60)
    rows = [int(np.flatnonzero((everything == vector).all(axis=1))[0]) for vector in sample]
    assert len({*rows}) == 60
    assert [sum(start <= row < stop for row in rows) for start, stop in ((0, 100), (100, 250), (250, 300))] == [
        20,
        30,
        10,
    ]
    assert np.array_equal(sample_features(shards, 1000), everything)


def test_an_index_with_many_lists_gets_a_larger_sample():
    assert sample_size(create_index(24, "IVF64,Flat")) == 65536
    assert sample_size(create_index(24, "PCA12,IVF4096,PQ4")) == 64 * 4096


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nonsense", "--factory: must be an index of FAISS for inner products in 24 dimensions, found could not parse"),
        ("PQ7", "--factory: must be an index of FAISS for inner products in 24 dimensions, found The dimension of"),
        ("LSH", "--factory: must be an index of FAISS for inner products in 24 dimensions, found"),
        ("IVF512,Flat", "--factory: IVF512,Flat must suit a gallery of 300 features, found Number of training points"),
        ("IDMap,Flat", "--factory: IDMap,Flat must suit a gallery of 300 features, found"),
    ],
)
def test_an_index_that_does_not_suit_is_one_line_and_leaves_nothing(tmp_path, shards, factory, message):
    with pytest.raises(InputError) as error:
        build_from_shards(shards, tmp_path / "out" / "gallery", factory, "")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_only_a_gallery_is_replaced(tmp_path, shards):
    build_from_shards(shards, tmp_path / "gallery", "HNSW8", "")
    build_from_shards(shards[:1], tmp_path / "gallery", "Flat", "")
    assert len(Gallery.open(tmp_path / "gallery")) == 100
    (tmp_path / "gallery" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="gallery: must be new, or the folder of a gallery that may be replaced"):
        build_from_shards(shards, tmp_path / "gallery", "Flat", "")
    assert len(Gallery.open(tmp_path / "gallery")) == 100


def test_an_unreadable_image_leaves_no_gallery(tmp_path):
    paths = write_images(tmp_path / "images", 5)
    paths[3].write_bytes(b"no picture")
    items = items_of_paths([tmp_path / "images"])
    with pytest.raises(InputError, match="003.png: must be a readable image"):
        build_from_images(pooling_encoder(), items, tmp_path / "gallery", "Flat", "")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def truncate(folder):
    path = folder / "index.faiss"
    path.write_bytes(path.read_bytes()[:-10])


def exchange(folder):
    path = folder / "index.faiss"
    path.write_bytes(bytes(path.stat().st_size))


def shorten_items(folder):
    table = pq.read_table(folder / "items.parquet")
    pq.write_table(table.slice(0, 200), folder / "items.parquet")


def edit(**change):
    def damage(folder):
        content = {**json.loads((folder / "index.json").read_text()), **change}
        (folder / "index.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "index.faiss: must be a FAISS index of 28845 bytes, found 28835"),
        (exchange, "index.faiss: must be a FAISS index, found"),
        (
            lambda folder: (folder / "index.faiss").unlink(),
            "index.faiss: must be a FAISS index of 28845 bytes, found no",
        ),
        (shorten_items, "items.parquet: must have the 300 items of index.json, found 200"),
        (lambda folder: (folder / "items.parquet").unlink(), "items.parquet: must be a whole Parquet file, found"),
        (lambda folder: (folder / "index.json").unlink(), "index.json: must be the readable card of a gallery"),
        (
            lambda folder: (folder / "index.json").write_text("[]"),
            "index.json: must be the readable card of a gallery, found list",
        ),
        (edit(format=2), "index.json: format: must be 1, found 2"),
        (edit(num_items=None), "index.json: num_items: must be given"),
        (
            edit(model={**CARD.to_dict(), "dimension": 25}),
            "index.faiss: must have the dimension of index.json, 25, fou",
        ),
    ],
)
def test_a_damaged_gallery_is_one_line(tmp_path, shards, damage, message):
    build_from_shards(shards, tmp_path / "gallery", "Flat", "")
    damage(tmp_path / "gallery")
    with pytest.raises(InputError) as error:
        Gallery.open(tmp_path / "gallery")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_more_items_than_there_are_and_unknown_parameters_are_refused(tmp_path, shards):
    build_from_shards(shards, tmp_path / "gallery", "Flat", "")
    gallery = Gallery.open(tmp_path / "gallery")
    for top in (0, 301):
        with pytest.raises(InputError, match=f"must be from 1 to the 300 of the gallery, found {top}"):
            check_top(gallery, top)
    with pytest.raises(InputError, match="--parameters: must be NAME=VALUE that this index has, not nprobe=3"):
        Gallery.open(tmp_path / "gallery", "nprobe=3")


def test_a_gallery_without_images_is_refused(tmp_path):
    file = FeatureFile(write_shard(tmp_path / "none.parquet", unit_features(0)))
    with pytest.raises(InputError, match="gallery: must have at least one image, found 0"):
        build_from_shards([file], tmp_path / "gallery", "Flat", "")


def test_an_unlabelled_image_makes_an_unlabelled_gallery(tmp_path):
    items = [*some_items(4), LabelledImage("x.jpg", "p0", None)]
    build_from_shards(
        [FeatureFile(write_shard(tmp_path / "f.parquet", unit_features(5), 0, items))], tmp_path / "g", "Flat", ""
    )
    assert Gallery.open(tmp_path / "g").labels() is None


def test_a_disk_that_is_full_before_the_index_is_written_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")  # not on Windows
    shard = write_shard(tmp_path / "shards" / "a.parquet", unit_features(2000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the index has 192 kB, its items less than half
    try:
        with pytest.raises(InputError, match="^--output: must be a folder that can be written, found "):
            build_from_shards([FeatureFile(shard)], tmp_path / "gallery", "Flat", "shards")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("IVF16,ITQ,SH", "it compares by another metric than the inner product"),  # FAISS takes it, and ranks by L2
        ("HNSW16_PQ4", "it compares by another metric than the inner product"),
        ("ZnLattice2x10_4", "it compares by another metric"),
        ("HNSW0", "it ends FAISS's process (signal 6)"),
        ("HNSW1,Flat", "it ends FAISS's process (signal 11)"),
        ("NSG16", "NSG does not support incremental addition (when it is filled)"),
        ("RCQ2x4", "not applicable (when it is filled)"),
        ("PCA64,Flat", "PCA matrix cannot output"),
        ("SQ8_direct", "of the features themselves among the first 100"),
    ],
)
def test_what_faiss_takes_and_cannot_search_is_one_line_before_anything_is_encoded(tmp_path, factory, reason):
    class Untouched:
        card = CARD

    items = some_items(5000)  # none of these files is there: reading one would be another error
    with pytest.raises(InputError) as error:
        build_from_images(Untouched(), items, tmp_path / "gallery", factory, "")
    assert str(error.value).startswith(f"--factory: {factory} must suit a gallery of 5000 features, found ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "factory", ["HNSW16", "IVF65536_HNSW8,SQ8", "PCA12,IVF1024,PQ4x4", "RR12,Flat", "SQ4", "PQ4,RFlat"]
)
def test_what_can_be_searched_is_let_through(factory):
    check_factory(24, factory, 10**9)
