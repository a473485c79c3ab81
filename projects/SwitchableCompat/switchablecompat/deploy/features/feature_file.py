"""Features in an open format that other programs and vector databases read: Parquet, one row per image.

===========  ==================================  ===========================================================
column       type                                content
===========  ==================================  ===========================================================
``id``       int64                               number of the image, unique in a gallery
``path``     string                              its file
``pid``      string, null if not known           its identity
``camid``    string, null if not known           its camera
``width``    float64                             width multiplier of the sub-model
``family``   string                              digest of the family that the feature belongs to
``feature``  fixed-size list of float32, ``[D]`` L2-normalised feature: compare by the inner product
===========  ==================================  ===========================================================

The schema's metadata has ``family``, ``width`` and ``model_card`` (the encoder's card as JSON).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ...errors import InputError
from ...files import atomic_write
from ...settings import check_comparable
from ..card import ModelCard
from ..encoder import Encoded, Encoder
from ..image_list import LabelledImage

GROUP_ROWS = 8192  # rows that are read and written at a time: 4 MB at 128 dimensions
UNIT_TOLERANCE = 1e-3  # largest error of a feature's length; float16 arithmetic stays within it


def feature_schema(card: ModelCard, *, features: bool = True, metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """The schema of a sub-model's feature file, without the column ``feature`` if ``features`` is False."""
    kinds = {"id": pa.int64(), "path": pa.string(), "pid": pa.string(), "camid": pa.string(), "width": pa.float64()}
    kinds["family"] = pa.string()
    if features:
        kinds["feature"] = pa.list_(pa.float32(), card.dimension)
    fields = [pa.field(name, kind, nullable=name in ("pid", "camid")) for name, kind in kinds.items()]
    own = {"family": card.family, "width": str(card.width), "model_card": json.dumps(card.to_dict())}
    return pa.schema(fields, metadata={**(metadata or {}), **own})


@contextmanager
def parquet_writer(path: str | Path, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Yield a function that writes a batch of rows. The file appears complete or not at all.

    Rows are collected into groups of a size that is efficient to read. Floats are stored plain, the rest compressed.
    """
    columns = ["feature.list.element" if name == "feature" else name for name in schema.names]
    compression = {name: "NONE" if name.startswith("feature") else "ZSTD" for name in columns}
    dictionary = [name for name in schema.names if name not in ("id", "feature")]
    waiting: list[pa.RecordBatch] = []

    def write(batch: pa.RecordBatch | None) -> None:
        if batch is not None:
            waiting.append(batch)
        if waiting and (batch is None or sum(map(len, waiting)) >= GROUP_ROWS):
            writer.write_table(pa.Table.from_batches(waiting, schema), row_group_size=GROUP_ROWS)
            waiting.clear()

    with (
        atomic_write(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression=compression, use_dictionary=dictionary) as writer,
    ):
        yield write
        write(None)


def record_batch(
    schema: pa.Schema, card: ModelCard, ids: Sequence[int], items: Sequence[LabelledImage], features: np.ndarray
) -> pa.RecordBatch:
    """Make ``n`` rows of a feature file from ids, items and features ``[n, D]``."""
    constants = ([card.width] * len(items), [card.family] * len(items))
    columns = [ids, *([item[column] for item in items] for column in range(3)), *constants]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=False)]
    values = features.astype(np.float32, copy=False).reshape(-1)
    vectors = pa.FixedSizeListArray.from_arrays(values, card.dimension)
    return pa.RecordBatch.from_arrays([*arrays, vectors], schema=schema)


def write_features(
    path: Path,
    encoder: Encoder,
    batches: Iterable[Encoded],
    progress: tqdm,
    first_id: int = 0,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write encoded images to a feature file. An id is ``first_id`` plus the image's position."""
    schema = feature_schema(encoder.card, metadata=metadata)
    with parquet_writer(path, schema) as write:
        for positions, items, features in batches:
            ids = [first_id + position for position in positions]
            write(record_batch(schema, encoder.card, ids, items, features))
            progress.update(len(items))


class FeatureFile:
    """One Parquet file of features, read block by block. What is not whole, or not such a file, raises InputError.

    Attributes are its ``path``, the ``card`` of the sub-model, the schema's ``metadata``, and ``num_rows`` images.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with whole_parquet(self.path), pq.ParquetFile(self.path) as file:
            schema, self.num_rows = file.schema_arrow, file.metadata.num_rows
        self.metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        try:
            self.card = ModelCard.from_json(self.metadata["model_card"], str(self.path))
        except KeyError as error:
            raise InputError(self.path, "must have a model card in its schema's metadata", repr(error)) from None
        expected = feature_schema(self.card)
        if not schema.equals(expected):
            rule = f"must have the columns of a feature file, {_columns(expected)}"
            raise InputError(self.path, rule, _columns(schema))

    def blocks(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows in order, some thousands at a time; reject rows whose family or width is not the file's."""
        with whole_parquet(self.path), pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(GROUP_ROWS):
                for key, own in (("family", self.card.family), ("width", self.card.width)):
                    found = next((value for value in batch[key].unique().to_pylist() if value != own), own)
                    if found != own:
                        raise InputError(self.path, f"must have one {key} in all rows, {own}", found)
                yield batch

    def features(self, batch: pa.RecordBatch) -> np.ndarray:
        """The features of a block, ``[n, D]`` float32; reject those that do not have length one."""
        values = batch["feature"].flatten().to_numpy(zero_copy_only=False).reshape(-1, self.card.dimension)
        length = np.linalg.norm(values, axis=1)
        wrong = np.flatnonzero(~(np.abs(length - 1) <= UNIT_TOLERANCE))  # true for NaN too
        if len(wrong):
            row = int(wrong[0])
            rule = f"the feature of id {batch['id'][row]} must have length one"
            raise InputError(self.path, rule, f"{length[row]:.4g}")
        return values

    def ids(self) -> np.ndarray:
        """Read only the ids, ``[num_rows]``."""
        with whole_parquet(self.path):
            return pq.read_table(self.path, columns=["id"])["id"].to_numpy()


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def check_shards(files: Sequence[FeatureFile]) -> None:
    """Reject shards that cannot form one gallery: of several sub-models, or with an id twice. Uses 8 bytes an image."""
    check_comparable(*((file.path, file.card.space) for file in files))
    own = ((file.path, {"width": file.card.width, "precision": file.card.precision}) for file in files)
    check_comparable(*own, why="in all shards of a gallery")
    ids = np.empty(sum(file.num_rows for file in files), dtype=np.int64)
    stop = 0
    for file in files:
        start, stop = stop, stop + file.num_rows
        ids[start:stop] = file.ids()
    ids.sort()
    repeated = ids[:-1][ids[1:] == ids[:-1]]
    if len(repeated):
        where = [str(file.path) for file in files if repeated[0] in file.ids()]
        raise InputError("id", "must occur once in a gallery", f"{repeated[0]} twice, in {' and '.join(where)}")


def feature_blocks(files: Sequence[FeatureFile], doing: str) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Yield all rows of all files in order, block by block, with their features ``[n, D]``; show progress."""
    with tqdm(total=sum(file.num_rows for file in files), desc=doing, unit="vector", unit_scale=True) as progress:
        for file in files:
            for batch in file.blocks():
                yield batch, file.features(batch)
                progress.update(len(batch))


@contextmanager
def whole_parquet(path: Path) -> Iterator[None]:
    """Turn pyarrow's errors on missing, truncated and damaged files into one line."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputError(path, "must be a whole Parquet file", str(error).split("\n")[0]) from None
