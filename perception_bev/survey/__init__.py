"""Survey: what is on a vehicle's topics, live or in a bag, and the rig file that follows."""
