"""The options of each command. Nothing here loads torch or FastReID."""

from . import data, deployment, galleries, search, training

COMMANDS = {
    add_options.__name__.replace("_", "-"): add_options
    for add_options in (
        *(training.train, training.grid, training.compare, training.report, training.compare_precision),
        *(data.check, data.manifest),
        *(deployment.export, deployment.profile, deployment.profile_precisions, deployment.rehearse),
        *(galleries.extract, search.search, galleries.try_index),
    )
}

__all__ = ["COMMANDS"]
