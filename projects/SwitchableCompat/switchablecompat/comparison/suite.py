"""A suite, read from a yaml file: the methods to compare, the seeds, and the common settings.

.. code-block:: yaml

    name: synthetic                  # results go to results/synthetic/
    dataset: description for readers of the table
    seeds: [0, 1, 2]
    ours: sfsc                       # compared with every other method (default: the first one)
    opts: {SOLVER.MAX_EPOCH: 24}     # config keys for all methods, optional; {seed} in a value becomes the run's seed
    test_per_train: 1.0              # test identities per training identity, if each seed draws another split of the
                                     # same identities: such splits overlap, and intervals become wider (optional)
    published: results/paper/x.csv   # published figures to print beside ours, optional (see published.py);
                                     # a method names its published counterpart: {..., published: BCT-S}
    methods:
      - {name: sfsc, title: SFSC, kind: switchable, config: configs/Synthetic/sfsc.yml}
      - {name: unified, title: Unified, kind: separate, config: configs/Synthetic/unified.yml}
      - {name: bct, title: BCT, kind: separate, config: configs/Synthetic/bct.yml, reference: unified}

``switchable`` is one network with all widths. ``separate`` is one run per width. Without a reference these models share
no feature space, so only self-tests are defined. With a reference, the full model is that method's (same seed), and
only the smaller widths are trained. The full model's self-test is then '-', because it belongs to the reference.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ..errors import InputError
from ..files import shipped
from .published import Published, read_published

KINDS = ("switchable", "separate")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # names become folders and files
SUITE_KEYS = {"name", "dataset", "seeds", "ours", "opts", "test_per_train", "published", "methods"}
METHOD_KEYS = {"name", "title", "kind", "config", "opts", "reference", "published"}
# Keys that the comparison itself sets.
RESERVED = (
    "METHOD",
    "SEED",
    "OUTPUT_DIR",
    "MODEL.SWITCHABLE.ONLY_WIDTH",
    "MODEL.REFERENCE.CONFIG_FILE",
    "MODEL.REFERENCE.WEIGHTS",
)


@dataclass(frozen=True)
class Method:
    """One row of the comparison. ``opts`` are KEY, VALUE...; ``published`` is its name among the published figures."""

    name: str
    title: str
    kind: str
    config: str
    opts: tuple[str, ...] = ()
    reference: str = ""
    published: str = ""


@dataclass(frozen=True)
class Suite:
    """The content of a suite file."""

    name: str
    dataset: str
    seeds: tuple[int, ...]
    methods: tuple[Method, ...]
    ours: str
    opts: tuple[str, ...] = ()
    published: Published | None = None
    test_per_train: float = 0.0

    def method(self, name: str) -> Method:
        """The method with this name."""
        methods = {method.name: method for method in self.methods}
        if name not in methods:
            raise InputError("method", f"must be one of {[*methods]}", repr(name))
        return methods[name]

    @property
    def independent(self) -> str:
        """The method whose models are trained without any compatibility term, or an empty string."""
        return next((m.name for m in self.methods if m.kind == "separate" and not m.reference), "")


def load_suite(path: str) -> Suite:
    """Read and check a suite.

    ``_BASE_: other.yml``, relative to the file, names a suite with default values. Keys of this file replace those of
    the base, except that ``opts`` are added to the base's.

    Raises:
        InputError: with the file and key, the rule, and the value found.
    """
    if not os.path.isfile(path):
        raise InputError("--suite", "must be an existing yaml file", path)
    return parse_suite(_read(path), path)


def _read(path: str, within: tuple[str, ...] = ()) -> Any:
    """Read a suite file and merge it with its base."""
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except OSError:
        raise InputError(within[-1], "_BASE_ must be an existing yaml file", path) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(path, "must be valid yaml", " ".join(str(error).split())) from None
    if not isinstance(content, Mapping) or "_BASE_" not in content:
        return content
    own = {key: value for key, value in content.items() if key != "_BASE_"}
    base_path = os.path.join(os.path.dirname(path), str(content["_BASE_"]))
    if base_path in (path, *within):
        raise InputError(path, "must not be its own _BASE_")
    base = _read(base_path, (*within, path))
    if not isinstance(base, Mapping):
        raise InputError(base_path, "must map keys to values", repr(base))
    opts = [part["opts"] for part in (base, own) if isinstance(part.get("opts"), Mapping)]
    if len(opts) == 2:
        own["opts"] = {**opts[0], **opts[1]}
    return {**base, **own}


def parse_suite(content: Any, path: str) -> Suite:
    """Check the content of a suite file. Messages name ``path``."""
    _check_keys(content, path, allowed=SUITE_KEYS, required={"name", "seeds", "methods"})
    name = _name(content["name"], f"{path}: name")
    seeds = content["seeds"]
    whole = isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not whole or len({*seeds}) < len(seeds):
        raise InputError(f"{path}: seeds", "must be a list of different non-negative integers", seeds)
    if not isinstance(content["methods"], list) or not content["methods"]:
        raise InputError(f"{path}: methods", "must be a list of methods", content["methods"])
    methods: list[Method] = []
    for number, item in enumerate(content["methods"]):
        methods.append(_method(item, f"{path}: methods[{number}]", methods))
    ours = str(content.get("ours", methods[0].name))
    if ours not in [method.name for method in methods]:
        raise InputError(f"{path}: ours", f"must be one of {[method.name for method in methods]}", repr(ours))
    opts = _opts(content.get("opts"), f"{path}: opts")
    ratio = content.get("test_per_train", 0.0)
    if type(ratio) not in (int, float) or not 0.0 <= ratio < math.inf:
        raise InputError(f"{path}: test_per_train", "must be a number of at least 0", repr(ratio))
    published = read_published(shipped(str(content["published"]))) if content.get("published") else None
    known = sorted(published.cells) if published else []
    for number, method in enumerate(methods):
        if method.published and method.published not in known:
            where = f"{path}: methods[{number}].published"
            raise InputError(where, f"must be a method of the suite's published figures, {known}", method.published)
    return Suite(
        name, str(content.get("dataset", "")), tuple(seeds), tuple(methods), ours, opts, published, float(ratio)
    )


def _method(item: Any, where: str, before: list[Method]) -> Method:
    _check_keys(item, where, allowed=METHOD_KEYS, required={"name", "kind", "config"})
    name = _name(item["name"], f"{where}.name")
    if name in [method.name for method in before]:
        raise InputError(f"{where}.name", "must not be given twice", name)
    if item["kind"] not in KINDS:
        raise InputError(f"{where}.kind", f"must be one of {list(KINDS)}", repr(item["kind"]))
    reference = str(item.get("reference") or "")
    independent = [method.name for method in before if method.kind == "separate" and not method.reference]
    if reference and item["kind"] != "separate":
        raise InputError(f"{where}.reference", "needs kind separate", repr(item["kind"]))
    if reference and reference not in independent:
        rule = f"must be a separate method without reference that stands before it, one of {independent}"
        raise InputError(f"{where}.reference", rule, repr(reference))
    if not os.path.isfile(shipped(str(item["config"]))):
        raise InputError(f"{where}.config", "must be an existing yaml file", repr(item["config"]))
    opts = _opts(item.get("opts"), f"{where}.opts")
    published = str(item.get("published") or "")
    return Method(name, str(item.get("title", name)), item["kind"], str(item["config"]), opts, reference, published)


def _opts(mapping: Any, where: str) -> tuple[str, ...]:
    if mapping is None:
        return ()
    if not isinstance(mapping, Mapping):
        raise InputError(where, "must map config keys to values", repr(mapping))
    if taken := [key for key in mapping if key in RESERVED]:
        raise InputError(where, "must not set what the comparison sets itself", taken[0])
    return tuple(str(part) for pair in mapping.items() for part in pair)


def _check_keys(mapping: Any, where: str, *, allowed: set[str], required: set[str]) -> None:
    if not isinstance(mapping, Mapping):
        raise InputError(where, f"must map keys ({', '.join(sorted(allowed))}) to values", repr(mapping))
    if unknown := [key for key in mapping if key not in allowed]:
        raise InputError(where, f"may have the keys {', '.join(sorted(allowed))}", unknown[0])
    if missing := sorted(required - {*mapping}):
        raise InputError(f"{where}: {missing[0]}", "must be given")


def _name(value: Any, where: str) -> str:
    if not NAME.fullmatch(str(value)):
        raise InputError(where, "must be of letters, digits, '_', '-' and '.'", repr(value))
    return str(value)
