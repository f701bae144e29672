"""Laws of build(), the only way from a bundle to tensors: motion, mirrors, masks, memory."""

import gc
import threading
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import (
    T_REF,
    ConstantTwist,
    bundle,
    manifest,
    mirrored,
    mirrored_camera,
    scatter,
    vehicle,
    without,
)

from perception_bev.contracts import LidarSweep, RadarScan, SensorBundle, Slot
from perception_bev.errors import ConfigError
from perception_bev.geometry import CameraModel
from perception_bev.inputs.build import CONTEXT, InputBuilder, Inputs, camera_slots
from perception_bev.inputs.view import View
from perception_bev.rig import Calibration

MS = 1_000_000
MODEL, CAR = manifest(), vehicle()
ROWS, COLUMNS = MODEL.camera.feature_shape
MEAN_DOPPLER, MAX_DOPPLER, SIGNED, AMBIGUOUS = 3, 4, 5, 6
FAST_TURN = ConstantTwist((22.0, 0.3, 0.0), (0.0, 0.0, 0.6))


def kept(inputs: Inputs) -> dict[str, np.ndarray]:
    """Copies of the tensors, which the next build() overwrites."""
    return {name: value.copy() for name in ("lidar", "radar", "lift_index", "lift_weight",
                                            "context", "plane")
            if (value := getattr(inputs, name)) is not None}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def built(*arguments, calibration: Calibration = CAR, **options) -> Inputs:
    return InputBuilder(MODEL, calibration).build(*arguments, **options)


# -- what is there and what is not -----------------------------------------------------------------


def test_a_whole_bundle_gives_every_tensor():
    inputs = built(bundle(CAR))
    assert inputs.lidar.shape == (1, MODEL.lidar.channels, *MODEL.grid.shape)
    assert inputs.radar.shape == (1, MODEL.radar.channels, *MODEL.grid.shape)
    assert inputs.camera_slots == {"front": 0, "left": 1}
    assert inputs.context.tolist() == [[1, 1, 1, 1]]
    assert inputs.modalities == ("camera", "lidar", "radar")
    assert len(CONTEXT) == inputs.context.shape[1]
    assert inputs.lidar.any()
    assert inputs.radar.any()
    assert inputs.lift_weight.any()


@pytest.mark.parametrize(("gone", "context"), [
    (("top",), [1, 0, 1, 1]), (("front", "left"), [0, 1, 1, 1]), (("front",), [1, 1, 1, 1]),
    (("front_radar", "corner_radar"), [1, 1, 0, 1]), (("corner_radar",), [1, 1, 1, 1]),
    (("top", "front", "left", "front_radar", "corner_radar"), [0, 0, 0, 1])])
def test_what_is_missing_is_masked(gone, context):
    inputs = built(without(bundle(CAR), *gone))
    assert inputs.context.tolist() == [context]
    assert (inputs.lidar is None) == (not context[1])
    assert (inputs.radar is None) == (not context[2])
    assert set(inputs.camera_slots) == {"front", "left"} - set(gone)
    assert inputs.lift_weight.any() == bool(context[0])


@pytest.mark.parametrize("wanted", [(), ("lidar",), ("camera", "radar"), ("radar",)])
def test_a_modality_that_is_not_wanted_is_as_if_it_were_missing(wanted):
    whole = bundle(CAR)
    names = {"camera": ("front", "left"), "lidar": ("top",),
             "radar": ("front_radar", "corner_radar")}
    gone = [n for modality, sensors in names.items() if modality not in wanted for n in sensors]
    assert same(kept(built(whole, modalities=wanted)), kept(built(without(whole, *gone))))


def test_without_a_lidar_the_ground_is_taken_as_level():
    assert built(without(bundle(CAR), "top")).plane.tolist() == [0, 0, 0]


def test_the_traffic_side_is_in_the_context():
    left = vehicle(traffic="left")
    mirror = View.augmented(mirror=True)
    sides = [built(bundle(CAR), calibration=car, view=view).context[0, 3]
             for car in (CAR, left) for view in (View.augmented(), mirror)]
    assert sides == [1, -1, -1, 1]


