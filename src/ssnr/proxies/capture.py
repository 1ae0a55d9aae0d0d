"""The passes of one network that proxies share: each runs once, when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ssnr.core.errors import ScoringError, UsageError, kind_of
from ssnr.core.field import TABLE
from ssnr.core.recipes import Recipe
from ssnr.data import Batch
from ssnr.interpret.differentiable import (
    channels_last_is_faster,
    in_channels_last,
    in_order,
    in_the_faster_layout,
)
from ssnr.networks.calling import Forward, outputs_of
from ssnr.networks.model import Model
from ssnr.networks.settings import seed_everything
from ssnr.networks.trees import flatten, map_tensors, mapped, to_device
from ssnr.proxies.per_sample import PerSample, Take, Uses
from ssnr.proxies.watch import KINDS, Layer, Observed, Watch
from ssnr.saliencies.losses import loss_of
from ssnr.saliencies.signal import Loss, followed, set_mode

Change = Callable[[dict[str, Tensor]], None]
Mode = TypeVar("Mode", bound=TorchFunctionMode)
T = TypeVar("T")
# Of the inputs and the weights of a pass by name: what is to be found out, and the context in which the network runs.
Look = Callable[[Any, dict[str, Tensor]], tuple[T, AbstractContextManager[Any]]]


@dataclass
class Context:
    """What a plain proxy is handed: the network, what to call it with, and a cache that all of one call share.

    `asked` names the proxies of the call, so that passes keep what these read; without, they keep everything.
    """

    model: Model
    net: nn.Module
    batch: Batch | None
    loss: Loss | None
    forward: Forward | None
    recipe: Recipe
    seed: int
    input_shape: tuple[int, ...] | None
    cache: dict[str, Any]
    asked: tuple[str, ...] = ()


class Capture:
    """The passes of one network that plain proxies share; each runs when it is first asked for.

    The network's own tensors are never touched: passes run on copies (`Model.call`).
    """

    def __init__(
        self, model: Model, batch: Batch | None, loss: Loss | None, input_shape: tuple[int, ...] | None = None,
        seed: int = 0, kinds: frozenset[str] = KINDS,
    ) -> None:  # fmt: skip
        self.model, self.batch, self.loss = model, batch, loss
        self.input_shape = input_shape
        self.seed = seed
        self.dtype = getattr(torch, model.recipe.dtype)
        self._kinds = kinds
        self._data: Observed | None = None
        # Images with their channels last, where the CPU's float32 is faster so, until the network does not allow it.
        self._channels_last = channels_last_is_faster(model.recipe.dtype, model.device)

    @property
    def samples(self) -> int:
        """How many samples the batch has."""
        tensors = _tensors(self._batch.inputs)
        if not tensors or not tensors[0].dim():
            raise ScoringError("the batch holds no tensor with a batch dimension")
        return tensors[0].shape[0]

    @property
    def _batch(self) -> Batch:
        if self.batch is None:
            raise UsageError("this proxy needs a batch: score(net, inputs, …), or --data on the command line")
        return self.batch

    def pairs(self, name: str) -> int:
        """How many samples, for a proxy that compares them.

        Raises:
            ScoringError: fewer than two.
        """
        if self.samples < 2:
            raise ScoringError(f"{name} compares samples: got a batch of {self.samples}, expected 2 or more")
        return self.samples

    def forward(
        self, inputs: Any, *, change: Change | None = None, weights: bool = False, kinds: Collection[str] = (),
        watch: bool = True, mode: str | None = None, layer: Layer | None = None, every: bool = False,
        features: bool = True, sources: bool = True,
    ) -> tuple[Observed, dict[str, Tensor]]:  # fmt: skip
        """One pass on `inputs`, at copies of the weights that `change` may write to.

        Args:
            inputs: what the network takes.
            change: writes to the copies before the pass; again, where the pass is tried in another layout of memory.
            weights: whether to build a graph of the scored weights.
            kinds: what to keep, as of `Watch`.
            watch: whether to record anything.
            mode: train or eval; by default the recipe's.
            layer: makes a number of the output of each scored weight's product.
            every: whether there are gradients of every parameter, not only of scored weights.
            features: whether to keep what is pooled, as of `Watch`.
            sources: whether to build a graph of the inputs.

        Raises:
            ScoringError: the pass raised.
        """
        model = self.model
        wanted = model.parameters() if every else model.scored

        def look(given: Any, leaves: dict[str, Tensor]) -> tuple[Observed, AbstractContextManager[Any]]:
            found = _tensors(given)
            seen = Observed(found[0].shape[0] if found and found[0].dim() else 1)
            names = {tensor.untyped_storage().data_ptr(): name for name, tensor in leaves.items()}
            watching = Watch(seen, names, kinds=kinds, generator=self.generator(), layer=layer, features=features)
            return seen, watching if watch else nullcontext()

        seen, output, leaves, leading = self._pass(
            inputs, wanted, look, change=change, weights=weights, mode=mode, sources=sources
        )
        seen.output, seen.sources = output, leading
        return seen, leaves

    def _pass(
        self, inputs: Any, wanted: Iterable[str], look: Look[T], *, change: Change | None = None, weights: bool = True,
        mode: str | None = None, sources: bool = True,
    ) -> tuple[T, Any, dict[str, Tensor], Sequence[Tensor]]:  # fmt: skip
        """A pass in the faster layout of memory, or else in the usual one: what looked on, output, weights, inputs."""
        once = partial(self._pass_once, inputs, wanted, look, change, weights, mode, sources)
        return in_the_faster_layout(once, faster=self._channels_last)

    def _pass_once(
        self,
        inputs: Any,
        wanted: Iterable[str],
        look: Look[T],
        change: Change | None,
        weights: bool,
        mode: str | None,
        sources: bool,
        channels_last: bool,
    ) -> tuple[T, Any, dict[str, Tensor], Sequence[Tensor]]:
        model, self._channels_last = self.model, channels_last
        copies = model.weights(self.dtype)
        if change is not None:
            with torch.no_grad():
                change(copies)
        given = to_device(inputs, model.device, self.dtype)
        if channels_last:
            copies, given = in_channels_last(copies), in_channels_last(given)
        leaves = {name: copies[name].requires_grad_(weights) for name in wanted if name in copies}
        set_mode(model, mode or model.recipe.mode)
        seed_everything(self.seed)  # of what a forward pass draws itself
        given, leading = followed(given) if sources else (map_tensors(torch.clone, given), [])
        seen, watching = look(given, leaves)
        with torch.enable_grad(), in_order() if channels_last else nullcontext(), watching:
            output = model.call(copies, given)
        return seen, output, leaves, leading

    def observed(self, kind: str) -> Observed:
        """A pass on the batch that kept this kind, along with whatever else the proxies of this call read."""
        if self._data is None or kind not in self._kinds:
            self._kinds |= {kind}
            self._data = self._look(features=False)
        return self._data

    @property
    def data(self) -> Observed:
        """A pass on the batch, with a graph to the inputs."""
        if self._data is None:
            self._data = self._look(watch=bool(self._kinds))
        return self._data

    def _look(self, *, watch: bool = True, features: bool = True) -> Observed:
        mode = "eval" if self.model.recipe.activations == "eval" else None
        return self.forward(self._batch.inputs, kinds=self._kinds, mode=mode, watch=watch, features=features)[0]

    def codes(self, name: str) -> list[Tensor]:
        """The Boolean codes (N, units) of every activation.

        Raises:
            ScoringError: the network has none.
        """
        codes = self.observed("activations").codes
        if not codes:
            raise ScoringError(f"{name} reads activations (ReLU, GELU, SiLU, …), of which this network has none")
        return codes

    @cached_property
    def jacobian(self) -> Tensor:
        """Gradient of the sum of all outputs with respect to the inputs: (N, entries of one sample), float64.

        Raises:
            ScoringError: no floating-point input, or the output does not depend on it.
        """
        sources = self.data.sources
        if not sources:
            raise ScoringError("input gradients need floating-point inputs, and this network takes only integers")
        total = torch.stack([out.sum() for out in outputs_of(self.data.output)]).sum()
        rows = gradients(total, sources) if total.requires_grad else [None]
        if all(row is None for row in rows):
            raise ScoringError("the output does not depend on the input: there are no input gradients")
        return torch.cat([r.detach().double().reshape(len(r), -1) for r in rows if r is not None], 1)

    def loss_gradients(self, inputs: Any, targets: Any) -> dict[str, Tensor]:
        """∂L/∂θ of every scored weight that the mean loss of these samples depends on."""
        seen, leaves = self.forward(inputs, weights=True, watch=False)
        value = loss_of(seen.output, targets, self.model.device, self.dtype, self.loss, 1.0)
        if not value.requires_grad:
            return {}
        found = gradients(value, list(leaves.values()))
        return {name: g.detach() for name, g in zip(leaves, found, strict=True) if g is not None}

    @cached_property
    def halves(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """`loss_gradients` of the first and of the second half of the batch."""
        middle, batch = self.samples // 2, self._batch
        first, second = slice(0, middle), slice(middle, 2 * middle)
        one, other = (self.loss_gradients(part(batch.inputs, s), part(batch.targets, s)) for s in (first, second))
        return one, other

    def each_sample(self) -> Iterator[dict[str, Tensor]]:
        """`loss_gradients` of each sample alone, as N passes of one."""
        batch = self._batch
        for n in range(self.samples):
            s = slice(n, n + 1)
            with self.of_one_sample():
                found = self.loss_gradients(part(batch.inputs, s), part(batch.targets, s))
            yield found

    @contextmanager
    def of_one_sample(self) -> Iterator[None]:
        """While a pass of one sample runs: says why a batch norm of single values has no statistics."""
        try:
            yield
        except ScoringError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ScoringError(
                "this proxy takes samples one by one, and a batch norm of one value for each channel has no statistics "
                "of one sample; a recipe with mode=eval has running ones"
            ) from error

    def per_sample(self, take: Take, *, of_loss: bool) -> bool:
        """Hands `take` the gradients of all samples, layer by layer, as (N, weights), from one backward pass.

        Args:
            take: gets the name of a layer, and each sample's gradient.
            of_loss: of the mean loss, each sample as in a batch of one; else of the sum of a sample's outputs, with the
                statistics of batch norms as constants.

        Returns:
            Whether every layer was seen; without, what `take` got is not all, and passes of one sample are the way.
        """
        if of_loss and self.loss is not None:
            return False  # nobody knows whether it is a mean over samples
        with self.watched(lambda names: PerSample(names, self.samples, take, alone=of_loss), self.model.scored) as (
            watch,
            output,
            leaves,
            sources,
        ):
            if of_loss:
                value = loss_of(output, self._batch.targets, self.model.device, self.dtype, None, 1.0)
            else:
                value = logits_of(output).sum()
            if not value.requires_grad or not watch.sees_all(value, leaves):
                return False
            gradients(value, [*sources, *watch.roots])
            return watch.finish(value)

    @contextmanager
    def watched(
        self, make: Callable[[dict[int, str]], Mode], wanted: Iterable[str]
    ) -> Iterator[tuple[Mode, Any, dict[str, Tensor], Sequence[Tensor]]]:
        """One pass on the batch under a mode that is made of names by id; mode, output, the weights wanted, inputs."""

        def look(given: Any, leaves: dict[str, Tensor]) -> tuple[Mode, Mode]:
            mode = make({id(leaf): name for name, leaf in leaves.items()})
            return mode, mode

        watch, output, leaves, sources = self._pass(self._batch.inputs, wanted, look)
        try:
            yield watch, output, leaves, sources
        finally:
            if isinstance(watch, Uses):
                watch.close()

    def generator(self) -> torch.Generator:
        """A new generator: what one proxy draws does not depend on which others are measured."""
        return torch.Generator().manual_seed(self.seed)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input.

        Raises:
            UsageError: neither a batch of one tensor nor `input_shape` says it.
        """
        if self.input_shape is not None:
            return tuple(self.input_shape)
        if self.batch is not None and isinstance(self.batch.inputs, Tensor):
            return tuple(self.batch.inputs.shape[1:])
        raise UsageError("this proxy draws its inputs and needs their shape: input_shape=(3, 32, 32)")

    def noise(self, samples: int, generator: torch.Generator, shape: tuple[int, ...] | None = None) -> Tensor:
        """Normal samples of the shape of one input, or of another.

        Raises:
            ScoringError: the batch holds no floating-point numbers, such as tokens.
            UsageError: neither a batch of one tensor nor `input_shape` says that shape.
        """
        given = _tensors(self.batch.inputs) if self.batch is not None else []
        if given and not any(value.is_floating_point() for value in given):
            raise ScoringError("this proxy draws normal inputs, and this network takes only integers")
        drawn = torch.randn((samples, *(shape or self.shape)), generator=generator, dtype=torch.float64)
        return drawn.to(self.dtype)


