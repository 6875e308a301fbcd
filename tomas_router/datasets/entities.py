"""What fills the slots of phrasings, and which size bucket the wording implies.

Slots of ``SIZED`` draw a bucket first, then words that imply it. The last third of every list is held out for test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

SLOT = re.compile(r"\{(\w+)\}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.strip().split("\n") if part.strip())


SIZED: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "audio": (
        _words("""the 15-second voice note\nthis short voice memo\nmy half-minute dictation\nthe brief phone message
            a 20-second clip\nthe answering machine greeting\nthis tiny recording\nthe ten-second sound bite"""),
        _words("""the 40-minute interview\nthe recording of our team meeting\nyesterday's sales call\nthe podcast episode
            interview_03.wav\nthe lecture recording\nthe half-hour consultation\nmy conversation with the tenant"""),
        _words("""the six-hour hearing\nall recordings of the three-day conference\nthe four-hour board meeting
            our entire archive of radio shows\nthe 9-hour audiobook\nthe complete season of the podcast
            the whole day of court audio\nhundreds of customer calls"""),
    ),
    "image": (
        _words("""this one photo\nthe small picture I attached\na single snapshot\nthe profile picture
            this icon\nmy selfie\nthe thumbnail\nthe one image in the mail"""),
        _words("""the photos from the inspection\nthe twenty product shots\nthe pictures of the house
            IMG_2041 to IMG_2060\nthe holiday album\nthe screenshots in the folder\nour team photos\nthe exhibition pictures"""),
        _words("""all 5,000 catalogue pictures\nthe complete satellite image collection\nour whole photo archive
            the gigapixel scan\n12,000 camera trap images\nthe entire image library\nevery picture of the past ten years
            the 80,000 pictures of the data set"""),
    ),
    "images": (
        _words("""these eight photos\nthe handful of pictures in this folder\nmy ten snapshots"""),
        _words("""the wedding pictures\nthe photos on my phone\nour holiday folder"""),
        _words("""our 200,000 stock images\nthe complete press archive of photos\nall pictures since 2009"""),
    ),
    "video": (
        _words("""the 20-second clip\nthis short phone video\na half-minute teaser\nthe brief screen capture
            the ten-second ad\nmy little video of the dog\nthe tiny intro\nthis quick reel"""),
        _words("""the 15-minute tutorial\nthe product presentation video\nour vlog episode\ntraining.mov
            the recorded webinar\nthe school play video\nthe match highlights\nthe drone footage"""),
        _words("""the two-hour 4K film\nthe full-length documentary\na whole day of security footage
            the three-hour concert in UHD\nthe entire lecture series\nthe 90 GB raw footage
            all episodes of the season\nweeks of traffic camera video"""),
    ),
    "text": (
        _words("""this paragraph\nthe two sentences below\nmy short note\nthis tweet\nthe brief message
            the caption\nthis one-liner\nthe first paragraph"""),
        _words("""the article\nthe blog post\nmy essay\nthe meeting minutes\nthe press release\nthe cover letter
            the newsletter\nthe speech"""),
        _words("""the 400-page novel\nthe complete annual report\nthe whole technical manual\nmy 300-page dissertation
            all the parliamentary protocols\nthe entire wiki\nthe thousand-page case file\nthe collected works"""),
    ),
    "texts": (
        _words("""these three comments\nthe five reviews below\nthis handful of messages\nboth replies"""),
        _words("""the survey answers\nlast week's support tickets\nthe product reviews\nthe feedback forms"""),
        _words("""two million tweets\nall reviews since we opened\nthe full ticket history of ten years
            500,000 customer comments"""),
    ),
    "scan": (
        _words("""the scanned receipt\nthis one photographed page\nthe business card photo\na single scanned letter"""),
        _words("""the scanned contract\nthe photographed brochure\nthe 30 scanned pages\nthe old typewritten file"""),
        _words("""the scanned archive of 10,000 pages\nall digitised land registers\nthe complete set of scanned ledgers
            the microfilm scans of the newspaper"""),
    ),
    "pdf": (
        _words("""the one-page PDF\nthe short leaflet PDF\nflyer.pdf\nthe two-page data sheet"""),
        _words("""the report PDF\nproposal.pdf\nthe 40-page brochure\nthe study in PDF"""),
        _words(
            """the 2,000-page PDF handbook\nall PDF filings of the year\nthe huge PDF archive\nthe 900-page prospectus"""
        ),
    ),
    "invoice": (
        _words("""the receipt from lunch\nthis one invoice\nthe taxi bill\nthe single bill attached"""),
        _words("""this month's invoices\nthe stack of bills\nthe supplier invoices of March\nthe travel receipts"""),
        _words(
            """all 30,000 invoices of last year\nthe full invoice archive\nevery bill since 2015\nthousands of receipts"""
        ),
    ),
    "doc": (
        _words("""the one-page letter\nmy short CV\nthis memo\nthe single-page note"""),
        _words("""the contract\nthe project proposal\nthe lease agreement\nthe minutes document"""),
        _words(
            """the 600-page court file\nthe complete personnel files\nall contracts of the group\nthe thousand-page tender"""
        ),
    ),
    "form": (
        _words("""the one-page form\nthe short registration form\nthis little questionnaire\nthe visitor slip"""),
        _words("""the tax form\nthe insurance application\nthe visa application\nthe grant form"""),
        _words("""all 800 enrolment forms\nthe full set of customs forms\nthousands of claim forms
            the 200-page application pack"""),
    ),
    "table": (
        _words("""the little table below\nthese twelve rows\nthe small price table\nthis ten-line table"""),
        _words(
            """the sales table\nthis year's orders\nthe customer table\nthe monthly figures\nthe sensor log\nthe ticket table"""
        ),
        _words("""the 300-million-row event log\nthe 80 GB click data\nten years of transactions\nthe complete meter readings
            the billion-row warehouse export\nall bookings worldwide"""),
    ),
    "sheet": (
        _words("""the ten-line CSV\nthis small Excel sheet\nthe tiny price.csv\nthe short list in Excel"""),
        _words("""orders.xlsx\nthe Excel file from finance\ncontacts.csv\nthe exported spreadsheet"""),
        _words("""the 20 GB CSV dump\nthe giant Excel export with a million rows\nall CSV logs of the year
            the enormous measurements.csv"""),
    ),
    "files": (
        _words("""this one small file\nnote.txt\nthe tiny config file\nthe single attachment"""),
        _words("""the project folder\nmy documents\nthe files on the desktop\nthe backup of last week"""),
        _words(
            """the 2 TB backup\nthe complete server home directories\nall data of the lab\nthe 500 GB image folder"""
        ),
    ),
    "archive": (
        _words("""the small zip\nicons.zip\nthe little archive\na 2 MB tarball"""),
        _words("""photos.zip\nthe tar.gz of the release\ndelivery.7z\nthe archive from the agency"""),
        _words("""the 300 GB archive\nthe enormous dataset tarball\nall backup archives\nthe terabyte zip"""),
    ),
    "code": (
        _words("""this ten-line function\nthe small helper script\nthe short snippet\nthis one method"""),
        _words("""the payment module\nthe pull request\nmy parser class\nthe scraper project"""),
        _words("""the whole monorepo\nthe 200,000-line code base\nthe complete kernel source\nour entire back end"""),
    ),
    "docs": (
        _words("""this one-page policy\nthe short FAQ\nthe two paragraphs below\nthe leaflet"""),
        _words("""the employee handbook\nthe terms and conditions\nthe manual\nthe works agreement"""),
        _words(
            """all 4,000 guidelines\nthe complete legal library\nthe full set of standards\nten years of circulars"""
        ),
    ),
    "song": (
        _words("""this 20-second jingle\nthe short refrain\nthe brief hook\nthe ringtone"""),
        _words("""the new single\nmy demo track\nthe live version of the song\nthe ballad"""),
        _words("""the entire double album\nthe two-hour DJ set\nall songs of the concert\nthe complete opera"""),
    ),
    "query": (
        _words("""this short phrase\nthe word "solar"\nthis one question"""),
        _words("""the complaint in the ticket\nthis product description\nthe abstract"""),
        _words("""each of the 50,000 new items\nevery document of the archive\nall user profiles"""),
    ),
    "writing": (
        _words("""a two-line thank-you note\na slogan\na short toast\na one-sentence product claim"""),
        _words("""a blog post about urban gardening\na speech for the anniversary\na cover letter for a chef
            an article on remote work"""),
        _words("""a 60-page guide to beekeeping\na complete novella set in Lisbon\na full e-book on budgeting
            a whole training course in prose"""),
    ),
    "picture": (
        _words("""a tiny icon of a fox\na small sketch of a lighthouse\na simple logo with a leaf"""),
        _words("""a market square in the rain\na robot reading in a library\nmountains in the style of an old map
            a cat on a motorbike"""),
        _words("""a wall-sized panorama of a space port in finest detail\nan 8K mural of the history of flight
            a hundred variations of a castle in the clouds"""),
    ),
    "topicmusic": (
        _words("""a five-second fanfare\na short chime\na very brief signature"""),
        _words("""calm piano for a rainy evening\nupbeat jazz\na slow waltz with strings"""),
        _words(
            """an hour of ambient sound for a spa\na three-hour study playlist in one piece\na full-length film score"""
        ),
    ),
    "thing": (
        _words("""a small bracket at coarse resolution\na simple pipe, roughly\na toy model of a beam"""),
        _words("""the bicycle frame\nthe heat exchanger\nthe valve housing\nthe drone's rotor"""),
        _words(
            """the full aircraft at finest mesh\nthe whole bridge with every bolt\na complete wind farm, hour by hour"""
        ),
    ),
    "number": (_words("8\n12\n10"), _words("60\n85\n120"), _words("4,000\n12,500\n9,000")),
}

