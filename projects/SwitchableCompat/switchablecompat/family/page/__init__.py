"""The report of a family as one HTML page that needs nothing else."""

from .page import render_page

__all__ = ["render_page"]
