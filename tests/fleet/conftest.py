"""The real S3 server of the remote store's tests, with its fixtures."""

from tests.remote.conftest import location, radosgw, s3_environment

__all__ = ["location", "radosgw", "s3_environment"]
