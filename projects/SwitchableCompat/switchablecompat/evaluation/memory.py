"""Choose where features are kept and ranked: on the device that made them if it has room, else on the CPU."""

import torch

from .ranking import BLOCK_BYTES

BLOCKS = 4 * BLOCK_BYTES  # similarities of a block, and the memory for its ranks and the matrix product
CPU = torch.device("cpu")


def roomy(device: torch.device, size: int) -> torch.device:
    """``device`` if ``size`` bytes of features can be kept and ranked there, else the CPU."""
    return device if device.type == "cuda" and size + BLOCKS <= free_bytes(device) else CPU


def free_bytes(device: torch.device) -> int:
    """Available memory of a GPU: free memory, and memory that torch has reserved for this process but does not use."""
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached
