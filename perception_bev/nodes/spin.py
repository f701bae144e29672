"""Nodes: run a node until a signal comes. A signal sets a flag and raises nothing: an exception in
the middle of taking a message would come out of rclpy as another error."""

from __future__ import annotations

import os
import signal
import threading

import rclpy
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from perception_bev.nodes import table
from perception_bev.nodes.lean_executor import LeanExecutor

LOOK_S = 0.2  # how long a signal may have to wait


def init(args: list[str] | None = None) -> threading.Event:
    """`rclpy.init` with our DDS profile where none is chosen, and an event that SIGINT and SIGTERM
    set (once or often)."""
    os.environ.update(table.environment())
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    return stopping


def spin(node: Node, stopping: threading.Event, executor: Executor | None = None) -> None:
    """Serve the node's callbacks until `stopping` is set; then let go of everything."""
    executor = executor or LeanExecutor()
    executor.add_node(node)
    try:
        while rclpy.ok() and not stopping.is_set():
            executor.spin_once(timeout_sec=LOOK_S)
    finally:
        executor.shutdown()
        node.destroy_node()
