"""Exported ONNX files in OpenVINO, which x86 cameras run: a check that a file gives the same features there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .encoder import Encoder, load_encoder, optional


def openvino_encoder(path: Path) -> Encoder:
    """An exported ONNX file, run by OpenVINO on the CPU in the file's own precision.

    Raises:
        InputError: OpenVINO is missing, or does not take the file.
    """
    openvino: Any = optional("openvino", "for --openvino", extra="openvino")
    core = openvino.Core()
    try:
        # On its own it may choose bfloat16 where the processor has it.
        model = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise InputError(path, "must be an ONNX file that OpenVINO takes", str(error).strip().split("\n")[-1]) from None

    def forward(images: Tensor) -> Tensor:
        return torch.from_numpy(model(images.cpu().numpy())["features"].copy())

    return Encoder(load_encoder(path).card, forward)
