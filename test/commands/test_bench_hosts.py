"""The figures of two hosts, and that the hosts are taken away again."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from perception_bev.commands import bench_hosts, hosts_figures
from perception_bev.commands.live_bench_count import Contract
from perception_bev.commands.live_bench_receipts import Receipt
from perception_bev.commands.live_bench_stack import LiveResult
from perception_bev.commands.main import main
from perception_bev.commands.two_hosts import TwoHosts, profile, received_and_sent
from perception_bev.errors import PerceptionError

MS = 1_000_000
PERIOD = 100 * MS


def call(way: str, ms: float, **more) -> dict:
    return {"engine": "decide", "way": way, "ms": ms, **more}


def there(ms: float, hop_ms: float, wire=(2000, 1000), same=True) -> dict:
    return call("exact", ms, hop_ms=hop_ms, tensor_bytes=[1900, 900], wire_bytes=wire,
                same_bits=same)


def lost(text: str) -> dict:
    return {"engine": "decide", "way": "exact", "lost": text, "wire_bytes": [0, 0]}


def test_calls_are_summed_up_by_engine_and_way():
    rows = [call("local", 5.0), there(9.0, 3.0), call("local", 7.0), there(11.0, 5.0, (3000, 1000)),
            lost("no answer")]
    found = hosts_figures.engines(rows)["decide"]
    assert found["local"] == {"calls": 2, "ms": found["local"]["ms"]}
    assert found["local"]["ms"]["p50"] == 6.0 and found["exact"]["hop_ms"]["p50"] == 4.0
    exact = found["exact"]
    assert (exact["calls"], exact["lost"], exact["same_bits"]) == (3, 1, 2)
    assert exact["why"] == {"no answer": 1}
    assert exact["wire_bytes"] == {"there": 1667, "back": 667}, "lost calls count, too"


def test_calls_that_were_all_lost_are_no_error():
    found = hosts_figures.engines([lost("no answer")] * 3)["decide"]["exact"]
    assert found["lost"] == 3 and found["tensor_bytes"] is None


def live(latency_ms: float, said=lambda number: {}) -> LiveResult:
    """Ten periods; said: the values of each one's status."""
    receipts = []
    for number in range(10):
        stamp, at = number * PERIOD, number * PERIOD + round(latency_ms * MS)
        receipts += [Receipt(topic, stamp, at, at, "full", 0, said(number))
                     for topic in ("tracks", "status")]
    return LiveResult(receipts, 0, 10 * PERIOD, [], [], [], {}, 0, Contract())


def test_what_the_hop_adds_is_against_all_rounds_on_this_host():
    def said(number: int) -> dict[str, str]:
        lost = 2 if number < 5 else 5  # two of them before anything counted
        return {"remote.decide": f"present, 20 answers, absent 1, late 7, timeout {lost}",
                "remote.decide.hop_ms": "4.5", "latency.decide_ms": "12.0"}

    found = hosts_figures.stack({"local": [live(40.0), live(50.0)],
                                 "decide": [live(60.0, said)] * 2})
    assert found["local"]["latency_ms"]["p50"] == 45.0 and found["local"]["lost"] == 0
    assert found["decide"]["added_ms"] == {"p50": 15.0, "p99": 10.0}
    assert found["decide"]["lost"] == 6, "three in each round"
    assert found["decide"]["remote_hop_ms"]["decide"]["p50"] == 4.5
    assert found["decide"]["stages_ms"] == {"decide": 12.0}
    assert found["decide"]["periods"] == found["decide"]["full"] == 20


def test_the_report_is_shown(capsys):
    engines = hosts_figures.engines([call("local", 5.0), there(9.0, 3.0)])
    del engines["decide"]["half"]
    hosts_figures.show({"engines": engines, "stack": hosts_figures.stack({"local": [live(40.0)]}),
                        "place": {"kind": "two processes"}, "machine": "this one"})
    said = capsys.readouterr().out
    assert "decide" in said and "two processes, this one" in said


def test_ways_are_local_and_each_split_as_it_is_and_halved():
    args = SimpleNamespace(splits=[("fuse", "decide")])
    ways = bench_hosts._ways(args)
    assert list(ways) == ["local", "fuse+decide", "fuse+decide half"] and ways["local"] == {}
    assert ways["fuse+decide half"]["decide"]["half"] and not ways["fuse+decide"]["fuse"]["half"]


def test_a_split_of_unknown_stages_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "hosts", "--splits", "decide+think"])
    assert "think is none of extract, fuse, decide" in capsys.readouterr().err


def test_the_other_host_has_the_same_profile_without_shared_memory(tmp_path):
    text = profile(tmp_path, "there", False, True).read_text()
    assert text.count("<address>127.0.0.1</address>") == 1
    used = text[text.index("<userTransports>"):text.index("</userTransports>")]
    assert "perception_udp" in used and "shm" not in used and "<type>SHM</type>" in text


def test_where_namespaces_are_not_wanted_the_loopback_is_said(tmp_path):
    with TwoHosts(tmp_path, loopback=True) as place:
        assert place.plain() == {"kind": "two processes, UDP over loopback", "why": "asked for"}
        assert place.here == () and "fastdds_there.xml" in place.there[-1] and place.device == "lo"
    with pytest.raises(PerceptionError, match="1000 Mbit/s needs two network namespaces"):
        TwoHosts(tmp_path, mbit=1000, loopback=True).__enter__()


def test_where_namespaces_are_not_permitted_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with TwoHosts(tmp_path) as place:
        assert place.kind == "two processes, UDP over loopback" and "iproute2" in place.why


def test_two_namespaces_reach_each_other_and_are_taken_away(tmp_path):
    made = TwoHosts(tmp_path)
    with made as place:
        if place.why:
            pytest.skip(f"no network namespaces here: {place.why}")
        code = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); {}; "
                "s.settimeout(10); {}")
        receiver = subprocess.Popen(
            [*place.there, sys.executable, "-S", "-c", code.format(
                "s.bind(('10.213.7.2', 7777)); print('ready', flush=True)",
                "print(s.recv(99).decode())")], stdout=subprocess.PIPE, text=True)
        assert receiver.stdout.readline() == "ready\n"
        subprocess.run([*place.here, sys.executable, "-S", "-c", code.format(
            "pass", "s.sendto(b'hello', ('10.213.7.2', 7777))")], check=True)
        assert receiver.communicate(timeout=20)[0] == "hello\n"
        present = os.listdir("/run/netns")
        assert set(made._names) <= set(present)
    assert not set(made._names) & set(os.listdir("/run/netns"))


def test_bytes_of_a_device_are_read_and_an_unknown_one_is_named():
    assert min(received_and_sent("lo")) >= 0
    with pytest.raises(PerceptionError, match="no network device 'nothing'"):
        received_and_sent("nothing")
