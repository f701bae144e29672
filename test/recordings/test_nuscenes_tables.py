"""nuScenes' tables: only the chosen scenes are kept; torn and contradictory tables are named."""

import json

import fake_nuscenes as fake
import numpy as np
import pytest

from perception_bev.errors import RecordingError
from perception_bev.recordings import nuscenes_tables as tables


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("nuscenes")) / "v1.0-mini"


def copied(whole, target, **changes):
    """The tables alone, some of them changed: name=function(rows) -> rows or text."""
    target.mkdir(exist_ok=True)
    for path in whole.glob("*.json"):
        text = path.read_text()
        if path.stem in changes:
            changed = changes[path.stem](json.loads(text))
            text = changed if isinstance(changed, str) else json.dumps(changed)
        (target / path.name).write_text(text)
    return target


def test_records_come_one_by_one_whatever_the_chunks(tmp_path, monkeypatch):
    rows = [{"token": str(i), "text": 'a "quoted], [{" é', "nested": [[1.5, -2e-3], {}]}
            for i in range(20)]
    path = tmp_path / "t.json"
    for indent in (None, 0, 2):
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False))
        for chunk in (1, 7, 64, 1 << 20):
            monkeypatch.setattr(tables, "_CHUNK", chunk)
            assert list(tables.records(path)) == rows
    path.write_text(" [ ]\n")
    assert list(tables.records(path)) == []


def test_a_torn_table_says_how_far_it_is_good(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('[{"token": "a"}, {"token": "b"}, {"tok')
    with pytest.raises(RecordingError, match=r"t\.json: torn after 2 records"):
        list(tables.records(path))
    path.write_text('{"token": "a"}')
    with pytest.raises(RecordingError, match="not a JSON list"):
        list(tables.records(path))
    with pytest.raises(RecordingError, match="not readable"):
        list(tables.records(tmp_path / "none.json"))


def test_scenes_hold_their_own_files_in_time_order(whole):
    scenes = tables.read_scenes(whole)
    assert [s.name for s in scenes] == ["scene-0061", "scene-0062"]
    assert [s.vehicle for s in scenes] == ["n008", "n015"]
    for scene in scenes:
        assert set(scene.frames) == {"LIDAR_TOP", *fake.CAMERAS, *fake.RADARS}
        for frames in scene.frames.values():
            stamps = [frame.stamp_ns for frame in frames]
            assert stamps == sorted(stamps)
            assert [f.sample for f in frames if f.sample >= 0] == [0, 1, 2]
        assert len(scene.annotations) == 3 * len(fake.THINGS)
    assert not set(scenes[0].annotations["instance"]) & set(scenes[1].annotations["instance"])


def test_chosen_scenes_are_read_as_if_they_were_alone(whole):
    both, (alone,) = tables.read_scenes(whole), tables.read_scenes(whole, ["scene-0062"])
    assert alone.frames == both[1].frames
    np.testing.assert_array_equal(alone.poses, both[1].poses)
    np.testing.assert_array_equal(alone.annotations, both[1].annotations)


def test_order_of_records_does_not_matter(whole, tmp_path):
    mixed = copied(whole, tmp_path / "mixed", sample=lambda rows: rows[::-1],
                   sample_data=lambda rows: rows[::-1], ego_pose=lambda rows: rows[::-1],
                   sample_annotation=lambda rows: rows[::-1], scene=lambda rows: rows)
    for ours, theirs in zip(tables.read_scenes(whole), tables.read_scenes(mixed), strict=True):
        assert ours.frames == theirs.frames and ours.sample_ns == theirs.sample_ns
        np.testing.assert_array_equal(ours.poses, theirs.poses)


def test_the_tables_are_found(whole, tmp_path):
    assert tables.find_tables(whole.parent) == tables.find_tables(whole) == whole
    with pytest.raises(RecordingError, match=r"no v1\.0-\*/scene\.json"):
        tables.find_tables(tmp_path)
    for version in ("v1.0-mini", "v1.0-trainval"):
        copied(whole, tmp_path / version)
    with pytest.raises(RecordingError, match=r"several versions.*v1\.0-mini, v1\.0-trainval"):
        tables.find_tables(tmp_path)


def test_what_is_wrong_names_the_table(whole, tmp_path):
    with pytest.raises(RecordingError, match=r"no such scenes: scene-9999; it has 2, from scene-0"):
        tables.read_scenes(whole, ["scene-0061", "scene-9999"])

    def without(key):
        return lambda rows: [{k: v for k, v in row.items() if k != key} for row in rows]

    wrong = {"sample_data": (without("timestamp"), r"sample_data\.json: KeyError: 'timestamp'"),
             "sample_annotation": (without("size"), r"sample_annotation\.json: KeyError: 'size'"),
             "calibrated_sensor": (lambda rows: rows[:1], r"sample_data\.json: KeyError: 'calib"),
             "instance": (without("category_token"), r"instance\.json: KeyError: 'category_token'"),
             "ego_pose": (lambda rows: rows[1:], "scene-0061 has lidar files whose ego_pose is"),
             "sensor": (lambda rows: [r for r in rows if r["modality"] != "lidar"], "KeyError"),
             "log": (lambda rows: [], r"scene\.json: KeyError: 'log00000'")}
    for name, (change, message) in wrong.items():
        folder = copied(whole, tmp_path / name, **{name: change})
        with pytest.raises(RecordingError, match=message):
            tables.read_scenes(folder)
    torn = copied(whole, tmp_path / "torn", sample=lambda rows: json.dumps(rows)[:-30])
    with pytest.raises(RecordingError, match=r"sample\.json: torn after 5 records"):
        tables.read_scenes(torn)
