"""The checks of an endpoint's keywords, at its construction."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable

from starlette.applications import Starlette
from starlette.routing import Router

from batchkit._arguments import check_app, check_base_path, check_choice, check_count, check_function, check_seconds, strings
from batchkit._checks.plugins import check_plugin
from batchkit._protocol.dialects import DIALECTS
from batchkit._protocol.headers import NEVER_SHOWN, SHOWN, WITHHELD
from batchkit._protocol.scope import OWN_KEYS, SCOPE_KEYS
from batchkit._routing.templates import Rule, check_template, is_below, read_template
from batchkit.settings import Settings

__all__ = ["LIMITER_ERRORS", "checked"]

logger = logging.getLogger("batchkit")

LIMITER_ERRORS = ("refuse", "allow")
CHOICES: dict[str, Collection[str]] = {"dialect": DIALECTS.keys(), "policy": ("marked", "all"), "limiter_errors": LIMITER_ERRORS}

# Those that batchkit and the frameworks make up, as they go.
_OWN_PREFIXES = ("batchkit", "starlette.", "fastapi")

_FIELD_NAME = re.compile(r"[\w!#$%&'+.^`|~-]+", re.ASCII)


def checked(settings: Settings) -> Settings:
    """The settings, with what is worked out of them. Raises TypeError or ValueError naming the keyword and what would do."""
    for name, choices in CHOICES.items():
        check_choice(name, getattr(settings, name), choices)
    for name in ("max_actions", "max_body_size", "max_result_size"):
        check_count(name, getattr(settings, name))
    if settings.max_concurrency is not None:
        check_count("max_concurrency", settings.max_concurrency)
    for name in ("action_timeout", "limiter_timeout"):
        check_seconds(name, getattr(settings, name))
    # What is another unit somewhere else.
    for name, meant, unusual in (
        ("max_body_size", "bytes: for 10 MiB give 10 * 2**20", settings.max_body_size < 100),
        ("max_result_size", "bytes: for 10 MiB give 10 * 2**20", settings.max_result_size < 100),
        ("action_timeout", "seconds: for half a minute give 30", settings.action_timeout > 3600),
        ("limiter_timeout", "seconds: for a tenth of one give 0.1", settings.limiter_timeout > 60),
    ):
        if unusual:
            logger.warning("%s=%r: it is counted in %s", name, getattr(settings, name), meant)
    for name in ("host", "cost_hook"):
        if getattr(settings, name) is not None and not callable(getattr(settings, name)):
            raise TypeError(f"{name}={getattr(settings, name)!r}: give a callable, or None")
    if isinstance(settings.host, type):
        raise TypeError(f"host={settings.host!r}: it is a class: give the app itself")
    if settings.host is not None:
        check_app("host", settings.host)
    if settings.cost_hook is not None:
        # With limiter_errors="allow" nothing would be charged.
        check_function("cost_hook", settings.cost_hook, "the Batch")
    check_base_path(settings.base_path)
    for name in ("require_json", "console", "client_js"):
        if not isinstance(getattr(settings, name), bool):
            raise TypeError(f"{name}={getattr(settings, name)!r}: give True or False")
    if not isinstance(settings.server_timing, bool | None):
        raise TypeError(f"server_timing={settings.server_timing!r}: give True or False, or None: as console")
    if settings.server_timing is None:
        settings.server_timing = settings.console
    if settings.help is not None and not isinstance(settings.help, str):
        raise TypeError(f"help={settings.help!r}: give a text, or None")
    _check_plugins(settings)
    settings.rules = tuple(Rule.read("exclude", text) for text in strings("exclude", settings.exclude))
    settings.allowed = tuple(read_template("allow", text) for text in strings("allow", settings.allow))
    for _, template in settings.allowed:
        if template.endswith("/*"):
            raise ValueError(f"allow: {template!r}: spell out each path; '/*' would let through what nobody has looked at")
        check_template("allow", template)
        if settings.base_path is not None and not is_below(settings.base_path, template):
            raise ValueError(f"allow: {template!r}: it is not below base_path={settings.base_path!r}: give whole paths")
    if settings.allowed and (settings.host is None or isinstance(settings.host, Starlette | Router)):
        raise ValueError(
            f"allow={settings.allow!r}: it is for a host= whose routes cannot be read; mark those of others @batchable"
        )
    _check_crossing(settings)
    return settings


def _check_crossing(settings: Settings) -> None:
    names = () if settings.result_headers == "*" else strings("result_headers", settings.result_headers)
    for name in names:
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(f"result_headers: {name!r}: give names of header fields, or the string '*' alone")
        if name.lower().encode() in NEVER_SHOWN:
            raise ValueError(f"result_headers: {name!r} is never shown: the parent answer or the result's body says it")
    settings.shown = None if settings.result_headers == "*" else SHOWN | {name.lower().encode() for name in names}
    kept = strings("withhold", settings.withhold)
    for name in kept:
        if not _FIELD_NAME.fullmatch(name) or "*" in name:
            raise ValueError(f"withhold: {name!r}: give whole names of header fields")
        if name.lower() == "host":
            raise ValueError(f"withhold: {name!r}: apps route by it, so without it an action would be another one: leave it out")
    settings.withheld = WITHHELD | {name.lower().replace("_", "-").encode() for name in kept}
    keys = strings("scope_keys", settings.scope_keys)
    for key in keys:
        if key in OWN_KEYS or key.startswith(_OWN_PREFIXES):
            raise ValueError(
                f"scope_keys: {key!r}: each action has its own, from its request, your middleware or its route: leave it "
                "out; name what only your server sets, 'aws.event' say"
            )
    settings.inherited = tuple(dict.fromkeys((*SCOPE_KEYS, *keys)))


def _check_plugins(settings: Settings) -> None:
    if not isinstance(settings.plugins, Iterable):
        raise TypeError(f"plugins={settings.plugins!r}: give a list of plugins")
    settings.plugins = tuple(settings.plugins)
    for plugin in settings.plugins:
        check_plugin(plugin)
        if not any(hasattr(plugin, method) for method in ("batch", "action", "refused")):
            raise TypeError(f"plugins: {plugin!r} has none of the methods 'batch', 'action' and 'refused'")
