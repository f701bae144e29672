"""The chain of engines gives what torch gives, and the comparison sees a difference."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from driving import QUICK, START_NS  # noqa: E402
from small_car import MS, calibration, frames  # noqa: E402

from perception_bev.errors import EngineMismatch  # noqa: E402
from perception_bev.geometry import SE3  # noqa: E402
from perception_bev.manifest import load_manifest  # noqa: E402
from perception_bev.network import parity  # noqa: E402
from perception_bev.pipeline.ingest import Ingest  # noqa: E402
from perception_bev.pipeline.stages import Stages  # noqa: E402
from perception_bev.recordings.base import Sample  # noqa: E402

pytestmark = pytest.mark.torch


def bundles(manifest, *absent: str):
    car = calibration()
    for k in range(2):
        t_ref = START_NS + k * 100 * MS
        raws = {n: (r,) for n, r in frames(t_ref, k).items() if n not in absent}
        yield Ingest(manifest, car).bundle(Sample(str(k), 0, t_ref, raws)), car


@pytest.fixture(scope="module")
def parts(tiny_model):
    manifest = load_manifest(tiny_model)
    stages = Stages(tiny_model, manifest, QUICK, lambda: 0)
    yield parity.load_weights(manifest, tiny_model), stages, manifest
    stages.close()


@pytest.mark.parametrize("absent", [(), ("front",), ("top",), ("nose",), ("front", "nose")])
def test_torch_and_engines_agree_with_any_sensors(parts, absent):
    model, stages, manifest = parts
    found = parity.compare(model, stages, manifest, bundles(manifest, *absent))
    assert found.frames == 2
    assert found.heat < 1e-4 and found.boxes < 1e-3


def test_other_weights_are_seen(parts, tiny_model):
    _, stages, manifest = parts
    other = parity.load_weights(manifest, tiny_model)
    with torch.no_grad():
        other.decide.boxes.bias += 0.01
    found = parity.compare(other, stages, manifest, bundles(manifest))
    assert found.boxes == pytest.approx(0.01, abs=1e-3)


def test_missing_weights_are_named(parts, tmp_path):
    with pytest.raises(EngineMismatch, match=r"weights\.safetensors: missing"):
        parity.load_weights(parts[2], tmp_path)


def test_a_wrong_heat_map_is_seen(parts, tiny_model):
    _, stages, manifest = parts
    other = parity.load_weights(manifest, tiny_model)
    with torch.no_grad():
        other.decide.heat.bias += 0.5
    assert parity.compare(other, stages, manifest, bundles(manifest)).heat > 1e-3


def test_a_peak_that_is_missing_counts_with_its_height_and_one_that_moved_a_cell_not():
    ours, moved = np.zeros((1, 8, 8), np.float32), np.zeros((1, 8, 8), np.float32)
    ours[0, 3, 3], moved[0, 3, 4] = 0.7, 0.7
    assert parity.heat_difference(ours, ours) == 0.0
    assert parity.heat_difference(ours, np.zeros_like(ours)) == pytest.approx(0.7)
    assert parity.heat_difference(np.zeros_like(ours), ours) == pytest.approx(0.7)
    assert parity.heat_difference(ours, moved) == 0.0


# -- with a memory ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def remembering(remembering_model):
    manifest = load_manifest(remembering_model)
    stages = Stages(remembering_model, manifest, QUICK, lambda: 0)
    yield parity.load_weights(manifest, remembering_model), stages, manifest
    stages.close()


def moving(manifest, count: int = 4):
    """Bundles of a vehicle that drives a metre from one to the next."""
    car = calibration()
    for k in range(count):
        t_ref = START_NS + k * 100 * MS
        sample = Sample(str(k), 0, t_ref, {n: (r,) for n, r in frames(t_ref, k).items()},
                        odom_from_base=SE3.from_rpy([1.0 * k, 0, 0], [0, 0, 0.05 * k]))
        yield Ingest(manifest, car).bundle(sample), car


def test_torch_and_engines_agree_with_a_memory(remembering):
    model, stages, manifest = remembering
    found = parity.compare(model, stages, manifest, moving(manifest))
    assert found.frames == 4
    assert found.heat < 1e-4 and found.boxes < 1e-3


def test_a_memory_that_is_used_otherwise_is_seen(remembering, remembering_model):
    _, stages, manifest = remembering
    other = parity.load_weights(manifest, remembering_model)
    with torch.no_grad():
        other.fuse.recall.aggregate.weight *= 1.5
    assert parity.compare(other, stages, manifest, moving(manifest, 1)).boxes < 1e-3
    assert parity.compare(other, stages, manifest, moving(manifest)).boxes > 1e-3
