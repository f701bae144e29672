"""Pipeline: a test hook: an engine of a worker is made slow from outside, while it runs."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from perception_bev.errors import ConfigError
from perception_bev.pipeline.shared import BASE, FAMILY

SUFFIX = ".slow_ms"


class Switch:
    """Looked at before every computation of one engine."""

    def __init__(self, folder: Path, engine: str) -> None:
        self._file = folder / (engine + SUFFIX)

    def wait(self) -> None:
        """Sleep as long as the file says; without one, nothing."""
        with suppress(OSError, ValueError):
            time.sleep(float(self._file.read_text()) / 1e3)


def slow_down(folder: Path, engine: str, added_ms: float) -> None:
    """Every call of an engine takes so much longer from now on; 0: as before."""
    file = folder / (engine + SUFFIX)
    if added_ms <= 0:
        file.unlink(missing_ok=True)
        return
    fresh = file.with_suffix(".new")
    fresh.write_text(str(added_ms))
    fresh.replace(file)  # never seen half written


def folder_of(pid: int, base: Path = BASE) -> Path:
    """Of the supervisor in the process `pid`."""
    found = [path for path in base.glob(f"{FAMILY}{pid}.*") if path.is_dir()]
    if not found:
        raise ConfigError(f"process {pid} has no workers (is its runner 'processes'?)")
    return found[0]
