"""What the checker found stands in every view, and a set that its words give away is said to be one."""

import copy

import pytest
from report_factory import evidence_html, make_results, wording_check

from fixtures.report.control.ladder import gaps
from fixtures.report.overview import claims_table_html
from fixtures.report.text_views import summary_markdown
from fixtures.report.wording import FINDINGS, HEADS, LETTERS, SHORT_HEADS, findings, giveaway, note, rows

WORD = {"kind": "problem", "of": "pairs", "rule": "giveaway word", "text": "'<tiny>' marks A in 12 and B in 1"}
MEMBERS = {"kind": "problem", "of": "placebo", "rule": "tokens", "text": "members differ: honest_teller (1)"}
WEAK = {"kind": "note", "of": "pairs", "rule": "bag of words", "text": "words alone tell A from B"}

CHECK = wording_check()
CHECK["findings"] = [CHECK["findings"][0], MEMBERS]
CHECK["pairs"]["templates"], CHECK["pairs"]["wording"]["endings"] = {"verb": 13, "noun": 12}, []
CHECK["placebo"] |= {"categories": {"honesty": 25}, "wording": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def made(folder):
    return make_results(folder)


@pytest.fixture
def results(made):
    return copy.deepcopy(made)


def with_findings(*found, **changes):
    return CHECK | {"findings": list(found)} | changes


def test_a_row_has_a_cell_for_every_column():
    pairs, placebo = (dict(zip(HEADS, row, strict=True)) for row in rows(CHECK))
    assert len(HEADS) == len(SHORT_HEADS)
    assert pairs == {
        "Texts": "pairs",
        "Pairs": "25",
        "Tokens": "4 (−3)",
        "Words": "1 (−1)",
        "Letters": "4 (−5)",
        "Shared words": "91.1% (76.5%)",
        "Changed words, tokens": "2.9, 5.6",
        "Change starts early / middle / late": "3 / 6 / 16",
        "Categories, pairs in each": "5 of 5",
        "Templates, pairs in each": "2 of 12 to 13",
        "Most discriminating word, pairs it marks": "its: A 2, B 0",
        "Ending": "none",
        "Bag of words": "0.28 (p 0.99)",
        "Near-duplicates": "0",
    }
    assert (placebo["Texts"], placebo["Categories, pairs in each"]) == ("placebo", "1 of 25")
    assert set(list(placebo.values())[2:8]) == {"–"}
    assert "in the vocabulary of klein-mini+arrow" in note(CHECK) and "in the vocabulary" not in note({})


def test_problems_stand_before_notes():
    assert [kind for kind, _ in findings(CHECK)] == ["problem", "note"]
    assert findings(CHECK)[0] == ("problem", "placebo, tokens: members differ: honest_teller (1)")


def test_a_giveaway_is_named_with_the_reason_of_the_file():
    assert giveaway(CHECK) == giveaway({}) == ""
    assert giveaway(with_findings(WORD)) == f"In the prompts, {WORD['text']}. The file gives no reason."
    stated = with_findings(WORD, WEAK, giveaway="No other word")
    assert giveaway(stated) == f"In the prompts, {WORD['text']}; {WEAK['text']}. The file’s reason: No other word"
    assert giveaway(with_findings(WORD | {"of": "placebo"})) == ""


def test_words_that_only_generate_images_are_a_giveaway_one_by_one():
    drawn = {"presentation": "image_pairs"}
    assert giveaway(with_findings(WEAK, **drawn)) == ""
    assert giveaway(with_findings(WORD, WEAK, **drawn)).startswith(
        "In the prompts that the images are generated from, '"
    )
    assert WEAK["text"] not in giveaway(with_findings(WORD, WEAK, **drawn))


def test_a_set_that_a_word_gives_away_says_so_in_every_view(results, folder):
    entry = results["hypotheses"][2]
    before = gaps(entry)
    entry["stimuli"]["check"] = with_findings(WORD)
    words, verdict = "a response to more than single words", "given away by the wording"
    *others, last = gaps(entry)
    assert others == before and (last.words, last.verdict) == (words, verdict)
    page, markdown = claims_table_html(results), summary_markdown(results)
    assert f"<b>{words}</b>: {verdict}. In the prompts, &#39;&lt;tiny&gt;&#39; marks A in 12" in page
    assert f"Not shown: **{words}**, {verdict}. In the prompts, '&lt;tiny&gt;' marks A in 12" in markdown
    block = evidence_html(entry, entry["claims"][0], folder, results["model"])
    assert "&lt;tiny&gt;" in block and "<tiny>" not in block + page + markdown
    for claim in entry["claims"]:
        claim["verdict"] = "refuted"
    assert gaps(entry)[-1].words == words  # also where nothing else can be said


def test_the_row_stands_under_every_claim_and_in_the_summary(results, folder):
    for entry in results["hypotheses"][:3]:
        entry["stimuli"]["check"] = CHECK
    markdown = summary_markdown(results)
    for entry in results["hypotheses"][:3]:
        block = evidence_html(entry, entry["claims"][0], folder, results["model"])
        assert "<td>0.28 (p 0.99)</td>" in block and "<b>problem</b>: placebo, tokens: members differ" in block
        name = entry["id"].replace("_", "\\_")
        assert f"| {name} | pairs | 25 | 4 (−3) |" in markdown
        assert f"- {name}: problem: placebo, tokens: members differ: honest\\_teller (1)" in markdown
    del results["hypotheses"][0]["stimuli"]["check"]
    entry = results["hypotheses"][0]
    assert "What the checker found" not in evidence_html(entry, entry["claims"][0], folder, results["model"])


def test_foreign_text_of_any_length_is_cut():
    long = with_findings(*[WORD | {"text": "x" * 10_000}] * 500, giveaway="y" * 10_000)
    assert len(findings(long)) == FINDINGS and max(len(text) for _, text in findings(long)) <= LETTERS + 2
    assert len(giveaway(with_findings(WORD | {"text": "x" * 10_000}, giveaway="y" * 10_000))) < 3 * LETTERS


def test_the_reference_of_every_pair_is_shown_beside_it(results, folder):
    entry = results["hypotheses"][1]
    for pair in entry["stimuli"]["pairs"]:
        pair |= {"reference": entry["stimuli"]["reference"], "template": "noun"}
    entry["stimuli"]["reference"] = None
    block = evidence_html(entry, entry["claims"][0], folder, results["model"])
    assert "the pair’s own reference image" in block and "this one reference image" not in block
    assert block.count('alt="reference: ') == len(entry["stimuli"]["pairs"])
    assert "<span>noun</span>" in block


def paths(value, path=()):
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from paths(item, (*path, key))


def test_any_value_of_the_record_may_be_absent_or_of_another_kind():
    for path in paths(CHECK):
        for value in (None, "x", 3, [1], {"y": "z"}):
            check = copy.deepcopy(CHECK)
            inner = check
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            texts = [*(cell for row in rows(check) for cell in row), giveaway(check), note(check)]
            texts += [text for finding in findings(check) for text in finding]
            assert all(isinstance(text, str) and "None" not in text for text in texts), path
