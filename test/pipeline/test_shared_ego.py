"""Ego motion behind a lock says what ego motion says."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from perception_bev.geometry import SE3
from perception_bev.pipeline.shared_ego import SharedEgo
from perception_bev.temporal.ego import EgoMotion

MS = 1_000_000
STILL = np.zeros(3)


def test_it_answers_as_the_one_inside():
    inside = EgoMotion()
    shared = SharedEgo(inside)
    for k in range(3):
        shared.push(k * 50 * MS, SE3(np.eye(3), np.array([k * 0.5, 0, 0])),
                    np.array([10.0, 0, 0]), STILL)
    np.testing.assert_array_equal(shared.at(75 * MS).matrix, inside.at(75 * MS).matrix)
    np.testing.assert_array_equal(shared.twist_at(75 * MS), inside.twist_at(75 * MS))
    assert shared.fault() is None
    shared.reset()
    assert shared.at(75 * MS) is None and shared.twist_at(75 * MS) is None


def test_many_may_ask_while_one_tells():
    shared = SharedEgo(EgoMotion(history_s=0.1))

    def tell() -> None:
        for k in range(2000):
            shared.push(k * MS, SE3.identity(), STILL, STILL)

    def ask() -> int:
        return sum(shared.at(k * MS) is not None for k in range(2000))

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(tell), *(pool.submit(ask) for _ in range(3))]
        for future in futures:
            future.result()
    assert shared.at(1999 * MS) is not None
