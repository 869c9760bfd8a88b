"""Packages of Debian for tests: got by any user, and unpacked where they disturb nobody."""

from __future__ import annotations

import subprocess
from pathlib import Path

KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def apt(*arguments: str, cwd: Path | str | None = None) -> str:
    """What apt-get prints. Raises CalledProcessError, with what it complains about as a note."""
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1", *arguments]
    try:
        done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise
    return done.stdout


def own_lists(folder: Path, *more: str) -> list[str]:
    """Get the lists of packages into a folder, as any user can; the options that have apt-get read them there."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    options = ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache", *more]
    apt("update", "-o", "Acquire::Languages=none", *options)
    return options


def suite_lists(folder: Path, suite: str) -> list[str]:
    """The same of another suite of Debian, from where the machine gets its own."""
    (folder / "sources").mkdir()
    signed = f"Signed-By: {KEYS}\n" if KEYS.exists() else ""
    (folder / "sources" / "suite.sources").write_text(
        f"Types: deb\nURIs: {_archive(folder / 'own')}\nSuites: {suite}\nComponents: main\n{signed}"
    )
    return own_lists(folder, "-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={folder}/sources")


def unpack(names: list[str], options: list[str], folder: Path, root: Path) -> None:
    """Get packages into a folder, and unpack them."""
    apt("download", *names, *options, cwd=folder)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)


def _archive(folder: Path) -> str:
    """Where the machine gets Debian's own packages from."""
    wanted = ("indextargets", "--format", "$(CREATED_BY)|$(COMPONENT)|$(ORIGIN)|$(SUITE)|$(REPO_URI)")
    found = apt(*wanted) or apt(*wanted, *own_lists(folder))
    for line in found.splitlines():
        *kind, suite, uri = line.split("|")
        if kind == ["Packages", "main", "Debian"] and not suite.endswith("-security"):
            return uri
    raise RuntimeError("apt-get has no source of Debian's own packages")
