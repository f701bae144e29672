"""Pipeline: the cameras' backbone, run as soon as a picture is there and once a picture."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import numpy as np

from perception_bev.contracts import CameraFrame
from perception_bev.latency.trace import Trace

KEPT = 3  # pictures kept a camera: the newest, and what a bundle may still want


class CameraFeatures:
    """Features of the newest pictures. Any thread may call."""

    def __init__(self, extract: Callable[[np.ndarray], np.ndarray],
                 clock: Callable[[], int]) -> None:
        """
        Args:
            extract: picture (H, W, 3) uint8 -> features (pixels, C); called by one thread only.
            clock: monotonic ns, for traces.
        """
        self._extract, self._clock = extract, clock
        self._thread = ThreadPoolExecutor(1, "camera")
        self._lock = threading.Lock()
        # (camera, stamp) -> the picture and what comes of it
        self._store: OrderedDict[tuple[str, int], tuple[CameraFrame, Future]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._store)

    def arrived(self, camera: str, frame: CameraFrame) -> None:
        """Begin with a picture, unless one of its stamp came before."""
        with self._lock:
            if (camera, frame.stamp_ns) not in self._store:
                self._start(camera, frame)

    def of(self, camera: str, frame: CameraFrame, trace: Trace) -> np.ndarray:
        """(pixels, C) float32; mostly they are there already."""
        with self._lock:
            future = self._start(camera, frame)
        try:
            features, start, end = future.result()
        except CancelledError:  # newer pictures pushed it out while the bundle waited
            # Not kept: it could be pushed out again, for ever, while pictures come too fast.
            features, start, end = self._thread.submit(self._timed, frame).result()
        trace.add("extract_camera", start, end)
        return features

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
