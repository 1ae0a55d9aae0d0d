"""The catalogue: every saliency and every control as one table, and the reading of `saliency/aggregate`.

To add one of your own, see `register_saliency` and `register_proxy`; `ssnr list proxies` prints this table.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

from ssnr.core.aggregates import AGGREGATES
from ssnr.core.errors import UsageError
from ssnr.core.field import TABLE
from ssnr.core.recipes import Recipe
from ssnr.core.registry import Registry, unknown


@dataclass(frozen=True)
class Saliency:
    """A per-parameter signal.

    Attributes:
        name: as in `name/aggregate`.
        measured: the saliency whose moments hold this one: `snip` is the magnitude of `plain`.
        family: who it shares its passes with: "synflow", "gradient", "noise" (the passes of gradient on images that
            are drawn), "weights" (no pass) or "custom" (`ssnr.scoring.families` has the table).
        data: whether it needs a batch with labels.
        passes: cost, in forward (F), backward (B) and Hessian-vector (H) passes.
        higher_is_better: the direction its authors use.
        formula: S_i in symbols.
        reference: authors and year.
        function: for family "custom", (net, batch) → {parameter name: tensor}.
    """

    name: str
    measured: str
    family: str
    data: bool
    passes: str
    formula: str
    reference: str
    higher_is_better: bool = True
    function: Callable[..., Any] | None = None

    @property
    def is_magnitude(self) -> bool:
        """Whether it is |S| of the saliency that is measured."""
        return self.measured != self.name

    @property
    def draws(self) -> bool:
        """Whether it brings its own images and labels, drawn from the seed."""
        return self.family == "noise"


@dataclass(frozen=True)
class PlainProxy:
    """A training-free score that is not a sum over weights.

    Attributes:
        name: as it is asked for.
        family: "control" (a count), "context" (function of a `Context`, passes shared), "own" (function of network and
            batch) or "device" (measured on this device, while nothing else runs).
        data: whether it needs a batch.
        formula: in symbols, or in words.
        reference: authors and year.
        higher_is_better: the direction its authors use.
        passes: cost, in forward (F) and backward (B) passes.
        function: None for the controls, which a space counts.
        builtin: whether it comes with this package, which lets its errors through.
    """

    name: str
    family: str
    data: bool
    formula: str
    reference: str
    higher_is_better: bool = True
    passes: str = ""
    function: Callable[..., float] | None = None
    builtin: bool = False

    @property
    def control(self) -> bool:
        """Whether it only counts."""
        return self.family == "control"

    @property
    def alone(self) -> bool:
        """Whether it is measured one network at a time, while nothing else runs."""
        return self.family == "device"


SALIENCIES: Registry[Saliency] = Registry("proxy")
PLAIN: Registry[PlainProxy] = Registry("proxy")

for _row in (
    # name        measured     family      data   passes      formula                         reference
    ("synflow", "synflow", "synflow", False, "1F 1B", "|θ ∂R/∂θ|, R = Σ f(1; |θ|)", "Tanaka et al. 2020"),
    ("grasp", "grasp", "gradient", True, "1F 1B 1H", "−θ (H ∂L/∂θ)", "Wang, Zhang & Grosse 2020"),
    ("grasp_abs", "grasp", "gradient", True, "1F 1B 1H", "|θ (H ∂L/∂θ)|", "Wang, Zhang & Grosse 2020"),
    ("snip", "plain", "gradient", True, "1F 1B", "|θ ∂L/∂θ|", "Lee, Ajanthan & Torr 2019"),
    ("plain", "plain", "gradient", True, "1F 1B", "θ ∂L/∂θ", "Mozer & Smolensky 1989"),
    ("grad_norm", "grad_norm", "gradient", True, "1F 1B", "g²/‖g_l‖, g = ∂L/∂θ", "Abdelfattah et al. 2021"),
    ("fisher", "fisher", "gradient", True, "1F 1B", "½ mean_n (Σ_space a ∂L/∂a)², by channel", "Turner et al. 2020"),
    ("magnitude", "magnitude", "weights", False, "none", "|θ|", "Janowsky 1989"),
    ("l2_norm", "l2_norm", "weights", False, "none", "θ²/‖θ_l‖ (sum Σ_l ‖θ_l‖)", "Abdelfattah et al. 2021"),
):  # fmt: skip
    SALIENCIES.add(_row[0], Saliency(*_row))

# The same saliencies without data: standard-normal images and uniform labels, as many as the recipe's `images` says.
NOISE = "_noise"
for _name in ("grasp", "grasp_abs", "snip", "plain"):
    _of = SALIENCIES[_name]
    SALIENCIES.add(
        _name + NOISE,
        replace(_of, name=_name + NOISE, measured=_of.measured + NOISE, family="noise", data=False,
                formula=f"{_of.formula} on drawn images"),
    )  # fmt: skip

for _name, _formula in (
    ("params", "parameters"),
    ("flops", "multiply-accumulates of one image"),
    ("reachable_params", "scored weights on some path from input to output"),
    ("layers", "scored layers on some path from input to output"),
):
    PLAIN.add(_name, PlainProxy(_name, "control", False, _formula, "control"))

for _name, _formula in (
    ("latency", "seconds of a forward pass: median, one sample, one thread"),
    ("memory", "bytes that tensors hold at once in a forward pass of one sample"),
):
    PLAIN.add(_name, PlainProxy(_name, "device", False, _formula, "measured here", higher_is_better=False))

for _of_field in TABLE.values():
    PLAIN.add(
        _of_field.name,
        PlainProxy(
            _of_field.name,
            "context",
            data=_of_field.data,
            formula=_of_field.formula,
            reference=_of_field.reference,
            higher_is_better=_of_field.higher_is_better,
            passes=_of_field.passes,
            function=_of_field.__call__,
            builtin=True,
        ),
    )

CONTROLS = tuple(name for name in PLAIN if PLAIN[name].control)

# Proxies with a name of their own. `noise_ssnr` is what the evidence recommends (docs/evidence.md): snip of one image
# of noise, the layers' signal-to-noise ratios raised to a high power, the sum counted against the network.
NAMED = {"noise_ssnr": "snip_noise/layerwise_ssnr(0.5,8,0.1)"}
# Rules that combine ranks over a population, and the combinations that papers propose; `core.combinations` reads them.
RULES = {
    "rank": "Σ rank",
    "mean_rank": "mean rank",
    "log_rank": "Σ ln(rank/N), the order of the product of ranks",
}
COMBINED = {
    # Lee & Ham, "AZ-NAS", CVPR 2024: its fourth number, complexity, is FLOPs.
    "az_nas": "log_rank(az_nas_expressivity,az_nas_progressivity,az_nas_trainability,flops)",
    "te_nas": "rank(-ntk,linear_regions)",  # Chen, Gong & Wang, ICLR 2021
    # Týbl & Neumann, CVPR 2025: with FLOPs as AZ-NAS has them.
    "vkdnw_agg": "log_rank(vkdnw,jacov,az_nas_expressivity,az_nas_trainability,flops)",
}
# ln swap − (P/1000 − μ)²/σ, P the number of parameters: the logarithm of Peng et al.'s regularised score (ICLR 2024).
REGULARISED = "swap_reg"
# What is scored where no proxy is named, and the paper's own.
HEADLINE = "noise_ssnr"
PAPER = "synflow/layerwise_ssnr"


def entry_of(measured: str) -> Saliency | PlainProxy:
    """The saliency or plain proxy of a name.

    Raises:
        UsageError: there is none.
    """
    return SALIENCIES[measured] if measured in SALIENCIES else PLAIN[measured]


def isomorphic_share(measured: str, recipe: Recipe) -> bool:
    """Whether architectures that are one network but for weights that reach nothing have one value.

    Not what reads weights without a pass, nor a user's own function, nor any recipe that counts idle weights.
    """
    passes = measured in SALIENCIES and SALIENCIES[measured].family in ("synflow", "gradient", "noise")
    return passes and recipe.idle == "exclude"


F = TypeVar("F", bound=Callable[..., Any])


@overload
def register_saliency(function: F) -> F: ...
@overload
def register_saliency(
    *, data: bool = True, reference: str = "", formula: str = "", higher_is_better: bool = True
) -> Callable[[F], F]: ...
def register_saliency(
    function: F | None = None,
    *,
    data: bool = True,
    reference: str = "",
    formula: str = "",
    higher_is_better: bool = True,
) -> F | Callable[[F], F]:
    """Add a saliency under its function's name: `function(net, batch)` → {parameter name: tensor of its shape}.

    Everything else (aggregates, sweeps, studies) works with it at once. With or without parentheses.

    Args:
        function: given where the decorator is written without parentheses.
        data: whether it needs a batch.
        reference: authors and year.
        formula: in symbols; default the first line of the docstring.
        higher_is_better: the direction.

    Raises:
        UsageError: the name is taken.
    """

    def add(own: F) -> F:
        name, summary = _described(own, formula)
        SALIENCIES.add(name, Saliency(name, name, "custom", data, "", summary, reference, higher_is_better, own))
        return own

    return add if function is None else add(function)


@overload
def register_proxy(function: F) -> F: ...
@overload
def register_proxy(
    *, data: bool = True, reference: str = "", formula: str = "", higher_is_better: bool = True
) -> Callable[[F], F]: ...
def register_proxy(
    function: F | None = None,
    *,
    data: bool = True,
    reference: str = "",
    formula: str = "",
    higher_is_better: bool = True,
) -> F | Callable[[F], F]:
    """Add a plain proxy under its function's name: `function(net, batch)` or `function(context)` → one number.

    A function of one argument gets a `Context`: network, batch, loss, recipe, seed, and passes that are shared with
    the other proxies of the call (`ssnr.proxies.capture.capture_of(context)`). Arguments as in `register_saliency`.

    Raises:
        UsageError: the name is taken, or the function takes neither one argument nor two.
    """

    def add(own: F) -> F:
        name, summary = _described(own, formula)
        taken = _arguments(own)
        if taken not in (1, 2):
            raise UsageError(f"proxy {name}: expected {name}(net, batch) or {name}(context), got {taken} arguments")
        family = "context" if taken == 1 else "own"
        PLAIN.add(name, PlainProxy(name, family, data, summary, reference, higher_is_better, function=own))
        return own

    return add if function is None else add(function)


def unregister(name: str) -> None:
    """Take a saliency or proxy of your own out again, so that a notebook can define it anew.

    Raises:
        UsageError: no such name, or one that comes with this package.
    """
    entry = entry_of(name)
    own = entry.function is not None and not (isinstance(entry, PlainProxy) and entry.builtin)
    if not own:
        raise UsageError(f"{name} comes with ssnr and stays")
    (SALIENCIES if isinstance(entry, Saliency) else PLAIN).remove(name)


def own_entries() -> tuple[Saliency | PlainProxy, ...]:
    """Saliencies and proxies that the user registered, to be known in another process too."""
    saliencies = [SALIENCIES[name] for name in SALIENCIES if SALIENCIES[name].function is not None]
    plain = [PLAIN[name] for name in PLAIN if PLAIN[name].function is not None and not PLAIN[name].builtin]
    return (*saliencies, *plain)


def add_entries(entries: Iterable[Saliency | PlainProxy]) -> None:
    """Register what `own_entries` gave elsewhere; what is known here stays."""
    for entry in entries:
        if isinstance(entry, Saliency) and entry.name not in SALIENCIES:
            SALIENCIES.add(entry.name, entry)
        elif isinstance(entry, PlainProxy) and entry.name not in PLAIN:
            PLAIN.add(entry.name, entry)


def _described(function: Callable[..., Any], formula: str) -> tuple[str, str]:
    """Name and formula of a user's function; the name must be free."""
    name = function.__name__
    if name in SALIENCIES or name in PLAIN or name in NAMED or name in COMBINED or name in (*RULES, REGULARISED):
        raise UsageError(f"a proxy named {name!r} is registered already")
    return name, formula or (function.__doc__ or "").strip().split("\n")[0]


