"""Features in Parquet files, in a gallery or as shards of an extraction."""
