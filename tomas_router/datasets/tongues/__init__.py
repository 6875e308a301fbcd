"""Requests in other languages than English: connecting words (``LANGUAGE.txt`` beside this module) and their teller."""

from __future__ import annotations

from tomas_router.datasets.tongues.telling import TongueTeller
from tomas_router.datasets.tongues.words import LANGUAGES, TongueWords, load_words

__all__ = ["LANGUAGES", "TongueTeller", "TongueWords", "load_words"]
