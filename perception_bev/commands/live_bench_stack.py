"""Commands: the whole stack under a simulated drive, with who counts its outputs beside it: the
nodes of the node table, a player, the contract monitor and a control a core, each in a process of
its own. `bev bench soak` and other live benchmarks run on it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perception_bev.commands.live_bench_control import Stall, read_stalls
from perception_bev.commands.live_bench_count import Contract, Period, periods
from perception_bev.commands.live_bench_memory import Memory, sample
from perception_bev.commands.live_bench_receipts import OUTPUT, Follower, Receipt
from perception_bev.commands.live_run import environment
from perception_bev.commands.up import Child, Team, command
from perception_bev.errors import PerceptionError
from perception_bev.nodes import table
from perception_bev.nodes.table import Choices, Entry, ros_words
from perception_bev.recordings.bag_write import absolute
from perception_bev.recordings.sample_messages import TRUTH_CLOUD_TOPIC, TRUTH_TOPIC
from perception_bev.rig import load_rig

LOG = "log.txt"
SETTLE_NS = 1_000_000_000  # from the first output on, before anything counts
PATIENCE_NS = 2_000_000_000  # with a stack that falls silent then
TAIL_NS = 500_000_000  # after the last period, in which its output may still come
PIDS_S = 1.0  # between two looks for the stack's processes
STEP_S = 0.25  # between two looks at what came
SAMPLE_S = 1.0  # between two looks at the memory
NOT_PLAYED = [absolute(TRUTH_TOPIC), absolute(TRUTH_CLOUD_TOPIC), "/tf"]  # nobody here wants them

Watch = Callable[["Progress"], None]


@dataclass
class Progress:
    """The run up to now."""

    receipts: list[Receipt] = field(default_factory=list)  # all, in order of receipt
    begin_ns: int | None = None  # first t_ref that counts; None: no output yet, or just begun
    end_ns: int | None = None  # none counts from here on
    now_ns: int = 0  # ROS time
    pids: dict[str, int] = field(default_factory=dict)  # of the stack's nodes

    @property
    def seconds(self) -> float:
        """That have been counted."""
        return max(0.0, (self.now_ns - self.begin_ns) / 1e9) if self.begin_ns is not None else 0.0


@dataclass(frozen=True)
class LiveResult:
    """What a run leaves behind."""

    receipts: list[Receipt]
    begin_ns: int
    end_ns: int
    stalls: list[Stall]
    controls: list[dict[str, Any]]  # last words of each control
    memory: list[Memory]
    played: dict[str, Any]  # the player's report; empty: it could not write one
    lost: int | None  # receipts that the monitor could not write down
    contract: Contract

    def periods(self) -> list[Period]:
        return periods(self.receipts, self.begin_ns, self.end_ns, self.contract, self.stalls)


class LiveStack:
    """One run; `run` blocks until it is over."""

    def __init__(self, folder: Path, choices: Choices, bag: Path, contract: Contract,
                 replay: dict[str, Any] | None = None, nice: int = 0, quiet: bool = True) -> None:
        """
        Args:
            folder: for the logs and what the processes write.
            choices: of the node table, without a bag.
            bag: is played without end (recordings/laps.py), with fresh stamps.
            replay: further parameters of the replay node.
            nice: of the stack, for the controls.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._contract, self._quiet = folder, contract, quiet
        self._report, self._played = folder / "receipts.jsonl", folder / "played.json"
        cores = sorted(os.sched_getaffinity(0))
        self._stall_files = [folder / f"control_{core}.jsonl" for core in cores]
        for file in (self._report, self._played, *self._stall_files):
            file.unlink(missing_ok=True)
        self.stack = [Child(plan.entry, command(plan)) for plan in table.plan(choices)]
        self._children = [
            *(_control(core, file, nice) for core, file in zip(cores, self._stall_files,
                                                               strict=True)),
            _node("contract_monitor", {"report": self._report}),
            _node("replay_node", {**_replay(bag, choices.rig), "report": self._played,
                                  **(replay or {})}, ends_all=True),
            *self.stack]
        self._progress, self._follower = Progress(), Follower(self._report)
        self._pids_at = -PIDS_S
        self._memory: list[Memory] = []
        self._over = threading.Event()

    def run(self, seconds: float, watch: Watch = lambda progress: None) -> LiveResult:
        """Count for `seconds` from a second after the first output on; a signal ends it earlier,
        and what was measured until then is the result.

        Args:
            watch: called four times a second, from another thread.

        Raises:
            PerceptionError: nothing came; the text has the end of the nodes' log.
        """
        with (self._folder / LOG).open("w") as log:
            team = _Team(self._children, environment(), lambda line: self._log(line, log),
                         self._ended)
            follower = threading.Thread(target=self._conduct, args=(team, seconds, watch),
                                        name="conductor")
            follower.start()
            try:
                code = team.run()
            finally:
                self._over.set()
                follower.join()
        return self._result(code)

    def _conduct(self, team: Team, seconds: float, watch: Watch) -> None:
        """Look at what comes, until the time is over."""
        try:
            limit_s = time.monotonic() + table.ENGINES_LOADED_S
            while not self._over.wait(STEP_S):
                self._look(seconds)
                watch(self._progress)
                if self._done() or (self._progress.begin_ns is None
                                    and time.monotonic() > limit_s):
                    break
        finally:
            team.stop()

    def _done(self) -> bool:
        end_ns = self._progress.end_ns
        return end_ns is not None and self._progress.now_ns > end_ns + TAIL_NS

    def _look(self, seconds: float) -> None:
        progress = self._progress
        progress.receipts += self._follower.new()
        progress.now_ns = time.time_ns()
        if time.monotonic() - self._pids_at >= PIDS_S:  # it looks through all processes
            self._pids_at, progress.pids = time.monotonic(), _pids(self.stack)
        if progress.begin_ns is None:
            progress.begin_ns = begin_of(progress.receipts, progress.now_ns, self._contract)
            if progress.begin_ns is not None:
                progress.end_ns = progress.begin_ns + round(seconds * 1e9)
        elif not self._memory or progress.seconds >= self._memory[-1].at_s + SAMPLE_S:
            self._memory.append(sample(progress.pids.items(), progress.seconds))

    def _ended(self) -> None:
        """A signal, or a process that ends all: what is due later than now does not count."""
        if not self._over.is_set() and self._progress.end_ns is not None:
            whole = time.time_ns() - self._contract.budget_ns
            self._progress.end_ns = min(self._progress.end_ns, whole)
        self._over.set()

    def _result(self, code: int) -> LiveResult:
        progress = self._progress
        progress.receipts += self._follower.new()
        if progress.begin_ns is None or progress.end_ns <= progress.begin_ns:
            log = self._folder / LOG
            raise PerceptionError(f"no output was counted (exit code {code}); the nodes' log is "
                                  f"{log}:\n" + "\n".join(log.read_text().splitlines()[-12:]))
        stalls, controls = read_stalls(self._stall_files)
        return LiveResult(progress.receipts, progress.begin_ns, progress.end_ns, stalls, controls,
                          self._memory, _json(self._played), self._follower.lost, self._contract)

    def _log(self, line: str, file: Any) -> None:
        file.write(line + "\n")
        file.flush()
        if not self._quiet:
            print(line, flush=True)


