"""Which of bytes or JSON, and which image type, an Accept header asks for (contract 1.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mattehorn.errors import NotAcceptable
from mattehorn.image.encode import CONTENT_TYPES

_FORMATS = {content_type: name for name, content_type in CONTENT_TYPES.items() if content_type.startswith("image/")}
_QUALITY = re.compile(r"\d{1,3}(\.\d{0,6})?|\.\d{1,6}")


@dataclass(frozen=True)
class Accept:
    """A parsed Accept header: quality by media range; an absent header accepts everything."""

    ranges: dict[str, float]

    @property
    def wants_json(self) -> bool:
        """JSON only if its quality is strictly above that of `*/*` and of every image type."""
        others = [q for name, q in self.ranges.items() if name == "*/*" or name.startswith("image/")]
        return self.ranges.get("application/json", 0.0) > max(others, default=0.0)

    @property
    def format(self) -> str | None:
        """The format that one single concrete image type picks."""
        concrete = [_FORMATS[name] for name, q in self.ranges.items() if q > 0 and name in _FORMATS]
        return concrete[0] if len(concrete) == 1 else None

    def allows(self, content_type: str) -> bool:
        main = content_type.partition("/")[0]
        for name in (content_type, f"{main}/*", "*/*"):
            if name in self.ranges:
                return self.ranges[name] > 0
        return False


def parse_accept(header: str | None) -> Accept:
    """A malformed quality counts as 1, a malformed range is left out."""
    ranges: dict[str, float] = {}
    for part in (header or "*/*").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if name.count("/") != 1:
            continue
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        ranges[name] = min(1.0, float(quality)) if _QUALITY.fullmatch(quality) else 1.0
    return Accept(ranges or {"*/*": 1.0})


def require(accept: Accept, content_types: list[str]) -> None:
    """Raises NotAcceptable unless JSON is wanted or one of `content_types` (what the options lead to) may be sent."""
    if accept.wants_json or any(accept.allows(name) for name in content_types):
        return
    raise NotAcceptable(
        f"Accept allows {', '.join(accept.ranges)[:200]}; this request gives {' or '.join(content_types)}, "
        "or application/json. Send one of these, or */*."
    )
