"""Sim: what a fault does to the content of one message: blind pictures, data that ends early, NaN,
ghosts. Each returns a changed copy, of the same class; BadMessage where that cannot be done.

Messages are rosbags' classes: CompressedImage, Image, PointCloud2 or RadarScan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from perception_bev.errors import BadMessage
from perception_bev.messages import read
from perception_bev.messages.fields import cloud_dtype
from perception_bev.rig import Radar
from perception_bev.sensors.picture import read_header
from perception_bev.sim.scenario import Blinded, Garbage, Ghosts, Nan

JPEG_QUALITY = 90
MUD_BGR = np.array([38, 48, 58], np.uint16)
PLAIN = {"white": 255, "black": 0}
SPEED_MPS = 20.0  # of ghosts where the rig says no interval of Doppler
_CHANNELS = {"mono8": 1, "8UC1": 1, "rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4,
             "bayer_rggb8": 1, "bayer_bggr8": 1, "bayer_gbrg8": 1, "bayer_grbg8": 1}


# -- pictures --------------------------------------------------------------------------------------


def blind(fault: Blinded, message: Any, seed: int) -> Any:
    """A picture of one colour, or with mud; compressed ones are encoded again as what they were.

    seed: where the mud is; it stays there as long as the seed does.
    """
    if hasattr(message, "encoding"):
        return _blind_raw(fault, message, seed)
    header = read_header(np.asarray(message.data, np.uint8))
    size = header.height, header.width
    if fault.picture in PLAIN:
        data = _plain(size, PLAIN[fault.picture], header.kind)
    else:
        data = _encoded(_muddy(_decoded(message.data), fault.cover, seed), header.kind)
    return replace(message, data=data)


def _blind_raw(fault: Blinded, message: Any, seed: int) -> Any:
    raw = read.read_image(message)
    channels = _CHANNELS.get(raw.encoding)
    if channels is None:
        raise BadMessage("bad_encoding", f"no way to blind '{raw.encoding}'; known: "
                                         + ", ".join(_CHANNELS))
    rows = raw.rows.copy()
    pixels = rows[:, :raw.width * channels].reshape(raw.height, raw.width, channels)
    if fault.picture in PLAIN:
        pixels = np.full_like(pixels, PLAIN[fault.picture])
    else:
        pixels = _muddy(pixels, fault.cover, seed)
    rows[:, :raw.width * channels] = pixels.reshape(raw.height, -1)
    return replace(message, data=rows.reshape(-1))


def _decoded(data: np.ndarray) -> np.ndarray:
    import cv2

    picture = cv2.imdecode(np.asarray(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise BadMessage("undecodable", "a picture that cannot be decoded is as good as blind")
    return picture


@lru_cache(maxsize=16)
def _plain(size: tuple[int, int], value: int, kind: str) -> np.ndarray:
    return _encoded(np.full((*size, 3), value, np.uint8), kind)


def _encoded(picture: np.ndarray, kind: str) -> np.ndarray:
    """The file's bytes, (n,) uint8; read-only, since plain ones are shared."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == "jpeg" else []
    data = cv2.imencode(".jpg" if kind == "jpeg" else ".png", picture, options)[1].reshape(-1)
    data.setflags(write=False)
    return data


def _muddy(picture: np.ndarray, cover: float, seed: int) -> np.ndarray:
    """(H, W, C) uint8 seen through a lens with blobs of mud, as much of it as `cover` says."""
    clear, mud = _mud(picture.shape, cover, seed)
    return ((picture * clear + mud) >> 8).astype(np.uint8)