def test_empty_sweeps_and_scans_are_there_but_show_nothing():
    nothing = np.zeros(0, np.float32)
    empty = {"top": LidarSweep(T_REF, np.zeros((0, 4), np.float32), nothing)}
    empty |= dict.fromkeys(CAR.rig.radars, RadarScan(T_REF, np.zeros((0, 3), np.float32),
                                                     nothing, nothing))
    slots = {**bundle(CAR).slots, **{name: Slot((frame,), 0) for name, frame in empty.items()}}
    for ego in (None, FAST_TURN):
        inputs = built(replace(bundle(CAR), slots=slots), ego)
        assert inputs.context.tolist() == [[1, 1, 1, 1]]
        assert not inputs.lidar.any()
        assert not inputs.radar.any()


def test_too_many_cameras_are_refused_with_the_cure():
    one = manifest(camera=manifest_camera(slots=1))
    with pytest.raises(ConfigError, match=r"bev export --cameras 2"):
        InputBuilder(one, CAR)
    assert camera_slots(CAR.rig, MODEL) == {"front": 0, "left": 1}


def manifest_camera(**changes) -> dict:
    from tiny import MODEL as DESCRIPTION
    return DESCRIPTION["camera"] | changes


# -- one time, one frame ---------------------------------------------------------------------------


def test_a_staggered_camera_on_a_moving_car_is_a_parked_car_s_camera_elsewhere():
    """What counts is where the camera was when it took the picture."""
    late = bundle(CAR, stagger_ns=45 * MS)
    moving = built(late, FAST_TURN, modalities=("camera",))
    where = {name: FAST_TURN.at(late.slots[name].newest.stamp_ns) @ place
             for name, place in CAR.base_from_sensor.items()}
    parked = built(bundle(CAR), calibration=replace(CAR, base_from_sensor=where),
                   modalities=("camera",))
    assert same(kept(moving), kept(parked))
    still = built(bundle(CAR), modalities=("camera",))
    assert not same(kept(moving), kept(still))


@settings(max_examples=20)
@given(late_ms=st.integers(0, 150), speed=st.floats(0, 40), turn=st.floats(-0.5, 0.5))
def test_a_staggered_camera_finds_a_landmark_in_the_cell_where_it_is(late_ms, speed, turn):
    """A landmark at a cell's centre at t_ref, seen late_ms before from a car that then drove on."""
    ego = ConstantTwist((speed, 0, 0), (0, 0, turn))
    stamp = T_REF - late_ms * MS
    slots = {name: replace(slot, frames=(replace(slot.frames[0], stamp_ns=stamp),))
             if name == "front" else slot for name, slot in bundle(CAR).slots.items()}
    inputs = built(replace(bundle(CAR), slots=slots), ego, modalities=("camera",))
    cell = (10, 6)  # about 13 m ahead
    landmark = np.array([*MODEL.lift_grid.centres()[cell], MODEL.camera.lift_heights[0]])
    camera_in_odom = ego.at(stamp) @ CAR.base_from_sensor["front"]
    lens = CAR.camera_models["front"]
    pixel, depth = lens.project(camera_in_odom.inverse().apply(landmark[None]))
    small = (pixel[0] + 0.5) / [lens.width, lens.height] * [COLUMNS, ROWS] - 0.5
    n = cell[0] * MODEL.lift_grid.shape[1] + cell[1]
    index, weight = inputs.lift_index[:, n], inputs.lift_weight[:, n]
    if (small < -0.4).any() or (small > [COLUMNS - 0.6, ROWS - 0.6]).any():
        return  # it left the picture
    assert depth[0] > 0
    row, column = np.divmod(index, COLUMNS)
    clamped = np.clip(small, 0, [COLUMNS - 1, ROWS - 1])
    assert np.allclose([(weight * column).sum(), (weight * row).sum()], clamped, atol=1e-3)


