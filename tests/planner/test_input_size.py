from __future__ import annotations

from typing import Any

import pytest

from tomas_router.planner.input_size import GIB, KIB, MIB, attachment_size, input_size
from tomas_router.schema.request import Attachment, PlanRequest

pytestmark = pytest.mark.m3

SAYS_SMALL = (5.0, 0.0, 0.0)


def attached(*files: tuple[str, int]) -> tuple[Attachment, ...]:
    return tuple(Attachment(name=f"file{i}", media_type=kind, bytes=size) for i, (kind, size) in enumerate(files))


@pytest.mark.parametrize(
    ("media_type", "size", "expected"),
    [
        ("text/plain", 64 * KIB, "small"),
        ("text/plain", 64 * KIB + 1, "medium"),
        ("text/csv", 2 * MIB, "large"),
        ("audio/wav", 5 * MIB, "small"),
        ("audio/wav", 61 * MIB, "large"),
        ("video/mp4", 50 * MIB, "small"),
        ("video/mp4", GIB, "medium"),
        ("Video/MP4", GIB + 1, "large"),
        ("application/pdf", 2 * MIB, "medium"),
    ],
)
def test_bytes_decide_the_bucket_by_kind_of_media(media_type: str, size: int, expected: str) -> None:
    assert attachment_size(attached((media_type, size))) == expected


def test_files_of_one_kind_add_up_and_the_largest_kind_counts() -> None:
    assert attachment_size(attached(("audio/wav", 4 * MIB), ("audio/wav", 4 * MIB))) == "medium"
    assert attachment_size(attached(("text/plain", 1), ("video/mp4", 2 * GIB))) == "large"
    assert attachment_size(()) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "small"),
        ({"attachments": attached(("video/mp4", 2 * GIB))}, "large"),
        ({"attachments": attached(("video/mp4", 2 * GIB)), "input_size": "medium"}, "medium"),
    ],
)
def test_stated_size_beats_attachments_and_these_beat_wording(fields: dict[str, Any], expected: str) -> None:
    assert input_size(PlanRequest(instruction="do it", **fields), SAYS_SMALL) == expected
