"""Laws of `bev bench rasters`: all implementations agree, and one that does not is found out."""

import json
import sys

import numpy as np
import pytest
from tiny import manifest

from perception_bev.commands import bench_rasters, raster_peers
from perception_bev.commands.bench_rasters import OURS, Contest, made_up
from perception_bev.commands.main import main
from perception_bev.inputs.lidar import LidarRaster
from perception_bev.inputs.radar import RadarRaster

MODEL = manifest()
PEERS, ABSENT = raster_peers.lidar_peers()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(bench_rasters, "SCALING", (200, 400, 800))


def cases(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    scene = made_up(3000, seed)
    edges = (*MODEL.lidar.height_bins, -1.0, MODEL.lidar.max_height)
    return {"lidar": (bench_rasters.clear_of_borders(scene.lidar, scene.plane, MODEL.grid, edges),
                      scene.plane),
            "radar": (bench_rasters.clear_of_borders(scene.radar, scene.plane, MODEL.grid, ()),
                      scene.plane)}


@pytest.mark.parametrize("name", PEERS)
def test_every_lidar_peer_draws_our_raster(name):
    contest = Contest({name: PEERS[name]}, LidarRaster(MODEL.lidar, MODEL.grid), MODEL.lidar,
                      MODEL.grid)
    nothing = np.zeros((0, 4), np.float32), np.zeros(3)
    for case in (cases(0)["lidar"], nothing, cases(1)["lidar"]):
        assert contest.differences([case])[name] < 1e-5


@pytest.mark.parametrize("name", raster_peers.RADAR_PEERS)
def test_every_radar_peer_draws_our_raster(name):
    contest = Contest({name: raster_peers.RADAR_PEERS[name]}, RadarRaster(MODEL.radar, MODEL.grid),
                      MODEL.radar, MODEL.grid)
    nothing = np.zeros((0, 6), np.float32), np.zeros(3)
    for case in (cases(0)["radar"], nothing, cases(1)["radar"]):
        assert contest.differences([case])[name] < 1e-5


def test_a_sweep_is_seeded_and_as_long_as_asked():
    assert (made_up(1000, 1).lidar == made_up(1000, 1).lidar).all()
    assert (made_up(1000, 1).lidar != made_up(1000, 2).lidar).any()
    for points in (1, 63, 1000):
        assert len(made_up(points, 0).lidar) == points


def test_calls_are_timed_in_turns_after_one_unseen_round():
    order = []
    times = bench_rasters.in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")},
                                   3)
    assert order == ["a", "b"] * 4
    assert {name: t.shape for name, t in times.items()} == {"a": (3,), "b": (3,)}


def test_the_verb_writes_what_it_found(tmp_path, capsys):
    out = tmp_path / "rasters.json"
    assert main(["bench", "rasters", "--points", "2000", "--repeats", "3", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert set(result["lidar_ms"]) == {OURS, *PEERS}
    assert set(result["radar_ms"]) == {OURS, *raster_peers.RADAR_PEERS}
    assert all(t > 0 for t in result["lidar_ms"].values())
    assert result["scaling"]["points"] == [200, 400, 800]
    assert len(result["scaling"]["ours_ms"]) == 3
    assert "numpy ufunc.at" in capsys.readouterr().out


def test_a_peer_that_computes_something_else_is_found_out(monkeypatch, capsys):
    def wrong(points, plane, spec, grid, out):
        raster_peers.ufunc_at(points, plane, spec, grid, out)
        out[0] *= 0.9

    monkeypatch.setattr(raster_peers, "lidar_peers", lambda: ({"wrong": wrong}, []))
    assert main(["bench", "rasters", "--points", "500", "--repeats", "1"]) == 1
    assert "not compute the same raster: wrong" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["torch", "scipy"])
def test_what_is_not_installed_only_leaves_the_comparison(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    peers, absent = raster_peers.lidar_peers()
    assert name in absent
    assert len(peers) >= 2
    assert not any(peer.startswith(name) for peer in peers)
