"""Sync room: two clocks, and the collector that makes one bundle per cycle of all sensors."""

from perception_bev.sync.clock import ClockWatch, Now, StampMonitor
from perception_bev.sync.collector import BundleCollector, Collector

__all__ = ["BundleCollector", "ClockWatch", "Collector", "Now", "StampMonitor"]
