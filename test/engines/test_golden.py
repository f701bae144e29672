"""The proof that an engine computes what was exported, and that the proof can fail."""

import numpy as np
import pytest

from perception_bev.engines import golden
from perception_bev.engines.base import TensorSpec
from perception_bev.errors import EngineMismatch

SPECS = (TensorSpec("x", (2, 3000), np.dtype(np.float32)),
         TensorSpec("picture", (5, 7), np.dtype(np.uint8)),
         TensorSpec("index", (50,), np.dtype(np.int32)))
ROWS = 11


class Scaled:
    """An engine that gives what it gets, times a factor."""

    inputs = SPECS

    def __init__(self, factor: float = 1.0, spoil=lambda out: None, name: str = "y") -> None:
        self._factor, self._spoil, self._name = factor, spoil, name

    def infer(self, feeds) -> dict[str, np.ndarray]:
        out = feeds["x"] * np.float32(self._factor)
        self._spoil(out)
        return {self._name: out}


@pytest.fixture
def stored(tmp_path):
    golden.record({"e": Scaled()}, ROWS, tmp_path / "golden.safetensors")
    return tmp_path / "golden.safetensors"


def test_inputs_are_the_same_everywhere_and_other_for_every_engine():
    first, again, other = (golden.inputs_of(n, SPECS, ROWS) for n in ("e", "e", "f"))
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert not np.array_equal(first["x"], other["x"])


def test_inputs_fit_their_ports():
    made = golden.inputs_of("e", SPECS, ROWS)
    assert all(made[s.name].shape == s.shape and made[s.name].dtype == s.dtype for s in SPECS)
    assert made["x"].min() >= 0 and made["x"].max() < 1
    assert made["picture"].max() > ROWS, "bytes use their whole range"
    assert set(np.unique(made["index"])) <= set(range(ROWS)), "indices stay inside the features"


def test_the_same_engine_deviates_by_nothing(stored):
    deviation, = golden.compare("e", Scaled(), ROWS, stored)
    assert (deviation.engine, deviation.output, deviation.largest) == ("e", "y", 0.0)


@pytest.mark.parametrize("factor, passes", [(1 + 1e-5, True), (1 + 1e-3, False), (-1.0, False)])
def test_the_tolerance_is_of_the_outputs_own_scale(stored, factor, passes):
    if passes:
        golden.check("e", Scaled(factor), ROWS, stored, 2e-4)
        return
    with pytest.raises(EngineMismatch, match="engine e: output 'y' is off its golden values"):
        golden.check("e", Scaled(factor), ROWS, stored, 2e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_value_that_is_not_finite_is_enough(stored, bad):
    def spoil(out):
        out[1, 1234] = bad
    with pytest.raises(EngineMismatch, match="'y' has NaN or infinite values"):
        golden.check("e", Scaled(spoil=spoil), ROWS, stored, 2e-4)


def test_an_output_that_nobody_stored_is_named(stored):
    with pytest.raises(EngineMismatch, match=r"no golden output 'e\.z'"):
        golden.check("e", Scaled(name="z"), ROWS, stored, 2e-4)


def test_golden_values_that_are_not_finite_prove_nothing(tmp_path):
    """A model that was exported broken must not pass as its own reference."""
    golden.record({"e": Scaled(np.nan)}, ROWS, tmp_path / "nan.safetensors")
    with pytest.raises(EngineMismatch, match="off its golden values"):
        golden.check("e", Scaled(), ROWS, tmp_path / "nan.safetensors", 2e-4)


def test_the_digest_changes_with_every_byte(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"abc")
    b.write_bytes(b"abd")
    assert golden.sha256(a) != golden.sha256(b)
    assert golden.sha256(a).startswith("ba7816bf"), "SHA-256 of 'abc' (FIPS 180-4)"
