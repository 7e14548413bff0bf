"""GET /v1/recipes: the presets, the operator's own recipes and the background templates.

What a recipe is, `mattehorn.recipe.recipe` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter

from mattehorn.recipe.recipe import Recipe, catalogue


def router(own: Sequence[Recipe] = ()) -> APIRouter:
    router = APIRouter(tags=["recipes"])
    """`own` are the operator's recipes."""
    document = catalogue(own)  # nothing in it changes while the process lives

    @router.get("/v1/recipes")
    async def list_recipes() -> dict[str, Any]:
        """Every recipe with its hash and all its options, defaults filled in; and the background templates."""
        return document

    return router
