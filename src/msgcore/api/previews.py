"""Previews of messages."""

from __future__ import annotations

from typing import Any

from litestar import Controller, post
from litestar.params import FromPath

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer
from msgcore.core.content import Attachment, SendRequest, Target
from msgcore.core.scopes import ApiScope
from msgcore.outbound.rendering import Call, Degradation
from msgcore.services.previews import Preview, PreviewService


class PreviewFile(Answer):
    """A file that goes with a call; `size` in bytes, where it is in the request."""

    filename: str | None
    mime_type: str | None
    url: str | None
    size: int | None


class PreviewCall(Answer):
    """One call of the platform: its method and what is sent, without the target and without credentials."""

    method: str
    body: dict[str, Any]
    files: list[PreviewFile]


class PlatformPreview(Answer):
    """What these targets would get: the calls in order, and what is not shown as it was given."""

    platform: str
    targets: list[Target]
    calls: list[PreviewCall]
    degradations: list[Degradation]


class PreviewAnswer(Answer):
    """One preview for each platform of the message."""

    previews: list[PlatformPreview]


class PreviewsController(Controller):
    """What would be sent."""

    path = "/api/v1/projects/{project:str}/messages"
    tags = ("Messages",)

    @post("/preview", status_code=200, opt=requires(ApiScope.MESSAGES_WRITE), summary="See what would be sent")
    async def preview(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[SendRequest],
        previews: Injected[PreviewService],
    ) -> PreviewAnswer:
        """Takes what sending takes, and refuses what it refuses; nothing is sent or stored."""
        return PreviewAnswer(previews=[_answer(each) for each in await previews.preview(request.user, project, data)])


def _answer(preview: Preview) -> PlatformPreview:
    return PlatformPreview(
        platform=preview.platform,
        targets=preview.targets,
        calls=[_call(call) for call in preview.rendering.calls],
        degradations=list(preview.rendering.degradations),
    )


def _call(call: Call) -> PreviewCall:
    return PreviewCall(method=call.method, body=call.body, files=[_file(file) for file in call.files])


def _file(file: Attachment) -> PreviewFile:
    # Three bytes in four characters; what a data: URL begins with makes it a little less exact.
    size = None if file.data is None else len(file.data.rstrip("=")) * 3 // 4
    return PreviewFile(filename=file.filename, mime_type=file.mime_type, url=file.url, size=size)
