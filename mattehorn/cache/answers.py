"""Answers kept under the fingerprint of what they follow from, so that nothing is computed twice (fingerprint.py).

What it is not: it decides nothing about tenants, charges or waiting; the ingress does. Every call blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, ValidationError

from mattehorn.cache.kept import Entry, Kept
from mattehorn.errors import MattehornError, StoreUnavailable
from mattehorn.pipeline import Result
from mattehorn.store.interface import Store
from mattehorn.store.records import StoredResult, load_result

# Reading one holds it three times for a moment (object, result, response). 64 MB is a 16-megapixel cutout that does not
# compress at all, or a usual one of 50; 40 requests at once each with more would not fit beside an ingress replica.
OBJECT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class KeptAnswer:
    """As compose gave it, without its times."""

    result: Result
    stored: StoredResult | None


class _About(BaseModel):
    """`result` without its bytes, which are the blobs: the picture, then the matte if there is one."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")  # for bytes that Result may yet get

    result: Result
    stored: StoredResult | None
    has_alpha: bool


class Answers:
    """Over the store that stored results lie in. Threads may share it."""

    def __init__(self, kept: Kept, store: Store) -> None:
        self.kept, self._store = kept, store

    def find(self, name: str) -> KeptAnswer | None:
        """None for what was not kept, is too old or damaged, and for a stored result that is no longer stored.
        Raises StoreUnavailable."""
        entry = self.kept.get(name)
        answer = _answer(entry) if entry is not None else None
        if answer is None or (answer.stored is not None and not self._is_stored(answer.stored)):
            return None
        return answer

    def keep(self, name: str, answer: KeptAnswer) -> int:
        """The bytes that it takes; 0 for an answer of more than OBJECT_BYTES, which is not kept. Raises
        StoreUnavailable."""
        result = answer.result
        alpha = result.alpha_png
        if len(result.data) + len(alpha or b"") > OBJECT_BYTES:
            return 0
        bare = replace(result, data=b"", alpha_png=None, timings_ms={})
        about = _About(result=bare, stored=answer.stored, has_alpha=alpha is not None)
        return self.kept.put(name, about.model_dump_json(), [result.data, *([] if alpha is None else [alpha])])

    def _is_stored(self, stored: StoredResult) -> bool:
        try:
            load_result(self._store, stored.id, stored.tenant)
        except StoreUnavailable:
            raise
        except MattehornError:  # it is gone, or its record is damaged
            return False
        return True


def _answer(entry: Entry) -> KeptAnswer | None:
    """None for what another version wrote."""
    try:
        about = _About.model_validate_json(entry.about)
        data, *alphas = entry.blobs
        alpha = alphas[0] if about.has_alpha else None
    except (ValidationError, ValueError, IndexError):
        return None
    return KeptAnswer(replace(about.result, data=data, alpha_png=alpha), about.stored)
