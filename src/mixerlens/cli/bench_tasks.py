"""``mixerlens bench-tasks``: specifications trained on tasks, compared over seeds."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..figures import check_drawable
from .options import Json
from .output import plain, print_json, progress, show, table

if TYPE_CHECKING:
    from ..sweep import Finished, Sweep
    from ..sweep.summary import Summary


def bench_tasks(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC...",
            help="A preset's name or a .yaml, .toml or .json file; several joined by + take turns in the layers.",
            show_default=False,
        ),
    ],
    tasks: Annotated[str, typer.Option(help="Tasks, for example recall,parity.", metavar="T,T", show_default=False)],
    seeds: Annotated[str, typer.Option(help="Seeds of weights and data.", metavar="N,N")] = "0,1,2",
    grid: Annotated[
        list[str] | None,
        typer.Option(
            help="Values to choose from by validation, lr=1e-3,3e-3; also wd, batch, steps, warmup, clip.",
            metavar="NAME=V,V",
            show_default="lr=3e-3",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = 400,
    batch: Annotated[int, typer.Option(help="Sequences a step.")] = 32,
    layers: Annotated[int, typer.Option(help="Blocks of the model.")] = 2,
    features: Annotated[int, typer.Option(help="Its width.")] = 64,
    mlp_ratio: Annotated[float, typer.Option(help="Hidden width of its MLPs over features, 0 for none.")] = 2.0,
    positions: Annotated[str, typer.Option(help="Position embeddings: none or learned.")] = "none",
    size: Annotated[str, typer.Option(help="Sizes of the tasks: small or published.")] = "small",
    task_option: Annotated[
        list[str] | None,
        typer.Option(help="An option of all tasks or of one: length=32, mqar.pairs=4.", metavar="[TASK.]NAME=VALUE"),
    ] = None,
    looks: Annotated[int, typer.Option(help="Times the validation examples are looked at.")] = 10,
    held: Annotated[int, typer.Option(help="Validation examples.")] = 256,
    tested: Annotated[int, typer.Option(help="Test examples.")] = 1024,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the finished runs; a second call goes on there.")
    ] = Path("reports", "bench-tasks"),
    keep: Annotated[
        Path | None,
        typer.Option(help="Also keep every trained model below this folder, to be opened.", show_default=False),
    ] = None,
    engine: Annotated[str, typer.Option(help="local: this machine. ray: a Ray cluster.")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="Runs at a time.", show_default="1; ray: every core of the cluster")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Of the Ray cluster: local, auto or host:port.", show_default="RAY_ADDRESS, else local"),
    ] = None,
    stored: Annotated[bool, typer.Option("--stored", help="Compute nothing: show what is stored.")] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the accuracies to this .png, .pdf or .svg.", show_default=False)
    ] = None,
    json: Json = False,
) -> bool:
    """Train specifications on tasks and compare them over seeds.

    Every finished run is stored at once; an interrupted sweep goes on with the same command. A run that ends with an
    error is named, and the exit code is 1 then.
    """
    if figure is not None:
        check_drawable(figure)
    if stored and keep is not None:
        raise InputError("--stored trains nothing, and --keep is for models that are trained: drop one of the two")
    from ..sweep import Sweep
    from ..sweep.plan import check, plan, read_grid, read_seeds, read_specs, read_tasks
    from ..sweep.summary import summarize

    values = read_grid(grid or [])
    recipe: dict[str, Any] = {"features": features, "mlp_ratio": mlp_ratio, "positions": positions}
    recipe |= {"steps": steps, "batch": batch, "looks": looks, "held": held, "tested": tested}
    chosen = read_tasks(tasks, size, task_option or [])
    runs = plan(read_specs(specs), chosen, read_seeds(seeds), values, depth=layers, **recipe)
    sweep = Sweep(runs, output, keep=keep)
    if stored:
        found = sweep.stored()
    else:
        check(sweep.runs)
        _again(sweep)
        found = _run(sweep, engine, workers, address, json)
    for line in (*found.refused, *found.failures):
        typer.echo(f"mixerlens: {plain(line)}", err=True)
    there = {row["id"] for row in found.rows}
    if not there:
        if found.failures:  # each is named above; what was asked for is not wrong
            return False
        raise InputError(f"no run of this sweep is stored in {sweep.folder}")
    summary = summarize(found.rows, [config.label for config in sweep.runs if config.id not in there])
    if figure is not None:
        from ..sweep.figure import draw
        from ..tasks import TASKS

        draw(summary, figure, {name: entry.title for name, entry in TASKS.items()})
    kept = [] if sweep.models is None else [(run, sweep.models.path(run)) for run in sweep.runs if run.id in there]
    kept = [(run, path) for run, path in kept if path.exists()]  # not where it failed to be trained again
    if json:
        models = [{"id": run.id, "run": run.label, "folder": str(path)} for run, path in kept]
        print_json(summary.to_json() | ({"models": models} if keep is not None else {}))
    else:
        _show(summary)
        where = f"{summary.runs} of {len(sweep.runs)} runs are stored in {plain(sweep.folder)}"
        show(where if figure is None else f"{where}; figure: {plain(figure)}")
        if kept:
            show(f"{len(kept)} models are kept in {plain(keep)}, for example {plain(kept[0][1].name)}")
    return not found.failures


def _again(sweep: Sweep) -> None:
    """Say before hours of work what is trained again only because its model is wanted."""
    again = sweep.unkept()
    for reason in sorted(set(again.values())):
        count = sum(each == reason for each in again.values())
        told = (
            f"{count} stored {'run is' if count == 1 else 'runs are'} trained again for the model, and stored with it"
        )
        typer.echo(f"mixerlens: {told}: {plain(reason)}", err=True)


def _run(sweep: Sweep, engine: str, workers: int | None, address: str | None, json: bool) -> Finished:
    from rich.markup import escape

    with progress(not json) as display:
        bar = display.add_task("", total=len(sweep.runs))

        def advance(label: str, done: int, total: int) -> None:
            display.update(bar, description=escape(label), completed=done, total=total)

        try:
            with redirect_stdout(sys.stderr):  # Ray talks of workers that died on stdout, which is the result's
                return sweep.run(engine, workers, address, advance)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(sweep.standing()) from None


def _show(summary: Summary) -> None:
    from ..report.grid import Pieces

    columns = ("task", "model", "accuracy", "95 % interval", "chance", *(["chosen"] if summary.grid else []))
    over = f"{len(summary.seeds)} {'seed' if len(summary.seeds) == 1 else 'seeds'}"
    shown = table(
        f"test accuracy, mean over {over}, up to {summary.recipe['tested']} test sequences each",
        *columns,
        right=("accuracy", "95 % interval", "chance"),
    )
    for task in summary.tasks:
        for spec in summary.specs:
            if (cell := summary.cell(spec, task)) is not None:
                chosen = ", ".join(f"{name} {value:g}" for name, value in cell.point.items())
                row = [task, spec, f"{cell.mean:.3f}", f"{cell.low:.3f} to {cell.high:.3f}", f"{cell.chance:.3f}"]
                shown.add_row(*row, *([chosen] if summary.grid else []))
    show(shown)
    if summary.differences:
        title = "differences on the same seeds; each interval is for its pair alone"
        columns = ("task", "model", "less", "difference", "95 % interval", "")
        shown = table(title, *columns, right=("difference", "95 % interval", ""))
        for each in summary.differences:
            names = (Pieces.after(name, "_+-") for name in (each.spec, each.other))
            between = f"{each.low:+.3f} to {each.high:+.3f}"
            shown.add_row(each.task, *names, f"{each.mean:+.3f}", between, each.verdict)
        show(shown)
    for spec in summary.specs:
        if (cell := next((each for each in summary.cells if each.spec == spec), None)) is not None:
            grows = f"a state that grows by {cell.grows_bytes or 0:,} bytes a token"
            state = grows if cell.state_bytes is None else f"a state of {cell.state_bytes:,} bytes"
            show(f"{spec}: {cell.parameters:,} parameters on {cell.task}, {state}")
    for cell in summary.cells:
        if cell.diverged:
            told = f"{cell.diverged} of {len(cell.seeds)} runs diverged; the best look before it counts"
            show(f"{cell.spec} on {cell.task}: {told}")
    for task, shared in {cell.task: cell.shared for cell in summary.cells}.items():
        if shared is not None and len(summary.seeds) > 1:
            show(f"{task}: all seeds are asked from the same {shared:,} test examples, which count once")
    if len(summary.seeds) == 1:
        show("one seed: the intervals are of the test examples alone and say nothing of other seeds")
    if summary.missing:
        show(f"missing: {', '.join(summary.missing[:6])}{', ...' if len(summary.missing) > 6 else ''}")
