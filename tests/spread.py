"""Spreads the tests over processes: whatever starts the service or breaks it in one line, every other file anywhere.

Services and faults wait more than they compute, so the others' work fits beside them; two services beside each other
would not fit. Called by conftest.py, in the controlling process of pytest-xdist.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

ONE_LINE = ("tests/ray/", "tests/chaos/")


class OneServiceAtATime(LoadFileScheduling):
    """pytest-xdist's spread by file, with the files of ONE_LINE taken as one."""

    def _split_scope(self, nodeid: str) -> str:
        return ONE_LINE[0] if nodeid.startswith(ONE_LINE) else str(super()._split_scope(nodeid))
