"""Laws of motion compensation on a vehicle as it is: odometry at its own rate, later than the
sweep, with or without a velocity, far from where odom begins; cameras and radars all round.

Geometry alone. The truth is a constant twist, or one that changes, and is known at every instant.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import T_REF, ConstantTwist

from perception_bev import resources
from perception_bev.contracts import CameraFrame, LidarSweep, RadarScan, SensorBundle, Slot
from perception_bev.geometry import SE3
from perception_bev.inputs.build import InputBuilder, Inputs
from perception_bev.inputs.motion import NoEgo, sweep_in_base
from perception_bev.manifest import load_manifest
from perception_bev.rig import load_rig, resolve
from perception_bev.temporal.ego import EgoMotion, Twist

MS = 1_000_000
CAR = resolve(load_rig(resources.path("config/rigs/sim6.yaml")))
MODEL = load_manifest(resources.path("config/models/sim6.yaml"))
BUILDER = InputBuilder(MODEL, CAR)
LIDAR = CAR.base_from_sensor["lidar_top"]
MISSING = {name: Slot(reason="missing") for name in CAR.rig.sensors}
DENSITY, MAX_DOPPLER = 0, 4  # channels of the radar's raster


@dataclass(frozen=True)
class Changing:
    """A truth that brakes and swerves: the twist changes at a constant rate, from T_REF counted."""

    linear: tuple[float, float, float] = (0.0, 0.0, 0.0)  # [m/s] at T_REF
    angular: tuple[float, float, float] = (0.0, 0.0, 0.0)  # [rad/s] at T_REF
    acceleration: float = 0.0  # [m/s^2] along x
    swerve: float = 0.0  # [rad/s^2] about z

    STEP_NS = MS

    def twist_at(self, stamp_ns: int) -> tuple[np.ndarray, np.ndarray]:
        t = (stamp_ns - T_REF) * 1e-9
        return (np.add(self.linear, (self.acceleration * t, 0, 0)),
                np.add(self.angular, (0, 0, self.swerve * t)))

    @cached_property
    def _poses(self) -> list[SE3]:
        """Back from T_REF, a step each, with the twist in the step's middle."""
        poses = [SE3.identity()]
        for k in range(1200):
            twist = Twist(*self.twist_at(T_REF - round((k + 0.5) * self.STEP_NS)))
            poses.append(poses[-1] @ twist.motion(-self.STEP_NS * 1e-9))
        return poses

    def at(self, stamp_ns: int) -> SE3:
        back = (T_REF - stamp_ns) // self.STEP_NS
        rest = (T_REF - stamp_ns - back * self.STEP_NS) * 1e-9
        return self._poses[back] @ Twist(*self.twist_at(stamp_ns)).motion(-rest)


@dataclass(frozen=True)
class Told:
    """How the vehicle tells of its motion."""

    period_ms: int = 20
    late_ms: int = 0  # the last sample lies this long before T_REF
    with_twist: bool = True
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)  # x, y [m] and yaw of T_REF in odom

    def of(self, truth) -> EgoMotion:
        """The last second of it."""
        x, y, yaw = self.origin
        start = SE3.from_rpy(np.array([x, y, 3.0]), np.array([0, 0, yaw]))
        ego = EgoMotion()
        for k in range(1000 // self.period_ms, -1, -1):
            stamp = T_REF - (self.late_ms + k * self.period_ms) * MS
            ego.push(stamp, start @ truth.at(stamp),
                     *(truth.twist_at(stamp) if self.with_twist else ()))
        return ego


steady = st.builds(
    ConstantTwist,
    linear=st.tuples(st.floats(-10, 60), st.floats(-2, 2), st.floats(-0.3, 0.3)),
    angular=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(-1, 1)))
changing = st.builds(
    Changing, linear=st.tuples(st.floats(0, 30), st.just(0.0), st.just(0.0)),
    angular=st.tuples(st.just(0.0), st.just(0.0), st.floats(-0.5, 0.5)),
    acceleration=st.floats(-8, 4), swerve=st.floats(-1, 1))
told = st.builds(
    Told, period_ms=st.sampled_from([5, 10, 20, 50, 100]), late_ms=st.integers(0, 80),
    with_twist=st.booleans(),
    origin=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(-3, 3)))


# -- lidar -----------------------------------------------------------------------------------------


def room(n: int = 160) -> np.ndarray:
    """(n, 3): four walls round the vehicle in base_link at T_REF, in the order of a turn."""
    rng = np.random.default_rng(0)
    azimuth = np.linspace(-np.pi, np.pi, n, endpoint=False)
    direction = np.column_stack([np.cos(azimuth), np.sin(azimuth)])
    reach = np.min([20, 30] / np.maximum(np.abs(direction), 1e-9), axis=1, keepdims=True)
    return np.column_stack([direction * reach, rng.uniform(0, 3, n)])


