"""The page `docs/published.md`, made of `systems.toml`."""

from collections.abc import Iterable, Sequence

from innerloop_vos.published.reading import FIGURES, Published, Result

_HEAD = """\
# Published systems

What the papers of LWL and e-OSVOS, and slides on A-GAME, RVOS and COSNet, say of systems for video
object segmentation on DAVIS. Figures are in percent, as printed; where sources differ, each has its
line. Ablations are left out. This page is made of
[systems.toml](../innerloop_vos/published/systems.toml):

```
python -m innerloop_vos.published > docs/published.md
```

Where exactly the same sequences are measured, these figures stand below those of the methods that
run here:

```
innerloop-vos evaluate --methods ridge,lwl-lite,e-osvos --root DAVIS --out runs/table
```

## Systems

"Runs here" says by which `--method`.
"""

_FIGURES = """\
## Figures

FPS: frames per second on the hardware of the source. Online: fine-tuned on the video. Causal:
without looking at later frames. The source `site` has per-frame measures; this prints their
means:

```
python -m benchmarks.reproduce.site_means per_frame.json
```
"""


def page(published: Published) -> str:
    """Write the page.

    Args:
        published: all that is known.

    Returns:
        Markdown.
    """
    systems = [
        [
            system.name,
            ", ".join(f"`{name}`" for name in system.methods),
            system.what or "only its figures are given",
            system.paper or "not in the references of the sources",
        ]
        for system in published.systems
    ]
    parts = [_HEAD, _table(("system", "runs here", "what it does", "paper"), systems), _FIGURES]
    sources = [[f"`{name}`", title] for name, title in published.sources.items()]
    parts.append(_table(("source", ""), sources))
    for split in published.splits:
        of = [result for result in published.results if result.split == split]
        for task in dict.fromkeys(result.task for result in of):
            year = split.dataset.removeprefix("davis")
            parts.append(f"### DAVIS {year}, {split.name}, {task}\n")
            if 0 < len(split.sequences) < 20:  # the others are the benchmark's own lists
                parts.append(f"Means over {', '.join(sorted(split.sequences))}.\n")
            parts.append(_results([result for result in of if result.task == task]))
    return "\n".join(parts)


def _results(results: Sequence[Result]) -> str:
    figures = [name for name in FIGURES if any(name in result.figures for result in results)]
    notes: dict[str, str] = {}
    rows = []
    for result in results:
        if result.note:
            mark = notes.setdefault(result.note, str(len(notes) + 1))
        rows.append(
            [
                result.name + (f" ({mark})" if result.note else ""),
                *(f"{result.figures[n]:.1f}" if n in result.figures else "" for n in figures),
                f"{result.speed:.3g}" if result.speed is not None else "",
                _yes_or_no(result.online),
                _yes_or_no(result.causal),
                f"`{result.source}` {result.where}".strip(),
            ]
        )
    table = _table(("system", *figures, "FPS", "online", "causal", "source"), rows)
    listed = "".join(f"\n({mark}) {note}\n" for note, mark in notes.items())
    return table + listed


def _yes_or_no(value: bool | None) -> str:
    return {None: "", True: "yes", False: "no"}[value]


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, without the columns that are empty."""
    columns = [column for column in zip(head, *rows, strict=True) if any(column[1:])]
    lines = list(zip(*columns, strict=True))
    ruled = [lines[0], ("---",) * len(columns), *lines[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in ruled)
