"""Laws of strict YAML: what does not fit is an error that names the place and the cure."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_bev import config
from perception_bev.config import Range
from perception_bev.errors import ConfigError


@dataclass(frozen=True)
class Wheel:
    radius: Annotated[float, Range(0.1, 2.0)]
    spokes: int = 5

    def __post_init__(self) -> None:
        if self.spokes == 13:
            raise ConfigError("13 spokes bring bad luck")


@dataclass(frozen=True)
class Car:
    name: str
    wheels: dict[str, Wheel]
    size: tuple[float, float, float] = (4.0, 2.0, 1.5)
    gears: tuple[int, ...] = ()
    fuel: Literal["petrol", "diesel"] = "petrol"
    spare: Wheel | Literal["none"] = "none"
    owner: str | None = None
    fast: bool = False
    tags: dict[str, str] = field(default_factory=dict)


GOOD = {"name": "a", "wheels": {"front": {"radius": 0.3}}}


def made(**changes) -> Car:
    return config.build(Car, GOOD | changes, "car.yaml")


def test_a_mapping_becomes_a_dataclass_with_its_defaults():
    assert made(size=[1, 2, 3], gears=[1, 2], spare={"radius": 1}, fast=True) == Car(
        "a", {"front": Wheel(0.3)}, (1.0, 2.0, 3.0), (1, 2), spare=Wheel(1.0), fast=True)
    assert isinstance(made(size=[1, 2, 3]).size[0], float)


@pytest.mark.parametrize(("change", "parts"), [
    ({"colour": "red"}, ["unknown key 'colour'", "known: name, wheels"]),
    ({"naem": "red"}, ["did you mean 'name'"]),
    ({"wheels": {"front": {}}}, ["wheels.front", "missing radius"]),
    ({"wheels": {"front": {"radius": 5}}}, ["wheels.front.radius", "outside 0.1 .. 2.0"]),
    ({"wheels": {"front": {"radius": float("nan")}}}, ["wheels.front.radius", "outside"]),
    ({"wheels": {"front": {"radius": "big"}}}, ["wheels.front.radius", "expected float", "'big'"]),
    ({"wheels": {"front": {"radius": 1, "spokes": 13}}}, ["wheels.front", "bad luck"]),
    ({"wheels": {"front": {"radius": 1, "spokes": 2.5}}}, ["spokes", "expected int", "2.5"]),
    ({"wheels": {"front": {"radius": 1, "spokes": True}}}, ["spokes", "expected int"]),
    ({"wheels": {"front": {"radius": True}}}, ["radius", "expected float"]),
    ({"wheels": ["front"]}, ["wheels", "expected names with values"]),
    ({"wheels": {"front": 3}}, ["wheels.front", "expected keys (radius, spokes)", "got 3"]),
    ({"size": [1, 2]}, ["size", "expected 3 values, got 2"]),
    ({"size": 1}, ["size", "expected a list"]),
    ({"gears": [1, "two"]}, ["gears[1]", "expected int"]),
    ({"fuel": "hay"}, ["fuel", "'hay' is none of petrol, diesel"]),
    ({"spare": {"radius": 9}}, ["spare.radius", "outside"]),
    ({"spare": "some"}, ["spare", "'some'", "none"]),
    ({"owner": 3}, ["owner", "expected str"]),
    ({"name": None}, ["name", "expected str"]),
    ({"fast": 1}, ["fast", "expected bool"]),
])
def test_what_does_not_fit_is_named_with_its_place(change, parts):
    with pytest.raises(ConfigError) as err:
        made(**change)
    assert str(err.value).startswith("car.yaml: ")
    for part in parts:
        assert part in str(err.value)


def test_what_is_missing_is_listed():
    with pytest.raises(ConfigError, match="missing name, wheels"):
        config.build(Car, {}, "car.yaml")


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_what_is_no_mapping_is_refused_with_the_keys(value):
    with pytest.raises(ConfigError, match=r"expected keys \(name, wheels"):
        config.build(Car, value, "car.yaml")


@given(value=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([*Car.__dataclass_fields__, "radius", "front"]), inner, max_size=4),
    max_leaves=12))
def test_any_value_gives_a_car_or_our_error(value):
    try:
        assert isinstance(config.build(Car, value, "car.yaml"), Car)
    except ConfigError as err:
        assert str(err).startswith("car.yaml")


def test_files(tmp_path):
    path = tmp_path / "car.yaml"
    path.write_text("name: a\nwheels: {front: {radius: 0.3}}\n")
    assert config.load(path, Car) == made()
    with pytest.raises(ConfigError, match="no such file"):
        config.load(tmp_path / "none.yaml", Car)
    with pytest.raises(ConfigError, match="not readable"):
        config.load(tmp_path, Car)
    for text in ("a: [", "a: b: c", "\x00"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="not readable as YAML"):
            config.load(path, Car)
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        config.load(path, Car)
    path.write_text("")
    with pytest.raises(ConfigError, match="expected keys"):
        config.load(path, Car)


@pytest.mark.parametrize("text", [
    "name: a\nname: b\nwheels: {}\n",
    "name: a\nwheels:\n  front: {radius: 0.3}\n  front: {radius: 0.4}\n"])
def test_a_key_given_twice_is_refused_not_dropped(tmp_path, text):
    path = tmp_path / "car.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="twice"):
        config.load(path, Car)


def test_a_merged_mapping_may_be_overridden(tmp_path):
    path = tmp_path / "car.yaml"
    path.write_text("name: a\nwheels:\n  front: &w {radius: 0.3}\n  rear: {<<: *w, radius: 0.4}\n")
    assert config.load(path, Car).wheels == {"front": Wheel(0.3), "rear": Wheel(0.4)}


# -- dataclasses that tell themselves apart by their kind ------------------------------------------


@dataclass(frozen=True)
class Walk:
    kind: Literal["walk"]
    steps: int


@dataclass(frozen=True)
class Ride:
    kind: Literal["bus", "train"]
    line: str = "1"


@dataclass(frozen=True)
class Trip:
    legs: tuple[Walk | Ride, ...]


def test_the_kind_chooses_the_dataclass():
    legs = [{"kind": "walk", "steps": 3}, {"kind": "train"}]
    assert config.build(Trip, {"legs": legs}, "t") == Trip((Walk("walk", 3), Ride("train")))


@pytest.mark.parametrize(("leg", "text"), [
    ({"kind": "wlak", "steps": 3}, r"legs\[0\]: unknown kind 'wlak' \(did you mean 'walk'"),
    ({"kind": ["walk"]}, r"unknown kind \['walk'\]"),
    ({"steps": 3}, r"legs\[0\]: expected keys with a kind \(walk, bus, train\)"),
    ("walk", "expected keys with a kind"),
    ({"kind": "bus", "steps": 3}, r"unknown key 'steps'; known: kind, line"),
    ({"kind": "walk"}, "missing steps"),
])
def test_errors_are_of_the_kind_that_was_named(leg, text):
    with pytest.raises(ConfigError, match=text):
        config.build(Trip, {"legs": [leg]}, "t")
