import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.common.errors import ProbeError
from fixtures.stimuli.sets import load_stimuli

HEAD = 'hypothesis = "h"\npresentation = "prompt_pairs"\na = "with"\nb = "without"\n'
PAIR = '[[pairs]]\nid = "one"\ncategory = "c"\na = "left"\nb = "right"\n'


def load(tmp_path, text):
    file = tmp_path / "h.toml"
    file.write_text(text, encoding="utf-8")
    return load_stimuli(file)


def test_prompt_pairs(tmp_path):
    stimuli = load(tmp_path, HEAD + PAIR)
    assert (stimuli.hypothesis, stimuli.a, stimuli.b, stimuli.prompt) == ("h", "with", "without", None)
    assert [(pair.id, field, member.prompt) for pair, field, member in stimuli.members()] == [
        ("one", "a", "left"),
        ("one", "b", "right"),
    ]


def test_image_pairs_take_prompts_or_files(tmp_path):
    (tmp_path / "mine.png").write_bytes(b"")
    head = HEAD.replace("prompt_pairs", "image_pairs") + 'prompt = "Describe."\nimage_seed = 7\n'
    stimuli = load(tmp_path, head + PAIR.replace('b = "right"', 'b = { image = "mine.png" }'))
    assert stimuli.image_seed == 7 and stimuli.pairs[0].a.prompt == "left"
    assert stimuli.pairs[0].b.image == tmp_path / "mine.png"


def test_reference_prompt_pairs_have_one_reference(tmp_path):
    head = HEAD.replace("prompt_pairs", "reference_prompt_pairs") + 'reference = "A kitchen."\nimage_seed = 1\n'
    assert load(tmp_path, head + PAIR).reference.prompt == "A kitchen."


REFERENCES = HEAD.replace("prompt_pairs", "reference_prompt_pairs") + "image_seed = 1\n"
OWN = PAIR + 'reference = "A kitchen."\n'
SECOND = PAIR.replace("one", "two").replace("left", "up").replace("right", "down")
NEUTRAL = SECOND.replace("[[pairs]]", "[[placebo]]")


def test_every_pair_may_have_a_reference_of_its_own(tmp_path):
    (tmp_path / "mine.png").touch()
    stimuli = load(tmp_path, REFERENCES + OWN + SECOND + 'reference = { image = "mine.png" }\n')
    assert stimuli.reference is None and stimuli.pairs[0].reference.prompt == "A kitchen."
    assert stimuli.pairs[1].reference.image == tmp_path / "mine.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (REFERENCES + PAIR, "'reference' is missing; expected one at the top of the file, or one in every pair"),
        (REFERENCES + OWN + SECOND, "'reference' is in pair one but not in pair two; expected one at the top"),
        (REFERENCES + 'reference = "x"\n' + OWN, "'reference' stands at the top of the file and in pair one"),
        (REFERENCES + OWN + NEUTRAL + 'reference = "x"\n', r"placebo pair 1 \(two\): field 'reference' is not known"),
        (HEAD + OWN, r"pair 1 \(one\): field 'reference' is not known here"),
        (REFERENCES.replace("image_seed = 1\n", "") + OWN, "field 'image_seed' is missing"),
        (HEAD + PAIR + 'template = "t"\n' + SECOND, r"pair 2 \(two\): field 'template' is missing"),
        (HEAD + PAIR + 'template = "T"\n', r"pair 1 \(one\): field 'template' is 'T'; expected lower-case"),
        ("giveaway = 3\n" + HEAD + PAIR, "field 'giveaway' is 3; expected a non-empty string"),
    ],
)  # fmt: skip
def test_a_bad_reference_template_or_giveaway_names_the_place(tmp_path, text, message):
    with pytest.raises(ProbeError, match=message):
        load(tmp_path, text)


def test_templates_and_the_reason_for_a_giveaway_are_optional(tmp_path):
    stimuli = load(tmp_path, HEAD + PAIR)
    assert (stimuli.pairs[0].template, stimuli.giveaway) == (None, None)
    stimuli = load(tmp_path, 'giveaway = "It is a word."\n' + HEAD + PAIR + 'template = "verb"\n' + NEUTRAL)
    assert (stimuli.pairs[0].template, stimuli.placebo[0].template) == ("verb", None)
    assert stimuli.giveaway == "It is a word."


