"""nuScenes' file formats: what is written is read; what is torn or another format is named."""

import fake_nuscenes as fake
import numpy as np
import pytest

from perception_bev.errors import RecordingError
from perception_bev.recordings import nuscenes_files as files


def scan(n: int = 3) -> np.ndarray:
    points = np.zeros(n, np.dtype(fake.PCD_FIELDS))
    points["x"], points["id"], points["vx_comp"] = np.arange(n) + 0.5, 300 + np.arange(n), -1.25
    points["ambig_state"] = 3
    return points


def test_a_scan_is_read_field_by_field():
    points = scan()
    read = files.radar_points(fake.pcd(points), "a.pcd")
    assert read.dtype.names == points.dtype.names
    for name in points.dtype.names:
        np.testing.assert_array_equal(read[name], points[name], err_msg=name)


def test_one_point_of_nan_is_an_empty_scan():
    points = scan(1)
    points["x"] = np.nan
    assert len(files.radar_points(fake.pcd(points), "a.pcd")) == 0
    assert len(files.radar_points(fake.pcd(scan(0)), "a.pcd")) == 0


def test_what_the_devkit_leaves_out_is_implausible():
    points = scan(4)
    points["ambig_state"][1], points["invalid_state"][2] = 4, 1
    assert files.plausible(points).tolist() == [True, False, False, True]


@pytest.mark.parametrize(("change", "message"), [
    ((b"DATA binary\n", b"DATA ascii\n"), "expected binary"),
    ((b"COUNT 1", b"COUNT 2"), "one value a field"),
    ((b"TYPE F", b"TYPE Q"), "not a PCD"),
    ((b"SIZE 4 4", b"SIZE 4"), "not a PCD"),
    ((b"POINTS 3", b"POINTS many"), "not a PCD"),
    ((b"POINTS 3", b"POINTS 4"), "4 points of"),
    ((b" rcs ", b" rcx "), "lacks the fields rcs"),
    ((b"DATA", b"ATAD"), "no PCD header"),
])
def test_a_file_of_another_kind_is_named(change, message):
    data = fake.pcd(scan())
    assert change[0] in data
    with pytest.raises(RecordingError, match=f"a.pcd.*{message}"):
        files.radar_points(data.replace(*change), "a.pcd")


def test_sweeps_are_five_floats_a_point():
    table = np.arange(15, dtype="<f4")
    points = files.lidar_points(table.tobytes(), "a.bin")
    assert points["y"].tolist() == [1, 6, 11] and points["ring"].tolist() == [4, 9, 14]
    with pytest.raises(RecordingError, match=r"a\.bin: 59 bytes"):
        files.lidar_points(table.tobytes()[:-1], "a.bin")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecordingError, match=r"nothing\.pcd: not readable: No such file"):
        files.read(tmp_path / "nothing.pcd")
