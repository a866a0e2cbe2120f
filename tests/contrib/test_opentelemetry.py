"""“a span per batch and a child span per action named by route template … metrics: batches, actions by route template and status,
refusals by limit, durations, batch size”: as the SDK exports them, below and above what instruments hosts.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from opentelemetry import baggage, context, metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ContribMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.starlette import StarletteInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import Batch, BatchEndpoint, TooManyRequests, batchable
from batchkit.contrib.opentelemetry import OpenTelemetry
from batchkit.limiter import Concurrency, Limiter, Rate
from tests.batches import JSON, action, batch, envelope, post
from tests.hosts import CLOSED, OPEN, Make, everywhere

pytestmark = pytest.mark.anyio

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = (b"traceparent", f"00-{TRACE}-{CLIENT}-01".encode())


class Telemetry:
    """A host's providers, and what was exported through them."""

    def __init__(self, **keywords: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False, **keywords)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.undo = ExitStack()

    def plugin(self) -> OpenTelemetry:
        return OpenTelemetry(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider)

    def spans(self, name: str | None = None, scope: str = "batchkit") -> list[ReadableSpan]:
        found = [span for span in self.exporter.get_finished_spans() if name in (None, span.name)]
        return [span for span in found if span.instrumentation_scope and span.instrumentation_scope.name == scope]

    def paths(self) -> list[str]:
        """Every span as its ancestors, the oldest first, and itself; the remote parent stands there as its id."""
        spans = {span.context.span_id: span for span in self.exporter.get_finished_spans() if span.context}

        def path(span: ReadableSpan) -> str:
            if span.parent is None:
                return span.name
            parent = spans.get(span.parent.span_id)
            return f"{path(parent) if parent else trace.format_span_id(span.parent.span_id)} > {span.name}"

        # What is sent and received has spans of its own in some.
        return sorted(path(span) for span in spans.values() if not span.name.endswith((" send", " receive")))

    def points(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """By metric the attributes and values: of a histogram, how many there were and their sum."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: [
                (
                    dict(point.attributes or {}),
                    (point.count, point.sum) if isinstance(point, HistogramDataPoint) else getattr(point, "value", None),
                )
                for point in metric.data.data_points
            ]
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    with telemetry.undo:
        yield telemetry


async def task(request: Request) -> Response:
    return JSONResponse({"gid": request.path_params["gid"], "traceparent": request.headers.get("traceparent")})


async def fails(request: Request) -> Response:
    raise ValueError("secret")


ROUTES = {"/tasks/{gid}": task, "/fails": fails}


def hosting(telemetry: Telemetry, routes: dict[str, Any] = ROUTES, **settings: Any) -> Starlette:
    app = Starlette(routes=[Route(path, endpoint) for path, endpoint in routes.items()])
    return BatchEndpoint(policy="all", plugins=(telemetry.plugin(),), **settings).mount_to(app)


# Hosts and what instruments them


def bare(telemetry: Telemetry) -> ASGIApp:
    return hosting(telemetry)


def starlette(telemetry: Telemetry) -> ASGIApp:
    app = hosting(telemetry)
    app.add_middleware(StarletteMiddleware, tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    return app


def fastapi(telemetry: Telemetry) -> ASGIApp:
    """FastAPI's own."""
    app = FastAPI(
        telemetry={
            "tracer_provider": telemetry.tracer_provider,
            "meter_provider": telemetry.meter_provider,
            "operation_spans": False,
        }
    )
    for path, endpoint in ROUTES.items():
        app.add_api_route(path, endpoint, response_model=None)
    return BatchEndpoint(policy="all", plugins=(telemetry.plugin(),)).mount_to(app)


def contrib_asgi(telemetry: Telemetry) -> ASGIApp:
    app = Starlette(routes=[Route(path, endpoint) for path, endpoint in ROUTES.items()])
    # As its documentation says to give it names of routes, here by hand.
    host: ASGIApp = ContribMiddleware(app, tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    BatchEndpoint(policy="all", plugins=(telemetry.plugin(),), host=host, base_path="/").mount_to(app)
    return host


def contrib_starlette(telemetry: Telemetry) -> ASGIApp:
    app = hosting(telemetry)
    StarletteInstrumentor.instrument_app(app, tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    return app


def contrib_fastapi(telemetry: Telemetry) -> ASGIApp:
    app = FastAPI()
    for path, endpoint in ROUTES.items():
        app.add_api_route(path, endpoint, response_model=None)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider)
    # It patches Starlette's background tasks everywhere.
    telemetry.undo.callback(FastAPIInstrumentor.uninstrument_app, app)
    return BatchEndpoint(policy="all", plugins=(telemetry.plugin(),)).mount_to(app)


HOSTS = [bare, starlette, fastapi, contrib_asgi, contrib_starlette, contrib_fastapi]


@pytest.mark.parametrize("make", HOSTS)
async def test_what_instruments_the_host_nests_under_the_action(
    make: Callable[[Telemetry], ASGIApp], telemetry: Telemetry
) -> None:
    """“`traceparent` rewritten so that the host's own instrumentation … nests under the action”."""
    results = await batch(make(telemetry), action("/tasks/1"), action("/tasks/2"), headers=[TRACEPARENT])
    above = [CLIENT] if make is bare else [CLIENT, f"{CLIENT} > POST /batch"]
    one = f"{above[-1]} > batch > GET /tasks/{{gid}}"
    # That middleware alone is told of no routes.
    below: dict[Callable[[Telemetry], ASGIApp], list[str]] = {bare: [], contrib_asgi: ["GET /tasks/1", "GET /tasks/2"]}
    assert telemetry.paths() == sorted(
        [*above[1:], f"{above[-1]} > batch", one, one, *(f"{one} > {name}" for name in below.get(make, ["GET /tasks/{gid}"] * 2))]
    )
    [of_batch] = telemetry.spans("batch")
    assert of_batch.kind is (SpanKind.SERVER if make is bare else SpanKind.INTERNAL)
    spans = {span.attributes["batchkit.action.index"]: span for span in telemetry.spans("GET /tasks/{gid}") if span.attributes}
    for index, result in enumerate(results):
        span = spans[index].context
        assert span is not None
        assert result["body"]["traceparent"] == f"00-{TRACE}-{trace.format_span_id(span.span_id)}-01"
        assert spans[index].kind is SpanKind.INTERNAL


async def test_batches_at_the_same_time_do_not_mix(telemetry: Telemetry) -> None:
    waiting, go = [], anyio.Event()

    async def wait(request: Request) -> Response:
        waiting.append(request)
        if len(waiting) == 6:
            go.set()
        await go.wait()
        return JSONResponse(trace.get_current_span().get_span_context().span_id)

    app = hosting(telemetry, {"/{x}": wait})
    traces = {f"{number:032x}": f"{number:016x}" for number in (1, 2, 3)}

    async def post(trace_id: str, parent: str) -> None:
        headers = [(b"traceparent", f"00-{trace_id}-{parent}-01".encode())]
        results = await batch(app, action("/1"), action("/2"), headers=headers)
        spans = [span.context for span in telemetry.spans("GET /{x}") if span.context]
        assert {result["body"] for result in results} == {span.span_id for span in spans if f"{span.trace_id:032x}" == trace_id}

    async with anyio.create_task_group() as tasks:
        for each in traces.items():
            tasks.start_soon(post, *each)
    assert telemetry.paths() == sorted(
        f"{parent} > batch{name}" for parent in traces.values() for name in ("", *[" > GET /{x}"] * 2)
    )


@batchable(timeout=0.05)
async def never(request: Request) -> Response:
    await anyio.sleep_forever()
    raise AssertionError


async def unavailable(request: Request) -> Response:
    return Response(status_code=503)


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("secret")


MANY = [
    action("/tasks/1"),
    action("/tasks/2", "HEAD"),
    action("/unavailable"),
    action("/fails"),
    action("/never"),
    action("/nowhere/secret"),
    action("/tasks/3", "post"),
    {"relative_path": "/tasks/4", "method": "secret"},
    action("/tasks/../secret"),
]


async def test_each_action_that_runs_has_a_span_with_its_route_and_status(telemetry: Telemetry) -> None:
    """“a span per batch and a child span per action named by route template, with semantic-convention attributes”."""
    app = hosting(telemetry, {**ROUTES, "/unavailable": unavailable, "/never": never})
    results = await batch(app, *MANY)
    assert [result["status_code"] for result in results] == [200, 200, 503, 500, 504, 404, 405, 400, 400]
    expected = {
        0: ("GET /tasks/{gid}", "GET", "/tasks/{gid}", "/tasks/1", 200, None),
        1: ("HEAD /tasks/{gid}", "HEAD", "/tasks/{gid}", "/tasks/2", 200, None),
        2: ("GET /unavailable", "GET", "/unavailable", "/unavailable", 503, "503"),
        # Starlette answers, and raises it again.
        3: ("GET /fails", "GET", "/fails", "/fails", 500, "ValueError"),
        4: ("GET /never", "GET", "/never", "/never", 504, "504"),
        5: ("GET", "GET", None, "/nowhere/secret", 404, None),
        6: ("POST /tasks/{gid}", "POST", "/tasks/{gid}", "/tasks/3", 405, None),
    }
    names = ("http.request.method", "http.route", "url.path", "http.response.status_code", "error.type")
    of_batch, *_ = telemetry.spans("batch")
    seen = {}
    for span in telemetry.spans():
        attributes = dict(span.attributes or {})
        if span is not of_batch:
            seen[attributes.pop("batchkit.action.index")] = (span.name, *(attributes.pop(name, None) for name in names))
            assert not attributes
            failed = span.status.status_code is StatusCode.ERROR
            assert failed == (span.attributes is not None and "error.type" in span.attributes)
    assert seen == expected
    attributes = dict(of_batch.attributes or {})
    assert attributes.pop("batchkit.batch.id")
    assert attributes == {
        "http.request.method": "POST",
        "url.path": "/batch",
        "url.scheme": "http",
        "batchkit.batch.size": 9,
        "http.response.status_code": 200,
    }


async def test_metrics_count_every_action_by_route_and_status(telemetry: Telemetry) -> None:
    """“metrics: batches, actions by route template and status …”; and what a client makes up is no attribute."""
    app = hosting(telemetry, {**ROUTES, "/unavailable": unavailable, "/never": never})
    await batch(app, *MANY)
    await batch(app, action("/tasks/1"))
    points = telemetry.points()
    durations = points.pop("batchkit.action.duration")
    names = ("http.request.method", "http.route", "http.response.status_code")
    counts = {tuple(attributes.pop(name, None) for name in names): value[0] for attributes, value in durations}
    assert not any(attributes for attributes, _ in durations)
    assert counts == {
        ("GET", "/tasks/{gid}", 200): 2,
        ("HEAD", "/tasks/{gid}", 200): 1,
        ("GET", "/unavailable", 503): 1,
        ("GET", "/fails", 500): 1,
        ("GET", "/never", 504): 1,
        ("GET", None, 404): 1,
        ("POST", "/tasks/{gid}", 405): 1,
        ("_OTHER", None, 400): 1,
        ("GET", None, 400): 1,
    }
    assert points.pop("batchkit.batch.size") == [({}, (2, 10))]
    [(attributes, (count, seconds))] = points.pop("batchkit.batch.duration")
    assert (attributes, count) == ({}, 2)
    # The one that met its deadline.
    assert seconds >= 0.05
    assert not points


async def out_of_reach(batch: Batch) -> None:
    raise ConnectionError


async def nameless(batch: Batch) -> None:
    raise TooManyRequests


@pytest.mark.parametrize(
    ("make_hook", "limit", "status", "refused"),
    [
        (lambda: Limiter([Rate(100, 60, name="requests"), Rate(1, 60, name="searches")]), "searches", 429, 2),
        (lambda: Limiter([Rate(3, 60, name="requests")]), "requests", 429, 1),
        (lambda: Limiter([Concurrency(1, name="reads")]), "reads", 429, 2),
        (lambda: nameless, None, 429, 2),
        (lambda: out_of_reach, None, 503, 2),
    ],
    ids=["never", "rate", "concurrency", "nameless", "out of reach"],
)
async def test_refusals_are_counted_by_limit(
    make_hook: Callable[[], Any], limit: str | None, status: int, refused: int, telemetry: Telemetry
) -> None:
    app = hosting(telemetry, cost_hook=make_hook())
    answers = [await post(app, envelope(action("/tasks/1"), action("/tasks/2")), headers=[TRACEPARENT]) for _ in range(2)]
    assert [answer.status for answer in answers].count(status) == refused
    expected = {"http.response.status_code": status} | ({"batchkit.limit": limit} if limit else {})
    points = telemetry.points()
    assert points.pop("batchkit.batch.refusals") == [(expected, refused)]
    assert {name: [value[0] for _, value in found] for name, found in points.items()} == (
        {"batchkit.batch.duration": [1], "batchkit.batch.size": [1], "batchkit.action.duration": [2]} if refused == 1 else {}
    )
    spans = [span for span in telemetry.spans("batch") if span.attributes and span.attributes["http.response.status_code"] != 200]
    assert len(spans) == refused
    for span in spans:
        assert span.attributes is not None
        assert span.attributes.items() >= expected.items()
        assert (span.status.status_code is StatusCode.ERROR) == (status == 503) == ("error.type" in span.attributes)
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == CLIENT


def test_the_name_of_a_limit_is_a_text() -> None:
    with pytest.raises(TypeError, match="limit=7: give the name of the limit, or None"):
        TooManyRequests(limit=7)  # type: ignore[arg-type]


async def test_a_span_ends_with_the_answer_and_holds_what_is_done_after_it(telemetry: Telemetry) -> None:
    """“Result.duration … to the last byte of its answer”: background tasks are not in it, a stream is."""
    tracer = telemetry.tracer_provider.get_tracer("host")
    seen: list[Batch] = []

    def afterwards() -> None:
        with tracer.start_as_current_span("afterwards"):
            raise ValueError("failed")

    async def later(request: Request) -> Response:
        return Response(background=BackgroundTask(afterwards))

    async def stream(request: Request) -> Response:
        async def chunks() -> Any:
            yield "a"
            with tracer.start_as_current_span("chunk"):
                yield "b"

        return StreamingResponse(chunks())

    async def see(batch: Batch) -> None:
        seen.append(batch)

    app = hosting(telemetry, {"/later": later, "/stream": stream}, cost_hook=see)
    await batch(app, action("/later"), action("/stream"))
    assert telemetry.paths() == [
        "batch",
        "batch > GET /later",
        "batch > GET /later > afterwards",
        "batch > GET /stream",
        "batch > GET /stream > chunk",
    ]
    for entry in seen[0].actions:
        [span] = telemetry.spans(f"GET {entry.route}")
        assert span.end_time is not None
        assert span.start_time is not None
        assert entry.result is not None
        assert span.end_time - span.start_time == int(entry.result.duration * 1e9)
        # The answer was out when it failed.
        assert span.status.status_code is StatusCode.UNSET
        assert [event.name for event in span.events] == ["exception"] * (entry.route == "/later")


async def test_a_batch_that_is_cancelled_leaves_no_span_open(telemetry: Telemetry) -> None:
    started = anyio.Event()

    async def wait(request: Request) -> Response:
        started.set()
        return await never(request)

    app = hosting(telemetry, {"/wait": wait})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batch, app, action("/wait"))
        await started.wait()
        tasks.cancel_scope.cancel()
    assert telemetry.paths() == ["batch", "batch > GET /wait"]
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert telemetry.points()["batchkit.batch.size"] == [({}, (1, 1))]


async def test_what_a_bare_host_raises_is_the_error_of_its_span(telemetry: Telemetry) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (raises if scope["path"] == "/fails" else endpoint)(scope, receive, send)

    endpoint = BatchEndpoint(host=app, base_path="/", allow=("GET /fails",), plugins=[telemetry.plugin()])
    [result] = await batch(app, action("/fails"))
    assert result["status_code"] == 500
    [span] = telemetry.spans("GET /fails")
    assert span.attributes is not None
    assert (span.attributes["http.response.status_code"], span.attributes["error.type"]) == (500, "ValueError")


async def headers_of(app: ASGIApp, *fields: tuple[bytes, bytes]) -> dict[str, str]:
    """The trace header fields that an action has, of a batch with these."""
    [result] = await batch(app, action("/headers"), headers=fields)
    return dict(result["body"])


async def echo_headers(request: Request) -> Response:
    names = [name for name in request.headers if name in ("traceparent", "tracestate", "baggage")]
    assert len(names) == len(set(names))
    return JSONResponse({name: request.headers[name] for name in names})


async def test_tracestate_and_baggage_go_along(telemetry: Telemetry) -> None:
    app = hosting(telemetry, {"/headers": echo_headers})
    sent = [TRACEPARENT, (b"tracestate", b"vendor=1"), (b"baggage", b"a=1")]
    seen = await headers_of(app, *sent)
    assert seen.pop("traceparent")[:35] == f"00-{TRACE}"
    assert seen == {"tracestate": "vendor=1", "baggage": "a=1"}


async def test_a_long_field_is_no_part_of_a_trace(telemetry: Telemetry) -> None:
    """Some propagators take quadratic time to read one. Its action has it all the same."""

    async def read(request: Request) -> Response:
        return JSONResponse([baggage.get_baggage("a"), request.headers["baggage"][:3]])

    app = hosting(telemetry, {"/read": read})
    for length, known in ((4096, "1"), (4097, None)):
        value = (b"a=1" + b",b=%b" % (b"c" * 200) * 30)[:length]
        [result] = await batch(app, action("/read"), headers=[TRACEPARENT, (b"baggage", value)])
        assert result["body"] == [known, "a=1"]


async def test_a_trace_that_the_host_begins_anew_has_no_tracestate_of_the_clients(telemetry: Telemetry) -> None:
    async def anew(scope: Scope, receive: Receive, send: Send) -> None:
        with telemetry.tracer_provider.get_tracer("host").start_as_current_span("anew", context.Context()):
            token = context.attach(baggage.set_baggage("b", "2"))
            await app(scope, receive, send)
            context.detach(token)

    app = hosting(telemetry, {"/headers": echo_headers})
    seen = await headers_of(anew, TRACEPARENT, (b"tracestate", b"vendor=1"), (b"baggage", b"a=1"))
    assert TRACE not in seen.pop("traceparent")
    assert seen == {"baggage": "b=2"}


async def test_what_is_not_sampled_is_propagated_and_counted_all_the_same() -> None:
    telemetry = Telemetry(sampler=ALWAYS_OFF)
    seen = await headers_of(hosting(telemetry, {"/headers": echo_headers}), TRACEPARENT)
    assert seen["traceparent"].startswith(f"00-{TRACE}-")
    assert seen["traceparent"].endswith("-00")
    assert CLIENT not in seen["traceparent"]
    assert telemetry.spans() == []
    assert telemetry.points()["batchkit.action.duration"]


async def test_without_a_provider_nothing_is_changed() -> None:
    app = Starlette(routes=[Route("/headers", echo_headers)])
    BatchEndpoint(policy="all", plugins=[OpenTelemetry()]).mount_to(app)
    sent = [TRACEPARENT, (b"tracestate", b"vendor=1"), (b"baggage", b"a=1")]
    assert await headers_of(app, *sent) == {name.decode(): value.decode() for name, value in sent}
    assert await headers_of(app) == {}


async def test_a_provider_that_fails_harms_no_batch(caplog: pytest.LogCaptureFixture) -> None:
    """“plugins only observe”."""

    class Refuses(trace.NoOpTracer):
        def start_span(self, name: str, *arguments: Any, **keywords: Any) -> trace.Span:
            if name == "batch":
                raise ValueError("broken")
            return super().start_span(name, *arguments, **keywords)

    class Provider(trace.NoOpTracerProvider):
        def get_tracer(self, *arguments: Any, **keywords: Any) -> trace.Tracer:
            return Refuses()

    app = Starlette(routes=[Route("/tasks/{gid}", task)])
    plugin = OpenTelemetry(tracer_provider=Provider(), meter_provider=metrics.NoOpMeterProvider())
    BatchEndpoint(policy="all", plugins=[plugin]).mount_to(app)
    [result] = await batch(app, action("/tasks/1"))
    assert result["status_code"] == 200
    assert "which runs without it" in caplog.text


@everywhere
async def test_an_answer_is_the_same_with_the_plugin(make: Make, telemetry: Telemetry) -> None:
    paths = [action(path, method) for path, methods in OPEN.items() for method in methods if path != "/never"]
    actions = [*paths, action(CLOSED), action("/nowhere"), action("/echo/"), 5]
    answers = [
        await make(max_actions=len(actions), plugins=plugins).post(envelope(*actions), headers=[JSON, TRACEPARENT])
        for plugins in ([], [telemetry.plugin()])
    ]
    # An id made up for each failure.
    one, other = (re.sub(rb'"phrase":"\w+"', b"", answer.body) for answer in answers)
    assert one == other
    assert answers[0].headers == answers[1].headers or b"phrase" in answers[0].body
    assert sum(value[0] for _, value in telemetry.points()["batchkit.action.duration"]) == len(actions)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "batchkit.contrib.opentelemetry")
    with pytest.raises(ImportError, match=r"pip install 'batchkit-asgi\[opentelemetry\]'"):
        importlib.import_module("batchkit.contrib.opentelemetry")


