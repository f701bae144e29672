"""Sensors: compressed and raw pictures to RGB at the model's scale, undistorted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_bev.contracts import CameraFrame
from perception_bev.errors import BadMessage
from perception_bev.geometry import CameraModel
from perception_bev.raw import EncodedImage, RawImage
from perception_bev.sensors.checks import check_header
from perception_bev.sensors.picture import PictureHeader, read_header
from perception_bev.sensors.resample import Resampler, load_cv2


@dataclass(frozen=True, slots=True)
class _Encoding:
    """How one of sensor_msgs/image_encodings becomes RGB."""

    to_rgb: str | None  # name of OpenCV's conversion; None: it is RGB
    channels: int = 1  # [bytes] of a pixel, of its high byte where there are two
    wide: bool = False  # 16 bits, of which the high byte is used
    mixed: bool = False  # pixels share their colours: converted before resampling, else after

    @property
    def pixel_bytes(self) -> int:
        return 2 if self.wide else self.channels


# sensor_msgs' Bayer names are the first two rows, OpenCV's the second row from its second pixel.
_BAYER = {"rggb": "BG", "bggr": "RG", "gbrg": "GR", "grbg": "GB"}
_UYVY, _YUYV = _Encoding("YUV2RGB_UYVY", 2, mixed=True), _Encoding("YUV2RGB_YUYV", 2, mixed=True)
ENCODINGS: dict[str, _Encoding] = {
    "rgb8": _Encoding(None, 3), "bgr8": _Encoding("BGR2RGB", 3),
    "rgba8": _Encoding("RGBA2RGB", 4), "bgra8": _Encoding("BGRA2RGB", 4),
    "mono8": _Encoding("GRAY2RGB"), "mono16": _Encoding("GRAY2RGB", wide=True),
    "yuv422": _UYVY, "uyvy": _UYVY, "yuv422_yuy2": _YUYV, "yuyv": _YUYV,
    **{f"bayer_{name}{bits}": _Encoding(f"Bayer{code}2RGB", wide=bits == 16, mixed=True)
       for name, code in _BAYER.items() for bits in (8, 16)},
}


class CameraDecoder:
    """Pictures of one camera to what the model sees; maps are made once. Threads may share it.

    JPEGs are decoded at the smallest scale that is still large enough. The orientation that EXIF
    asks for is ignored: the calibration is of the pixels as stored.
    """

    def __init__(self, model: CameraModel, width: int, height: int, frame_id: str = "*",
                 stamp_source: str = "header") -> None:
        self._cv2 = load_cv2()
        self._model = model
        self._frame_id = frame_id
        self._stamp_source = stamp_source
        self._resampler = Resampler(model, width, height)
        self._reduced_flag = {
            1: self._cv2.IMREAD_COLOR, 2: self._cv2.IMREAD_REDUCED_COLOR_2,
            4: self._cv2.IMREAD_REDUCED_COLOR_4, 8: self._cv2.IMREAD_REDUCED_COLOR_8,
        }[self._resampler.reduction]

    @property
    def pinhole(self) -> CameraModel:
        """The camera of the frames that `decode` gives."""
        return self._resampler.pinhole

    def decode(self, raw: EncodedImage | RawImage) -> CameraFrame:
        """RGB (height, width, 3) uint8; black where the lens did not see.

        Raises BadMessage: wrong_frame, zero_stamp, empty, truncated, wrong_size, bad_encoding,
        bad_size, undecodable.
        """
        check_header(raw, self._frame_id, self._stamp_source)
        try:
            image = self._encoded(raw) if isinstance(raw, EncodedImage) else self._raw(raw)
        except self._cv2.error as err:
            raise BadMessage("undecodable", f"OpenCV: {err.err}") from err
        return CameraFrame(raw.stamp_ns, image)

    def _encoded(self, raw: EncodedImage) -> np.ndarray:
        data = np.frombuffer(raw.data, np.uint8)
        header = read_header(data)
        self._check_size(header.width, header.height)
        if header.kind == "jpeg":
            bgr = self._resampler.from_reduced(self._decoded(data, header, self._reduced_flag))
        else:  # OpenCV reduces other kinds after decoding, and drops pixels as it does
            bgr = self._resampler.from_full(self._decoded(data, header, self._cv2.IMREAD_COLOR))
        return self._cv2.cvtColor(bgr, self._cv2.COLOR_BGR2RGB)

    def _decoded(self, data: np.ndarray, header: PictureHeader, flag: int) -> np.ndarray:
        """BGR in the size that `flag` gives."""
        picture = self._cv2.imdecode(data, flag | self._cv2.IMREAD_IGNORE_ORIENTATION)
        if picture is None:
            raise BadMessage("undecodable", f"{header.kind} of {data.size} bytes is damaged")
        width, height = (self._resampler.reduced_size if header.kind == "jpeg"
                         else (header.width, header.height))
        if picture.shape != (height, width, 3):
            raise BadMessage("wrong_size", f"decoded to {picture.shape}, expected {width}x{height}")
        return picture

    def _raw(self, raw: RawImage) -> np.ndarray:
        self._check_size(raw.width, raw.height)
        encoding = ENCODINGS.get(raw.encoding)
        if encoding is None:
            raise BadMessage("bad_encoding", f"'{raw.encoding}'; known: {', '.join(ENCODINGS)}")
        picture = _pixels(raw, encoding)
        if encoding.to_rgb is None:
            return self._resampler.from_full(picture)
        code = getattr(self._cv2, f"COLOR_{encoding.to_rgb}")
        if encoding.mixed:
            return self._resampler.from_full(self._cv2.cvtColor(picture, code))
        return self._cv2.cvtColor(self._resampler.from_full(picture), code)

    def _check_size(self, width: int, height: int) -> None:
        if (width, height) != (self._model.width, self._model.height):
            raise BadMessage("wrong_size", f"picture of {width}x{height}, the calibration is for "
                                           f"{self._model.width}x{self._model.height}")


def _pixels(raw: RawImage, encoding: _Encoding) -> np.ndarray:
    """(height, width[, channels]) uint8 without the rows' padding, a view where it can be."""
    used = raw.width * encoding.pixel_bytes
    rows = raw.rows
    if rows.ndim != 2 or rows.dtype != np.uint8 or len(rows) != raw.height or rows.shape[1] < used:
        raise BadMessage("bad_size", f"{raw.encoding} of {raw.width}x{raw.height} needs rows of "
                                     f"{used} bytes, got {rows.shape} {rows.dtype}")
    if encoding.wide:
        return np.ascontiguousarray(rows[:, 1:used:2])  # little-endian: the high byte is second
    if encoding.channels == 1:
        return rows[:, :used]
    return rows[:, :used].reshape(raw.height, raw.width, encoding.channels)
