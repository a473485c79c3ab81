"""Try the whole evaluation on one batch of a test set before training, to find errors early, not after an epoch."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastreid.config import CfgNode
from fastreid.data import CommDataset, build_reid_test_loader
from torch.utils.data import Subset

from ..data.streams import seeded
from ..errors import InputError
from ..evaluation.evaluator import grid_of_features
from ..evaluation.features import extract_features
from ..modeling import SwitchableBaseline


def try_evaluation(cfg: CfgNode, model: SwitchableBaseline, images: CommDataset, num_query: int, dataset: str) -> None:
    """Evaluate one batch of the test images, the queries first. Random states and the model stay as they are.

    The batch has the first queries that can be scored, a gallery image for each of them, and the first gallery images.
    Any features are accepted, also infinite ones, because the network is not trained yet.

    Raises:
        InputError: The failure in one line, such as an unreadable image, or a size that the network cannot take.
    """
    queries, gallery = choose(images.img_items, num_query, cfg.TEST.IMS_PER_BATCH)
    batch = Subset(images, [*queries, *gallery])
    try:
        with seeded(0):  # loaders always draw a random number
            loader, _ = build_reid_test_loader(batch, cfg.TEST.IMS_PER_BATCH, len(queries), 0)
            features = extract_features(model, loader, flip=cfg.TEST.FLIP.ENABLED)
            if features is None:
                return
            finite = tuple(value.nan_to_num(0, 0, 0) for value in features.values)
            grid_of_features(cfg, replace(features, values=finite), model.switch.widths, len(queries), dataset)
    except InputError:
        raise
    except Exception as error:  # networks reject an image with errors of any type
        rule = f"one batch of it must go through the evaluation (INPUT.SIZE_TEST {list(cfg.INPUT.SIZE_TEST)})"
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(f"data set {dataset}", rule, f"{type(error).__name__}: {reason}") from error


def choose(items: Sequence[tuple[str, Any, Any]], num_query: int, size: int) -> tuple[list[int], list[int]]:
    """Indices of the queries and of the gallery images of a batch of about ``size``, at least two, ascending.

    The items are paths, identities and cameras, the queries first.
    """
    of_identity: dict[Any, list[int]] = defaultdict(list)
    for index in range(num_query, len(items)):
        of_identity[items[index][1]].append(index)
    queries: list[int] = []
    gallery: set[int] = set()
    for index, (_, pid, camid) in enumerate(items[:num_query]):
        if queries and len(queries) + len(gallery) + 2 > size:
            break
        match = next((other for other in of_identity[pid] if items[other][2] != camid), None)
        if match is not None:
            queries.append(index)
            gallery.add(match)
    for index in range(num_query, len(items)):
        if len(queries) + len(gallery) >= size:
            break
        gallery.add(index)
    return queries or [0], sorted(gallery)  # for queries without a match the evaluation gives the error
