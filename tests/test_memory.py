"""The largest photo that the limits allow stays inside 2 GB, the network and all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
LIMIT_MB = 2000

CODE = """
import resource, sys
from io import BytesIO
import cv2, numpy as np
from PIL import Image
from mattehorn import cut_out
cv2.setNumThreads(1)
photo = cv2.resize(cv2.cvtColor(cv2.imread(sys.argv[1]), cv2.COLOR_BGR2RGB), (8660, 5770))
file = BytesIO()
Image.fromarray(photo).save(file, "JPEG", quality=90)
del photo
result = cut_out(file.getvalue(), model="mattehorn-base", allow_empty=True)
assert (result.width, result.height) == (8660, 5770)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_a_photo_of_50_megapixels_is_cut_out_within_2_gb() -> None:
    command = [sys.executable, "-c", CODE, str(ROOT / "tests/photos/cat.jpg")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    peak_mb = int(done.stdout)
    print(f"\npeak {peak_mb} MB")
    assert peak_mb < LIMIT_MB
