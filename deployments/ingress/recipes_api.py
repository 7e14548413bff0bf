"""GET /v1/recipes: the presets and the background templates. What a recipe is, `mattehorn.recipe.recipe` says."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from mattehorn.recipe.recipe import catalogue


def router() -> APIRouter:
    router = APIRouter(tags=["recipes"])
    document = catalogue()  # nothing in it changes while the process lives

    @router.get("/v1/recipes")
    async def list_recipes() -> dict[str, Any]:
        """Every recipe with its hash and all its options, defaults filled in; and the background templates."""
        return document

    return router
