"""The package's own files are found in a checkout and in an ament prefix."""

import pytest

from perception_bev import resources
from perception_bev.errors import ConfigError


def test_a_file_of_the_checkout_is_found():
    assert resources.path("config/rigs").is_dir()


def test_what_is_nowhere_is_an_error_that_lists_the_places(monkeypatch, tmp_path):
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}/one:{tmp_path}/two")
    with pytest.raises(ConfigError) as err:
        resources.path("config/none.yaml")
    for place in resources.roots():
        assert str(place) in str(err.value)
    assert f"{tmp_path}/two/share/perception_bev" in str(err.value)


def test_prefixes_are_looked_into_in_their_order(monkeypatch, tmp_path):
    for name in ("one", "two"):
        folder = tmp_path / name / "share" / "perception_bev" / "only_here"
        folder.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two")
    assert resources.path("only_here") == tmp_path / "one/share/perception_bev/only_here"


def test_an_empty_prefix_is_not_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    monkeypatch.chdir(tmp_path)
    assert all(root.is_absolute() for root in resources.roots())
