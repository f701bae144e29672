"""Pipeline: the cameras' backbone, run as soon as a picture is there and once a picture."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from typing import Literal

import numpy as np

from perception_bev.contracts import CameraFrame, SensorBundle, Slot
from perception_bev.latency.trace import Trace

KEPT = 3  # pictures kept a camera: the newest, and what a bundle may still want
SPARED_NS = 150_000_000  # a picture this much newer than the last is computed also while sparing
REUSED_NS = 400_000_000  # older features than that say too little of where others are now

Pictures = Literal["fresh", "reused", "none"]  # every one; every second at 10 Hz; none at all


class CameraFeatures:
    """Features of the newest pictures. Any thread may call."""

    def __init__(self, extract: Callable[[np.ndarray], np.ndarray], clock: Callable[[], int],
                 prepare: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            extract: picture (H, W, 3) uint8 -> features (pixels, C); called by one thread only.
            clock: monotonic ns, for traces.
            prepare: called in that thread before its first picture.
        """
        self._extract, self._clock = extract, clock
        self._thread = ThreadPoolExecutor(1, "camera", initializer=prepare)
        self._lock = threading.Lock()
        # (camera, stamp) -> the picture and what comes of it
        self._store: OrderedDict[tuple[str, int], tuple[CameraFrame, Future]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._store)

    def arrived(self, camera: str, frame: CameraFrame, pictures: Pictures = "fresh") -> None:
        """Begin with a picture, unless one of its stamp came before or it is to be spared."""
        with self._lock:
            if (camera, frame.stamp_ns) in self._store or pictures == "none":
                return
            if pictures == "reused" and any(abs(frame.stamp_ns - stamp) < SPARED_NS
                                            for name, stamp in self._store if name == camera):
                return
            self._start(camera, frame)

    def reused(self, bundle: SensorBundle) -> dict[str, Slot]:
        """A bundle's slots with the newest pictures whose features are there, for each camera.

        They are lifted as pictures of their own time: with the motion since. A camera that has
        none is masked.
        """
        with self._lock:
            ready = {camera: frame for (camera, _), (frame, future) in self._store.items()
                     if _is_made(future)}
        slots = dict(bundle.slots)
        for camera, slot in bundle.slots.items():
            if slot.present and isinstance(slot.newest, CameraFrame):
                slots[camera] = _slot_of(ready.get(camera), slot, bundle.t_ref_ns)
        return slots

    def of(self, camera: str, frame: CameraFrame, trace: Trace) -> np.ndarray:
        """(pixels, C) float32; mostly they are there already."""
        with self._lock:
            future = self._start(camera, frame)
        try:
            features, start, end = future.result()
        except CancelledError:  # newer pictures pushed it out while the bundle waited
            # Not kept: it could be pushed out again, for ever, while pictures come too fast.
            features, start, end = self._thread.submit(self._timed, frame).result()
        trace.add(f"extract_camera:{camera}", start, end)
        return features

    def settle(self) -> None:
        """Wait until no picture is at work or waits."""
        with self._lock:
            futures = [future for _, future in self._store.values()]
        wait(futures)

    def clear(self) -> None:
        """Forget all pictures."""
        with self._lock:
            self._store.clear()

    def close(self) -> None:
        """Finish the picture at hand and stop."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _start(self, camera: str, frame: CameraFrame) -> Future:
        """Run the backbone on a picture, once; called with the lock held."""
        key = (camera, frame.stamp_ns)
        picture, future = self._store.get(key, (None, None))
        if picture is not frame:  # none of that time, or another one
            self._store.pop(key, None)
            future = self._thread.submit(self._timed, frame)
            self._store[key] = frame, future
            mine = [k for k in self._store if k[0] == camera]
            for old in mine[:-KEPT]:
                self._store.pop(old)[1].cancel()
        return future

    def _timed(self, frame: CameraFrame) -> tuple[np.ndarray, int, int]:
        start = self._clock()
        return self._extract(frame.image), start, self._clock()


def _is_made(future: Future) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _slot_of(made: CameraFrame | None, slot: Slot, t_ref_ns: int) -> Slot:
    if made is not None and made.stamp_ns == slot.newest.stamp_ns:
        return slot
    if made is None or abs(t_ref_ns - made.stamp_ns) > REUSED_NS:  # ahead: time jumped back
        return Slot(reason="spared")
    return Slot((made,), t_ref_ns - made.stamp_ns, "reused")
