"""An answer on its way out, and how it came about: what work.py gives, every contract's answers are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deployments.calls import Answer
from mattehorn.access.budgets import Standing


@dataclass(frozen=True)
class Served:
    """`cache` is None where no cache was asked; `standing` where nothing limits."""

    answer: Answer
    cache: Literal["hit", "miss"] | None = None
    standing: Standing | None = None
