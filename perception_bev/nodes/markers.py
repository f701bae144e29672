"""Nodes: boxes and tracks as visualization_msgs markers. Slow in Python, so it is done in the viz
process."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from perception_bev.contracts import Boxes3D
from perception_bev.messages.objects_cloud import SEEN
from perception_bev.outputs.draw import class_colour

NOSE_M = 1.5  # length of the line that shows where a box heads
TEXT_HEIGHT_M = 0.8
LABEL_ABOVE_M = 0.6
SEEN_ALPHA, UNSEEN_ALPHA = 0.45, 0.15
SLOWEST_ARROW_M_S = 0.3


def marker_array(boxes: Boxes3D, header: Header, lifetime_s: float, status: str) -> MarkerArray:
    """One box and one label per object, one line list of headings, one line of status.

    Everything before is deleted first; markers vanish by themselves when no objects follow.
    """
    array = _Array(header, lifetime_s)
    for i in range(len(boxes)):
        name = boxes.classes[boxes.label[i]]
        _box(array.new(Marker.CUBE, "boxes", i), boxes, i, _colour(name, 0.45))
        _label(array.new(Marker.TEXT_VIEW_FACING, "labels", i), boxes, i,
               f"{name} {boxes.score[i]:.2f}")
    _headings(array.new(Marker.LINE_LIST, "headings"), boxes)
    _status(array.new(Marker.TEXT_VIEW_FACING, "status"), status)
    return array.message


def track_markers(boxes: Boxes3D, ids: np.ndarray, mode: np.ndarray, trails: Sequence[np.ndarray],
                  header: Header, lifetime_s: float, status: str) -> MarkerArray:
    """The same of tracks: with their numbers, arrows of a second's way, and trails; who is not
    seen now is pale.

    Args:
        ids, mode: (N,), as in messages/objects_cloud.py.
        trails: (K, 3) in the header's frame for each track.
    """
    array = _Array(header, lifetime_s)
    speed = np.linalg.norm(boxes.velocity, axis=1)
    for i, number in enumerate(ids.tolist()):
        name = boxes.classes[boxes.label[i]]
        alpha = SEEN_ALPHA if mode[i] == SEEN else UNSEEN_ALPHA
        _box(array.new(Marker.CUBE, "boxes", i), boxes, i, _colour(name, alpha))
        _label(array.new(Marker.TEXT_VIEW_FACING, "labels", i), boxes, i,
               _about(name, number, float(speed[i])))
        if speed[i] > SLOWEST_ARROW_M_S:  # False for NaN too
            _arrow(array.new(Marker.ARROW, "velocities", i), boxes, i, _colour(name, 0.9))
    colours = [_colour(boxes.classes[label], 0.8) for label in boxes.label]
    _trails(array.new(Marker.LINE_LIST, "trails"), trails, colours)
    _headings(array.new(Marker.LINE_LIST, "headings"), boxes)
    _status(array.new(Marker.TEXT_VIEW_FACING, "status"), status)
    return array.message


class _Array:
    """A MarkerArray that replaces the one before."""

    def __init__(self, header: Header, lifetime_s: float) -> None:
        self.message = MarkerArray()
        self.message.markers.append(Marker(header=header, action=Marker.DELETEALL))
        self._header, self._lifetime = header, divmod(round(lifetime_s * 1e9), 1_000_000_000)

    def new(self, kind: int, namespace: str, number: int = 0) -> Marker:
        marker = Marker(header=self._header, ns=namespace, id=number, type=kind)
        marker.pose.orientation.w = 1.0
        marker.lifetime.sec, marker.lifetime.nanosec = self._lifetime
        self.message.markers.append(marker)
        return marker


def _about(name: str, number: int, speed: float) -> str:
    return f"{name} {number}" + (f"  {speed:.1f} m/s" if speed > SLOWEST_ARROW_M_S else "")


def _arrow(marker: Marker, boxes: Boxes3D, i: int, colour: ColorRGBA) -> None:
    """From the middle of the roof to where it will be in a second."""
    start = boxes.centre[i] + (0, 0, boxes.size[i, 2] / 2)
    marker.points = [_point(start), _point(start + np.append(boxes.velocity[i], 0.0))]
    marker.scale.x, marker.scale.y, marker.scale.z = 0.15, 0.4, 0.5  # shaft, head, its length
    marker.color = colour


def _trails(marker: Marker, trails: Sequence[np.ndarray], colours: Sequence[ColorRGBA]) -> None:
    marker.scale.x = 0.1
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=0.8)
    for trail, colour in zip(trails, colours, strict=True):
        for start, end in pairwise(trail):
            marker.points += [_point(start), _point(end)]
            marker.colors += [colour, colour]
    if not marker.points:
        marker.action = Marker.DELETE


def _box(marker: Marker, boxes: Boxes3D, i: int, colour: ColorRGBA) -> None:
    _place(marker, boxes.centre[i])
    half = float(boxes.yaw[i]) / 2
    marker.pose.orientation.z, marker.pose.orientation.w = float(np.sin(half)), float(np.cos(half))
    size = np.maximum(boxes.size[i], 0.01)  # RViz complains about flat cubes
    marker.scale.x, marker.scale.y, marker.scale.z = (float(v) for v in size)
    marker.color = colour


def _label(marker: Marker, boxes: Boxes3D, i: int, text: str) -> None:
    _place(marker, boxes.centre[i] + (0, 0, boxes.size[i, 2] / 2 + LABEL_ABOVE_M))
    marker.scale.z = TEXT_HEIGHT_M
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=0.9)
    marker.text = text


def _headings(marker: Marker, boxes: Boxes3D) -> None:
    ahead = np.stack([np.cos(boxes.yaw), np.sin(boxes.yaw), np.zeros_like(boxes.yaw)], axis=1)
    front = boxes.centre + ahead * boxes.size[:, :1] / 2
    marker.scale.x = 0.12
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=0.9)
    marker.points = [_point(p) for pair in zip(front, front + ahead * NOSE_M, strict=True)
                     for p in pair]
    if not marker.points:  # RViz warns of an empty list
        marker.action = Marker.DELETE


def _status(marker: Marker, text: str) -> None:
    marker.pose.position.z = 4.0
    marker.scale.z = TEXT_HEIGHT_M
    marker.color = ColorRGBA(r=1.0, g=0.9, b=0.3, a=1.0)
    marker.text = text
    if not text:
        marker.action = Marker.DELETE


def _place(marker: Marker, at: np.ndarray) -> None:
    position = marker.pose.position
    position.x, position.y, position.z = (float(v) for v in at)


def _point(at: np.ndarray) -> Point:
    return Point(x=float(at[0]), y=float(at[1]), z=float(at[2]))


def _colour(name: str, alpha: float) -> ColorRGBA:
    r, g, b = (channel / 255 for channel in class_colour(name))
    return ColorRGBA(r=r, g=g, b=b, a=alpha)
