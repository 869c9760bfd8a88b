"""What looks after the supply is run from the project's folder; so is what these tests import of it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
