"""The S3 servers of the store's tests, for services and jobs that keep their results there."""

from tests.s3.conftest import moto_s3, set_keys, swift_s3

__all__ = ["moto_s3", "set_keys", "swift_s3"]
