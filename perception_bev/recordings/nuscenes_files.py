"""Recordings: nuScenes' own file formats: lidar sweeps (.pcd.bin) and radar scans (.pcd).

Facts relied on (the devkit's `data_classes.py`): a sweep is float32 x, y, z [m], intensity 0..255
and ring, without a header. A scan is PCD v0.7, one row, DATA binary, little endian, packed in the
order of FIELDS; a scan that holds nothing has one point of NaN. Both are in their sensor's frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perception_bev.errors import RecordingError

LIDAR_DTYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"),
                        ("ring", "<u2")])
RADAR_FIELDS = ("x", "y", "z", "rcs", "vx_comp", "vy_comp", "ambig_state", "invalid_state")
VALID, UNAMBIGUOUS = 0, 3  # of invalid_state and ambig_state: what the devkit keeps by default
_KINDS = {"F": "f", "I": "i", "U": "u"}


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise RecordingError(f"{path}: not readable: {err.strerror}") from err


def lidar_points(data: bytes, where: str | Path) -> np.ndarray:
    """The bytes of a .pcd.bin -> (N,) LIDAR_DTYPE."""
    columns = len(LIDAR_DTYPE)
    if len(data) % (4 * columns):
        raise RecordingError(f"{where}: {len(data)} bytes are not whole points of {columns} "
                             "float32")
    table = np.frombuffer(data, "<f4").reshape(-1, columns)
    points = np.empty(len(table), LIDAR_DTYPE)
    for column, field in enumerate(LIDAR_DTYPE.names):
        points[field] = table[:, column]
    return points


def radar_points(data: bytes, where: str | Path) -> np.ndarray:
    """The bytes of a .pcd -> (N,) structured, with the file's own field names."""
    header, body = _split(data, where)
    dtype, count = _layout(header, where), int(header["POINTS"][0])
    if len(body) < count * dtype.itemsize:
        raise RecordingError(f"{where}: {len(body)} bytes of points, {count} points of "
                             f"{dtype.itemsize} bytes expected")
    points = np.frombuffer(body, dtype, count)
    missing = [name for name in RADAR_FIELDS if name not in dtype.names]
    if missing:
        raise RecordingError(f"{where}: lacks the fields {', '.join(missing)}")
    nothing = count == 1 and not np.isfinite(points["x"][0])
    return points[:0] if nothing else points


def plausible(points: np.ndarray) -> np.ndarray:
    """(N,) bool: returns whose cluster is valid and whose Doppler is unambiguous."""
    return (points["invalid_state"] == VALID) & (points["ambig_state"] == UNAMBIGUOUS)


def _split(data: bytes, where: str | Path) -> tuple[dict[str, list[str]], bytes]:
    """The header's lines by their first word, and what follows the line DATA."""
    header: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in header:
        end = data.find(b"\n", at)
        if end < 0:
            raise RecordingError(f"{where}: no PCD header that ends in a line DATA")
        word, *values = data[at:end].decode("ascii", "replace").split() or [""]
        header[word] = values
        at = end + 1
    return header, data[at:]


def _layout(header: dict[str, list[str]], where: str | Path) -> np.dtype:
    try:
        if header["DATA"] != ["binary"] or set(header["COUNT"]) != {"1"}:
            raise RecordingError(f"{where}: DATA {' '.join(header['DATA'])}, COUNT "
                                 f"{' '.join(header['COUNT'])}; expected binary, one value a field")
        kinds = [f"<{_KINDS[kind]}{int(size)}"
                 for kind, size in zip(header["TYPE"], header["SIZE"], strict=True)]
        int(header["POINTS"][0])
        return np.dtype(list(zip(header["FIELDS"], kinds, strict=True)))
    except (KeyError, ValueError, TypeError, IndexError) as err:
        raise RecordingError(f"{where}: not a PCD v0.7 header: {err!r}") from err
