"""Commands: what `nodes/contract_monitor.py` writes, read while it is being written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OUTPUT = ("tracks", "status")  # one of each a period, with the same stamp


@dataclass(frozen=True, slots=True)
class Receipt:
    """One message of a contract topic as a subscriber got it."""

    topic: str
    stamp_ns: int  # of its header: t_ref
    ros_ns: int  # receipt
    mono_ns: int  # receipt
    text: str = ""  # of `status`: "full", "degraded (why)", "predicted (k frames)", ...
    level: int = 0  # of `status`: 0 OK, 1 WARN, 2 ERROR
    values: Mapping[str, str] = field(default_factory=dict)  # of `status`
    count: int = 0  # detections

    @property
    def latency_ns(self) -> int:
        """Receipt - t_ref."""
        return self.ros_ns - self.stamp_ns

    @property
    def t_ref_mono_ns(self) -> int:
        """t_ref on the monotonic clock."""
        return self.mono_ns - self.latency_ns

    @property
    def mode(self) -> str:
        """"full", "degraded", "predicted", "no output": `text` without its reason."""
        return self.text.partition("(")[0].partition(":")[0].strip()

    def number(self, key: str) -> float | None:
        """A value of `status` as a number; None where it is absent or "n/a"."""
        try:
            return float(self.values[key])
        except (KeyError, ValueError):
            return None


class Follower:
    """Reads a growing file of JSON lines; what is half written waits for the next time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0  # bytes
        self.lost: int | None = None  # receipts that the monitor could not write; None: not ended

    def new(self) -> list[Receipt]:
        """Receipts since the last call, in order of receipt."""
        found = []
        for values in self._lines():
            if values["topic"] == "end":
                self.lost = values["lost"]
            elif values["topic"] != "begin":
                found.append(receipt_of(values))
        return found

    def _lines(self) -> list[dict[str, Any]]:
        if not self._file.exists():
            return []
        with self._file.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[:text.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def receipt_of(line: Mapping[str, Any]) -> Receipt:
    names = ("topic", "stamp_ns", "ros_ns", "mono_ns", "text", "level", "values", "count")
    return Receipt(**{name: line[name] for name in names if name in line})
