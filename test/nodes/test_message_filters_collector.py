"""Nodes: the comparison collector. Where message_filters is missing, only its error is tested."""

import importlib.util

import pytest

from perception_bev.errors import EngineUnavailable
from perception_bev.nodes.message_filters_collector import MessageFiltersCollector
from perception_bev.sync.scenario import Stream, arrivals, drive, rig_of

INSTALLED = importlib.util.find_spec("message_filters") is not None
STREAMS = [Stream("lidar", "lidar"), Stream("cam", phase_ms=11), Stream("side", phase_ms=22)]


@pytest.mark.skipif(INSTALLED, reason="message_filters is installed")
def test_without_the_package_the_error_names_the_cure():
    with pytest.raises(EngineUnavailable, match=r"apt install ros-.*message-filters"):
        MessageFiltersCollector(rig_of(STREAMS, "lidar"))


@pytest.mark.ros
@pytest.mark.skipif(not INSTALLED, reason="message_filters is not installed (it has no wheel)")
class TestWithThePackage:
    def test_complete_sets_become_bundles(self):
        collector = MessageFiltersCollector(rig_of(STREAMS, "lidar"), slop_s=0.05)
        closed = list(drive(collector, arrivals(STREAMS, 2.0)))
        assert len(closed) >= 18
        assert all(c.bundle.slots["side"].age_ns == -22_000_000 for c in closed)

    def test_one_missing_sensor_silences_it(self):
        """What it is compared for: the deadline collector goes on here."""
        collector = MessageFiltersCollector(rig_of(STREAMS, "lidar"), slop_s=0.05)
        assert not list(drive(collector, arrivals(STREAMS[:2], 2.0)))

    def test_new_epoch_empties_the_queues(self):
        collector = MessageFiltersCollector(rig_of(STREAMS, "lidar"), slop_s=0.05)
        events = arrivals(STREAMS, 0.1)
        list(drive(collector, events[:2]))
        collector.new_epoch("test")
        assert not list(drive(collector, events[2:])) and collector.epoch == 1
