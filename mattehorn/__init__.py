"""Mattehorn: a photo in, an alpha matte and a cutout out.

    from mattehorn import cut_out
    cut_out("photo.jpg").save("cutout.png")

Importing this loads no torch, Ray or boto3; the model is loaded by the first `cut_out`.
"""

from mattehorn.errors import MattehornError
from mattehorn.options import Options
from mattehorn.pipeline import Result, cut_out

__all__ = ["MattehornError", "Options", "Result", "cut_out"]
