"""Rehearse an upgrade of a gallery in Milvus, end to end."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from ..deploy.encoder import Encoder
from ..deploy.files.export import export_folder, export_submodel
from ..deploy.files.held_out import HeldOut, calibration_pictures
from ..deploy.files.low_precision import Limits, export_precision
from ..deploy.files.opening import open_encoder
from ..deploy.files.parity import parity_images
from ..deploy.gallery.milvus_collection import read_state
from ..deploy.gallery.milvus_load import Target
from ..deploy.gallery.milvus_server import connection
from ..deploy.gallery.upgrade import check_size, family_threshold, rehearse
from ..deploy.image_list import items_of_dataset
from ..errors import InputError
from ..files import atomic_write, refuse_unwritable, write_json
from ..modeling.opened import OpenedModel
from ..provenance import hardware, versions
from .encoders import open_to_export

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLLECTION = SOURCE = "rehearsal"


def export_encoders(model: OpenedModel, arguments: argparse.Namespace) -> list[Encoder]:
    folder = Path(arguments.output) / "export"
    wanted = [(arguments.camera, arguments.precision), (arguments.old, "float32"), (arguments.new, "float32")]
    for width, precision in wanted:
        refuse_unwritable(export_folder(folder, width, "onnx", precision), "--output")
    images = parity_images(model.cfg)
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
    """Plot mAP and TAR against the share of the gallery that is upgraded."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for key, label, marker in (("mAP", "mAP", "o"), ("tar", "TAR at the family's threshold", "s")):
        axes.plot([stage["share"] for stage in stages], [stage[key] for stage in stages], marker=marker, label=label)
    axes.set(xlabel="gallery encoded anew (%)", ylabel="%", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def main(arguments: argparse.Namespace) -> None:
    uri = arguments.uri or str(Path(arguments.output) / "gallery.db")
    model = open_to_export(arguments)
    for width in (arguments.camera, arguments.old, arguments.new):
        model.index_of(width)
    dataset, manifest = model.cfg.DATASETS.TESTS[0], model.cfg.DATASETS.MANIFEST
    queries, gallery = (items_of_dataset(dataset, split, manifest) for split in ("query", "gallery"))
    check_size(gallery)
    camera, old, new = export_encoders(model, arguments)
    threshold = family_threshold([camera, old, new], queries, gallery, arguments.far)
    asked = [queries[i] for i in np.linspace(0, len(queries) - 1, min(arguments.queries, len(queries))).astype(int)]
    name = f"{camera.card.name} {camera.card.precision}"
    print(f"{len(asked)} queries by {name}, {len(gallery)} items by {old.card.name}, then {new.card.name}")
    print(f"threshold of the family at FAR {arguments.far:g}: {threshold}")
    print("upgraded     mAP     TAR      FAR  answered meanwhile", flush=True)
    with connection(uri, create=True, token=arguments.token) as client:
        if client.has_collection(COLLECTION):  # only that of an earlier rehearsal may go
            if (source := read_state(client, COLLECTION)["source"]) != SOURCE:
                raise InputError(f"collection {COLLECTION}", "must be an earlier rehearsal's, or not be there", source)
            client.drop_collection(COLLECTION)
        target, stages = Target(client, COLLECTION), []
        for stage in rehearse(target, old, new, camera, asked, gallery, threshold, seed=arguments.seed):
            values = f"{stage.mAP:7.2f} {stage.tar:7.2f} {stage.far:8.4f} {stage.answered:9d}"
            print(f"{stage.share:6.0f} % {values}", flush=True)
            stages.append(asdict(stage))
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
        "stages": stages,
        "versions": versions(),
        "hardware": hardware(),
    }
    write_json(Path(arguments.output) / "rehearsal.json", content)
    title = f"Queries by {name}, gallery from {old.card.name} to {new.card.name}"
    draw(stages, title, Path(arguments.output) / "rehearsal.png")
    print(f"Written: {arguments.output}/rehearsal.json, {arguments.output}/rehearsal.png")
