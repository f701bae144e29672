"""Pictures of every encoding to the same RGB; damaged and absurd ones to a named BadMessage."""

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.contracts import CameraFrame
from perception_bev.errors import BadMessage
from perception_bev.geometry import CameraModel
from perception_bev.raw import EncodedImage, RawImage
from perception_bev.sensors.camera import ENCODINGS, CameraDecoder

cv2 = pytest.importorskip("cv2")

WIDTH, HEIGHT = 160, 96
K = np.array([[100.0, 0, 80], [0, 100, 48], [0, 0, 1]])
STRAIGHT = CameraModel(WIDTH, HEIGHT, K)
LENS = CameraModel(WIDTH, HEIGHT, K, "plumb_bob", np.array([-0.1, 0.01, 0.001, 0.001, 0]))


def scene():
    """(H, W, 3) RGB, smooth: red to the right, green downwards, blue constant."""
    column, row = np.meshgrid(np.linspace(40, 200, WIDTH), np.linspace(60, 180, HEIGHT))
    return np.stack([column, row, np.full_like(row, 90)], axis=-1).round().astype(np.uint8)


def jpeg(rgb, quality=95):
    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]


def yuv422(rgb, chroma_first):
    """Packed 4:2:2, BT.601 limited range."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    y = 16 + (65.738 * r + 129.057 * g + 25.064 * b) / 256
    u = (128 + (-37.945 * r - 74.494 * g + 112.439 * b) / 256).reshape(HEIGHT, -1, 2).mean(-1)
    v = (128 + (112.439 * r - 94.154 * g - 18.285 * b) / 256).reshape(HEIGHT, -1, 2).mean(-1)
    chroma = np.stack([u, v], axis=-1).reshape(HEIGHT, WIDTH)
    pair = [chroma, y] if chroma_first else [y, chroma]
    return np.stack(pair, axis=-1).round().astype(np.uint8).reshape(HEIGHT, -1)


def mosaic(rgb, pattern):
    rows = np.empty((HEIGHT, WIDTH), np.uint8)
    for i, colour in enumerate(pattern):
        at = (slice(i // 2, None, 2), slice(i % 2, None, 2))
        rows[at] = rgb[..., "rgb".index(colour)][at]
    return rows


def rows_of(rgb, encoding):
    """What a driver sends as `encoding`."""
    wide = encoding.endswith("16")
    if encoding.startswith("mono"):
        rows = rgb[..., 1]
    elif encoding.startswith("bayer_"):
        rows = mosaic(rgb, encoding[6:10])
    elif encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv"):
        rows = yuv422(rgb, encoding in ("yuv422", "uyvy"))
    else:
        order = ["rgba".index(c) for c in encoding[:-1]]
        rows = np.dstack([rgb, np.full((HEIGHT, WIDTH), 7, np.uint8)])[..., order]
    rows = rows.reshape(HEIGHT, -1)
    return (rows.astype("<u2") * 256 + 200).view(np.uint8) if wide else rows


def raw(encoding, rows=None, width=WIDTH, height=HEIGHT, padding=0):
    rows = rows_of(scene(), encoding) if rows is None else rows
    return RawImage(5, "front", encoding, width, height, np.pad(rows, ((0, 0), (0, padding))))


def reason_of(decoder, picture):
    with pytest.raises(BadMessage) as caught:
        decoder.decode(picture)
    return caught.value.reason


def off(a, b, border=3):
    """Largest difference, without the border where demosaicing has no neighbours."""
    cut = slice(border, -border)
    return np.abs(a[cut, cut].astype(int) - b[cut, cut].astype(int)).max()


@pytest.mark.parametrize("model", [STRAIGHT, LENS], ids=["straight", "lens"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("padding", [0, 6])
def test_every_encoding_gives_the_same_rgb(model, encoding, padding):
    decoder = CameraDecoder(model, 80, 48)
    expected = decoder.decode(raw("rgb8")).image
    if encoding.startswith("mono"):
        expected = np.repeat(expected[..., 1:2], 3, axis=-1)
    got = decoder.decode(raw(encoding, padding=padding))
    assert got.stamp_ns == 5 and got.image.shape == (48, 80, 3)
    assert off(got.image, expected) <= 3


@pytest.mark.parametrize("model", [STRAIGHT, LENS], ids=["straight", "lens"])
@pytest.mark.parametrize("width, height", [(160, 96), (80, 48), (75, 40), (40, 24), (20, 12)])
def test_jpeg_png_and_raw_agree(model, width, height):
    decoder = CameraDecoder(model, width, height, frame_id="front")
    expected = decoder.decode(raw("rgb8")).image
    png = cv2.imencode(".png", scene()[..., ::-1])[1]
    assert off(decoder.decode(EncodedImage(5, "front", png)).image, expected) == 0
    assert off(decoder.decode(EncodedImage(5, "front", jpeg(scene()))).image, expected) <= 6
    assert decoder.decode(EncodedImage(5, "front", png.tobytes())).image.shape == (height, width, 3)


def test_the_pinhole_is_the_output_cameras():
    pinhole = CameraDecoder(LENS, 80, 48).pinhole
    assert (pinhole.width, pinhole.height, pinhole.model) == (80, 48, "pinhole")
    np.testing.assert_allclose(pinhole.k[:2, 2], [(80 + 0.5) / 2 - 0.5, (48 + 0.5) / 2 - 0.5])


def test_exif_does_not_turn_the_pixels():
    exif = (b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    data = jpeg(scene()).tobytes()
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    if cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (HEIGHT, WIDTH):
        pytest.skip("this OpenCV does not read EXIF")
    decoder = CameraDecoder(STRAIGHT, 80, 48)
    plain = decoder.decode(EncodedImage(5, "front", data)).image
    np.testing.assert_array_equal(decoder.decode(EncodedImage(5, "front", turned)).image, plain)


def test_frames_and_stamps():
    decoder = CameraDecoder(STRAIGHT, 80, 48, frame_id="rear")
    assert reason_of(decoder, raw("rgb8")) == "wrong_frame"
    zero = EncodedImage(0, "front", jpeg(scene()))
    assert reason_of(CameraDecoder(STRAIGHT, 80, 48), zero) == "zero_stamp"
    assert CameraDecoder(STRAIGHT, 80, 48, stamp_source="arrival").decode(zero).stamp_ns == 0


def with_size(data, width, height):
    """A JPEG whose header promises another size."""
    changed = bytearray(data.tobytes())
    at = changed.index(b"\xff\xc0") + 5
    changed[at:at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(changed)


@pytest.mark.parametrize("data, reason", [
    (b"", "empty"), (b"BM______", "bad_encoding"), (jpeg(scene())[:-1], "truncated"),
    (jpeg(scene())[:500], "truncated"), (jpeg(scene())[:700], "truncated"),
    (with_size(jpeg(scene()), 65535, 65535), "wrong_size"),
    (with_size(jpeg(scene()), 0, 0), "wrong_size"),
    (jpeg(scene()[:, :80]), "wrong_size"),
    (cv2.imencode(".png", scene())[1][:-13], "truncated")])
def test_damaged_pictures_are_named(data, reason):
    assert reason_of(CameraDecoder(STRAIGHT, 80, 48), EncodedImage(5, "front", data)) == reason


@pytest.mark.parametrize("picture, reason", [
    (raw("rgb8", width=80), "wrong_size"), (raw("rgb8", height=95), "wrong_size"),
    (raw("bgra8", rows_of(scene(), "bgr8")), "bad_size"),
    (raw("rgb8", rows_of(scene(), "rgb8")[:-1]), "bad_size"),
    (raw("rgb8", rows_of(scene(), "rgb8").astype(np.int16)), "bad_size"),
    (raw("32FC1", rows_of(scene(), "rgb8")), "bad_encoding"),
    (raw("", rows_of(scene(), "rgb8")), "bad_encoding")])
def test_inconsistent_raw_pictures_are_named(picture, reason):
    assert reason_of(CameraDecoder(STRAIGHT, 80, 48), picture) == reason


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pictures_of_one_pixel_and_odd_width(encoding):
    for width, height in ((1, 1), (3, 1), (1, 3), (5, 5)):
        decoder = CameraDecoder(CameraModel(width, height, K), 2, 2)
        rows = np.zeros((height, 4 * width), np.uint8)
        try:
            assert decoder.decode(raw(encoding, rows, width, height)).image.shape == (2, 2, 3)
        except BadMessage as err:
            assert err.reason == "undecodable"  # pairs of pixels, or no neighbours


FUZZED = CameraDecoder(LENS, 40, 24)
FUZZ_SOURCES = [jpeg(scene(), 60), cv2.imencode(".png", scene()[..., ::-1])[1]]


@given(st.sampled_from(FUZZ_SOURCES), st.integers(0, 2**32 - 1), st.integers(1, 8),
       st.integers(0, 40))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_no_damaged_picture_crashes(source, seed, flips, cut):
    rng = np.random.default_rng(seed)
    damaged = source[:len(source) - cut].copy()
    damaged[rng.integers(0, len(damaged), flips)] = rng.integers(0, 256, flips)
    with contextlib.suppress(BadMessage):
        assert isinstance(FUZZED.decode(EncodedImage(5, "front", damaged)), CameraFrame)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_bytes_crash(data):
    with pytest.raises(BadMessage):
        FUZZED.decode(EncodedImage(5, "front", data))


def test_threads_share_a_decoder():
    pictures = [EncodedImage(5, "front", jpeg(np.roll(scene(), i * 7, axis=1))) for i in range(8)]
    alone = [FUZZED.decode(picture).image for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda p: FUZZED.decode(p).image, pictures * 8))
    for i, image in enumerate(together):
        np.testing.assert_array_equal(image, alone[i % 8])


@pytest.mark.data
def test_a_real_picture_at_scale_shows_what_all_its_pixels_show():
    folder = os.environ.get("PERCEPTION_BEV_ASTYX")
    if not folder:
        pytest.skip("PERCEPTION_BEV_ASTYX does not name a folder of the Astyx data set")
    camera = CameraModel(2048, 618, np.array([[1818.0, 0, 1040], [0, 1817, 319], [0, 0, 1]]))
    decoder = CameraDecoder(camera, 512, 152)
    for path in sorted(Path(folder, "camera_front").glob("*.jpg"))[::100]:
        bgr = cv2.imread(str(path))
        whole = decoder.decode(RawImage(5, "front", "bgr8", 2048, 618, bgr.reshape(618, -1))).image
        fast = decoder.decode(EncodedImage(5, "front", path.read_bytes())).image
        assert np.abs(fast.astype(int) - whole).mean() < 2.5
        for shift in (-1, 1):  # a pixel off in either direction would be far worse
            shifted = np.roll(fast, shift, axis=0).astype(int)
            assert np.abs(shifted - whole).mean() > 3 * np.abs(fast.astype(int) - whole).mean()
