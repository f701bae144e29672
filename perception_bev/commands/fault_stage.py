"""Commands: a live stack and the faults that are done to it one after the other, while a subscriber
in another process writes down what comes of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perception_bev.commands import fault_acts as acts
from perception_bev.commands.fault_cases import Case
from perception_bev.commands.fault_processes import from_status
from perception_bev.commands.fault_score import (
    AROUND_NS,
    IN_A_ROW,
    Diagnostics,
    Injection,
    full_run,
    judge,
    skipped,
)
from perception_bev.commands.live_bench_count import Contract
from perception_bev.commands.live_bench_receipts import Follower, Receipt
from perception_bev.commands.live_bench_stack import NOT_PLAYED, LiveStack, Progress
from perception_bev.commands.up import Child
from perception_bev.errors import ConfigError, PerceptionError
from perception_bev.nodes.table import Choices, Entry, ros_words
from perception_bev.recordings.bag_reader import BagReader

CALM_S = 2.0  # `full` for so long before the next fault
CALM_PATIENCE_S = 20.0
RECOVERY_S = 8.0  # how long `full` is waited for after a fault
LOOK_S = 0.05
DISK_SIZE = "16m"
# For nodes on this computer alone. ROS's own LOCALHOST would add shared memory to any profile.
UDP_RANGE = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "ROS_LOCALHOST_ONLY": "0"}
UDP_PROFILE = """<?xml version="1.0" encoding="UTF-8" ?>
<profiles xmlns="http://www.eprosima.com">
  <transport_descriptors>
    <transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type>
      <sendBufferSize>4194304</sendBufferSize><receiveBufferSize>4194304</receiveBufferSize>
      <interfaceWhiteList><address>127.0.0.1</address></interfaceWhiteList>
    </transport_descriptor>
  </transport_descriptors>
  <participant profile_name="udp" is_default_profile="true"><rtps>
    <useBuiltinTransports>false</useBuiltinTransports>
    <userTransports><transport_id>udp</transport_id></userTransports>
  </rtps></participant>
