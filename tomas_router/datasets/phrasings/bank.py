"""The format of the phrasing banks: hand-written requests for every tool, text files beside this module.

A file belongs to a domain by its name: ``speech.txt``, ``speech_more.txt`` and so on are all read, and what several
files write for one unit adds up. A heading line names the unit, the lines below it are phrasings:

======  ===================================================================================================
line    meaning
======  ===================================================================================================
``x``   heading: the tool ``x``; ``@x`` a twin group (the curve decides which member runs); ``*x`` a tool that
        training never sees, which therefore has only held-out lines
``>``   a stand-alone request (at least ten a unit, different in vocabulary, persona, length and directness)
``=``   the same, for validation and test only (at least four)
``+``   a clause for a later step, "it" being what the step before produced (at least five)
``-``   the same, for validation and test only (at least two)
``&``   a clause for a step that uses the results of several earlier steps ("both", "all of that"); optional
``%``   the same, for validation and test only
``#``   a comment
======  ===================================================================================================

Slots in braces are filled by ``tomas_router.datasets.entities``. Most media slots imply the size bucket by their
wording: ``{audio} {song} {image} {images} {video} {scan} {pdf} {doc} {form} {invoice} {text} {texts} {docs} {writing}
{table} {sheet} {files} {archive} {code} {query} {picture} {topicmusic} {thing} {number}``. Plain slots imply none:
``{person} {lang} {topic} {place} {place2} {company} {time} {channel} {phone} {url} {address}``. Example::

    @transcription
    > I need {audio} as text.
    > Nobody took notes, but we do have {audio}. Get the wording out of it.
    = My hearing is bad, so put {audio} on paper for me.
    + transcribe it
    - write out what is being said in it

What a unit consumes and produces is the registry's ``input_types`` and ``output_types``, refined by ``flow``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

DOMAINS = ("speech", "image", "video", "documents", "text", "data", "search", "messaging", "files", "code")

FORMS = {
    ">": "asks", "=": "held_out_asks", "+": "followups", "-": "held_out_followups", "&": "fan_ins",
    "%": "held_out_fan_ins",
}  # fmt: skip


@dataclass
class ToolPhrases:
    """Everything written for one unit, which is a tool or a twin group."""

    name: str
    is_group: bool
    unseen: bool
    domain: str
    asks: list[str] = field(default_factory=list)
    held_out_asks: list[str] = field(default_factory=list)
    followups: list[str] = field(default_factory=list)
    held_out_followups: list[str] = field(default_factory=list)
    fan_ins: list[str] = field(default_factory=list)
    held_out_fan_ins: list[str] = field(default_factory=list)


def load_bank(folder: Path = Path(__file__).parent) -> dict[str, ToolPhrases]:
    """All units by name, in the order of ``DOMAINS`` and of the files.

    Raises:
        ValueError: A line fits none of the forms; names file and line.
    """
    units: dict[str, ToolPhrases] = {}
    for domain in DOMAINS:
        for path in sorted(folder.glob(f"{domain}*.txt")):
            unit: ToolPhrases | None = None
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if line.strip() and not line.startswith("#"):
                    unit = _read(line.strip(), f"{path.name}:{number}", domain, unit, units)
    return units


def _read(line: str, place: str, domain: str, unit: ToolPhrases | None, units: dict[str, ToolPhrases]) -> ToolPhrases:
    mark, text = line[0], line[1:].strip()
    if mark in FORMS and unit is not None:
        lines: list[str] = getattr(unit, FORMS[mark])
        if text not in lines:
            lines.append(text)
        return unit
    if mark not in "@*" and not mark.isalpha():
        raise ValueError(f"{place}: expected a unit or a line that begins with one of {' '.join(FORMS)}, got {line!r}")
    name = text if mark in "@*" else line
    return units.setdefault(name, ToolPhrases(name, is_group=mark == "@", unseen=mark == "*", domain=domain))