async def test_prometheus_has_it_all() -> None:
    """“A README recipe shows Prometheus through it”: by these names."""
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry)], shutdown_on_exit=False)
    app = Starlette(routes=[Route("/tasks/{gid}", task)])
    limiter = Limiter([Rate(2, 60, name="requests")])
    BatchEndpoint(policy="all", plugins=[OpenTelemetry(meter_provider=provider)], cost_hook=limiter).mount_to(app)
    await batch(app, action("/tasks/1"), action("/tasks/2"))
    await post(app, envelope(action("/tasks/1")))
    of_scope = {"otel_scope_name": "batchkit", "otel_scope_version": "", "otel_scope_schema_url": ""}
    route = {"http_request_method": "GET", "http_route": "/tasks/{gid}", "http_response_status_code": "200"}
    refusal = {"batchkit_limit": "requests", "http_response_status_code": "429"}
    assert registry.get_sample_value("batchkit_action_duration_seconds_count", route | of_scope) == 2
    assert registry.get_sample_value("batchkit_batch_refusals_total", refusal | of_scope) == 1
    assert registry.get_sample_value("batchkit_batch_duration_seconds_count", of_scope) == 1
    assert registry.get_sample_value("batchkit_batch_size_sum", of_scope) == 2
    provider.shutdown()
