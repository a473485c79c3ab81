"""Writers of a run's metrics, based on FastReID's."""

import json
import os
from collections import defaultdict
from functools import cached_property

from fastreid.utils.events import CommonMetricPrinter, EventWriter, get_event_storage
from torch.utils.tensorboard import SummaryWriter

WINDOW = 20  # steps over which noisy scalars are smoothed, as FastReID does


class _LateScalarsWriter(EventWriter):
    """Remembers the last written iteration separately for each scalar, and writes what is left when it is closed.

    FastReID's writers remember one iteration for all scalars. They never write what an evaluation adds to the last
    iteration of an epoch (upstream ``utils/events.py``, ``_last_write``), nor the last steps of a run that ends early.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._written: dict[str, int] = {}

    def _news(self) -> dict[str, tuple[float, int]]:
        latest = get_event_storage().latest_with_smoothing_hint(WINDOW)
        news = {key: (v, it) for key, (v, it) in latest.items() if it > self._written.get(key, -1)}
        self._written.update({key: it for key, (_, it) in news.items()})
        return news

    def close(self) -> None:
        self.write()


class JSONWriter(_LateScalarsWriter):
    """FastReID's ``metrics.json``. Removes an unfinished line of a killed run.

    The file is open only while lines are added.
    """

    def __init__(self, json_file: str) -> None:
        super().__init__(json_file)
        if os.path.isfile(json_file):
            with open(json_file, "rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)

    def write(self) -> None:
        rows: dict[int, dict[str, float]] = defaultdict(dict)
        for key, (value, iteration) in self._news().items():
            rows[iteration][key] = value
        with open(self._path, "a", encoding="utf-8") as file:
            for iteration in sorted(rows):
                line = {"iteration": iteration, **rows[iteration]}
                file.write(json.dumps(line, sort_keys=True) + "\n")


class TensorboardWriter(_LateScalarsWriter):
    """FastReID's TensorBoard scalars, in a folder that gets its file with the first of them."""

    @cached_property
    def _writer(self) -> SummaryWriter:
        return SummaryWriter(self._path)

    def write(self) -> None:
        for key, (value, iteration) in self._news().items():
            self._writer.add_scalar(key, value, iteration)

    def close(self) -> None:
        super().close()
        self._writer.close()


class MetricPrinter(CommonMetricPrinter):
    """FastReID's metric lines on the screen, without the division by zero in runs too short for any timing."""

    _last_write: tuple[int, float] | None

    def write(self) -> None:
        if self._last_write is not None and self._last_write[0] == get_event_storage().iter:
            self._last_write = None
        super().write()
