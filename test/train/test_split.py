"""Laws of hold-outs: whole groups, never more than the share, the same by the same seed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from perception_bev.train.split import hold_out

groupings = st.lists(st.integers(0, 12), min_size=1, max_size=60).map(np.array)


@given(groups=groupings, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_no_held_out_sample_shares_a_group_with_a_trained_one(groups, share, seed):
    held = hold_out(groups, share, seed)
    assert held.dtype == bool
    assert held.shape == groups.shape
    assert not set(groups[held]) & set(groups[~held])
    assert held.sum() <= share * len(groups)
    assert (held == hold_out(groups, share, seed)).all()


@given(groups=groupings, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_no_further_group_would_fit(groups, share, seed):
    held = hold_out(groups, share, seed)
    for group in set(groups[~held]):
        assert held.sum() + (groups == group).sum() > share * len(groups)


def test_the_ends():
    groups = np.arange(20) // 2
    assert not hold_out(groups, 0.0, 0).any()
    assert hold_out(groups, 1.0, 0).all()
    assert hold_out(groups, 0.3, 0).sum() == 6
    assert (hold_out(groups, 0.3, 0) != hold_out(groups, 0.3, 1)).any()