PLACEBO = PAIR.replace("[[pairs]]", "[[placebo]]").replace("one", "two").replace("left", "up").replace("right", "down")
IMAGES = HEAD.replace("prompt_pairs", "image_pairs") + 'prompt = "Describe."\nimage_seed = 7\n'


def test_a_placebo_is_pairs_of_prompts_or_changes_of_images(tmp_path):
    stimuli = load(tmp_path, HEAD + PAIR + PLACEBO)
    assert [(pair.id, pair.a.prompt) for pair in stimuli.placebo] == [("two", "up")] and stimuli.alterations == ()
    assert [pair.id for pair, _, _ in stimuli.members()] == ["one", "one"]
    stimuli = load(tmp_path, IMAGES + 'placebo = ["seed", "mirror"]\n' + PAIR)
    assert (stimuli.alterations, stimuli.placebo) == (("seed", "mirror"), ())
    assert (load(tmp_path, HEAD + PAIR).placebo, load(tmp_path, IMAGES + PAIR).alterations) == ((), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + PAIR + PLACEBO.replace("two", "one"), r"placebo pair 1 \(one\): field 'id' is also the id of pair 1"),
        (
            HEAD + PAIR + PLACEBO.replace("up", "left"),
            r"placebo pair 1 .*: field 'a' is the same stimulus as a of pair 1",
        ),
        (
            HEAD + PAIR + PLACEBO + PLACEBO.replace("two", "three").replace("up", "x").replace("down", "y"),
            "has 2 pairs",
        ),
        (HEAD + 'placebo = ["mirror"]\n' + PAIR, "field 'placebo' is not a list of"),
        (IMAGES + PAIR + PLACEBO, "field 'placebo' is .*; expected a list of seed, brightness, scale, crop, mirror"),
        (IMAGES + "placebo = []\n" + PAIR, r"field 'placebo' is \[\]; expected a list of"),
        (IMAGES + 'placebo = ["blur"]\n' + PAIR, r"field 'placebo' is \['blur'\]; expected a list of"),
        (IMAGES + 'placebo = ["crop", "crop"]\n' + PAIR, "expected each kind once"),
        ("x = [", "h.toml: not valid TOML"),
        (PAIR, "h.toml: field 'presentation' is missing"),
        (HEAD, "h.toml: field 'pairs' is missing"),
        ("pairs = []\n" + HEAD, "field 'pairs' is not a list"),
        ("pairs = 3\n" + HEAD, "field 'pairs' is not a list"),
        (HEAD.replace("prompt_pairs", "pictures") + PAIR, "'presentation' is 'pictures'; expected one of image_pairs"),
        (HEAD.replace('"h"', '"../h"') + PAIR, "'hypothesis' is '../h'; expected lower-case letters"),
        ('colour = "red"\n' + HEAD + PAIR, "h.toml: field 'colour' is not known here"),
        (HEAD + PAIR + PAIR, r"pair 2 \(one\): field 'id' is also the id of pair 1"),
        (HEAD + PAIR.replace('"one"', '"a/b"'), "pair 1: field 'id' is 'a/b'"),
        (HEAD + PAIR.replace('a = "left"\n', ""), r"pair 1 \(one\): field 'a' is missing"),
        (HEAD + PAIR.replace('"left"', '" "'), r"pair 1 \(one\): field 'a' is ' '"),
        (HEAD + PAIR.replace('"left"', "5"), r"pair 1 \(one\): field 'a' is 5"),
        (
            HEAD + PAIR.replace('"left"', r'"le\nft"'),
            r"field 'a' has U\+000A .* at place 3, a line break; expected one",
        ),
        (HEAD + PAIR.replace('"left"', '" left"'), "field 'a' is ' left'; expected no space before or behind it"),
        (HEAD + PAIR.replace('"left"', '"right"'), r"field 'b' is the same stimulus as a of pair 1 \(one\)"),
        (HEAD + PAIR + 'extra = "x"\n', r"pair 1 \(one\): field 'extra' is not known here"),
        (HEAD + PAIR.replace('"left"', '{ image = "x.png" }'), "this presentation has no images"),
        (HEAD.replace("prompt_pairs", "image_pairs") + PAIR, "field 'prompt' is missing"),
        ("max_token_difference = -1\n" + HEAD + PAIR, "'max_token_difference' is -1; expected a whole number"),
        ("max_token_difference = true\n" + HEAD + PAIR, "'max_token_difference' is True; expected a whole number"),
    ],
)
def test_a_bad_file_names_the_place(tmp_path, text, message):
    with pytest.raises(ProbeError, match=message):
        load(tmp_path, text)


