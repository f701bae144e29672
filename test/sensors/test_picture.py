"""Headers of JPEG and PNG: the size without decoding, and nothing that was cut off."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.errors import BadMessage
from perception_bev.sensors.picture import PictureHeader, read_header

cv2 = pytest.importorskip("cv2")


def encoded(kind, width=37, height=23, seed=0, **options):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(f".{kind}", noise, [x for item in options.items() for x in item])[1]


JPEG, PNG = encoded("jpg"), encoded("png")


def reason_of(data):
    with pytest.raises(BadMessage) as caught:
        read_header(np.frombuffer(bytes(data), np.uint8))
    return caught.value.reason


@pytest.mark.parametrize("kind, name", [("jpg", "jpeg"), ("png", "png")])
@pytest.mark.parametrize("width, height", [(1, 1), (37, 23), (300, 2)])
def test_the_size(kind, name, width, height):
    assert read_header(encoded(kind, width, height)) == PictureHeader(name, width, height)


def test_progressive_jpeg():
    data = cv2.imencode(".jpg", np.zeros((23, 37, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert read_header(data[1]) == PictureHeader("jpeg", 37, 23)


@pytest.mark.parametrize("data", [JPEG, PNG], ids=["jpeg", "png"])
def test_every_cut_is_noticed(data):
    whole = data.tobytes()
    reasons = {reason_of(whole[:n]) for n in range(8, len(whole))}
    assert reasons == {"truncated"}
    for n in range(8):
        assert reason_of(whole[:n]) in ("empty", "bad_encoding", "truncated")


@pytest.mark.parametrize("data", [JPEG, PNG], ids=["jpeg", "png"])
def test_padding_of_fixed_size_buffers_is_allowed(data):
    padded = np.concatenate([data, np.zeros(5000, np.uint8)])
    assert read_header(padded) == read_header(data)
    half = data[:len(data) // 2]
    assert reason_of(np.concatenate([half, np.zeros(5000, np.uint8)])) == "truncated"


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture():
    thumbnail = encoded("jpg", 8, 8).tobytes()
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = JPEG.tobytes()
    assert read_header(np.frombuffer(whole[:2] + exif + whole[2:], np.uint8)).width == 37
    assert reason_of(whole[:2] + exif + whole[2:-2]) == "truncated"


@pytest.mark.parametrize("data", [b"", b"GIF89a__", b"\xff\xd8", b"compressedDepth"])
def test_other_formats(data):
    assert reason_of(data) == ("bad_encoding" if data else "empty")


@pytest.mark.parametrize("data", [
    b"\xff\xd8\xff" + b"\xff" * 100_000, b"\xff\xd8\xff\x01" + b"\xff\x01" * 50_000,
    b"\xff\xd8\xff\xe0\0\0" * 10, b"\xff\xd8\xff\xda" + b"\0" * 50,
    b"\xff\xd8\xff\xd9" + b"\0" * 50, b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_nonsense_ends_soon(data):
    assert reason_of(data) == "undecodable"


@given(st.sampled_from([JPEG, PNG]), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)),
                                              min_size=1, max_size=5))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_flipped_bytes_give_a_header_or_a_bad_message(data, flips):
    damaged = data.copy()
    for at, value in flips:
        damaged[at] = value
    try:
        assert isinstance(read_header(damaged), PictureHeader)
    except BadMessage as err:
        assert err.reason in ("bad_encoding", "truncated", "undecodable")
