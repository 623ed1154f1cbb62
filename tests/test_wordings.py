"""In how many ways a set words its contrast."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.stimuli.sets import Member, Pair
from fixtures.stimuli.wordings import SAME_WORDS, wordings


def pair(a, b, template=None, number=0):
    return Pair(f"p{number}", "c", Member(prompt=a), Member(prompt=b), template)


def test_recorded_templates_are_the_wordings():
    assert wordings([pair("a x", "a y", "one"), pair("b x", "b y", "two")]) == ["one", "two"]


def test_otherwise_the_words_that_differ_are():
    found = wordings([pair("A cat asleep, seen on a Monday.", "A cat asleep, seen on a Friday.")] * 2)
    assert found == ["monday / friday"] * 2
    assert (
        wordings([pair("a cat sits", "a cat runs fast"), pair("a dog sits", "a dog runs fast")])
        == ["sits / fast runs"] * 2
    )
    assert len(set(wordings([pair("a red cat", "a blue cat"), pair("a big dog", "a dog")]))) == 2


@pytest.mark.parametrize("b", ["A CAT, ASLEEP", "asleep, a cat", "a cat asleep."])
def test_letter_case_order_and_punctuation_are_one_wording(b):
    assert wordings([pair("a cat, asleep", b)]) == [SAME_WORDS]


def test_letter_case_is_one_wording_whatever_the_templates_say():
    pairs = [pair(f"a {animal}", f"A {animal.upper()}", f"frame_{animal}") for animal in ("cat", "dog", "cow")]
    assert set(wordings(pairs)) == {SAME_WORDS}


def test_one_pair_without_a_template_has_all_counted():
    assert wordings([pair("a x", "a y", "one"), pair("b x", "b y")]) == ["x / y"] * 2


@given(st.lists(st.text("abc ", min_size=1), min_size=1, max_size=6), st.sampled_from(["monday", "friday"]))
def test_a_constant_suffix_is_one_wording_whatever_the_rest(texts, word):
    assert len(set(wordings([pair(f"{text} {word}", f"{text} other") for text in texts]))) == 1
