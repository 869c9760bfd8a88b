"""Platforms with an HTTP API: a message is rendered into calls, and each call is made on its own.

A message that becomes several calls (long text, text and files) takes as many turns in the dispatch core: what
was done is in the ledger before the next call, the platform's limits hold for each, and a crash in between
repeats one call at most.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

import msgspec

from msgcore.core.actions import Edit
from msgcore.core.content import SendOptions
from msgcore.core.errors import FieldError, PermanentError
from msgcore.outbound.layout import Layout, Shows, buttons_shown, choices_of, lay_out
from msgcore.outbound.rendering import Call, Rendering
from msgcore.outbound.transport import LARGEST_ANSWER, Part, Response
from msgcore.platforms.answer_reader import AnswerReader
from msgcore.platforms.base import Account, OutgoingDelivery, PlatformAdapter, SentReceipt

if TYPE_CHECKING:
    from msgcore.core.actions import Action
    from msgcore.core.content import Button, Content
    from msgcore.outbound.services import AdapterServices
    from msgcore.platforms.error_table import Problem

KEPT_RENDERINGS = 256
"""Renderings kept for the next target, or the next call, of the same message."""
KEPT_CHARACTERS = 2_000_000
"""Characters of their messages, all together."""
PLAIN = SendOptions()
_BESIDE_TEXT = ("attachments", "location", "contact", "poll")
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request to a platform. Its URL and headers may hold secrets: never log it."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes | Sequence[Part] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: the JSON object of its body (empty where it has none), and the answer itself."""

    data: Mapping[str, Any]
    response: Response


