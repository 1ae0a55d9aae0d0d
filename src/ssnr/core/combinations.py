"""Combinations of proxies by their ranks over a population: `rank(a,b,-c)`, `mean_rank(…)`, `log_rank(…)`.

A rank needs others to be ranked among, so a combination is a proxy of a study and never of one network: its members are
scored and stored one by one, and ranked when a study joins them. See `ssnr.studies.combined`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from ssnr.core.catalogue import COMBINED, REGULARISED, RULES, Proxy, parse_proxy
from ssnr.core.errors import UsageError


@dataclass(frozen=True)
class Member:
    """A proxy in a combination; `reverse` where its lowest value is the best."""

    proxy: Proxy
    reverse: bool = False

    def __str__(self) -> str:
        return ("-" if self.reverse else "") + self.proxy.text


@dataclass(frozen=True)
class Combination:
    """Several proxies as one.

    Attributes:
        text: as written in tables.
        rule: one of `RULES`, or `REGULARISED`.
        members: at least two, each once.
        arguments: μ and σ of `REGULARISED`.
    """

    text: str
    rule: str
    members: tuple[Member, ...]
    arguments: tuple[float, ...] = ()


_CALL = re.compile(r"\s*(?P<rule>\w+)\s*\((?P<members>.*)\)\s*", re.DOTALL)


def split_list(text: str) -> list[str]:
    """The parts between commas that stand in no bracket.

    >>> split_list("a, b/l(1,2),rank(c,d)")
    ['a', 'b/l(1,2)', 'rank(c,d)']
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def parse(text: str | Proxy | Combination) -> Proxy | Combination:
    """A proxy or a combination, as a study reads it.

    A member is a proxy, a control among them: `name` where higher is better, `-name` where lower is, `sign:name` where
    the catalogue is to say which.

    Raises:
        UsageError: unknown names, with near ones; a combination of fewer than two, of one twice, or of combinations.

    >>> [str(member) for member in parse("rank(synflow, -flops, sign:ntk)").members]
    ['synflow', '-flops', '-ntk']
    >>> parse("snip/ssnr").text
    'snip/ssnr'
    """
    if not isinstance(text, str):
        return text
    name = text.strip()
    if name in COMBINED:
        return Combination(name, *_parts(COMBINED[name], COMBINED[name]))
    call = _CALL.fullmatch(text)
    if name.partition("(")[0].strip() == REGULARISED:
        return _regularised(text, call)
    if call is None or call["rule"] not in RULES:
        return parse_proxy(text)
    rule, members = _parts(text, name)
    return Combination(f"{rule}({','.join(map(str, members))})", rule, members)


def _regularised(text: str, call: re.Match[str] | None) -> Combination:
    """swap_reg(μ,σ), of `swap` and `params`."""
    try:
        mu, sigma = map(float, split_list(call["members"] if call else ""))
    except ValueError:
        mu = sigma = math.nan
    if not (math.isfinite(mu) and 0 < sigma < math.inf):
        raise UsageError(
            f"proxy {text!r}: expected swap_reg(mu,sigma), in thousands of parameters and their square, "
            "such as swap_reg(500,40000)"
        )
    members = (Member(parse_proxy("swap")), Member(parse_proxy("params")))
    return Combination(f"{REGULARISED}({mu:g},{sigma:g})", REGULARISED, members, (mu, sigma))


def _parts(text: str, shown: str) -> tuple[str, tuple[Member, ...]]:
    call = _CALL.fullmatch(text)
    assert call is not None
    members = tuple(_member(part, shown) for part in split_list(call["members"]))
    if len(members) < 2:
        raise UsageError(f"{shown}: expected two proxies or more, such as {call['rule']}(synflow,-ntk)")
    proxies = [replace(member.proxy, text="") for member in members]  # `synflow` is `synflow/sum`
    for proxy, member in zip(proxies, members, strict=True):
        if proxies.count(proxy) > 1:
            raise UsageError(f"{shown}: {member.proxy.text} is in it twice; expected each proxy once")
    return call["rule"], members


def _member(text: str, shown: str) -> Member:
    by_catalogue = text.startswith("sign:")
    name = text.removeprefix("sign:").removeprefix("-").strip()
    if not name or (by_catalogue and text.removeprefix("sign:").startswith("-")):
        raise UsageError(f"{shown}: member {text!r}: expected NAME, -NAME where lower is better, or sign:NAME")
    if name in COMBINED or name.partition("(")[0].strip() in RULES:
        raise UsageError(f"{shown}: {name} is a combination itself; expected proxies")
    proxy = parse_proxy(name)
    source = proxy.saliency or proxy.plain
    assert source is not None
    return Member(proxy, not source.higher_is_better if by_catalogue else text.startswith("-"))
