"""Network: the stages together, as training sees them."""

from __future__ import annotations

import torch
from torch import nn

from perception_bev.errors import ConfigError
from perception_bev.manifest import Manifest
from perception_bev.network.decide import Decide, peaks
from perception_bev.network.extract import (
    CAMERA_STRIDE,
    RASTER_STRIDE,
    ExtractCamera,
    ExtractLidar,
    ExtractRadar,
)
from perception_bev.network.fuse import Fuse


class Model(nn.Module):
    """Engines by name, exactly those that are exported."""

    def __init__(self, manifest: Manifest, pictures: bool = False) -> None:
        """pictures: with a heat map of every picture by itself, for training only."""
        super().__init__()
        _check_strides(manifest)
        self._feature_shape = manifest.camera.feature_shape
        self.picture_heat = (
            peaks(nn.Conv2d(manifest.camera.channels, len(manifest.classes), 1))
            if pictures else None)
        self.extract_camera = ExtractCamera(manifest)
        self.extract_lidar = ExtractLidar(manifest)
        self.extract_radar = ExtractRadar(manifest)
        self.fuse = Fuse(manifest)
        self.decide = Decide(manifest)

    def logits(self, pictures: torch.Tensor, lift_index: torch.Tensor, lift_weight: torch.Tensor,
               lidar: torch.Tensor, radar: torch.Tensor, context: torch.Tensor,
               memory: torch.Tensor | None = None, memory_warp: torch.Tensor | None = None,
               memory_age: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """pictures (B, slots, H, W, 3) uint8; rasters (B, C, X, Y); the rest as for Fuse.
        Without a memory every frame is taken for itself."""
        features = self.extract(pictures, lidar, radar, context)
        fused = self.fuse(features[0], lift_index, lift_weight, *features[1:], context,
                          memory, memory_warp, memory_age)
        return self.decide.logits(fused if memory is None else fused[0])

    def picture_logits(self, camera: torch.Tensor) -> torch.Tensor:
        """Camera features (B, slots * pixels, C) -> (B * slots, classes, rows, columns)."""
        maps = camera.reshape(-1, *self._feature_shape, camera.shape[-1]).permute(0, 3, 1, 2)
        return self.picture_heat(maps)

    def extract(self, pictures: torch.Tensor, lidar: torch.Tensor, radar: torch.Tensor,
                context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Camera, lidar and radar features as Fuse takes them.

        An engine sees only what is there, as on the vehicle: what is absent must not shift the
        batch statistics. A camera that is not there is a picture of zeros, which no cell reads.
        """
        batch = len(pictures)
        present = context[:, :3] > 0
        taken = pictures.flatten(2).any(dim=2).bool() & present[:, 0:1]
        camera = _where_present(self.extract_camera, pictures.flatten(0, 1), taken.flatten())
        return (camera.reshape(batch, -1, camera.shape[-1]),
                _where_present(self.extract_lidar, lidar, present[:, 1]),
                _where_present(self.extract_radar, radar, present[:, 2]))


def _check_strides(manifest: Manifest) -> None:
    """The stages' strides are built in; a manifest that states others is refused."""
    strides = {"camera.stride": (manifest.camera.stride, CAMERA_STRIDE),
               "camera.lift_factor": (manifest.camera.lift_factor, 2 * RASTER_STRIDE),
               "heads.stride": (manifest.heads.stride, RASTER_STRIDE)}
    wrong = [f"{name} is {stated}, has to be {built}"
             for name, (stated, built) in strides.items() if stated != built]
    if wrong:
        raise ConfigError(f"model '{manifest.name}': " + "; ".join(wrong))


def _where_present(engine: nn.Module, inputs: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """The engine on the samples that are present, zeros for the others."""
    if bool(present.all()):
        return engine(inputs)
    if not bool(present.any()):
        with torch.no_grad():
            was_training = engine.training
            shape = engine.eval()(inputs[:1]).shape
            engine.train(was_training)
        return inputs.new_zeros((len(inputs), *shape[1:]), dtype=torch.float32)
    made = engine(inputs[present])
    out = made.new_zeros((len(inputs), *made.shape[1:]))
    return out.index_copy(0, present.nonzero()[:, 0], made)
