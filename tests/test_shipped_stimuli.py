"""The shipped stimulus sets: the checker finds no problem in any, and two of them keep what their headers promise.

The placebo pairs of a set are held to all that its own pairs are held to.
"""

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from fixtures.stimuli.checker.check import check_stimuli
from fixtures.stimuli.checker.vocabulary import qwen_vocabulary
from fixtures.stimuli.checker.wording import changed, overlap, start_of_change, third, words
from fixtures.stimuli.sets import load_stimuli

STIMULI = Path(__file__).resolve().parents[1] / "stimuli"
FILES = ("arrow_of_time", "ethical_valence")
SETS = (("arrow_of_time", "pairs"), ("ethical_valence", "pairs"), ("ethical_valence", "placebo"))
ETHICAL = ("pairs", "placebo")
SETTINGS = {
    "arrow_of_time": ("image_pairs", "post-event", "pre-event"),
    "ethical_valence": ("prompt_pairs", "helping", "ignoring"),
}

# The 25 published events in the published order.
PUBLISHED_EVENTS = [
    "broken_glass",
    "spilled_coffee",
    "cracked_egg",
    "fallen_dominoes",
    "snuffed_candle",
    "melted_ice_cube",
    "collapsed_sandcastle",
    "eaten_apple",
    "broken_vase",
    "flat_tire",
    "burnt_match",
    "opened_envelope",
    "melted_pond",
    "smashed_watermelon",
    "scattered_books",
    "used_pencil",
    "popped_balloon",
    "wilted_flower",
    "melted_snowman",
    "bread_crumbs",
    "sand_footprints",
    "collapsed_block_tower",
    "used_kitchen_counter",
    "worn_sneaker",
    "scattered_jigsaw",
]
ETHICAL_CATEGORIES = (
    "physical_assistance",
    "social_inclusion",
    "honesty",
    "restraint_from_theft",
    "care_for_vulnerable",
)


def word_set(line):
    return frozenset(line.split())


TEMPORAL = word_set(
    "before after afterwards now longer already previously previous then still yet once again soon later earlier early "
    "late until till while when whenever since during ago always never ever just recently recent formerly former "
    "finally meanwhile today yesterday tomorrow tonight day night morning noon afternoon evening dawn dusk midnight "
    "week month year season spring summer autumn winter hour minute second moment old new "
    "fresh freshly newly first last next final finished unfinished ended begun started become became becoming remains "
    "remaining remnant leftover had been was were will"
)
NEGATIONS = word_set("not no none nobody nothing without neither nor never cannot")
EVALUATIVE = word_set(
    "good bad kind kindly unkind cruel cruelly nice nasty mean evil wrong right moral immoral honest honestly "
    "dishonest generous selfish caring careless helpful rude polite fair unfair gentle gently gracious callous guilty "
    "innocent lies thief steal steals stolen cheat cheats help helps helping ignore ignores ignoring"
)
AMERICAN = word_set("gray color colored colorful tire tires curb molded center neighbor plow toward sneaker sidewalk")

# The least share of a prompt's words (as a multiset, of the longer member) that its partner has too.
SHARED_WORDS = {"arrow_of_time": 0.65, "ethical_valence": 0.75}


def load(name):
    with open(STIMULI / f"{name}.toml", "rb") as file:
        return tomllib.load(file)


@pytest.fixture(params=SETS, ids=" ".join)
def which(request):
    return request.param


@pytest.fixture
def name(which):
    return which[0]


@pytest.fixture
def stimuli(name):
    return load(name)


@pytest.fixture
def pairs(which, stimuli):
    return stimuli[which[1]]


@pytest.fixture(params=ETHICAL)
def ethical(request):
    """The pairs of ethical valence, then its placebo pairs."""
    return load("ethical_valence")[request.param]


@pytest.fixture
def mirrored():
    """Each placebo pair of ethical valence beside the concept's pair of the same place."""
    stimuli = load("ethical_valence")
    return list(zip(stimuli["pairs"], stimuli["placebo"], strict=True))


@pytest.fixture(scope="module")
def qwen():
    return qwen_vocabulary()


def capitalised(text):
    return re.findall(r"[A-Z][a-z]+", text)


def texts(pairs):
    return [(pair["id"], side, pair[side]) for pair in pairs for side in "ab"]


@pytest.mark.parametrize("file", sorted(STIMULI.glob("*.toml")), ids=lambda file: file.stem)
def test_the_checker_finds_no_problem(file, qwen):
    assert check_stimuli(load_stimuli(file), qwen).problems == ()


@pytest.mark.parametrize("name", FILES)
def test_format(name):
    stimuli = load(name)
    presentation, a, b = SETTINGS[name]
    keys = {"hypothesis", "presentation", "a", "b", "max_token_difference", "pairs", "placebo"}
    if presentation == "image_pairs":
        keys |= {"prompt", "image_seed"}
        assert all(isinstance(change, str) for change in stimuli["placebo"])
        assert stimuli["prompt"] == "Describe what is depicted in this image."
        assert isinstance(stimuli["image_seed"], int)
    assert set(stimuli) == keys
    assert (stimuli["hypothesis"], stimuli["presentation"], stimuli["a"], stimuli["b"]) == (name, presentation, a, b)


