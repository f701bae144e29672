"""Commands: what a vehicle had at each ground truth of a bag, with a scenario's faults: the newest
message of every sensor that had come by then, and the ego motion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from perception_bev.contracts import LidarSweep, RadarScan, SensorFrame
from perception_bev.errors import PerceptionError
from perception_bev.messages import read
from perception_bev.raw import RawFrame
from perception_bev.recordings.bag import READERS
from perception_bev.recordings.bag_reader import BagReader, RawMessage
from perception_bev.recordings.bag_write import absolute
from perception_bev.recordings.sample_messages import TRUTH_CLOUD_TOPIC
from perception_bev.rig import Rig
from perception_bev.sensors.lidar import LidarDecoder
from perception_bev.sensors.radar import RadarDecoder
from perception_bev.sim.faults import Faults
from perception_bev.sim.scenario import Scenario
from perception_bev.temporal.ego import EgoMotion

LATELY_NS = 250_000_000  # a sensor whose newest message came earlier is silent


@dataclass(frozen=True)
class Scene:
    """All that is drawn of one moment."""

    index: int  # of the ground truth in the bag
    t_ref_ns: int  # in the bag, after its faults
    pictures: Mapping[str, RawFrame]  # by camera; none of a silent one
    clouds: Mapping[str, SensorFrame]  # by lidar and radar
    ego: EgoMotion  # goes on with the next scene


def scenes(bag: Path, rig: Rig, wanted: Callable[[int], bool], scenario: Scenario | None = None,
           seed: int = 0) -> Iterator[Scene]:
    """The wanted ones, by their index, in order. Unreadable messages are as good as none."""
    truth_topic, motion_topic = absolute(TRUTH_CLOUD_TOPIC), absolute(rig.odometry_topic or "")
    sensors = {absolute(sensor.topic): name for name, sensor in rig.sensors.items()}
    decoders = {**{name: LidarDecoder(spec) for name, spec in rig.lidars.items()},
                **{name: RadarDecoder(spec) for name, spec in rig.radars.items()}}
    with BagReader(bag) as reader:
        messages = reader.raw_messages({*sensors, truth_topic, motion_topic})
        if scenario is not None:
            faults = Faults(scenario, rig, reader.types, reader.start_ns, seed)
            messages = faults.apply(messages)
        newest: dict[str, RawMessage] = {}
        ego, index = EgoMotion(), -1
        for message in messages:
            if message.topic in sensors:
                newest[sensors[message.topic]] = message
            elif message.topic == motion_topic:
                ego.push(*read.read_odometry(reader.deserialize(message.data, message.type)))
            else:
                index += 1
                if wanted(index):
                    yield _scene(index, message, newest, reader, decoders, ego)


def _scene(index: int, truth: RawMessage, newest: Mapping[str, RawMessage], reader: BagReader,
           decoders: Mapping[str, LidarDecoder | RadarDecoder], ego: EgoMotion) -> Scene:
    t_ref = read.stamp_ns(reader.deserialize(truth.data, truth.type).header)
    pictures: dict[str, RawFrame] = {}
    clouds: dict[str, LidarSweep | RadarScan] = {}
    for name, message in newest.items():
        if truth.stamp_ns - message.stamp_ns > LATELY_NS:
            continue
        try:
            raw = READERS[message.type](reader.deserialize(message.data, message.type))
            if name in decoders:
                clouds[name] = decoders[name].decode(raw)
            else:
                pictures[name] = raw
        except PerceptionError:
            continue
    return Scene(index, t_ref, pictures, clouds, ego)
