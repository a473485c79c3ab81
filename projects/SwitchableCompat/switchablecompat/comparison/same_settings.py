"""Whether a run or a result was made with the settings that a suite asks for now, and with the same files."""

from collections.abc import Collection, Mapping
from typing import Any

from fastreid.config import get_cfg

from ..config import add_switchablecompat_config
from ..config_unread import why_unread
from ..settings import flat_settings

REFERENCE = "reference."  # prefix of the settings of a run's reference
# How images are read, which leaves every bit of a training as it is. Results with other values remain valid.
READING = ("DATALOADER.KEEP_IMAGES", "DATALOADER.NUM_WORKERS")


def difference(there: Mapping[str, Any], asked: Mapping[str, Any], apart: Collection[str] = ()) -> str:
    """The first key in which two settings differ, as text; empty if they mean the same.

    A key that is missing ``there`` and has its default in ``asked`` is no difference, so results remain valid when an
    update adds keys. Nor is a key that nothing reads in either, nor one of ``READING``. ``apart`` are the keys whose
    value is a list with one value for each model (:meth:`Job.apart`).
    """
    defaults = flat_settings(add_switchablecompat_config(get_cfg()))
    models = [*of_models(there, apart), *of_models(asked, apart)]
    for key in sorted({*there, *asked}):
        if key.removeprefix(REFERENCE) in READING or all(idle(key, settings, defaults) for settings in models):
            continue
        before = there[key] if key in there else defaults.get(key.removeprefix(REFERENCE))
        if key not in asked or before != asked[key]:
            return f"{key} {before!r} there, {asked.get(key)!r} asked"
    return ""


def of_models(settings: Mapping[str, Any], apart: Collection[str]) -> list[Mapping[str, Any]]:
    """The settings of each model of a job; those of a run as they are."""
    lists = {key: settings[key] for key in apart if isinstance(settings.get(key), list | tuple)}
    count = max(map(len, lists.values()), default=1)
    return [{**settings, **{key: own[i] for key, own in lists.items() if i < len(own)}} for i in range(count)]


def idle(key: str, settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Whether nothing reads a key of these settings, which belong to a run or its reference."""
    prefix = REFERENCE if key.startswith(REFERENCE) else ""
    own = key.removeprefix(prefix)
    return bool(why_unread(own, lambda other: settings.get(f"{prefix}{other}", defaults.get(other))))


def other_file(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """The first file whose content has changed, as text; empty if none has, as far as both know it."""
    changed = sorted(key for key in {*there} & {*here} if there[key] != here[key])
    return f"{changed[0]} {there[changed[0]]} there, {here[changed[0]]} now" if changed else ""
