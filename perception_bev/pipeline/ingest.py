"""Pipeline: raw frames of any sensor of the rig -> validated sensor frames at the model's scale."""

from __future__ import annotations

from perception_bev.contracts import SensorBundle, SensorFrame, Slot
from perception_bev.manifest import Manifest
from perception_bev.raw import RawFrame
from perception_bev.recordings.base import Sample
from perception_bev.rig import Calibration
from perception_bev.sensors.camera import CameraDecoder
from perception_bev.sensors.lidar import LidarDecoder
from perception_bev.sensors.radar import RadarDecoder


class Ingest:
    """One decoder a sensor. decode() may be called from several threads, one a sensor."""

    def __init__(self, manifest: Manifest, calibration: Calibration) -> None:
        rig, camera = calibration.rig, manifest.camera
        self._decoders = {
            **{name: CameraDecoder(calibration.camera_models[name], camera.width, camera.height,
                                   spec.frame_id) for name, spec in rig.cameras.items()},
            **{name: LidarDecoder(spec) for name, spec in rig.lidars.items()},
            **{name: RadarDecoder(spec) for name, spec in rig.radars.items()}}

    def decode(self, sensor: str, raw: RawFrame) -> SensorFrame:
        """Raises BadMessage with the reason under which the drop is to be counted."""
        return self._decoders[sensor].decode(raw)

    def bundle(self, sample: Sample, epoch: int | None = None) -> SensorBundle:
        """A recorded sample as a bundle, without a collector: for training and evaluation."""
        slots = {}
        for name in self._decoders:
            frames = tuple(self.decode(name, raw) for raw in sample.raw.get(name, ()))
            slots[name] = (Slot(frames, sample.t_ref_ns - frames[-1].stamp_ns) if frames
                           else Slot(reason="missing"))
        return SensorBundle(sample.t_ref_ns, sample.sequence if epoch is None else epoch, 0, slots,
                            odom_from_base=sample.odom_from_base)
