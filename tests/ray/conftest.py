"""The S3 server of the store's tests, for a service that keeps its results there."""

from tests.s3.conftest import swift_s3

__all__ = ["swift_s3"]
