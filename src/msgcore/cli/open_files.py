"""How many files, connections among them, this process may have open."""

from __future__ import annotations

import sys

_ENOUGH = 65_536


def allow_open_files() -> int:
    """Take what the system gives to those who ask, up to what is of use; returns how many it is."""
    if sys.platform == "win32":
        return _ENOUGH
    import resource  # not on Windows

    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if most == resource.RLIM_INFINITY else min(_ENOUGH, most)
    if now == resource.RLIM_INFINITY or now >= wanted:
        return _ENOUGH if now == resource.RLIM_INFINITY else now
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return wanted
