"""Cases on which our figures of tracks and those of TrackEval are compared; made from seeds."""

import numpy as np

Case = tuple[list[list[int]], list[list[int]], list[np.ndarray]]  # objects, tracks, similarity


def numbered(ids: list[np.ndarray]) -> list[list[int]]:
    """Ids as numbers from 0 on."""
    names = np.unique(np.concatenate(ids))
    return [np.searchsorted(names, each).tolist() for each in ids]


def chance(seed: int, samples: int = 60) -> Case:
    """Anything may be near to anything; samples without objects or tracks among them."""
    rng = np.random.default_rng(seed)
    objects, tracks, similarity = [], [], []
    for _ in range(samples):
        ours = np.flatnonzero(rng.random(12) < rng.choice([0, 0.4, 0.9]))
        theirs = np.flatnonzero(rng.random(15) < rng.choice([0, 0.5, 0.8]))
        objects.append(ours)
        tracks.append(theirs)
        similarity.append(np.maximum(0, 1 - 2.2 * rng.random((len(ours), len(theirs)))))
    return numbered(objects), numbered(tracks), similarity


def street(seed: int, spread: float, samples: int = 100) -> Case:
    """Groups of three, `spread` [m] wide, that walk; ids change and are exchanged, boxes are missed
    and invented."""
    rng = np.random.default_rng(seed)
    start = rng.random((8, 2)).repeat(3, 0) * 60 + spread * (rng.random((24, 2)) - 0.5)
    speed = (rng.random((8, 2)) - 0.5).repeat(3, 0) * 4
    ids, new = np.arange(24), 24
    objects, tracks, similarity = [], [], []
    for t in range(samples):
        place = start + speed * t / 10
        for i in np.flatnonzero(rng.random(24) < 0.01):
            ids[i], new = new, new + 1
        if rng.random() < 0.1:
            ids[:2] = ids[1::-1].copy()
        ours, found = np.flatnonzero(rng.random(24) < 0.9), rng.random(24) < 0.85
        boxes = np.concatenate([place[found] + rng.random((found.sum(), 2)) - 0.5,
                                rng.random((2, 2)) * 60])
        distance = np.linalg.norm(place[ours][:, None] - boxes[None], axis=2)
        objects.append(ours)
        tracks.append(np.concatenate([ids[found], [new, new + 1]]))
        similarity.append(np.maximum(0, 1 - distance / 4))
        new += 2
    return numbered(objects), numbered(tracks), similarity


def cases() -> dict[str, Case]:
    return {**{f"chance {seed}": chance(seed) for seed in range(4)},
            **{f"street {spread:g} m": street(9, spread) for spread in (1, 3, 8)}}