def static_bundle(ego: ConstantTwist, world: np.ndarray, age_ms: int = 40) -> SensorBundle:
    """A world that stands still, seen by both radars at t_ref - age_ms, wrapping as they do."""
    stamp, slots = T_REF - age_ms * MS, dict(without(bundle(CAR), *CAR.rig.cameras, "top").slots)
    linear, angular = ego.twist_at(stamp)
    for name in CAR.rig.radars:
        place = CAR.base_from_sensor[name]
        points = (ego.at(stamp) @ place).inverse().apply(world)
        velocity = place.rotation.T @ (linear + np.cross(angular, place.translation))
        radial = -(points / np.linalg.norm(points, axis=1, keepdims=True)) @ velocity
        low, high = CAR.rig.radars[name].doppler.away_interval
        doppler = (radial - low) % (high - low) + low
        slots[name] = Slot((RadarScan(stamp, points.astype(np.float32),
                                      doppler.astype(np.float32),
                                      np.full(len(points), 60, np.float32)),), age_ms * MS)
    return SensorBundle(T_REF, 0, 0, slots)


@settings(max_examples=20)
@given(speed=st.floats(-5, 45), turn=st.floats(-0.8, 0.8), age_ms=st.integers(0, 120))
def test_a_static_world_has_no_doppler_at_any_speed_beyond_the_wrap_and_in_turns(
        speed, turn, age_ms):
    ego = ConstantTwist((speed, 0, 0), (0, 0, turn))
    world = np.random.default_rng(1).uniform([5, -11, 0.2], [23, 11, 2], (80, 3))
    raster = built(static_bundle(ego, world, age_ms), ego).radar[0]
    seen = raster[0] > 0
    assert seen.any()
    assert raster[MAX_DOPPLER].max() * MODEL.radar.doppler_scale < 0.02  # [m/s]
    assert (raster[AMBIGUOUS][seen] == 1).all()
    assert not raster[SIGNED].any()


def test_without_the_lever_arm_a_corner_radar_in_a_turn_would_see_the_world_move():
    """The law above can fail: the same scene with the ego motion of a car that drives straight."""
    turning = ConstantTwist((10.0, 0, 0), (0, 0, 0.8))
    world = np.random.default_rng(1).uniform([5, -11, 0.2], [23, 11, 2], (80, 3))

    class WithoutTurn(ConstantTwist):
        def twist_at(self, stamp_ns):
            return np.array([10.0, 0, 0]), np.zeros(3)

    raster = built(static_bundle(turning, world),
                   WithoutTurn((10.0, 0, 0), (0, 0, 0.8))).radar[0]
    assert raster[MAX_DOPPLER].max() * MODEL.radar.doppler_scale > 0.5


def test_static_returns_lie_in_the_cells_of_the_world_at_t_ref():
    world = MODEL.grid.centres()[20:60:9, 5:45:7].reshape(-1, 2)
    world = np.column_stack([world, np.full(len(world), 0.5)])
    raster = built(static_bundle(FAST_TURN, world, 90), FAST_TURN).radar[0]
    cells = np.floor(MODEL.grid.cell_of(world[:, :2])).astype(int)
    expected = np.zeros(MODEL.grid.shape, bool)
    expected[tuple(cells.T)] = True
    assert ((raster[0] > 0) == expected).all()


def test_without_odometry_the_speed_is_found_in_the_returns_or_said_to_be_unknown():
    world = np.random.default_rng(1).uniform([5, -11, 0.2], [23, 11, 2], (300, 3))
    straight = static_bundle(ConstantTwist((17.0, 0, 0)), world, age_ms=0)
    raster = built(straight).radar[0]
    assert raster[MAX_DOPPLER].max() * MODEL.radar.doppler_scale < 0.2
    few = static_bundle(ConstantTwist((17.0, 0, 0)), world[:5], age_ms=0)
    raster = built(few).radar[0]
    assert not raster[MEAN_DOPPLER].any()
    assert (raster[AMBIGUOUS][raster[0] > 0] == 1).all()


