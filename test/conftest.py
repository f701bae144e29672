"""For all tests: what several rooms' tests share is importable, and chance is seeded."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "support"))

# The same examples in every run, and no verdict by the wall clock.
settings.register_profile("seeded", derandomize=True, deadline=None, database=None)
settings.load_profile("seeded")


@pytest.fixture(scope="session")
def tiny_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small model with random weights; exported anew when its sources changed."""
    return _exported(request, tmp_path_factory, memory=False)


@pytest.fixture(scope="session")
def remembering_model(request: pytest.FixtureRequest,
                      tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a memory of past frames."""
    return _exported(request, tmp_path_factory, memory=True)


def _exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory,
              memory: bool) -> Path:
    pytest.importorskip("torch", reason="exporting the small model needs torch")
    import tiny_model

    cache = getattr(request.config, "cache", None)
    parent = cache.mkdir("tiny_model") if cache else tmp_path_factory.mktemp("tiny_model")
    name = f"{tiny_model.version()}{'-memory' if memory else ''}"
    return tiny_model.exported(parent / name, memory)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:  # whichever comes first exports the model, on a busy machine for minutes
        if {"tiny_model", "remembering_model"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(900))
