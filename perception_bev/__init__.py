"""perception_bev: camera, lidar and radar topics in, 3D objects in bird's-eye view out."""

__version__ = "0.1.0"
