"""The README's code runs, and its curl line is answered as it says."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
from sybil.document import Document
from sybil.example import Example
from sybil.parsers.markdown import PythonCodeBlockParser

from batchkit import BatchEndpoint
from tests.servers import serving

README = Path(__file__).parent.parent / "README.md"
DOCUMENT = Document.parse(str(README), PythonCodeBlockParser())
EXAMPLES = list(DOCUMENT.examples())


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line {example.line}")
def test_every_python_block_runs(example: Example) -> None:
    example.evaluate()


def test_the_quickstart_answers_the_curl_line_as_it_says() -> None:
    EXAMPLES[0].evaluate()
    [curl] = [block for block in blocks("sh") if block.startswith("curl ")]
    with serving(DOCUMENT.namespace["app"]) as url:
        # -q and --noproxy: a .curlrc or a proxy of this machine's is no business of the README's.
        line = curl.replace("curl ", "curl -q -sS --noproxy '*' ", 1).replace("http://127.0.0.1:8000", url)
        output = subprocess.run(["bash", "-c", line], capture_output=True, check=True, text=True).stdout
    assert json.loads(output) == json.loads(blocks("json")[0])


@pytest.mark.parametrize("heading", ["Run it", "Test it"])
def test_two_sections_hold_one_command_each(heading: str) -> None:
    section = README.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    [block] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(block.splitlines()) == 1


def test_every_keyword_stands_in_the_table() -> None:
    table = README.read_text().split("\n## All settings\n")[1].split("\n## ")[0]
    first_cells = "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", first_cells)) == {field.name for field in fields(BatchEndpoint) if field.init}