def _arguments(function: Callable[..., Any]) -> int:
    """How many positional arguments a function must be given."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


@dataclass(frozen=True)
class Proxy:
    """A parsed proxy: a saliency with an aggregate and its arguments, or a plain one."""

    text: str
    saliency: Saliency | None = None
    aggregate: str = "sum"
    arguments: tuple[float, ...] = ()
    plain: PlainProxy | None = None

    @property
    def measured(self) -> str:
        """What is measured and stored for it."""
        if self.saliency is not None:
            return self.saliency.measured
        assert self.plain is not None
        return self.plain.name

    @property
    def data(self) -> bool:
        """Whether it needs a batch."""
        source = self.saliency or self.plain
        assert source is not None
        return source.data


_TEXT = re.compile(r"\s*(?P<saliency>[\w-]+)\s*(/\s*(?P<aggregate>[\w-]+)\s*(\((?P<arguments>[^()]*)\))?\s*)?")


def parse_proxy(text: str | Proxy) -> Proxy:
    """Read `saliency`, `saliency/aggregate`, `saliency/aggregate(p,q)` or a plain name.

    Raises:
        UsageError: unknown names, with near ones; the wrong number of arguments.

    >>> parse_proxy("grasp_abs/layerwise_ssnr(0.75, 3)").arguments
    (0.75, 3.0)
    >>> parse_proxy("snip").aggregate
    'sum'
    """
    if isinstance(text, Proxy):
        return text
    match = _TEXT.fullmatch(text)
    rule = text.partition("(")[0].strip()
    if rule in COMBINED or (rule in RULES and "(" in text):
        members = f", {COMBINED[rule]}" if rule in COMBINED else ""
        raise UsageError(
            f"proxy {text!r}: a combination of ranks{members}, which one network does not have: "
            f"score its members, then `ssnr correlate`"
        )
    if rule == REGULARISED:
        raise UsageError(f"proxy {text!r}: made of swap and params by a study: score swap, then `ssnr correlate`")
    if match is None:
        raise UsageError(f"proxy {text!r}: expected NAME, SALIENCY/AGGREGATE or SALIENCY/AGGREGATE(p,q)")
    name, aggregate, listed = match["saliency"], match["aggregate"], match["arguments"]
    if name in NAMED:
        if aggregate is not None:
            raise UsageError(f"proxy {text!r}: {name} is {NAMED[name]} already and takes no aggregate")
        return replace(parse_proxy(NAMED[name]), text=name)
    if name in PLAIN:
        if aggregate is not None:
            raise UsageError(f"proxy {text!r}: {name} is one number already and takes no aggregate")
        return Proxy(name, plain=PLAIN[name])
    if name not in SALIENCIES:
        raise unknown("proxy", name, [*NAMED, *SALIENCIES, *PLAIN, *COMBINED])
    if aggregate is None:
        return Proxy(name, SALIENCIES[name])
    entry = AGGREGATES[aggregate]
    try:
        arguments = tuple(float(part) for part in listed.split(",")) if listed and listed.strip() else ()
    except ValueError:
        raise UsageError(f"proxy {text!r}: ({listed}) should be numbers") from None
    if arguments and not entry.required <= len(arguments) <= len(entry.parameters):
        raise UsageError(
            f"proxy {text!r}: {aggregate} takes ({','.join(entry.parameters)}), got {len(arguments)} numbers"
        )
    written = f"({','.join(f'{a:g}' for a in arguments)})" if arguments else ""
    return Proxy(f"{name}/{aggregate}{written}", SALIENCIES[name], aggregate, arguments)


def parse_proxies(texts: Iterable[str | Proxy]) -> tuple[Proxy, ...]:
    """Several, each once, in the order given.

    Raises:
        UsageError: none at all, or one that `parse_proxy` refuses.
    """
    if isinstance(texts, str):
        texts = (texts,)
    parsed = {proxy.text: proxy for proxy in map(parse_proxy, texts)}
    if not parsed:
        raise UsageError("no proxy asked for; for example noise_ssnr or synflow/layerwise_ssnr (`ssnr list proxies`)")
    return tuple(parsed.values())
