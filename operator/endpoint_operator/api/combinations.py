"""Rules on fields of different parts of a spec together. For ``v1alpha1``, which applies them."""

from __future__ import annotations

import math
from typing import Any, Final

from endpoint_operator.api import options, rules
from endpoint_operator.api.podtemplate import ENGINE, engine_variables

HUB_TOKEN_VARIABLE: Final = "HF_TOKEN"  # noqa: S105 - the name of a variable


def _fits_its_cache(spec: Any) -> bool:
    cache = spec.model.cache
    return spec.replicas <= 1 or cache is None or not cache.is_exclusive


_REPLICAS_SHARE_THE_CACHE: Final = rules.Rule(
    "self.replicas <= 1 || !has(self.model.cache) || !has(self.model.cache.size)"
    " || self.model.cache.accessMode == 'ReadWriteMany'",
    _fits_its_cache,
    "must be at most 1 with a cache that is not ReadWriteMany; set"
    " spec.model.cache.accessMode to ReadWriteMany, or remove the cache",
    "replicas",
)


def _can_surge(spec: Any) -> bool:
    cache = spec.model.cache
    one_pod = cache is not None and cache.size and cache.access_mode == "ReadWriteOncePod"
    return spec.rollout.strategy != "Surge" or not one_pod


_SURGE_SHARES_THE_CACHE: Final = rules.Rule(
    "!has(self.rollout) || !has(self.rollout.strategy) || self.rollout.strategy != 'Surge'"
    " || !has(self.model.cache) || !has(self.model.cache.size)"
    " || self.model.cache.accessMode != 'ReadWriteOncePod'",
    _can_surge,
    "must be Replace with a cache that is ReadWriteOncePod, which no second pod can mount; or set"
    " spec.model.cache.accessMode to ReadWriteOnce or ReadWriteMany",
    "rollout.strategy",
)


def _uses_every_gpu(spec: Any) -> bool:
    sizes = spec.engine.parallel_sizes
    return not sizes or not spec.gpu.count or math.prod(sizes.values()) == spec.gpu.count


def _sizes_in_cel() -> str:
    """Return the rule on parallel sizes, of the configuration file: CEL leaves arguments alone."""
    known = [
        [f"self.engine.config.{options.cel_name(name)}" for name in options.spellings(option)]
        for option in sorted(options.PARALLEL_SIZES)
    ]
    is_set = " || ".join(f"has({path})" for paths in known for path in paths)
    factors = " * ".join(
        f"({' : '.join(f'has({path}) ? {path}' for path in paths)} : 1)" for paths in known
    )
    in_args = "self.engine.args.exists(a, a.matches('^-([tpd]|-(te|pi|pre|data))'))"
    return (
        f"self.gpu.count == 0 || !has(self.engine.config) || !({is_set})"
        f" || has(self.engine.args) && {in_args} || {factors} == self.gpu.count"
    )


_SIZES_MAKE_THE_GPUS: Final = rules.Rule(
    _sizes_in_cel(),
    _uses_every_gpu,
    "must be the product of the parallel sizes in spec.engine.config and spec.engine.args (tensor,"
    " pipeline, prefill-context and data); change it or them, or remove them for tensor-parallel",
    "gpu.count",
)

_ONE_TOKEN: Final = (
    f"{HUB_TOKEN_VARIABLE} is set from spec.model.tokenSecretRef; remove one of both"
)
_ONE_TOKEN_IN_ENV: Final = rules.Rule(
    "!has(self.model.tokenSecretRef) || !has(self.engine.env)"
    f" || self.engine.env.all(e, e.name != '{HUB_TOKEN_VARIABLE}')",
    lambda spec: (
        spec.model.token_secret_ref is None
        or all(variable.name != HUB_TOKEN_VARIABLE for variable in spec.engine.env)
    ),
    _ONE_TOKEN,
    "engine.env",
)
_ONE_TOKEN_IN_TEMPLATE: Final = rules.Rule(
    "!has(self.model.tokenSecretRef) || !has(self.podTemplate) || !has(self.podTemplate.spec)"
    " || !has(self.podTemplate.spec.containers) || self.podTemplate.spec.containers.all(c,"
    f" c.name != '{ENGINE}' || !has(c.env) || c.env.all(e, e.name != '{HUB_TOKEN_VARIABLE}'))",
    lambda spec: (
        spec.model.token_secret_ref is None
        or HUB_TOKEN_VARIABLE not in engine_variables(spec.pod_template)
    ),
    _ONE_TOKEN,
    "podTemplate",
)


def _has_lora(spec: Any) -> bool:
    """Return whether LoRA is not switched off."""
    file = {options.dashed(option): value for option, value in spec.engine.config.items()}
    off = file.get("enable-lora") is False or file.get("no-enable-lora")
    begun = (option for option in options.in_args(spec.engine.args) if "no-enable-l" in option)
    return not off and not any(map("no-enable-lora".startswith, begun))


_ADAPTERS_NEED_LORA: Final = rules.Rule(
    "",
    lambda spec: not spec.model.adapters or _has_lora(spec),
    "enable-lora is off, which spec.model.adapters need; remove it, or the adapters",
    "engine",
)

_ALIASES_ARE_NOT_ADAPTERS: Final = rules.Rule(
    "!has(self.access) || !has(self.access.aliases) || !has(self.model.adapters)"
    " || self.access.aliases.all(n, !self.model.adapters.exists(a, a.name == n))",
    lambda spec: not {adapter.name for adapter in spec.model.adapters} & set(spec.access.aliases),
    "an adapter in spec.model.adapters has the name of an alias; give one of them another",
    "access.aliases",
)

SPEC_RULES: Final = rules.Together(
    _REPLICAS_SHARE_THE_CACHE,
    _SURGE_SHARES_THE_CACHE,
    _SIZES_MAKE_THE_GPUS,
    _ONE_TOKEN_IN_ENV,
    _ONE_TOKEN_IN_TEMPLATE,
    _ADAPTERS_NEED_LORA,
    _ALIASES_ARE_NOT_ADAPTERS,
)
"""Rules on the spec of an endpoint."""

ADAPTERS_ARE_NOT_THE_ENDPOINT: Final = rules.Rule(
    "!has(self.spec.model.adapters)"
    " || self.spec.model.adapters.all(a, a.name != self.metadata.name)",
    lambda endpoint: (
        endpoint.name not in {adapter.name for adapter in endpoint.spec.model.adapters}
    ),
    "an adapter has the name of the endpoint, by which engines serve the model; give it another",
    "spec.model.adapters",
)
"""The rule on an endpoint's own name and its spec."""
