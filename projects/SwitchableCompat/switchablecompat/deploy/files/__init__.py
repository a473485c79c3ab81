"""Stand-alone model files of one sub-model, each with a card that records how it was checked."""
