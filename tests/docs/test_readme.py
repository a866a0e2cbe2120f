"""The README's code runs, and its curl line is answered as it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sybil.document import Document
from sybil.example import Example
from sybil.parsers.markdown import PythonCodeBlockParser

from batchkit import client_js
from tests.keywords import table
from tests.nodes import find_node
from tests.servers import serving

README = Path(__file__).parents[2] / "README.md"
DOCUMENT = Document.parse(str(README), PythonCodeBlockParser())
EXAMPLES = list(DOCUMENT.examples())
ran: set[int] = set()


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that its reader has: two of its blocks, and the one in TOML that names the second."""
    [limits] = [example for example in EXAMPLES if "limiter = Limiter(\n" in example.parsed]
    (tmp_path / "hello.py").write_text(EXAMPLES[0].parsed)
    (tmp_path / "hello_limits.py").write_text(limits.parsed)
    (tmp_path / "pyproject.toml").write_text("".join(blocks("toml")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("hello", "hello_limits"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line {example.line}")
def test_every_python_block_runs(example: Example) -> None:
    # Some go on from those above, which another process may have run.
    for each in EXAMPLES:
        if each.line <= example.line and each.line not in ran:
            each.evaluate()
            ran.add(each.line)


# A python block, the curl line that follows it, and what that prints.
@pytest.mark.parametrize(
    ("index", "curl", "answer"),
    [(0, 0, blocks("json")[0]), (1, 1, blocks("json")[1]), (0, 2, blocks("jsonl")[0])],
    ids=["Starlette", "FastAPI", "lines"],
)
def test_the_apps_answer_the_curl_lines_as_it_says(index: int, curl: int, answer: str) -> None:
    EXAMPLES[index].evaluate()
    line = [block for block in blocks("sh") if block.startswith("curl ")][curl]
    with serving(DOCUMENT.namespace["app"]) as url:
        # -q and --noproxy: a .curlrc or a proxy of this machine's is no business of the README's.
        line = line.replace("curl ", "curl -q -sS --noproxy '*' ", 1).replace("http://127.0.0.1:8000", url)
        output = subprocess.run(["bash", "-c", line], capture_output=True, check=True, text=True).stdout
    assert objects(output) == objects(answer)


def test_its_line_of_node_prints_what_it_says(tmp_path: Path) -> None:
    node, [script] = find_node(), blocks("js")
    (tmp_path / "batchkit.mjs").write_bytes(Path(str(client_js.__file__)).with_name("batchkit.js").read_bytes())
    EXAMPLES[0].evaluate()
    with serving(DOCUMENT.namespace["app"]) as url:
        (tmp_path / "asks.mjs").write_text(script.replace("http://127.0.0.1:8000", url))
        done = subprocess.run([node, "asks.mjs"], cwd=tmp_path, capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout.strip() == script.partition(" // ")[2].strip()
    assert not done.stderr


def objects(text: str) -> list[object]:
    """The JSON documents that follow each other in a text."""
    decoder, found = json.JSONDecoder(), []
    while text := text.strip():
        item, end = decoder.raw_decode(text)
        found.append(item)
        text = text[end:]
    return found


@pytest.mark.anyio
async def test_the_tests_that_it_shows_pass() -> None:
    [shown] = [example for example in EXAMPLES if "def test_a_batch" in example.parsed]
    for example in EXAMPLES[: EXAMPLES.index(shown) + 2]:
        example.evaluate()
    tests = [value for name, value in DOCUMENT.namespace.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        if (awaited := test()) is not None:
            await awaited


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?://)([^)]+)\)", README.read_text()))
def test_its_links_lead_somewhere(target: str) -> None:
    headings = re.findall(r"^#+ (.*)$", README.read_text(), re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert target in anchors or (README.parent / target).exists()


@pytest.mark.parametrize("heading", ["Run it", "Test it"])
def test_two_sections_hold_one_command_each(heading: str) -> None:
    section = README.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    [block] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(block.splitlines()) == 1


def test_the_table_of_keywords_is_made_from_the_code() -> None:
    section = README.read_text().split("\n## All settings\n")[1].split("\n## ")[0]
    assert table() in section, "python -m tests.keywords prints the table as it should be"


def test_each_promise_of_security_stands_at_the_test_that_holds_it() -> None:
    """“Each sentence in bold stands in the docstring of the test that holds it.”"""
    section = README.read_text().split("What holds (if", 1)[1].split("What stays with you:", 1)[0]
    promises = re.findall(r"^- \*\*(.*?)\*\*", section, re.DOTALL | re.MULTILINE)
    assert len(promises) > 10
    docstrings = " ".join(path.read_text() for path in README.parent.glob("tests/**/test_*.py"))
    for promise in promises:
        assert f"Security: “{promise}”" in docstrings, promise