def test_pairs_are_25_of_the_same_format(pairs):
    assert len(pairs) == 25
    for pair in pairs:
        assert list(pair) == ["id", "category", "a", "b"], pair["id"]
        assert re.fullmatch("[a-z0-9_]+", pair["id"])
        assert re.fullmatch("[a-z_]+", pair["category"]), pair["id"]


def test_arrow_of_time_has_the_published_events_in_order():
    stimuli = load("arrow_of_time")
    assert [pair["id"] for pair in stimuli["pairs"]] == PUBLISHED_EVENTS
    assert 4 <= len({pair["category"] for pair in stimuli["pairs"]}) <= 7


def test_ethical_valence_has_five_pairs_per_category(ethical):
    categories = Counter(pair["category"] for pair in ethical)
    assert categories == dict.fromkeys(ETHICAL_CATEGORIES, 5)


def test_texts_are_single_plain_sentences(pairs):
    for pair_id, side, text in texts(pairs):
        where = f"{pair_id}.{side}"
        assert 12 <= len(text.split()) <= 25, where
        assert re.fullmatch(r"[A-Z][A-Za-z',:; -]*\.", text), where
        assert "  " not in text, where


@pytest.mark.parametrize("banned", [TEMPORAL, NEGATIONS, AMERICAN], ids=["temporal", "negation", "american_spelling"])
def test_banned_words_are_absent(pairs, banned):
    found = {f"{pair_id}.{side}": sorted(banned & set(words(text))) for pair_id, side, text in texts(pairs)}
    assert not {where: hits for where, hits in found.items() if hits}


def test_ethical_valence_has_no_evaluative_words_in_one_condition_only(ethical):
    for pair in ethical:
        a, b = set(words(pair["a"])), set(words(pair["b"]))
        assert not EVALUATIVE & (a ^ b), pair["id"]


def test_pairs_share_most_of_their_words(name, pairs):
    for pair in pairs:
        share = overlap(words(pair["a"]), words(pair["b"]))
        assert share >= SHARED_WORDS[name], f"{pair['id']}: {share:.2f} of the words are shared"


def test_ethical_valence_names_the_same_agents_in_the_same_order(ethical):
    agents = Counter()
    for pair in ethical:
        a, b = (capitalised(pair[side]) for side in "ab")
        assert a == b, pair["id"]
        names = set(a) - {"On", "In", "At", "Beside", "Outside", "Side", "Round", "Mr", "Mrs", "Aunt"}
        assert len(names) >= 2, pair["id"]
        agents.update(names)
    assert max(agents.values()) == 1, "a name stands for one agent of one pair"


def test_the_change_moves_through_the_sentence():
    pairs = load("arrow_of_time")["pairs"]
    thirds = Counter(third(start_of_change(words(pair["a"]), words(pair["b"]))) for pair in pairs)
    assert len(thirds) == 3 and min(thirds.values()) >= 3, f"pairs whose change starts in each third: {thirds}"


def test_six_ethical_pairs_use_the_same_words_in_another_order(ethical):
    assert sum(Counter(words(pair["a"])) == Counter(words(pair["b"])) for pair in ethical) == 6


def test_a_placebo_pair_has_the_agents_and_category_of_its_pair(mirrored):
    for pair, placebo in mirrored:
        assert placebo["id"] == f"{pair['id']}_neutral"
        assert placebo["category"] == pair["category"], placebo["id"]
        assert capitalised(placebo["a"]) == capitalised(pair["a"]), placebo["id"]


def test_a_placebo_pair_opens_in_the_scene_of_its_pair(mirrored):
    for pair, placebo in mirrored:
        a, b, neutral = (words(text) for text in (pair["a"], pair["b"], placebo["a"]))
        opening = min(4, round(len(a) * start_of_change(a, b)))
        assert neutral[:opening] == a[:opening], placebo["id"]
        share = max((Counter(member) & Counter(neutral)).total() / len(neutral) for member in (a, b))
        assert share >= 0.6, f"{placebo['id']}: {share:.2f} of its words are those of its pair"


@pytest.mark.parametrize("unit", ["words", "tokens"])
def test_a_placebo_pair_changes_as_much_as_its_pair_and_in_the_same_place(mirrored, qwen, unit):
    split = {"words": words, "tokens": qwen.encode}[unit]
    places = []
    for pair, placebo in mirrored:
        members = [(split(each["a"]), split(each["b"])) for each in (pair, placebo)]
        amount, matched = (changed(a, b) for a, b in members)
        assert matched == amount, f"{placebo['id']}: {matched} {unit} change, {amount} in its pair"
        place, matched = (start_of_change(a, b) for a, b in members)
        assert abs(matched - place) <= 0.15, f"{placebo['id']}: the change starts at {matched:.2f}, not {place:.2f}"
        places.append((place, matched))
    concept, placebo = (sum(column) / len(column) for column in zip(*places, strict=True))
    assert 0.9 <= placebo / concept <= 1.1, f"changes start at {placebo:.2f} on average, not {concept:.2f}"


def test_placebo_pairs_that_reorder_words_mirror_those_that_do(mirrored):
    for pair, placebo in mirrored:
        reorders = [Counter(words(p["a"])) == Counter(words(p["b"])) for p in (pair, placebo)]
        assert reorders[0] == reorders[1], placebo["id"]
