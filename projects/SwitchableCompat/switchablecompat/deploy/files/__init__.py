"""Stand-alone model files of one sub-model, each with a card and with what it was compared on."""
