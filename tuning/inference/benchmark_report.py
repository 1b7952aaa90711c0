"""The comparison of all ways to get showers as a table, a page and a plot."""

from __future__ import annotations

import html
import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from caloforge.markdown import plain
from caloforge.tuning.inference.benchmark_record import Benchmark, Used
from caloforge.tuning.inference.report import told
from caloforge.tuning.plots import pictures_html
from caloforge.validation.plots.style import BAND, COLOURS, escaped, head, number_decades, style

_MARKERS = "osD^vP*X"


def table(found: Benchmark) -> str:
    """Return the comparison in Markdown."""
    heads, rows = _cells(found)
    lines = [f"# Ways to get showers of {plain(found.family)}, {found.voxels:,} voxels", ""]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(map(plain, row)) + " |" for row in rows]
    lines += ["", *(f"Left out: {plain(one)}.\n" for one in _left_out(found)), _note(found), ""]
    return "\n".join(lines)


def page(found: Benchmark) -> str:
    """Return table and plot as one page that needs no other file, as Kubeflow's viewer demands."""
    content = io.BytesIO()
    draw(found, content)
    heads, rows = _cells(found)

    def line(cells: list[str], kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>\n"

    body = "".join(line(row, "td") for row in rows)
    texts = [*(f"Left out: {one}." for one in _left_out(found)), _note(found)]
    note = f"<table><thead>{line(heads, 'th')}</thead><tbody>\n{body}</tbody></table>\n"
    note += "".join(f"<p>{html.escape(text)}</p>\n" for text in texts)
    return pictures_html("Ways to get showers", {"time per shower, memory and start": content.getvalue()}, note=note)


def _cells(found: Benchmark) -> tuple[list[str], list[list[str]]]:
    few, many = min(found.sizes), max(found.sizes)
    heads = ["", "threads", *(f"ms per shower, {size:,} at once" for size in found.sizes)]
    heads += [f"CPU ms per shower, {few:,} and {many:,} at once", "speed", "first shower from cold [s]", "memory [MB]"]
    heads += ["generator [MB]", "library [MB]"]
    rows = [_row(one, found) for one in found.measured]
    if found.geant4:
        place = heads.index("speed")
        heads.insert(place, "CPU beside Geant4")
        cpu = f"{_short(found.geant4[few])}, {_short(found.geant4[many])}"
        rows.append(["Geant4", "1", *[""] * len(found.sizes), cpu, "1", *[""] * 5])
    return heads, rows


def _row(one: Used, found: Benchmark) -> list[str]:
    times = []
    for size in found.sizes:
        time = one.ms.get(size)
        spread = "" if time is None else f"{_short(time.median)} ({_short(time.least)} to {_short(time.most)})"
        times.append(spread)
    few, many = min(one.ms), max(one.ms)
    cells = [
        _name(one),
        "1" if one.threads == 1 else "all",
        *times,
        f"{_short(one.ms[few].cpu)}, {_short(one.ms[many].cpu)}",
    ]
    if found.geant4:
        cells.append(_short(one.beside_geant4.get(many, 0)))
    cold = "" if one.cold is None else f"{one.cold.median:.2g} ({one.cold.least:.2g} to {one.cold.most:.2g})"
    return [*cells, _short(one.speed), cold, f"{one.peak_mb:.0f}", f"{one.file_mb:.1f}", f"{one.library_mb:.1f}"]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _name(one: Used) -> str:
    return f"{one.name} ({one.runs})" if one.runs else one.name


def _left_out(found: Benchmark) -> list[str]:
    return list(dict.fromkeys(f"{one.name}: {one.left_out}" for one in found.ways if one.left_out))


def _note(found: Benchmark) -> str:
    beside = (
        "; beside Geant4: the CPU time that it took for the same showers over this one's, in the largest number at once"
        if found.geant4
        else ""
    )
    compiler = f" C++: {plain(found.compiler)}." if found.compiler else ""
    return (
        f"Showers of {found.energy / 1000:.3g} GeV in the mean. Medians of {found.rounds} interleaved rounds, in brackets the "
        f"least and the most; speed: how many times faster than PyTorch with as many threads, the geometric mean over the "
        f"sizes. CPU time is that of all cores, of the server without its client{beside}. From cold: from the start of the process. Memory: the most of the whole process. ONNX Runtime "
        "alone draws its own random numbers, and C++ gives hits, not voxels. The server is timed by its client. "
        f"{told(found.machine, found.provenance)}{compiler}"
    )


def draw(found: Benchmark, path: Path | io.BytesIO) -> None:
    """Draw the time per shower against the number at once, and the start against the memory; as PNG, or SVG by the name."""
    measured = found.measured
    names = list(dict.fromkeys(map(_name, measured)))
    looks = {name: (COLOURS[i % len(COLOURS)], _MARKERS[i % len(_MARKERS)]) for i, name in enumerate(names)}
    threads = list(dict.fromkeys(one.threads for one in measured))
    with style():
        figure = Figure(figsize=(4.4 * (len(threads) + 1), 5.0), layout="constrained")
        panels = figure.subplots(1, len(threads) + 1)
        for axes in panels[1 : len(threads)]:
            axes.sharey(panels[0])
        for axes, number in zip(panels, threads, strict=False):
            for one in measured:
                if one.threads == number:
                    _curve(axes, one, *looks[_name(one)])
            if found.geant4:
                axes.plot(list(found.geant4), list(found.geant4.values()), color=BAND, ls="--")
            axes.set(xscale="log", yscale="log", xlabel="showers at once")
            number_decades(axes.yaxis)
            head(
                axes,
                next(one.threads_told for one in measured if one.threads == number),
                package="caloforge" if axes is panels[0] else "",
            )
        panels[0].set_ylabel("time per shower [ms]")
        last = panels[-1]
        for one in measured:
            colour, marker = looks[_name(one)]
            if one.cold is not None:
                last.plot(
                    one.peak_mb, one.cold.median, marker, color=colour, mfc=colour if one.threads == 1 else "w", ms=7
                )
        last.set(xscale="log", yscale="log", xlabel="most memory [MB]", ylabel="first shower from cold [s]")
        for axis in (last.xaxis, last.yaxis):
            number_decades(axis)
        head(last, "open: all threads" if len(threads) > 1 else "", package="")
        handles = [
            Line2D([], [], color=colour, marker=marker, label=escaped(name)) for name, (colour, marker) in looks.items()
        ]
        if found.geant4:
            handles.append(Line2D([], [], color=BAND, ls="--", label="Geant4, CPU time of the same showers"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        form = "svg" if isinstance(path, Path) and path.suffix == ".svg" else "png"
        figure.savefig(path, dpi=130, format=form, metadata={"Date": None} if form == "svg" else None)


def _curve(axes: Axes, one: Used, colour: str, marker: str) -> None:
    sizes, times = list(one.ms), list(one.ms.values())
    errors = [[time.median - time.least for time in times], [time.most - time.median for time in times]]
    axes.errorbar(sizes, [time.median for time in times], errors, color=colour, marker=marker, capsize=2, ms=6)
