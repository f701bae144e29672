"""`bev`: what it prints, what it imports, and how errors end."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from perception_bev.commands import main as bev
from perception_bev.errors import ConfigError

HEAVY = ("torch", "cv2", "rclpy", "numpy", "numba", "onnxruntime", "yaml", "rich")


@pytest.fixture
def verb(monkeypatch):
    """A verb `try` whose `run` the test sets."""
    module = SimpleNamespace(HELP="try it\n\nexample:\n  bev try --n 3",
                             add_arguments=lambda p: p.add_argument("--n", type=int, default=0),
                             run=lambda args: args.n)
    monkeypatch.setitem(bev.VERBS, "try", ("perception_bev.fake_verb", "try it"))
    monkeypatch.setitem(sys.modules, "perception_bev.fake_verb", module)
    return module


def raising(error):
    def run(args):
        raise error
    return run


def test_help_lists_every_verb_with_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        bev.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for name, (_, summary) in bev.VERBS.items():
        assert f"{name} " in text and summary in text


def test_no_verb_prints_the_help_and_succeeds(capsys):
    assert bev.main([]) == 0
    assert "first steps" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = ("import sys; from perception_bev.commands.main import main\n"
            "try: main(['--help'])\nexcept SystemExit: pass\n"
            f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout


def test_exit_code_is_what_the_verb_returns(verb):
    assert bev.main(["try", "--n", "3"]) == 3


def test_help_of_a_verb_has_its_example(verb, capsys):
    with pytest.raises(SystemExit):
        bev.main(["try", "--help"])
    assert "bev try --n 3" in capsys.readouterr().out


def test_our_errors_are_one_line(verb, capsys):
    verb.run = raising(ConfigError("rig.yaml: no such file"))
    assert bev.main(["try"]) == 2
    assert capsys.readouterr().err == "bev: error: rig.yaml: no such file\n"


@pytest.mark.parametrize("words", [["--debug", "try"], ["try", "--debug"]])
def test_debug_shows_the_traceback(verb, capsys, words):
    verb.run = raising(ConfigError("x"))
    assert bev.main(words) == 2
    assert "Traceback" in capsys.readouterr().err


def test_other_errors_are_not_hidden(verb):
    verb.run = raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        bev.main(["try"])


def test_interrupt_ends_with_130(verb):
    verb.run = raising(KeyboardInterrupt())
    assert bev.main(["try"]) == 130


@pytest.mark.parametrize("words, hint", [(["evl"], "'eval'"), (["bench", "snyc"], "'sync'")])
def test_mistyped_verb_names_the_nearest(words, hint, capsys):
    with pytest.raises(SystemExit) as end:
        bev.main(words)
    assert end.value.code == 2
    assert hint in capsys.readouterr().err


def test_absent_verb_says_so(monkeypatch, capsys):
    monkeypatch.setitem(bev.VERBS, "gone", ("perception_bev.no_such_verb", "gone"))
    assert bev.main(["gone"]) == 2
    assert "not part of this installation" in capsys.readouterr().err


def test_an_import_error_inside_a_verb_is_not_taken_for_its_absence(monkeypatch, tmp_path):
    (tmp_path / "broken_verb.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(bev.VERBS, "broken", ("broken_verb", "broken"))
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
        bev.main(["broken"])


def test_group_without_verb_prints_its_help(capsys):
    assert bev.main(["bench"]) == 0
    assert "rasters" in capsys.readouterr().out
