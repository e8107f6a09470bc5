"""The pictures of a study: what both domains look like, what was matched, what was learned.

Every function writes one PNG and returns its path. Colours are those of Okabe and Ito (2008), which
colour-blind readers can tell apart, and a method has the same colour in every picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from simreal_agents.evaluation.statistics import wilson_interval
from simreal_envs.errors import UsageError

METHOD_LOOKS = {
    "uot": ("unbalanced OT", "#D55E00"),
    "cotrain": ("co-training", "#0072B2"),
    "mmd": ("MMD", "#CC79A7"),
    "ot": ("balanced OT", "#E69F00"),
    "diagonal": ("diagonal", "#56B4E9"),
    "token": ("domain token", "#999933"),
    "finetune": ("fine-tuning", "#661100"),
    "coral": ("CORAL", "#44AA99"),
    "dann": ("DANN", "#882255"),
    "contrastive": ("contrastive pairs", "#332288"),
    "target": ("target only", "#009E73"),
    "source": ("source only", "#7A7A7A"),
    "expert": ("expert", "#000000"),
}
"""Name and colour of each method, in the order of legends."""

DOMAINS = {"source": ("#0072B2", "o"), "target": ("#E69F00", "^")}
REGIONS = {"in": "in distribution", "ood": "out of distribution", "all": "whole table"}
_SPARE_COLOURS = ("#6699CC", "#AA4466", "#DDCC77", "#117733")
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "figure.dpi": 150,
}


@dataclass(frozen=True)
class SuccessCount:
    """One point of a learning curve: ``successes`` of ``trials`` episodes after ``updates`` updates."""

    method: str
    region: str
    updates: int
    successes: int
    trials: int


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", facecolor="white")
    return path


def _look(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Label and colour of every method, known ones first and in their fixed order."""
    known = [name for name in METHOD_LOOKS if name in methods]
    other = [name for name in dict.fromkeys(methods) if name not in METHOD_LOOKS]
    spare = {name: (name, _SPARE_COLOURS[i % len(_SPARE_COLOURS)]) for i, name in enumerate(other)}
    return {name: METHOD_LOOKS[name] for name in known} | spare


def sample_frames(source: NDArray[np.uint8], target: NDArray[np.uint8], path: Path) -> Path:
    """What the policy sees: one row of source images above one row of target images.

    Args:
        source: (N, H, W, 3) images of the source domain; as many columns are drawn as both have.
        target: (M, H, W, 3) images of the target domain.
    """
    columns = min(len(source), len(target))
    if columns == 0:
        raise UsageError(f"sample_frames needs images of both domains; got {len(source)} and {len(target)}.")
    with matplotlib.rc_context(_STYLE):
        height, width = source.shape[1:3]
        figure = Figure(figsize=(1.6 * columns + 0.4, 3.4 * height / width))
        axes = figure.subplots(2, columns, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.06})
        for row, (domain, images) in zip(axes, (("source", source), ("target", target)), strict=True):
            for ax, image in zip(row, images[:columns], strict=True):
                ax.imshow(image, interpolation="nearest")
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set(visible=True, color="#CCCCCC")
            row[0].set_ylabel(domain, color=DOMAINS[domain][0], fontsize=12, fontweight="bold", labelpad=8)
        return _save(figure, path)


def transport_plan(
    plan: NDArray[np.floating[Any]],
    path: Path,
    source_frames: NDArray[np.integer[Any]] | None = None,
    target_frames: NDArray[np.integer[Any]] | None = None,
) -> Path:
    """How much mass goes from each source frame to each target frame, and how much of each is matched at all.

    Args:
        plan: (n, m) transport plan; a balanced one has rows of mass 1/n and columns of mass 1/m.
        source_frames: (n, 2) episode and time step of each source frame: rows are sorted by them, and a line
            separates episodes. None keeps the order.
        target_frames: the same for columns, (m, 2).
    """
    rows, row_ends = _by_episode_and_time(source_frames, plan.shape[0])
    columns, column_ends = _by_episode_and_time(target_frames, plan.shape[1])
    plan = np.asarray(plan)[np.ix_(rows, columns)]
    order = "by episode and time" if source_frames is not None else "in batch order"
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.6, 6.4))
        grid = figure.add_gridspec(
            2, 3, width_ratios=(6, 1, 0.22), height_ratios=(1, 6), wspace=0.1, hspace=0.06
        )
        ax = figure.add_subplot(grid[1, 0])
        relative = plan * plan.size  # 1 where mass is spread evenly
        image = ax.imshow(relative, aspect="auto", cmap="gist_heat_r", interpolation="nearest", vmin=0)
        for end in row_ends:
            ax.axhline(end - 0.5, color="#9A9A9A", linewidth=0.6)
        for end in column_ends:
            ax.axvline(end - 0.5, color="#9A9A9A", linewidth=0.6)
        ax.set(xlabel=f"target frame ({order})", ylabel=f"source frame ({order})")
        ax.spines[:].set_visible(True)
        top, right = figure.add_subplot(grid[0, 0], sharex=ax), figure.add_subplot(grid[1, 1], sharey=ax)
        _marginals(top, right, plan)
        top.set_title(f"Transport plan: {plan.sum():.0%} of the mass moved", loc="left", pad=8)
        bar = figure.colorbar(image, cax=figure.add_subplot(grid[1, 2]))
        bar.set_label("mass relative to an even spread")
        bar.outline.set_visible(False)  # type: ignore[operator]
        return _save(figure, path)


