"""``model.json``: the input and output of a file that encodes images, and the models that its features compare with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..choices import FULL, KINDS
from ..choices import PRECISIONS as COMPUTED
from ..errors import InputError
from ..files import write_json
from ..modeling.opened import OpenedModel
from ..settings import METRIC, SPACE
from ..widths import width_name

FORMAT = 1
REQUIRED = ("kind", "file", "family", "width", "widths", "dimension", "l2_normalised", "preprocessing")
PRECISIONS = (*COMPUTED, "int8")


@dataclass(frozen=True)
class ModelCard:
    """Description of one exported or trained sub-model, written beside its file.

    Attributes:
        kind: ``checkpoint`` (FastReID's, with a config beside it), ``onnx`` or ``program`` (``torch.export``).
        file: name of the file, in the card's folder.
        family: digest of the switchable model that it is a slice of. Only members of one family are comparable.
        width, widths: its width multiplier, and those of the family, ascending.
        dimension: D, the number of components of a feature.
        l2_normalised: whether the file's output already has length one. Otherwise the user must normalise it.
        preprocessing: ``size`` [height, width] to resize to (bicubic), ``center_crop`` to cut out after that, if given,
            ``channels`` ("RGB, 0-255"), ``pixel_mean`` and ``pixel_std`` (on the 0-255 scale), ``normalisation``
            ("inside the model": do not apply them again).
        metric: how features are compared.
        precision: number format of its computations: ``float32``, ``bfloat16``, ``float16`` or ``int8`` (weights and
            activations). Features of one family are comparable in any precision.
        dynamic_size: whether the file accepts images of any height and width. Features are comparable at equal image
            sizes. ``preprocessing`` has the size of the test pipeline.
        parameters, macs, file_bytes: number of parameters, multiply-accumulates of one image, and size of the file.
        extra: further facts (parity, method, seed, config, versions, hardware...).
    """

    kind: str
    file: str
    family: str
    width: float
    widths: tuple[float, ...]
    dimension: int
    l2_normalised: bool
    preprocessing: Mapping[str, Any]
    metric: str = METRIC
    precision: str = FULL
    dynamic_size: bool = False
    parameters: int | None = None
    macs: int | None = None
    file_bytes: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("model card: kind", f"must be one of {', '.join(KINDS)}", self.kind)
        if self.precision not in PRECISIONS:
            raise InputError("model card: precision", f"must be one of {', '.join(PRECISIONS)}", self.precision)
        object.__setattr__(self, "widths", tuple(float(width) for width in self.widths))

    @property
    def space(self) -> dict[str, Any]:
        """The values that two cards must share for features to compare (:func:`~..settings.check_comparable`)."""
        return {key: getattr(self, key) for key in SPACE}

    @property
    def name(self) -> str:
        """Name of the sub-model, such as ``w025``."""
        return width_name(self.width)

    @classmethod
    def of_model(cls, model: OpenedModel, width: float, **own: Any) -> ModelCard:
        """The card of one sub-model as a part of the opened model's checkpoint; ``own`` fields override defaults."""
        fields = {"kind": "checkpoint", "file": Path(model.weights).name, "l2_normalised": False, **own}
        width = model.widths[model.index_of(width)]  # first: the record of an exported checkpoint has no method
        kept = {key: model.record[key] for key in ("method", "seed", "config")}
        fields["extra"] = {**kept, **own.get("extra", {})}
        return cls(width=width, widths=model.widths, **model.space, **fields)

    def to_dict(self) -> dict[str, Any]:
        """The card as plain values, with ``extra`` among them; :meth:`from_dict` restores it."""
        own = asdict(self)
        extra = own.pop("extra")
        return {
            "format": FORMAT,
            **own,
            "widths": list(self.widths),
            "preprocessing": dict(self.preprocessing),
            **extra,
        }

    @classmethod
    def from_dict(cls, content: Any, source: str = "model card") -> ModelCard:
        """Restore a card from plain values. Unknown keys go to ``extra``. What is no card raises InputError."""
        check_format(content, source, "a model card", FORMAT, REQUIRED)
        fields = {name for name in cls.__dataclass_fields__ if name != "extra"}
        extra = {key: value for key, value in content.items() if key not in fields and key != "format"}
        try:
            return cls(**{key: content[key] for key in fields if key in content}, extra=extra)
        except TypeError as error:  # a number is not a number
            raise InputError(source, "must be a model card", error) from None

    @classmethod
    def from_json(cls, text: str, source: str) -> ModelCard:
        try:
            return cls.from_dict(json.loads(text), source)
        except json.JSONDecodeError as error:
            raise InputError(source, "must be a readable model card", error) from None

    def write(self, path: str | Path) -> Path:
        """Write the card as JSON and return the path."""
        return write_json(path, self.to_dict())

    @classmethod
    def read(cls, path: str | Path) -> ModelCard:
        """Read a ``model.json``."""
        return cls.from_dict(read_json(path, "a readable model card"), str(path))


def read_json(path: str | Path, what: str) -> Any:
    """Read a JSON file, which must be ``what``."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(path, f"must be {what}", error) from None


def check_format(content: Any, source: object, what: str, version: int, keys: Sequence[str]) -> None:
    """Reject content that is not a mapping with this ``format`` and these keys."""
    if not isinstance(content, Mapping):
        raise InputError(source, f"must be {what}", type(content).__name__)
    if content.get("format") != version:
        raise InputError(f"{source}: format", f"must be {version}", content.get("format"))
    if missing := sorted({*keys} - {*content}):
        raise InputError(f"{source}: {missing[0]}", "must be given")
