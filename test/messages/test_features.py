"""Tensors between hosts: what is written is read, and nothing that comes can do harm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from perception_bev.engines.base import TensorSpec
from perception_bev.errors import BadMessage
from perception_bev.messages import features
from perception_bev.messages.features import DTYPES, Encoder, Kind, Message

IDENTITY = bytes(range(16))
TENSOR = arrays.arrays(st.sampled_from(DTYPES), arrays.array_shapes(min_dims=0, max_dims=4,
                                                                    min_side=0, max_side=5))
TENSORS = st.dictionaries(st.text("abc_é", min_size=1, max_size=12), TENSOR, max_size=5)
U64 = st.integers(0, 2**64 - 1)


def message(tensors, kind=Kind.REQUEST, epoch=1, sequence=2, flags=0, spent_us=0) -> Message:
    return Message(kind, epoch, sequence, IDENTITY, flags, spent_us, tensors)


def encoded(tensors, half=False) -> np.ndarray:
    return Encoder().encode(message(tensors), half)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Bit by bit."""
    return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()


@given(TENSORS, st.sampled_from(Kind), U64, U64, st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_what_is_written_is_read_bit_by_bit(tensors, kind, epoch, sequence, flags, spent_us):
    sent = message(tensors, kind, epoch, sequence, flags, spent_us)
    got = features.decode(Encoder().encode(sent))
    assert (got.kind, got.epoch, got.sequence, got.identity, got.flags, got.spent_us) == (
        kind, epoch, sequence, IDENTITY, flags, spent_us)
    assert list(got.tensors) == list(tensors)
    assert all(same(got.tensors[name], array) for name, array in tensors.items())


@given(arrays.arrays(np.float32, 50, elements=st.floats(width=32)))
def test_a_halved_tensor_is_as_near_as_float16_comes(array):
    got = features.decode(encoded({"x": array}, half=True)).tensors["x"]
    assert got.dtype == np.float32 and got.shape == array.shape
    wanted = np.clip(array, -65504, 65504)
    number = ~np.isnan(array)
    assert (np.isnan(got) == ~number).all() and np.isfinite(got[number]).all()
    error = np.abs(got[number].astype(float) - wanted[number])
    assert (error <= np.maximum(2.0**-11 * np.abs(wanted[number]), 2.0**-25)).all()


def test_only_float32_is_halved():
    tensors = {dtype.str: np.ones(1000, dtype) for dtype in DTYPES}
    got = features.decode(encoded(tensors, half=True)).tensors
    assert all(same(got[name], array) for name, array in tensors.items())
    saved = len(encoded(tensors)) - len(encoded(tensors, half=True))
    assert 2000 - features.ALIGNMENT <= saved <= 2000 + features.ALIGNMENT


def test_an_encoder_writes_small_after_large():
    encoder = Encoder()
    encoder.encode(message({"large": np.full(10_000, 7, np.uint8)}))
    small = encoder.encode(message({"small": np.arange(3, dtype=np.int32)}))
    assert features.decode(small).tensors["small"].tolist() == [0, 1, 2]


def test_arrays_that_are_not_contiguous_are_written_row_by_row():
    array = np.arange(24, dtype=np.float32).reshape(4, 6).T[::2]
    assert (features.decode(encoded({"x": array})).tensors["x"] == array).all()


def test_reading_copies_nothing():
    whole = encoded({"x": np.zeros(100, np.float32)})
    assert np.shares_memory(features.decode(whole).tensors["x"], whole)


GOOD = encoded({"fused": np.linspace(0, 1, 60, dtype=np.float32).reshape(1, 3, 20),
                "mask": np.ones((2, 3), bool)})


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
       st.integers(0, len(GOOD)), st.binary(max_size=8))
def test_bytes_that_were_changed_cut_or_added_are_read_or_refused(changes, length, more):
    spoilt = GOOD.copy()
    for at, value in changes:
        spoilt[at % len(spoilt)] = value
    spoilt = np.concatenate([spoilt[:length], np.frombuffer(more, np.uint8)])
    try:
        got = features.decode(spoilt)
    except BadMessage as err:
        assert err.reason in {"truncated", "bad_magic", "bad_layout", "foreign_version"}
    else:
        assert sum(array.nbytes for array in got.tensors.values()) <= 2 * len(spoilt) * len(
            got.tensors)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    try:
        features.decode(np.frombuffer(data, np.uint8))
    except BadMessage:
        return


@pytest.mark.parametrize("length", range(0, len(GOOD)))
def test_a_message_that_was_cut_is_refused_everywhere(length):
    with pytest.raises(BadMessage, match="truncated"):
        features.decode(GOOD[:length])


def spoilt(at: int, value: int) -> np.ndarray:
    """One byte of the data changed, counted from the magic."""
    whole = GOOD.copy()
    whole[features.ENVELOPE.size + at] = value
    return whole


def test_a_foreign_version_is_named_and_its_prefix_can_still_be_read():
    foreign = spoilt(4, 9)
    with pytest.raises(BadMessage, match="version 9 .* this is version 1") as error:
        features.decode(foreign)
    assert error.value.reason == "foreign_version"
    prefix = features.prefix_of(foreign)
    assert (prefix.version, prefix.epoch, prefix.sequence) == (9, 1, 2)


@pytest.mark.parametrize("at, value, reason", [
    (0, 0, "bad_magic"), (6, 77, "bad_layout"), (24 + 24, 200, "bad_layout")],
    ids=["magic", "kind", "count of tensors"])
def test_what_is_none_of_ours_is_refused_by_its_reason(at, value, reason):
    with pytest.raises(BadMessage) as error:
        features.decode(spoilt(at, value))
    assert error.value.reason == reason


def test_a_shape_that_claims_more_than_was_sent_is_refused_before_memory_is_taken():
    whole = encoded({"x": np.zeros((2, 2), np.float32)})
    at = features.ENVELOPE.size + features.PREFIX.size + features.HEAD.size + 4 + 1
    whole[at:at + 8] = 0xFF
    with pytest.raises(BadMessage, match="bad_layout"):
        features.decode(whole)


def spec(name="fused", shape=(1, 2), dtype=np.float32) -> TensorSpec:
    return TensorSpec(name, shape, np.dtype(dtype))


@pytest.mark.parametrize("engine, sha256, inputs, outputs", [
    ("fuse", "a", [spec()], [spec("heat")]), ("decide", "b", [spec()], [spec("heat")]),
    ("decide", "a", [spec("other")], [spec("heat")]),
    ("decide", "a", [spec(shape=(2, 1))], [spec("heat")]),
    ("decide", "a", [spec(dtype=np.float16)], [spec("heat")]),
    ("decide", "a", [spec(), spec("heat")], [])])
def test_an_identity_is_of_one_engine_one_file_and_one_set_of_specs(engine, sha256, inputs,
                                                                    outputs):
    ours = features.identity_of("decide", "a", [[spec()], [spec("heat")]])
    assert ours == features.identity_of("decide", "a", [[spec()], [spec("heat")]])
    assert ours != features.identity_of(engine, sha256, [inputs, outputs]) and len(ours) == 16
