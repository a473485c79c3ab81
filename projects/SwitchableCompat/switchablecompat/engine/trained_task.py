"""Make a retrieval task from trained models and a test set, for ``tools/cross_test.py``, reports and the comparison."""

import hashlib
import itertools
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

from fastreid.data import CommDataset
from torch import Tensor

from ..data.findings import LabelNames
from ..data.opening import label_names, open_dataset
from ..errors import InputError
from ..evaluation.evaluator import grid_metadata
from ..evaluation.features import Features, extract_features
from ..evaluation.refinement import Refinement
from ..evaluation.task import RetrievalTask, normalised, undefined_cells
from ..fastreid_shims.loading import use_cpu_loader
from ..files import data_root
from ..modeling.opened import OpenedModel, Source, open_model
from ..modeling.trained import reference_digest
from ..settings import check_comparable
from ..widths import width_name
from .setup import check_datasets, check_device
from .trainer import SwitchableTrainer

logger = logging.getLogger("fastreid.switchablecompat.cross_test")


class Member(NamedTuple):
    """One sub-model of the grid."""

    width: float
    features: Tensor  # of the queries, then of the gallery, [Nq + Ng, D], float32, not normalised
    source: str  # its name in messages: its checkpoint or folder
    family: str  # digest of the model that it belongs to


class TrainedTask(NamedTuple):
    """A test set encoded by trained models."""

    task: RetrievalTask
    images: Sequence[tuple[str, int, int]]  # file, identity and camera of each image, queries first
    refinement: Refinement | None  # that the first model's config enables, if any
    labels: LabelNames  # names of the identities and cameras for readers


