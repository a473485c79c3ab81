"""Generated features: a smaller call after a larger one leaves only its own."""

import numpy as np

from gallery_builders import unit_features, write_shard
from switchablecompat.deploy.features import generated
from switchablecompat.deploy.features.feature_file import FeatureFile
from switchablecompat.deploy.features.shards import open_shards


def test_a_smaller_call_leaves_nothing_of_a_larger_one(tmp_path, monkeypatch):
    monkeypatch.setattr(generated, "SHARD", generated.BLOCK)
    mine = write_shard(tmp_path / "both" / "part-00007.parquet", unit_features(3))
    for vectors, dimension in ((2 * generated.BLOCK + 5, 4), (100, 3)):
        generated.write_generated(tmp_path / "a", vectors, dimension)
        generated.write_generated(tmp_path / "both", vectors, dimension)
    assert [(file.num_rows, file.card.dimension) for file in open_shards([tmp_path / "a"])] == [(100, 3)]
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["part-00000.parquet", "part-00007.parquet"]
    np.testing.assert_array_equal(FeatureFile(mine).ids(), range(3))
