"""Benchmarks: `python -m bench --help`. Each prints a ratio to a bare reference of the same run."""

import sys
from pathlib import Path

# The servers that the tests start (PostgreSQL, throw-away gateways) serve here too.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
