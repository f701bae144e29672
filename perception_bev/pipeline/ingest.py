"""Pipeline: raw frames of any sensor of the rig -> validated sensor frames at the model's scale."""

from __future__ import annotations

from dataclasses import replace

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
        self._rig = rig
        self._decoders = {
            **{name: CameraDecoder(calibration.camera_models[name], camera.width, camera.height,
                                   spec.frame_id, spec.stamp_source)
               for name, spec in rig.cameras.items()},
            **{name: LidarDecoder(spec) for name, spec in rig.lidars.items()},
            **{name: RadarDecoder(spec) for name, spec in rig.radars.items()}}

    def decode(self, sensor: str, raw: RawFrame, stamp_ns: int | None = None) -> SensorFrame:
        """A frame with the stamp to use, default: the header's.

        Raises BadMessage with the reason under which the drop is to be counted.
        """
        decoder = self._decoders[sensor]
        if stamp_ns is None or stamp_ns == raw.stamp_ns:
            return decoder.decode(raw)
        if self._rig.sensors[sensor].stamp_source == "arrival":
            return decoder.decode(replace(raw, stamp_ns=stamp_ns))
        # A clock offset moves the frame as a whole: absolute point times are of the header's clock.
        frame = decoder.decode(raw)
        return replace(frame, stamp_ns=frame.stamp_ns + stamp_ns - raw.stamp_ns)

    def bundle(self, sample: Sample, epoch: int | None = None) -> SensorBundle:
        """A recorded sample as a bundle, without a collector: for training and evaluation."""
        slots = {}
        for name in self._decoders:
            frames = tuple(self.decode(name, raw) for raw in sample.raw.get(name, ()))
            slots[name] = (Slot(frames, sample.t_ref_ns - frames[-1].stamp_ns) if frames
                           else Slot(reason="missing"))
        return SensorBundle(sample.t_ref_ns, sample.sequence if epoch is None else epoch, 0, slots,
                            odom_from_base=sample.odom_from_base)
