"""A PostgreSQL server for tests: from the system's packages, in a temporary folder, on a free port, without rights."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")
USERS = ("postgres", "nobody")


def server_folder() -> Path | None:
    """Where initdb and pg_ctl are; Debian keeps them out of the search path."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """Starts a server and gives the address of its database; ends it and removes it afterwards."""
    with tempfile.TemporaryDirectory(prefix="tomas-pg-") as name:
        folder, data = Path(name), Path(name) / "data"
        user = _unprivileged(folder)
        _run(user, programs / "initdb", "-D", data, "-U", "tomas", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        port = _free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        control = (programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log")
        _run(user, *control, "-o", options, "start")
        try:
            yield f"postgresql://tomas@127.0.0.1:{port}/postgres"
        finally:
            _run(user, *control, "-m", "immediate", "stop")


def _unprivileged(folder: Path) -> str | None:
    """Who may run the server in this folder: we, or somebody else where we are root, whom initdb refuses."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    user = next(name for name in USERS if name in known)
    shutil.chown(folder, user)
    return user


def _run(user: str | None, *command: str | Path) -> None:
    switch = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={_group(user)}", "--clear-groups"]
    words = [*switch, *map(str, command)]
    # Not through pipes: the server would inherit them, and nobody would see their end.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            words, cwd="/", stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=60, check=False
        )
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(words)}: {said.read().decode(errors='replace')}")


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
