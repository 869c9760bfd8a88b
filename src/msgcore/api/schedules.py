"""Cancelling and rescheduling messages that were accepted and not sent yet."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Controller, post
from litestar.params import FromPath

from msgcore.api.access import Injected, JsonBody, requires
from msgcore.api.answers import Answer, Timestamp
from msgcore.core.clock import to_iso
from msgcore.core.content import Wire
from msgcore.core.scopes import ApiScope
from msgcore.services.schedules import ScheduleService
from msgcore.store.ledger.ending import Cancelled


class NewSchedule(Wire):
    """When to send: ISO 8601 with an offset, or null for at once."""

    scheduled: Annotated[str, msgspec.Meta(max_length=64)] | None


class CancelAnswer(Answer):
    """How many deliveries were cancelled.

    `tooLate` are those that were sent, or are being sent just now; the latter are also counted as
    `sending`: where that fails they are tried again, unless they are cancelled then.
    """

    success: bool
    message: str
    cancelled: int
    too_late: int
    sending: int


class RescheduleAnswer(Answer):
    """When the job's deliveries are due now, how many they are, and for how many others it is too late.

    Those were tried before, or sent, or they ended.
    """

    success: bool
    message: str
    scheduled: Timestamp
    rescheduled: int
    too_late: int


class SchedulesController(Controller):
    """Second thoughts."""

    path = "/api/v1/projects/{project:str}/messages/{job_id:str}"
    tags = ("Messages",)

    @post("/cancel", status_code=200, opt=requires(ApiScope.MESSAGES_WRITE), summary="Cancel a message")
    async def cancel(
        self, project: FromPath[str], job_id: FromPath[str], schedules: Injected[ScheduleService]
    ) -> CancelAnswer:
        """Cancel what waits; for what was sent, or is being sent just now, it is too late."""
        return cancel_answer(await schedules.cancel(project, job_id))

    @post(
        "/reschedule", status_code=200, opt=requires(ApiScope.MESSAGES_WRITE), summary="Send a message later or sooner"
    )
    async def reschedule(
        self,
        project: FromPath[str],
        job_id: FromPath[str],
        data: JsonBody[NewSchedule],
        schedules: Injected[ScheduleService],
    ) -> RescheduleAnswer:
        """Give the deliveries that were not tried yet another time. One in the past, and null, mean now."""
        new_time = await schedules.reschedule(project, job_id, data.scheduled)
        due_at = to_iso(new_time.due_at)
        return RescheduleAnswer(
            success=True,
            message=f"{_deliveries(new_time.moved)} due at {due_at}",
            scheduled=due_at,
            rescheduled=new_time.moved,
            too_late=new_time.others,
        )


def cancel_answer(cancelled: Cancelled) -> CancelAnswer:
    """The answer to a cancellation."""
    return CancelAnswer(
        success=True,
        message=f"{_deliveries(len(cancelled.ids))} cancelled",
        cancelled=len(cancelled.ids),
        too_late=cancelled.sending + cancelled.sent,
        sending=cancelled.sending,
    )


def _deliveries(number: int) -> str:
    return f"{number} {'delivery' if number == 1 else 'deliveries'}"
