"""The checker's figures against definitions written out, on small texts of few words."""

from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.stimuli.checker.bag_of_words import bag_of_words, leave_one_pair_out
from fixtures.stimuli.checker.limits import NEAR_DUPLICATE, SHORTEST_FRAME, at_most
from fixtures.stimuli.checker.marks import count_differences, endings, marks
from fixtures.stimuli.checker.texts import measure_wording, near_duplicates
from fixtures.stimuli.checker.wording import (
    changed,
    frame,
    names,
    overlap,
    similarity,
    start_of_change,
    substitutions,
    third,
    words,
)

sequences = st.lists(st.sampled_from("abcd"), max_size=6)
texts = st.lists(st.sampled_from(["a", "cat", "dogs", "sitting", "rusted", "his", "tiny"]), min_size=1, max_size=6)
pairs = st.lists(st.tuples(texts.map(" ".join), texts.map(" ".join)), min_size=1, max_size=6)


def edits(a, b):
    """Levenshtein's distance by its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(edits(a[1:], b) + 1, edits(a, b[1:]) + 1, edits(a[1:], b[1:]) + (a[0] != b[0]))


def is_part_of(part, whole):
    rest = iter(whole)
    return all(item in rest for item in part)


def test_words_are_lower_case_and_a_possessive_stands_alone():
    assert words("On Igor's T-pose, 20 'sails' of Ada\N{RIGHT SINGLE QUOTATION MARK}s") == (
        "on igor 's t pose 20 sails of ada 's".split()
    )
    assert endings("Dogs sitting on his rusted, tiny bed") == ["-s", "-ing", "-s", "-ed", "-y", "-ed"]
    assert names("On a bus, Igor faces Mrs Hale, and Igor waves.") == {"Igor": 2, "Mrs": 1, "Hale": 1}


@settings(max_examples=60, deadline=None)
@given(a=sequences, b=sequences)
def test_changed_is_levenshteins_distance(a, b):
    assert changed(a, b) == edits(a, b)


@given(a=sequences, b=sequences)
def test_no_order_agrees_more_than_the_items_do(a, b):
    """`near_duplicates` leaves pairs out by their overlap alone, which must not lose any."""
    assert 0 <= similarity(a, b) <= overlap(a, b) == overlap(b, a) <= 1
    assert (similarity(a, b) == 1) == (a == b) and (overlap(a, b) == 1) == (Counter(a) == Counter(b))


@given(a=sequences, b=sequences)
def test_the_change_starts_after_the_longest_common_beginning(a, b):
    place = start_of_change(a, b)
    common = max(n for n in range(len(a) + 1) if a[:n] == b[:n])
    assert place is None if a == b else place == pytest.approx(common / max(len(a), 1))
    assert place is None or third(place) == ("early" if place < 1 / 3 else "middle" if place < 2 / 3 else "late")


@given(a=sequences, b=sequences)
def test_a_frame_and_the_substitutions_make_up_both_members(a, b):
    kept, swaps = frame(a, b), substitutions(a, b)
    assert is_part_of(kept, a) and is_part_of(kept, b)
    for member, side in ((a, 0), (b, 1)):
        assert Counter(member) == Counter(kept) + Counter(word for swap in swaps for word in swap[side].split())


@given(pairs=pairs)
def test_marks_count_the_pairs_in_which_a_member_has_more(pairs):
    found = marks(*count_differences(pairs))
    for mark in found:
        counts = [(a.split().count(mark.feature), b.split().count(mark.feature)) for a, b in pairs]
        assert (mark.a, mark.b) == (sum(a > b for a, b in counts), sum(a < b for a, b in counts))
    assert {mark.feature for mark in found} == {
        word for a, b in pairs for word in {*a.split(), *b.split()} if a.split().count(word) != b.split().count(word)
    }
    assert [abs(mark.net) for mark in found] == sorted((abs(mark.net) for mark in found), reverse=True)


def judged(differences):
    """Accuracy of the classifier as it is defined: the mean difference of the other pairs, and a dot product."""
    right = 0
    for left_out, own in enumerate(differences):
        others = [row for number, row in enumerate(differences) if number != left_out]
        score = np.dot(np.sum(others, axis=0), own) if others else 0
        right += 0.5 if score == 0 else float(score > 0)
    return right / len(differences)


@settings(max_examples=60, deadline=None)
@given(pairs=pairs)
def test_the_classifier_judges_each_pair_by_the_others_and_its_p_counts_flips(pairs):
    _, differences = count_differences(pairs)
    signs = np.array([(1, *rest) for rest in product((1, -1), repeat=len(pairs) - 1)])
    expected = np.array([judged(differences * flip[:, None]) for flip in signs])
    assert np.allclose(leave_one_pair_out(differences, signs), expected)
    found = bag_of_words(differences)
    assert found.accuracy == pytest.approx(expected[0]) and found.flips == len(signs)
    assert found.p == pytest.approx((expected >= expected[0] - 1e-9).mean())


def test_random_flips_agree_with_all_of_them():
    differences = np.random.default_rng(0).integers(-1, 2, (13, 8))
    every, some = bag_of_words(differences), bag_of_words(differences, flips=1000)
    assert (every.flips, some.flips) == (4096, 1000) and some.accuracy == every.accuracy
    assert some.p == pytest.approx(every.p, abs=5 * (every.p * (1 - every.p) / 1000) ** 0.5)
    assert bag_of_words(differences, flips=1000) == some


def test_one_word_in_every_pair_is_told_at_once():
    pairs = [(f"a tiny {noun}", f"a huge {noun}") for noun in "cat dog ant bee cow hen pig fox owl ram".split()]
    found = measure_wording([str(number) for number in range(10)], pairs)
    assert (found.bag_of_words.accuracy, found.bag_of_words.p) == (1, 1 / 512)
    assert [(mark.feature, mark.a, mark.b) for mark in found.words] == [("huge", 0, 10), ("tiny", 10, 0)]
    assert [(swap.a, swap.b, swap.pairs) for swap in found.repeated] == [("tiny", "huge", 10)]


@given(pairs=pairs)
def test_swapping_the_members_mirrors_the_figures(pairs):
    ids = [str(number) for number in range(len(pairs))]
    found = measure_wording(ids, pairs, str.split)
    mirror = measure_wording(ids, [(b, a) for a, b in pairs], str.split)
    for what, length in found.lengths.items():
        assert [-d for d in length.differences] == list(mirror.lengths[what].differences)
        assert length.net == -mirror.lengths[what].net
    assert {(m.feature, m.a, m.b) for m in found.words} == {(m.feature, m.b, m.a) for m in mirror.words}
    same = ("bag_of_words", "changed", "overlap", "overlap_least", "reordered", "renamed")
    assert all(getattr(found, name) == getattr(mirror, name) for name in same)
    assert found.changed["words"] == found.changed["tokens"]  # here a token is a word


@settings(max_examples=60, deadline=None)
@given(frames=st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=5))
def test_near_duplicates_are_all_pairs_of_like_frames(frames):
    ids = list(range(len(frames)))
    expected = {}
    for (i, a), (j, b) in combinations(enumerate(frames), 2):
        longer = max(len(a), len(b))
        if min(len(a), len(b)) >= SHORTEST_FRAME and (longer - edits(a, b)) / longer >= NEAR_DUPLICATE:
            expected[i, j] = (longer - edits(a, b)) / longer
    found = near_duplicates(ids, frames)
    assert {(two.first, two.second): two.similarity for two in found} == expected
    assert [two.similarity for two in found] == sorted(expected.values(), reverse=True)


def test_shares_of_the_published_numbers_of_pairs():
    assert [at_most(0.2, n) for n in (4, 25, 30)] == [2, 5, 6] and [at_most(0.3, n) for n in (4, 25, 30)] == [2, 7, 9]
