"""Features of several trained models on one test set: what ``tools/cross_test.py`` and the comparison need."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastreid.data import CommDataset
from torch import Tensor

from ..data.findings import LabelNames
from ..data.opening import data_root, label_names, open_dataset
from ..errors import InputError
from ..evaluation.cells import QueryResults
from ..evaluation.cross_test import Member, cross_test
from ..evaluation.evaluator import grid_metadata
from ..evaluation.features import Features, extract_features
from ..evaluation.grid import CompatibilityGrid
from ..evaluation.refinement import Refinement
from ..fastreid_shims.loading import use_cpu_loader
from ..modeling.trained import open_trained
from ..provenance import family_digest
from ..settings import feature_settings
from .setup import check_datasets
from .sources import Source, build_source, check_alike, strip_training
from .trainer import SwitchableTrainer

logger = logging.getLogger("fastreid.switchablecompat.cross_test")


@dataclass(frozen=True, eq=False)
class SourceFeatures:
    """What trained models say of one test set, queries first.

    Attributes:
        members: the sub-models with their features, ``[Nq + Ng, D]`` each.
        pids: identities, ``[Nq + Ng]``.
        camids: cameras, ``[Nq + Ng]``.
        paths: image files, ``[Nq + Ng]``.
        num_query: Nq.
        dataset: name of the test set.
        metadata: what a grid of them records.
        refinement: what the first model's config asks for beside the plain grid.
        labels: what people call the identities and cameras.
    """

    members: list[Member]
    pids: Tensor
    camids: Tensor
    paths: list[str]
    num_query: int
    dataset: str
    metadata: dict[str, Any]
    refinement: Refinement | None
    labels: LabelNames


def cross_test_sources(
    sources: Sequence[Source], opts: Sequence[str] = (), *, dataset: str = "", method: str = "", **cells: Any
) -> tuple[CompatibilityGrid, QueryResults]:
    """Evaluate trained models against each other on the first one's test set.

    Args:
        sources: see :func:`extract_sources`, and for ``opts``, ``dataset`` and ``method`` too.
        **cells: ``undefined`` and ``diagonal_only`` of :func:`~switchablecompat.evaluation.cross_test.cross_test`.

    Raises:
        InputError: files that cannot be used, or models that cannot be compared.
    """
    found = extract_sources(sources, opts, dataset=dataset, method=method)
    return cross_test(
        found.members, found.pids, found.camids, found.num_query, found.dataset,
        refinement=found.refinement, metadata=found.metadata, **cells,
    )  # fmt: skip


def extract_sources(
    sources: Sequence[Source], opts: Sequence[str] = (), *, dataset: str = "", method: str = ""
) -> SourceFeatures:
    """Features of trained models on the first one's test set.

    Args:
        sources: at least one.
        opts: ``KEY VALUE`` pairs that override every config (device, batch size...).
        dataset: name of another data set to evaluate on.
        method: name to record; by default what the configs say they are, if they agree.

    Raises:
        InputError: files that cannot be used, or models that cannot be compared.
    """
    trained = [open_trained(source.weights, source.config_file, opts) for source in sources]
    records, configs = [one.record for one in trained], [one.cfg for one in trained]
    for cfg in configs:
        strip_training(cfg)
    check_alike([source.weights for source in sources], configs)
    first = configs[0]
    if dataset:
        first.DATASETS.TESTS = (dataset,)
    if len(first.DATASETS.TESTS) != 1:
        raise InputError("DATASETS.TESTS", "must be one data set; choose with --dataset", tuple(first.DATASETS.TESTS))
    if first.TEST.GALLERY_DRAWS > 1:
        logger.warning("One gallery is evaluated: TEST.GALLERY_DRAWS is for train_net, whose grids are means")
        first.TEST.GALLERY_DRAWS = 1
    first.freeze()
    use_cpu_loader(not first.MODEL.DEVICE.startswith("cuda"))
    check_datasets(first, eval_only=True)

    # All models first: a wrong one is refused before time goes into the features of another.
    models = [build_source(*one) for one in zip(sources, trained, strict=True)]
    del trained  # what is in the files is as large as the models
    (name,) = first.DATASETS.TESTS
    loader, num_query = SwitchableTrainer.build_test_loader(first, name)
    members = []
    for number, (source, cfg, (model, indices)) in enumerate(zip(sources, configs, models, strict=True), start=1):
        widths = [model.switch.widths[index] for index in indices]
        logger.info(f"Model {number}/{len(sources)}: {source.weights}, widths {widths}")
        options = {"flip": first.TEST.FLIP.ENABLED, "precision": first.TEST.PRECISION, "indices": indices}
        extracted = extract_features(model, loader, **options)
        assert extracted is not None  # there is one process
        features: Features = extracted
        family = family_digest(model.state_dict(), feature_settings(cfg))
        members += [Member(w, v, source.weights, family) for w, v in zip(widths, features.values, strict=True)]

    record = {key: _common([one.get(key) for one in records]) for key in ("method", "seed", "config")}
    record["method"] = method or record["method"]
    metadata = grid_metadata(first, "", num_query, len(features.pids) - num_query, record)
    images: CommDataset = loader.dataset
    paths = [path for path, *_ in images.img_items]
    refinement = Refinement.from_config(first)
    labels = label_names(open_dataset(name, data_root(), first.DATASETS.MANIFEST)[0])
    return SourceFeatures(members, features.pids, features.camids, paths, num_query, name, metadata, refinement, labels)


def _common(values: list) -> Any:
    """The value that all have, else the list of them."""
    return values[0] if all(value == values[0] for value in values) else values
