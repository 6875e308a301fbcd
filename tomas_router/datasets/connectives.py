"""Words that order, join and dress requests; training draws from ``seen`` only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomas_router.datasets.pick import pick


@dataclass(frozen=True)
class Wordings:
    """Ways to say one thing. ``{a} {b} {c} {d}`` are requests or clauses, ``{n}`` is the noun of a result."""

    seen: tuple[str, ...]
    held_out: tuple[str, ...]

    def draw(self, rng: np.random.Generator, held_out: bool) -> str:
        return pick(rng, self.held_out if held_out else self.seen)


THEN = Wordings(
    ("Then {b}.", "After that, {b}.", "Next, {b}.", "When that is done, {b}.", "Afterwards {b}.", "And then {b}.",
     "With the result: {b}.", "Once you have it, {b}.", "Now {b}.", "Please {b} afterwards.", "Subsequently, {b}.",
     "Second step: {b}.", "Then please {b}.", "When you have that, {b}.", "That done, {b}.",
     "I then want you to {b}.", "Then could you {b}?", "Use what you get and {b}.",
     "In a second step, {b}.", "Following that, {b}.", "Continue: {b}.", "Go on and {b}.",
     "After you are through, {b}.",
     "When finished, {b}.", "Only then {b}.", "Next up: {b}.", "Could you after that {b}?", "Can you next {b}?",
     "With that in hand, {b}.", "With what comes out, {b}.", "The output of that is what you work on now: {b}.",
     "What comes out of it I need processed: {b}.", "Based on that, {b}.", "Proceed to {b}.",
     "I'd like you to {b} next.",
     "Right after, {b}.", "The result in turn: {b}.", "Building on it, {b}.", "Then kindly {b}.",
     "Your next task: {b}.",
     "Pick up from there and {b}.", "You may then {b}.", "What remains is to {b}.", "If that works, {b}.",
     "Don't stop there: {b}.", "It goes on like this: {b}.", "Then it's time to {b}.", "Later on, {b}.",
     "Upon completion, {b}.", "And {b} when you are done with it.", "Let that be followed by this: {b}."),
    ("As soon as this is ready, {b}.", "Follow up: {b}.", "Having done so, {b}.", "Thereafter {b}.",
     "Take the outcome and {b}.", "The next thing is to {b}.", "From there, {b}.", "Would you then {b}?"),
)  # fmt: skip
LAST = Wordings(
    (
        "Finally, {b}.",
        "In the end, {b}.",
        "To finish, {b}.",
        "As a last step, {b}.",
        "Last of all, {b}.",
        "Final step: {b}.",
        "To close, {b}.",
        "The last thing to do is to {b}.",
        "Ultimately, {b}.",
        "As the final act, {b}.",
        "At last, {b}.",
        "When everything else is done, {b}.",
        "To top it off, {b}.",
        "To complete it, {b}.",
        "The finishing touch: {b}.",
        "Finish up like this: {b}.",
        "That leaves one thing: {b}.",
    ),
    ("Lastly, {b}.", "At the very end, {b}.", "To round it off, {b}.", "And to conclude, {b}."),
)
INLINE_THEN = Wordings(
    (", then {b}", ", and then {b}", ", after that {b}", ", next {b}", " and then {b}", ", afterwards {b}",
     " and afterwards {b}", "; then {b}", ", subsequently {b}", " and, with the result, {b}", " before you {b}",
     ", followed by this: {b}", ", and when that is done {b}", " and next {b}", ", and with that {b}", " - then {b}",
     ", in a second step {b}", ", then go on to {b}"),
    (", thereafter {b}", ", once done {b}", "; from there {b}"),
)  # fmt: skip
INLINE_LAST = Wordings(
    (
        ", and finally {b}",
        ", and in the end {b}",
        " and lastly {b}",
        ", finally {b}",
        ", and as a last step {b}",
        "; finally, {b}",
        ", and at last {b}",
        ", and to finish {b}",
    ),
    (", and to conclude {b}", ", ending with this: {b}"),
)
GOAL_FIRST = Wordings(
    ("In the end I want you to {b}. But first: {a}", "Your goal is to {b}, and this comes before it: {a}",
     "Before you {b}, do this: {a}", "I'd like you to {b}, but only after the following. {a}",
     "Eventually you are to {b}. To begin with: {a}", "The aim is to {b}. For that, first of all: {a}",
     "In order to {b} you must do something else first: {a}", "I need you to {b}. This comes first, though: {a}"),
    ("What I'm after is that you {b}; the first step to get there: {a}",
     "You'll have to {b} in the end. Start like this: {a}"),
)  # fmt: skip
BEFORE_LAST = Wordings(
    ("Before you {c}, {b}.", "You should {c} too, but not before you {b}.", "Only {c} after you {b}."),
    ("Hold on with the last part, which is to {c}, until you {b}.", "Prior to the final step, which is to {c}, {b}."),
)
LIST_INTRO = Wordings(
    (
        "Please do these steps in order:",
        "Here is the plan:",
        "Step by step:",
        "A little workflow for you:",
        "In this order:",
        "Do the following:",
        "To do, in sequence:",
        "These are the steps:",
        "Run this pipeline:",
        "Instructions:",
        "Here's how to go about it:",
    ),
    ("Work through this sequence:", "The procedure is as follows:", "One after the other, please:"),
)
ALSO = Wordings(
    ("Also: {b}", "Besides: {b}", "And independently of that: {b}", "Another thing. {b}", "Secondly: {b}",
     "On top: {b}",
     "In addition: {b}", "Separately: {b}", "A different matter: {b}", "Plus: {b}", "At the same time: {b}",
     "Meanwhile: {b}", "And: {b}", "Oh, and this as well: {b}", "{b}",
     "Then there is this: {b}", "Something else: {b}", "Next to that: {b}", "A second request: {b}", "P.S.: {b}",
     "Alongside: {b}", "Additionally: {b}", "Not related to it: {b}", "Another job: {b}", "I also have this: {b}",
     "Aside from this: {b}", "By the way: {b}", "One more: {b}", "Furthermore: {b}", "Unconnected with the above: {b}",
     "Number two: {b}", "Independently: {b}", "Likewise waiting: {b}", "Side job: {b}", "And another one: {b}",
     "Before I forget: {b}", "New topic: {b}", "Different subject. {b}", "Also on my list: {b}", "Extra: {b}"),
    ("Apart from that: {b}", "While you are at it: {b}", "One more job, unrelated: {b}", "What I need as well: {b}",
     "In parallel: {b}", "On another note: {b}"),
)  # fmt: skip
PARALLEL_INTRO = Wordings(
    (
        "{count} unrelated things.",
        "{count} separate jobs for you.",
        "I have {count} requests.",
        "Please handle these {count} tasks:",
        "{count} things to get done:",
        "My {count} requests are:",
        "{count} quick ones:",
        "You get {count} jobs from me.",
    ),
    (
        "{count} errands that don't depend on each other.",
        "My list has {count} items.",
        "{count} independent jobs today:",
    ),
)
FAN_OUT = Wordings(
    ("From the result, {b} and, separately, {c}.", "Do two things with it: {b}, and {c}.",
     "With what you get, {b}; with the same thing also {c}.", "Take {n} and {b}. Take {n} a second time and {c}.",
     "On the one hand {b}, on the other hand, again starting from {n}, {c}.",
     "Starting from {n}, {b}; likewise starting from {n}, {c}.", "Use {n} twice: first {b}, and independently {c}.",
     "{n_cap} goes two ways: {b}, and {c}.", "Out of {n} I need two things: {b} and {c}.",
     "With {n}, {b} and also {c}.",
     "Then, both from {n}: {b}; {c}.", "{n_cap} is the basis for two steps: {b}, plus {c}.",
     "Give {n} two uses, which are to {b} and to {c}.", "Based on {n}, {b}. Based on {n} as well, {c}."),
    ("{n_cap} is needed for two purposes: {b}, and also {c}.", "Branch off from {n}: one, {b}; two, {c}.",
     "Both of these work directly on {n}: {b}, and {c}."),
)  # fmt: skip
FAN_OUT_3 = Wordings(
    ("Do three separate things with {n}: {b}, {c}, and {d}.", "Starting from {n} each time, {b}, {c} and {d}."),
    ("{n_cap} serves three purposes: {b}; {c}; and {d}.",),
)
AGAIN = Wordings(
    ("And the same for {x}.", "Do it for {x} as well.", "Repeat this with {x}.", "Likewise for {x}.",
     "Same thing with {x}.", "I need that for {x} too.", "Do likewise with {x}.", "{x_cap} too, please.",
     "Treat {x} in the same way.", "The same again for {x}.", "And {x} as well.", "Then do exactly that with {x}.",
     "Now the same with {x}.", "{x_cap} next, same procedure.", "Ditto for {x}.", "And again for {x}.",
     "You can do the same to {x}.", "Also for {x}.", "It is needed for {x}, too."),
    ("{x_cap}: same treatment.", "Apply that to {x} as well.", "And once more, this time for {x}."),
)  # fmt: skip
BOTH: dict[str, Wordings] = {
    "send_email": Wordings(
        ("mail both results to {person}", "send {person} one e-mail with both", "e-mail the two outcomes to {person}",
         "put both results in a single mail to {person}"),
        ("let {person} have the two results in one e-mail", "mail {person} what came out of both"),
    ),
    "post_chat_message": Wordings(
        ("post both in {channel}", "share the two results in {channel}", "put both into one message in {channel}"),
        ("announce both outcomes in {channel}", "drop the two results in {channel}"),
    ),
    "compress_files": Wordings(
        ("zip both outputs together", "pack the two results into one archive", "bundle both in a ZIP"),
        ("compress the two outputs into one tar.gz", "put both results in a single zipped archive"),
    ),
    "upload_to_cloud": Wordings(
        ("upload both to the cloud", "store the two results online with a link", "put both in the bucket"),
        ("push the two results to cloud storage", "place both online with a share link"),
    ),
    "text_generation": Wordings(
        ("draft an article that uses both results", "write a report from the two results",
         "compose a text that combines both findings"),
        ("author a write-up drawing on both results", "put together a story out of the two results"),
    ),
}  # fmt: skip
"""Clauses for a step that uses two earlier results, by unit."""


def read_asides(path: Path = Path(__file__).parent / "asides.txt") -> dict[str, Wordings]:
    """What people say beside the job: by heading, lines that begin with ``>`` (training) or ``=`` (held out).

    Raises:
        ValueError: A line fits neither form; names file and line.
    """
    lists: dict[str, tuple[list[str], list[str]]] = {}
    heading = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        mark, text = line[:1], line[1:].strip()
        if mark in (">", "=") and heading and text:
            lists[heading][mark == "="].append(text)
        elif line.isidentifier():
            heading = line
            lists[heading] = [], []
        elif line and mark != "#":
            raise ValueError(f"{path.name}:{number}: expected a heading or a line beginning with > or =, got {line!r}")
    return {name: Wordings(tuple(seen), tuple(held_out)) for name, (seen, held_out) in lists.items()}


_ASIDES = read_asides()
OPENERS, CLOSERS, CONTEXT, PURPOSE = (_ASIDES[name] for name in ("opener", "closer", "context", "purpose"))
PINNED: dict[str, Wordings] = {
    "gpu": Wordings(
        ("Use the GPU model.", "It has to run on the graphics card.", "Take the big model on the GPU.",
         "Do this on the GPU.",
         "I insist on the GPU version."),
        ("Only the graphics-card variant will do.", "Let the GPU version handle this."),
    ),
    "cpu": Wordings(
        ("Run it on CPU cores only.", "Use the light CPU version.", "Keep the graphics card out of it.",
         "Do this on the CPU.",
         "The small model on the CPU is to be used."),
        ("No GPU for this: take the CPU variant.", "Let the CPU version handle this."),
    ),
}  # fmt: skip
POLITE = Wordings(
    ("Could you {a}?", "Would you please {a}?", "Can you {a}?", "I'd like you to {a}.", "I want you to {a}.",
     "Please {a}.", "We need you to {a}.", "Kindly {a}.", "Can you please {a}?", "Could you help me {a}?",
     "Help me {a}.",
     "I need you to {a}.", "I would like to {a}.", "I want to {a}.", "We have to {a}.", "Let's {a}.", "Time to {a}.",
     "How about you {a}?", "Is it possible to {a}?", "May I ask you to {a}?", "You need to {a}.", "Go ahead and {a}.",
     "Your job: {a}.", "It would be good if you could {a}.", "I need to {a}.", "I was hoping you could {a}.",
     "Will you {a} for me?", "I must {a}.", "Do me a favour and {a}.", "I'm looking to {a}.", "pls {a}"),
    ("Would you mind helping me? I need you to {a}.", "Be so kind and {a}.", "Any chance you could {a}?"),
)  # fmt: skip
