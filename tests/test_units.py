import pytest
import torch
from diffusers import Flux2Transformer2DModel

from fixtures.common.errors import ProbeError
from fixtures.models.flux2_klein.sites import find_sites
from fixtures.models.units import attention_heads, channel_groups


@pytest.fixture(scope="module")
def klein_sites():
    with torch.device("meta"):
        transformer = Flux2Transformer2DModel(
            num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680, guidance_embeds=False
        )
    return find_sites(transformer)


def test_klein_has_the_published_number_of_channel_groups(klein_sites):
    units = channel_groups(klein_sites).units
    assert len(units) == 16_320
    assert sum(unit.kind == "mlp" for unit in units) == 11_520
    per_block = {block: sum(unit.block == block for unit in units) for block in ("joint[0]", "single[19]")}
    assert per_block == {"joint[0]": 192, "single[19]": 768}


def test_klein_has_600_attention_heads(klein_sites):
    heads = attention_heads(klein_sites)
    assert len(heads.units) == 600
    assert heads.groups.shape == (600, 8)


def test_heads_are_made_of_the_channel_groups_that_they_cover(klein_sites):
    groups, heads = channel_groups(klein_sites), attention_heads(klein_sites)
    for head, members in zip(heads.units, heads.groups, strict=True):
        covered = [groups.units[index] for index in members]
        assert {unit.site for unit in covered} == {head.site}
        assert {unit.kind for unit in covered} == {"attention"}
        assert (covered[0].start, covered[-1].stop) == (head.start, head.stop)


def test_channel_groups_partition_every_site(klein_sites):
    units = channel_groups(klein_sites).units
    for site in klein_sites:
        slices = [(unit.start, unit.stop) for unit in units if unit.site == site.name]
        assert [start for start, _ in slices] == [0, *[stop for _, stop in slices[:-1]]]
        assert slices[-1][1] == site.channels


def test_streams_and_blocks_are_labelled(klein_sites):
    assert [site.block for site in klein_sites[:6]] == [*(f"joint[{i}]" for i in range(5)), "single[0]"]
    assert {site.stream for site in klein_sites[:5]} == {"image"}
    assert {site.stream for site in klein_sites[5:]} == {"text+image"}


def test_a_width_that_16_does_not_divide_is_refused():
    with torch.device("meta"):
        transformer = Flux2Transformer2DModel(
            num_layers=1, num_single_layers=1, num_attention_heads=3, attention_head_dim=24, axes_dims_rope=(6, 6, 6, 6)
        )
    with pytest.raises(ProbeError, match=r"transformer_blocks\.0\.attn\.to_out\.0: .* multiple of 16"):
        find_sites(transformer)
