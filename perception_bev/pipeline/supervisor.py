"""Pipeline: the parent of the workers, the only one that starts and restarts them.

One thread looks at them: a death is known at once (pidfd), a stopped or silent worker within a few
looks, one that hangs in a computation by the caller's time limit. What does not work is killed
(SIGKILL, nothing there needs an orderly end), and another one is started after a growing pause.
Frames that need it fail meanwhile, at once, with the reason.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from perception_bev import errors
from perception_bev.deployment import Deployment
from perception_bev.errors import PerceptionError, WorkerLost
from perception_bev.pipeline import slow
from perception_bev.pipeline.groups import GROUPS, jobs_of
from perception_bev.pipeline.job import Job
from perception_bev.pipeline.minder import Minder
from perception_bev.pipeline.remote import RemoteEngine
from perception_bev.pipeline.shared import SharedFolder, SharedNode
from perception_bev.pipeline.vitals import Limits, WorkerState


class Supervisor:
    """Workers that serve, from the constructor's return to close()."""

    engines: dict[str, RemoteEngine]

    def __init__(self, jobs: Mapping[str, Job], limits: Limits = Limits(),  # noqa: B008 (frozen)
                 clock: Callable[[], int] = time.monotonic_ns) -> None:
        """
        Args:
            jobs: worker -> what it does.
            clock: monotonic ns, the one of the heartbeats.

        Raises:
            PerceptionError: what the first worker that could not start said.
        """
        self._clock, self._limits = clock, limits
        self._folder = SharedFolder()
        self._node = SharedNode(self._folder.place)
        self._wake_end, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._minders = {name: Minder(name, job, self._node, self._folder.place, limits, self.wake)
                         for name, job in jobs.items()}
        self.engines = {name: engine for minder in self._minders.values()
                        for name, engine in minder.engines.items()}
        self._closing = threading.Event()
        self._settled = threading.Event()
        # Children die with the thread that started them: this one starts them all.
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()
        self._settled.wait()
        self._raise_what_failed()

    @classmethod
    def of_model(cls, folder: Path, deployment: Deployment,
                 groups: Mapping[str, Sequence[str]] = GROUPS,
                 clock: Callable[[], int] = time.monotonic_ns,
                 limits: Limits | None = None) -> Supervisor:
        """All engines of a model; groups: worker -> its engines."""
        return cls(jobs_of(folder, deployment, groups),
                   limits or Limits(call_s=deployment.stage_timeout_ms / 1e3), clock)

    @property
    def folder(self) -> Path:
        """Where this run's shared memory is listed and test hooks are looked for."""
        return self._folder.path

    def states(self) -> dict[str, WorkerState]:
        """Any thread may ask."""
        now = self._clock()
        return {name: minder.state(now) for name, minder in self._minders.items()}

    def slow(self, engine: str, added_ms: float) -> None:
        """Test hook: every call of an engine takes so much longer from now on."""
        slow.slow_down(self._folder.path, engine, added_ms)

    def wake(self) -> None:
        """Look at the workers now."""
        with suppress(OSError):  # full: it wakes anyway; closed: nobody looks any more
            os.write(self._wake, b"!")

    def close(self) -> None:
        """Kill the workers and give back all that was shared."""
        if self._closing.is_set():
            return
        self._closing.set()
        self.wake()
        self._thread.join()
        self._node.close()
        self._folder.close()
        os.close(self._wake)
        os.close(self._wake_end)

    def _watch(self) -> None:
        """The thread: look, then sleep until something happens or the next look is due."""
        while not self._closing.is_set():
            now = self._clock()
            for minder in self._minders.values():
                self._look(minder, now)
            if not self._settled.is_set() and all(m.settled for m in self._minders.values()):
                self._settled.set()
            self._sleep()
        for minder in self._minders.values():
            minder.close()

    def _look(self, minder: Minder, now: int) -> None:
        """What goes wrong here must not end the care for the others."""
        try:
            minder.look(now)
        except Exception as err:  # the system's errors, and iceoryx2's have no common base
            minder.give_up_child(f"worker '{minder.name}': {type(err).__name__}: {err}")

    def _sleep(self) -> None:
        poll = select.poll()
        poll.register(self._wake_end, select.POLLIN)
        for minder in self._minders.values():
            for descriptor in minder.descriptors:
                poll.register(descriptor, select.POLLIN)
        events = poll.poll(self._limits.look_s * 1e3)
        if any(descriptor == self._wake_end for descriptor, _ in events):
            os.read(self._wake_end, 4096)

    def _raise_what_failed(self) -> None:
        failed = next((m.failed for m in self._minders.values() if m.failed), None)
        if failed is None:
            return
        self.close()
        kind, text = failed
        cls = getattr(errors, kind, None)
        simple = isinstance(cls, type) and issubclass(cls, PerceptionError)
        raise (cls if simple and cls is not errors.BadMessage else WorkerLost)(text)
