"""What queries find, whether it is right, and which queries are shown."""

import json

import numpy as np
import pytest
import torch

from gallery_builders import CARD, some_items, unit_features, write_shard
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


def test_what_a_short_search_does_not_find_is_no_hit_and_null_in_the_file(tmp_path):
    items = [LabelledImage(f"{i}.jpg", f"p{i}", "c0") for i in range(3)]  # fewer than Rank-5 looks at
    shard = write_shard(tmp_path / "f.parquet", np.eye(3, 24, dtype=np.float32), items=items)
    build_from_shards([FeatureFile(shard)], tmp_path / "g", "Flat", "")
    gallery = Gallery.open(tmp_path / "g")
    # The first query lies at its own item, the second one at another person's, the third one is of nobody.
    queries = [LabelledImage(f"q{i}", pid, "c1") for i, pid in enumerate(("p0", "p1", "p9"))]
    features = np.eye(3, 24, dtype=np.float32)[[0, 2, 2]]
    result = measure(gallery, queries, features, depth=1)
    assert [result.rank_k(k) for k in (1, 5)] == [50, 50]
    found = find(gallery, queries, features, 1)
    search = Search("", "", queries, found, result, 0.5)
    (tmp_path / "s.json").write_text(json.dumps(search.to_dict(gallery, "g", CARD)))
    rows = json.loads((tmp_path / "s.json").read_text())["queries"]
    assert [(row["average_precision"], row["first_hit_rank"]) for row in rows] == [(1, 1), (0, None), (None, None)]
    again = Search.read(tmp_path / "s.json")
    assert again.result.valid.tolist() == [True, True, False]
    assert again.result.rank_k(5) == 50
    assert again.pick("worst", 3) == [1, 0]
    whole = Search("", "", queries, found, measure(gallery, queries, np.eye(3, 24, dtype=np.float32)), 0.5)
    assert again.pick("flipped", 3, whole) == [1]


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
