"""The filter of many tracks against the textbook, one track at a time."""

import numpy as np
import pytest

from perception_bev.outputs import kalman


def states(n=7, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, 4, 4))
    return rng.normal(size=(n, 4)), root @ root.transpose(0, 2, 1) + np.eye(4)


def noises(n=7, seed=1):
    root = np.random.default_rng(seed).normal(size=(n, 2, 2))
    return root @ root.transpose(0, 2, 1) + 0.1 * np.eye(2)


@pytest.mark.parametrize("part", (kalman.POSITION, kalman.VELOCITY))
def test_update_is_the_textbook_s(part):
    (mean, cov), noise = states(), noises()
    measured = np.random.default_rng(2).normal(size=(7, 2))
    new_mean, new_cov = kalman.update(mean, cov, part, measured, noise)
    h = np.eye(4)[part]
    for i in range(7):
        s = h @ cov[i] @ h.T + noise[i]
        k = cov[i] @ h.T @ np.linalg.inv(s)
        np.testing.assert_allclose(new_mean[i], mean[i] + k @ (measured[i] - h @ mean[i]))
        np.testing.assert_allclose(new_cov[i], (np.eye(4) - k @ h) @ cov[i], atol=1e-9)


def test_two_steps_are_one_of_both_lengths():
    (mean, cov), agility = states(), np.linspace(0.1, 4, 7)
    twice = kalman.predict(*kalman.predict(mean, cov, agility, 0.3), agility, 0.5)
    for a, b in zip(twice, kalman.predict(mean, cov, agility, 0.8), strict=True):
        np.testing.assert_allclose(a, b)


def test_back_again_is_the_same_place_and_no_surer():
    (mean, cov), agility = states(), np.ones(7)
    there = kalman.predict(mean, cov, agility, 0.5)
    back_mean, back_cov = kalman.predict(*there, agility, -0.5)
    np.testing.assert_allclose(back_mean, mean)
    assert (np.linalg.eigvalsh(back_cov - cov) > -1e-9).all()


def test_distances_are_mahalanobis_and_log_determinant():
    (mean, cov), noise = states(), noises(3)
    measured = np.random.default_rng(2).normal(size=(3, 2))
    near, vague = kalman.distances(mean, cov, measured, noise)
    for i in range(7):
        for j in range(3):
            s, d = cov[i, :2, :2] + noise[j], measured[j] - mean[i, :2]
            assert near[i, j] == pytest.approx(d @ np.linalg.inv(s) @ d)
            assert vague[i, j] == pytest.approx(np.log(np.linalg.det(s)))
    paired = kalman.squared_distance(mean[:3], cov[:3], kalman.POSITION, measured, noise)
    np.testing.assert_allclose(paired, np.diagonal(near[:3]))


def test_oriented_is_wide_along_and_narrow_across():
    cov = kalman.oriented(np.array([np.pi / 6]), np.array([10.0]), np.array([2.0]))[0]
    along, across = np.array([np.sqrt(3) / 2, 0.5]), np.array([-0.5, np.sqrt(3) / 2])
    assert along @ cov @ along == pytest.approx(100) and across @ cov @ across == pytest.approx(4)


def test_the_claimed_variance_is_the_true_one():
    """Objects that move as the model says are estimated as surely as the filter says."""
    rng = np.random.default_rng(3)
    n, dt, agility, sigma = 4000, 0.1, 2.0, 0.3
    truth = np.zeros((n, 4))
    mean, cov = np.zeros((n, 4)), np.tile(np.diag([1e-9, 1e-9, 25, 25]), (n, 1, 1))
    truth[:, 2:] = rng.normal(0, 5, (n, 2))
    noise = np.tile(sigma**2 * np.eye(2), (n, 1, 1))
    for _ in range(30):
        a = rng.normal(0, 1, (n, 2)) * agility / np.sqrt(dt)
        truth[:, :2] += truth[:, 2:] * dt + a * dt**2 / 2
        truth[:, 2:] += a * dt
        mean, cov = kalman.predict(mean, cov, np.full(n, agility**2), dt)
        measured = truth[:, :2] + rng.normal(0, sigma, (n, 2))
        mean, cov = kalman.update(mean, cov, kalman.POSITION, measured, noise)
    real = np.var(mean - truth, axis=0)
    np.testing.assert_allclose(real, np.diagonal(cov[0]), rtol=0.1)
