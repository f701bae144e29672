"""Commands: which of a bag's ground truths an output of a live run is to be compared with. Played
with fresh stamps, a truth is known by its content."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.errors import RecordingError
from perception_bev.messages.read import stamp_ns
from perception_bev.nodes.live_figures import digest
from perception_bev.recordings.bag_reader import BagReader
from perception_bev.recordings.bag_write import absolute
from perception_bev.recordings.base import Truth
from perception_bev.recordings.convert import CLASSES_KEY
from perception_bev.recordings.sample_messages import TRUTH_CLOUD_TOPIC, read_truth_cloud

TOLERANCE_NS = 5_000_000  # between a truth's stamp and an output's t_ref


@dataclass(frozen=True)
class BagTruth:
    """One ground truth of a bag."""

    stamp_ns: int  # in the bag
    digest: str  # of its cloud
    truth: Truth


@dataclass(frozen=True)
class Moment:
    """One ground truth that was played, and the output for it."""

    index: int  # in the bag
    truth: Truth
    stamp_ns: int  # as it was played
    output: dict[str, Any] | None  # row of the measure node with objects; None: lost


def read_truths(bag: Path) -> list[BagTruth]:
    """All of a bag's ground truths in order. RecordingError where it has none."""
    with BagReader(bag) as reader:
        known = reader.metadata.custom.get(CLASSES_KEY, "") if reader.metadata else ""
        classes = tuple(filter(None, known.split(",")))
        found = [BagTruth(stamp_ns(message.header), digest(message.data),
                          read_truth_cloud(message, classes))
                 for _, _, message in reader.messages({absolute(TRUTH_CLOUD_TOPIC)})]
    if not found:
        raise RecordingError(f"{bag}: no ground truth on {TRUTH_CLOUD_TOPIC}")
    return found


def moments(truths: Sequence[BagTruth], received: Sequence[tuple[int, str]],
            outputs: Sequence[dict[str, Any]]) -> list[Moment]:
    """The truths that were played, each with the output whose t_ref it belongs to.

    Args:
        received: stamp and digest of the played truths, in order.
        outputs: rows of the measure node by rising t_ref.
    """
    rows = [row for row in outputs if "boxes" in row]
    stamps = [row["t_ref_ns"] for row in rows]
    return [Moment(index, truths[index].truth, stamp, _nearest(rows, stamps, stamp))
            for index, stamp in played_as(truths, received)]


def played_as(truths: Sequence[BagTruth], received: Sequence[tuple[int, str]]
              ) -> list[tuple[int, int]]:
    """(index in the bag, stamp as played), in order; a content that is there twice, as while all
    stand still, is taken in turn."""
    found, following = [], 0
    for stamp, content in received:
        index = next((i for i in range(following, len(truths)) if truths[i].digest == content),
                     None)
        if index is not None:
            found.append((index, stamp))
            following = index + 1
    return found


def _nearest(rows: Sequence[dict[str, Any]], stamps: Sequence[int], stamp: int
             ) -> dict[str, Any] | None:
    i = bisect_left(stamps, stamp - TOLERANCE_NS)
    near = [k for k in range(i, min(i + 4, len(rows))) if stamps[k] <= stamp + TOLERANCE_NS]
    return rows[min(near, key=lambda k: abs(stamps[k] - stamp))] if near else None


# -- rows of the measure node as values --------------------------------------------------------


def objects_of(row: dict[str, Any] | None, classes: tuple[str, ...]) -> Boxes3D:
    """x y z l w h yaw score class -> boxes; none for a lost output. Velocity is not in them."""
    rows = [each for each in (row or {}).get("boxes", ()) if each[8] in classes]
    table = np.array([each[:8] for each in rows], np.float32).reshape(-1, 8)
    label = np.array([classes.index(each[8]) for each in rows], np.int32)
    return Boxes3D(table[:, :3], table[:, 3:6], table[:, 6], table[:, 7], label, classes)


def tracks_of(row: dict[str, Any] | None, classes: tuple[str, ...]) -> tuple[Boxes3D, np.ndarray]:
    """Rows of messages/objects_cloud.OBJECT -> boxes with velocity, ids (N,) int64."""
    table = np.array((row or {}).get("tracks", ()), np.float64).reshape(-1, 13)
    table = table[table[:, 11] < len(classes)]
    v = table.astype(np.float32)
    return (Boxes3D(v[:, 1:4], v[:, 4:7], v[:, 7], v[:, 10], table[:, 11].astype(np.int32),
                    classes, v[:, 8:10]), table[:, 0].astype(np.int64))
