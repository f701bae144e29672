"""Recordings: one sample again and again, as a parked vehicle would see it. Makes a bag that plays
in real time of a recording that has a single frame."""

from __future__ import annotations

from dataclasses import replace

from perception_bev.recordings.base import Recording, Sample
from perception_bev.rig import Rig


class Repeated:
    """Sample `index` of a recording, `count` times, one output period apart."""

    def __init__(self, recording: Recording, index: int, count: int) -> None:
        self._sample, self._rig = recording[index], recording.rig_of(index)
        self._count = count
        self._step_ns = round(self._rig.reference.period_ms * 1e6)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        shift = range(self._count)[index] * self._step_ns
        raw = {name: tuple(replace(frame, stamp_ns=frame.stamp_ns + shift) for frame in frames)
               for name, frames in self._sample.raw.items()}
        return replace(self._sample, name=f"{self._sample.name} {index}", raw=raw,
                       t_ref_ns=self._sample.t_ref_ns + shift)

    def rig_of(self, index: int) -> Rig:
        return self._rig
