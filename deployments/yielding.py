"""Threads that yield the cores to others of the same process: where bulk work runs. Pure: no Ray."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

NICE = 19  # the lowest; Ray's workers have 15, so beside one interactive thread a bulk thread gets a third of a core


def yielding_threads(count: int, name: str) -> ThreadPoolExecutor:
    """`count` threads of the lowest priority. Linux gives each thread its own; elsewhere they are like all others."""
    return ThreadPoolExecutor(count, thread_name_prefix=name, initializer=_yield_the_core)


def _yield_the_core() -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
