"""A collection of Milvus as a gallery's table: its fields, its state, and how to read it.

An entity is an item. Its fields are ``key`` (32 hexadecimal digits of SHA-256 over the path or the id that identifies
the item), ``id``, ``path``, ``pid``, ``camid``, ``width`` and ``precision`` of the sub-model that encoded it,
``feature``, and any further columns as dynamic fields. The collection's properties hold the model card of the first
encoder and the state of the load, so both stay with the collection. It may mix widths, but not families.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import InputError
from ..card import ModelCard
from ..image_list import LabelledImage
from ..packages import optional

PROPERTY = "switchablecompat"  # the collection's property with our JSON
KEYS = 1000  # keys per request
FIXED = ("key", "id", *LabelledImage._fields, "width", "precision")
LENGTHS = {"key": 32, "path": 4096, "pid": 512, "camid": 512, "precision": 16}
WORDS = {"and", "or", "not", "in", "like", "is", "null", "true", "false", "exists"}
NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def create_collection(
    client: Any,
    name: str,
    card: ModelCard,
    source: str,
    columns: Sequence[str],
    index_type: str,
    build: Mapping[str, Any],
) -> None:
    """Make an empty collection for a family, with its index."""
    module: Any = optional("pymilvus", "for --engine milvus", extra="milvus")
    schema = module.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    kinds = module.DataType
    schema.add_field("key", kinds.VARCHAR, is_primary=True, max_length=LENGTHS["key"])
    schema.add_field("id", kinds.INT64)
    for field in ("path", "pid", "camid", "precision"):
        schema.add_field(field, kinds.VARCHAR, max_length=LENGTHS[field], nullable=field in ("pid", "camid"))
    schema.add_field("width", kinds.DOUBLE)
    schema.add_field("feature", kinds.FLOAT_VECTOR, dim=card.dimension)
    index = module.MilvusClient.prepare_index_params()
    index.add_index("feature", index_type=index_type, metric_type="IP", params=dict(build))
    state = {
        "format": 1,
        "model": card.to_dict(),
        "source": source,
        "index": {"type": index_type, **build},
        "columns": list(columns),
        "first_load": {},  # what the first load is of; None when it is complete
        "next_id": 0,
    }
    properties = {PROPERTY: json.dumps(state)}
    client.create_collection(name, schema=schema, index_params=index, properties=properties, consistency_level="Strong")


def check_names(name: str, columns: Sequence[str]) -> None:
    """Reject names of a collection or of further columns that Milvus does not accept, or that are in use."""
    for text, what in ((name, "--collection"), *((column, "--columns") for column in columns)):
        if not NAME.match(text) or text in (*FIXED, "feature"):
            taken = ", ".join((*FIXED, "feature"))
            raise InputError(what, f"must be letters, digits and underscores, and none of {taken}", text)


def read_state(client: Any, name: str) -> dict[str, Any]:
    """Read the state of a gallery from the collection's properties; reject a collection that is not a gallery."""
    if not client.has_collection(name):
        known = ", ".join(client.list_collections()) or "none"
        raise InputError(f"collection {name}", f"must be in this database, which has {known}", "no such collection")
    text = client.describe_collection(name).get("properties", {}).get(PROPERTY)
    try:
        state = json.loads(text)
        if state["format"] != 1 or "model" not in state:
            raise KeyError("format")
    except (TypeError, ValueError, KeyError):
        rule = "must be a gallery that the command search index made"
        raise InputError(f"collection {name}", rule, "no model card in its properties") from None
    return state


def write_state(client: Any, name: str, state: Mapping[str, Any]) -> None:
    client.alter_collection_properties(name, {PROPERTY: json.dumps(state)})


def count(client: Any, name: str, filter: str = "") -> int:
    """Number of items, or of those that match ``filter``."""
    (row,) = client.query(name, filter=filter, output_fields=["count(*)"], consistency_level="Strong")
    return int(row["count(*)"])


def fetch(client: Any, name: str, keys: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Fields of the items with these keys, by key. Missing items are left out."""
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(keys), KEYS):
        expression = f"key in {json.dumps(list(keys[start : start + KEYS]))}"
        rows = client.query(
            name, filter=expression, output_fields=["key", *fields], limit=KEYS, consistency_level="Strong"
        )
        found |= {row["key"]: row for row in rows}
    return found


def keys_of_ids(client: Any, name: str, ids: Sequence[int]) -> dict[int, str]:
    """The keys of the items that have these ids, by id. Free ids are left out."""
    found: dict[int, str] = {}
    for start in range(0, len(ids), KEYS):
        expression = f"id in {[*ids[start : start + KEYS]]}"
        rows = client.query(
            name, filter=expression, output_fields=["key", "id"], limit=KEYS, consistency_level="Strong"
        )
        found |= {row["id"]: row["key"] for row in rows}
    return found


def every(client: Any, name: str, fields: Sequence[str], filter: str = "") -> Iterator[list[dict[str, Any]]]:
    """Yield fields of all items, some thousands at a time."""
    iterator = client.query_iterator(name, batch_size=5000, output_fields=list(fields), filter=filter)
    try:
        while batch := iterator.next():
            yield batch
    finally:
        iterator.close()


def check_filter(expression: str, columns: Sequence[str]) -> None:
    """Reject an expression with an unknown column, for which Milvus would silently find nothing."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|' + r"'(?:[^'\\]|\\.)*'", "", expression)
    for name in re.findall(r"(?<![\w.])[A-Za-z_]\w*(?!\s*\(|\w)", bare):
        if name.lower() not in WORDS and name not in columns:
            raise InputError("--filter", f"must be over the columns {', '.join(columns)}", name)
