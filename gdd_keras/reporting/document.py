"""The whole report in Markdown, and the files it shows."""

import dataclasses

from gdd_keras.reporting import accuracy
from gdd_keras.reporting import captions
from gdd_keras.reporting import figures
from gdd_keras.reporting import images
from gdd_keras.reporting import properties
from gdd_keras.reporting import settings
from gdd_keras.reporting.plots import standalone
from gdd_keras.reporting.ranking import ranking_tables
from gdd_keras.reporting.searches import search_figures
from gdd_keras.reporting.searches import search_lines
from gdd_keras.reporting.searches import trial_table
from gdd_keras.reporting.summary import dataset_line
from gdd_keras.reporting.summary import summary
from gdd_keras.reporting.text import escape
from gdd_keras.reporting.text import slug

__all__ = ["Document", "build_document"]


@dataclasses.dataclass
class Document:
    """A report before it is written.

    Attributes:
        title: Plain text.
        blocks: List of Markdown blocks.
        inline: Name of a figure's file to its SVG for a page's body.
        files: Name of a figure's file to its `bytes`.
    """

    title: str
    blocks: list = dataclasses.field(default_factory=list)
    inline: dict = dataclasses.field(default_factory=dict)
    files: dict = dataclasses.field(default_factory=dict)

    @property
    def markdown(self):
        """The report's Markdown."""
        return "\n\n".join(self.blocks) + "\n"

    def add_section(self, title, blocks):
        """Adds a section if there is something to show."""
        blocks = [block for block in blocks if block]
        if blocks:
            self.blocks += [f"## {title}", *blocks]

    def add_svg(self, name, svg, alt):
        """Adds a drawing; returns the Markdown that shows it."""
        file = f"{slug(name, self._stems())}.svg"
        self.inline[file] = svg
        self.files[file] = standalone(svg).encode()
        return f"![{escape(alt)}](figures/{file})"

    def add_png(self, name, content, alt):
        """Adds an image; returns the Markdown that shows it."""
        file = f"{slug(name, self._stems())}.png"
        self.files[file] = content
        return f"![{escape(alt)}](figures/{file})"

    def _stems(self):
        return {file.rsplit(".", 1)[0] for file in self.files}


def build_document(material):
    """Puts the report together.

    Args:
        material: `Material`.

    Returns:
        `Document`.
    """
    dataset = material.results.dataset
    document = Document(f"Distilling {dataset['name']}")
    document.blocks += [
        f"# Distilling {escape(dataset['name'])}",
        dataset_line(dataset),
        summary(material),
    ]
    notes = [f"- {escape(note)}" for note in material.results.notes]
    if notes:
        document.blocks.append("\n".join(notes))
    add = document.add_section
    add("Accuracy", accuracy.accuracy_tables(material))
    add("Across architectures", accuracy.architecture_tables(material))
    add("Accuracy against images per class", _accuracy(document, material))
    add("Sets of full size", accuracy.full_size_tables(material))
    add("DD-Ranking", ranking_tables(material))
    add("Size", properties.size_table(material))
    add("Quality", properties.quality_tables(material))
    add("Memorisation audit", properties.audit_tables(material))
    add("Images", _grids(document, material))
    add("Weight of the local loss", _weights(document, material))
    for search in material.searches:
        add(f"Search {escape(search.path.name)}", _search(document, search))
    add("Training", _training(document, material))
    add("Settings", settings.settings_blocks(material))
    add("Machines", settings.machine_table(material))
    add("Commands", settings.command_blocks(material))
    return document


def _accuracy(document, material):
    """Returns the figure of accuracy against IPC."""
    drawn = figures.accuracy_figure(material)
    if drawn is None:
        return []
    svg, records = drawn
    alt = "Accuracy against images per class; the tables above hold the values"
    return [
        document.add_svg("accuracy", svg, alt),
        "Means with sample standard deviations; a ring marks one network, "
        f"which has none. {captions.provenance(records, material)}".strip(),
    ]


def _weights(document, material):
    """Returns the figure of accuracy against `omega_l`."""
    drawn = figures.weight_figure(material)
    if drawn is None:
        return []
    svg, records = drawn
    alt = "Accuracy against omega_l; the tables above hold the values"
    return [
        document.add_svg("omega_l", svg, alt),
        "Generators whose settings differ in `omega_l`, distillation steps "
        "and seed alone; one point each with the sample standard deviation "
        "over networks, a ring marks one network. The scale is linear below "
        "the smallest weight and logarithmic above; 0 is DiM. "
        f"{captions.provenance(records, material)}".strip(),
    ]


def _search(document, search):
    """Returns the trials of a search and its curves."""
    shown = [
        document.add_svg(
            f"{search.path.name}-{name}",
            svg,
            f"Accuracy against {name}; the table holds the values",
        )
        for name, svg in search_figures(search).items()
    ]
    return [search_lines(search), trial_table(search), *shown]


def _grids(document, material):
    """Returns the grids of images, side by side where there is room."""
    grids, notes = images.read_grids(material)
    shown = [
        f"{document.add_png(f'images-{name}', content, f'Images of {name}')}"
        f"\n*{escape(name)}*"
        for name, content in grids.items()
    ]
    if shown:
        gallery = "\n\n".join(shown)
        notes += [
            images.class_rows(material.results.dataset),
            f'<div class="gallery" markdown="1">\n\n{gallery}\n\n</div>',
        ]
    return notes


def _training(document, material):
    """Returns steps and minutes, and the curves of runs."""
    blocks = properties.training_table(material)
    for run in material.runs:
        drawn = figures.curve_figures(run)
        if drawn:
            blocks += [
                f"### {escape(run.name)}",
                "Losses against training steps; a point is the mean since the "
                "beginning of its epoch.",
            ]
        for stage, svg in drawn.items():
            alt = f"Losses of {run.name}, stage {stage}, against training steps"
            blocks += [
                f"Stage {escape(stage)}:",
                document.add_svg(f"curves-{run.name}-{stage}", svg, alt),
            ]
    return blocks
