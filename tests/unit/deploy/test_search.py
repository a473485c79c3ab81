"""What queries find, whether it is right, and which queries are shown."""

import numpy as np
import pytest
import torch

from gallery_builders import some_items, unit_features, write_shard
from switchablecompat.deploy.features.feature_file import FeatureFile
from switchablecompat.deploy.gallery.faiss_build import build_from_shards
from switchablecompat.deploy.gallery.faiss_gallery import Gallery
from switchablecompat.deploy.gallery.search import Search, find, match_of, measure
from switchablecompat.deploy.image_list import LabelledImage
from switchablecompat.errors import InputError
from switchablecompat.evaluation.ranking import rank_queries


@pytest.fixture
def gallery(tmp_path):
    """Sixty labelled items with ids from 500."""
    build_from_shards(
        [FeatureFile(write_shard(tmp_path / "f.parquet", unit_features(60), 500))], tmp_path / "g", "Flat", ""
    )
    return Gallery.open(tmp_path / "g")


@pytest.mark.parametrize(
    ("pid", "camid", "match"),
    [("p1", "c2", "hit"), ("p1", "c1", "junk"), ("p2", "c1", "miss"), ("p1", None, "hit"), (None, "c1", None)],
)
def test_what_counts_as_a_match(pid, camid, match):
    assert match_of(LabelledImage("q", "p1", "c1"), LabelledImage("g", pid, camid)) == match
    assert match_of(LabelledImage("q"), LabelledImage("g", pid, camid)) is None


def test_hits_name_the_nearest_items(gallery):
    features, queries = unit_features(60), [LabelledImage("q1", "p0", "c0"), LabelledImage("q2")]
    found = find(gallery, queries, features[[12, 30]], 3)
    scores = features[[12, 30]] @ features.T
    for row, hits in enumerate(found):
        nearest = np.argsort(-scores[row])[:3]
        assert [hit.rank for hit in hits] == [1, 2, 3]
        assert [hit.id for hit in hits] == [500 + i for i in nearest]
        assert [hit.item for hit in hits] == [some_items(60)[i] for i in nearest]
        np.testing.assert_allclose([hit.score for hit in hits], scores[row, nearest], atol=1e-6)
    assert found[0][0].match == "junk"  # item 12 is p0 under c0 itself
    assert {hit.match for hit in found[1]} == {None}
    assert found[0][0].to_dict() == {
        "rank": 1, "id": 512, "path": "images/12.jpg", "pid": "p0", "camid": "c0",
        "score": found[0][0].score, "match": "junk",
    }  # fmt: skip


def test_flat_gives_the_metrics_of_exact_ranking_and_less_depth_less(gallery):
    queries, features = some_items(25), unit_features(25, seed=3)
    gallery_items = some_items(60)
    number = {name: int(name[1:]) for item in gallery_items for name in item[1:]}
    labels = [[number[item[c]] for item in side] for c in (1, 2) for side in (queries, gallery_items)]
    expected = rank_queries(torch.from_numpy(features), torch.from_numpy(unit_features(60)), *labels)
    result = measure(gallery, queries, features)
    assert result.mAP == pytest.approx(expected.mAP)
    assert np.array_equal(result.first_hit_rank, expected.first_hit_rank)
    shallow = measure(gallery, queries, features, depth=5)
    assert shallow.rank_k(1) == expected.rank_k(1)
    assert shallow.mAP < expected.mAP / 2
    assert measure(gallery, [*queries[:-1], LabelledImage("q", "p1", None)], features) is None


def test_queries_to_show_are_spread_or_the_best_or_the_worst(gallery):
    queries, features = [*some_items(25), LabelledImage("q", "unknown", "c9")], unit_features(26, seed=3)
    assert Search("", "", queries, [], None, 0.5).pick("spread", 4) == [0, 8, 17, 25]
    assert Search("", "", queries[:3], [], None, 0.5).pick("spread", 99) == [0, 1, 2]
    result = measure(gallery, queries, features)
    search = Search("", "", queries, [], result, 0.5)
    order = sorted(range(25), key=lambda i: result.average_precision[i])  # the last one has no match: never shown
    assert search.pick("worst", 5) == order[:5]
    assert search.pick("best", 5) == order[::-1][:5]
    with pytest.raises(InputError, match="--pick: must be spread"):
        Search("", "", queries, [], None, 0.5).pick("best", 5)
