"""The active width of a network. All switchable layers of a network share one ``WidthSwitch``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

from ..errors import InputError
from ..widths import width_name


class WidthSwitch:
    """Records which sub-model of a switchable network is active.

    One assignment changes the width of all layers. The full model (last width, 1.0) is active unless :meth:`use`
    selects another sub-model. ``widths`` are as :func:`check_widths` accepts them.
    """

    def __init__(self, widths: Sequence[float]) -> None:
        self.widths = check_widths(widths)
        self.names = tuple(width_name(width) for width in self.widths)
        self._index = len(self.widths) - 1

    @classmethod
    def single(cls, width: float) -> WidthSwitch:
        """The switch of a network that consists of one sub-model, which keeps its name and acts as the full model."""
        switch = cls([1.0] if width == 1 else check_widths([width, 1.0], "width"))
        switch.widths, switch.names, switch._index = switch.widths[:1], switch.names[:1], 0
        return switch

    def __len__(self) -> int:
        return len(self.widths)

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of this network's channels that each sub-model owns: the widths, or 1 for a single sub-model."""
        return tuple(width / self.widths[-1] for width in self.widths)

    @property
    def descending(self) -> range:
        """All sub-models, the full model first: the order of every training step."""
        return range(len(self.widths) - 1, -1, -1)

    @property
    def index(self) -> int:
        """Position of the active sub-model in :attr:`widths`."""
        return self._index

    @property
    def full_index(self) -> int:
        """Position of the full model."""
        return len(self.widths) - 1

    @property
    def is_full(self) -> bool:
        """Whether the full model is active."""
        return self._index == self.full_index

    @property
    def name(self) -> str:
        """Name of the active sub-model, for example ``w025``."""
        return self.names[self._index]

    @contextmanager
    def use(self, index: int) -> Iterator[None]:
        """Activate sub-model ``index`` inside the ``with`` block. The previous one becomes active again afterwards,
        even on errors."""
        if not 0 <= index < len(self.widths):
            raise IndexError(f"sub-model index must be in [0, {len(self.widths)}), found {index}")
        former, self._index = self._index, index
        try:
            yield
        finally:
            self._index = former

    def index_of(self, width: float) -> int:
        """Position of the sub-model with this width multiplier.

        Raises:
            InputError: If the network has no such width.
        """
        for index, known in enumerate(self.widths):
            if abs(known - width) < 1e-9:
                return index
        raise InputError("width", f"must be one of {list(self.widths)}", width)

    def __repr__(self) -> str:
        return f"WidthSwitch(widths={list(self.widths)}, active={self.widths[self._index]})"


def check_widths(widths: Sequence[float], key: str = "MODEL.SWITCHABLE.WIDTHS") -> tuple[float, ...]:
    """Return width multipliers as a tuple of floats if they are valid.

    Raises:
        InputError: Not numbers, empty, not strictly ascending, outside (0, 1], or not ending in 1.0.
    """
    try:
        values = tuple(float(width) for width in widths)
    except (TypeError, ValueError):
        raise InputError(key, "must be a list of numbers", widths) from None
    if not values:
        raise InputError(key, "must hold at least one width", list(values))
    if not all(0 < width <= 1 for width in values):
        raise InputError(key, "every width must be in (0, 1]", list(values))
    if any(later - earlier < 1e-4 for earlier, later in pairwise(values)):
        raise InputError(key, "must be strictly ascending, in steps of 0.0001 or more", list(values))
    if values[-1] != 1.0:
        raise InputError(key, "must end in 1.0, the full model", list(values))
    return values
