"""The checker on stimulus files: a clean set has no findings, and every broken promise is named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.__main__ import main
from fixtures.common.errors import ProbeError
from fixtures.stimuli.checker.check import check_stimuli
from fixtures.stimuli.checker.vocabulary import (
    SAMPLE,
    SAMPLE_TOKENS,
    Vocabulary,
    checkpoint_vocabulary,
    qwen_vocabulary,
)
from fixtures.stimuli.sets import Member, Pair, load_stimuli

CHECKPOINTS = Path(__file__).resolve().parents[1] / "fixtures" / "models" / "checkpoints"
HEAD = 'hypothesis = "toy"\npresentation = "prompt_pairs"\na = "full"\nb = "empty"\nmax_token_difference = 0\n'
# Six sentences; the last two words are A's and B's word of the concept, then those of the placebo.
SENTENCES = (
    ("{} jugs of milk stand beside a wooden churn in the dairy.", "Full", "Empty", "Green", "Blue"),
    ("By the harbour wall, a {} net hangs from two iron hooks.", "tight", "slack", "brown", "grey"),
    ("A porter pushes a trolley, and every shelf on it is {}.", "loaded", "bare", "metal", "wooden"),
    ("The {} sacks lean against the mill door while a cat sleeps.", "stuffed", "drained", "white", "yellow"),
    ("In a school hall, {} benches face the small painted stage.", "packed", "deserted", "long", "short"),
    ("Rain falls on an orchard where each basket below the ladder is {}.", "dense", "thin", "square", "round"),
)
PLACES = ("early", "middle", "late") * 2

ROOT = Path(__file__).parents[1]


def entry(table, name, number, frame, a, b):
    fields = {"id": name, "category": f"c{number // 3}", "template": PLACES[number]}
    fields |= {"a": frame.format(a), "b": frame.format(b)}
    return f"[[{table}]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())


def toml(sentences=SENTENCES, head=HEAD):
    pairs = [entry("pairs", f"p{n}", n, frame, a, b) for n, (frame, a, b, _, _) in enumerate(sentences)]
    placebo = [entry("placebo", f"q{n}", n, frame, a, b) for n, (frame, _, _, a, b) in enumerate(sentences)]
    return head + "".join(pairs + placebo)


@pytest.fixture
def load(tmp_path):
    def from_text(text):
        (tmp_path / "toy.toml").write_text(text)
        return load_stimuli(tmp_path / "toy.toml")

    return from_text


@pytest.fixture
def clean(load):
    return load(toml())


@pytest.fixture(scope="module")
def qwen():
    return qwen_vocabulary()


def letters(text):
    """As Qwen's vocabulary for a checker that asks, but a token is a letter."""
    return SAMPLE_TOKENS if text == SAMPLE else tuple(text)


def broken(stimuli, vocabulary=None):
    """(kind, of, rule) of every finding."""
    return [(f.kind, f.of, f.rule) for f in check_stimuli(stimuli, vocabulary).findings if f.rule != "tokens"]


def with_pair(stimuli, number=0, **changes):
    pairs = list(stimuli.pairs)
    pairs[number] = replace(pairs[number], **changes)
    return replace(stimuli, pairs=tuple(pairs))


def text(stimuli, rule, vocabulary=None):
    return next(f.text for f in check_stimuli(stimuli, vocabulary).findings if f.rule == rule)


def test_a_set_written_with_care_has_no_findings(clean):
    assert broken(clean) == []
    check = check_stimuli(clean)
    assert check.pairs.templates == check.placebo.templates == dict.fromkeys(("early", "middle", "late"), 2)
    assert check.pairs.wording.thirds == {"early": 2, "middle": 2, "late": 2}
    assert check.pairs.wording.changed == {"words": 1.0} and check.vocabulary is None
    assert json.loads(json.dumps(check.record(), allow_nan=False)) == check.record()