def rotating(truth, world: np.ndarray, end_ns: int, period_s: float = 0.1) -> LidarSweep:
    """Each point from where the lidar was when it turned to it; the last at the sweep's end."""
    offsets = np.linspace(-period_s, 0.0, len(world)).astype(np.float32)
    points = [(truth.at(end_ns + round(float(offset) * 1e9)) @ LIDAR).inverse().apply(point[None])
              for offset, point in zip(offsets, world, strict=True)]
    return LidarSweep(end_ns, np.pad(np.concatenate(points), ((0, 0), (0, 1))).astype(np.float32),
                      offsets)


def deskewed(sweep: LidarSweep, ego) -> np.ndarray:
    buffer = np.empty((len(sweep.points), 4), np.float32)
    return sweep_in_base(sweep, LIDAR, ego, T_REF, buffer)[:, :3]


@settings(max_examples=30)
@given(truth=steady, telling=told, early_ms=st.integers(0, 100))
def test_walls_round_a_rotating_lidar_stay_flat_and_in_their_place(truth, telling, early_ms):
    sweep = rotating(truth, room(), T_REF - early_ms * MS)
    assert np.abs(deskewed(sweep, telling.of(truth)) - room()).max() < 5e-3


@settings(max_examples=15)
@given(truth=changing, late_ms=st.integers(0, 60), period_ms=st.sampled_from([10, 20]))
def test_what_the_vehicle_does_after_the_last_odometry_is_all_that_is_missed(
        truth, late_ms, period_ms):
    """Braking and swerving: the error is what the extrapolation cannot know, and no more."""
    found = deskewed(rotating(truth, room(), T_REF), Told(period_ms, late_ms).of(truth))
    late = late_ms * 1e-3
    reach = np.linalg.norm(room(), axis=1).max()
    speed = max(abs(truth.linear[0]), abs(truth.linear[0] - truth.acceleration * 0.2))
    unknown = 0.5 * late**2 * (abs(truth.acceleration)
                               + abs(truth.swerve) * (reach + speed * late))
    assert np.abs(found - room()).max() < 5e-3 + unknown


def test_the_walls_would_be_bent_without_odometry():
    """The laws above can fail."""
    truth = ConstantTwist((15.0, 0, 0), (0, 0, 0.5))
    sweep = rotating(truth, room(), T_REF)
    assert np.abs(deskewed(sweep, NoEgo()) - room()).max() > 1.0
    shifted = replace(sweep, time_offset=sweep.time_offset + np.float32(0.02))  # a clock fault
    assert np.abs(deskewed(shifted, Told().of(truth)) - room()).max() > 0.2


# -- cameras ---------------------------------------------------------------------------------------


def staggered(early_ms: list[int]) -> SensorBundle:
    """A picture of every camera, each so long before T_REF."""
    grey = np.zeros((MODEL.camera.height, MODEL.camera.width, 3), np.uint8)
    slots = {name: Slot((CameraFrame(T_REF - ms * MS, grey),), ms * MS)
             for name, ms in zip(CAR.rig.cameras, early_ms, strict=True)}
    return SensorBundle(T_REF, 0, 0, {**MISSING, **slots})


def landmarks() -> np.ndarray:
    """(heights * cells, 3): one in the middle of every cell at every height, in base_link."""
    xy = MODEL.lift_grid.centres().reshape(-1, 2).astype(np.float64)
    return np.concatenate([np.column_stack([xy, np.full(len(xy), h)])
                           for h in MODEL.camera.lift_heights])