def _marginals(top: Axes, right: Axes, plan: NDArray[np.floating[Any]]) -> None:
    """How much of each target frame (above) and of each source frame (beside) is matched; 1 is all of it."""
    n, m = plan.shape
    top.bar(np.arange(m), plan.sum(axis=0) * m, width=1.0, color=DOMAINS["target"][0])
    right.barh(np.arange(n), plan.sum(axis=1) * n, height=1.0, color=DOMAINS["source"][0])
    top.axhline(1.0, color="#222222", linewidth=0.8, linestyle=":")
    right.axvline(1.0, color="#222222", linewidth=0.8, linestyle=":")
    top.tick_params(labelbottom=False, bottom=False)
    right.tick_params(labelleft=False, left=False)
    top.set(ylabel="matched", ylim=(0, None))
    right.set(xlabel="matched", xlim=(0, None))


def _by_episode_and_time(
    frames: NDArray[np.integer[Any]] | None, count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order of frames, and the positions at which a new episode starts."""
    if frames is None:
        return np.arange(count), np.empty(0, dtype=np.intp)
    order = np.lexsort((frames[:, 1], frames[:, 0]))
    return order, np.flatnonzero(np.diff(frames[order, 0])) + 1


def features_tsne(
    features: Mapping[str, NDArray[np.floating[Any]]],
    domains: Sequence[str],
    path: Path,
    progress: NDArray[np.floating[Any]] | None = None,
) -> Path:
    """Encoded images of both domains in the plane (t-SNE, van der Maaten and Hinton 2008), a column a method.

    Aligned features mix the domains (upper row) and stay ordered by progress (lower row).

    Args:
        features: for each method, (N, D) features of the same N frames.
        domains: (N,) ``"source"`` or ``"target"``.
        progress: (N,) how far in its episode each frame is, 0 to 1; None leaves the lower row out.
    """
    look = _look(list(features))
    here = {domain: np.asarray(domains) == domain for domain in DOMAINS}
    rows = 1 if progress is None else 2
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.0 * len(look) + 0.6, 3.9 * rows), layout="constrained")
        axes = figure.subplots(rows, len(look), squeeze=False)
        for column, (method, (label, _)) in enumerate(look.items()):
            plane = _plane(features[method])
            axes[0, column].set_title(label)
            for domain, (colour, marker) in DOMAINS.items():
                x, y = plane[here[domain]].T
                dots: Any = {"s": 14, "marker": marker, "linewidths": 0}
                axes[0, column].scatter(x, y, c=colour, alpha=0.65, label=domain, **dots)
                if progress is not None:
                    done = progress[here[domain]]
                    shown = axes[1, column].scatter(x, y, c=done, alpha=0.85, vmin=0, vmax=1, **dots)
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color="#CCCCCC")
            ax.margins(0.06)
        axes[0, 0].set_ylabel("by domain")
        legend = axes[0, 0].get_legend_handles_labels()
        figure.legend(*legend, loc="outside upper right", ncols=2, markerscale=1.8)
        if progress is not None:
            axes[1, 0].set_ylabel("by progress in the episode")
            bar = figure.colorbar(shown, ax=axes[1, :], shrink=0.9, ticks=[0, 0.5, 1])
            bar.ax.set_yticklabels(["start", "middle", "end"])
            bar.outline.set_visible(False)  # type: ignore[operator]
        return _save(figure, path)


def _plane(features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Features (N, D) in the plane (N, 2), by t-SNE."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    values = np.asarray(features, dtype=np.float64)
    perplexity = min(30.0, (len(values) - 1) / 3)
    with threadpool_limits(1):  # its threads wait busily for each other on a machine in use
        plane: NDArray[np.float64] = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(
            values
        )
    return plane


def success_over_updates(
    counts: Sequence[SuccessCount], path: Path, chosen: Mapping[str, int] = MappingProxyType({})
) -> Path:
    """Success rate over training, one panel a region, with 95 % Wilson bands.

    Args:
        chosen: the updates of the checkpoint that is chosen of a method; it gets a ring.
    """
    if not counts:
        raise UsageError("success_over_updates needs at least one evaluated checkpoint.")
    regions = [region for region in REGIONS if any(count.region == region for count in counts)]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.4 * len(regions) + 1.6, 3.6), layout="constrained")
        axes = figure.subplots(1, len(regions), sharex=True, sharey=True, squeeze=False)[0]
        for ax, region in zip(axes, regions, strict=True):
            _learning_curves(ax, [count for count in counts if count.region == region], chosen)
            ax.set(title=REGIONS[region], xlabel="updates", ylim=(-2, 102))
        axes[0].set_ylabel("success (%)")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
        return _save(figure, path)


def _learning_curves(ax: Axes, counts: Sequence[SuccessCount], chosen: Mapping[str, int]) -> None:
    for method, (label, colour) in _look([count.method for count in counts]).items():
        curve = sorted((c for c in counts if c.method == method), key=lambda c: c.updates)
        updates = [c.updates for c in curve]
        bounds = 100 * np.array([wilson_interval(c.successes, c.trials) for c in curve])
        ax.fill_between(updates, bounds[:, 0], bounds[:, 1], color=colour, alpha=0.14, linewidth=0)
        ax.plot(
            updates, [100 * c.successes / c.trials for c in curve], color=colour, label=label, linewidth=1.8,
            marker="o", markersize=4,
        )  # fmt: skip
        for count in (c for c in curve if c.updates == chosen.get(method)):
            rate = 100 * count.successes / count.trials
            ax.plot(count.updates, rate, "o", markersize=10, markerfacecolor="none", color=colour)
    if chosen:
        ax.plot([], [], "o", markersize=10, markerfacecolor="none", color="#222222", label="chosen")
    ax.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
