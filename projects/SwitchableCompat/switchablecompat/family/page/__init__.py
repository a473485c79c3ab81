"""The report on a family as one self-contained HTML page."""