def read_at(inputs: Inputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every cell: whether it reads a picture, which slot's, and at which (column, row)."""
    rows, columns = MODEL.camera.feature_shape
    index, weight = inputs.lift_index, inputs.lift_weight
    slot, pixel = np.divmod(index, rows * columns)
    row, column = np.divmod(pixel, columns)
    return weight.any(axis=0), slot[0], np.stack([(weight * column).sum(0), (weight * row).sum(0)],
                                                 axis=1)


def seen_at(truth, bundle: SensorBundle) -> tuple[np.ndarray, np.ndarray]:
    """(cameras, n, 2) feature pixels of the landmarks when each picture was taken, and (cameras,
    n) whether they are in it, all by the truth and the full lens."""
    rows, columns = MODEL.camera.feature_shape
    pixels, inside = [], []
    for name, lens in CAR.camera_models.items():
        camera = truth.at(bundle.slots[name].newest.stamp_ns) @ CAR.base_from_sensor[name]
        pixel, depth = lens.project(camera.inverse().apply(landmarks()))
        small = (pixel + 0.5) / [lens.width, lens.height] * [columns, rows] - 0.5
        pixels.append(small)
        inside.append((depth > 0.6) & (small > -0.4).all(1)
                      & (small < [columns - 0.6, rows - 0.6]).all(1))
    return np.stack(pixels), np.stack(inside)


@settings(max_examples=12)
@given(truth=steady, telling=told, early_ms=st.lists(st.integers(0, 180), min_size=6, max_size=6))
def test_every_landmark_is_read_by_the_cell_in_which_it_stands_at_t_ref(truth, telling, early_ms):
    """Whenever each picture was taken, however the vehicle moved: as on a parked one."""
    bundle = staggered(early_ms)
    reads, slot, place = read_at(BUILDER.build(bundle, telling.of(truth), modalities=("camera",)))
    pixels, inside = seen_at(truth, bundle)
    assert reads[inside.any(axis=0)].all(), "what a camera saw is read"
    rows, columns = MODEL.camera.feature_shape
    n = np.flatnonzero(reads & inside[slot, np.arange(len(slot))])
    assert len(n) > 1000
    expected = np.clip(pixels[slot[n], n], 0, [columns - 1, rows - 1])
    assert np.abs(place[n] - expected).max() < 0.02  # [px] of the features


def test_cells_would_read_beside_the_landmark_without_odometry():
    truth, early = ConstantTwist((15.0, 0, 0), (0, 0, 0.4)), [0, 16, 33, 50, 66, 83]
    reads, slot, place = read_at(BUILDER.build(staggered(early), NoEgo(), modalities=("camera",)))
    pixels, inside = seen_at(truth, staggered(early))
    n = np.flatnonzero(reads & inside[slot, np.arange(len(slot))])
    assert np.abs(place[n] - pixels[slot[n], n]).max() > 2.0


# -- radars ----------------------------------------------------------------------------------------


def scanned(truth, world: np.ndarray, early_ms: list[int]) -> SensorBundle:
    """Two scans of every radar, of a world that stands still; Doppler wraps as the radar's."""
    slots = {}
    for name, ms in zip(CAR.rig.radars, early_ms, strict=True):
        scans = tuple(scan_of(truth, world, name, T_REF - early * MS) for early in (ms + 50, ms))
        slots[name] = Slot(scans, ms * MS)
    return SensorBundle(T_REF, 0, 0, {**MISSING, **slots})


def scan_of(truth, world: np.ndarray, name: str, stamp_ns: int) -> RadarScan:
    place = CAR.base_from_sensor[name]
    linear, angular = truth.twist_at(stamp_ns)
    points = (truth.at(stamp_ns) @ place).inverse().apply(world)
    velocity = place.rotation.T @ (linear + np.cross(angular, place.translation))
    radial = -(points / np.linalg.norm(points, axis=1, keepdims=True)) @ velocity
    low, high = CAR.rig.radars[name].doppler.away_interval
    doppler = (radial - low) % (high - low) + low
    return RadarScan(stamp_ns, points.astype(np.float32), doppler.astype(np.float32),
                     np.full(len(world), 10, np.float32))


def posts(n: int = 150) -> np.ndarray:
    """(n, 3): in the middle of cells all round, in base_link at T_REF."""
    rng = np.random.default_rng(2)
    cells = rng.integers([15, 15], [240, 240], (n, 2))
    xy = MODEL.grid.centres()[tuple(cells.T)].astype(np.float64)
    xy = xy[np.abs(xy).max(axis=1) > 6.0]
    return np.column_stack([xy, np.full(len(xy), 0.6)])


ages = st.lists(st.integers(0, 60), min_size=5, max_size=5)


@settings(max_examples=25)
@given(truth=steady, telling=told, early_ms=ages)
def test_a_static_world_has_no_doppler_and_stays_in_its_cells(truth, telling, early_ms):
    """At any speed, in turns, from a corner, beyond the wrap, and however late the odometry."""
    raster = BUILDER.build(scanned(truth, posts(), early_ms), telling.of(truth)).radar[0]
    assert raster[MAX_DOPPLER].max() * MODEL.radar.doppler_scale < 0.05  # [m/s]
    expected = np.zeros(MODEL.grid.shape, bool)
    expected[tuple(np.floor(MODEL.grid.cell_of(posts()[:, :2])).astype(int).T)] = True
    assert ((raster[DENSITY] > 0) == expected).all()


@settings(max_examples=15)
@given(truth=changing, late_ms=st.integers(0, 60), early_ms=ages)
def test_a_static_world_s_doppler_is_what_the_vehicle_did_after_the_last_odometry(
        truth, late_ms, early_ms):
    telling = Told(20, late_ms)
    raster = BUILDER.build(scanned(truth, posts(), early_ms), telling.of(truth)).radar[0]
    late = max(late_ms - min(early_ms), 0) * 1e-3
    lever = max(np.linalg.norm(CAR.base_from_sensor[n].translation) for n in CAR.rig.radars)
    unknown = late * (abs(truth.acceleration) + abs(truth.swerve) * lever)
    assert raster[MAX_DOPPLER].max() * MODEL.radar.doppler_scale < 0.05 + unknown


@pytest.mark.parametrize("twist", [((20.0, 0, 0), (0, 0, 0)), ((10.0, 0, 0), (0, 0, 0.9))])
def test_the_world_would_move_with_a_wrong_speed_or_without_the_turn(twist):
    truth = ConstantTwist((10.0, 0, 0), (0, 0, 0.9))
    wrong = ConstantTwist((10.5, 0, 0), (0, 0, 0.9)) if twist[1][2] else ConstantTwist(*twist)
    raster = BUILDER.build(scanned(truth, posts(), [0] * 5), Told().of(wrong)).radar[0]
    assert raster[MAX_DOPPLER].max() * MODEL.radar.doppler_scale > 0.4