</profiles>
"""

Order = Callable[[dict[str, Any]], dict[str, int]]  # nodes/fault_calls.py
Say = Callable[[str], None]


class FaultStack(LiveStack):
    """A live stack with a monitor of /diagnostics, and a trace file of the perception node."""

    def __init__(self, folder: Path, choices: Choices, bag: Path, contract: Contract,
                 logs: Path, **options: Any) -> None:
        """logs: folder for the trace file: the disk that can be full."""
        super().__init__(folder, choices, bag, contract, {"exclude": not_played(bag)}, **options)
        self.receipts = folder / "receipts.jsonl"
        self.diagnostics = folder / "diagnostics.jsonl"
        self.diagnostics.unlink(missing_ok=True)
        values = {"report": str(self.diagnostics)}
        entry = Entry("diagnostics_monitor", "diagnostics_monitor", lambda _: values,
                      respawn=False)
        words = [self.stack[0].command[0], "-m", entry.module, *ros_words(values)]
        self._children.insert(0, Child(entry, words))
        for child in self.stack:
            if child.name == "perception":
                child.command = [*child.command, "-p", f"trace_file:='{logs / 'trace.jsonl'}'"]


def not_played(bag: Path) -> list[str]:
    """Topics of the bag that nobody here wants; [""] means none."""
    with BagReader(bag) as reader:
        return sorted(set(NOT_PLAYED) & set(reader.topics)) or [""]


@dataclass
class Conductor:
    """Does the cases, from a thread of its own, as soon as outputs come; `run` is given to the
    stack as its watch and ends it when all is done."""

    cases: Sequence[Case]
    stack: FaultStack
    contract: Contract
    logs: Path | None  # a small disk; None: the process's files are limited instead
    order: Order
    say: Say = print

    def __post_init__(self) -> None:
        self.done: list[tuple[Case, Injection | str]] = []  # str: why it was not
        self.receipts: list[Receipt] = []
        self._follower = Follower(self.stack.receipts)
        self._progress: Progress | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="faults")
        self._failure: Exception | None = None

    def watch(self, progress: Progress) -> None:
        """Called by the stack while it runs."""
        self._progress = progress
        if progress.begin_ns is None:
            return
        if self._thread.ident is None:
            self._thread.start()
        elif not self._thread.is_alive():
            progress.end_ns = min(progress.end_ns, progress.now_ns)

    def close(self) -> None:
        """The stack has ended: whatever is broken now is put back."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def rows(self, diagnostics: Sequence[Diagnostics], stalls: Sequence[Any]
             ) -> list[dict[str, Any]]:
        """What is said of each fault."""
        self.receipts += self._follower.new()
        rows = []
        for case, injection in self.done:
            if isinstance(injection, str):
                rows.append(skipped(case, injection))
                continue
            later_ns = injection.seen_until_ns + AROUND_NS
            known = [r for r in self.receipts if r.mono_ns <= later_ns]
            rows.append(judge(case, injection, known, diagnostics, self.contract, stalls))
        return rows

    # -- the thread ------------------------------------------------------------------------------

    def _play(self) -> None:
        try:
            for case in self.cases:
                if self._stop.is_set():
                    return
                self._case(case)
        except Exception as err:  # told by close(), in the main thread
            self._failure = err

    def _case(self, case: Case) -> None:
        if not self._until(self._calm, CALM_PATIENCE_S):
            self.say(f"{case.name}: not done, the outputs were not `full` before")
            self.done.append((case, "the outputs were not `full` before it"))
            return
        try:
            begins, ends, text = self._break(case)
        except ConfigError as err:
            self.say(f"{case.name}: not done, {err}")
            self.done.append((case, str(err)))
            return
        self.say(f"{case.name}: {text}")
        if case.heals:
            ends = begins
        self._until(lambda: bool(full_run(self._statuses(), ends)), RECOVERY_S)
        self.done.append((case, Injection(begins, ends, time.monotonic_ns(), text)))

    def _break(self, case: Case) -> tuple[int, int, str]:
        """The fault, to its end: (begins, ends, what was done)."""
        if case.kind == "message":
            answer = self.order({**case.words, "for_s": case.for_s})
            self._sleep_until(answer["ends_mono_ns"])
            return answer["begins_mono_ns"], answer["ends_mono_ns"], _text(case)
        act = self._act(case)
        try:
            text = act.begin()
            begins = time.monotonic_ns()
            self._sleep_until(begins + round(case.for_s * 1e9))
        finally:
            act.end()
        return begins, time.monotonic_ns() if case.for_s else begins, text

    def _act(self, case: Case) -> acts.Act:
        if case.kind == "stall":
            return acts.Stall(max(os.sched_getaffinity(0)))
        if case.kind == "disk":
            return (acts.FullDisk(self.logs) if self.logs else
                    acts.NoMoreFiles(self._pid("perception")))
        if case.kind == "slow":
            return acts.Slow(self._pid("perception"), acts.engines_of(case.of), case.words["ms"])
        if case.kind == "loss":
            return acts.Loss(self._pid(case.of), case.words["percent"])
        return {"hang": acts.Hang, "kill": acts.Kill}[case.kind](self._pid(case.of))

    def _pid(self, name: str) -> int:
        """Nodes are our children, workers are named by `status`."""
        pids = {**from_status(self._statuses()[-1].values), **self._progress.pids}
        if name not in pids:
            raise ConfigError(f"no process '{name}': the runner of this deployment has "
                              f"{', '.join(sorted(pids))}")
        return pids[name]

    # -- what comes ------------------------------------------------------------------------------

    def _calm(self) -> bool:
        """`full` for CALM_S, up to now."""
        now, recent = time.monotonic_ns(), self._statuses()[-round(CALM_S * 10):]
        return (len(recent) >= IN_A_ROW and all(r.mode == "full" for r in recent)
                and now - recent[0].mono_ns > 0.9 * CALM_S * 1e9
                and now - recent[-1].mono_ns < 0.3e9)

    def _statuses(self) -> list[Receipt]:
        self.receipts += self._follower.new()
        return [r for r in self.receipts[-2000:] if r.topic == "status"]

    def _until(self, holds: Callable[[], bool], patience_s: float) -> bool:
        limit = time.monotonic() + patience_s
        while not holds():
            if self._stop.wait(LOOK_S) or time.monotonic() > limit:
                return False
        return True

    def _sleep_until(self, mono_ns: int) -> None:
        self._stop.wait(max(0.0, (mono_ns - time.monotonic_ns()) / 1e9))


def _text(case: Case) -> str:
    words = {key: value for key, value in case.words.items() if key != "kind"}
    return f"messages: {case.words['kind']} " + ", ".join(f"{k} {v}" for k, v in words.items())


def read_diagnostics(file: Path) -> list[Diagnostics]:
    """What the monitor wrote; a torn line is left out."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            values = json.loads(line)
            found.append(Diagnostics(values["mono_ns"], values["items"]))
    return found


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """`folder` as a small file system of its own where that is permitted; else None."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", folder],
                          capture_output=True)
    try:
        yield folder if made.returncode == 0 else None
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "-l", folder], capture_output=True)


def perform(cases: Iterable[Case], folder: Path, choices: Choices, bag: Path, contract: Contract,
            order: Order, say: Say = print, **options: Any) -> list[dict[str, Any]]:
    """One stack, up for as long as the cases take: their rows."""
    logs = (folder / "logs").resolve()
    with small_disk(logs) as disk:
        os.environ["ROS_LOG_DIR"] = str(logs)
        stack = FaultStack(folder, choices, bag, contract, logs, **options)
        conductor = Conductor(list(cases), stack, contract, disk, order, say)
        failure: PerceptionError | None = None
        try:
            live = stack.run(24 * 3600.0, conductor.watch)
        except PerceptionError as err:
            failure = err
        finally:
            conductor.close()
        if failure is not None:
            raise failure
        return conductor.rows(read_diagnostics(stack.diagnostics), live.stalls)
