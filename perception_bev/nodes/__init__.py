"""Nodes: the only room that imports rclpy and message packages; thin, on a pure core."""
