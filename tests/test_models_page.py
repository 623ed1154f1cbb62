"""docs/models.md is what the code prints, and the data behind it are those of the families."""

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from imports import imported

from fixtures.__main__ import main
from fixtures.models.families import FAMILIES
from fixtures.models.hub import ASKED, INDEX, OF_THE_ENGINE, TRANSFORMER, Hub, Seen, hub_of, shards
from fixtures.models.layout import REFUSABLE
from fixtures.models.models_page import layout_lines, work_lines
from fixtures.models.published import counted, protocol_of

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/models.md").read_text()
HUBS = [(family, hub_of(family)) for family in FAMILIES]
REPOSITORIES = {one.name: (family, one) for family, hub in HUBS for one in hub.repositories}
FAMILY = pytest.mark.parametrize(("family", "hub"), HUBS, ids=[hub.family for _, hub in HUBS])


def facts(hub: Hub) -> list[Seen]:
    """All that was seen of a family's repositories."""
    found = []
    for one in hub.repositories:
        found += [Seen(one.name, one.seen), *one.files.values(), *one.weights.values()]
        found += [fact for fact in (one.size, one.draws) if fact]
    return found


def test_the_page_is_what_the_code_prints(capsys):
    assert main(["models"]) == 0
    assert capsys.readouterr().out == PAGE, "run: python -m fixtures models > docs/models.md"


def test_every_family_is_on_the_page():
    written = PAGE.splitlines()
    for family, hub in HUBS:
        assert f"### {hub.family}" in written
        for repository in hub.repositories:
            rows = [line for line in written if line.startswith(("|", "Ids")) and f"`{repository.name}`" in line]
            assert len(rows) == 3 and any(f"`{family.layout.pipeline}`" in row for row in rows)
    assert len({hub.family for _, hub in HUBS}) == len(FAMILIES)


@FAMILY
def test_every_fact_has_its_source_and_every_source_its_fact(family, hub):
    for fact in facts(hub):
        assert fact.where and set(fact.where) <= set(hub.sources), fact
    used = {name for one in (facts(of) for _, of in HUBS if of.sources is hub.sources) for f in one for name in f.where}
    assert set(hub.sources) == used
    for address in hub.sources.values():
        assert address.startswith("https://") or find_spec(address), address
    assert len(set(hub.sources.values())) == len(hub.sources)
    numbers = [int(n) for line in layout_lines(family, hub) for n in re.findall(r"^\[(\d+)\] ", line)]
    cited = {
        int(n) for line in layout_lines(family, hub) if line.startswith("|") for n in re.findall(r" \[(\d+)\]", line)
    }
    assert numbers == list(range(1, len(numbers) + 1)) and cited == set(numbers)


@FAMILY
def test_a_layout_has_the_components_and_classes_that_were_seen(family, hub):
    for repository in hub.repositories:
        index = repository.files.get(INDEX)
        if index is None:
            continue
        named = {name: entry[1] for name, entry in index.what.items() if isinstance(entry, list)}
        assert index.what["_class_name"] == family.layout.pipeline and family.layout.index == INDEX
        assert set(named) <= set(family.layout.components)
        missing = set(family.layout.components) - set(named)
        assert not missing or repository.name == "black-forest-labs/FLUX.2-klein-4B" and missing == {"vae"}, missing
        for component, kind in named.items():
            assert kind in family.layout.components[component]
            assert repository.class_of(component) == kind
        assert set(repository.weights) <= set(family.layout.with_weights)


def test_of_every_pipeline_with_an_index_of_its_own_one_was_seen():
    seen = {hub.family for _, hub in HUBS if any(INDEX in one.files for one in hub.repositories)}
    assert {hub.family for family, hub in HUBS if family.layout.index == INDEX} == seen


