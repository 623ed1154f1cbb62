"""How well each statistic tells a concept from none.

Asks all of them, and all rungs, of the labelled sets of `stimuli/ground_truth`, on klein-mini, klein-mini+arrow and
untrained twins, and writes `score.json` there.
"""

import argparse
import time
from pathlib import Path

from fixtures.common.files import write_json
from fixtures.klein_mini.truth.record import read_behaviour
from fixtures.klein_mini.truth.score import score_sets
from fixtures.klein_mini.truth.score_table import score_table
from fixtures.models.model import Model
from fixtures.session.options import resolve_settings

ROOT = Path(__file__).parents[1]
MODELS = ("klein-mini", "klein-mini+arrow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N")
    parser.add_argument("--store", help="folder of stored activations (default: the user's cache folder)")
    parser.add_argument("--twins", default="3", help="untrained twins of each kind")
    parser.add_argument("--sets", nargs="+", help="names of the sets (default: all that have a label)")
    parser.add_argument("--folder", type=Path, default=ROOT / "stimuli" / "ground_truth", help="with behaviour.json")
    parser.add_argument("--out", type=Path, help="the record (default: score.json in the folder)")
    chosen = parser.parse_args()
    options = {"device": chosen.device, "dtype": "float32", "store": chosen.store, "twins": chosen.twins}
    models = [Model(resolve_settings(options | {"model": name}, {}, ROOT), print) for name in MODELS]
    started = time.monotonic()
    score = score_sets(models, read_behaviour(chosen.folder / "behaviour.json"), chosen.folder, chosen.sets, _progress)
    write_json(chosen.out or chosen.folder / "score.json", score)
    print(score_table(score), end="")
    print(f"\n{len(score['sets'])} sets in {time.monotonic() - started:.0f} s")


def _progress(what: str):
    def show(done: int, total: int) -> None:
        if done == total:
            print(f"{what}: {total}", flush=True)

    return show


if __name__ == "__main__":
    main()
