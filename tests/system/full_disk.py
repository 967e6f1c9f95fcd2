"""A small disk of its own, which a test fills up."""

import ctypes
import os
import subprocess
from pathlib import Path

BALLAST = "ballast"
CHUNK_BYTES = 1 << 16


class SmallDisk:
    """A file system in memory. Root only."""

    def __init__(self, place: Path, megabytes: int) -> None:
        self.place = place
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], check=True)

    def fill(self) -> None:
        """Leaves not a byte."""
        with (self.place / BALLAST).open("ab", buffering=0) as file:
            for size in (CHUNK_BYTES, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    def make_room(self) -> None:
        """Takes away what `fill` put there."""
        (self.place / BALLAST).unlink()

    def remove(self) -> None:
        """Unmounts it, whoever still uses it."""
        subprocess.run(["umount", "--lazy", str(self.place)], check=True)


def can_mount() -> bool:
    """Returns whether this process may mount a file system: root without the capability may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    # a mount of nothing: with the right to mount the type is looked for first, without it nothing is
    return os.geteuid() == 0 and (libc.mount(b"x", b"/nowhere", b"tmpfs", 0, None) == -1 and ctypes.get_errno() != 1)