def capture_of(context: Any) -> Capture:
    """The passes that all plain proxies of one call share."""
    found = context.cache.get("capture")
    if found is None:
        found = context.cache["capture"] = Capture(
            context.model, context.batch, context.loss, context.input_shape, context.seed, _kinds_of(context)
        )
    return found  # type: ignore[no-any-return]


def _kinds_of(context: Any) -> frozenset[str]:
    """What the proxies of a call read of a pass on the batch."""
    asked = getattr(context, "asked", ())
    return KINDS & {TABLE[name].reads for name in asked if name in TABLE} if asked else KINDS


def gradients(value: Tensor, leaves: Sequence[Tensor], **options: Any) -> list[Tensor | None]:
    """`torch.autograd.grad`, its errors as a reason; None where nothing arrives.

    Raises:
        ScoringError: the backward pass raised.
    """
    try:
        return list(torch.autograd.grad(value, leaves, allow_unused=True, **options))
    except (RuntimeError, NotImplementedError) as error:
        said = " ".join(str(error).split())
        raise ScoringError(f"the backward pass raised {type(error).__name__}: {said}", kind_of(error)) from error


def part(value: Any, which: slice) -> Any:
    """Some samples of a nest."""
    if isinstance(value, Tensor):
        return value[which] if value.dim() else value
    return mapped(lambda item: part(item, which), value)


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def collect(item: Any) -> Any:
        if isinstance(item, Tensor):
            found.append(item)
            return item
        return mapped(collect, item)

    collect(value)
    return found


def logits_of(output: Any) -> Tensor:
    """The first floating tensor of an output, one row per sample.

    Raises:
        ScoringError: none.
    """
    return (flatten(output) or outputs_of(output))[0].flatten(1)
