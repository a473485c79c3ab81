"""A model of the cost of SFSC's step on several GPUs, from the measured step and bank, and stated machine constants.

The step computes forwards and backwards of m sub-models one after another. The flat gradient of each is summed over the
processes while the next sub-model computes. Only the sum of the last and smallest one overlaps with no computation. A
ring moves 2 (n - 1) / n of a buffer's bytes through each link.

    python -m gpu.scale_out --gpus 2,8 --step 0.065
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
BACKBONES, MEASURED = RESULTS / "backbones.json", RESULTS / "gpu" / "step.json"
ASSUMED = 0.065  # seconds of ResNet-50's step, 256 x 128, batch 64, float16, on one H100; an assumption, not measured
CLASSES, DIMENSION = 751, 512  # identities of Market-1501, and feature dimension: size of embedding and classifier
PRIVATE = 0.13e6  # affine parameters of all norms, averaged together at the end
LINKS = {  # bytes per second of one GPU in collectives, and seconds to start a collective
    "NVLink 4 (H100, one node)": (300e9, 20e-6),
    "PCIe 4.0 x16 (one node)": (20e9, 30e-6),
    "100 Gbit/s Ethernet (one GPU a node)": (10e9, 60e-6),
    "10 Gbit/s Ethernet (one GPU a node)": (1.0e9, 100e-6),
}
PICKLE = 1.0e-3  # seconds per step to check whether a process was asked to end, by small messages through gloo


@dataclass(frozen=True)
class Network:
    """Multiply-accumulates per image and elements of the flat gradient of each sub-model, the full model first."""

    compute: tuple[float, ...]
    elements: tuple[float, ...]


def measured_network() -> Network:
    """Read ResNet-50 from the measured table of backbones, and add the embedding and the classifier."""
    content = json.loads(BACKBONES.read_text())
    row = next(row for row in content["families"] if row["family"] == "ResNet")
    features = [row["features"][-1] * width for width in content["widths"]]
    head = [DIMENSION * count + DIMENSION * CLASSES for count in features]
    elements = [own + more for own, more in zip(row["parameters"], head, strict=True)]
    return Network(tuple(row["macs"][::-1]), tuple(elements[::-1]))


@dataclass(frozen=True)
class Estimate:
    """Estimated seconds of a step."""

    alone: float  # on one GPU
    exposed: float  # in which the step waits for sums of gradients
    communication: float  # of all sums, overlapped or not

    def efficiency(self, accumulate: int = 1) -> float:
        """Share of n times one GPU's throughput, if gradients of ``accumulate`` batches are added before each sum."""
        compute = self.alone * accumulate
        return compute / (compute + self.exposed)  # the sums overlap with the last batch


def ring_seconds(elements: float, gpus: int, bandwidth: float, latency: float) -> float:
    """Seconds of one all-reduce of float32 numbers in a ring."""
    return 2 * (gpus - 1) / gpus * elements * 4 / bandwidth + latency


def estimate(network: Network, step: float, gpus: int, link: tuple[float, float], rest: float = 0.15) -> Estimate:
    """Estimate the step on several GPUs, each with the batch size of a step that takes ``step`` seconds on one.

    ``link`` as in :data:`LINKS`; ``rest``: share of the step after the last backward (Gram matrices, optimiser).
    """
    compute = [macs / sum(network.compute) * step * (1 - rest) for macs in network.compute]
    if gpus == 1:
        return Estimate(step, 0.0, 0.0)
    sums = [ring_seconds(elements, gpus, *link) for elements in network.elements]
    computed, summed = 0.0, 0.0
    for seconds, wire in zip(compute, sums, strict=True):
        computed += seconds  # a finished backward ...
        summed = max(summed, computed) + wire  # ... starts its sum when the link is free
    exposed = summed - computed + ring_seconds(PRIVATE, gpus, *link) + PICKLE
    return Estimate(step, exposed, sum(sums))


def table(step: float, counts: Sequence[int], accumulate: int = 4) -> str:
    """A Markdown table by link and number of GPUs: exposed seconds, and efficiency without and with accumulation."""
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
    """Seconds of ResNet-50's step on one GPU as measured by ``make gpu``; :data:`ASSUMED` if not measured yet."""
    if not path.is_file():
        return ASSUMED
    rows = json.loads(path.read_text())["rows"]
    return next((row["ours"] for row in rows if row["name"] == "ResNet-50: SFSC step"), ASSUMED)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--step", type=float, default=step_seconds(), metavar="S", help="seconds of a step (default %(default)s)"
    )
    parser.add_argument("--gpus", default="2,8", metavar="N,N", help="numbers of GPUs (default %(default)s)")
    arguments = parser.parse_args()
    print(table(arguments.step, [int(count) for count in arguments.gpus.split(",")]))


if __name__ == "__main__":
    main()
