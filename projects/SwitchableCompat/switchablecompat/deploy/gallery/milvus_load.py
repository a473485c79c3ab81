"""Load images or shards into a collection of Milvus. Any load may be interrupted and restarted.

Keys identify items. Items that the same sub-model has encoded are skipped, unless they come with other labels or
columns; those of another width are re-encoded and replaced, so that a gallery can be upgraded in parts while it is in
use.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from tqdm import tqdm

from ...errors import InputError
from ...settings import check_comparable
from ..card import ModelCard
from ..encoder import Encoder, encode
from ..features.feature_file import FeatureFile, check_shards
from ..image_list import LabelledImage
from .milvus_collection import (
    LENGTHS,
    check_names,
    count,
    create_collection,
    fetch,
    keys_of_ids,
    read_state,
    write_state,
)

MESSAGE = 16_000_000  # bytes per insert; servers accept 64 MB
OTHER = 1024  # bytes of an entity without its feature
ROWS = 1024  # rows per insert, the most that an interruption may lose
BLOCK = 4096  # items that are looked up in the collection at a time


@dataclass(frozen=True)
class Target:
    """A collection to load into, by pymilvus's client; it is created if needed.

    Attributes:
        index_type, build: Milvus's name of a new collection's index, such as ``FLAT`` (exact), and its parameters.
        columns, column_names: further values of items, by path, see :mod:`.columns`, and their names.
        again: also replace items that are up to date.
    """

    client: Any
    name: str
    index_type: str = "FLAT"
    build: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    column_names: Sequence[str] = ()
    again: bool = False


@dataclass
class Loaded:
    """The result of a load: numbers of new items, replaced items, and items that were up to date."""

    added: int = 0
    replaced: int = 0
    skipped: int = 0


def load_images(
    target: Target, encoder: Encoder, items: Sequence[LabelledImage], source: str, **reading: Any
) -> Loaded:
    """Encode and write images that the collection lacks, that another sub-model has encoded, or that have new values.

    Paths give the keys. A replaced item keeps its id, and keeps labels and columns for which there are no new values.
    ``reading`` are ``batch_size`` and ``workers`` of :func:`~..encoder.encode`.
    A path that occurs twice, or a collection of another family, raises InputError.
    """
    keys = _keys_of([item.path for item in items], "path")
    load = _Load(target, encoder.card, source, keys)
    with tqdm(total=len(keys), desc=f"Encoding for {target.name}", unit="image") as progress:
        for start in range(0, len(keys), BLOCK):
            block = range(start, min(start + BLOCK, len(keys)))
            chosen = load.choose(block, items[block.start : block.stop])
            progress.update(len(block) - len(chosen))
            batches = encode(encoder, [items[i] for i in chosen], **reading)
            rows = (row for batch in batches for row in zip(*batch, strict=True))
            load.write(((chosen[number], None, *row) for number, *row in rows), progress)
    return load.end()


def load_shards(target: Target, files: Sequence[FeatureFile], source: str, key: str = "path") -> Loaded:
    """Write the items of feature files, with their ids; an item that it replaces keeps its own.

    ``key`` is the column that identifies items: ``path``, or ``id`` if several items come from one file.
    An id that another item of the gallery has raises InputError.
    """
    check_shards(files)
    texts: list[str] = []
    ids: list[int] = []
    for file in files:
        for batch in file.blocks():
            texts += map(str, batch[key].to_pylist())
            ids += batch["id"].to_pylist()
    keys = _keys_of(texts, key)
    load = _Load(target, files[0].card, source, keys, max(ids, default=-1))
    load.check_ids(ids)
    with tqdm(total=len(keys), desc=f"Loading into {target.name}", unit="item") as progress:
        start = 0
        for file in files:
            for batch in file.blocks():
                stop = start + len(batch)
                columns = (batch[name].to_pylist() for name in LabelledImage._fields)
                items = [LabelledImage(*row) for row in zip(*columns, strict=True)]
                chosen = {*load.choose(range(start, stop), items)}
                progress.update(len(batch) - len(chosen))
                rows = zip(range(start, stop), ids[start:stop], items, file.features(batch), strict=True)
                load.write((row for row in rows if row[0] in chosen), progress)
                start = stop
    return load.end()


class _Load:
    """A load of the items with these keys into a collection, which is created or checked."""

    def __init__(self, target: Target, card: ModelCard, source: str, keys: Sequence[str], largest: int = -1) -> None:
        self.target, self.card, self.keys = target, card, keys
        client, name = target.client, target.name
        check_names(name, target.column_names)
        if not client.has_collection(name):
            create_collection(client, name, card, source, target.column_names, target.index_type, target.build)
        state = read_state(client, name)
        there = ModelCard.from_dict(state["model"], f"collection {name}: model")
        check_comparable((f"the collection {name}", there.space), ("this sub-model", card.space))
        items = hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()
        self._first = state["first_load"] is not None
        if self._first:
            if state["first_load"] and state["first_load"]["items"] != items:
                whole = f"the {state['first_load']['number']} items of {state['source']}"
                rule = f"must first be loaded whole, with {whole} (or be deleted: --all)"
                raise InputError(f"collection {name}", rule, f"others, of {source}")
            state["first_load"] = {"number": len(keys), "items": items}
        state["columns"] = list(dict.fromkeys([*state["columns"], *target.column_names]))
        self._kept = ("id", "pid", "camid", "width", "precision", *state["columns"])
        self._next = state["next_id"]
        state["next_id"] = max(state["next_id"] + len(keys), largest + 1)  # an interruption leaves a gap
        write_state(client, name, state)
        client.load_collection(name)
        self._empty = count(client, name) == 0
        self._there: dict[str, dict[str, Any]] = {}
        self._done = Loaded()

    def choose(self, positions: Sequence[int], items: Sequence[LabelledImage]) -> list[int]:
        """The positions among these, one for each of the items, whose items must be written."""
        keys = [self.keys[i] for i in positions]
        self._there = {} if self._empty else fetch(self.target.client, self.target.name, keys, self._kept)
        chosen = []
        encoder = {"width": self.card.width, "precision": self.card.precision}
        for position, key, item in zip(positions, keys, items, strict=True):
            row = self._there.get(key)
            new = {**encoder, **self._values(item)}
            same = row is not None and all(row.get(name) == value for name, value in new.items())
            if same and not self.target.again:
                self._done.skipped += 1
            else:
                chosen.append(position)
        return chosen

    def _values(self, item: LabelledImage) -> dict[str, Any]:
        """The labels and columns that this load gives an item; those that it does not know are left out."""
        labels = {name: value for name, value in (("pid", item.pid), ("camid", item.camid)) if value is not None}
        return {**labels, **self.target.columns.get(item.path, {})}

    def check_ids(self, ids: Sequence[int]) -> None:
        """Reject ids, one for each of the keys, if the item of one is new and another item of the collection has it."""
        client, name = self.target.client, self.target.name
        for start in range(0, 0 if self._empty else len(ids), BLOCK):
            own = dict(zip(ids[start : start + BLOCK], self.keys[start : start + BLOCK], strict=True))
            others = [number for number, key in keys_of_ids(client, name, [*own]).items() if key != own[number]]
            there = fetch(client, name, [own[number] for number in others], ["id"])  # they keep their ids
            if taken := [number for number in others if own[number] not in there]:
                rule = f"must be new in the collection {name}; extract with --first-id {self._next}, for example"
                raise InputError("id", rule, f"{taken[0]} of another item")

    def write(self, rows: Iterable[Any], progress: tqdm) -> None:
        """Upsert rows (position, id or None for any, item, feature) in messages of a size that servers accept."""
        size = min(ROWS, max(1, MESSAGE // (4 * self.card.dimension + OTHER)))
        entities = (self._entity(*row) for row in rows)
        while message := list(islice(entities, size)):
            self.target.client.upsert(self.target.name, message)
            progress.update(len(message))

    def _entity(self, position: int, number: int | None, item: LabelledImage, feature: np.ndarray) -> dict[str, Any]:
        former = self._there.get(self.keys[position], {})
        self._done.replaced += bool(former)
        self._done.added += not former
        return {
            "id": (position if self._first else self._next + position) if number is None else number,
            **{name: former[name] for name in self._kept if name in former},
            **({} if former else {"pid": None, "camid": None}),
            "path": item.path,
            **self._values(item),
            "key": self.keys[position],
            "width": self.card.width,
            "precision": self.card.precision,
            "feature": feature.tolist(),
        }

    def end(self) -> Loaded:
        """Make the load durable, mark it as complete, and return its result."""
        self.target.client.flush(self.target.name)
        state = read_state(self.target.client, self.target.name)
        write_state(self.target.client, self.target.name, {**state, "first_load": None})
        return self._done


def delete_items(client: Any, name: str, *, paths: Sequence[str] = (), filter: str = "") -> int:
    """Delete items by their paths or by an expression; return the number of deleted items."""
    read_state(client, name)
    client.load_collection(name)
    before = count(client, name)
    keys = [key_of(path) for path in paths]
    for start in range(0, len(keys), BLOCK):
        client.delete(name, ids=keys[start : start + BLOCK])
    if filter:
        client.delete(name, filter=filter)
    client.flush(name)
    return before - count(client, name)


def key_of(text: str) -> str:
    """An item's primary key, from its id or its path. Paths count as given, but ``./a//b`` is the same as ``a/b``."""
    return hashlib.sha256(os.path.normpath(text).encode("utf-8", "surrogateescape")).hexdigest()[: LENGTHS["key"]]


def _keys_of(texts: Iterable[str], what: str) -> list[str]:
    """The keys of all items, each of which must occur once."""
    keys: dict[str, None] = {}
    for text in texts:
        if (key := key_of(text)) in keys:
            advice = "; for several items of one file use --key id" if what == "path" else ""
            raise InputError(what, f"must occur once in a gallery{advice}", f"{text} again")
        keys[key] = None
    return list(keys)
