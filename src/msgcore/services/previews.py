"""Previews: what a message would become on each of its platforms, without sending it."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgcore.core.content import SendOptions, SendRequest, Target
from msgcore.core.scopes import Principal
from msgcore.outbound.rendering import Rendering
from msgcore.platforms.registry import PlatformRegistry
from msgcore.services.send import SendService, require_right


@dataclass(frozen=True, slots=True)
class Preview:
    """What the targets on one platform would get."""

    platform: str
    rendering: Rendering
    targets: list[Target] = field(default_factory=list[Target])


class PreviewService:
    """Checks a request as sending does, and renders it as adapters do."""

    def __init__(self, *, sending: SendService, registry: PlatformRegistry) -> None:
        self._sending = sending
        self._registry = registry

    async def preview(self, principal: Principal, project_id: str, request: SendRequest) -> list[Preview]:
        """A preview for each platform, with its targets; those to fall back on come last. Nothing is stored.

        Raises what `SendService.send` raises for what it would not accept.
        """
        require_right(principal, request)
        checked = await self._sending.check(project_id, request)
        named = checked.request
        options = named.options or SendOptions()
        previews: dict[str, Preview] = {}
        records = (*checked.records, *checked.fallbacks)
        for target, record in zip(named.every_target(), records, strict=True):
            found = previews.get(record.platform)
            if found is None:
                rendering = await self._sending.long_texts.run(
                    project_id, named.content, self._registry.render, record.platform, named.content, options
                )
                found = previews[record.platform] = Preview(record.platform, rendering)
            found.targets.append(target)
        return list(previews.values())
