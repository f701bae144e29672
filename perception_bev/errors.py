"""Vocabulary: every error that this package raises on purpose, under one base class."""


class PerceptionError(Exception):
    """Base of all errors of this package. Nodes catch this one and report it."""


class ConfigError(PerceptionError):
    """A YAML file, parameter or argument is wrong; the message names the place and the cure."""


class CalibrationError(PerceptionError):
    """The rig cannot be completed into a calibration; the message lists what is missing."""


class BadMessage(PerceptionError):
    """A sensor message cannot be used.

    `reason` is a short slug ("truncated", "bad_layout", "bad_encoding", ...) under which the drop
    is counted; the message text says what was expected and what came.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason


class ShapeMismatch(PerceptionError):
    """An array or tensor has another shape or type than its contract states."""


class NoSensorData(PerceptionError):
    """No sensor contributed to a bundle: there is nothing to say about the world."""


class EngineUnavailable(PerceptionError):
    """An inference engine, provider or device is missing; the message names the cure."""


class EngineMismatch(PerceptionError):
    """A model file is not what its manifest says, or its golden check failed."""


class EngineFailed(PerceptionError):
    """An engine that was loaded raised an error while it ran; no output came of it."""


class WorkerLost(EngineFailed):
    """The process of an engine died, hangs or is starting again; the next call may succeed."""


class RecordingError(PerceptionError):
    """A bag or data set is missing, truncated or corrupt; the message says how far it is good."""
