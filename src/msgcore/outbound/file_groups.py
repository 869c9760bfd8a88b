"""Files of a message, for platforms that take several of them in one call, with one text beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgcore.core.content import Attachment

Group = tuple[tuple[Attachment, ...], str | None]
"""Files, and the text that stands beside them."""


def file_groups(files: Sequence[Attachment], captions: Sequence[str | None], most: int) -> Iterator[Group]:
    """Files as many at once as they may be; one with a caption of its own stands alone."""
    group: list[Attachment] = []
    beside: str | None = None
    for file, caption in zip(files, captions, strict=True):
        alone = file.caption is not None and caption is not None
        if group and (alone or caption is not None or len(group) == most):
            yield tuple(group), beside
            group, beside = [], None
        group.append(file)
        beside = beside or caption
        if alone:
            yield tuple(group), beside
            group, beside = [], None
    if group:
        yield tuple(group), beside
