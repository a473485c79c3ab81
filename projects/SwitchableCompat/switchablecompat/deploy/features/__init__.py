"""Features in Parquet files, as a gallery keeps them or as shards of an extraction."""
