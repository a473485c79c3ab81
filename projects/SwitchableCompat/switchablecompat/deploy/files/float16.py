"""Convert an exported ONNX file to float16, for GPUs, by onnxruntime's own converter. Input and output stay float32.

So do pixel normalisation and all after the backbone's last layer: powers and sums of squares there (GeM, L2
normalisation) leave float16's range.
"""

from pathlib import Path
from typing import Any

from ..packages import optional
from .int8 import HEAD, weighted_layers

FLOAT, FLOAT16 = 1, 10  # ONNX's type numbers


def write_half(source: Path, target: Path) -> None:
    """Convert ``source`` to float16, without its metadata. Weights out of range become float16's largest number."""
    onnx: Any = optional("onnx", "for --precision float16")
    converter: Any = optional("onnxruntime.transformers.float16", "for --precision float16")
    model = onnx.load(source)
    layers = {layer.node for layer in weighted_layers(model) if not layer.name.startswith(HEAD)}
    order = [node.name for node in model.graph.node]
    positions = [number for number, name in enumerate(order) if name in layers]
    outside = [*order[: positions[0]], *order[positions[-1] + 1 :]] if positions else order
    model = converter.convert_float_to_float16(model, keep_io_types=True, node_block_list=outside)
    _drop_round_trips(model.graph)
    optional("onnxruntime.transformers.onnx_model", "for --precision float16").OnnxModel(model).topological_sort()
    onnx.save(model, target)
    onnx.checker.check_model(target, full_check=True)


def _drop_round_trips(graph: Any) -> None:
    """Remove the converter's casts to float16 and straight back, such as before a first layer that stays in float32."""
    halves = {node.output[0]: node.input[0] for node in graph.node if _casts_to(node, FLOAT16)}
    back = [node for node in graph.node if _casts_to(node, FLOAT) and node.input[0] in halves]
    for node in back:
        node.op_type, node.input[0] = "Identity", halves[node.input[0]]
        del node.attribute[:]
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for node in [node for node in graph.node if node.output[0] in halves and node.output[0] not in used]:
        graph.node.remove(node)
    del graph.value_info[:]  # their types are out of date


def _casts_to(node: Any, kind: int) -> bool:
    return node.op_type == "Cast" and any(value.name == "to" and value.i == kind for value in node.attribute)
