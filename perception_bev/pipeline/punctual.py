"""Pipeline: how the threads of the perception process are kept punctual, as the deployment says.
What the system does not permit is left out and said by `refused`, for `status`."""

from __future__ import annotations

import sys

from perception_bev.deployment import Deployment
from perception_bev.pipeline import realtime

refused: dict[str, str] = {}  # what was asked for -> why it was not given


def prepare_process(deployment: Deployment) -> None:
    """Once, after the warm-up, before the threads start."""
    wanted = deployment.realtime
    sys.setswitchinterval(wanted.switch_interval_ms / 1e3)
    if wanted.freeze_gc:
        realtime.freeze_gc()
    _note("lock_memory", realtime.lock_memory(wanted.lock_memory))
    if wanted.nice:
        _note("nice", realtime.be_nice(wanted.nice))


def prepare_guard(deployment: Deployment) -> None:
    """In the thread that publishes: it must not wait behind a stage that computes."""
    _note("fifo_priority", realtime.first_in_first_out(deployment.realtime.fifo_priority))
    prepare_stage("io", deployment)


def prepare_stage(stage: str, deployment: Deployment) -> None:
    """In a stage's thread: keep it, and what it starts, on its cores."""
    _note(f"cores.{stage}", realtime.pin(deployment.cores.get(stage, ())))


def _note(what: str, refusal: str | None) -> None:
    if refusal is not None:
        refused[what] = refusal
