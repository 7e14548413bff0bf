"""What is kept for a while, in a bucket: found, replaced, swept by age and by size."""

from __future__ import annotations

import pytest

from mattehorn.cache.kept import CACHE, Kept
from mattehorn.store.open import open_store

from .conftest import settings_for
from .swift import S3Server

pytestmark = pytest.mark.s3


def test_a_bucket_keeps_finds_and_is_swept(moto: S3Server) -> None:
    store = open_store(settings_for(moto))
    now = 1_800_000_000.0
    kept = Kept(store, CACHE, ttl_s=100, max_bytes=3000, clock=lambda: now)
    names = [f"{number:064x}" for number in range(3)]
    assert kept.get(names[0]) is None
    for name in names:
        kept.put(name, "about", [b"x" * 1000, b""])
        now += 10
    entry = kept.get(names[0])
    assert entry is not None
    assert (entry.about, entry.blobs) == ("about", (b"x" * 1000, b""))
    assert kept.sweep().removed == 1  # frames have heads: three of them do not fit
    assert [kept.get(name) is not None for name in names] == [False, True, True]
    kept.put(names[1], "anew", [b"y"])
    now += 91  # the third is too old, the second was kept anew
    assert kept.sweep().removed == 1
    assert [kept.get(name) is not None for name in names] == [False, True, False]
    assert len(list(store.list(CACHE))) == 2
