"""Vocabulary: what the network needs and gives. `model.yaml` is the only place that states it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from perception_bev import config
from perception_bev.config import Range
from perception_bev.errors import ConfigError
from perception_bev.grid import BevGrid

Count = Annotated[int, Range(1, 100_000)]
Scale = Annotated[float, Range(1e-6, 1e6)]
MANIFEST = "model.yaml"


@dataclass(frozen=True)
class CameraInputs:
    """Pictures at (height, width) px; features at 1 / stride, sampled at heights over ground."""

    slots: Count  # cameras that the exported files have room for
    width: Count  # [px]
    height: Count  # [px]
    stride: Count
    channels: Count  # of the features
    lift_heights: tuple[float, ...]  # [m] above the ground
    lift_factor: Count  # the lift's cells are this many of the grid's

    def __post_init__(self) -> None:
        if min(self.feature_shape) < 2 or not self.lift_heights:
            raise ConfigError(f"the lift needs at least one height and 2 x 2 features, has "
                              f"{len(self.lift_heights)} and {self.feature_shape}")

    @property
    def feature_shape(self) -> tuple[int, int]:
        """(rows, columns) of one camera's features."""
        return -(-self.height // self.stride), -(-self.width // self.stride)


@dataclass(frozen=True)
class LidarInputs:
    """Raster: one occupancy channel per height bin, then highest, lowest, intensity, density."""

    height_bins: tuple[float, ...]  # [m] above the ground, edges
    max_height: Scale  # [m] scale of the height channels
    log_points: Scale  # density 1 is this many points

    def __post_init__(self) -> None:
        edges = self.height_bins
        if len(edges) < 2 or not all(a < b for a, b in pairwise(edges)):
            raise ConfigError(f"height_bins: at least two edges, rising, expected; got {edges}")

    @property
    def channels(self) -> int:
        return len(self.height_bins) - 1 + 4


@dataclass(frozen=True)
class RadarInputs:
    """Raster: density, strongest return, mean height, mean and largest |residual Doppler|, its
    signed mean where it is not ambiguous, and how much of it is ambiguous or unknown. With
    `radial_vector` that signed mean also as a vector along the lines of sight, x and y: a network
    of convolutions has no way to multiply a speed with a direction."""

    intensity_offset: float  # [dB]
    intensity_scale: Scale  # [dB]
    max_height: Scale  # [m]
    doppler_scale: Scale  # [m/s]
    log_points: Scale
    radial_vector: bool = False

    @property
    def channels(self) -> int:
        return 9 if self.radial_vector else 7


@dataclass(frozen=True)
class Heads:
    """Centre-point heads: one heat map a class and one box regression."""

    stride: Count  # output cells are this many of the grid's
    score_threshold: Annotated[float, Range(0, 1)] = 0.2
    nms_iou: Annotated[float, Range(0, 1)] = 0.2
    max_boxes: Count = 200
    quality_weight: Annotated[float, Range(0, 1)] = 0.5  # score = heat^(1-w) * quality^w
    velocity: bool = False  # False: the training data had none, NaN comes out


@dataclass(frozen=True)
class Memory:
    """Past bird's-eye-view features that `fuse` gets, warped by the ego motion since."""

    ages_s: tuple[float, ...]  # [s] wanted ages of the remembered maps, newest first
    channels: Count  # of a remembered map, at 4 cells of the grid; its validity comes on top

    def __post_init__(self) -> None:
        if not self.ages_s or not all(0 < a < b for a, b in pairwise((1e-9, *self.ages_s))):
            raise ConfigError(f"memory.ages_s: at least one, rising, above 0; got {self.ages_s}")


@dataclass(frozen=True)
class Widths:
    """Channels of the network's parts: how large a model is."""

    camera: tuple[int, int, int, int] = (16, 32, 64, 96)  # at 1/2, 1/4, 1/8, 1/16 of the picture
    lidar: Count = 24
    radar: Count = 16
    fuse: tuple[int, int, int, int] = (32, 48, 96, 128)  # at 2, 4, 8 and 16 cells of the grid
    decide: Count = 48


@dataclass(frozen=True)
class EngineFile:
    """One exported network file."""

    file: str  # relative to model.yaml
    sha256: str


@dataclass(frozen=True)
class Golden:
    """Generated inputs and the outputs that they must give."""

    file: str
    sha256: str
    tolerance: float  # largest allowed |difference|, relative to the output's own scale


@dataclass(frozen=True)
class Variant:
    """One precision of the whole model."""

    engines: dict[str, EngineFile]
    golden: Golden | None = None


@dataclass(frozen=True)
class Provenance:
    """Where the weights come from; nodes say the licence when it restricts use."""

    data: str
    licence: str
    commercial_use: bool
    metrics: dict[str, float] = field(default_factory=dict)  # on the held-out groups
    notes: str = ""


@dataclass(frozen=True)
class Manifest:
    """model.yaml."""

    name: str
    grid: BevGrid
    classes: tuple[str, ...]
    camera: CameraInputs
    lidar: LidarInputs
    radar: RadarInputs
    heads: Heads
    fused_channels: Count
    provenance: Provenance
    widths: Widths = field(default_factory=Widths)
    memory: Memory | None = None  # None: every frame is taken for itself
    variants: dict[str, Variant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"classes: at least one, all different, expected; got {self.classes}")
        _ = self.lift_grid, self.output_grid  # whole cells, or an error

    def variant(self, name: str) -> Variant:
        if name not in self.variants:
            raise ConfigError(f"model '{self.name}' has no variant '{name}'; it has: "
                              + (", ".join(self.variants) or "none (export it first)"))
        return self.variants[name]

    @property
    def feature_rows(self) -> int:
        """Rows of the stacked features of all cameras, which the lift's indices point into."""
        rows, columns = self.camera.feature_shape
        return self.camera.slots * rows * columns

    @property
    def lift_grid(self) -> BevGrid:
        return self.grid.coarser(self.camera.lift_factor)

    @property
    def output_grid(self) -> BevGrid:
        return self.grid.coarser(self.heads.stride)


def load_manifest(folder: str | Path) -> Manifest:
    """Read model.yaml of a model folder (or the file itself)."""
    path = Path(folder)
    return config.load(path / MANIFEST if path.is_dir() else path, Manifest)
