"""The benchmarks are run from the project's folder; so is what these tests import of them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
