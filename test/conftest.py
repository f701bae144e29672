"""For all tests: what several rooms' tests share is importable, and chance is seeded."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "support"))

# The same examples in every run, and no verdict by the wall clock.
settings.register_profile("seeded", derandomize=True, deadline=None, database=None)
settings.load_profile("seeded")
