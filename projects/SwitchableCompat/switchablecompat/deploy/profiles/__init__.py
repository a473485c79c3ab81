"""What sub-models, precisions and search engines cost, as measured."""