def test_a_missing_file_and_a_missing_image_are_named(tmp_path):
    with pytest.raises(ProbeError, match="nothing.toml: cannot be read"):
        load_stimuli(tmp_path / "nothing.toml")
    head = HEAD.replace("prompt_pairs", "image_pairs") + 'prompt = "Describe."\nimage_seed = 7\n'
    with pytest.raises(ProbeError, match=r"pair 1 \(one\): field 'a' names the image .*gone.png, which does not exist"):
        load(tmp_path, head + PAIR.replace('"left"', '{ image = "gone.png" }'))


def test_a_link_to_nothing_says_where_it_leads(tmp_path):
    (tmp_path / "h.toml").symlink_to("gone.toml")
    with pytest.raises(
        ProbeError, match="h.toml: a link to gone.toml, where there is nothing. Expected a stimulus file"
    ):
        load_stimuli(tmp_path / "h.toml")
    (tmp_path / "h.toml").unlink()
    (tmp_path / "own.png").symlink_to("../blobs/gone")
    with pytest.raises(
        ProbeError, match=r"field 'a' names the image .*own.png, which leads to nothing at ../blobs/gone"
    ):
        load(tmp_path, IMAGES + PAIR.replace('"left"', '{ image = "own.png" }'))


def test_another_seed_is_no_placebo_of_images_that_nobody_generates(tmp_path):
    (tmp_path / "mine.png").touch()
    own = PAIR.replace('"right"', '{ image = "mine.png" }')
    with pytest.raises(ProbeError, match="field 'placebo' has 'seed', but not every b is generated"):
        load(tmp_path, IMAGES + 'placebo = ["seed"]\n' + own)


def test_an_image_seed_is_needed_for_what_is_generated_and_refused_where_nothing_is_shown(tmp_path):
    for name in ("mine.png", "other.png"):
        (tmp_path / name).touch()
    own = PAIR.replace('"left"', '{ image = "mine.png" }').replace('"right"', '{ image = "other.png", sha256 = "0" }')
    head = HEAD.replace("prompt_pairs", "image_pairs") + 'prompt = "Describe."\n'
    stimuli = load(tmp_path, head + own)
    assert stimuli.image_seed is None and (stimuli.pairs[0].a.sha256, stimuli.pairs[0].b.sha256) == (None, "0")
    assert load(tmp_path, head + "image_seed = 3\n" + own).image_seed == 3
    with pytest.raises(ProbeError, match="field 'image_seed' is missing"):
        load(tmp_path, head + PAIR)
    with pytest.raises(ProbeError, match="field 'image_seed' is not known here"):
        load(tmp_path, HEAD + "image_seed = 3\n" + PAIR)


texts = st.text(string.ascii_letters + string.digits + " \"'<>&\\äß漢", min_size=1, max_size=20).map(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(members=st.lists(texts.filter(bool), min_size=2, max_size=12, unique=True).filter(lambda m: len(m) % 2 == 0))
def test_any_printable_text_survives(tmp_path, members):
    def quoted(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    pairs = zip(members[0::2], members[1::2], strict=True)
    text = HEAD + "".join(
        f'[[pairs]]\nid = "p{number}"\ncategory = "c"\na = {quoted(a)}\nb = {quoted(b)}\n'
        for number, (a, b) in enumerate(pairs)
    )
    assert [member.prompt for _, _, member in load(tmp_path, text).members()] == members


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_file_that_an_editor_of_windows_has_saved_is_read(tmp_path, newline):
    file = tmp_path / "h.toml"
    file.write_bytes((HEAD + PAIR).replace("\n", newline).encode("utf-8-sig"))
    assert load_stimuli(file).pairs[0].a.prompt == "left"
    file.write_bytes((HEAD + PAIR).encode("utf-16"))
    with pytest.raises(ProbeError, match="h.toml: not valid TOML in UTF-8: it is in UTF-16. Save it as UTF-8"):
        load_stimuli(file)
