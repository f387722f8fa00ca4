"""How the parameters of a study are written for its readers, where its search has other names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Notation:
    """Names and values for readers, of a study that searches 1 − momentum for a momentum, say.

    Attributes:
        write: From a trial's parameters to what readers write.
        labels: Of the axes of the parameters searched, by their names.
    """

    write: Callable[[Params], Params] = dict
    labels: Mapping[str, str] = field(default_factory=dict)

    def relabel(self, figure: Figure) -> Figure:
        """The figure, with labels for names in its titles, axes and categories; changed in place.

        Args:
            figure: Of a study in the names of its search.
        """
        if not self.labels:
            return figure
        layout = figure.layout
        axes = [layout[key] for key in layout if re.fullmatch("[xy]axis[0-9]*", key)]
        for titled in (layout, *axes):
            titled.title.text = self._labelled(titled.title.text)
        for axis in axes:
            if axis.ticktext is not None:
                axis.ticktext = [self._labelled(text) for text in axis.ticktext]
        for note in layout.annotations:
            note.text = self._labelled(note.text)
        for trace in figure.data:
            if trace.type == "bar" and trace.orientation == "h":
                trace.y = [self._labelled(name) for name in trace.y]
        return figure

    def _labelled(self, text: Any) -> Any:
        if not isinstance(text, str):
            return text
        return re.sub(r"\w+", lambda word: self.labels.get(word[0], word[0]), text)


PLAIN = Notation()
"""Of studies whose readers use the names that are searched."""