@lru_cache(maxsize=16)
def _mud(shape: tuple[int, int, int], cover: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How much of the picture is seen (H, W, 1), and what the mud adds (H, W, C); uint16, in
    parts of 256. The blobs are soft: on the lens they are out of focus."""
    import cv2

    coarse = np.random.default_rng(seed).random((9, 16)).astype(np.float32)
    smooth = cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC)
    edge = np.quantile(smooth, 1.0 - cover)
    opaque = np.clip((smooth - edge) / 0.1 + 0.5, 0.0, 1.0) * float(cover > 0)
    parts = np.round(256 * opaque).astype(np.uint16)[..., None]
    return 256 - parts, parts * np.resize(MUD_BGR, shape[2])


# -- bytes -----------------------------------------------------------------------------------------


def cut(fault: Garbage, message: Any) -> Any:
    """The data ends early; what the message says about its size stays."""
    if not hasattr(message, "data") or not len(message.data):
        raise BadMessage("empty", "a message without data cannot end early")
    return replace(message, data=message.data[:int(len(message.data) * fault.keep)])


# -- points ----------------------------------------------------------------------------------------


def spoil_points(fault: Nan, message: Any, chance: np.random.Generator) -> Any:
    """NaN in some fields of some points."""
    if hasattr(message, "returns"):
        return _spoil_returns(fault, message, chance)

    def spoil(points: np.ndarray) -> None:
        chosen = chance.random(points.shape) < fault.share
        for name in fault.fields:
            _require_float(points.dtype, name)
            points[name][chosen] = np.nan

    return with_points(message, spoil)


def with_points(message: Any, change: Callable[[np.ndarray], None]) -> Any:
    """A copy of a PointCloud2 whose points, (height, width) structured, `change` wrote to."""
    read.read_cloud(message)  # sizes agree, or BadMessage
    data = np.array(message.data, np.uint8)
    if message.width and message.height:
        dtype = cloud_dtype(message.fields, message.point_step, message.is_bigendian)
        change(np.ndarray((message.height, message.width), dtype, data,
                          strides=(message.row_step, message.point_step)))
    return replace(message, data=data)


def _require_float(dtype: np.dtype, name: str) -> None:
    if name not in dtype.names or dtype[name].base.kind != "f":
        floats = [field for field in dtype.names if dtype[field].base.kind == "f"]
        raise BadMessage("missing_field", f"no field '{name}' that can be NaN; the cloud has "
                                          + ", ".join(floats))


def _spoil_returns(fault: Nan, message: Any, chance: np.random.Generator) -> Any:
    """A RadarScan has no x, y, z: its range is what places a return."""
    hit = chance.random(len(message.returns)) < fault.share
    returns = [replace(one, range=float("nan")) if spoilt else one
               for one, spoilt in zip(message.returns, hit, strict=True)]
    return replace(message, returns=returns)


def haunt(fault: Ghosts, message: Any, radar: Radar, chance: np.random.Generator,
          make_return: Callable[..., Any]) -> Any:
    """More returns, evenly by range and bearing, of any speed; the real ones stay as they are.

    make_return: class of radar_msgs/RadarReturn, for scans of that type.
    """
    where = chance.uniform(1.0, fault.max_range_m, fault.count)
    bearing = np.deg2rad(chance.uniform(-0.5, 0.5, fault.count) * fault.fov_deg)
    speed = chance.uniform(*_interval(radar), fault.count)
    if hasattr(message, "returns"):
        strength = chance.choice([one.amplitude for one in message.returns] or [0.0], fault.count)
        more = [make_return(range=float(r), azimuth=float(a), elevation=0.0,
                            doppler_velocity=float(v), amplitude=float(s))
                for r, a, v, s in zip(where, bearing, speed, strength, strict=True)]
        return replace(message, returns=[*message.returns, *more])
    ghosts = _like(read.read_cloud(message).points, fault.count, chance)
    ghosts["x"], ghosts["y"], ghosts["z"] = where * np.cos(bearing), where * np.sin(bearing), 0.0
    if radar.doppler is not None and radar.doppler.field in ghosts.dtype.names:
        ghosts[radar.doppler.field] = speed
    return _with_more(message, ghosts)


def _interval(radar: Radar) -> tuple[float, float]:
    """Of the Doppler field, in its own sign [m/s]."""
    if radar.doppler is None or radar.doppler.min is None:
        return -SPEED_MPS, SPEED_MPS
    return radar.doppler.min, radar.doppler.max


def _like(points: np.ndarray, count: int, chance: np.random.Generator) -> np.ndarray:
    """(count,) of the same type: copies of points by chance, so that every field is plausible."""
    made = np.zeros(count, points.dtype)
    if len(points):
        made[:] = points[chance.integers(0, len(points), count)]
    return made


def _with_more(message: Any, more: np.ndarray) -> Any:
    """The cloud with further points behind its own, in one row."""
    own = np.ascontiguousarray(read.read_cloud(message).points)
    data = np.frombuffer(own.tobytes() + more.tobytes(), np.uint8)
    return replace(message, height=1, width=len(own) + len(more), row_step=len(data), data=data)