def task_of_members(
    members: Sequence[Member],
    labels: Sequence[Tensor],
    num_query: int,
    dataset: str,
    *,
    undefined: Collection[tuple[float, float]] = (),
    diagonal_only: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> RetrievalTask:
    """Combine sub-models, in any order, to one task.

    Args:
        members: at least one sub-model.
        labels: identities and cameras of the queries, then of the gallery, ``[Nq + Ng]`` each.
        num_query: Nq.
        dataset: name of the data set.
        undefined: cells that the method does not define, as (query width, gallery width).
        diagonal_only: define only the self-tests, for members that do not share a feature space.
        metadata: metadata of the task. ``family`` is added: the members' digest if all have the same one. Otherwise it
            is a digest of the sorted list of their digests, and ``families`` has all of them by name.

    Raises:
        InputError: two members of the same width, different dimensions, or an undefined cell that no member has.
    """
    members = sorted(members, key=lambda member: member.width)
    for one, other in itertools.pairwise(members):
        if width_name(one.width) == width_name(other.width):
            raise InputError(f"width {other.width}", "must come from one model", f"{one.source} and {other.source}")
    check_comparable(*((member.source, {"dimension": member.features.shape[1]}) for member in members))
    widths = [member.width for member in members]
    skipped = undefined_cells(widths, undefined, diagonal_only=diagonal_only)
    families = {width_name(member.width): member.family for member in members}
    distinct = sorted({*families.values()})
    metadata = {**(metadata or {}), "family": distinct[0]}
    if len(distinct) > 1:
        joint = hashlib.sha256("\n".join(distinct).encode()).hexdigest()
        metadata |= {"family": f"sha256:{joint}", "families": families}
    values, sides = normalised([member.features for member in members]), (slice(num_query), slice(num_query, None))
    return RetrievalTask.of_images(
        widths, values, labels, *sides, dataset=dataset, undefined=skipped, metadata=metadata
    )


def open_task(
    sources: Sequence[Source], opts: Sequence[str] = (), *, dataset: str = "", method: str = "", **cells: Any
) -> TrainedTask:
    """Run trained models on the test set of the first.

    Args:
        sources: at least one model.
        opts: ``KEY VALUE`` pairs that override every config (device, batch size...).
        dataset: name of another data set to evaluate on.
        method: name to record. Default: the method in the configs, if they agree.
        **cells: ``undefined`` and ``diagonal_only`` of :func:`task_of_members`.

    Raises:
        InputError: a file cannot be used, or the models cannot be compared.
    """
    # Open all models first, so that a wrong one is rejected before any features are computed.
    models = [open_model(source.weights, source.config_file, opts, as_trained=True) for source in sources]
    indices = [
        range(len(model.widths)) if source.width is None else [model.index_of(source.width)]
        for source, model in zip(sources, models, strict=True)
    ]
    check_comparable(*((model.weights, _space(model)) for model in models))
    warn_of_strangers(models, [source.config_file for source in sources])
    first = models[0].cfg.clone()
    first.defrost()
    if dataset:
        first.DATASETS.TESTS = (dataset,)
    if len(first.DATASETS.TESTS) != 1:
        raise InputError("DATASETS.TESTS", "must be one data set; choose with --dataset", tuple(first.DATASETS.TESTS))
    if first.TEST.GALLERY_DRAWS > 1:
        logger.warning("One gallery is evaluated: TEST.GALLERY_DRAWS is for train_net, whose grids are means")
        first.TEST.GALLERY_DRAWS = 1
    first.freeze()
    use_cpu_loader(not first.MODEL.DEVICE.startswith("cuda"))
    check_device(first)
    check_datasets(first, eval_only=True)

    (name,) = first.DATASETS.TESTS
    loader, num_query = SwitchableTrainer.build_test_loader(first, name)
    members = []
    for number, (model, chosen) in enumerate(zip(models, indices, strict=True), start=1):
        widths = [model.widths[index] for index in chosen]
        logger.info(f"Model {number}/{len(sources)}: {model.weights}, widths {widths}")
        options = {"flip": first.TEST.FLIP.ENABLED, "precision": first.TEST.PRECISION, "indices": chosen}
        features = cast(Features, extract_features(model.network, loader, **options))  # one process: not None
        members += [Member(w, v, model.weights, model.family) for w, v in zip(widths, features.values, strict=True)]

    record = {key: _common([model.record.get(key) for model in models]) for key in ("method", "seed", "config")}
    record["method"] = method or record["method"]
    images: CommDataset = loader.dataset
    metadata = grid_metadata(first, "", images.img_items, num_query, record)
    seen = (features.pids, features.camids)
    task = task_of_members(members, seen, num_query, name, metadata=metadata, **cells)
    labels = label_names(open_dataset(name, data_root(), first.DATASETS.MANIFEST)[0])
    return TrainedTask(task, images.img_items, Refinement.from_config(first), labels)


def warn_of_strangers(models: Sequence[OpenedModel], config_files: Sequence[str]) -> None:
    """Warn of models whose reference is none of the others, or that were trained by different manifests."""
    files = [model.record.get("files", {}) for model in models]
    references = [own.get("MODEL.REFERENCE.WEIGHTS") for own in files]
    if any(references) and not all(references):
        known = {reference_digest(m.weights, file) for m, file in zip(models, config_files, strict=True)}
        for model, reference in zip(models, references, strict=True):
            if reference and reference not in known:
                logger.warning(
                    f"{model.weights} was trained to be compatible with a model that is not here (what its "
                    "MODEL.REFERENCE.WEIGHTS held then): its cross-tests say nothing about the method"
                )
    manifests = {own.get("DATASETS.MANIFEST") for own in files} - {None, ""}
    if len(manifests) > 1:
        logger.warning(
            f"The models were trained by {len(manifests)} different manifests (DATASETS.MANIFEST), and are tested by "
            "that of the first: another one may have been trained on its test identities"
        )


def _space(model: OpenedModel) -> dict[str, Any]:
    """The values that must agree. The family is left out, since models trained separately have different families."""
    own = {"MODEL.HEADS.NECK_FEAT": model.cfg.MODEL.HEADS.NECK_FEAT, "TEST.FLIP.ENABLED": model.cfg.TEST.FLIP.ENABLED}
    return {**model.space, **own, "family": "any"}


def _common(values: list) -> Any:
    """The common value of all, or the list of values if they differ."""
    return values[0] if all(value == values[0] for value in values) else values
