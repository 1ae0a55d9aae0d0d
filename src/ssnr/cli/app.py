"""The command table; what the commands do is in `_commands.py`, which is imported when one runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from ssnr.core.errors import Interrupted, SsnrError, UsageError

app = typer.Typer(
    name="ssnr",
    help="Rank neural networks before they are trained, by the signal-to-noise ratio of their saliency.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# `Optional` rather than `| None`: typer evaluates these on Python 3.10 too.
Proxies = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("-p", "--proxy", help="SALIENCY/AGGREGATE or a plain name; several allowed. See `ssnr list proxies`."),
]
Seed = Annotated[int, typer.Option(help="Of initialisation, batches and samples.")]
RecipeName = Annotated[str, typer.Option("--recipe", help="The choices that change numbers. See `ssnr list recipes`.")]
Dtype = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="float64 or float32 for data-driven passes (shorthand for --recipe 'NAME(dtype=…)')."),
]
Init = Annotated[
    str,
    typer.Option(
        help="independent: every network draws its own weights; shared: all have a supernet's, and synflow is scored "
        "in batches of many networks, several times faster."
    ),
]
Data = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="noise, cifar10:DIR or folder:DIR; default CIFAR-10 where SSNR_CIFAR10 names it, else seeded noise."
    ),
]
TARGETS = "SPACE:ARCH, timm:NAME, torchvision:NAME, hf:NAME, pkg.mod:factory, file.py:factory"
InputShape = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="One input without the batch dimension, such as 3,32,32."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
BatchSize = Annotated[int, typer.Option(help="Samples in the batch of data-driven proxies.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
StorePath = Annotated[Path, typer.Option(help="SQLite file with what was measured; created, or resumed.")]
Out = Annotated[Path, typer.Option(help="Folder for pictures and tables.")]
Workers = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Worker processes of one thread each; default one a core."),
]


def _version(asked: bool) -> None:
    if asked:
        from ssnr._version import __version__

        typer.echo(f"ssnr {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Options that stand before any command; `main` has read --debug already."""


CHECK = "Run passes again, and say if they differ; hold grasp's second derivatives against differences."


@app.command()
def score(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="TARGET…", help=TARGETS),
    ],
    proxy: Proxies = None,
    input_shape: InputShape = None,
    data: Data = None,
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    recipe: RecipeName = "seed",
    dtype: Dtype = None,
    device: Device = "auto",
    per_layer: Annotated[bool, typer.Option("--per-layer", help="Show every layer.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help=CHECK),
    ] = False,
    json: Json = False,
) -> None:
    """Score networks; nothing is trained, nothing is changed."""
    from ssnr.cli import commands as _commands

    _commands.score(
        targets, proxy, input_shape=input_shape, data=data, batch_size=batch_size, seed=seed, recipe=recipe,
        dtype=dtype, device=device, per_layer=per_layer, as_json=json, check=check,
    )  # fmt: skip


@app.command()
def sweep(
    space: Annotated[str, typer.Argument(help="A search space, such as nasbench201 or nasbench201/cifar100.")],
    proxy: Proxies = None,
    archs: Annotated[str, typer.Option(help="all, a number drawn from the seed, or a file with one a line.")] = "all",
    store: StorePath = Path("ssnr.sqlite"),
    workers: Workers = None,
    seed: Seed = 0,
    data: Data = None,
    batch_size: BatchSize = 64,
    recipe: RecipeName = "seed",
    dtype: Dtype = None,
    init: Init = "independent",
    executor: Annotated[str, typer.Option(help="Where workers run: local.")] = "local",
    json: Json = False,
) -> None:
    """Score many architectures into a store; the same command again does only what is missing."""
    from ssnr.cli import commands as _commands

    _commands.sweep(
        space, proxy, archs=archs, store=store, workers=workers, seed=seed, data=data, batch_size=batch_size,
        recipe=recipe, dtype=dtype, init=init, executor=executor, as_json=json,
    )  # fmt: skip


