"""What tests of galleries build alike: cards, features, feature files, images, and an encoder without a network."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import torch.nn.functional as F
from onnx import TensorProto, helper
from PIL import Image

from switchablecompat.deploy.card import ModelCard
from switchablecompat.deploy.encoder import Encoder
from switchablecompat.deploy.features.feature_file import feature_schema, parquet_writer, record_batch
from switchablecompat.deploy.image_list import LabelledImage
from switchablecompat.modeling.opened import CARD_KEY

PREPROCESSING = {
    "size": [8, 4],
    "channels": "RGB, 0-255",
    "pixel_mean": [1.0, 2.0, 3.0],
    "pixel_std": [4.0, 5.0, 6.0],
    "normalisation": "inside the model",
}
CARD = ModelCard("onnx", "w100.onnx", "sha256:1", 1.0, (0.25, 1.0), 24, False, PREPROCESSING)


def unit_features(count: int, dimension: int = CARD.dimension, seed: int = 0) -> np.ndarray:
    """Random directions, ``[count, dimension]``."""
    values = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def some_items(count: int) -> list[LabelledImage]:
    """Images of three identities under three cameras."""
    return [LabelledImage(f"images/{i}.jpg", f"p{i % 3}", f"c{i // 2 % 3}") for i in range(count)]


def write_shard(
    path: Path, features: np.ndarray, first_id: int = 0, items: list[LabelledImage] | None = None, **card
) -> Path:
    """A feature file; ``card`` overrides fields of the model card."""
    own = dataclasses.replace(CARD, dimension=features.shape[1], **card)
    schema = feature_schema(own)
    with parquet_writer(path, schema) as write:
        ids = range(first_id, first_id + len(features))
        write(record_batch(schema, own, ids, items or some_items(len(features)), features))
    return path


def write_images(folder: Path, count: int, size: tuple[int, int] = (4, 8)) -> list[Path]:
    """Pictures of random colours, as PNG, which keeps them; ``size`` is width and height."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        paths.append(folder / f"{number:03d}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def pooling_encoder(**card) -> Encoder:
    """An encoder whose feature is the image's mean colours on a 4x2 grid, minus the middle of the scale."""
    return Encoder(
        dataclasses.replace(CARD, **card), lambda images: F.adaptive_avg_pool2d(images, (4, 2)).flatten(1) - 127.5
    )


def pooled_by_hand(path: Path) -> np.ndarray:
    """The feature of :func:`pooling_encoder` for an 8x4 image, by NumPy."""
    pixels = np.asarray(Image.open(path), dtype=np.float64).transpose(2, 0, 1)  # 3, 8, 4
    value = pixels.reshape(3, 4, 2, 2, 2).mean(axis=(2, 4)).reshape(-1) - 127.5
    return value / np.linalg.norm(value)


def write_onnx(path: Path, **card) -> Path:
    """An ONNX file as tools/export_submodel.py writes them, whose network is :func:`pooling_encoder`'s."""
    own = dataclasses.replace(CARD, kind="onnx", file=path.name, **card)
    height, width = own.preprocessing["size"]
    kernel = [height // 4, width // 2] if own.dimension == 24 else [height // 2, width // 2]
    nodes = [
        helper.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=kernel, strides=kernel),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Sub", ["flat", "middle"], ["features"]),
    ]
    ends = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, height, width]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", own.dimension]),
    ]
    middle = helper.make_tensor("middle", TensorProto.FLOAT, [], [127.5])
    graph = helper.make_graph(nodes, "pooling", ends[:1], ends[1:], [middle])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {CARD_KEY: json.dumps(own.to_dict())})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path
