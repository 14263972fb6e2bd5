"""The cache on disk: one Parquet file per instrument and UTC day, replaced whole or not at all. Synchronous."""

from backfilld.store.manager import BackfillCacheManager

__all__ = ["BackfillCacheManager"]
