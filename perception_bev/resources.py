"""Vocabulary: where the package's own files (config/, models/, rviz/) lie, installed or not."""

from __future__ import annotations

import os
from pathlib import Path

from perception_bev.errors import ConfigError


def roots() -> list[Path]:
    """Places to look, in order: a checkout, then the share folders of the ament prefixes."""
    checkout = Path(__file__).resolve().parent.parent
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    shares = [Path(prefix) / "share" / "perception_bev" for prefix in prefixes if prefix]
    own_prefix = [parent / "share" / "perception_bev" for parent in checkout.parents[:3]]
    return [checkout, *shares, *own_prefix]


def path(relative: str) -> Path:
    """The existing file or folder; ConfigError lists the places looked in."""
    for root in roots():
        if (root / relative).exists():
            return root / relative
    places = ", ".join(str(root) for root in roots())
    raise ConfigError(f"{relative}: not found in {places}")
