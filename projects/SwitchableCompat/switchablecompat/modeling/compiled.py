"""A backbone whose training forward and backward are compiled, one static graph for each width."""

import logging

import torch
from torch import Tensor, nn

BACKENDS = ("aot_eager", "cudagraphs")  # the other modes are of PyTorch's default back end

logger = logging.getLogger("fastreid.switchablecompat.compiled")


class CompiledBackbone:
    """Calls a backbone through ``torch.compile``; where that fails, says so once and calls it as it is.

    The compiler makes a graph for each width, because it finds another active width in the switch; batches of a run
    have one shape. Deliberately no module: the backbone belongs to the model alone.

    Of the modes of ``MODEL.SWITCHABLE.COMPILE``, ``cudagraphs`` and ``reduce-overhead`` record CUDA graphs: a narrow
    width's kernels are so short that a GPU waits for their launches. ``aot_eager`` compiles nothing, and shows on a CPU
    that tracing is right. The backbone must be on its final device.
    """

    def __init__(self, backbone: nn.Module, mode: str) -> None:
        self.mode, self._backbone, self._working = mode, backbone, True
        back_end, of_default = (mode, None) if mode in BACKENDS else ("inductor", mode)
        self._compiled = torch.compile(backbone, dynamic=False, backend=back_end, mode=of_default)

    def begin_step(self) -> None:
        """What the graphs of the last step have returned may be overwritten."""
        if self._working and self.mode in ("cudagraphs", "reduce-overhead"):
            torch.compiler.cudagraph_mark_step_begin()

    def __call__(self, images: Tensor) -> Tensor:
        """Feature maps of the active width, as the backbone's own forward gives them."""
        if self._working:
            try:
                return self._compiled(images)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # whatever the compiler, its back end and their tools raise
                self._working = False
                reason = (str(error).strip().splitlines() or [""])[0]
                logger.warning(
                    f"MODEL.SWITCHABLE.COMPILE {self.mode} fails here, training goes on without: "
                    f"{type(error).__name__}: {reason}"
                )
        return self._backbone(images)
