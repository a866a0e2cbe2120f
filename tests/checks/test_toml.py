"""“Configuration from a file: `from_toml` as the design has it; each error names file, table and key.”"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from batchkit import Batch, BatchEndpoint, TooManyRequests, batchable
from batchkit.settings import Settings
from tests.batches import action, batch, envelope, post

Write = Callable[[str, str], Path]

HOOKS = """
from contextlib import asynccontextmanager
from batchkit import TooManyRequests
from batchkit.limiter import Limiter, asana_limits

async def refuse(batch):
    raise TooManyRequests("from a file")

class Watches:
    @asynccontextmanager
    async def batch(self, batch):
        yield

class Holds:
    inner = Watches()

watches = Watches()
limiter = Limiter(asana_limits())

async def app(scope, receive, send): ...
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file into the working directory, in which modules are found too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def values(endpoint: BatchEndpoint) -> dict[str, Any]:
    """The keywords of an endpoint as they hold."""
    return {field.name: getattr(endpoint.settings, field.name) for field in fields(Settings) if field.init}


EVERY = """
base_path = "/api"
dialect = "plain"
policy = "all"
exclude = ["POST /x", "/scim/*"]
max_actions = 3
max_body_size = 1000
max_result_size = 2000
action_timeout = 1.5
limiter_timeout = 2
limiter_errors = "allow"
require_json = false
result_headers = ["x-a"]
withhold = ["x-payment-key"]
scope_keys = ["aws.event"]
help = "Ask"
console = true
server_timing = false
"""


@pytest.mark.parametrize("name", ["pyproject.toml", "batchkit.toml"])
@pytest.mark.parametrize("table", ["tool.batchkit", "batchkit"])
def test_the_same_keys_as_keywords_in_either_table(write: Write, name: str, table: str) -> None:
    """“the same keys in `[tool.batchkit]` of a pyproject.toml or `[batchkit]` of any TOML file”."""
    path = write(name, f'[project]\nname = "x"\n[{table}]{EVERY}[tool.other]\nx = 1\n')
    by_hand = BatchEndpoint(
        base_path="/api",
        dialect="plain",
        policy="all",
        exclude=["POST /x", "/scim/*"],
        max_actions=3,
        max_body_size=1000,
        max_result_size=2000,
        action_timeout=1.5,
        limiter_timeout=2,
        limiter_errors="allow",
        require_json=False,
        result_headers=["x-a"],
        withhold=["x-payment-key"],
        scope_keys=["aws.event"],
        help="Ask",
        console=True,
        server_timing=False,
    )
    for given in (path, str(path), name):
        assert values(BatchEndpoint.from_toml(given)) == values(by_hand)


def test_hooks_plugins_and_host_are_named(write: Write) -> None:
    """“hooks and plugins as `"module:name"`”."""
    write("hooks_named.py", HOOKS)
    path = write(
        "a.toml",
        '[batchkit]\nhost = "hooks_named:app"\nallow = ["/x"]\ncost_hook = "hooks_named:limiter"\n'
        'plugins = ["hooks_named:watches", "hooks_named:Holds.inner"]\n',
    )
    endpoint = BatchEndpoint.from_toml(path)
    hooks: Any = import_module("hooks_named")
    named: list[object] = [endpoint.settings.host, endpoint.settings.cost_hook, *endpoint.settings.plugins]
    assert named == [hooks.app, hooks.limiter, hooks.watches, hooks.Holds.inner]
    assert hooks.limiter.endpoints == [endpoint], "which is the one whose POST is free"


def test_an_empty_table_is_the_defaults(write: Write) -> None:
    assert values(BatchEndpoint.from_toml(write("a.toml", "[batchkit]\n"))) == values(BatchEndpoint())


def test_a_class_of_its_own_makes_itself(write: Write) -> None:
    class Own(BatchEndpoint): ...

    assert type(Own.from_toml(write("a.toml", "[batchkit]\n"))) is Own


@pytest.mark.anyio
async def test_a_batch_runs_as_the_file_says(write: Write) -> None:
    @batchable
    async def hello(request: Request) -> Response:
        return Response()

    write("hooks_that_refuse.py", HOOKS)
    path = write("pyproject.toml", '[tool.batchkit]\nmax_actions = 1\ncost_hook = "hooks_that_refuse:refuse"\n')

    def hosting(**overrides: Any) -> Starlette:
        return BatchEndpoint.from_toml(path, **overrides).mount_to(Starlette(routes=[Route("/x", hello)]))

    answer = await post(hosting(), envelope(action("/x")))
    assert (answer.status, answer.json()["errors"]) == (429, [{"message": "from a file", "code": "rate_limited"}])
    assert (await post(hosting(), envelope(action("/x"), action("/x")))).status == 400
    # What is given in Python wins.
    results = await batch(hosting(cost_hook=None, max_actions=2), action("/x"), action("/x"))
    assert [result["status_code"] for result in results] == [200, 200]


