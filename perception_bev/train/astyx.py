"""Training: the Astyx set as labelled samples, and which of its classes are learned as what."""

from __future__ import annotations

from collections.abc import Iterable

from perception_bev.manifest import Manifest
from perception_bev.pipeline.ingest import Ingest
from perception_bev.recordings.astyx import AstyxRecording
from perception_bev.train.samples import Labelled

# 12 riders and 3 towed objects are too few to learn: the heat map is not supervised around them.
CLASSES: dict[str, str | None] = {
    "Car": "car", "Truck": "truck", "Bus": "truck", "Trailer": "truck", "Other Vehicle": "truck",
    "Person": "pedestrian", "Cyclist": None, "Motorcyclist": None, "Towed Object": None}


def labelled(recording: AstyxRecording, manifest: Manifest,
             indices: Iterable[int]) -> list[Labelled]:
    """Decoded samples, about 1 MB each, to be kept in memory."""
    ingest: dict[str, Ingest] = {}
    items = []
    for index in indices:
        calibration = recording.calibration_of(index)
        if calibration.rig.name not in ingest:
            ingest[calibration.rig.name] = Ingest(manifest, calibration)
        sample = recording[index]
        bundle = ingest[calibration.rig.name].bundle(sample)
        items.append(Labelled(sample.name, bundle, calibration, sample.truth))
    return items