class _Team(Team):
    """Says when it is told to end."""

    def __init__(self, children: Sequence[Child], environment: dict[str, str],
                 out: Callable[[str], None], ended: Callable[[], None]) -> None:
        super().__init__(children, environment, out)
        self._ended = ended

    def _finish(self, code: int) -> None:
        self._ended()
        super()._finish(code)


def _pids(children: Sequence[Child]) -> dict[str, int]:
    """Of those that run; they end and begin again in another thread."""
    running = {child.name: child.process for child in children}
    return {name: process.pid for name, process in running.items()
            if process is not None and process.poll() is None}


def begin_of(receipts: Sequence[Receipt], now_ns: int, contract: Contract) -> int | None:
    """The first stamp that counts, a second after the first output; None until it is known.

    A stack that says nothing after its first output is counted, too: from where its next would be.
    """
    seen: dict[str, set[int]] = {topic: set() for topic in OUTPUT}
    for receipt in receipts:
        if receipt.topic in seen:
            seen[receipt.topic].add(receipt.stamp_ns)
    pairs = set.intersection(*seen.values())
    if not pairs:
        return None
    steps = -(-SETTLE_NS // contract.period_ns)
    due_ns = min(pairs) + steps * contract.period_ns
    near = [stamp for stamps in seen.values() for stamp in stamps
            if stamp > due_ns - contract.period_ns // 2]
    return min(near) if near else due_ns if now_ns > due_ns + PATIENCE_NS else None


def _replay(bag: Path, rig: str) -> dict[str, Any]:
    """As a vehicle's sensors: endless, with stamps of now, as soon as somebody listens."""
    spec = load_rig(rig)
    reference = absolute(spec.sensors[spec.reference.sensor].topic)
    return {"bag": bag, "endless": True, "stamps": "fresh", "clock": False, "rig": rig,
            "exclude": NOT_PLAYED, "expect": [reference],
            "wait_for_subscribers_s": table.ENGINES_LOADED_S}


def _node(executable: str, parameters: dict[str, Any], ends_all: bool = False) -> Child:
    values = {name: value if isinstance(value, (bool, int, float, list)) else str(value)
              for name, value in parameters.items()}
    entry = Entry(executable, executable, lambda _: values, respawn=False, ends_all=ends_all)
    return Child(entry, [sys.executable, "-m", entry.module, *ros_words(values)])


def _control(core: int, file: Path, nice: int) -> Child:
    entry = Entry("control", f"control_{core}", lambda _: {}, respawn=False)
    return Child(entry, [sys.executable, "-m", "perception_bev.commands.live_bench_control",
                         "--core", str(core), "--out", str(file), "--nice", str(nice)])


def _json(file: Path) -> dict[str, Any]:
    import json

    return json.loads(file.read_text()) if file.exists() else {}