@pytest.mark.parametrize("name", REPOSITORIES)
def test_counts_are_of_the_published_configuration_on_the_meta_device(name):
    family, repository = REPOSITORIES[name]
    found = counted(family, repository)
    if TRANSFORMER not in repository.files:
        assert found is None and protocol_of(family, repository) is None
        return
    config = repository.files[TRANSFORMER].what
    assert found.attention + found.mlp == sum(site.channels for site in found.sites) // 16
    assert found.heads == sum(site.attention_channels // site.head_dim for site in found.sites)
    if repository.size:  # the card's own number, as it rounds it
        assert found.weights / 1e9 == pytest.approx(repository.size.what, rel=0.04)
    layers = next(option for option in ("num_layers", "n_layers") if option in config)
    deeper = replace(
        repository, files=repository.files | {TRANSFORMER: Seen(config | {layers: config[layers] + 1}, ("x",))}
    )
    more = counted(family, deeper)
    assert more.attention > found.attention and more.weights > found.weights


def test_the_published_geometry_of_klein_has_the_published_units():
    found = counted(*REPOSITORIES["black-forest-labs/FLUX.2-klein-base-4B"])
    assert (found.attention + found.mlp, found.heads, len(found.sites)) == (16_320, 600, 25)
    assert counted(*REPOSITORIES["black-forest-labs/flux-3-image-klein"]).heads == 43 * 24


@pytest.mark.parametrize(
    ("name", "steps", "guidance"),
    [
        ("black-forest-labs/FLUX.2-klein-base-4B", 14, 4.0),
        ("black-forest-labs/FLUX.2-klein-4B", 4, 1.0),
        ("black-forest-labs/FLUX.1-schnell", 4, 0.0),
        ("Tongyi-MAI/Z-Image-Turbo", 8, 0.0),
        ("Tongyi-MAI/Z-Image", 50, 4.0),
        ("black-forest-labs/flux-3-image-klein", 16, 1.0),
    ],
)
def test_a_protocol_follows_from_the_published_files(name, steps, guidance):
    protocol = protocol_of(*REPOSITORIES[name])
    assert (protocol.generation_steps, protocol.generation_guidance) == (steps, guidance)


def test_what_works_names_tests_that_are_there():
    assert set(ASKED.values()) - {None} == set(REFUSABLE)
    assert set(OF_THE_ENGINE) <= set(ASKED)
    named = [test for tests in OF_THE_ENGINE.values() for test in tests]
    for family, hub in HUBS:
        assert set(hub.shown) <= set(ASKED) and hub.text_shown
        refused = {what for what, name in ASKED.items() if name in family.layout.refused}
        assert not refused & set(hub.shown), "what is refused is not shown to work"
        named += [test for tests in (*hub.shown.values(), hub.text_shown) for test in tests]
    for test in named:
        file, _, function = test.partition("::")
        assert re.search(rf"^def {function}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE), test


def test_a_refusal_is_the_layouts_own_and_has_its_reason():
    lines = "\n".join(work_lines(HUBS))
    for family, hub in HUBS:
        for reason in family.layout.refused.values():
            assert f"{hub.family}: {reason}." in lines
    refused = FAMILIES[0].layout.refused
    assert not refused and "no (5)" not in lines
    family = FAMILIES[0].__class__()
    family.layout = replace(family.layout, refused={"LoRA": "it is too small"})
    (row,) = [line for line in work_lines([(family, HUBS[0][1])]) if line.startswith("| `--lora`")]
    assert row == "| `--lora` | no (1) |"


def test_nothing_that_measures_reads_the_data():
    """They are no part of an ordinary run: the page alone imports them, and the command that prints it that."""
    readers = {}
    for file in (ROOT / "fixtures").rglob("*.py"):
        source = file.read_text()
        for module in imported(source) if re.search(r"\b(hub|published|models_page)\b", source) else ():
            readers.setdefault(module, set()).add(file.relative_to(ROOT / "fixtures").as_posix())
    data = {f"models/{Path(type(family).__module__.replace('.', '/')).parent.name}/hub.py" for family in FAMILIES}
    assert readers["fixtures.models.hub"] == {*data, "models/models_page.py", "models/published.py"}
    assert readers["fixtures.models.published"] == {"models/models_page.py"}
    assert readers["fixtures.models.models_page"] == {"__main__.py"}


def test_files_are_numbered_as_the_libraries_number_them():
    assert shards("model", 1) == ("model.safetensors",)
    assert shards("model", 12)[-1] == "model-00012-of-00012.safetensors" and len(shards("model", 12)) == 12
