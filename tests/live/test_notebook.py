"""A notebook that uses all that there is for notebooks, run by nbclient against a live cluster: ``tests/notebooks/tour.md``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parents[1] / "notebooks" / "tour.md"
TIMEOUT = 120
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def notebook(profile: str) -> Any:
    """The tour as a notebook: fenced blocks are cells, all else is text."""
    cells = []
    for text, code in re.findall(r"(.*?)(?:```python\n(.*?)\n```|\Z)", TOUR.read_text(), re.DOTALL):
        if text.strip():
            cells.append(nbformat.v4.new_markdown_cell(text.strip()))
        if code:
            cells.append(nbformat.v4.new_code_cell(code.replace('profile="tour"', f"profile={profile!r}")))
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture(scope="module")
def outputs(clusters) -> Callable[[str], list[Any]]:
    """``outputs("%pxresult")``: what the cell that begins so has shown in the tour."""
    clusters(4)[:].clear(block=True)
    tour = notebook("tests-4")
    NotebookClient(tour, timeout=TIMEOUT, kernel_name="python3", allow_errors=True).execute()
    cells = [cell for cell in tour.cells if cell.cell_type == "code"]

    def find(beginning: str) -> list[Any]:
        (found,) = [cell.outputs for cell in cells if cell.source.startswith(beginning)]
        return found

    return find


def text(shown: list[Any]) -> list[str]:
    """All lines of text that a cell has shown."""
    parts = []
    for output in shown:
        if output.output_type == "stream":
            parts += output.text.splitlines()
        elif output.output_type == "error":
            parts += output.traceback
        else:
            parts += output.data.get("text/plain", "").splitlines()
    return [ANSI.sub("", line) for part in parts for line in part.splitlines()]


def bundles(shown: list[Any], mime: str) -> list[Any]:
    return [x.data[mime] for x in shown if x.output_type in ("display_data", "execute_result") and mime in x.data]


def test_a_client_looks_well(outputs):
    (html,) = bundles(outputs("import mpicluster"), "text/html")
    assert "4 engines on 1 host" in html
    assert html.count("● idle".replace("● ", "●</span> ")) == 4


def test_output_is_labelled_and_in_the_order_of_engines(outputs):
    assert sorted(text(outputs('%px print(f"rank'))) == [f"[stdout:{i}] rank {i} of 4" for i in range(4)]


def test_values_are_labelled(outputs):
    assert all(re.match(r"Out\[\d:\d+\]: array\(", line) for line in text(outputs("%%px\nimport numpy")))


def test_tables_come_as_html(outputs):
    assert all("<table" in html for html in bundles(outputs("%%px --targets 0:2"), "text/html"))
    assert len(bundles(outputs("%%px --targets 0:2"), "text/html")) == 2


def test_figures_come_in_order_with_what_is_printed(outputs):
    shown = outputs("%%px -t 1,3")
    assert len(bundles(shown, "image/png")) == 2
    for engine in (1, 3):
        lines = [x for x in text(shown) if f":{engine}]" in x]
        assert lines == [f"[stdout:{engine}] before the figure", f"[output:{engine}]", f"[stdout:{engine}] after it"]


def test_output_grouped_by_engine_is_in_order(outputs):
    lines = [re.sub(r":\d+\]", "]", x) for x in text(outputs("%%px --group-outputs=engine"))]
    html = "<IPython.core.display.HTML object>"
    one = ["[stdout] first", "[output]", html, "[stdout] last"]
    assert lines == [*one, "Out[0]: 0", *one, "Out[1]: 1"]


def test_functions_display_too(outputs):
    assert bundles(outputs("def picture"), "text/html") == ["<i>displayed by a function</i>"] * 2


def test_lines_of_one_engine_are_in_order(outputs):
    lines = text(outputs("%%px\nimport time"))
    for engine in range(4):
        assert [x for x in lines if f":{engine}]" in x] == [f"[stdout:{engine}] step {k}" for k in range(3)]


def test_bars_of_engines_are_one_line_each(outputs):
    lines = text(outputs("%%px -t 0,1\nfrom tqdm"))
    assert sum(line.startswith("[stderr:0] rank 0: 100%") for line in lines) == 1
    assert sum(line.startswith("[stderr:1] rank 1: 100%") for line in lines) == 1
    assert sorted(lines[-2:]) == ["[stdout:0] done", "[stdout:1] done"]
    assert len(lines) == 4


def test_published_data_are_there(outputs):
    shown = outputs("code = ")
    assert {f"[stdout:{i}] published {i}" for i in range(4)} <= set(text(shown))
    assert eval("".join(bundles(shown, "text/plain"))) == [{"i": 4, "rank": i} for i in range(4)]


def test_an_error_on_one_engine_is_shown_once_beside_the_values_of_others(outputs):
    lines = text(outputs("%%px\ndef share"))
    assert sum(line.startswith("Out[") for line in lines) == 3
    assert lines.count("[2:execute]:") == 1
    assert any(re.match(r"Cell In\[\d+\], line 2, in share\(total\)", line) for line in lines)
    assert lines[-2:] == ["ZeroDivisionError: division by zero", "1 error"]


def test_an_error_on_all_engines_is_shown_once(outputs):
    lines = text(outputs("%px undefined_name"))
    assert sum("Traceback (most recent call last)" in line for line in lines) == 1
    assert lines.count("NameError: name 'undefined_name' is not defined") == 1
    assert lines[-1] == "4 errors"


def test_an_error_of_a_function_shows_its_source(outputs):
    """The source is in this notebook only: engines have never seen it."""
    lines = text(outputs("def invert"))
    assert lines[0] == "[0,1,2,3:apply]:"
    assert any(re.match(r"Cell In\[\d+\], line 3, in invert\(x\)", line) for line in lines)
    assert "----> 3     return 1 / y" in lines


def test_input_fails_clearly(outputs):
    lines = text(outputs("%px input"))
    assert any(x.startswith("StdinNotImplementedError: input('how many? ') was called on an engine") for x in lines)
    assert not any("namespace.py" in x for x in lines)


def test_a_result_that_was_not_waited_for(outputs):
    assert "of 4 done" in bundles(outputs("%%px --noblock"), "text/html")[0]
    assert text(outputs("%pxresult"))[:4] == [f"[stdout:{i}] late" for i in range(4)]
    assert "●</span> done" in bundles(outputs("later"), "text/html")[0]


def test_suffixes_and_settings(outputs):
    assert sorted(text(outputs("rc.activate"))) == ["[stdout:0] low 0", "[stdout:1] low 1"]
    assert text(outputs("%pxconfig")) == ["Parallel execution on engine(s): 2", "[stdout:2] 2"]


def test_autopx(outputs):
    assert sorted(text(outputs("secret"))) == [f"[stdout:{i}] {i * 10}" for i in range(4)]


def test_a_map_shows_a_bar(outputs):
    shown = outputs("def slow")
    assert "slow: 100%" in bundles(shown, "text/plain")[0]
    assert "100/100" in bundles(shown, "text/html")[0]
    assert bundles(shown, "text/plain")[-1] == str(sum(x * x for x in range(100)))


def test_a_long_cell_shows_a_bar(outputs):
    shown = outputs("%%px --progress-after")
    assert "4/4" in bundles(shown, "text/html")[0]


def test_results_look_well(outputs):
    assert "100%" in bundles(outputs("squares"), "text/html")[0]
    assert bundles(outputs("failed"), "text/html")[0].count("ZeroDivisionError: division by zero") == 2
    assert "engines 0, 1" in bundles(outputs("rc[:2]"), "text/html")[0]


def test_an_interrupt_reaches_the_engines(outputs):
    shown = text(outputs("%%px\nprint('asleep')"))
    assert {f"[stdout:{i}] asleep" for i in range(4)} <= set(shown)
    assert any("KeyboardInterrupt" in line for line in shown)
    assert sorted(text(outputs("%px print('awake')"))) == [f"[stdout:{i}] awake" for i in range(4)]
