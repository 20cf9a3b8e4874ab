"""The report's figures, each as SVG text."""

from gdd_keras.reporting.plots import draw
from gdd_keras.reporting.plots import label_points
from gdd_keras.reporting.plots import line_style
from gdd_keras.reporting.records import Row
from gdd_keras.reporting.weights import weight_columns
from gdd_keras.tuning.curves import scale_weights

__all__ = ["accuracy_figure", "curve_figures", "weight_figure"]

_PANEL = 3.4
_HEIGHT = 2.7
# Tags of curves, by their beginnings.
_CURVES = ("losses/", "learning_rate/generator")


def accuracy_figure(material):
    """Draws accuracy against IPC, one panel for each setting.

    Args:
        material: `Material`.

    Returns:
        `(svg, records)`, or `None` if no method has two IPC.
    """
    panels = {}
    for setting, rows in material.groups.items():
        rows = {row: cells for row, cells in rows.items() if len(cells) > 1}
        if rows:
            panels[setting] = rows
    if not panels:
        return None
    methods = material.results.methods
    shown = {}
    with draw(*_size(len(panels), extra=0.9)) as (figure, result):
        for axes, (setting, rows) in zip(
            _axes(figure, len(panels)), panels.items(), strict=True
        ):
            axes.set_xscale("log")
            for row, cells in rows.items():
                style = line_style(row, methods)
                shown[row] = _plot_cells(axes, cells, style)
            label_points(axes, sorted({i for c in rows.values() for i in c}))
            axes.set_title(
                f"{setting.protocol}, {setting.network}\n{setting.split}, "
                f"{setting.epochs} epochs\n{setting.conditions}"
            )
            axes.set_xlabel("images per class")
            axes.set_ylabel("accuracy, %")
        _add_legend(figure, shown)
    return result[0], _records(panels.values())


def weight_figure(material):
    """Draws accuracy against the weight of the local loss.

    Args:
        material: `Material`.

    Returns:
        `(svg, records)`, or `None` without generators that show it.
    """
    columns = weight_columns(material)
    if not columns:
        return None
    records = []
    with draw(*_size(len(columns))) as (figure, result):
        for axes, column in zip(
            _axes(figure, len(columns)), columns, strict=True
        ):
            weights = sorted({weight for weight, _ in column.points})
            style = line_style(Row("gdd"), material.results.methods)
            style["linestyle"] = "none"
            means = []
            for weight in weights:
                cells = [cell for w, cell in column.points if w == weight]
                means.append(sum(cell.mean for cell in cells) / len(cells))
                for cell in cells:
                    _plot_cells(axes, {weight: cell}, style)
                    records += cell.records
            axes.plot(
                weights, [100 * mean for mean in means], color=style["color"]
            )
            scale_weights(axes, "omega_l", weights)
            setting = column.setting
            axes.set_title(
                f"{setting.protocol}, IPC {column.ipc}, {setting.network}\n"
                f"{setting.split}, {setting.epochs} epochs\n"
                f"{setting.conditions}"
            )
            axes.set_ylabel("accuracy, %")
    return result[0], records


def curve_figures(run):
    """Draws losses and learning rate of a run, one small panel per tag.

    TensorBoard has more: what is in the report must be readable on paper.

    Args:
        run: `Run`.

    Returns:
        Dict from stage to SVG text.
    """
    figures = {}
    shown = [curve for curve in run.curves if curve.tag.startswith(_CURVES)]
    for stage in dict.fromkeys(curve.stage for curve in shown):
        curves = [curve for curve in shown if curve.stage == stage]
        width, height = _size(len(curves), columns=3, panel=(2.4, 1.8))
        with draw(width, height) as (figure, result):
            for axes, curve in zip(
                _axes(figure, len(curves), columns=3), curves, strict=True
            ):
                marker = "o" if len(curve.steps) == 1 else None
                axes.plot(
                    curve.steps,
                    curve.values,
                    color="#2F86C6",
                    linewidth=1.2,
                    marker=marker,
                )
                axes.set_title(curve.tag.removeprefix("losses/"))
                axes.locator_params(nbins=4)
                axes.tick_params(labelsize=7.5)
        figures[stage] = result[0]
    return figures


def _size(panels, columns=2, panel=(_PANEL, _HEIGHT), extra=0.0):
    """Returns width and height in inches."""
    rows = -(-panels // columns)
    return min(panels, columns) * panel[0], rows * panel[1] + extra


def _axes(figure, panels, columns=2):
    """Returns the axes of so many panels."""
    columns = min(panels, columns)
    rows = -(-panels // columns)
    return [
        figure.add_subplot(rows, columns, index + 1) for index in range(panels)
    ]


def _plot_cells(axes, cells, style):
    """Plots means with bars; hollow where there is one network only."""
    x = list(cells)
    means = [100 * cell.mean for cell in cells.values()]
    errors = [100 * (cell.std or 0.0) for cell in cells.values()]
    lines = axes.errorbar(x, means, yerr=errors, **style)
    single = [
        (a, b)
        for a, b, cell in zip(x, means, cells.values(), strict=True)
        if cell.std is None
    ]
    if single:
        axes.plot(
            *zip(*single, strict=True),
            marker=style["marker"],
            markersize=style["markersize"] + 3,
            markerfacecolor="none",
            markeredgecolor=style["color"],
            linestyle="none",
        )
    return lines


def _add_legend(figure, shown):
    """Adds one legend for all panels, below them."""
    legend = figure.legend(
        list(shown.values()),
        # A label may begin with an underscore: set below.
        [str(index) for index in range(len(shown))],
        loc="outside lower center",
        ncols=min(3, len(shown)),
    )
    for text, row in zip(legend.get_texts(), shown, strict=True):
        text.set_text(row.name)


def _records(groups):
    return [
        record
        for rows in groups
        for cells in rows.values()
        for cell in cells.values()
        for record in cell.records
    ]
