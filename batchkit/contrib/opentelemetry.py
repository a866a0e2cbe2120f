"""OpenTelemetry: a span per batch and per action, and the metrics of both, for whatever the host's providers export them to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from time import perf_counter, time_ns

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit._protocol.headers import LONGEST_FIELD
from batchkit.errors import ActionFailed, BatchError, TooManyRequests
from batchkit.model import Action, Batch, current_action

try:
    from opentelemetry import context, metrics, propagate, trace
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.util.types import AttributeValue
except ImportError as error:
    raise ImportError(
        "batchkit.contrib.opentelemetry needs opentelemetry-api: pip install 'batchkit-asgi[opentelemetry]'"
    ) from error

__all__ = ["OpenTelemetry"]

# Those of the semantic conventions for http.server.request.duration, in seconds.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
ACTIONS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 50, 100)

# Of the batch that is at work: the context of its span, and when its results were there, by the clock of perf_counter.
_batch: ContextVar[tuple[context.Context, list[float]]] = ContextVar("batchkit.contrib.opentelemetry")


class OpenTelemetry:
    """Traces and counts batches: ``BatchEndpoint(plugins=(OpenTelemetry(),))``. What is seen is exported by your providers;
    ``tracer_provider`` and ``meter_provider`` default to the global ones, also where those are set later.

    **Spans**: ``batch``, below the span of what instruments the host, or else below the client's ``traceparent``; and below
    it one for each action that runs, named by method and route template (``GET /tasks/{gid}``), until its answer was complete.
    The action's own ``traceparent`` names that span, so what instruments the host goes on below it. A refused batch has a
    span without length.

    **Metrics**: ``batchkit.batch.duration`` in seconds, until the last result was there, and ``batchkit.batch.size`` in actions,
    of each batch that ran; ``batchkit.batch.refusals``, by ``batchkit.limit`` (the ``limit`` of TooManyRequests) and
    ``http.response.status_code``; ``batchkit.action.duration`` in seconds, by ``http.request.method``, ``http.route`` and
    ``http.response.status_code``, 0 for actions that did not run. No path or method of a client's making is among these values.

    Raises TypeError for providers that are none.
    """

    def __init__(
        self, *, tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None
    ) -> None:
        _check_provider("tracer_provider", tracer_provider, "get_tracer", "TracerProvider")
        _check_provider("meter_provider", meter_provider, "get_meter", "MeterProvider")
        self._tracer = trace.get_tracer("batchkit", tracer_provider=tracer_provider)
        meter = metrics.get_meter("batchkit", meter_provider=meter_provider)
        self._batch_duration = meter.create_histogram(
            "batchkit.batch.duration", "s", "Time until a batch has all its results", explicit_bucket_boundaries_advisory=SECONDS
        )
        self._batch_size = meter.create_histogram(
            "batchkit.batch.size", "{action}", "Actions in a batch", explicit_bucket_boundaries_advisory=ACTIONS
        )
        self._refusals = meter.create_counter("batchkit.batch.refusals", "{batch}", "Batches that the cost hook refused")
        self._action_duration = meter.create_histogram(
            "batchkit.action.duration", "s", "Time until an action has its result", explicit_bucket_boundaries_advisory=SECONDS
        )

    @asynccontextmanager
    async def batch(self, batch: Batch) -> AsyncIterator[None]:
        """A span around the run of ``batch``; its metrics, and those of its actions, when all work has ended."""
        start, started = time_ns(), perf_counter()
        span, around = self._start(batch, start)
        ends: list[float] = []
        token, batch_token = context.attach(around), _batch.set((around, ends))
        try:
            yield
        except Exception as error:
            span.record_exception(error)
            _fail(span, type(error).__qualname__)
            raise
        else:
            span.set_attribute(STATUS, 200)
        finally:
            _batch.reset(batch_token)
            context.detach(token)
            duration = max(ends, default=perf_counter()) - started
            span.end(start + int(duration * 1e9))
            self._batch_duration.record(duration, context=around)
            self._batch_size.record(len(batch.actions), context=around)
            for action in batch.actions:
                if action.result is not None:
                    attributes = {**_attributes(action), STATUS: action.result.status_code}
                    self._action_duration.record(action.result.duration, attributes, context=around)

    def refused(self, batch: Batch, error: BatchError) -> None:
        """A span without length, and one more refusal."""
        attributes: dict[str, AttributeValue] = {STATUS: error.status_code}
        if isinstance(error, TooManyRequests) and error.limit is not None:
            attributes["batchkit.limit"] = error.limit
        span, around = self._start(batch, time_ns())
        self._refusals.add(1, attributes, context=around)
        span.set_attributes(attributes)
        if error.status_code >= 500:
            _fail(span, str(error.status_code))
        span.end()

    def action(self, app: ASGIApp) -> ASGIApp:
        """A span around each action, which it is told of in its ``traceparent``."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            action = current_action(scope)
            assert action is not None
            assert action.batch_context is not None
            # An action begins without the context of its batch, which failed where it has none.
            around, ends = action.batch_context.get(_batch, (None, []))
            started = perf_counter()
            # Where nobody traces, an action costs next to nothing.
            traced = around is not None and trace.get_current_span(around).get_span_context().is_valid
            try:
                with self._span(action, scope, around) if traced else nullcontext():
                    await app(scope, receive, send)
            finally:
                ends.append(started + action.result.duration if action.result is not None else perf_counter())

        return watched

    @contextmanager
    def _span(self, action: Action, scope: Scope, around: context.Context | None) -> Iterator[None]:
        start, started = time_ns(), perf_counter()
        attributes = {**_attributes(action), "url.path": action.path, "batchkit.action.index": action.index}
        name = action.method if action.route is None else f"{action.method} {action.route}"
        span = self._tracer.start_span(name, around, attributes=attributes, start_time=start)
        token = context.attach(trace.set_span_in_context(span, around))
        scope["headers"] = _retraced(scope["headers"])
        failure: str | None = None
        try:
            yield
        except Exception as error:
            span.record_exception(error)
            failure = type(error).__qualname__
            raise
        finally:
            context.detach(token)
            result = action.result
            # Without a result it gets batchkit's own 500.
            status = ActionFailed.status_code if result is None else result.status_code
            duration = perf_counter() - started if result is None else result.duration
            span.set_attribute(STATUS, status)
            if status >= 500:
                _fail(span, failure or str(status))
            span.end(start + int(duration * 1e9))

    def _start(self, batch: Batch, start: int) -> tuple[trace.Span, context.Context]:
        """The span of a batch, and the context of what happens in it."""
        around, kind = context.get_current(), SpanKind.INTERNAL
        if not trace.get_current_span().get_span_context().is_valid:
            # Nothing instruments the host: the client's trace begins here.
            # A longer field is no trace's, and some propagators take quadratic time to read one.
            fields = [(name, value) for name, value in batch.scope["headers"] if len(value) <= LONGEST_FIELD]
            around, kind = propagate.extract(Headers(raw=fields), around), SpanKind.SERVER
        span = self._tracer.start_span("batch", around, kind, start_time=start)
        if span.is_recording():
            span.set_attributes(
                {
                    METHOD: batch.scope["method"],
                    "url.path": batch.scope["path"],
                    "url.scheme": batch.scope["scheme"],
                    "batchkit.batch.id": batch.id,
                    "batchkit.batch.size": len(batch.actions),
                }
            )
        return span, trace.set_span_in_context(span, around)


def _check_provider(name: str, provider: object, method: str, kind: str) -> None:
    # Whatever acts as one will do.
    if provider is not None and (isinstance(provider, type) or not hasattr(provider, method)):
        raise TypeError(f"{name}={provider!r}: give a {kind}, or None for the global one")


METHOD, ROUTE, STATUS = "http.request.method", "http.route", "http.response.status_code"


def _attributes(action: Action) -> dict[str, AttributeValue]:
    """What tells an action from others, of which there are many: its route, if it has one, but never its path."""
    method = action.method or "_OTHER"
    return {METHOD: method} if action.route is None else {METHOD: method, ROUTE: action.route}


def _retraced(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The header fields of an action, where those of the client's trace, ``tracestate`` included, are those of the current span.

    Its baggage stays where there is none to replace it: what instruments the host may not have taken it up.
    """
    fields: dict[str, str] = {}
    propagate.inject(fields)
    replaced = {name.lower().encode() for name in (propagate.get_global_textmap().fields - {"baggage"}) | fields.keys()}
    kept = [header for header in headers if header[0] not in replaced]
    return kept + [(name.lower().encode(), value.encode()) for name, value in fields.items()]


def _fail(span: trace.Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