def test_a_byte_order_mark_is_no_part_of_the_file(write: Write) -> None:
    assert BatchEndpoint.from_toml(write("a.toml", "\ufeff[batchkit]\nhelp = 'Fragen'\n")).settings.help == "Fragen"


def test_what_an_override_replaces_is_not_looked_at(write: Write) -> None:
    async def mine(batch: Batch) -> None:
        raise TooManyRequests

    path = write("a.toml", '[batchkit]\ncost_hook = "nowhere:hook"\nmax_actions = "many"\n')
    endpoint = BatchEndpoint.from_toml(path, cost_hook=mine, max_actions=4)
    assert (endpoint.settings.cost_hook, endpoint.settings.max_actions) == (mine, 4)


AT = "{file}, [batchkit]: "


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("max_actions = ", ValueError, "{file}: this is no TOML: Invalid value (at end of document)"),
        ("a = 1", ValueError, "{file}: it has no table [batchkit]: add it"),
        ("batchkit = 3", ValueError, "{file}: it has no table [batchkit]: add it"),
        ("[[batchkit]]", ValueError, "{file}: it has no table [batchkit]: add it"),
        ("tool = 3", ValueError, "{file}: it has no table [batchkit]: add it"),
        ("[batchkit]\n[tool.batchkit]", ValueError, "{file}: it has two tables, [batchkit] and [tool.batchkit]: keep one"),
        ("[batchkit]\nmax_action = 3", ValueError, AT + "unknown key 'max_action': did you mean 'max_actions'?"),
        ("[batchkit]\nmax-actions = 3", ValueError, AT + "unknown key 'max-actions': did you mean 'max_actions'?"),
        ("[batchkit]\nx = 3", ValueError, AT + "unknown key 'x': give one of host, base_path"),
        ("[batchkit.limits]", ValueError, AT + "unknown key 'limits': did you mean"),
        ("[batchkit]\nmax_actions = 0", ValueError, AT + "max_actions=0: give a whole number, at least 1"),
        ("[batchkit]\nmax_actions = 10.0", ValueError, AT + "max_actions=10.0: give a whole number"),
        ("[batchkit]\nmax_actions = '10'", ValueError, AT + "max_actions='10': give a whole number"),
        ("[batchkit]\naction_timeout = '30s'", TypeError, AT + "action_timeout='30s': give a number of seconds"),
        ("[batchkit]\naction_timeout = inf", ValueError, AT + "action_timeout=inf: give a number of seconds"),
        ("[batchkit]\naction_timeout = 10:00:00", TypeError, AT + "action_timeout=datetime.time(10, 0): give a number"),
        ("[batchkit]\nexclude = '/x'", TypeError, AT + "exclude='/x': give a sequence of strings"),
        ("[batchkit]\nexclude = [3]", TypeError, AT + "exclude: 3 is not a string"),
        ("[batchkit]\nconsole = 'on'", TypeError, AT + "console='on': give True or False"),
        ("[batchkit]\ndialect = 'Asana'", ValueError, AT + "dialect='Asana': give one of 'asana', 'plain'"),
        ("[batchkit]\nhelp = 1979-05-27", TypeError, AT + "help=datetime.date(1979, 5, 27): give a text"),
        ("[batchkit]\nallow = ['/x']", ValueError, AT + "allow=['/x']: it is for a host="),
        ("[batchkit]\ncost_hook = 3", TypeError, AT + 'cost_hook=3: give "module:name"'),
        ("[batchkit]\ncost_hook = 'hooks.charge'", ValueError, AT + "cost_hook='hooks.charge': give \"module:name\""),
        ("[batchkit]\ncost_hook = 'hooks/x.py:f'", ValueError, AT + "cost_hook='hooks/x.py:f': give \"module:name\""),
        ("[batchkit]\ncost_hook = ':f'", ValueError, AT + "cost_hook=':f': give \"module:name\""),
        (
            "[batchkit]\ncost_hook = 'nowhere:f'",
            ImportError,
            AT + "cost_hook='nowhere:f': No module named 'nowhere': install it, or start where it can be imported from",
        ),
        (
            "[batchkit]\ncost_hook = 'hooks_wrong:nothing'",
            ImportError,
            AT + "cost_hook='hooks_wrong:nothing': there is no nothing in hooks_wrong, or not yet",
        ),
        (
            "[batchkit]\ncost_hook = 'hooks_wrong:Watches'",
            TypeError,
            AT + "cost_hook=<class 'hooks_wrong.Watches'>: it is called with the Batch",
        ),
        ("[batchkit]\nhost = 'hooks_wrong:watches'", TypeError, AT + "host=<hooks_wrong.Watches object>: give a callable"),
        ("[batchkit]\nplugins = 'hooks_wrong:watches'", TypeError, AT + "plugins='hooks_wrong:watches': give a list, [\"module:"),
        ("[batchkit]\nplugins = [3]", TypeError, AT + 'plugins=3: give "module:name"'),
        (
            "[batchkit]\nplugins = ['hooks_wrong:Watches']",
            TypeError,
            AT + "plugins: <class 'hooks_wrong.Watches'> is a class: give",
        ),
        ("[batchkit]\nplugins = ['hooks_wrong:refuse']", TypeError, "has none of the methods 'batch', 'action' and 'refused'"),
    ],
)
def test_each_error_names_file_table_and_key(write: Write, text: str, error: type[Exception], says: str) -> None:
    """“an unknown key or bad value is an error that names file, table and key”."""
    write("hooks_wrong.py", HOOKS)
    path = write("settings.toml", text)
    with pytest.raises(error) as raised:
        BatchEndpoint.from_toml("settings.toml")
    assert says.format(file=path) in without_addresses(raised.value)


