"""Tests of the simulator share worlds: making one takes about a second."""

import pytest
import sim_worlds

from perception_bev.sim.drive import SimRecording


@pytest.fixture(scope="session")
def drive() -> SimRecording:
    """By day, with traffic; its sensors may be asked for any time of it."""
    pytest.importorskip("open3d", reason="the simulator needs Open3D")
    return SimRecording(sim_worlds.rig(), sim_worlds.SEED, sim_worlds.SECONDS, "day")


@pytest.fixture(scope="session")
def sample(drive: SimRecording):
    """The last of that drive, with all its sensors."""
    return drive[len(drive) - 1]
