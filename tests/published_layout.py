"""Checkpoints of small weights in the files that the hub has: shards with an index, vocabularies in two files."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file


def shard(component: Path, number: int = 2) -> None:
    """Replace a component's one file of weights by shards with an index, named as both libraries name them."""
    (file,) = component.glob("*.safetensors")
    tensors, places = load_file(file), {}
    names = sorted(tensors)
    for part in range(number):
        shard = f"{file.stem}-{part + 1:05d}-of-{number:05d}.safetensors"
        own = names[part::number]
        save_file({name: tensors[name] for name in own}, component / shard, {"format": "pt"})
        places |= dict.fromkeys(own, shard)
    file.unlink()
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (component / f"{file.stem}.safetensors.index.json").write_text(json.dumps(index))


def edit(file: Path, **entries) -> dict:
    """Set entries of a file of JSON; returns all of them."""
    found = json.loads(file.read_text()) | entries
    file.write_text(json.dumps(found))
    return found


def split_vocabulary(tokenizer: Path) -> None:
    """Vocabulary and merges in files of their own, beside the one that has all."""
    model = json.loads((tokenizer / "tokenizer.json").read_text())["model"]
    (tokenizer / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (tokenizer / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
