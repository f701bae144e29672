"""Commands: the demo's drive is simulated once for everything that it depends on."""

import shutil

import pytest

from perception_bev import resources
from perception_bev.commands import demo_bag
from perception_bev.errors import ConfigError
from perception_bev.sim.scenario import Off, Scenario, World

RIG = resources.path("config/rigs/sim6.yaml")
FOG = World(weather="fog")


@pytest.fixture
def rig(tmp_path):
    return shutil.copy(RIG, tmp_path / "rig.yaml")


def test_the_key_changes_with_what_the_bag_depends_on(rig):
    keys = [demo_bag.key_of(rig, 7, 20.0, None), demo_bag.key_of(rig, 8, 20.0, None),
            demo_bag.key_of(rig, 7, 10.0, None), demo_bag.key_of(rig, 7, 20.0, FOG)]
    rig.write_text(rig.read_text().replace("width: 704", "width: 352"))
    keys.append(demo_bag.key_of(rig, 7, 20.0, None))
    assert len(set(keys)) == len(keys)


def test_the_key_changes_with_the_simulator(rig, tmp_path, monkeypatch):
    before = demo_bag.key_of(rig, 7, 20.0, None)
    assert demo_bag.key_of(rig, 7, 20.0, None) == before
    monkeypatch.setattr(demo_bag, "PACKAGES", ("numpy",))
    assert demo_bag.key_of(rig, 7, 20.0, None) != before
    monkeypatch.undo()
    monkeypatch.setattr(demo_bag, "SOURCES", ("geometry.py",))
    assert demo_bag.key_of(rig, 7, 20.0, None) != before


def test_all_sources_of_the_simulator_are_in_the_key():
    from pathlib import Path

    import perception_bev
    root = Path(perception_bev.__file__).parent
    for pattern in demo_bag.SOURCES:
        assert list(root.glob(pattern)), f"{pattern} names no file"


def simulated(monkeypatch) -> list:
    """What would be simulated; a whole bag appears at once."""
    calls = []

    def simulate(bag, rig, seed, seconds, world, progress):
        calls.append((bag.name, seed, world))
        bag.mkdir(parents=True)
        (bag / demo_bag.METADATA).write_text("")

    monkeypatch.setattr(demo_bag, "_simulate", simulate)
    return calls


def test_a_drive_is_simulated_once_and_faults_are_not_part_of_it(rig, tmp_path, monkeypatch):
    calls = simulated(monkeypatch)
    faulty = Scenario("dead", "", faults=(Off(kind="off", sensor="cam_front"),))
    first = demo_bag.bag_of(tmp_path / "out", rig, 7, 5.0, None)
    assert demo_bag.bag_of(tmp_path / "out", rig, 7, 5.0, faulty) == first
    assert demo_bag.bag_of(tmp_path / "out", rig, 7, 5.0, Scenario("fog", "", FOG)) != first
    assert [world for _, _, world in calls] == [None, FOG]


def test_an_interrupted_bag_is_made_anew(rig, tmp_path, monkeypatch):
    calls = simulated(monkeypatch)
    bag = demo_bag.bag_of(tmp_path, rig, 7, 5.0, None)
    (bag / demo_bag.METADATA).unlink()
    (bag / "half.mcap").write_text("")
    demo_bag.bag_of(tmp_path, rig, 7, 5.0, None)
    assert len(calls) == 2 and not (bag / "half.mcap").exists()


@pytest.mark.parametrize("seconds", [0.2, 1e6])
def test_absurd_lengths_are_refused(rig, tmp_path, seconds):
    with pytest.raises(ConfigError, match="1 to 600 s"):
        demo_bag.bag_of(tmp_path, rig, 7, seconds, None)
