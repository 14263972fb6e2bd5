"""The day file: Parquet with a certificate in its footer and a digest of its rows."""
