"""Nodes: boxes as visualization_msgs markers. Slow in Python, so it is done in the viz process."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from perception_bev.contracts import Boxes3D
from perception_bev.outputs.draw import class_colour

NOSE_M = 1.5  # length of the line that shows where a box heads
TEXT_HEIGHT_M = 0.8
LABEL_ABOVE_M = 0.6


def marker_array(boxes: Boxes3D, header: Header, lifetime_s: float, status: str) -> MarkerArray:
    """One box and one label per object, one line list of headings, one line of status.

    Everything before is deleted first; markers vanish by themselves when no objects follow.
    """
    array = MarkerArray()
    array.markers.append(Marker(header=header, action=Marker.DELETEALL))
    lifetime = divmod(round(lifetime_s * 1e9), 1_000_000_000)

    def new(kind: int, namespace: str, number: int = 0) -> Marker:
        marker = Marker(header=header, ns=namespace, id=number, type=kind)
        marker.pose.orientation.w = 1.0
        marker.lifetime.sec, marker.lifetime.nanosec = lifetime
        array.markers.append(marker)
        return marker

    for i in range(len(boxes)):
        name = boxes.classes[boxes.label[i]]
        _box(new(Marker.CUBE, "boxes", i), boxes, i, _colour(name, 0.45))
        _label(new(Marker.TEXT_VIEW_FACING, "labels", i), boxes, i,
               f"{name} {boxes.score[i]:.2f}")
    _headings(new(Marker.LINE_LIST, "headings"), boxes)
    _status(new(Marker.TEXT_VIEW_FACING, "status"), status)
    return array


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
