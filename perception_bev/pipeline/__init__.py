"""Pipeline: the product without ROS. Importing this needs NumPy alone; engines load late."""
