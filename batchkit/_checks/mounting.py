"""What somebody gives to ``mount_to``: an app that can have the endpoint, and a path that a request can have."""

from __future__ import annotations

import re

from starlette.applications import Starlette
from starlette.routing import Router

from batchkit._arguments import check_app
from batchkit._routing.marks import MarkedApp
from batchkit._routing.table import routed
from batchkit._routing.templates import check_template
from batchkit.settings import settings_of

__all__ = ["check_mount"]


def check_mount(endpoint: object, app: object, path: object) -> None:
    """Raise TypeError or ValueError where ``endpoint`` cannot be mounted to ``app`` at ``path``."""
    if isinstance(app, str):
        # Swapped, or the class was asked: BatchEndpoint.mount_to(app, "/batch").
        raise TypeError(f"mount_to: {app!r} stands where the app does: write BatchEndpoint(…).mount_to(app, '/batch')")
    if isinstance(app, type):
        raise TypeError(f"mount_to: {app!r} is a class: give the app itself")
    if not isinstance(app, Starlette | Router):
        if isinstance(app, MarkedApp):
            raise TypeError("mount_to: what batchable(app) returns is for Mount(…): give the app, and mark its routes one by one")
        if routed(app) is not None:
            raise TypeError(f"mount_to: {app!r} is around your app: write BatchEndpoint(host=<this>).mount_to(<your app>)")
        if not callable(app):
            raise TypeError(f"mount_to: {app!r} is no app: give one of Starlette or FastAPI")
        check_app("mount_to: app", app)
        raise TypeError(
            f"mount_to: {app!r} is no Starlette app and no Router: put the endpoint into its routes by hand, with host=, "
            "base_path= and allow="
        )
    settings = settings_of(endpoint)
    if settings is not None and settings.host is None and isinstance(app, Router) and hasattr(app, "include_router"):
        raise TypeError(
            "mount_to: an APIRouter serves nothing by itself: mount_to the app, or name the app that includes the router: "
            "BatchEndpoint(host=app).mount_to(router)"
        )
    if not isinstance(path, str) or not re.fullmatch(r"/[^?#\s]+", path):
        raise ValueError(f"mount_to: {path!r}: give a path like '/batch'")
    check_template("mount_to", path)
