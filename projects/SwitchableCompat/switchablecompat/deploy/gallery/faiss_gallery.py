"""A searchable gallery: a folder with a FAISS index, its items, and a card that describes them.

``index.faiss`` is FAISS's own file. Its vector ``i`` is row ``i`` of ``items.parquet``. That is a feature file (see
:mod:`.feature_file`), without the column ``feature`` if the features stay in shards. ``index.json`` is the card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq

from ...errors import InputError
from ..card import ModelCard, check_format, read_json
from ..features.feature_file import whole_parquet
from ..image_list import LabelledImage
from .faiss_index import read_index, set_parameters

FORMAT = 1
INDEX, CARD, ITEMS = "index.faiss", "index.json", "items.parquet"


@dataclass(frozen=True)
class Gallery:
    """An opened gallery: its folder, the card of its encoder, the FAISS index, and the content of ``index.json``."""

    folder: Path
    card: ModelCard
    index: faiss.Index
    description: Mapping[str, Any]

    def __len__(self) -> int:
        return self.index.ntotal

    @classmethod
    def open(cls, folder: str | Path, parameters: str = "") -> Gallery:
        """Open a gallery by :mod:`.faiss_build`, with search parameters such as ``nprobe=32``, or the index's own.

        A file that is missing, truncated or of another gallery, or an unknown parameter, raises InputError.
        """
        folder = Path(folder)
        path = folder / CARD
        description = read_json(path, "the readable card of a gallery")
        check_format(description, path, "the readable card of a gallery", FORMAT, ("num_items", "index_bytes", "model"))
        card = ModelCard.from_dict(description["model"], f"{path}: model")
        gallery = cls(folder, card, read_index(folder / INDEX, description["index_bytes"]), description)
        with whole_parquet(folder / ITEMS):
            sizes = {INDEX: gallery.index.ntotal, ITEMS: pq.read_metadata(folder / ITEMS).num_rows}
        for name, size in sizes.items():
            if size != description["num_items"]:
                raise InputError(folder / name, f"must have the {description['num_items']} items of {CARD}", size)
        if gallery.index.d != card.dimension:
            raise InputError(folder / INDEX, f"must have the dimension of {CARD}, {card.dimension}", gallery.index.d)
        set_parameters(gallery.index, parameters)
        return gallery

    @property
    def encoded_by(self) -> str:
        return self.card.name

    @property
    def deepest(self) -> int:
        """The most items that a search can rank: all."""
        return len(self)

    def search(self, features: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``top`` most similar items of queries ``[Nq, D]`` (L2-normalised).

        Returns:
            Inner products, descending, and row numbers, both ``[Nq, top]``. Row -1 fills the end if an approximate
            index found fewer.
        """
        return self.index.search(np.ascontiguousarray(features, dtype=np.float32), top)

    def items(self, rows: np.ndarray) -> dict[int, tuple[int, LabelledImage]]:
        """Ids and items by row number. Reads only the parts of the file around these rows."""
        wanted = np.unique(rows[rows >= 0])
        found = {}
        with whole_parquet(self.folder / ITEMS), pq.ParquetFile(self.folder / ITEMS) as file:
            start = 0
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                here = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, stop)]
                if len(here):
                    table = file.read_row_group(group, columns=["id", "path", "pid", "camid"]).take(here - start)
                    for row, values in zip(here.tolist(), table.to_pylist(), strict=True):
                        found[row] = values.pop("id"), LabelledImage(**values)
                start = stop
        return found

    def labels(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Identities and cameras of all items in order, two arrays of strings; None unless all have both."""
        with whole_parquet(self.folder / ITEMS):
            table = pq.read_table(self.folder / ITEMS, columns=["pid", "camid"])
        if table["pid"].null_count or table["camid"].null_count:
            return None
        return table["pid"].to_numpy().astype(str), table["camid"].to_numpy().astype(str)
