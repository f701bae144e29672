"""Recordings: one sample again and again."""

import numpy as np
import pytest

from perception_bev.raw import RawCloud
from perception_bev.recordings.base import Sample
from perception_bev.recordings.repeat import Repeated
from perception_bev.rig import Lidar, Reference, Rig

MS = 1_000_000
RIG = Rig("one", Reference("top", period_ms=50.0), lidars={
    "top": Lidar(topic="points", frame_id="top", extrinsics="from_tf")})


class Single:
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        points = np.zeros(2, [("x", "<f4")])
        return Sample("a", 3, 1000 * MS, {"top": (RawCloud(990 * MS, "top", points),)})

    def rig_of(self, index: int) -> Rig:
        return RIG


def test_everything_moves_by_one_period_and_nothing_else_changes():
    repeated = Repeated(Single(), 0, 4)
    assert len(repeated) == 4
    for k, sample in enumerate(repeated[i] for i in range(4)):
        (cloud,) = sample.raw["top"]
        assert sample.t_ref_ns == (1000 + 50 * k) * MS
        assert sample.t_ref_ns - cloud.stamp_ns == 10 * MS
        assert sample.sequence == 3 and len(cloud.points) == 2


def test_it_ends():
    with pytest.raises(IndexError):
        Repeated(Single(), 0, 4)[4]
