"""Prints the table of ``docs/figures/policies.json``, which ``benchmarks/policies.py`` measures, as Markdown.

    python benchmarks/policies_table.py

A cell shows the successes of all measured training seeds, with Wilson's 95 % interval, and each seed's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from policies import REGIONS, read_table

from simreal_agents.evaluation.statistics import wilson_interval


def counted(rows: Iterable[dict[str, Any]], region: str) -> str:
    """Successes of several trainings: ``190/200 = 95 % [91, 97] (97, 93)``."""
    each = [row["solved"][region] for row in rows]
    trials = sum(row["episodes"] for row in rows)
    low, high = wilson_interval(sum(each), trials)
    share = f"{sum(each)}/{trials} = {sum(each) / trials:.0%} [{100 * low:.0f}, {100 * high:.0f}]"
    return share.replace("%", " %") + (f" ({', '.join(map(str, each))})" if len(each) > 1 else "")


def main() -> None:
    together: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in sorted(read_table().values(), key=lambda row: row["seed"]):
        key = (row["task"], row["obs"], row["head"], row["method"])
        together.setdefault(key, []).append(row)
    print(
        "| task | reads | head | method | updates | in distribution | out of distribution | training, min |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for key, rows in sorted(together.items()):
        minutes = sum(row["train_wall_s"] for row in rows) / len(rows) / 60
        cells = [*key, f"{rows[0]['updates']:,}", *(counted(rows, r) for r in REGIONS), f"{minutes:.0f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