def test_only_qwens_vocabulary_can_break_the_promise_about_tokens(clean):
    check = check_stimuli(clean, Vocabulary("letters", letters))
    assert check.vocabulary == {"name": "letters", "is_qwen": True}
    tokens = [f for f in check.problems if f.of == "pairs" and f.rule == "tokens"]
    assert [f.text for f in tokens] == ["members differ by more than the 0 promised: p0 (1), p2 (2), p4 (2), p5 (1)"]
    kept = check_stimuli(replace(clean, max_token_difference=2), Vocabulary("letters", letters))
    assert not any(f.rule == "tokens" for f in kept.findings)
    nothing = replace(clean, max_token_difference=None)
    assert "nothing is promised" in text(nothing, "tokens", Vocabulary("letters", letters))
    other = Vocabulary("other", str.split)
    assert "tokens" not in {f.rule for f in check_stimuli(clean, other).findings}
    assert text(with_pair(clean, a=Member("Two big jugs of milk")), "tokens", other) == (
        "in the vocabulary of other members differ in 1 of 6 pairs, by up to 7; promises are about Qwen's"
    )
    assert text(clean, "tokens") == "not counted: no vocabulary was given"


def test_a_giveaway_word_is_a_problem_unless_the_file_says_why_it_is_needed(load):
    sentences = [(frame.lower().replace("{}", "so {}"), "filled", "drained", *rest) for frame, _, _, *rest in SENTENCES]
    stimuli = load(toml(sentences))
    rules = {"giveaway word", "bag of words", "substitution", "length"}
    found = check_stimuli(stimuli)
    assert {f.rule for f in found.problems if f.of == "pairs"} == rules
    assert "'filled' marks A in 6 and B in 0" in text(stimuli, "giveaway word")
    assert text(stimuli, "bag of words") == "words alone tell A from B in 100% of 6 pairs left out (p = 0.031)"
    assert "less regular" in " ".join(f.text for f in found.findings if f.rule == "placebo")
    excused = check_stimuli(replace(stimuli, giveaway="There is no other word."))
    assert excused.problems == () and rules <= {f.rule for f in excused.findings}
    shown = replace(stimuli, presentation="image_pairs")
    assert [f.kind for f in check_stimuli(shown).findings if f.rule == "bag of words"] == ["note"]
    assert [f.kind for f in check_stimuli(shown).findings if f.rule == "giveaway word"] == ["problem"]


def test_a_reason_without_a_giveaway_is_noted(clean):
    assert broken(replace(clean, giveaway="Just in case.")) == [("note", "set", "giveaway")]


def test_an_ending_that_marks_one_member_is_a_giveaway(load):
    states = ("melting steaming boiling freezing burning dripping", "frozen cold warm liquid grey dry")
    sentences = [
        (frame, a, b, *rest) for (frame, _, _, *rest), a, b in zip(SENTENCES, *map(str.split, states), strict=True)
    ]
    assert "'-ing' marks A in 6 and B in 0" in text(load(toml(sentences)), "giveaway ending")


def test_one_sentence_filled_again_is_found(load):
    nouns = ("mugs", "pots", "cans", "jars", "tubs", "bins")
    frames = [f"On a shelf in the old {noun} shop the {{}} one stands" for noun in nouns]
    stimuli = load(toml([(frame, *rest) for frame, (_, *rest) in zip(frames, SENTENCES, strict=True)]))
    assert text(stimuli, "near-duplicates").startswith("one sentence filled again: p0 and p1 (91%)")
    assert text(stimuli, "near-duplicates").endswith("and 10 more (below 60%)")
    assert ("note", "pairs", "place") in broken(stimuli)


def test_a_text_is_used_once_whatever_its_punctuation(clean):
    again = clean.pairs[1].a.prompt.upper().replace(",", "")
    stimuli = with_pair(clean, a=Member(again))
    assert text(stimuli, "same text") == "used more than once: p0.a = p1.a"
    assert ("problem", "pairs", "overlap") in broken(stimuli)


@pytest.mark.parametrize(
    ("templates", "problem"),
    [
        (["one"] * 6, "1 recorded; expected at least 3"),
        (["x", "y"] * 3, "2 recorded; expected at least 3"),
        (["x", "x", "x", "x", "y", "z"], "of unequal size: x 4, y 1, z 1"),
        (["x", "x", "x", "y", "z", "y"], "one for all pairs of a category: c0"),
        ([None] * 6, "none recorded, so that none can be left out"),
    ],
)
def test_templates_are_balanced_and_vary_within_categories(clean, templates, problem):
    pairs = [replace(pair, template=name) for pair, name in zip(clean.pairs, templates, strict=True)]
    assert problem in [f.text for f in check_stimuli(replace(clean, pairs=tuple(pairs))).findings if f.of == "pairs"]


