"""Names of sub-models by their width multiplier, shared by loss names, grid scalars and file names."""

from .errors import InputError

DECIMALS = 4


def width_name(width: float) -> str:
    """Name a width multiplier: its digits without the point, with at least two decimals.

    Two widths have different names if they differ within four decimals.

    Example:
        >>> [width_name(width) for width in (0.25, 0.375, 0.5, 1.0)]
        ['w025', 'w0375', 'w050', 'w100']

    Raises:
        InputError: if the width, rounded to four decimals, is not in (0, 1].
    """
    rounded = round(float(width), DECIMALS)
    if not 0.0 < rounded <= 1.0:  # also false for NaN
        raise InputError("width", f"must be in (0, 1] when rounded to {DECIMALS} decimals", width)
    ones, fraction = f"{rounded:.{DECIMALS}f}".split(".")
    return f"w{ones}{fraction.rstrip('0').ljust(2, '0')}"
