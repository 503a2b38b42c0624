"""Let an image-text model that a pack names twice run once.

    models=datacomp: clip.* is measured by ViT-L/14 -> clip_l14.* is the same, copied

So a threshold can name the model it was made for (clip_l14.similarity), whichever model is the
pack's main one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from curate.annotators.annotator import Annotator, Batch, Column
from curate.models.packs import ModelRef, is_image_text_role


class ClipCopy:
    """Give the columns of another image-text annotator under another name."""

    def __init__(self, source: Annotator, role: str) -> None:
        """Choose whose columns are copied.

        Args:
            source: runs before this one.
            role: the second name of its model, which is this annotator's name.
        """
        self.name = role
        self.roles: tuple[str, ...] = (role,)
        self._source = source

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """Give the source's columns under this name."""
        return {self._rename(column): kind for column, kind in self._source.columns.items()}

    @property
    def metadata(self) -> Mapping[str, str]:
        """Give what the source measured with."""
        return getattr(self._source, "metadata", {})

    def setup(self) -> None:
        """Load nothing."""

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Copy; what the source could not measure stays null."""
        return {self._rename(column): batch.columns[column] for column in self._source.columns}

    def _rename(self, column: str) -> str:
        return self.name + column.removeprefix(self._source.name)


def copy_repeated(
    annotators: Sequence[Annotator], models: Mapping[str, ModelRef]
) -> list[Annotator]:
    """Replace every image-text annotator whose model an earlier one runs by a copy of that one.

    Args:
        annotators: in the order in which they run.
        models: the pack.
    """
    first: dict[ModelRef, Annotator] = {}
    found: list[Annotator] = []
    for annotator in annotators:
        role = annotator.roles[-1] if annotator.roles else ""
        is_model = is_image_text_role(role)
        source = first.setdefault(models[role], annotator) if is_model else annotator
        found.append(annotator if source is annotator else ClipCopy(source, role))
    return found
