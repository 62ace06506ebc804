"""Fits the exits that pay anew, each reading what those before it have kept."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dhn_kit.hooks import NEVER, SILENT
from dhn_kit.pack import Pack
from dhn_kit.train import cascade, exits
from dhn_kit.train.certify import Costs, stage
from dhn_kit.train.data import Split
from dhn_kit.train.fitting import Fitted, output_kind, truth
from dhn_kit.train.heads import Recipe
from dhn_kit.train.options import Dropped, Options


def join_exits(
    pack: Pack, fitted: Fitted, kept: Sequence[int], hook: Split, costs: Costs, options: Options
) -> list[Dropped]:
    """Replaces the exits in ``kept`` by heads that also read their predecessors' scores; or says why it does not.

    It comes after pruning: a head that others read from cannot be taken out any more.
    """
    own = [s for s in kept if fitted.specs[s].name in fitted.heads]
    recorded = fitted.cascades[0]
    if len(own) < 2:
        return [Dropped("cascade", "fewer than two exits pay: there is no earlier one to read")]
    if len(fitted.cascades) > 1 or len(recorded.values) > 1 or options.exits is not None or fitted.pool is None:
        return [Dropped("cascade", "only exits at their default features join, without hooks that change what is run")]
    points = [pack.points[fitted.specs[s].point] for s in own]
    recipes = [_recipe(fitted, s) for s in own]
    found = cascade.fit_exits(fitted.pool, points, output_kind(pack, hook), recipes)
    wanted = truth(hook, options)
    for number, (s, fit) in enumerate(zip(own, found, strict=True)):
        off = SILENT if number < len(own) - 1 else NEVER
        fitted.specs[s] = fit.spec
        fitted.scores[fit.spec.name] = fit.scores[None, : len(hook)]
        recorded.values[0, s], recorded.wrong[0, s] = fit.margins, fit.choices != wanted
        recorded.stages[s] = replace(stage(fit.spec, pack.points[fit.spec.point], costs), off=off)
    return []


def _recipe(fitted: Fitted, s: int) -> Recipe:
    """The width that the exit alone was given."""
    layers = fitted.heads[fitted.specs[s].name].layers
    hidden = len(layers[0][1]) if len(layers) > 1 else 0
    return Recipe(hidden, exits.DECAYS.get(hidden, exits.DECAYS[64]))