class CallingAdapter(PlatformAdapter):
    """Renders content by what the platform shows, makes the calls, and reads errors by the platform's table."""

    needs_answer: ClassVar[bool] = False
    """Whether a 2xx is no success if its body is lost: where it may be a refusal, or nothing is sent twice anyway."""
    editable: ClassVar[frozenset[str]] = frozenset()
    """Methods of the calls whose body can be written into a message that is there, on platforms that edit."""

    def __init__(self, services: AdapterServices) -> None:
        super().__init__(services)
        self._renderings: OrderedDict[str, tuple[Rendering, int]] = OrderedDict()
        self._kept = 0
        self._answers = AnswerReader(self.declaration.display_name, self.problem, self.errors, services.clock)

    @classmethod
    def shows_of(cls, content: Content) -> Shows:
        """What the platform shows of this content, where that is not the same for all."""
        del content
        return cls.shows

    @classmethod
    @abstractmethod
    def calls(cls, content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
        """The calls that a content becomes, in order; only the first one answers `options.reply_to`.

        Pure, and the same for each target: what depends on the target is added when the call is made.
        """

    @abstractmethod
    async def perform(self, account: Account, delivery: OutgoingDelivery, call: Call, key: str) -> SentReceipt:
        """Make one call. `key` is the same whenever it is repeated, and at most 64 characters long.

        Raises DeliveryError.
        """

    @abstractmethod
    def problem(self, answer: Response, data: Mapping[str, Any]) -> Problem | None:
        """What is wrong with an answer, by its status and the JSON object of its body; None for a success."""

    @classmethod
    def render(cls, content: Content, options: SendOptions) -> Rendering:
        """The platform's calls for a content."""
        layout = lay_out(content, options, cls.shows_of(content))
        calls = () if layout.errors else tuple(cls.calls(content, options, layout))
        errors = tuple(layout.errors)
        if not calls and not errors:
            errors = (FieldError("/content", "content shows nothing on this platform: give text, a file or buttons"),)
        return Rendering(calls, tuple(layout.degradations), errors)

    @classmethod
    def numbered(cls, content: Content) -> Sequence[Button]:
        """Those that the layout makes a list."""
        return () if buttons_shown(content, cls.shows_of(content)) else choices_of(content)

    @classmethod
    def check_content(cls, content: Content, options: SendOptions) -> list[FieldError]:
        """What keeps a content from being shown."""
        return list(cls.render(content, options).errors)

    @classmethod
    def check_action(cls, action: Action) -> list[FieldError]:
        """A content can take the place of a message where it becomes one call, of a kind that can be changed later."""
        return edit_errors(action.content, cls.render(action.content, PLAIN), cls) if isinstance(action, Edit) else []

    async def send(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt:
        """Make the next call of a delivery; the receipt tells whether more follow."""
        calls = (await self._rendering(account, delivery)).calls
        done = len(delivery.part_ids)
        if done >= len(calls):  # another version rendered it
            raise PermanentError("nothing_to_send", "Nothing of the message is left to be sent")
        receipt = await self.perform(account, delivery, calls[done], f"{delivery.id}.{done}")
        return msgspec.structs.replace(receipt, more=done + 1 < len(calls))

    async def written(self, account: Account, edit: Edit) -> Call:
        """The call that would send the new content of a message. Raises PermanentError where it is not just one."""
        run = self.services.long_texts.run
        rendering = await run(account.project_id, edit.content, self.render, edit.content, PLAIN)
        errors = edit_errors(edit.content, rendering, type(self))
        if errors:  # another version accepted it
            raise PermanentError("edit_impossible", errors[0].message)
        return rendering.calls[0]

    async def ask(self, call: HttpCall, *, largest: int = LARGEST_ANSWER) -> Answer:
        """The answer to a request that succeeded. Raises DeliveryError by the platform's table of errors."""
        response = await self.services.http.request(
            call.method, call.url, headers=call.headers, body=call.body, max_bytes=largest
        )
        if response.body is None and 200 <= response.status < 300 and not self.needs_answer:  # noqa: PLR2004
            return Answer({}, response)  # taken; only its id was lost on the way
        return Answer(self._answers.read(response), response)

    def base_url(self, default: str) -> str:
        """Where the platform's API is: the operator's `MSGCORE_<PLATFORM>_BASE_URL`, or the public one."""
        return self.services.base_urls.get(self.declaration.name, default).rstrip("/")

    async def _rendering(self, account: Account, delivery: OutgoingDelivery) -> Rendering:
        known = self._known(delivery)
        if known is not None:
            return known
        made = await self.services.long_texts.run(account.project_id, delivery.content, self._render_once, delivery)
        # Files that are in the message itself are the cache of messages' to keep.
        if all(file.data is None for call in made.calls for file in call.files):
            self._keep(delivery, made)
        return made

    def _known(self, delivery: OutgoingDelivery) -> Rendering | None:
        kept = self._renderings.get(delivery.message_id)
        return None if kept is None else kept[0]

    def _render_once(self, delivery: OutgoingDelivery) -> Rendering:
        """The rendering, which may have been made while this delivery waited for its turn."""
        return self._known(delivery) or self.render(delivery.content, delivery.options)

    def _keep(self, delivery: OutgoingDelivery, made: Rendering) -> None:
        if delivery.message_id in self._renderings:
            return
        length = delivery.content.length()
        self._renderings[delivery.message_id] = made, length
        self._kept += length
        while len(self._renderings) > KEPT_RENDERINGS or self._kept > KEPT_CHARACTERS:
            self._kept -= self._renderings.popitem(last=False)[1][1]


def edit_errors(content: Content, rendering: Rendering, adapter: type[CallingAdapter]) -> list[FieldError]:
    """What keeps a rendered content from taking the place of one message; pointers start with `/content`."""
    calls, name = rendering.calls, adapter.declaration.display_name
    if rendering.errors:
        return list(rendering.errors)
    if any(call.files or call.method not in adapter.editable for call in calls):
        parts = [part for part in _BESIDE_TEXT if getattr(content, part) is not None]
        part = f"content.{parts[0]}" if parts else "content"
        message = (
            f"{part} cannot take the place of a message on {name}, only text can, with what stands below it: "
            "leave it out, or delete the message and send another"
        )
        return [FieldError(f"/{part.replace('.', '/')}", message)]
    if len(calls) > 1:
        message = f"content would become {len(calls)} messages on {name}, and an edit is one: shorten it"
        return [FieldError("/content", message)]
    return []


def json_call(method: str, url: str, body: Any, headers: Mapping[str, str] | None = None) -> HttpCall:
    """A request with a JSON body."""
    return HttpCall(method, url, {"Content-Type": "application/json", **(headers or {})}, _ENCODER.encode(body))


def form_call(method: str, url: str, fields: Iterable[tuple[str, str]], headers: Mapping[str, str]) -> HttpCall:
    """A request with a form (application/x-www-form-urlencoded); a field may be there several times."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    return HttpCall(method, url, form | dict(headers), urlencode(list(fields)).encode())
