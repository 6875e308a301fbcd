"""Words that order, join and dress requests; training draws from ``seen`` only."""

from __future__ import annotations

from dataclasses import dataclass

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
     "I then want you to {b}.",
     "Then could you {b}?", "Use what you get and {b}."),
    ("As soon as this is ready, {b}.", "Follow up: {b}.", "Having done so, {b}.", "Thereafter {b}.",
     "Take the outcome and {b}.", "The next thing is to {b}.", "From there, {b}.", "Would you then {b}?"),
)  # fmt: skip
LAST = Wordings(
    ("Finally, {b}.", "In the end, {b}.", "To finish, {b}.", "As a last step, {b}.", "Last of all, {b}."),
    ("Lastly, {b}.", "At the very end, {b}.", "To round it off, {b}.", "And to conclude, {b}."),
)
INLINE_THEN = Wordings((", then {b}", ", and then {b}", ", after that {b}", ", next {b}", " and then {b}"),
                       (", thereafter {b}", ", once done {b}", "; from there {b}"))  # fmt: skip
INLINE_LAST = Wordings(
    (", and finally {b}", ", and in the end {b}", " and lastly {b}"),
    (", and to conclude {b}", ", ending with this: {b}"),
)
GOAL_FIRST = Wordings(
    ("In the end I want you to {b}. But first: {a}", "Your goal is to {b}, and this comes before it: {a}",
     "Before you {b}, do this: {a}", "I'd like you to {b}, but only after the following. {a}"),
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
    ),
    ("Work through this sequence:", "The procedure is as follows:", "One after the other, please:"),
)
ALSO = Wordings(
    ("Also: {b}", "Besides: {b}", "And independently of that: {b}", "Another thing. {b}", "Secondly: {b}",
     "On top: {b}",
     "In addition: {b}", "Separately: {b}", "A different matter: {b}", "Plus: {b}", "At the same time: {b}",
     "Meanwhile: {b}", "And: {b}", "Oh, and this as well: {b}", "{b}"),
    ("Apart from that: {b}", "While you are at it: {b}", "One more job, unrelated: {b}", "What I need as well: {b}",
     "In parallel: {b}", "On another note: {b}"),
)  # fmt: skip
PARALLEL_INTRO = Wordings(
    (
        "{count} unrelated things.",
        "{count} separate jobs for you.",
        "I have {count} requests.",
        "Please handle these {count} tasks:",
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
     "Starting from {n}, {b}; likewise starting from {n}, {c}.", "Use {n} twice: first {b}, and independently {c}."),
    ("{n_cap} is needed for two purposes: {b}, and also {c}.", "Branch off from {n}: one, {b}; two, {c}.",
     "Both of these work directly on {n}: {b}, and {c}."),
)  # fmt: skip
FAN_OUT_3 = Wordings(
    ("Do three separate things with {n}: {b}, {c}, and {d}.", "Starting from {n} each time, {b}, {c} and {d}."),
    ("{n_cap} serves three purposes: {b}; {c}; and {d}.",),
)
AGAIN = Wordings(
    ("And the same for {x}.", "Do it for {x} as well.", "Repeat this with {x}.", "Likewise for {x}.",
     "Same thing with {x}.",
     "I need that for {x} too."),
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

OPENERS = Wordings(
    ("Hi! ", "Please help. ", "Quick one: ", "Hello, ", "Good morning. ", "Could you do this? ", "Task for you: ",
     "Hey, ",
     "Hello there! ", "Morning! "),
    ("Greetings. ", "I could use a hand. ", "Evening! ", "Dear assistant, "),
)  # fmt: skip
CLOSERS = Wordings(
    (" Thanks!", " It's urgent.", " No hurry.", " Thank you in advance.", " I'd appreciate it.", " Cheers",
     " Many thanks.",
     " I'm counting on you.", " By tonight if possible."),
    (" Much obliged!", " Whenever you have time.", " That would save my day.", " Ta!"),
)  # fmt: skip
CONTEXT = Wordings(
    ("I'm on the train right now. ", "The client is waiting. ", "We have a deadline this week. ",
     "My boss asked for this. ",
     "It's for a school project. ", "I tried it myself and failed. ", "This is for the audit. ", "I'm new here. ",
     "Our usual tool is broken. ", "Last year we did this by hand. ", "I promised it to a friend. ",
     "The fair opens on Thursday. ", "Our intern has left. ", "It is the third time I ask. ",
     "We are a small charity. ",
     "I'm not good with computers. ", "The team in Oslo depends on it. ", "There was a misunderstanding yesterday. "),
    ("My flight leaves in an hour. ", "The investors visit us today. ", "I broke my arm. ",
     "We moved offices last month. ",
     "Nobody in the department knows how. ", "The exhibition starts tomorrow. "),
)  # fmt: skip
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
     "Please {a}.",
     "We need you to {a}.", "Kindly {a}."),
    ("Would you mind helping me? I need you to {a}.", "Be so kind and {a}.", "Any chance you could {a}?"),
)  # fmt: skip
