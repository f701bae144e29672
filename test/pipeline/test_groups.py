"""Engines that run on other hosts are nobody's here."""

import time

import pytest

from perception_bev.deployment import Deployment, Remote
from perception_bev.errors import ConfigError
from perception_bev.manifest import load_manifest
from perception_bev.pipeline.groups import jobs_of
from perception_bev.pipeline.stages import ENGINES, Stages, open_engines

FAR = Deployment(threads=1, check_golden=False,
                 remote={"decide": Remote(), "extract_lidar": Remote()})


def near(name: str) -> bool:
    return FAR.remote_of(name) is None


def test_a_worker_without_engines_is_not_started_and_others_lack_what_is_elsewhere(tiny_model):
    jobs = jobs_of(tiny_model, FAR)
    assert set(jobs) == {"extract", "fuse"}
    assert set(jobs["extract"].engines) == {"extract_camera", "extract_radar"}


def test_stages_without_some_engine_say_where_it_is(tiny_model):
    manifest = load_manifest(tiny_model)
    engines = open_engines(tiny_model, manifest.variant("fp32"), FAR, near)
    assert set(engines) & set(ENGINES) == {"extract_camera", "extract_radar", "fuse"}
    with pytest.raises(ConfigError, match="decide, extract_lidar: on other hosts"):
        Stages(tiny_model, manifest, FAR, time.monotonic_ns, engines)