def test_one_wording_of_the_contrast_is_a_problem(load):
    days = [(f"{frame} {{}}".format("x", "{}"), "monday", "friday", *rest) for frame, _, _, *rest in SENTENCES]
    text = toml(days)
    found = [finding for finding in check_stimuli(load(text)).findings if finding.rule == "wordings"]
    assert [(finding.kind, finding.of) for finding in found] == [("note", "pairs")]
    assert "3 by their templates, but the same words differ in every pair" in found[0].text
    without = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("template"))
    found = [finding for finding in check_stimuli(load(without)).findings if finding.rule == "wordings"]
    assert [finding.kind for finding in found] == ["problem"] and "1 of the contrast; expected at least 3" in found[
        0
    ].text


def test_categories_of_unequal_size_are_noted(clean):
    stimuli = with_pair(clean, category="c1")
    assert text(stimuli, "categories") == "of unequal size: c1 4, c0 2"
    assert text(stimuli, "placebo") == "of another category or template than their pair: q0"


def test_a_placebo_changes_as_much_wording(clean):
    first = replace(clean.placebo[0], b=Member("Green barrels of oil stand beside a wooden churn in the dairy."))
    stimuli = replace(clean, placebo=(first, *clean.placebo[1:]))
    assert text(stimuli, "placebo") == (
        "changes 1.2 words of a pair on average, the concept 1.0 (expected 0.9 to 1.1 times as many)"
    )
    assert broken(replace(clean, placebo=())) == [("note", "set", "placebo")]


def test_agents_of_another_name_are_noted(clean):
    a, b = (Member(clean.pairs[1].a.prompt.replace("a ", f"{name}'s ")) for name in ("Ada", "Ben"))
    assert text(with_pair(clean, 1, a=a, b=b), "names") == "capitalised words differ within p1"


def test_images_from_files_have_no_wording(clean):
    mine, yours = Member(image=Path("mine.png")), Member(image=Path("yours.png"))
    stimuli = replace(clean, presentation="image_pairs", placebo=(), alterations=("crop",))
    assert text(with_pair(stimuli, a=mine), "texts").startswith("1 of 6 pairs have images from files")
    drawn = tuple(Pair(pair.id, pair.category, mine, yours, pair.template) for pair in stimuli.pairs)
    check = check_stimuli(replace(stimuli, pairs=drawn))
    assert check.pairs.wording is None and check.pairs.n_pairs == 6
    assert [(f.kind, f.rule) for f in check.findings] == [("note", "texts")]


def test_the_vocabulary_of_a_checkpoint_is_read_without_its_weights(qwen, tmp_path):
    mini = checkpoint_vocabulary(CHECKPOINTS / "klein-mini" / "tokenizer", "klein-mini")
    assert qwen.is_qwen and not mini.is_qwen
    assert len(mini.encode("a red ball")) >= 3
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text("{")
    with pytest.raises(ProbeError, match="tokenizer: cannot be read: .* Download it again"):
        checkpoint_vocabulary(tmp_path / "tokenizer", "broken")


def test_the_command_prints_every_set_and_fails_with_problems(tmp_path, capsys):
    good, bad, unreadable = (tmp_path / name for name in ("good.toml", "bad.toml", "unreadable.toml"))
    good.write_text(toml())
    bad.write_text(toml(head=HEAD.replace("toy", "bad")).replace("jugs of milk", "jugs of fresh milk", 1))
    assert main(["check", str(good)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:4] == ["set", "texts", "pairs", "tokens"] and "problem" not in out
    assert main(["check", str(good), str(bad)]) == 1
    assert "problem: pairs, tokens: members differ by more than the 0 promised" in capsys.readouterr().out
    assert main(["check", str(good), str(unreadable)]) == 1
    shown = capsys.readouterr()
    assert "unreadable.toml: cannot be read" in shown.err and "toy" in shown.out


def test_the_table_in_the_docs_is_that_of_the_files(capsys):
    main(["check", "--markdown"])
    written = (ROOT / "docs" / "stimuli.md").read_text()
    assert capsys.readouterr().out == written, "run: python -m fixtures check --markdown > docs/stimuli.md"


def test_the_command_prints_the_shipped_sets_as_markdown(capsys):
    assert main(["check", "--markdown"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[0].startswith("| Stimuli | Texts | Pairs |") and len({line.count(" |") for line in lines[2:]}) == 1
    assert any(line.startswith("| ethical\\_valence | placebo | 25 | 0 |") for line in lines)
