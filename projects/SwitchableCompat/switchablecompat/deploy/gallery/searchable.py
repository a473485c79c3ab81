"""What a gallery has to offer, whichever engine keeps it: FAISS in a folder, or Milvus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ..card import ModelCard
from ..image_list import LabelledImage


class SearchableGallery(Protocol):
    """Items with features of one family, numbered by rows from 0.

    Attributes:
        card: the sub-model that encoded it, or the first of several.
        description: what a search's JSON says of it; ``source`` and ``parameters`` among it.
    """

    @property
    def card(self) -> ModelCard: ...

    @property
    def description(self) -> Mapping[str, Any]: ...

    @property
    def encoded_by(self) -> str:
        """Names of the sub-models that encoded it, such as ``w100``."""

    @property
    def deepest(self) -> int:
        """How many items a search can rank at most."""

    def __len__(self) -> int: ...

    def check_top(self, top: int) -> None:
        """Refuse to find more items than there are or than the engine gives, or none."""

    def search(self, features: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Inner products, descending, and rows, both ``[Nq, top]``; row -1 for nothing."""

    def items(self, rows: np.ndarray) -> dict[int, tuple[int, LabelledImage]]:
        """Ids and items by row."""

    def labels(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Identities and cameras of all rows; None unless all have both."""
