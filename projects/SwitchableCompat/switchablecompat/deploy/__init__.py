"""From a trained family to devices: stand-alone files, a searchable gallery, profiles."""
