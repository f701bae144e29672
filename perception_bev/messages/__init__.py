"""Messages: anything shaped like a ROS message (rclpy's or rosbags') to raw frames and back."""
