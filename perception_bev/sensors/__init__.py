"""Sensors: raw frames to validated frames at the model's scale. Pure: no ROS, no clock."""
