"""Nodes: the monitor of the contract topics, without and with messages on the wire."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from vision_msgs.msg import Detection3D, Detection3DArray  # noqa: E402

from perception_bev.nodes import contract_monitor as monitor  # noqa: E402

pytestmark = pytest.mark.ros


def header(stamp_ns: int, frame_id: str = "base_link") -> Header:
    made = Header(frame_id=frame_id)
    made.stamp.sec, made.stamp.nanosec = divmod(stamp_ns, 10**9)
    return made


def status(stamp_ns: int, text: str) -> DiagnosticArray:
    first = DiagnosticStatus(level=DiagnosticStatus.WARN, message=text,
                             values=[KeyValue(key="plan", value="no_history")])
    return DiagnosticArray(header=header(stamp_ns), status=[first])


@pytest.mark.parametrize("frame_id", ["", "m", "map", "odom", "base_link"])
@pytest.mark.parametrize("number", [0, 1, 7])
def test_detections_are_counted_in_the_bytes(frame_id, number):
    message = Detection3DArray(header=header(12_345_678_901, frame_id),
                               detections=[Detection3D()] * number)
    data = serialize_message(message)
    line = monitor.line_of(monitor.Received("tracks", 5, 6, 7, data))
    assert line == {"topic": "tracks", "mono_ns": 5, "ros_ns": 6, "arrived_ns": 7,
                    "stamp_ns": 12_345_678_901, "count": number}


def test_a_status_keeps_level_text_and_values():
    data = serialize_message(status(3, "predicted (2 frames)"))
    line = monitor.line_of(monitor.Received("status", 5, 6, 7, data))
    assert (line["stamp_ns"], line["level"], line["text"]) == (3, 1, "predicted (2 frames)")
    assert line["values"] == {"plan": "no_history"}


def test_a_writer_that_cannot_keep_up_counts_what_it_loses(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "QUEUED", 1)
    writer = monitor.Writer(tmp_path / "out.jsonl")
    data = serialize_message(status(3, "full"))
    for _ in range(2000):
        writer.put(monitor.Received("status", 0, 0, 0, data))
    writer.close()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[-1]["topic"] == "end" and lines[-1]["lost"] == writer.lost > 0
    assert len(lines) - 2 == 2000 - writer.lost, "what was not lost was written"


def test_a_process_of_its_own_writes_what_is_published(tmp_path):
    """The wheels' rclpy starts the interpreter anew, so the publisher is a process too."""
    publisher = """
import time, rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from vision_msgs.msg import Detection3DArray
rclpy.init(); node = rclpy.create_node('p')
tracks = node.create_publisher(Detection3DArray, 'tracks', 5)
status = node.create_publisher(DiagnosticArray, 'status', 5)
limit = time.monotonic() + 30
while time.monotonic() < limit and not (tracks.get_subscription_count()
                                        and status.get_subscription_count()):
    time.sleep(0.02)
for k in range(5):
    a = Detection3DArray(); a.header.stamp.sec = 100 + k
    b = DiagnosticArray(status=[DiagnosticStatus(message='full')]); b.header.stamp.sec = 100 + k
    tracks.publish(a); status.publish(b); time.sleep(0.02)
time.sleep(0.5)
"""
    out = tmp_path / "out.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                   "ROS_DOMAIN_ID": str(150 + os.getpid() % 50),
                   "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    listening = subprocess.Popen([sys.executable, "-m", monitor.__name__, "--ros-args", "-p",
                                  f"report:={out}"], env=environment)
    try:
        subprocess.run([sys.executable, "-c", publisher], env=environment, check=True, timeout=60)
        wait_for(lambda: out.read_text().count("\n") >= 11)
    finally:
        listening.terminate()
        assert listening.wait(timeout=20) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[0]["topic"] == "begin" and lines[-1] == {**lines[-1], "topic": "end", "lost": 0}
    got = {topic: [line["stamp_ns"] // 10**9 for line in lines if line["topic"] == topic]
           for topic in ("tracks", "status")}
    assert got == {"tracks": [100, 101, 102, 103, 104], "status": [100, 101, 102, 103, 104]}
    times = [line["mono_ns"] for line in lines]
    assert times == sorted(times)


def wait_for(condition, timeout_s: float = 20.0) -> None:
    limit = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < limit:
        time.sleep(0.05)


def test_without_a_file_it_says_so():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-m", monitor.__name__], env=environment,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "report" in done.stderr
