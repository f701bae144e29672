"""Two clocks read at once, and how fast the simulated one runs."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

from perception_bev.nodes import clock  # noqa: E402
from perception_bev.nodes.clock import ClockReader  # noqa: E402
from perception_bev.sync.clock import Now  # noqa: E402

MS = 1_000_000
SECOND = 1000 * MS


class World:
    """A node's clock and the monotonic one, moved by hand."""

    def __init__(self, monkeypatch, simulated: bool = True) -> None:
        self.mono, self.ros = 7 * SECOND, 0
        self.system = 1_700_000_000 * SECOND
        monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic_ns=lambda: self.mono,
                                                           time_ns=lambda: self.system))
        parameter = SimpleNamespace(value=simulated)
        now = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.ros))
        self.reader = ClockReader(SimpleNamespace(get_parameter=lambda _: parameter,
                                                  get_clock=lambda: now))

    def run(self, seconds: float, rate: float, step_ms: int = 10) -> float:
        """Let time pass; the rate that is read at the end."""
        for _ in range(round(seconds * 1000 / step_ms)):
            self.mono += step_ms * MS
            self.ros += round(rate * step_ms * MS)
            found = self.reader.now()
        return found.rate


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0, 3.0, 15.0])
def test_the_rate_is_measured(world, rate):
    assert world.run(0.3, rate) == pytest.approx(rate, rel=0.05)
    assert world.run(2.0, rate) == pytest.approx(rate, rel=1e-3)


def test_it_is_one_until_it_is_known(world):
    assert world.run(0.1, 5.0) == 1.0


def test_it_follows_a_change_and_a_pause(world):
    world.run(2.0, 1.0)
    assert world.run(1.5, 4.0) == pytest.approx(4.0)
    assert world.run(1.5, 0.0) == 0.0


@pytest.mark.parametrize("jump", [1_700_000_000 * SECOND, 60 * SECOND, -60 * SECOND])
def test_a_jump_is_no_rate(world, jump):
    """The first /clock after none, a seek forward, a loop."""
    world.ros = 100 * SECOND
    world.run(1.5, 2.0)
    world.ros += jump
    rates = [world.run(0.05, 2.0) for _ in range(30)]
    assert all(rate == 1.0 or rate == pytest.approx(2.0, rel=0.05) for rate in rates)
    assert rates[-1] == pytest.approx(2.0, rel=0.01)


def test_system_time_runs_at_one(monkeypatch):
    world = World(monkeypatch, simulated=False)
    assert world.run(1.0, 3.0) == 1.0 and world.reader.live
    assert world.reader.now() == Now(world.mono, world.system, 1.0)
    assert not World(monkeypatch).reader.live


def test_threads_may_share_it(world):
    def read() -> list[float]:
        return [world.reader.now().rate for _ in range(3000)]

    def move() -> list[float]:
        for k in range(3000):
            world.mono += MS
            world.ros += -SECOND if k % 100 == 0 else MS
        return []

    world.ros = 1000 * SECOND
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(f) for f in (move, read, read)]
        assert all(rate >= 0 for future in futures for rate in future.result())
