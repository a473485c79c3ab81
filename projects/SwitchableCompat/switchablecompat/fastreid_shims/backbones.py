"""Backbone builders: recipes of RegNet and EfficientNet wherever the process runs."""

from pathlib import Path

import fastreid
from fastreid.modeling.backbones.regnet import regnet

from .base import shim

ROOT = Path(fastreid.__file__).parents[1]
RECIPE = "fastreid/modeling/backbones/regnet/regnetx/RegNetX-200MF_dds_8gpu.yaml"  # says nothing of SE


def _recipes_fail() -> bool:
    node = regnet.regnet_cfg.clone()
    node.REGNET.SE_ON = True
    try:
        node.merge_from_file(RECIPE)
    except FileNotFoundError:
        return True
    return node.REGNET.SE_ON


@shim("regnet-recipes", needed=_recipes_fail)
def _patch_recipes() -> None:
    """fastreid/modeling/backbones/regnet/regnet.py:551 and effnet.py:244 name their recipes relative to a checkout.

    Anywhere else: ``FileNotFoundError: 'fastreid/modeling/backbones/regnet/regnetx/RegNetX-200MF_dds_8gpu.yaml'``. And
    both merge into one global config: after a RegNetY every RegNetX of the process has squeeze-and-excitation too.
    """
    node = regnet.regnet_cfg
    defaults = node.clone()

    class RecipeNode(type(node)):  # type: ignore[misc]  # a base chosen at run time
        """The global config. A recipe starts from the defaults, whatever was merged before."""

        def merge_from_file(self, cfg_filename: str) -> None:
            recipe = defaults.clone()
            recipe.merge_from_file(str(ROOT / cfg_filename))
            self.update(recipe)

    object.__setattr__(node, "__class__", RecipeNode)  # the same object, which effnet.py has too
