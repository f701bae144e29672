"""Pipeline: the care for one worker over all its lives. Called by the supervisor's thread only."""

from __future__ import annotations

from collections.abc import Callable
from select import POLLIN, poll

from perception_bev.errors import PerceptionError
from perception_bev.pipeline.child import Child
from perception_bev.pipeline.job import Job, specs_of
from perception_bev.pipeline.remote import RemoteEngine
from perception_bev.pipeline.shared import Place, SharedNode
from perception_bev.pipeline.vitals import BackOff, Heart, Limits, State, WorkerState


class Minder:
    """Starts a worker, hears it, judges it, kills it, starts the next."""

    def __init__(self, name: str, job: Job, node: SharedNode, place: Place, limits: Limits,
                 wake: Callable[[], None]) -> None:
        """wake: makes the supervisor look soon; any thread calls it."""
        self.name, self._job, self._node, self._place = name, job, node, place
        self._limits, self._wake = limits, wake
        self.engines = {engine: RemoteEngine(engine, name, limits.call_s, self._hangs)
                        for engine in job.engines}
        self.failed: tuple[str, str] | None = None  # the first start: error's class, text
        self.settled = False  # the first start is over
        self._back_off = BackOff(limits)
        self._heart = Heart(limits)
        self._child: Child | None = None
        self._state: State = "starting"
        self._reason = ""  # of the last death
        self._notes = ""  # what this computer did not permit
        self._condemned = ""  # why it is to be killed
        self._stopped_looks = 0  # one after the other that found it so
        self._due_ns = 0  # when the next one may be started
        self._started_ns = 0

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Readable when there is something to do."""
        child = self._child
        if child is None:
            return ()
        listen = self._state != "lost" and not child.speechless
        return (child.ended, child.control.fileno()) if listen else (child.ended,)

    def state(self, now_ns: int) -> WorkerState:
        """Any thread may ask."""
        child, age = self._child, None
        if child is not None and (beat := child.beat_ns):
            age = (now_ns - beat) / 1e6
        return WorkerState(self._state, child and child.pid, self._back_off.restarts, age,
                           "; ".join(filter(None, (self._reason, self._notes))),
                           tuple(self.engines))

    def look(self, now_ns: int) -> None:
        """All that is to be done at this moment."""
        if self._child is None:
            if now_ns >= self._due_ns and not self._back_off.given_up:
                self._start(now_ns)
            return
        while self._state != "lost" and (said := self._child.said()) is not None:
            self._hear(said, now_ns)
        if _readable(self._child.ended):
            self._bury(now_ns)
        elif self._state != "lost" and (why := self._verdict(now_ns)):
            self.give_up_child(why)

    def give_up_child(self, why: str, kind: str = "WorkerLost") -> None:
        """Calls fail from now on; another one is started when this one is dead."""
        self._lose(why, kind)
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        """Kill it, whatever it does."""
        for engine in self.engines.values():
            engine.close()
        if self._child is not None:
            self._child.kill()
            self._child.reap()
            self._drop()

    # -- its life ------------------------------------------------------------------------------

    def _start(self, now_ns: int) -> None:
        self._condemned, self._stopped_looks = "", 0
        self._heart = Heart(self._limits)
        self._started_ns = now_ns
        self._state = "starting"
        try:
            self._child = Child(self.name, self._job, self._place)
        except OSError as err:  # no memory, no descriptors, no more processes
            self._due_ns = self._back_off.died(now_ns)
            self._lose(f"worker '{self.name}' could not be started: {err}")
            return
        if self._reason:
            self._say_why(f"{self._reason}; the next one is starting")

    def _hear(self, said: dict, now_ns: int) -> None:
        if "failed" in said:
            self._lose(said["text"], said["failed"])
        elif "specs" in said:
            try:
                for name, (inputs, outputs) in said["specs"].items():
                    self.engines[name].describe(self._node, specs_of(inputs), specs_of(outputs))
            except PerceptionError as err:
                self.give_up_child(str(err), type(err).__name__)
            else:
                self._child.go_on()
        elif "serving" in said:
            self._serve(said["serving"], now_ns)

    def _serve(self, notes: list[str], now_ns: int) -> None:
        for name, line in self._child.lines.items():
            self.engines[name].connect(line, self._child.beats)
        self._child.lines = {}  # they are the engines' now
        self._notes = "; ".join(notes)
        self._back_off.serving(now_ns)
        self._state, self.settled = "running", True

    def _verdict(self, now_ns: int) -> str:
        """Why it has to go; empty: it may stay."""
        if self._condemned:
            return self._condemned
        beat = self._child.beat_ns
        if self._stopped(beat, now_ns):
            return f"worker '{self.name}' is stopped (by a signal or a debugger)"
        if self._state == "running":
            silent = self._heart.look(beat, now_ns)
            return f"worker '{self.name}' is silent" if silent else ""
        late = now_ns - self._started_ns > self._limits.start_s * 1e9
        return (f"worker '{self.name}' did not serve within {self._limits.start_s:g} s"
                if late else "")

    def _stopped(self, beat_ns: int, now_ns: int) -> bool:
        doubtful = beat_ns and now_ns - beat_ns > self._limits.doubt_s * 1e9
        self._stopped_looks = (self._stopped_looks + 1 if doubtful and self._child.stopped()
                               else 0)
        return self._stopped_looks >= self._limits.stopped_looks

    def _bury(self, now_ns: int) -> None:
        """It is dead: take the rest away and say when the next one may come."""
        how = self._child.reap()
        if self._state != "lost":  # nobody wanted that
            self._lose(f"worker '{self.name}' died ({how})")
        self._drop()
        self._due_ns = self._back_off.died(now_ns)
        if self._back_off.given_up:
            self._reason += f"; given up after {self._back_off.restarts} deaths"
            self._say_why(self._reason)

    def _drop(self) -> None:
        child, self._child = self._child, None
        child.close()

    def _lose(self, why: str, kind: str = "WorkerLost") -> None:
        """Calls fail from now on."""
        self._state, self._reason = "lost", why
        self._say_why(why)
        if not self.settled:
            self.failed, self.settled = (kind, why), True

    def _say_why(self, why: str) -> None:
        for engine in self.engines.values():
            engine.disconnect(why)

    def _hangs(self, why: str) -> None:
        """A caller waited too long; it is not the thread that may kill."""
        self._condemned = why
        self._wake()


def _readable(descriptor: int) -> bool:
    asked = poll()
    asked.register(descriptor, POLLIN)
    return bool(asked.poll(0))