@app.command()
def correlate(
    store: Annotated[Path, typer.Argument(help="The file that a sweep wrote.")],
    benchmark: Annotated[str, typer.Option(help="See `ssnr list benchmarks`, or a CSV with architecture, accuracy.")],
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Which table of the benchmark, such as nats, naslib or analog."),
    ] = None,
    proxy: Proxies = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="A LaTeX table on stdout.")] = False,
) -> None:
    """Rank correlations of stored scores with measured accuracies, beside the controls; scores nothing again."""
    from ssnr.cli import commands as _commands

    _commands.correlate(store, benchmark, source=source, proxies=proxy, as_json=json, csv=csv, latex=latex)


@app.command()
def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            help="fig1: accuracy and scores while VGG-16 is pruned. "
            "fig2: score against accuracy, all of NAS-Bench-201. "
            "table1: Kendall τ on NAS-Bench-201, NAS-Bench-301 and TransNAS-Bench-101 micro."
        ),
    ],
    out: Out = Path("out"),
    store: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Store to use or resume; default nasbench201.sqlite or table1.sqlite in --out."),
    ] = None,
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="fig2: which accuracies, nats, naslib or analog; default nats where its file is, else analog."
        ),
    ] = None,
    saliency: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="table1: rows, several allowed. fig1: by which to prune and to score. Default synflow."),
    ] = None,
    column: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="table1: only these columns, such as nb301 or class_scene; several allowed."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="table1: initialisations to average over, 0 … K−1.")] = 1,
    dtype: Dtype = None,
    init: Init = "independent",
    workers: Workers = None,
    quick: Annotated[bool, typer.Option("--quick", help="fig1: a slim network and few epochs, minutes.")] = False,
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="fig1: cifar10:DIR; default the folder that SSNR_CIFAR10 names."),
    ] = None,
    epochs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="fig1: of each training; default 20, with --quick 4."),
    ] = None,
    density: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option("-d", "--density", help="fig1: shares of the weights to keep; several; default 1 … 0.001."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fig1: of trainings, float32 or bfloat16 (faster where the processor has it).")
    ] = "float32",
    device: Annotated[str, typer.Option(help="fig1: where to train; auto, cpu, cuda …")] = "auto",
    seed: Annotated[int, typer.Option(help="fig1, fig2: of the initialisation.")] = 0,
    json: Json = False,
) -> None:
    """Repeat a result of the paper on real data: picture, table, paper value beside own value."""
    from ssnr.cli import commands as _commands
    from ssnr.cli import figures as _figures

    if what == "fig1":
        _figures.fig1(
            out=out, quick=quick, data=data, device=_commands.device_of(device), epochs=epochs, densities=density,
            precision=precision, saliencies=saliency, seed=seed, as_json=json,
        )  # fmt: skip
        return
    _commands.reproduce(
        what, out=out, store=store, source=source, workers=workers, seed=seed, as_json=json, saliencies=saliency,
        columns=column, seeds=seeds, dtype=dtype, init=init,
    )  # fmt: skip


