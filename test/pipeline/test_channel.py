"""Room for one, and the newest wins."""

import threading

import pytest
from driving import wait_for

from perception_bev.pipeline.channel import Channel, Closed


def test_what_was_put_is_taken_once():
    channel = Channel()
    assert channel.put("a") is None
    assert channel.get() == "a"
    assert channel.put("b") is None and channel.get() == "b"
    assert channel.overtaken == 0


def test_the_newest_wins_and_the_others_come_back():
    channel = Channel()
    assert [channel.put(k) for k in range(4)] == [None, 0, 1, 2]
    assert channel.get() == 3 and channel.overtaken == 3


def test_who_waits_is_woken():
    channel, taken = Channel(), []
    thread = threading.Thread(target=lambda: taken.append(channel.get()), daemon=True)
    thread.start()
    channel.put("late")
    thread.join(10)
    assert taken == ["late"]


def test_after_close_nobody_waits_and_nothing_is_kept():
    channel, ends = Channel(), []

    def wait():
        try:
            channel.get()
        except Closed:
            ends.append("closed")

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert channel.close() is None
    wait_for(lambda: len(ends) == 3, "the end of waiting")
    assert channel.put("x") == "x", "it comes back at once"
    with pytest.raises(Closed):
        channel.get()


def test_close_gives_back_what_nobody_took():
    channel = Channel()
    channel.put("x")
    assert channel.close() == "x"