def test_compensated_doppler_passes_as_it_is():
    whole = bundle(CAR)
    compensated = replace(CAR, rig=replace(CAR.rig, radars={
        name: replace(radar, doppler=replace(radar.doppler, compensated=True))
        for name, radar in CAR.rig.radars.items()}))
    raster = built(whole, FAST_TURN, calibration=compensated).radar[0]
    assert raster[SIGNED].any()
    assert not raster[AMBIGUOUS].any()


def test_lidars_and_frames_of_one_kind_are_merged():
    one = bundle(CAR).slots["top"].newest
    half = len(one.points) // 2
    parts = tuple(LidarSweep(T_REF, one.points[part], one.time_offset[part])
                  for part in (slice(0, half), slice(half, None)))
    slots = {**bundle(CAR).slots, "top": Slot(parts, 0)}
    assert same(kept(built(replace(bundle(CAR), slots=slots))), kept(built(bundle(CAR))))


def test_every_sweep_says_where_its_lidar_was_and_which_points_are_its():
    one = bundle(CAR).slots["top"].newest
    times = np.linspace(-0.1, 0.0, len(one.points)).astype(np.float32)
    sweeps = (LidarSweep(T_REF - 50 * MS, one.points[:300], times[:300]),
              LidarSweep(T_REF - 20 * MS, one.points[300:500]))
    slots = {**bundle(CAR).slots, "top": Slot(sweeps, 20 * MS)}
    builder = InputBuilder(MODEL, CAR)
    builder.build(replace(bundle(CAR), slots=slots), FAST_TURN)
    middle = T_REF - 50 * MS + round(float(times[:300].min() + times[:300].max()) / 2 * 1e9)
    places = [(FAST_TURN.at(ns) @ CAR.base_from_sensor["top"]).translation
              for ns in (middle, T_REF - 20 * MS)]
    assert np.allclose(builder.cloud.origins, places, atol=1e-4)
    assert builder.cloud.source.tolist() == [0] * 300 + [1] * 200
    builder.build(without(bundle(CAR), "top"))
    assert builder.cloud.origins.shape == (0, 3) and len(builder.cloud.source) == 0


def test_more_points_than_the_rig_says_are_all_drawn():
    """Several sweeps in one slot, each of them longer than the rig's limit."""
    small = replace(CAR, rig=replace(CAR.rig, lidars={
        "top": replace(CAR.rig.lidars["top"], max_points=10)}))
    sweep = bundle(CAR, points=3000).slots["top"].newest
    slots = {**bundle(CAR).slots, "top": Slot((sweep, sweep), 0)}
    many = replace(bundle(CAR), slots=slots)
    builder = InputBuilder(MODEL, small)
    assert same(kept(builder.build(many)), kept(built(many)))
    assert len(builder.points) == 6000


# -- mirrors ---------------------------------------------------------------------------------------


def mirrored_car() -> Calibration:
    lenses = {name: CameraModel(lens.width, lens.height, flipped_k(lens))
              for name, lens in CAR.camera_models.items()}
    places = {name: (mirrored_camera if name in lenses else mirrored)(place)
              for name, place in CAR.base_from_sensor.items()}
    return Calibration(replace(CAR.rig, traffic="left"), places, lenses)


def flipped_k(lens: CameraModel) -> np.ndarray:
    k = lens.k.copy()
    k[0, 2] = lens.width - 1 - k[0, 2]
    return k


def mirrored_bundle(whole: SensorBundle) -> SensorBundle:
    """Each frame in its own mirrored sensor's frame."""
    slots = {}
    for name, slot in whole.slots.items():
        frame = slot.newest
        if CAR.rig.modality(name) == "camera":
            frame = replace(frame, image=frame.image[:, ::-1])
        else:
            points = frame.points.copy()
            points[:, 1] *= -1
            frame = replace(frame, points=points)
        slots[name] = Slot((frame,), slot.age_ns)
    return replace(whole, slots=slots)


