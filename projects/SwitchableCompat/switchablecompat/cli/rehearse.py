"""Rehearse an upgrade in Milvus, end to end: exported files, engine, one threshold.

Cameras run a small sub-model (int8 by default), the gallery is encoded by a middle one and then anew by a large one, in
tenths, while queries go on. Prints mAP, and TAR at the family's threshold, after each tenth; writes rehearsal.json and
rehearsal.png. The data set is the first test set of the config.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

import gallery_arguments
import startup
from model_arguments import CONFIG_HELP
from switchablecompat.deploy.encoder import Encoder
from switchablecompat.deploy.files.export import export_submodel
from switchablecompat.deploy.files.held_out import HeldOut, calibration_pictures
from switchablecompat.deploy.files.low_precision import MAX_DROP, REDUCED, Limits, export_precision
from switchablecompat.deploy.files.opening import open_encoder
from switchablecompat.deploy.files.parity import parity_images
from switchablecompat.deploy.gallery.milvus_collection import read_state
from switchablecompat.deploy.gallery.milvus_load import Target
from switchablecompat.deploy.gallery.milvus_server import connection
from switchablecompat.deploy.gallery.upgrade import Stage, family_threshold, rehearse
from switchablecompat.deploy.image_list import items_of_dataset
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import atomic_write, refuse_unwritable, write_json
from switchablecompat.modeling.opened import OpenedModel, open_model
from switchablecompat.provenance import hardware, versions

matplotlib.use("Agg")
import matplotlib.pyplot as plt

EXAMPLES = """example:
  python tools/rehearse.py --weights outputs/demo/model_final.pth --camera 0.25 --old 0.5 --new 1.0 \\
      --output outputs/demo/rehearsal
"""
COLLECTION = SOURCE = "rehearsal"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--weights", required=True, metavar="W", help="checkpoint of the trained model")
    parser.add_argument("--config-file", default="", metavar="F", help=CONFIG_HELP)
    parser.add_argument(
        "--camera", type=float, default=0.25, metavar="X", help="width on cameras (default %(default)s)"
    )
    parser.add_argument(
        "--precision", choices=("float32", *REDUCED), default="int8", help="there (default %(default)s)"
    )
    parser.add_argument(
        "--old", type=float, default=0.5, metavar="X", help="of the gallery before (default %(default)s)"
    )
    parser.add_argument("--new", type=float, default=1.0, metavar="X", help="and after (default %(default)s)")
    parser.add_argument(
        "--far", type=float, default=1e-2, metavar="P", help="FAR of the threshold (default %(default)s)"
    )
    parser.add_argument(
        "--queries",
        type=gallery_arguments.positive,
        default=100,
        metavar="N",
        help="evenly spaced ones, each of which ranks the whole gallery at each stage (default %(default)s)",
    )
    parser.add_argument("--max-map-drop", type=float, default=MAX_DROP, metavar="P", help="of --precision int8")
    parser.add_argument("--uri", metavar="URI", help="of Milvus (default: gallery.db in --output, embedded)")
    parser.add_argument("--token", default="", metavar="TEXT", help="user:password, if the server asks")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the order (default %(default)s)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for files, database, JSON and plot")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys to override")
    return parser.parse_intermixed_args(argv)


def export_encoders(model: OpenedModel, arguments: argparse.Namespace) -> list[Encoder]:
    """Files of camera, old and new sub-model, read back."""
    folder = Path(arguments.output) / "export"
    images = parity_images(model.cfg)
    wanted = [(arguments.camera, arguments.precision), (arguments.old, "float32"), (arguments.new, "float32")]
    encoders = {}
    for width, precision in dict.fromkeys(wanted):
        if precision == "float32":
            path, _ = export_submodel(model, width, "onnx", folder, *images)
        else:
            calibration, limits = calibration_pictures(model), Limits(arguments.max_map_drop)
            path, _ = export_precision(model, width, precision, folder, HeldOut(model), calibration, limits)
        encoders[width, precision] = open_encoder(path)
    return [encoders[one] for one in wanted]


def draw(stages: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """mAP and TAR against the share of the gallery that is upgraded."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for key, label, marker in (("mAP", "mAP", "o"), ("tar", "TAR at the family's threshold", "s")):
        axes.plot([stage["share"] for stage in stages], [stage[key] for stage in stages], marker=marker, label=label)
    axes.set(xlabel="gallery encoded anew (%)", ylabel="%", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    refuse_unwritable(arguments.output, "--output")
    uri = arguments.uri or str(Path(arguments.output) / "gallery.db")
    model = open_model(arguments.weights, arguments.config_file, [*arguments.opts, "MODEL.DEVICE", "cpu"])
    for width in (arguments.camera, arguments.old, arguments.new):
        model.index_of(width)
    if arguments.old == arguments.new:
        raise InputError("--new", "must be another width than --old", arguments.new)
    dataset, manifest = model.cfg.DATASETS.TESTS[0], model.cfg.DATASETS.MANIFEST
    queries, gallery = (items_of_dataset(dataset, split, manifest) for split in ("query", "gallery"))
    try:
        camera, old, new = export_encoders(model, arguments)
        threshold = family_threshold([camera, old, new], queries, gallery, arguments.far)
        asked = [queries[i] for i in np.linspace(0, len(queries) - 1, min(arguments.queries, len(queries))).astype(int)]
        name = f"{camera.card.name} {camera.card.precision}"
        print(f"{len(asked)} queries by {name}, {len(gallery)} items by {old.card.name}, then {new.card.name}")
        print(f"threshold of the family at FAR {arguments.far:g}: {threshold}")
        print("upgraded     mAP     TAR      FAR  answered meanwhile", flush=True)
        with connection(uri, create=True, token=arguments.token) as client:
            drop_former(client)
            stages = rehearse(
                Target(client, COLLECTION), old, new, camera, asked, gallery, threshold, seed=arguments.seed, say=tell
            )
        content = {
            "format": 1,
            "dataset": dataset,
            "num_queries": len(asked),
            "num_gallery": len(gallery),
            "threshold": threshold,
            "target_FAR": arguments.far,
            "camera": camera.card.to_dict(),
            "old": old.card.to_dict(),
            "new": new.card.to_dict(),
            "stages": [asdict(stage) for stage in stages],
            "versions": versions(),
            "hardware": hardware(),
        }
        write_json(Path(arguments.output) / "rehearsal.json", content)
        title = f"Queries by {name}, gallery from {old.card.name} to {new.card.name}"
        draw(content["stages"], title, Path(arguments.output) / "rehearsal.png")
    except OSError as error:
        raise InputError("--output", "must be a folder that can be written", error) from error
    print(f"Written: {arguments.output}/rehearsal.json, {arguments.output}/rehearsal.png")
    return 0


def drop_former(client: Any) -> None:
    """Take away what an earlier rehearsal has left, and nothing else."""
    if client.has_collection(COLLECTION):
        source = read_state(client, COLLECTION)["source"]
        if source != SOURCE:
            raise InputError(f"collection {COLLECTION}", "must be an earlier rehearsal's, or not be there", source)
        client.drop_collection(COLLECTION)


def tell(stage: Stage) -> None:
    """A line of the table."""
    values = f"{stage.mAP:7.2f} {stage.tar:7.2f} {stage.far:8.4f} {stage.answered:9d}"
    print(f"{stage.share:6.0f} % {values}", flush=True)


if __name__ == "__main__":
    exit_on_input_error(main)
