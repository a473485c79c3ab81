"""Backbone builders: recipes of RegNet and EfficientNet wherever the process runs."""

from __future__ import annotations

from pathlib import Path

from yacs.config import CfgNode

from .base import Shim

RECIPE = "fastreid/modeling/backbones/regnet/regnetx/RegNetX-200MF_dds_8gpu.yaml"  # says nothing of SE


def recipe_node(original: type[CfgNode], defaults: CfgNode, root: Path) -> type[CfgNode]:
    """``original`` whose recipes are found below ``root`` and start from ``defaults``, whatever was merged before."""

    class RecipeNode(original):
        """FastReID's global config of RegNet and EfficientNet."""

        def merge_from_file(self, cfg_filename: str) -> None:
            recipe = defaults.clone()
            recipe.merge_from_file(str(root / cfg_filename))
            self.update(recipe)

    return RecipeNode


def _recipes_fail() -> bool:
    from fastreid.modeling.backbones.regnet import regnet

    node = regnet.regnet_cfg.clone()
    node.REGNET.SE_ON = True
    try:
        node.merge_from_file(RECIPE)
    except FileNotFoundError:
        return True
    return node.REGNET.SE_ON


def _patch_recipes() -> None:
    """fastreid/modeling/backbones/regnet/regnet.py:551 and effnet.py:244 name their recipes relative to a checkout.

    Anywhere else: ``FileNotFoundError: 'fastreid/modeling/backbones/regnet/regnetx/RegNetX-200MF_dds_8gpu.yaml'``. And
    both merge into one global config: after a RegNetY every RegNetX of the process has squeeze-and-excitation too.
    """
    import fastreid
    from fastreid.modeling.backbones.regnet import regnet

    node = regnet.regnet_cfg
    new = recipe_node(type(node), node.clone(), Path(fastreid.__file__).parents[1])
    object.__setattr__(node, "__class__", new)  # the same object, which effnet.py has too


SHIMS = (Shim("regnet-recipes", _recipes_fail, _patch_recipes),)
