"""What SFSC's step costs on several GPUs, as a model: measured step and bank, stated constants of the machine.

Of m sub-models the step computes forwards and backwards one after another. The flat gradient of each is summed over the
processes while the next one computes; only the last one's, the smallest, has nothing to hide behind. A ring moves
2 (n - 1) / n of a buffer's bytes through each link.

    python -m gpu.scale_out --gpus 2,8 --step 0.065
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
BACKBONES, MEASURED = RESULTS / "backbones.json", RESULTS / "gpu" / "step.json"
ASSUMED = 0.065  # seconds of ResNet-50's step, 256 x 128, batch 64, float16, on one H100; measured nowhere
CLASSES, DIMENSION = 751, 512  # of Market-1501, and of the features: the head's embedding and the shared classifier
PRIVATE = 0.13e6  # affine parameters of all norms: averaged at the end, at once
LINKS = {  # bytes per second of one GPU for collectives, and seconds to start one
    "NVLink 4 (H100, one node)": (300e9, 20e-6),
    "PCIe 4.0 x16 (one node)": (20e9, 30e-6),
    "100 Gbit/s Ethernet (one GPU a node)": (10e9, 60e-6),
    "10 Gbit/s Ethernet (one GPU a node)": (1.0e9, 100e-6),
}
PICKLE = 1.0e-3  # seconds a step to learn whether a process was asked to end: small messages through gloo


@dataclass(frozen=True)
class Network:
    """Of each sub-model, the full one first: multiply-accumulates of an image, and elements of its flat gradient."""

    compute: tuple[float, ...]
    elements: tuple[float, ...]


def measured_network(family: str = "ResNet", path: Path = BACKBONES) -> Network:
    """From the measured table of backbones, with the embedding and the classifier on top."""
    content = json.loads(path.read_text())
    row = next(row for row in content["families"] if row["family"] == family)
    features = [row["features"][-1] * width for width in content["widths"]]
    head = [DIMENSION * count + DIMENSION * CLASSES for count in features]
    elements = [own + more for own, more in zip(row["parameters"], head, strict=True)]
    return Network(tuple(row["macs"][::-1]), tuple(elements[::-1]))


@dataclass(frozen=True)
class Estimate:
    """Seconds of a step.

    Attributes:
        alone: On one GPU.
        exposed: That it waits for sums of gradients.
        communication: Of all sums, hidden or not.
    """

    alone: float
    exposed: float
    communication: float

    def efficiency(self, accumulate: int = 1) -> float:
        """Share of n times one GPU's throughput, with gradients of ``accumulate`` batches added up before each sum."""
        compute = self.alone * accumulate
        return compute / (compute + self.exposed)  # the sums run beside the last of the batches


def ring_seconds(elements: float, gpus: int, bandwidth: float, latency: float) -> float:
    """One all-reduce of float32 numbers in a ring."""
    return 2 * (gpus - 1) / gpus * elements * 4 / bandwidth + latency


def estimate(network: Network, step: float, gpus: int, link: tuple[float, float], rest: float = 0.15) -> Estimate:
    """The model.

    Args:
        network: What is trained.
        step: Seconds of SFSC's step on one GPU.
        gpus: Processes, each with a batch as large as that step's.
        link: Bytes per second, and seconds to start.
        rest: Share of the step after the last backward: Gram matrices, aggregate, optimiser.
    """
    compute = [macs / sum(network.compute) * step * (1 - rest) for macs in network.compute]
    if gpus == 1:
        return Estimate(step, 0.0, 0.0)
    sums = [ring_seconds(elements, gpus, *link) for elements in network.elements]
    computed, summed = 0.0, 0.0
    for seconds, wire in zip(compute, sums, strict=True):
        computed += seconds  # a backward that is done ...
        summed = max(summed, computed) + wire  # ... starts its sum when the wire is free
    exposed = summed - computed + ring_seconds(PRIVATE, gpus, *link) + PICKLE
    return Estimate(step, exposed, sum(sums))


def table(step: float, counts: Sequence[int], accumulate: int = 4) -> str:
    """Markdown: per link and number of GPUs what is exposed, and the efficiency without and with accumulation."""
    network = measured_network()
    lines = [
        f"| link | GPUs | sums, all (ms) | not hidden (ms) | efficiency | with {accumulate} batches a step |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, link in LINKS.items():
        for gpus in counts:
            found = estimate(network, step, gpus, link)
            efficiencies = [f"{100 * found.efficiency(count):.0f} %" for count in (1, accumulate)]
            times = [f"{1000 * found.communication:.1f}", f"{1000 * found.exposed:.1f}"]
            lines.append(f"| {name} | {gpus} | {' | '.join([*times, *efficiencies])} |")
    return "\n".join(lines)


def step_seconds(path: Path = MEASURED) -> float:
    """ResNet-50's step on one GPU as ``make gpu`` measured it; before that, :data:`ASSUMED`."""
    if not path.is_file():
        return ASSUMED
    rows = json.loads(path.read_text())["rows"]
    return next((row["ours"] for row in rows if row["name"] == "ResNet-50: SFSC step"), ASSUMED)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--step", type=float, default=step_seconds(), metavar="S", help="of a GPU (default %(default)s)"
    )
    parser.add_argument("--gpus", default="2,8", metavar="N,N", help="default %(default)s")
    arguments = parser.parse_args()
    print(table(arguments.step, [int(count) for count in arguments.gpus.split(",")]))


if __name__ == "__main__":
    main()
