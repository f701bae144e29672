"""What goes out, in which order, and what stands in `status`."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("diagnostic_msgs.msg", reason="diagnostic_msgs is not installed")

from perception_bev.contracts import Boxes3D, SensorBundle  # noqa: E402
from perception_bev.latency.guard import Guard  # noqa: E402
from perception_bev.latency.trace import Trace  # noqa: E402
from perception_bev.nodes.contract import Contract  # noqa: E402
from perception_bev.outputs.track import Tracks  # noqa: E402
from perception_bev.pipeline.output import Condition, Output  # noqa: E402

NOTHING = Condition({}, {}, {}, {}, (), False)


class Publications:
    """Notes what is published."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.values: dict[str, str] = {}

    def tracks(self, tracks) -> None:
        self.said.append("tracks")

    def objects(self, output) -> None:
        self.said.append("objects")

    def status(self, t_ref_ns, level, message, values) -> None:
        self.said.append("status")
        self.values = dict(values)


def boxes() -> Boxes3D:
    return Boxes3D(np.zeros((0, 3), np.float32), np.ones((0, 3), np.float32),
                   np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32),
                   ("car",), np.zeros((0, 2), np.float32))


def output() -> Output:
    none = np.zeros(0)
    tracks = Tracks(5, boxes(), none.astype(np.int64), none.astype(np.int64), none, none)
    return Output(5, 0, 0, boxes(), (), SensorBundle(5, 0, 0, {}), Trace(0, 0), tracks=tracks)


def contract(publications, condition=lambda: NOTHING, log=None) -> Contract:
    made = Contract(publications, condition, lambda: True, dict, log)
    made.guard = Guard()
    return made


def test_what_has_a_deadline_goes_out_before_what_has_none():
    publications, kept = Publications(), []
    sink, result = contract(publications, log=SimpleNamespace(put=kept.append)), output()
    sink.output(result)
    assert publications.said == ["tracks", "status"] and result.trace.published is not None
    assert publications.values["mode"] == "full" and not kept
    sink.afterwards(result)
    assert publications.said[2:] == ["objects"] and kept == [result.trace]
