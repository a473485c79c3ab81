"""Static quantisation of an exported ONNX file by onnxruntime's own tools.

Weights become int8 with a scale for each output channel, and activations uint8, in the convolutions and matrix products
of the backbone and the operations between them. The head, pixel normalisation and L2 normalisation stay in float32.
Weights use 7 bits: without VNNI instructions, processors add two products in 16 bits, which 8-bit weights overflow, and
a file must be right on every machine.
"""

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ...errors import InputError
from ..packages import optional

WEIGHTED = ("Conv", "Gemm", "MatMul")
BETWEEN = ("Add", "Relu", "Clip", "MaxPool", "AveragePool", "Concat", "Split", "Reshape", "Transpose")
HEAD = "heads."  # prefix of the names of the head's modules
BATCH = 16  # calibration images at a time


class Layer(NamedTuple):
    """A layer with weights: the name of its module, such as ``backbone.conv1``, and the name of its graph node."""

    name: str
    node: str


class Quantiser:
    """Measures the ranges of an ONNX file's activations once, and quantises the file any number of times.

    ``source`` is a float32 file of :func:`~.writers.write_onnx`; ``pictures`` are images ``[N, 3, H, W]`` to calibrate
    on. A graph without layers that can be quantised raises InputError.
    """

    def __init__(self, source: Path, pictures: Tensor) -> None:
        onnx = optional("onnx", "for --precision int8")
        self._tools: Any = optional("onnxruntime.quantization", "for --precision int8")
        self._model = onnx.shape_inference.infer_shapes(onnx.load(source))
        # With attention only products with weights: its sums and softmax lose most, and cost little.
        attention = any(node.op_type == "Softmax" for node in self._model.graph.node)
        self._types = WEIGHTED if attention else (*WEIGHTED, *BETWEEN)
        every = list(weighted_layers(self._model))
        self.layers = [layer for layer in every if not layer.name.startswith(HEAD)]
        self._head = [layer.node for layer in every if layer not in self.layers]
        if not self.layers:
            raise InputError("--precision", "int8 needs convolutions or matrix products in the backbone", "none")
        with tempfile.TemporaryDirectory() as folder:
            calibrator = self._tools.create_calibrator(
                str(source), list(self._types), augmented_model_path=str(Path(folder) / "ranges.onnx")
            )
            calibrator.collect_data(_Reader(pictures))
            self._ranges = calibrator.compute_data()

    def named(self, names: Sequence[str]) -> list[Layer]:
        """The layers with these names; the name of a module stands for all layers in it."""
        found: list[Layer] = []
        for name in names:
            below = [layer for layer in self.layers if layer.name == name or layer.name.startswith(f"{name}.")]
            if not below:
                known = ", ".join(layer.name for layer in self.layers)
                raise InputError("--exclude", f"must name layers of the backbone ({known})", name)
            found += below
        return found

    def write(self, target: Path, exclude: Collection[Layer] = ()) -> None:
        """Write the quantised file, with the ``exclude`` layers in float32 and the metadata of the source."""
        onnx = optional("onnx", "for --precision int8")
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        types = self._tools.QuantType
        quantizer = self._tools.QDQQuantizer(
            model,
            True,  # per channel
            True,  # weights of 7 bits, see above
            types.QInt8,
            types.QUInt8,
            self._ranges,
            [],
            [*self._head, *(layer.node for layer in exclude)],
            list(self._types),
            {"MatMulConstBOnly": True},
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target))
        onnx.checker.check_model(target, full_check=True)


def weighted_layers(model: Any) -> Iterator[Layer]:
    """Layers named after their modules, by their weights' names; after their nodes if the exporter renamed weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in WEIGHTED and node.input[1] in weights:
            module, _, parameter = node.input[1].rpartition(".")
            yield Layer(module if parameter == "weight" else node.name, node.name)


class _Reader:
    """Feeds the calibration images to onnxruntime."""

    def __init__(self, pictures: Tensor) -> None:
        self._batches = iter(pictures.split(BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": np.ascontiguousarray(batch.numpy())}
