"""Network: the three stages in torch, for training and export only. The vehicle runs engines."""
