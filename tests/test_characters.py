"""Which characters a prompt may hold: all that correct text of any language needs, and none that hides something."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.common.characters import fault, seen
from fixtures.common.errors import ProbeError
from fixtures.report.parts.formats import one_line
from fixtures.stimuli.checker.check import check_stimuli
from fixtures.stimuli.sets import load_stimuli

CORRECT = {
    "Persian": "او می\u200cخواهد به خانه\u200cاش برود.",
    "Arabic with a mark of direction": "كلب يجري\u200f! 5\u061c-3",
    "Arabic sign": "\u06dd\u0661\u0662",
    "Hebrew with an embedding": "הוא קורא \u202aHarry Potter\u202c בגן.",
    "Hebrew with an isolate": "הוא קורא \u2068Harry Potter\u2069 בגן.",
    "English in Hebrew": "the word \u2067שלום \u2066(hi)\u2069\u2069 on a wall",
    "Hindi": "एक क्\u200dष और र्\u200cय",
    "Sinhala": "ශ්\u200dරී ලංකාව",
    "Bengali": "র\u200d্যাব",
    "Malayalam": "ന്\u200d",
    "Khmer": "ភាសា\u200bខ្មែរ",
    "Thai": "ภาษา\u200bไทย",
    "Mongolian": "ᠬᠠᠷ\u180e\u180bᠠ",
    "Japanese": "猫が\u3000机の上に座っている。",
    "Japanese by variation": "葛\U000e0100城",
    "French": "Un chat\u202f! Il dit\u00a0: «\u00a0miaou\u00a0».",
    "German": "10\u202f000\u2009km, Donau\u00addampfschiff, z.\u00a0B. so",
    "family": "👨\u200d👩\u200d👧\u200d👦 on a beach",
    "skin": "👩🏽\u200d🚀 in a rocket",
    "heart": "a ❤\ufe0f and a ❤\ufe0e",
    "keycap": "the keys 1\ufe0f\u20e3 and #\ufe0f\u20e3",
    "flag": "🇯🇵 and 🏳\ufe0f\u200d🌈",
    "Scotland": "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f over a castle",
    "a letter of a newer Unicode": "a face \U0001faea and \U0001fac8",
    "Vietnamese, composed and not": "Tiếng Việt Tie\u0302\u0301ng",
    "mathematics": "f\u2061(x) = 2\u2062x, a\u205f+\u205fb, word\u2060joined",
    "Egyptian": "\U00013080\U00013430\U00013081",
}
HIDING = {
    "NUL": "a\0b",
    "bell": "a\ab",
    "escape": "\x1b[31mred",
    "tab": "a\tb",
    "C1": "a\x9bb",
    "next line": "a\x85b",
    "line": "a\nb",
    "return": "a\rb",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "delete": "a\x7fb",
    "surrogate": "a\ud800b",
    "private": "a\ue000b",
    "no character": "a\uffffb",
    "no character of a higher plane": "a\U0001fffeb",
    "no character, Arabic": "a\ufdd0b",
    "byte-order mark": "a\ufeffb",
    "override": "a\u202eb\u202cc",
    "override to the right": "a\u202db\u202cc",
    "embedding that is not closed": "a\u202bb",
    "isolate that is not closed": "a\u2067b",
    "closed by the wrong one": "a\u2067b\u202cc",
    "closes nothing": "a\u2069b",
    "tag": "a cat\U000e0064\U000e006f\U000e0067",
    "tags of a flag that do not end": "🏴\U000e0067\U000e0062",
    "language tag": "a\U000e0001b",
    "annotation": "a\ufff9b\ufffac\ufffb",
    "deprecated": "a\u206eb",
}
INVISIBLE = {
    "nothing else": ("a cat", "a\u200b cat"),
    "soft hyphen": ("motorway", "motor\u00adway"),
    "kind of space": ("a cat", "a\u00a0cat"),
    "joiner between letters that are not joined": ("a cat", "a c\u200dat"),
    "non-joiner at the end": ("a cat", "a cat\u200c"),
    "direction mark": ("a cat", "a\u200e cat"),
    "isolate": ("a cat", "a \u2068cat\u2069"),
    "variation": ("葛城", "葛\U000e0100城"),
    "filler": ("a cat", "a\u3164 cat"),
    "grapheme joiner": ("a cat", "a c\u034fat"),
}
VISIBLE = {
    "non-joiner of Persian": ("می\u200cخواهد", "میخواهد"),
    "joined emoji": ("👩\u200d🚀", "👩🚀"),
    "skin": ("👩🏽", "👩🏿"),
    "flags": ("🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "🏴"),
    "width": ("Ａ", "A"),
    "case": ("a", "A"),
}


def stimuli(tmp_path, a, b="another text"):
    file = tmp_path / "h.toml"
    quoted = ("".join(f"\\U{ord(char):08x}" for char in text) for text in (a, b))
    pair = '[[pairs]]\nid = "one"\ncategory = "c"\na = "{}"\nb = "{}"\n'.format(*quoted)
    file.write_text('hypothesis = "h"\npresentation = "prompt_pairs"\na = "with"\nb = "without"\n' + pair)
    return load_stimuli(file)


@pytest.mark.parametrize("text", CORRECT.values(), ids=CORRECT)
def test_correct_text_of_every_language_is_a_prompt(tmp_path, text):
    assert fault(text) is None
    assert stimuli(tmp_path, text).pairs[0].a.prompt == text


@pytest.mark.parametrize("text", HIDING.values(), ids=HIDING)
def test_what_hides_or_breaks_a_line_is_refused_with_its_code_and_name(tmp_path, text):
    bad = next(char for char in text if f"U+{ord(char):04X} (" in fault(text))
    assert bad not in "abc🏴"
    if not 0xD800 <= ord(bad) < 0xE000:  # which TOML refuses itself
        with pytest.raises(ProbeError, match=rf"pair 1 \(one\): field 'a' has U\+{ord(bad):04X} \(.*\).*Remove it\."):
            stimuli(tmp_path, text)


@pytest.mark.parametrize(
    "text", ["\u200b", "\u200c\u200d", "\u3164", "\u2067\u2069", "\u00ad", "\u3000\u00a0", "\ufe0f"]
)
def test_a_text_of_which_nothing_is_seen_is_empty(tmp_path, text):
    with pytest.raises(ProbeError, match="field 'a' is '.*'; expected a non-empty string"):
        stimuli(tmp_path, text)


def test_every_character_is_allowed_or_has_a_reason_by_its_category():
    """All of Unicode: letters, marks, numbers, symbols, punctuation and spaces are text; controls are not."""
    for number in range(sys.maxunicode + 1):
        char = chr(number)
        category, found = unicodedata.category(char), fault(f"a{char}b")
        if category[0] in "LMNPS" or category == "Zs":
            assert found is None, hex(number)
        elif category in ("Cc", "Cs", "Co", "Zl", "Zp"):
            assert found, hex(number)
        elif category == "Cn":
            assert bool(found) == (number & 0xFFFE == 0xFFFE or 0xFDD0 <= number <= 0xFDEF), hex(number)


@given(text=st.text(max_size=12))
def test_what_is_allowed_is_one_line_and_shown_on_a_terminal(text):
    if fault(text) is None:
        assert len(text.splitlines()) <= 1
    assert "\x1b" not in one_line(text) and len(one_line(text).splitlines()) <= 1


@pytest.mark.parametrize(("a", "b"), INVISIBLE.values(), ids=INVISIBLE)
def test_members_that_look_the_same_are_a_problem_of_the_set(tmp_path, a, b):
    assert seen(a) == seen(b)
    found = {finding.rule: finding for finding in check_stimuli(stimuli(tmp_path, a, b)).problems}
    assert found["unseen"].text == "members differ in characters that nobody sees alone: one"


@pytest.mark.parametrize(("a", "b"), VISIBLE.values(), ids=VISIBLE)
def test_members_that_look_different_are_none(tmp_path, a, b):
    assert seen(a) != seen(b)
    assert "unseen" not in {finding.rule for finding in check_stimuli(stimuli(tmp_path, a, b)).findings}


def test_a_terminal_shows_joined_letters_joined():
    assert one_line(CORRECT["Persian"]) == CORRECT["Persian"] and one_line(CORRECT["family"]) == CORRECT["family"]
