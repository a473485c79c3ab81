"""Images or shards into a collection of Milvus, so that any load may be interrupted and started again.

Items are told apart by their keys. What is there, encoded by the same sub-model, is skipped; what another width encoded is
encoded again and replaced, so that a gallery can be upgraded in parts while it serves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import InputError, name_some
from .card import ModelCard, check_comparable
from .encode import encode
from .encoder import Encoder
from .feature_file import FeatureFile, check_shards
from .items import Item
from .milvus_gallery import LENGTHS, count, create_collection, fetch, read_state, write_state

MESSAGE = 16_000_000  # bytes of an insert; servers take 64 MB
OTHER = 1024  # bytes of an entity beside its feature
BLOCK = 4096  # items whose presence is asked for at a time
KEYS = ("path", "id")


@dataclass(frozen=True)
class Target:
    """A collection to load into.

    Attributes:
        client: of pymilvus.
        name: of the collection, which is made if it is not there.
        index_type: of a new one: Milvus's name, such as ``FLAT`` (exact) or ``HNSW``.
        build: parameters of a new index.
        again: encode and replace what is there too.
        columns: further values of items, by path, see :mod:`.columns`.
        column_names: of these, for all items.
        again: replace what the same sub-model has encoded too.
    """

    client: Any
    name: str
    index_type: str = "FLAT"
    build: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    column_names: Sequence[str] = ()
    again: bool = False


@dataclass(frozen=True)
class Loaded:
    """What a load did: numbers of items that were new, replaced, and there already."""

    added: int
    replaced: int
    skipped: int


def load_images(
    target: Target, encoder: Encoder, items: Sequence[Item], source: str, *, batch_size: int, workers: int
) -> Loaded:
    """Encode images that the collection has not, or has from another sub-model, and write them.

    Their ids are their positions in this list; their keys those of their paths.

    Raises:
        InputError: an image that cannot be read, a path twice, or a collection of another family.
    """
    keys = [key_of(item.path) for item in items]
    _once(keys, [item.path for item in items], "path")
    wanted = _begin(target, encoder.card, source, keys)
    chosen = [position for position, key in enumerate(keys) if key in wanted]
    with tqdm(total=len(chosen), desc=f"Encoding for {target.name}", unit="image") as progress:
        for batch in encode(encoder, [items[i] for i in chosen], batch_size=batch_size, workers=workers):
            positions = [chosen[i] for i in batch.positions]
            rows = zip([keys[i] for i in positions], positions, batch.items, batch.features, strict=True)
            _write(target, encoder.card, rows)
            progress.update(len(positions))
    return _end(target, keys, wanted)


def load_shards(target: Target, files: Sequence[FeatureFile], source: str, key: str = "path") -> Loaded:
    """Write the items of feature files.

    Args:
        target: where to.
        files: at least one; :func:`~.extract.open_shards` opens them.
        source: what to say about where they come from.
        key: what tells items apart: ``path``, or ``id`` where several items are of one file.

    Raises:
        InputError: shards that do not make one gallery, a key twice, or a collection of another family.
    """
    check_shards(files)
    card = files[0].card
    texts = [str(value) for file in files for batch in file.blocks() for value in batch[key].to_pylist()]
    keys = [key_of(text) for text in texts]
    _once(keys, texts, key)
    wanted = _begin(target, card, source, keys)
    with tqdm(total=len(keys), desc=f"Loading into {target.name}", unit="item") as progress:
        start = 0
        for file in files:
            for batch in file.blocks():
                here = keys[start : start + len(batch)]
                items = [Item(*row) for row in zip(*(batch[name].to_pylist() for name in Item._fields), strict=True)]
                rows = zip(here, batch["id"].to_pylist(), items, file.features(batch), strict=True)
                _write(target, card, (row for row in rows if row[0] in wanted))
                start += len(batch)
                progress.update(len(batch))
    return _end(target, keys, wanted)


def delete_items(client: Any, name: str, *, paths: Sequence[str] = (), filter: str = "") -> int:
    """Delete items by their paths, or by an expression; returns how many there were.

    Raises:
        InputError: no such collection.
    """
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
    """An item's primary key."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[: LENGTHS["key"]]


def _once(keys: Sequence[str], texts: Sequence[str], what: str) -> None:
    if len({*keys}) < len(keys):
        seen: set[str] = set()
        twice = [text for text in texts if text in seen or seen.add(text)]  # type: ignore[func-returns-value]  # None
        advice = "; for several items of one file use --key id" if what == "path" else ""
        raise InputError(what, f"must occur once in a gallery{advice}", f"{name_some(twice, 1)} again")


def _begin(target: Target, card: ModelCard, source: str, keys: Sequence[str]) -> dict[str, bool]:
    """Make or check the collection, and say that a load begins.

    Returns:
        Keys to write; whether they replace something.
    """
    client, name = target.client, target.name
    if not client.has_collection(name):
        create_collection(client, name, card, source, target.column_names, target.index_type, target.build)
    state = read_state(client, name)
    there = ModelCard.from_dict(state["model"], f"collection {name}: model")
    check_comparable(there, f"the collection {name}", card, "this sub-model")
    client.load_collection(name)
    wanted: dict[str, bool] = {}
    for start in range(0, len(keys), BLOCK):
        block = keys[start : start + BLOCK]
        found = fetch(client, name, block, ("width", "precision"))
        for key in block:
            row = found.get(key)
            same = row and (row["width"], row["precision"]) == (card.width, card.precision)
            if target.again or not same:
                wanted[key] = row is not None
    state["columns"] = list(dict.fromkeys([*state["columns"], *target.column_names]))
    if state["first_load"] is not None:
        state["first_load"] = len(keys)
    write_state(client, name, state)
    return wanted


def _end(target: Target, keys: Sequence[str], wanted: Mapping[str, bool]) -> Loaded:
    """Make all of it durable, and say that the load is complete."""
    target.client.flush(target.name)
    state = read_state(target.client, target.name)
    write_state(target.client, target.name, {**state, "first_load": None})
    replaced = sum(wanted.values())
    return Loaded(len(wanted) - replaced, replaced, len(keys) - len(wanted))


def _write(target: Target, card: ModelCard, rows: Iterable[tuple[str, int, Item, np.ndarray]]) -> None:
    """Upsert in messages that servers take."""
    size = max(1, MESSAGE // (4 * card.dimension + OTHER))
    entities: list[dict[str, Any]] = []
    for key, number, item, feature in rows:
        entities.append({
            **target.columns.get(item.path, {}),
            "key": key,
            "id": number,
            **item._asdict(),
            "width": card.width,
            "precision": card.precision,
            "feature": feature.tolist(),
        })  # fmt: skip
        if len(entities) == size:
            target.client.upsert(target.name, entities)
            entities = []
    if entities:
        target.client.upsert(target.name, entities)
