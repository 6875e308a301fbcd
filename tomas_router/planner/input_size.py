"""How large the input of a step is: small, medium or large.

What the caller states beats what is attached, and what is attached beats what the wording suggests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tomas_router.schema.profiling import SIZES, InputSize

if TYPE_CHECKING:
    from tomas_router.schema.request import Attachment, PlanRequest

KIB, MIB, GIB = 2**10, 2**20, 2**30

# Largest total size in bytes that still counts as small, and as medium, by the first half of the media type. Rules of
# thumb: five minutes and an hour of audio at 128 kbit/s; a clip and half an hour of HD video; a letter and a book.
SIZE_LIMITS: dict[str, tuple[int, int]] = {
    "text": (64 * KIB, 1 * MIB),
    "image": (1 * MIB, 10 * MIB),
    "audio": (5 * MIB, 60 * MIB),
    "video": (50 * MIB, 1 * GIB),
}
OTHER_LIMITS = (1 * MIB, 20 * MIB)
"""Documents, archives, tables and everything else."""


def attachment_size(attachments: Sequence[Attachment]) -> InputSize | None:
    """The bucket of what is attached: bytes are added per kind of media and the largest bucket counts."""
    if not attachments:
        return None
    totals: dict[str, int] = {}
    for attachment in attachments:
        kind = attachment.media_type.partition("/")[0].lower()
        totals[kind] = totals.get(kind, 0) + attachment.bytes
    buckets = [_bucket(total, SIZE_LIMITS.get(kind, OTHER_LIMITS)) for kind, total in totals.items()]
    return SIZES[max(buckets)]


def input_size(request: PlanRequest, size_logits: Sequence[float]) -> InputSize:
    """The size bucket of one step."""
    return request.input_size or attachment_size(request.attachments) or SIZES[int(np.argmax(size_logits))]


def _bucket(total_bytes: int, limits: tuple[int, int]) -> int:
    return sum(total_bytes > limit for limit in limits)
