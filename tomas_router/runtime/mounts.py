"""Which file system a folder lies on, where the system tells."""

from __future__ import annotations

from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse.ceph", "fuse.glusterfs", "fuse.gcsfuse", "fuse.juicefs",
        "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs",
        "pvfs2", "smb2", "smb3", "smbfs",
    }
)  # fmt: skip


def network_file_system(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The network file system that ``folder`` lies on; None when it is local or the system does not tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    resolved = folder.resolve()
    best, found = -1, ""
    for line in lines:  # proc_pid_mountinfo(5): ... root mount-point options [optional fields] - type source ...
        before, _, after = line.partition(" - ")
        mount_point = Path(_unescaped(before.split(" ")[4]))
        depth = len(mount_point.parts)
        if depth >= best and resolved.is_relative_to(mount_point):  # of two on one folder the later hides the earlier
            best, found = depth, after.split(" ")[0]
    return found if found in NETWORK_FILE_SYSTEMS else None


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
