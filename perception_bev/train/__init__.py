"""Training: samples with augmentation, the loss, a resumable loop, and the learning curve."""
