"""A gallery in a collection of Milvus. The same code serves the embedded Milvus Lite and a cluster."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import InputError
from ...widths import width_name
from ..card import PRECISIONS, ModelCard
from ..image_list import LabelledImage
from .milvus_collection import FIXED, check_filter, count, every, fetch, read_state

DEEPEST = 16384  # the most items that Milvus finds for a query
CELLS = 65536  # results of one call: far below Milvus's limit of 256 MB per message


class MilvusGallery:
    """An opened collection, limited to the items that match ``filter``, an expression of Milvus.

    ``client`` is from :func:`~.milvus_server.connection`; ``parameters`` are for the search, such as ``{"ef": 64}``. An
    unfinished first load, or a filter over unknown columns, raises InputError.
    """

    def __init__(
        self, client: Any, name: str, *, filter: str = "", parameters: Mapping[str, Any] | None = None
    ) -> None:
        self.client, self.name, self.filter = client, name, filter
        self.parameters = dict(parameters or {})
        self.state = read_state(client, name)
        self.card = ModelCard.from_dict(self.state["model"], f"collection {name}: model")
        if self.state["first_load"] is not None:
            expected = self.state["first_load"].get("number", "its")
            rule = f"must hold all {expected} items of {self.state['source']}: start the same index command again"
            raise InputError(f"collection {name}", rule, count(client, name))
        check_filter(filter, (*FIXED, *self.state["columns"]))
        client.load_collection(name)
        self._size = count(client, name, filter)
        self._rows: dict[str, int] = {}
        self._keys: list[str] = []

    def __len__(self) -> int:
        return self._size

    @property
    def description(self) -> dict[str, Any]:
        return {
            "engine": "milvus",
            "collection": self.name,
            "num_items": len(self),
            "filter": self.filter,
            "parameters": ", ".join(f"{key}={value}" for key, value in self.parameters.items()),
            **{key: self.state[key] for key in ("source", "index", "columns", "model")},
            "encoders": self.encoders(),
        }

    @property
    def encoded_by(self) -> str:
        """Name of the sub-model that encoded the gallery; of several, all names with their numbers of items."""
        found = self.encoders()
        return ", ".join(name if len(found) == 1 else f"{name} ({count})" for name, count in found.items()) or "none"

    @property
    def deepest(self) -> int:
        """The most items that a search can rank."""
        return min(len(self), DEEPEST)

    def encoders(self) -> dict[str, int]:
        """Number of items by sub-model that encoded them (such as ``w050 int8``), without those that have none."""
        numbers = {}
        for width, precision in itertools.product(self.card.widths, PRECISIONS):
            own = f'width == {width} and precision == "{precision}"'
            number = count(self.client, self.name, f"({self.filter}) and {own}" if self.filter else own)
            numbers[f"{width_name(width)} {precision}".removesuffix(" float32")] = number
        return {name: number for name, number in numbers.items() if number}

    def search(self, features: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`~.faiss_gallery.Gallery.search`. This object numbers rows in the order in which it meets items."""
        scores = np.full((len(features), top), -np.inf, dtype=np.float32)
        rows = np.full(scores.shape, -1, dtype=np.int64)
        step = max(1, CELLS // top)
        for start in range(0, len(features), step):
            found = self.client.search(
                self.name,
                np.ascontiguousarray(features[start : start + step], dtype=np.float32).tolist(),
                filter=self.filter,
                limit=top,
                output_fields=["key"],
                search_params={"metric_type": "IP", "params": self.parameters},
                consistency_level="Strong",
            )
            for number, hits in enumerate(found, start):
                scores[number, : len(hits)] = [hit["distance"] for hit in hits]
                rows[number, : len(hits)] = [self._row(hit["key"]) for hit in hits]
        return scores, rows

    def items(self, rows: np.ndarray) -> dict[int, tuple[int, LabelledImage]]:
        """Ids and items by row number."""
        wanted = [self._keys[row] for row in np.unique(rows[rows >= 0])]
        found = fetch(self.client, self.name, wanted, ("id", *LabelledImage._fields))
        return {
            self._rows[key]: (values["id"], LabelledImage(values["path"], values.get("pid"), values.get("camid")))
            for key, values in found.items()
        }

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Rows of items by their ids; all ids must exist."""
        found = {
            values["id"]: self._row(values["key"])
            for batch in every(self.client, self.name, ["key", "id"], self.filter)
            for values in batch
        }
        return np.array([found[number] for number in ids.tolist()])

    def labels(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Identities and cameras of all items by row, two arrays of strings; None unless all have both."""
        labels: dict[int, tuple[str | None, str | None]] = {}
        for batch in every(self.client, self.name, ["key", "pid", "camid"], self.filter):
            labels |= {self._row(values["key"]): (values.get("pid"), values.get("camid")) for values in batch}
        if not labels or any(None in pair for pair in labels.values()):
            return None
        pids, camids = zip(*(labels.get(row, ("", "")) for row in range(len(self._keys))), strict=True)
        return np.array(pids), np.array(camids)

    def _row(self, key: str) -> int:
        if key not in self._rows:
            self._rows[key] = len(self._keys)
            self._keys.append(key)
        return self._rows[key]