PLAIN: dict[str, tuple[str, ...]] = {
    "person": _words(
        "Maria\nMr Okafor\nJonas\nthe boss\nAunt Rosa\nDr Lindqvist\nPriya\nmy landlord\nthe accountant\nTomasz\nLi Wei\nSofia"
    ),
    "lang": _words("German\nSpanish\nChinese\nFrench\nPolish\nArabic\nPortuguese\nJapanese\nDutch\nKorean\nTurkish\nSwedish"),
    "topic": _words(
        """electric ferries\nthe housing market\nbee diseases\ncarbon capture\nthe election\nsourdough\nfusion power
        school meals\nlithium mining\nmedieval bridges\nremote surgery\nthe new tax law"""
    ),
    "place": _words("Lisbon\nOslo\nCape Town\nKyoto\nLyon\nVancouver\nPorto\nNairobi\nGraz\nDublin\nSeville\nTallinn"),
    "place2": _words("Madrid\nBergen\nDurban\nOsaka\nGeneva\nSeattle\nBraga\nMombasa\nVienna\nCork\nGranada\nRiga"),
    "company": _words("Siemens\nNestlé\nToyota\nASML\nour supplier\nSpotify\nMaersk\nAirbus\nNovartis\nUnilever\nSAP\nAdidas"),
    "time": _words(
        """Monday at nine\ntomorrow at 3 pm\nFriday noon\nhalf past six\nthe 14th\nThursday evening\nquarter past ten
        next Tuesday\n8 a.m.\nSunday at five\nthe first of March\nWednesday afternoon"""
    ),
    "channel": _words("#general\n#dev-team\nthe marketing channel\n#ops\nour project chat\n#random\n#support\nthe design channel\n#news"),
    "phone": _words("+44 7700 900123\n0171 5550100\n+1 202 555 0143\nmy wife's number\n+49 30 5550199\nthe driver's mobile"),
    "url": _words(
        """example.com/blog/storage\nhttps://example.org/press/42\nthe company's home page\nwww.example.net/guide
        the link Jonas sent\nhttps://example.com/faq\nexample.org/news/2026"""
    ),
    "address": _words(
        """Hauptstrasse 5 in Graz\n10 Rue de la Paix, Lyon\nour warehouse in Oslo\n221 King Street, Dublin
        the hotel in Porto\n1 Harbour Road, Cape Town"""
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Filled:
    """A phrasing without slots, and the size bucket its words imply (None = they imply nothing)."""

    text: str
    size: str | None


def fill(template: str, rng: np.random.Generator, held_out: bool, size: str | None = None) -> Filled:
    """Fills every slot; all sized slots of a phrasing share one bucket, drawn unless given."""
    buckets = ("small", "medium", "large")
    sized = any(name in SIZED for name in SLOT.findall(template))
    bucket = (size or str(rng.choice(buckets))) if sized else None

    def pick(match: re.Match[str]) -> str:
        name = match.group(1)
        options = SIZED[name][buckets.index(bucket)] if name in SIZED and bucket else PLAIN[name]
        return str(rng.choice(_part(options, held_out)))

    return Filled(SLOT.sub(pick, template), bucket)


def _part(options: tuple[str, ...], held_out: bool) -> tuple[str, ...]:
    """Training draws from the first two thirds; test from all, the rest being new to the model."""
    cut = max(1, (2 * len(options) + 2) // 3)
    return options if held_out else options[:cut]
