"""Recall against exact ranking, and the features that are generated to try it."""

import numpy as np
import pytest

from gallery_builders import unit_features, write_shard
from switchablecompat.deploy.features.feature_file import FeatureFile
from switchablecompat.deploy.features.generated import IMAGES_PER_IDENTITY, write_generated
from switchablecompat.deploy.features.shards import open_shards
from switchablecompat.deploy.gallery.faiss_build import build_from_shards
from switchablecompat.deploy.gallery.faiss_gallery import Gallery
from switchablecompat.deploy.gallery.scoring import exact_neighbours, recall


def test_exact_neighbours_over_files_are_numpys(tmp_path):
    features, queries = unit_features(130), unit_features(7, seed=1)
    for number, part in enumerate((slice(0, 4), slice(4, 5), slice(5, 130))):  # files shorter than the list, too
        write_shard(tmp_path / f"{number}.parquet", features[part], part.start)
    expected = np.argsort(-(queries.astype(np.float64) @ features.T.astype(np.float64)), axis=1)[:, :10]
    assert np.array_equal(exact_neighbours(open_shards([tmp_path]), queries, 10), expected)


def test_recall_is_the_share_that_is_found(tmp_path):
    features = np.eye(8, dtype=np.float32)
    build_from_shards([FeatureFile(write_shard(tmp_path / "f.parquet", features))], tmp_path / "g", "Flat", "")
    queries = features[:2] * 0.9 + features[[1, 2]] * 0.1
    gallery = Gallery.open(tmp_path / "g")
    assert recall(gallery, queries, np.array([[0, 1], [1, 2]])) == 100
    assert recall(gallery, queries, np.array([[1, 0], [2, 5]])) == pytest.approx(75)
    assert recall(gallery, queries, np.array([[6, 7], [6, 7]])) == 0


def test_generated_queries_have_their_identity_in_the_gallery(tmp_path):
    write_generated(tmp_path / "gallery", 500, 16)
    write_generated(tmp_path / "queries", 20, 16, queries=True)
    files, queries = open_shards([tmp_path / "gallery"]), open_shards([tmp_path / "queries"])
    assert (sum(file.num_rows for file in files), queries[0].num_rows) == (500, 20)
    values = np.concatenate([queries[0].features(block) for block in queries[0].blocks()])  # of length one, or refused
    nearest = exact_neighbours(files, values, 1)[:, 0]
    assert (nearest // IMAGES_PER_IDENTITY == np.arange(20)).mean() > 0.8
    assert len({file.card.family for file in (*files, *queries)}) == 1
    assert files[0].card.family.startswith("generated")