def test_a_mirrored_view_is_a_mirrored_world_with_the_other_traffic_side():
    """Training shows mirrored scenes; they must be those of a country that drives on the left."""
    whole = bundle(CAR, stagger_ns=30 * MS)
    ego = ConstantTwist((12.0, 0.2, 0), (0, 0, 0.3))
    twin_ego = ConstantTwist((12.0, -0.2, 0), (0, 0, -0.3))
    seen = kept(built(whole, ego, View.augmented(mirror=True), flipped_pictures=True))
    twin = kept(built(mirrored_bundle(whole), twin_ego, calibration=mirrored_car()))
    assert seen["context"].tolist() == twin["context"].tolist() == [[1, 1, 1, -1]]
    assert np.allclose(seen["plane"] * [1, -1, 1], twin["plane"], atol=1e-6)
    for name in ("lidar", "radar"):  # a point on a cell's border may round to either side
        assert np.isclose(seen[name], twin[name], atol=1e-3).mean() > 0.999
    assert (seen["lift_index"] == twin["lift_index"]).mean() > 0.99
    assert np.isclose(seen["lift_weight"], twin["lift_weight"], atol=2e-3).mean() > 0.99


# -- buffers ---------------------------------------------------------------------------------------


def test_nothing_is_left_of_the_bundle_before():
    builder = InputBuilder(MODEL, CAR)
    whole = bundle(CAR, 1)
    for next_bundle, ego in ((whole, FAST_TURN), (without(bundle(CAR, 2), "left", "top"), None),
                             (without(whole, "front_radar", "corner_radar"), None),
                             (bundle(CAR, 3, points=20, returns=2), FAST_TURN)):
        assert same(kept(builder.build(next_bundle, ego)), kept(built(next_bundle, ego)))


def test_bundles_cost_no_memory_that_stays():
    builder, whole, held = InputBuilder(MODEL, CAR), bundle(CAR, 1), []
    tracemalloc.start()
    try:
        for rounds in (20, 60):
            for _ in range(rounds):
                builder.build(whole, FAST_TURN)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # NumPy keeps lists of small blocks; the smallest array of a bundle has 1440 bytes
    assert held[1] - held[0] < 60 * 400


def test_two_builders_build_at_once_in_two_threads():
    bundles = [bundle(CAR, seed) for seed in (1, 2)]
    expected = [kept(built(b, FAST_TURN)) for b in bundles]
    wrong: list[int] = []

    def work(i: int) -> None:
        builder = InputBuilder(MODEL, CAR)
        wrong.extend(i for _ in range(25)
                     if not same(kept(builder.build(bundles[i], FAST_TURN)), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_bundle_is_never_changed():
    whole = bundle(CAR, 1)
    before = {name: [np.array(getattr(slot.newest, field)) for field in ("points", "image")
                     if hasattr(slot.newest, field)] for name, slot in whole.slots.items()}
    built(whole, FAST_TURN, View.augmented(0.1, True, 1.05, (1.0, 0.5)), flipped_pictures=True)
    for name, slot in whole.slots.items():
        now = [getattr(slot.newest, f) for f in ("points", "image") if hasattr(slot.newest, f)]
        assert all((a == b).all() for a, b in zip(before[name], now, strict=True))


def test_points_of_the_last_bundle_lie_in_base_link_for_the_occupancy_grid():
    builder = InputBuilder(MODEL, CAR)
    xyz = scatter(np.random.default_rng(0), 50)
    sweep = LidarSweep(T_REF, np.pad(CAR.base_from_sensor["top"].inverse().apply(xyz),
                                     ((0, 0), (0, 1))))
    builder.build(replace(bundle(CAR), slots={**bundle(CAR).slots, "top": Slot((sweep,), 0)}))
    assert np.allclose(builder.points[:, :3], xyz, atol=1e-4)
    builder.build(without(bundle(CAR), "top"))
    assert len(builder.points) == 0