@app.command()
def prune(
    target: Annotated[str, typer.Argument(metavar="TARGET", help=TARGETS)],
    saliency: Annotated[
        str,
        typer.Option(
            "-s",
            "--saliency",
            help="Which weights count: synflow, snip, grasp, magnitude, random, or any "
            "other saliency of `ssnr list proxies`.",
        ),
    ] = "synflow",
    density: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option(
            "-d", "--density", help="Share of the weights to keep, above 0, at most 1; several allowed; default 0.1."
        ),
    ] = None,
    scope: Annotated[
        str, typer.Option(help="global: weights of all layers compete; layer: every layer keeps the density.")
    ] = "global",
    rounds: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            help="How often to compute the saliency on what is left, the density falling exponentially; "
            "default 100 for synflow, 1 for others."
        ),
    ] = None,
    exclude: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A layer or module to leave dense, such as classifier; several allowed."),
    ] = None,
    input_shape: InputShape = None,
    data: Data = None,
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    recipe: RecipeName = "seed",
    device: Device = "auto",
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="File of masks to write; with several densities, NAME-DENSITY.pt each. The table goes to NAME.csv.",
        ),
    ] = Path("masks.pt"),
    curve: Annotated[
        bool,
        typer.Option(
            "--curve", help="Instead of masks: accuracy on CIFAR-10 and scores at each density (default 1 … 0.001)."
        ),
    ] = False,
    epochs: Annotated[int, typer.Option(help="--curve: train the network first; 0 takes its weights as they are.")] = 0,
    finetune_epochs: Annotated[int, typer.Option(help="--curve: train a little behind each pruning.")] = 0,
    precision: Annotated[str, typer.Option(help="--curve: of trainings, float32 or bfloat16.")] = "float32",
    json: Json = False,
) -> None:
    """Choose which weights to keep, by saliency; write the masks, show how many each layer keeps.

    Masks are plain bool tensors by parameter name: `ssnr.pruning.apply(net, ssnr.Masks.load("masks.pt"))` puts them on
    a network through `torch.nn.utils.prune`.
    """
    if curve:
        from ssnr.cli import commands as _commands
        from ssnr.cli import figures as _figures
        from ssnr.paper.pruning_runs import Ways

        ways = Ways(
            epochs=epochs, finetune_epochs=finetune_epochs, precision=precision, saliency=saliency, scope=scope,
            rounds=rounds, exclude=tuple(exclude or ()), recipe=str(_commands.recipe_of(recipe, None)), seed=seed,
            device=_commands.device_of(device),
        )  # fmt: skip
        _figures.curve(
            target, ways, densities=density, input_shape=input_shape, data=data, batch_size=batch_size, out=out,
            as_json=json,
        )  # fmt: skip
        return
    from ssnr.cli import prune as _pruning_commands

    _pruning_commands.prune(
        target, saliency=saliency, densities=density or [0.1], scope=scope, rounds=rounds, exclude=exclude or [],
        input_shape=input_shape, data=data, batch_size=batch_size, seed=seed, recipe=recipe, device=device, out=out,
        as_json=json,
    )  # fmt: skip


@app.command()
def fetch(
    benchmark: Annotated[str, typer.Argument(help="See `ssnr list benchmarks`.")],
    json: Json = False,
) -> None:
    """Find a benchmark's files, or download them, and check their hashes."""
    from ssnr.cli import commands as _commands

    _commands.fetch(benchmark, as_json=json)


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="proxies, aggregates, spaces, benchmarks or recipes")] = "proxies",
    json: Json = False,
) -> None:
    """What there is, by name."""
    from ssnr.cli import listing as _listing

    _listing.list_(kind, as_json=json)


INTERRUPTED = 130
# typer's own errors, wherever the installed version keeps them.
_WrongUsage: type[Exception] = typer.BadParameter.__bases__[0]


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 wrong usage, 130 interrupted, 1 anything else."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    try:
        code = app(arguments, standalone_mode=False)
        if code == INTERRUPTED:
            _say("interrupted")
        sys.exit(code if isinstance(code, int) else 0)
    except _WrongUsage as error:
        _say(error.format_message() if hasattr(error, "format_message") else str(error))
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort, Interrupted) as error:
        _say(str(error) or "interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe left (`ssnr … | head`): nobody is there to be told.
        sys.stderr.close()
        sys.exit(1)
    except SsnrError as error:
        if debug:
            raise
        _say(str(error))
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except Exception as error:
        if debug:
            raise
        _say(f"unexpected {type(error).__name__}: {' '.join(str(error).split())} (--debug shows where)")
        sys.exit(1)


def _say(message: str) -> None:
    sys.stderr.write(f"ssnr: {message}\n")
