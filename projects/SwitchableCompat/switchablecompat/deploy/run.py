"""A trained run, opened for its features: the network, its family, and the card of each of its sub-models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model
from fastreid.modeling.meta_arch.baseline import Baseline
from torch import Tensor, nn

from ..config import merge_config
from ..engine.sources import strip_training
from ..evaluation.features import inference_mode
from ..evaluation.precision import computing_in
from ..modeling import SwitchableBaseline, extract_submodel
from ..modeling.checkpoint import load_for_evaluation
from ..modeling.trained import open_trained, run_record
from ..provenance import family_digest
from ..settings import feature_settings
from .card import ModelCard
from .images import preprocessing_of


@dataclass(frozen=True)
class TrainedRun:
    """A switchable network with its trained weights, without its classifier.

    Attributes:
        cfg: Its config, without what only training needs; weights in torch's default memory format, in which an
            exported sub-model gives the same bits.
        weights: Its checkpoint.
        model: The network, in evaluation mode.
        family: Digest of its feature space; ``untrained`` with initial weights.
        record: What it keeps of its run (``run_record``).
    """

    cfg: Any
    weights: str
    model: SwitchableBaseline
    family: str
    record: dict[str, Any]

    @classmethod
    def load(cls, config_file: str, weights: str, opts: Sequence[str] = ()) -> TrainedRun:
        """Open a run.

        Args:
            config_file: Its config; empty for what the checkpoint keeps, or for ``config.yaml`` beside it.
            weights: ``model_final.pth`` in its output folder.
            opts: ``KEY VALUE`` pairs that override the config.

        Raises:
            InputError: A file that cannot be used, or a config that the checkpoint does not fit.
        """
        trained = open_trained(weights, config_file, opts)
        run = cls._build(trained.cfg, weights, trained.record)
        load_for_evaluation(run.model, weights, config_file or "this config", trained.content)
        return replace(run, family=family_digest(run.model.state_dict(), feature_settings(run.cfg)))

    @classmethod
    def untrained(cls, config_file: str, opts: Sequence[str] = ()) -> TrainedRun:
        """The same with initial weights, which tell nothing but sizes and speed; ``weights`` is empty.

        Raises:
            InputError: A config that cannot be used.
        """
        cfg = merge_config(config_file, opts)
        return cls._build(cfg, "", run_record(cfg))

    @classmethod
    def _build(cls, cfg: CfgNode, weights: str, record: dict[str, Any]) -> TrainedRun:
        strip_training(cfg)
        cfg.MODEL.SWITCHABLE.CHANNELS_LAST = False
        cfg.freeze()
        return cls(cfg, weights, build_model(cfg).eval(), "untrained", record)

    @property
    def widths(self) -> tuple[float, ...]:
        """Width multipliers of its sub-models, ascending."""
        return self.model.switch.widths

    def features(self, images: Tensor, width: float) -> Tensor:
        """Raw features [N, D] of one sub-model, on the CPU, of images [N, 3, H, W] (RGB, 0-255).

        Raises:
            InputError: The run has no such width.
        """
        computing = computing_in(self.cfg.TEST.PRECISION, self.cfg.MODEL.DEVICE)
        with self.model.switch.use(self.model.switch.index_of(width)), inference_mode(self.model), computing:
            return self.model(images).float().cpu()

    def card(self, width: float, **own: Any) -> ModelCard:
        """The card of one sub-model: as a part of the checkpoint, or with ``own`` fields as an export of it."""
        width = self.widths[self.model.switch.index_of(width)]
        own = {"kind": "checkpoint", "file": Path(self.weights).name, "l2_normalised": False, **own}
        extra = {key: self.record[key] for key in ("method", "seed", "config")}
        return ModelCard(
            family=self.family,
            width=width,
            widths=self.widths,
            dimension=self.model.heads.weight.shape[1],
            preprocessing=preprocessing_of(self.cfg),
            **{**own, "extra": {**extra, **own.get("extra", {})}},
        )

    def submodel(self, width: float) -> Baseline:
        """One sub-model as a plain network of its own, in evaluation mode; without classifier, which has no rows.

        Raises:
            InputError: The run has no such width.
        """
        model = extract_submodel(self.model, width)
        model.heads.weight = nn.Parameter(model.heads.weight.detach()[:0].clone())
        return model
