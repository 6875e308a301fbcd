"""The classifier from words to tools, fitted on training requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import yaml

from tests import tiny
from tomas_router.datasets.rows import Row, Step, to_json
from tomas_router.features.known_tools import KnownTools, digest
from tomas_router.features.request_words import RequestWords
from tomas_router.schema.registry import ToolRegistry, load_tool_registry
from tomas_router.shipped import model_dir, registry_path
from tomas_router.training import request_words
from tomas_router.training.request_words import fit_request_words
from tomas_router.training.sources import OWN, WORLDS, Source

pytestmark = pytest.mark.m4

TOOLS = ToolRegistry.from_tools(
    [
        {"name": "ocr_gpu", "desc": "Reads text, on a GPU.", "tags": ["group:ocr"]},
        {"name": "ocr_cpu", "desc": "Reads text, on a CPU.", "tags": ["group:ocr"]},
        {"name": "search", "desc": "Searches the web."},
        {"name": "mail", "desc": "Sends mail."},
    ]
)
THINGS = ("page", "letter", "receipt", "menu", "poster", "label", "form", "card")
ASKED = {
    "ocr_gpu": tuple(f"scan the {thing}, please" for thing in THINGS),
    "search": tuple(f"look up this {thing} on the web" for thing in THINGS),
}
MAILED = tuple(f"mail a {thing} to Ann" for thing in THINGS)


def row(instruction: str, *tools: str) -> Row:
    return Row(instruction, instruction, tuple(Step(tool, ()) for tool in tools), split="train")


def source(name: str = "mine", registry: ToolRegistry = TOOLS, **asked: tuple[str, ...]) -> Source:
    rows = [row(text, tool) for tool, texts in (asked or ASKED).items() for text in texts]
    return Source(name, registry, None, tuple(rows))


def odds(found: RequestWords, text: str) -> dict[str, float]:
    over = found.of([digest(tool) for tool in TOOLS])
    assert over is not None
    return dict(zip(TOOLS.names, over.log_odds(text).tolist(), strict=True))


def test_words_of_requests_speak_for_the_tool_that_was_asked_for_and_its_twin() -> None:
    found = fit_request_words([source()])
    assert len(found) == 3
    said = odds(found, "scan this sign")
    assert said["ocr_gpu"] == said["ocr_cpu"] > said["search"] + 0.5
    assert np.isnan(said["mail"])  # nobody asked for it
    said = odds(found, "look that sign up")
    assert said["search"] > said["ocr_cpu"] + 0.5


def test_requests_for_several_tools_count_for_each() -> None:
    both = replace(source(), rows=(*source().rows, *(row(f"post it {i}", "search", "mail") for i in range(8))))
    said = odds(fit_request_words([both]), "post it")
    assert min(said["search"], said["mail"]) > said["ocr_gpu"] + 1


def test_words_are_trusted_as_far_as_requests_held_out_say() -> None:
    said = odds(fit_request_words([source()]), "scan the sign")
    assert said["ocr_gpu"] > said["search"] + 0.5
    either = [text for texts in ASKED.values() for text in texts]
    jumbled = fit_request_words([source(ocr_gpu=tuple(either[::2]), search=tuple(either[1::2]))])
    if len(jumbled):
        unsure = odds(jumbled, "scan the sign")
        assert abs(unsure["ocr_gpu"] - unsure["search"]) < 0.5
    few = source(ocr_gpu=ASKED["ocr_gpu"][:4], search=ASKED["search"][:4])
    assert len(fit_request_words([few])) == 0


def test_fit_is_the_same_again_and_leaves_composed_rows_and_those_without_tools_out(tmp_path: Path) -> None:
    gate = replace(source("tool_needed"), rows=(row("hello there"),))
    first, again = fit_request_words([source(), gate, source(WORLDS), source(OWN)]), fit_request_words([source()])
    for found, folder in ((first, tmp_path / "a"), (again, tmp_path / "b")):
        folder.mkdir()
        found.write(folder)
    contents = [(tmp_path / name / "request_words.npz").read_bytes() for name in "ab"]
    assert contents[0] == contents[1]


def test_first_source_that_has_a_tool_teaches_its_words() -> None:
    turned = source("other", ocr_gpu=ASKED["search"], search=ASKED["ocr_gpu"], mail=MAILED)
    said = odds(fit_request_words([source(), turned]), "scan a sign")
    assert said["ocr_gpu"] > said["search"]
    assert not np.isnan(said["mail"])


def test_words_of_the_start_are_kept_where_this_run_has_none() -> None:
    older = fit_request_words([source("older", mail=MAILED, search=ASKED["ocr_gpu"])])
    found = fit_request_words([source()], older)
    assert found.rarity_H is older.rarity_H
    assert odds(found, "mail it")["mail"] == odds(older, "mail it")["mail"]
    assert odds(found, "scan it")["search"] < odds(older, "scan it")["search"]


def test_command_writes_words_that_seal_puts_into_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(request_words, "STEPS", 2)
    config = tmp_path / "c.yaml"
    settings = tiny.run_config(mixture={OWN: 0.5, WORLDS: 0.2, "public": 0.3})
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    (tmp_path / "data").mkdir()
    rows = [to_json(replace(one, split="train")) for one in source("public").rows]
    (tmp_path / "data" / "public.jsonl").write_text("".join(f"{line}\n" for line in rows))
    TOOLS.to_json(tmp_path / "data" / "public.tools.json")
    arguments = ["--config", str(config), "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "words")]
    assert request_words.main(arguments) == 0
    assert "the words of 16 requests for 3 tools" in capsys.readouterr().out
    assert RequestWords.read(tmp_path / "words") is not None


def test_words_when_the_model_is_packaged_are_of_requests_that_people_wrote() -> None:
    known = KnownTools.read(model_dir())
    assert known is not None
    assert known.words is not None
    assert len(known.words) > 500
    assert known.words_of(load_tool_registry(registry_path()).tools) is None  # those of the project are composed
