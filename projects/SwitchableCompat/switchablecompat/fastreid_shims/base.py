"""What a shim is: a name, a feature test, and a patch."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Shim:
    """One workaround for one thing of FastReID that fails on a current stack.

    Attributes:
        name: What logs and tests call it.
        needed: The feature test. True while the symptom exists, False where upstream works or the patch is in place.
        patch: Removes the symptom.
    """

    name: str
    needed: Callable[[], bool]
    patch: Callable[[], None]

    def apply(self) -> bool:
        """Patch if needed; returns whether it was."""
        needed = self.needed()
        if needed:
            self.patch()
        return needed


def shim(name: str, needed: Callable[[], bool]) -> Callable[[Callable[[], None]], Shim]:
    """Make a patch a shim."""
    return lambda patch: Shim(name, needed, patch)