def without_addresses(error: Exception) -> str:
    return re.sub(r" at 0x\w+", "", str(error))


def test_in_a_pyproject_the_table_that_is_missing_is_tools(write: Write) -> None:
    path = write("pyproject.toml", "[project]\nname = 'x'\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}: it has no table [tool.batchkit]: add it")):
        BatchEndpoint.from_toml(path)
    path = write("pyproject.toml", "[tool.batchkit]\nmax_actions = -1\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}, [tool.batchkit]: max_actions=-1: give")):
        BatchEndpoint.from_toml(path)


def test_a_file_that_cannot_be_read_is_named_and_where_it_was_looked_for(write: Write) -> None:
    path = write("a.toml", "[batchkit]")
    with pytest.raises(FileNotFoundError) as missing:
        BatchEndpoint.from_toml("b.toml")
    assert str(missing.value) == (
        f"{path.with_name('b.toml')}: No such file or directory: give the path of a TOML file; "
        "'b.toml' begins in the working directory"
    )
    with pytest.raises(FileNotFoundError) as missing:
        BatchEndpoint.from_toml(path.with_name("b.toml"))
    assert str(missing.value).endswith("give the path of a TOML file")
    with pytest.raises(IsADirectoryError, match=r"Is a directory: give the path of a TOML file"):
        BatchEndpoint.from_toml(path.parent)
    (path.parent / "latin.toml").write_bytes(b"[batchkit]\nhelp = '\xe4'\n")
    with pytest.raises(ValueError, match=r"latin\.toml: this is no TOML: 'utf-8' codec"):
        BatchEndpoint.from_toml("latin.toml")


def test_what_the_file_leaves_open_may_be_given_in_python(write: Write) -> None:
    async def app(*_: object) -> None: ...

    path = write("a.toml", "[batchkit]\nallow = ['/x']\n")
    assert BatchEndpoint.from_toml(path, host=app).settings.host is app


def test_an_override_that_is_wrong_does_not_blame_the_file(write: Write) -> None:
    path = write("a.toml", "[batchkit]\nmax_actions = 3\n")
    with pytest.raises(ValueError, match=r"^max_actions=0: give a whole number"):
        BatchEndpoint.from_toml(path, max_actions=0)
    with pytest.raises(TypeError, match="BatchEndpoint: unexpected keyword argument 'max_action': did you mean"):
        BatchEndpoint.from_toml(path, max_action=0)


def test_a_module_that_fails_says_which_key_imported_it(write: Write) -> None:
    write("hooks_broken.py", "import no_such_module\n")
    write("hooks_failing.py", "raise RuntimeError('no pool')\n")
    path = write("a.toml", "[batchkit]\ncost_hook = 'hooks_broken:f'\n")
    with pytest.raises(ImportError, match=r"\[batchkit\]: cost_hook='hooks_broken:f': No module named 'no_such_module': install"):
        BatchEndpoint.from_toml(path)
    path = write("a.toml", "[batchkit]\ncost_hook = 'hooks_failing:f'\n")
    with pytest.raises(RuntimeError, match="no pool") as raised:
        BatchEndpoint.from_toml(path)
    assert raised.value.__notes__ == [
        f"{path}, [batchkit]: cost_hook='hooks_failing:f': this went wrong in importing hooks_failing"
    ]


def test_the_app_that_reads_the_file_cannot_be_named_in_it(write: Write) -> None:
    write(
        "own_app.py", "from batchkit import BatchEndpoint\nendpoint = BatchEndpoint.from_toml('a.toml')\nasync def app(*_): ...\n"
    )
    path = write("a.toml", "[batchkit]\nhost = 'own_app:app'\nallow = ['/x']\n")
    with pytest.raises(ImportError) as raised:
        import_module("own_app")
    assert f"{path}, [batchkit]: host='own_app:app': there is no app in own_app, or not yet" in str(raised.value)
    assert "then give it in Python: from_toml(…, host=…)" in str(raised.value)
