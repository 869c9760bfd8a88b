"""A real Dovecot for tests: the machine's own, or the packages of its Debian, unpacked and run without root."""

from __future__ import annotations

import fcntl
import grp
import hashlib
import imaplib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from servers.debian import apt, own_lists, unpack
from servers.gateway import free_port
from servers.guarded import GuardedServer
from servers.patience import PATIENCE
from servers.tls import Authority

PASSWORD = 'p\u00e4ss"word\\1'
"""Every user has it. It has what makes trouble in commands."""
PACKAGES = ("dovecot-core", "dovecot-imapd")

SETTINGS = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
listen = 127.0.0.1
{libexec}
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 0
mail_uid = {user}
mail_gid = {group}
mail_max_userip_connections = 50
auth_failure_delay = 0
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  user = {user}
}}
service auth-worker {{
  user = {user}
}}
"""
OF_2_3 = """
protocols = imap
disable_plaintext_auth = no
import_environment = TZ LD_LIBRARY_PATH
mail_location = maildir:{folder}/mail/%u
passdb {{
  driver = static
  args = "password={password}"
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/home/%u
}}
ssl = yes
ssl_cert = <{chain}
ssl_key = <{key}
{capability}
"""
OF_2_4 = """
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols {{
  imap = yes
}}
auth_allow_cleartext = yes
import_environment {{
  LD_LIBRARY_PATH = {libraries}
}}
mail_driver = maildir
mail_path = {folder}/mail/%{{user}}
passdb static {{
  password = "{password}"
}}
userdb static {{
  fields {{
    uid = {user}
    gid = {group}
    home = {folder}/home/%{{user}}
  }}
}}
ssl = yes
ssl_server_cert_file = {chain}
ssl_server_key_file = {key}
{capability}
"""


@dataclass(frozen=True)
class Programs:
    """Where Dovecot is; `root` is what its packages were unpacked in, None for an installed one."""

    dovecot: Path
    version: str
    root: Path | None

    @property
    def libraries(self) -> str:
        """Folders of its libraries, as the dynamic linker takes them."""
        if self.root is None:
            return ""
        own = self.root / "usr/lib/dovecot"
        return ":".join(map(str, (own, own / "modules/old-stats", *self.root.glob("usr/lib/*-linux-gnu*"))))


class DovecotServer(GuardedServer):
    """A server with a mailbox for whoever logs in with `PASSWORD`, on loopback; as root it runs as `nobody`."""

    name = "dovecot"
    logs = ("output", "log")
    faults = (OSError, imaplib.IMAP4.error)
    stop_signal = "INT"

    def __init__(self, *, idle: bool = True) -> None:
        """Without `idle` the server does not tell of new mail by itself."""
        super().__init__()
        self.port, self.tls_port = free_port(), free_port()
        self._idle = idle
        self.authority = Authority(self.folder)
        self.authority.server_context()  # writes the server's certificate and key beside its own

    def command(self) -> Sequence[str | Path]:
        """The server, with its settings."""
        self._configure()
        return [programs().dovecot, "-F", "-c", self.folder / "dovecot.conf"]

    def how(self) -> Mapping[str, Any]:
        """Where its libraries are, and as whom it runs."""
        found = programs()
        return {"env": os.environ | ({"LD_LIBRARY_PATH": found.libraries} if found.root else {}), **_as_whom()}

    def probe(self) -> object:
        """Whether somebody can log in."""
        return self.login("nobody").logout()

    def stop(self) -> None:
        """End it, and every connection."""
        group = None if self.process is None else self.process.pid
        super().stop()
        if group is not None:
            with suppress(ProcessLookupError):  # those who serve clients take ten seconds to say goodbye
                os.killpg(group, signal.SIGKILL)

    def login(self, user: str) -> imaplib.IMAP4:
        """A connection of a mail reader."""
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=PATIENCE)
        client.authenticate("PLAIN", lambda _: f"\0{user}\0{PASSWORD}".encode())
        return client

    def deliver(self, user: str, *mails: bytes, folder: str = "INBOX") -> None:
        """Put mails into a mailbox."""
        client = self.login(user)
        for mail in mails:
            kind, answer = client.append(folder, "", "", mail)
            assert kind == "OK", answer
        client.logout()

    def renumber(self, user: str) -> None:
        """Lose what is known of a mailbox's UIDs, as after a restored backup: all mails get new ones."""
        for path in (self.folder / "mail" / user).glob("dovecot*"):
            path.unlink()

    def _configure(self) -> None:
        found = programs()
        user = pwd.getpwuid(_as_whom().get("user", os.geteuid()))
        values = {
            "folder": self.folder,
            "user": user.pw_name,
            "group": grp.getgrgid(user.pw_gid).gr_name,
            "port": self.port,
            "tls_port": self.tls_port,
            "chain": self.folder / "server.pem",
            "key": self.folder / "server.key",
            "libexec": f"libexec_dir = {found.root}/usr/lib/dovecot" if found.root else "",
            "libraries": found.libraries,
            "capability": "" if self._idle else "imap_capability = IMAP4rev1 AUTH=PLAIN UIDPLUS",
        }
        is_old = found.version.startswith("2.3")
        values["password"] = re.sub(r'(["\\])', r"\\\1", PASSWORD)
        # The version comes first.
        parts = (SETTINGS, OF_2_3) if is_old else (OF_2_4, SETTINGS)
        (self.folder / "dovecot.conf").write_text("".join(parts).format(**values))
        for name in ("run", "state", "mail", "home"):
            (self.folder / name).mkdir()
        if "user" in _as_whom():
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)


