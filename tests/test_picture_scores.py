"""How far pictures lie from one another, and who says what they show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fixtures.activations.picture_scores import ClipScorer, WorldScorer
from fixtures.common.errors import ProbeError
from fixtures.klein_mini.judge import CLASSES, NAMES, draw_labelled
from fixtures.statistics.picture_distance import along, distance

pictures = arrays(np.uint8, (5, 4, 6, 3))


@given(pictures)
def test_distances_are_those_of_loops(values):
    start, end, rest = values[0], values[1], values[2:]
    apart, ways = distance(rest, start), along(rest, start, end)
    for number, picture in enumerate(rest.tolist()):
        one, other, first = (np.asarray(each, dtype=float).ravel() for each in (picture, end, start))
        assert apart[number] == pytest.approx(sum(abs(a - b) for a, b in zip(one, first, strict=True)) / len(one))
        if ways is not None:
            products = sum((a - c) * (b - c) for a, b, c in zip(one, other, first, strict=True))
            assert ways[number] == pytest.approx(
                products / sum((b - c) ** 2 for b, c in zip(other, first, strict=True))
            )
    assert (ways is None) == np.array_equal(start, end)


@given(arrays(np.float64, (2, 3, 3, 3), elements=st.floats(0, 255)), st.floats(-3, 3))
def test_what_lies_on_the_way_lies_where_it_is_put(ends, place):
    start, end = ends
    if np.square(end - start).sum() > 1e-6:
        assert along([start + place * (end - start)], start, end)[0] == pytest.approx(place, abs=1e-6)
        assert along([start, end], start, end).tolist() == pytest.approx([0, 1])


def test_pictures_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="of the same size"):
        distance(np.zeros((2, 4, 4, 3)), np.zeros((5, 4, 3)))


@pytest.fixture(scope="module")
def drawings():
    """Drawings of the world, the number of the class of each, and that of its colour."""
    return draw_labelled(60, 5, 1)


def test_the_judge_scores_between_what_it_sees_in_a_and_in_b(drawings):
    images, states, _ = drawings
    scorer = WorldScorer()
    i, j = next((i, j) for i in range(60) for j in range(60) if states[i] != states[j])
    a, b = images[i : i + 1], images[j : j + 1]
    told = scorer.between(a, b)
    assert told == tuple(f"{CLASSES[n][0]} {'after' if CLASSES[n][1] else 'before'}" for n in (states[i], states[j]))
    scores = scorer.score(a, b, np.concatenate([a, b, images[:3]]))
    assert scores.shape == (5,) and scores[0] > 0.95 and scores[1] < 0.05
    assert scores + scorer.score(b, a, np.concatenate([a, b, images[:3]])) == pytest.approx(np.ones(5))


def test_the_judge_scores_colours_where_states_are_alike_and_nothing_where_all_is(drawings):
    images, states, colours = drawings
    scorer = WorldScorer()
    i, j = next((i, j) for i in range(60) for j in range(60) if states[i] == states[j] and colours[i] != colours[j])
    a, b = images[i : i + 1], images[j : j + 1]
    assert scorer.between(a, b) == (NAMES[colours[i]], NAMES[colours[j]])
    scores = scorer.score(a, b, np.concatenate([a, b]))
    assert scores[0] > 0.9 and scores[1] < 0.1
    assert scorer.between(a, a) is None and scorer.score(a, a, b) is None


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder with a CLIP model of random weights, of the real classes."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(number) for number in range(97, 123)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    text = {**small, **ends, "vocab_size": len(tokens), "max_position_embeddings": 20}
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)
    return folder


def test_a_clip_model_scores_between_two_texts(clip, drawings):
    images = drawings[0][:4]
    scorer = ClipScorer(str(clip), ("dancing", "standing still"))
    scores = scorer.score(images[:1], images[:1], images)
    assert scores.shape == (4,) and len(set(scores.tolist())) == 4 and ((scores > 0) & (scores < 1)).all()
    other = ClipScorer(str(clip), ("standing still", "dancing")).score(images[:1], images[:1], images)
    assert scores + other == pytest.approx(np.ones(4))
    assert scorer.between(images[:1], images[:1]) == ("dancing", "standing still") and scorer.name == str(clip)


def test_what_is_no_clip_model_is_refused(tmp_path, tiny):
    with pytest.raises(ProbeError, match="--judge .*it cannot be loaded .* Expected a folder or a hub id"):
        ClipScorer(str(tmp_path / "nothing"), ("a", "b"))
    with pytest.raises(ProbeError, match="a Qwen3Model, which compares no pictures with texts. Expected a folder"):
        ClipScorer(str(tiny.source.folder / "text_encoder"), ("a", "b"))
