"""Layouts hold every tensor whole; names go with their owner, whoever it was."""

import ctypes
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_bev.engines.base import TensorSpec
from perception_bev.pipeline.shared import ALIGNMENT, Layout, SharedFolder, sweep

pytest.importorskip("iceoryx2")

SPECS = st.lists(st.tuples(st.lists(st.integers(1, 5), max_size=4).map(tuple),
                           st.sampled_from(["f4", "i4", "u1", "f2", "i8", "?"])), max_size=6)


class Slice:
    """As iceoryx2 gives it: bytes at an address."""

    def __init__(self, size: int, shift: int = 0) -> None:
        self._whole = (ctypes.c_uint8 * (size + shift))()
        self._shift = shift
        self.start = ctypes.addressof(self._whole) + shift

    def as_memory_view(self) -> memoryview:
        return memoryview(self._whole)[self._shift:]


def layout_of(kinds) -> Layout:
    return Layout([TensorSpec(f"t{i}", shape, np.dtype(dtype))
                   for i, (shape, dtype) in enumerate(kinds)])


@given(SPECS, st.integers(0, 2**32 - 1))
def test_what_was_written_is_read(kinds, seed):
    layout, rng = layout_of(kinds), np.random.default_rng(seed)
    arrays = {s.name: rng.integers(0, 2, s.shape).astype(s.dtype) for s in layout.specs}
    slice_ = Slice(layout.size)
    layout.write(slice_, arrays)
    got = layout.read(slice_)
    assert list(got) == [s.name for s in layout.specs]
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


@given(SPECS, st.integers(0, 63))
def test_tensors_are_aligned_and_lie_apart_wherever_the_slice_begins(kinds, shift):
    layout = layout_of(kinds)
    slice_ = Slice(layout.size, shift)
    start = slice_.start
    spans = [(v.ctypes.data - start, v.nbytes) for v in layout.views(slice_).values()]
    assert all((start + at) % ALIGNMENT == 0 for at, _ in spans)
    assert all(a + n <= b for (a, n), (b, _) in pairwise(spans))
    assert all(at >= 0 and at + n <= layout.size for at, n in spans)


def test_what_was_read_stays_when_the_slice_is_used_again():
    layout = layout_of([((3,), "f4")])
    slice_ = Slice(layout.size)
    layout.write(slice_, {"t0": np.ones(3, np.float32)})
    got = layout.read(slice_)
    layout.write(slice_, {"t0": np.zeros(3, np.float32)})
    assert got["t0"].tolist() == [1, 1, 1]


def test_another_type_is_refused_and_never_converted():
    layout = layout_of([((3,), "f4")])
    with pytest.raises(TypeError):
        layout.write(Slice(layout.size), {"t0": np.zeros(3)})


def test_a_folder_goes_with_everything_of_its_name(tmp_path):
    folder = SharedFolder(tmp_path)
    (folder.path / "nodes").mkdir()
    (tmp_path / f"{folder.name}_segment").write_bytes(b"x")
    other = tmp_path / "somebody_elses"
    other.write_bytes(b"x")
    folder.close()
    assert list(tmp_path.iterdir()) == [other]


def test_the_living_are_not_swept(tmp_path):
    folder = SharedFolder(tmp_path)
    assert sweep(tmp_path) == 0 and folder.path.is_dir()
    folder.close()


def test_two_of_one_process_do_not_meet(tmp_path):
    first, second = SharedFolder(tmp_path), SharedFolder(tmp_path)
    assert first.name != second.name
    first.close()
    assert second.path.is_dir()
    second.close()


def test_what_a_killed_process_left_goes_with_the_next_start(tmp_path):
    program = ("import os, signal, sys; from pathlib import Path\n"
               "from perception_bev.pipeline.shared import SharedFolder\n"
               "f = SharedFolder(Path(sys.argv[1]))\n"
               "(Path(sys.argv[1]) / (f.name + '_segment')).write_bytes(b'x')\n"
               "os.kill(os.getpid(), signal.SIGKILL)")
    subprocess.run([sys.executable, "-c", program, tmp_path], check=False)
    assert len(list(tmp_path.iterdir())) == 3  # folder, lock, segment
    folder = SharedFolder(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {folder.name, f"{folder.name}.lock"}
    folder.close()


def test_no_descriptor_stays_open(tmp_path):
    before = os.listdir("/proc/self/fd")
    SharedFolder(tmp_path).close()
    assert os.listdir("/proc/self/fd") == before
