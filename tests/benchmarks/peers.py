"""Batch libraries for other frameworks in Python, doing the same work: ten reads of a task, in process."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from tests.benchmarks.hosts import Run, paths, task


def available() -> Iterator[tuple[str, Run]]:
    """Those that are installed (extra ``bench``), with their versions."""
    for name, make in (("drf-batch-requests", drf), ("kinto", kinto)):
        try:
            yield f"{name} {version(name)}", make()
        except ImportError as error:
            print(f"  {name} is not measured: {error}; install the extra bench")


def posting(app: Any, path: str, content: Any) -> Run:
    """A POST to a WSGI app, which must be answered 200 with ten good results."""
    body = json.dumps(content).encode()

    async def run() -> None:
        environ = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost",
            "HTTP_ACCEPT": "*/*",
            "HTTP_AUTHORIZATION": "Bearer token",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        statuses: list[str] = []
        answer = app(environ, lambda status, headers, error=None: statuses.append(status))
        content = b"".join(answer)
        answer.close() if hasattr(answer, "close") else None
        assert statuses == ["200 OK"], (statuses, content)
        assert content.count(b"Write the benchmark") == len(paths()), content

    return run


def drf() -> Run:
    """drf-batch-requests on Django REST framework."""
    # It runs in a thread of its own in production; what is measured here is the work, not the thread.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.urls import path

    settings.configure(
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=[],
        MIDDLEWARE=[],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [],
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
            "UNAUTHENTICATED_USER": None,
        },
        INSTALLED_APPS=["rest_framework"],
    )
    django.setup()
    # These look at the settings as they are imported.
    from drf_batch_requests.views import BatchView
    from rest_framework.response import Response
    from rest_framework.views import APIView

    class Task(APIView):
        permission_classes = ()

        def get(self, request: Any, gid: str) -> Response:
            return Response(task(gid))

    settings.ROOT_URLCONF = (path("batch", BatchView.as_view()), path("tasks/<gid>", Task.as_view()))
    batch = [{"method": "GET", "relative_url": path, "name": path} for path in paths()]
    return posting(get_wsgi_application(), "/batch", {"batch": batch})


def kinto() -> Run:
    """The batch of kinto.core on Pyramid."""
    import kinto.core
    from kinto.core import Service
    from pyramid.config import Configurator
    from pyramid.security import NO_PERMISSION_REQUIRED

    service = Service(name="tasks", path="/tasks/{gid}")

    @service.get(permission=NO_PERMISSION_REQUIRED)
    def get_task(request: Any) -> Any:
        return task(request.matchdict["gid"])

    backends = {f"{kind}_backend": f"kinto.core.{kind}.memory" for kind in ("cache", "storage", "permission")}
    config = Configurator(settings={"project_name": "benchmark", "userid_hmac_secret": "benchmark", **backends})
    kinto.core.initialize(config, version="1.0")
    config.add_cornice_service(service)
    requests = [{"method": "GET", "path": path} for path in paths()]
    return posting(config.make_wsgi_app(), "/v1/batch", {"requests": requests})
