"""The recipes that come with the package, as documents: what a user may write as JSON, and no more.

What it is not: it checks nothing (recipe.py does, on import). A preset that has been released stays as it is,
for its hash is in the keys of everybody's results; a better one is a new version beside it.
"""

from __future__ import annotations

from typing import Any

_SHOP = {"output": "composite", "format": "jpg", "encode_quality": 95}  # 95 keeps the edge's colour (4:4:4)

_FIRST: tuple[dict[str, Any], ...] = (
    {
        "name": "transparent-web",
        "version": 1,
        "description": "A cutout as webp, of the photo's size.",
        # exact alpha, far smaller than a png, shown by every browser since 2020
        "options": {"output": "cutout", "format": "webp", "encode_quality": 90},
    },
    {
        "name": "marketplace-white",
        "version": 1,
        "description": "The subject on pure white, where it was in the photo.",
        # pure white and jpg is what large marketplaces ask of a main picture
        "options": {**_SHOP, "background_color": "#ffffff"},
    },
    {
        "name": "marketplace-white-2000",
        "version": 1,
        "description": "The subject on pure white, 2000x2000, its longer side 85 % of that.",
        # 2000 px lets a shop's magnifier work; 85 % is the share that large marketplaces ask for
        "options": {**_SHOP, "background_color": "#ffffff", "output_size": "2000x2000", "padding": "0.075"},
    },
    {
        "name": "gradient",
        "version": 1,
        "description": "The subject on a cool grey gradient with a contact shadow, 2000x2000.",
        "options": {
            **_SHOP,
            "background_gradient": "180deg #f7f8fa #d5dae2",
            "shadow": "contact",
            "shadow_opacity": 55,  # below 40 nobody sees it on the gradient's light part
            "shadow_blur_px": 24,
            "shadow_offset": "0 8",  # further down it leaves the subject and lies alone
            "output_size": "2000x2000",
            "padding": "0.12",
        },
    },
    {
        "name": "soft-daylight",
        "version": 1,
        "description": "The subject on warm white, lit from the upper left, 2000x2000.",
        "options": {
            **_SHOP,
            "background_gradient": "135deg #fffaf0 #f3ead9 60% #dccfb8",
            "shadow": "drop",
            "shadow_opacity": 30,
            "shadow_blur_px": 48,
            "shadow_offset": "36 44",  # away from the light, as the gradient darkens
            "output_size": "2000x2000",
            "padding": "0.15",
        },
    },
    {
        "name": "minimal",
        "version": 1,
        "description": "The subject on light grey with much room, 1600x2000, no shadow.",
        # at 0.2 a subject wider than high was lost on the upright canvas
        "options": {**_SHOP, "background_color": "#f2f2f0", "output_size": "1600x2000", "padding": "0.15"},
    },
    {
        "name": "id-photo",
        "version": 1,
        "description": "A person on white, 35x45 mm at 300 dpi, at the lower edge; nothing measures the head.",
        "options": {
            **_SHOP,
            "background_color": "#ffffff",
            "subject": "person",
            "output_size": "413x531",
            "dpi": 300,
            "padding_top": "0.1",
            "padding_left": "0.05",
            "padding_right": "0.05",
            "vertical_alignment": "bottom",
        },
    },
    {
        "name": "meeting-portrait",
        "version": 1,
        "description": "A person before the photo's own background, blurred, 1920x1080.",
        "options": {
            "output": "composite",
            "background_blur_px": 24,
            "format": "jpg",
            "subject": "person",
            "output_size": "1920x1080",
            "padding_top": "0.12",
            "padding_left": "0.05",
            "padding_right": "0.05",
        },
    },
    {
        "name": "obs-asset",
        "version": 1,
        "description": "A person as a transparent png of 1920x1080, to lay over a scene.",
        "options": {
            "output": "cutout",
            "format": "png",
            "subject": "person",
            "output_size": "1920x1080",
            "padding_top": "0.1",
            "padding_left": "0.05",  # without it outstretched arms touch the scene's edge
            "padding_right": "0.05",
        },
    },
)

# On a plain light background the faint haze that a network leaves around dark clothes and beside the subject is seen as
# dirt, and specks of it make the subject's box larger, so the subject smaller. From 140 on alpha stays: hair does.
_CLEANED = ("marketplace-white", "marketplace-white-2000", "gradient", "soft-daylight", "minimal", "id-photo")
_HAZE = {"alpha_threshold": 70}

DOCUMENTS: tuple[dict[str, Any], ...] = (
    *_FIRST,
    *(
        {**document, "version": 2, "options": {**document["options"], **_HAZE}}
        for document in _FIRST
        if document["name"] in _CLEANED
    ),
)
