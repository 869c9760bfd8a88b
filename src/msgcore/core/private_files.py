"""Files and folders that are for their owner alone."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

logger = logging.getLogger(__name__)

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def make_folder(path: Path) -> None:
    """Make a folder for its owner alone, or let one that is there be so. Raises OSError."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    keep_private(path)


def keep_private(path: Path) -> None:
    """Close a file or a folder that others may use. Raises OSError."""
    mode = path.stat().st_mode
    if stat.S_IMODE(mode) & 0o077:
        private = FOLDER_MODE if stat.S_ISDIR(mode) else FILE_MODE
        path.chmod(private)
        logger.warning("%s could be read by others; its mode is %04o now", path, private)
