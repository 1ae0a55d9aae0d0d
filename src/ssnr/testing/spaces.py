"""What every search space promises, as a test class: derive from it, name the space and a few architectures.

    class TestMine(SpaceContract):
        space = ssnr.get_space("mine")
        archs = ("depth=2", "depth=3")
        bad = (("depth=9", "depth=9: expected 2 or 3"),)

        def changes(self, arch, near):
            return 1

`changes` says by how many choices two neighbours differ.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ssnr
from ssnr.core.errors import ArchitectureError, UsageError
from ssnr.proxies.controls import count
from ssnr.spaces import Space, get_space
from ssnr.spaces.functions.trial import Drawn


def outputs(net: nn.Module, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """The network's answer to one fixed random input."""
    x = torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        out: Tensor = net.eval()(x)
    return out


class SpaceContract:
    """The tests. `archs` are cheap to build, and one of them has operations that reach nothing, where that can be.

    Attributes:
        space: what is tested.
        archs: in the space's own format.
        bad: malformed architectures and the errors they give.
        whole: whether `all` is short enough to list here.
        suggests: whether a trial can choose an architecture.
        changes: (arch, neighbour) → number of elementary changes between them.
    """

    space: ClassVar[Space]
    archs: ClassVar[tuple[str, ...]]
    bad: ClassVar[tuple[tuple[Any, str], ...]]
    whole: ClassVar[bool] = True
    suggests: ClassVar[bool] = True

    def changes(self, arch: str, near: str) -> int:
        raise NotImplementedError

    def some(self, number: int) -> list[str]:
        rng = random.Random(number)
        return [*self.archs, *(self.space.sample(rng) for _ in range(number))]

    def small_shape(self) -> tuple[int, ...]:
        """An input that is cheap and still large enough."""
        return (*self.space.input_shape[:-2], 32, 32)

    # --- strings ---

    def test_the_name_finds_the_space(self) -> None:
        assert get_space(self.space.name).name == self.space.name
        assert self.space.name.partition("/")[0] == self.space.family

    def test_parsing_a_string_gives_it_back(self) -> None:
        for arch in self.some(20):
            assert self.space.parse(arch) == arch
            assert self.space.parse(f"  {arch}\n") == arch

    def test_bad_forms_say_what_was_expected_and_where_they_broke(self) -> None:
        for form, message in self.bad:
            with pytest.raises(ArchitectureError) as caught:
                self.space.parse(form)
            assert str(caught.value) == message
            assert "\n" not in message

    def test_no_form_raises_anything_else(self) -> None:
        rng = random.Random(11)
        forms: list[Any] = [None, 1.5, [], (), {}, "", "[]", "(", "Genotype", [None] * 6, [[0, 1], [2]], "1" * 50, b"|"]
        forms += [[rng.randrange(-2, 6) for _ in range(length)] for length in range(1, 30)]
        for arch in self.archs:
            for _ in range(60):  # one letter more, less or other
                at, letter = rng.randrange(len(arch)), rng.choice("01359~|+-_,([)]' acdnope\\\n\0²")
                forms.append(arch[:at] + rng.choice(["", letter, arch[at] + letter]) + arch[at + 1 :])
        for form in forms:
            try:
                arch = self.space.parse(form)
            except ArchitectureError as error:
                assert str(error)
            else:
                assert self.space.parse(arch) == arch

    # --- the same network ---

    def test_canonical_is_idempotent(self) -> None:
        for arch in self.some(20):
            canonical = self.space.canonical(arch)
            assert self.space.parse(canonical) == self.space.canonical(canonical) == canonical

    def test_twins_are_idempotent_and_cost_no_more(self) -> None:
        for arch in self.some(20):
            twin = self.space.twin(arch)
            own, cheap = self.space.counts(arch), self.space.counts(twin)
            assert self.space.parse(twin) == self.space.twin(twin) == twin
            assert (cheap.reachable_params, cheap.layers) == (own.reachable_params, own.layers)
            assert cheap.params <= own.params and cheap.flops <= own.flops

    def test_twins_put_out_the_same(self) -> None:
        shape = self.small_shape()
        for arch in self.archs:
            one = outputs(self.space.build(arch, seed=2), shape)
            other = outputs(self.space.build(self.space.twin(arch), seed=2), shape)
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

    # --- moving about ---

    def test_samples_depend_on_the_generator_alone(self) -> None:
        for make in (random.Random, np.random.default_rng):
            rng, again = make(3), make(3)
            first = [self.space.sample(rng) for _ in range(8)]
            assert first == [self.space.sample(again) for _ in range(8)]
            assert len(set(first)) > 1
            assert all(self.space.parse(arch) == arch for arch in first)

    def test_neighbours_are_one_change_away(self) -> None:
        for arch in self.some(3):
            near = list(self.space.neighbours(arch))
            assert near and len(set(near)) == len(near) and arch not in near
            for other in near:
                assert self.space.parse(other) == other
                assert self.changes(arch, other) == 1

    def test_mutation_draws_a_neighbour(self) -> None:
        for arch in self.some(3):
            near = set(self.space.neighbours(arch))
            drawn = [self.space.mutate(arch, random.Random(seed)) for seed in range(4)]
            assert set(drawn) <= near
            assert drawn == [self.space.mutate(arch, random.Random(seed)) for seed in range(4)]

    def test_all_lists_every_architecture_once(self) -> None:
        listed: Iterator[str] = self.space.all()
        archs = list(listed) if self.whole else list(islice(listed, 300))
        assert len(set(archs)) == len(archs) == (self.space.size if self.whole else 300)
        assert all(self.space.parse(arch) == arch for arch in archs)

    def test_drawing_many_gives_different_ones(self) -> None:
        assert len(set(self.space.sample_many(40, random.Random(0)))) == 40

    def test_a_trial_chooses_an_architecture(self) -> None:
        chosen = [self.space.suggest(ssnr.Trial(Drawn(random.Random(seed)))) for seed in range(30)]
        if not self.suggests:
            assert set(chosen) == {None}
            return
        assert len(set(chosen)) > 1
        assert all(self.space.parse(arch) == arch for arch in chosen)
        assert chosen[0] == self.space.suggest(ssnr.Trial(Drawn(random.Random(0))))

    def test_what_a_trial_is_to_be_told_gives_the_architecture_again(self) -> None:
        fixed = pytest.importorskip("optuna").trial.FixedTrial
        told = {arch: self.space.suggestion(arch) for arch in self.archs}
        assert any(parameters is not None for parameters in told.values()) is self.suggests
        for arch, parameters in told.items():
            if parameters is not None:
                assert self.space.canonical(self.space.suggest(fixed(parameters))) == self.space.canonical(arch)

    # --- networks ---

    def test_weights_depend_on_the_seed_and_the_network_alone(self) -> None:
        arch = self.archs[0]
        one = self.space.build(arch, seed=1).state_dict()
        self.space.build(self.archs[1], seed=5)
        again, other = self.space.build(arch, seed=1).state_dict(), self.space.build(arch, seed=2).state_dict()
        assert list(one) == list(again)
        assert all(torch.equal(one[name], again[name]) for name in one)
        weights = [name for name, value in one.items() if value.dim() > 1]
        assert not any(torch.equal(one[name], other[name]) for name in weights)

    def test_without_a_seed_torch_draws_it(self) -> None:
        drawn = []
        for seed in (7, 7, 8):
            torch.manual_seed(seed)
            drawn.append(torch.cat([p.flatten() for p in self.space.build(self.archs[0], seed=None).parameters()]))
        assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])

    def test_building_leaves_torch_s_generator_alone(self) -> None:
        before = torch.get_rng_state()
        self.space.build(self.archs[0])
        assert torch.equal(before, torch.get_rng_state())

    def test_every_weight_is_filled(self) -> None:
        for variant in self.space.variants:
            for parameter in self.space.build(self.archs[0], variant=variant).parameters():
                assert torch.isfinite(parameter).all() and parameter.abs().max() <= 10

    def output_shape(self, variant: str) -> tuple[int, ...]:
        return (self.space.num_classes,)

    def test_the_network_takes_the_space_s_input(self) -> None:
        for variant in self.space.variants:
            out = outputs(self.space.build(self.archs[0], variant=variant), self.space.input_shape)
            assert tuple(out.shape[1:]) == self.output_shape(variant)
            assert torch.isfinite(out).all()

    def test_counts_are_those_of_the_network(self) -> None:
        for arch in self.archs:
            for variant in self.space.variants:
                measured = count(self.space.build(arch, variant=variant), self.space.input_shape)
                assert self.space.counts(arch, variant=variant) == measured, (arch, variant)

    def test_unknown_variants_and_data_sets_are_refused(self) -> None:
        for call in (self.space.build, self.space.counts):
            with pytest.raises(UsageError, match=rf"unknown variant of {self.space.family} 'nalsib'"):
                call(self.archs[0], variant="nalsib")
        with pytest.raises(UsageError, match=r"unknown .* 'no such'"):
            get_space(f"{self.space.family}/no such")

    def test_nothing_but_building_imports_torch(self) -> None:
        program = f"""if True:
            import random, sys
            from ssnr.spaces import get_space
            space, rng = get_space({self.space.name!r}), random.Random(0)
            arch = space.parse({self.archs[0]!r})
            space.canonical(arch), space.twin(arch), space.counts(arch), space.sample(rng), space.mutate(arch, rng)
            next(space.all()), len(space)
            assert "torch" not in sys.modules
        """
        subprocess.run([sys.executable, "-c", program], check=True)
