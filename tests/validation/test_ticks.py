import pytest
from matplotlib.figure import Figure

from caloforge.validation.ticks import draw_ticks


def labels(scale, low, high, **options):
    axes = Figure(figsize=(5, 4)).add_axes((0.1, 0.1, 0.8, 0.8))
    axes.set_xscale(scale)
    axes.set_xlim(low, high)
    draw_ticks(axes, y_labels=False, **options)
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (("linear", 0.0, 1.0), {"n_x": 5}, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (("linear", -0.5, 14.5), {"whole_x": True, "n_x": 3}, ["0", "5", "10"]),
        (("linear", -2e-5, 2e-5), {"n_x": 2}, ["-2e-05", "0", "2e-05"]),
        (("log", 1.0, 100.0), {}, ["1", "2", "5", "10", "20", "50", "100"]),
        (("log", 11.0, 19.0), {}, []),
        (("log", 1e-3, 1e3), {}, ["10⁻³", "10⁻²", "10⁻¹", "10⁰", "10¹", "10²", "10³"]),
        (("log", 1e-8, 1e8), {}, ["10⁻⁸", "10⁻⁵", "10⁻²", "10¹", "10⁴", "10⁷"]),
    ],
)
def test_ticks_are_at_round_numbers(arguments, options, expected):
    assert labels(*arguments, **options) == expected


def test_numbers_can_be_placed():
    axes = Figure(figsize=(5, 4)).add_axes((0.1, 0.1, 0.8, 0.8))
    axes.set_ylim(0.5, 1.5)
    draw_ticks(axes, x_labels=False, y_at=(0.75, 1, 1.25))
    assert [text.get_text() for text in axes.texts] == ["0.75", "1.00", "1.25"]
