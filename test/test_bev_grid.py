"""Laws of the bird's-eye-view grid: places and cells agree."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perception_bev.errors import ConfigError
from perception_bev.grid import BevGrid

GRID = BevGrid(0.0, 80.0, -26.0, 26.0, 0.25)
INEXACT = BevGrid(-51.2, 51.2, -51.2, 51.2, 0.8)  # bounds that are no float32


def test_shape_is_rows_along_x_and_columns_along_y():
    assert GRID.shape == (320, 208)
    assert GRID.centres().shape == (320, 208, 2)
    assert GRID.centres()[0, 0].tolist() == [0.125, -25.875]
    assert GRID.centres()[1, 0].tolist() == [0.375, -25.875]
    assert GRID.centres().dtype == np.float32


@pytest.mark.parametrize("grid", [GRID, INEXACT])
def test_every_centre_lies_in_the_middle_of_its_cell(grid):
    cells = grid.cell_of(grid.centres().reshape(-1, 2)).reshape(*grid.shape, 2)
    rows, columns = np.indices(grid.shape)
    assert np.allclose(cells, np.stack([rows, columns], -1) + 0.5, atol=1e-4)
    assert grid.contains(grid.centres().reshape(-1, 2)).all()


@given(x=st.floats(-60, 60, width=32), y=st.floats(-60, 60, width=32))
@example(x=float(np.float32(-51.2)), y=0.0)  # rounds to outside the grid
@example(x=0.0, y=float(np.float32(51.2)))
@example(x=-51.2, y=-51.2)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_grid_contains_exactly_the_places_that_have_a_cell(dtype, x, y):
    place = np.array([[x, y]], dtype)
    row, column = np.floor(INEXACT.cell_of(place))[0]
    rows, columns = INEXACT.shape
    assert INEXACT.contains(place)[0] == (0 <= row < rows and 0 <= column < columns)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_a_coarser_grid_covers_the_same_rectangle(factor):
    coarse = GRID.coarser(factor)
    assert (coarse.x_min, coarse.x_max, coarse.y_min, coarse.y_max) == (0, 80, -26, 26)
    assert tuple(n * factor for n in coarse.shape) == GRID.shape
    block = GRID.centres()[:factor, :factor].reshape(-1, 2).mean(axis=0)
    assert np.allclose(coarse.centres()[0, 0], block)


@pytest.mark.parametrize("bounds", [
    (0, 80, -26, 26, 0.0), (0, 80, -26, 26, -1.0), (80, 0, -26, 26, 0.5), (0, 0, -26, 26, 0.5),
    (0, 80, 26, 26, 0.5), (0, 80.1, -26, 26, 0.5), (0, 80, -26, 26.3, 0.5),
    (0, float("inf"), -26, 26, 0.5), (float("nan"), 80, -26, 26, 0.5),
    (0, 80, -26, 26, float("nan"))])
def test_an_empty_uneven_or_endless_grid_is_refused(bounds):
    with pytest.raises(ConfigError, match="grid"):
        BevGrid(*bounds)


def test_a_factor_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="whole cells"):
        GRID.coarser(3)
