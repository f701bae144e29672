"""Temporal room: odometry to the pose at a time; deskew, Doppler, camera and memory motion."""
