from __future__ import annotations

import numpy as np
import pytest

from tomas_router.evaluation.registry_lint import Advice, Reading, alike_pairs, lint
from tomas_router.schema.profiling import ProfileRow, ProfilingTable
from tomas_router.schema.registry import ToolRegistry

pytestmark = pytest.mark.m4

GOOD = "Turns a recording of speech into written text."


def registry(*tools: dict[str, object]) -> ToolRegistry:
    return ToolRegistry.from_tools(tools)


def reading(tools: ToolRegistry, keys: list[list[float]] | None = None, **more: object) -> Reading:
    key_NQ = np.eye(len(tools), dtype=np.float32) if keys is None else np.array(keys, dtype=np.float32)
    settings = {"tokens": (10,) * len(tools), "max_tokens": 64, "chosen": ()} | more
    return Reading(key_NQ, **settings)  # type: ignore[arg-type]


def kinds(found: list[Advice]) -> list[tuple[str, tuple[str, ...]]]:
    return [(advice.kind, advice.tools) for advice in found]


TWO = registry({"name": "hear", "desc": GOOD}, {"name": "listen", "desc": "Writes down what somebody says aloud."})


def test_lint_when_nothing_is_wrong_finds_nothing() -> None:
    assert lint(TWO, None, reading(TWO)) == []


@pytest.mark.parametrize(("cosine", "kind"), [(0.95, "same"), (0.85, "alike"), (0.75, None)])
def test_lint_when_keys_are_alike_names_the_pair_by_how_alike(cosine: float, kind: str | None) -> None:
    keys = [[1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5]]
    found = lint(TWO, None, reading(TWO, keys))
    assert kinds(found) == ([] if kind is None else [(kind, ("hear", "listen"))])
    assert all(f"{cosine:.2f}" in advice.finding for advice in found)


def test_lint_when_twins_are_tagged_lets_them_be_alike() -> None:
    twins = registry(*({"name": name, "desc": GOOD, "tags": ["group:stt"]} for name in ("gpu", "cpu")))
    chosen = ("cpu", "cpu")
    assert lint(twins, None, reading(twins, [[1.0, 0.0], [1.0, 0.0]], chosen=chosen)) == []


def test_lint_when_its_own_words_lead_elsewhere_says_where() -> None:
    found = lint(TWO, None, reading(TWO, chosen=("listen", "listen")))
    assert kinds(found) == [("mistaken", ("hear", "listen"))]
    assert "asked with the description of hear, the model takes listen" in found[0].finding


def test_lint_when_texts_repeat_names_all_that_share_them() -> None:
    tools = registry(
        {"name": "sendMail", "desc": "Sends a message to a person."},
        {"name": "send_mail", "desc": "Delivers letters on paper by post."},
        {"name": "notify", "desc": "sends a message, to a person"},
    )
    found = kinds(lint(tools, None, reading(tools)))
    assert found == [("duplicate", ("sendMail", "send_mail")), ("duplicate", ("sendMail", "notify"))]


def test_lint_when_a_description_says_too_little_or_is_cut_off_says_so() -> None:
    tools = registry(
        {"name": "image_resizer", "desc": "Image resizer"},
        {"name": "ocr", "desc": "Reads text"},
        {"name": "long", "desc": GOOD},
    )
    found = lint(tools, None, reading(tools, tokens=(10, 10, 65)))
    assert kinds(found) == [("long", ("long",)), ("repeats", ("image_resizer",)), ("short", ("ocr",))]
    assert "65 tokens" in found[0].finding
    assert "first 64" in found[0].finding


def test_lint_when_profiles_are_missing_names_tool_or_sizes() -> None:
    rows = [
        ProfileRow(tool="hear", input_size=size, cpu_core=1, cpu_mem_gb=1, gpu_sm=0, gpu_mem_gb=0, latency_ms=1)
        for size in ("small", "large")
    ]
    found = lint(TWO, ProfilingTable.from_rows(rows), reading(TWO))
    assert kinds(found) == [("unsized", ("hear",)), ("unprofiled", ("listen",))]
    assert "at size medium" in found[0].finding


def test_lint_when_both_kinds_are_found_puts_problems_first() -> None:
    tools = registry({"name": "a", "desc": "Too short"}, {"name": "b", "desc": GOOD})
    found = lint(tools, None, reading(tools, tokens=(10, 99)))
    assert [advice.severity for advice in found] == ["problem", "hint"]


def test_alike_pairs_when_there_are_many_tools_finds_each_pair_once_across_blocks() -> None:
    keys = np.random.default_rng(0).normal(size=(1100, 64)).astype(np.float32)
    keys[1000] = 3 * keys[7]  # length does not matter
    assert [(i, j) for i, j, _ in alike_pairs(keys, 0.99)] == [(7, 1000)]
