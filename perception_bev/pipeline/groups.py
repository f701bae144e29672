"""Pipeline: which engines of a model live in which worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from perception_bev.deployment import Deployment
from perception_bev.errors import ConfigError
from perception_bev.manifest import load_manifest
from perception_bev.pipeline.job import EngineJob, GoldenJob, Job
from perception_bev.pipeline.stages import check_file, engine_files

GROUPS: Mapping[str, tuple[str, ...]] = {  # a worker a stage
    "extract": ("extract_camera", "extract_lidar", "extract_radar"),
    "fuse": ("fuse", "fuse_alone"),
    "decide": ("decide",),
}


def jobs_of(folder: Path, deployment: Deployment,
            groups: Mapping[str, Sequence[str]] = GROUPS) -> dict[str, Job]:
    """Worker -> its job with a model; the files are checked here, by their digests.

    An engine that the model does not have, or that runs on another host, is left out; one that
    nobody runs is a ConfigError.
    """
    manifest = load_manifest(folder)
    variant = manifest.variant(deployment.variant)
    files = {name: file for name, file in
             engine_files(Path(folder), variant, deployment.variant).items()
             if deployment.remote_of(name) is None}
    homeless = sorted(set(files) - {name for names in groups.values() for name in names})
    if homeless:
        raise ConfigError(f"workers: nobody runs {', '.join(homeless)}")
    golden = None
    if deployment.check_golden and variant.golden is not None:
        check_file(Path(folder) / variant.golden.file, variant.golden.sha256)
        golden = GoldenJob(str(Path(folder).resolve() / variant.golden.file),
                           variant.golden.tolerance, manifest.feature_rows)
    return {worker: Job({name: EngineJob(str(files[name].resolve()), deployment.threads_of(name))
                         for name in names if name in files},
                        asdict(deployment), golden, tuple(deployment.cores.get(worker, ())))
            for worker, names in groups.items() if set(names) & set(files)}
