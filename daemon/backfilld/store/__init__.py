"""The cache on disk: one Parquet file per instrument and UTC day, replaced whole or not at all. Synchronous."""