def _as_whom() -> dict[str, Any]:
    """As whom the server runs: arguments for subprocess."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


# --- where it comes from


@cache
def programs() -> Programs:
    """The machine's Dovecot, else an unpacked one. Raises RuntimeError where it cannot be got."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    installed = shutil.which("dovecot", path=path)
    if installed and any(
        Path(folder, "imap-login").exists() for folder in ("/usr/lib/dovecot", "/usr/libexec/dovecot")
    ):
        return Programs(Path(installed), _version(Path(installed), {}), None)
    # In /tmp, where the user it runs as can read it and paths are short.
    root = Path(f"/tmp/msgcore-dovecot-{os.geteuid()}")
    root.mkdir(mode=0o755, exist_ok=True)
    if root.stat().st_uid != os.geteuid():
        raise RuntimeError(f"{root} belongs to somebody else; delete it")
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes wait for the one that unpacks it
        if not (root / "done").exists():
            _unpack(root)
            (root / "done").touch()
        for old, new in _links(root).items():
            if not Path(new).exists():
                Path(new).unlink(missing_ok=True)
                Path(new).symlink_to(root / old[1:])
    found = Programs(root / "usr/sbin/dovecot", "", root)
    return Programs(found.dovecot, _version(found.dovecot, {"LD_LIBRARY_PATH": found.libraries}), root)


def _version(dovecot: Path, environment: dict[str, str]) -> str:
    done = subprocess.run([dovecot, "--version"], env=os.environ | environment, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{dovecot} does not run: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode()


def _unpack(root: Path) -> None:
    """Get the packages that are missing here, and unpack them."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"no Dovecot found, and no {tool} to get it with: install dovecot with IMAP")
    with tempfile.TemporaryDirectory(prefix="msgcore-apt-") as folder:
        try:
            names = _missing()
            options: list[str] = []
        except subprocess.CalledProcessError:  # the lists of packages are not there, or old: get them, as any user can
            options = own_lists(Path(folder))
            names = _missing(*options)
        unpack(names, options, Path(folder), root)
    _relocate(root)


def _missing(*options: str) -> list[str]:
    """The packages that an installation would bring."""
    lines = apt("install", "--print-uris", "--no-install-recommends", *PACKAGES, *options).splitlines()
    return [line.split()[1].partition("_")[0] for line in lines if line.startswith("'")]


def _links(root: Path) -> dict[str, str]:
    """Two paths are compiled in: these links, of no more letters, are put in their places."""
    mark = hashlib.sha256(str(root).encode()).hexdigest()[:7]
    return {"/usr/lib/dovecot/modules": f"/tmp/dvm-{mark}", "/usr/bin/doveconf": f"/tmp/dvc-{mark}"}


def _relocate(root: Path) -> None:
    for path in root.glob("usr/*bin/*"), root.glob("usr/lib/dovecot/**/*"):
        for file in path:
            if file.is_file() and not file.is_symlink():
                _overwrite(file, _links(root))


def _overwrite(file: Path, links: dict[str, str]) -> None:
    data = file.read_bytes()
    if not data.startswith(b"\x7fELF"):
        return
    for old, new in links.items():
        found = re.compile(re.escape(old.encode()) + rb"([^\0]*)\0")
        for match in found.finditer(data):
            link = (new.encode() + match[1]).ljust(len(match[0]), b"\0")
            data = data[: match.start()] + link + data[match.end() :]
    file.write_bytes(data)
