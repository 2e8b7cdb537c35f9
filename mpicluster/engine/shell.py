"""The IPython shell of an engine: cells, magics, what is displayed, and tracebacks in colour. The only part of an engine that imports
IPython; it is made when it is first needed, since that takes longer than the start of MPI.

What is displayed is recorded as a piece of the task's output, in order with what is printed.
"""

from __future__ import annotations

import base64
import json
import sys
import types
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from traitlets import Type
from traitlets.config import Config

from mpicluster.engine.output import Recorder
from mpicluster.wire.messages import DISPLAY

__all__ = ["EngineShell", "display", "make_shell"]

_OWN_FOLDER = __file__.rpartition("/engine/")[0] + "/"


class _Publisher(DisplayPublisher):  # type: ignore[misc]
    """What `display` calls."""

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        source: Any = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **_more: Any,
    ) -> None:
        kind = "update_display_data" if update else "display_data"
        self.shell.record({"output_type": kind, "data": data, "metadata": metadata or {}, "transient": transient or {}})

    def clear_output(self, wait: bool = False) -> None:
        self.shell.record({"output_type": "clear_output", "wait": bool(wait)})


class _DisplayHook(DisplayHook):  # type: ignore[misc]
    """What the value of a cell's last expression goes to."""

    def write_output_prompt(self) -> None:
        """The client shows where a value comes from."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        count = self.prompt_count
        self.shell.record({"output_type": "execute_result", "data": format_dict, "metadata": md_dict or {}, "execution_count": count})

    def log_output(self, format_dict: dict[str, Any]) -> None:
        """What is displayed is kept by the client, not here."""

    def finish_displayhook(self) -> None:
        self._is_active = False


class EngineShell(InteractiveShell):  # type: ignore[misc]
    """A shell without a terminal and without history on disk."""

    displayhook_class = Type(_DisplayHook)
    display_pub_class = Type(_Publisher)
    #: output of shell commands is written to ``sys.stdout``, where it is recorded
    system = InteractiveShell.system_piped

    _recorder: Recorder | None = None
    #: what the last cell raised, also where a magic has only shown it (``%run``)
    _shown: BaseException | None = None
    _raised: BaseException | None = None

    def record(self, output: dict[str, Any]) -> None:
        """Keep an output as notebooks have it; when no task runs, its text goes to the engine's log."""
        if "data" in output:
            output["data"] = {mime: _portable(content) for mime, content in output["data"].items()}
        content = json.dumps(output, default=repr).encode()
        if self._recorder is None or not self._recorder.write(DISPLAY, content):
            sys.stdout.write(f"{output.get('data', {}).get('text/plain', '')}\n")

    def execute(self, code: str, *, silent: bool) -> int:
        """Run a cell; raises what it raised. Silent: it is not counted nor kept in ``In``, and its value is not shown."""
        self._shown = self._raised = None
        result = self.run_cell(code, store_history=not silent, silent=silent)
        error = result.error_before_exec or result.error_in_exec or self._shown
        if error is not None:
            self._raised = error
            raise error
        return int(result.execution_count or self.execution_count)

    def render(self, error: BaseException) -> str:
        """The traceback of what the last cell raised, in colour; empty for any other error."""
        if error is not self._raised:
            return ""
        self._raised = self._shown = None
        tb = _of_the_user(error.__traceback__)
        try:
            if isinstance(error, SyntaxError):
                lines = self.SyntaxTB.structured_traceback(type(error), error, [])
            else:
                lines = self.InteractiveTB.structured_traceback(type(error), error, tb, tb_offset=0)
            return "\n".join(lines)
        except Exception as e:  # noqa: BLE001 - source that changed, a __str__ that fails: there is the plain traceback
            return f"[the traceback cannot be shown in colour: {type(e).__name__}]\n"

    # -- what IPython calls ------------------------------------------------------------------------------------------

    def showtraceback(self, exc_tuple: Any = None, *_args: Any, **_options: Any) -> None:
        """The error goes to the client."""
        self._shown = exc_tuple[1] if exc_tuple else sys.exc_info()[1]

    def showsyntaxerror(self, *_args: Any, **_options: Any) -> None:
        """The error goes to the client."""
        self._shown = sys.exc_info()[1]

    def enable_gui(self, gui: str | None = None) -> None:
        """Engines have no windows; ``%matplotlib inline`` asks for none."""
        if gui not in (None, "inline"):
            raise NotImplementedError(f"an engine has no screen for {gui!r}; use %matplotlib inline")

    def ask_exit(self) -> None:
        """What ``exit`` does: it ends the task."""
        sys.exit()


def make_shell(module: types.ModuleType, recorder: Recorder) -> EngineShell:
    """The shell of this process, with ``module`` as its namespace."""
    settings = Config()
    settings.HistoryManager.enabled = False  # nothing is written to disk
    settings.InteractiveShell.colors = "neutral"
    settings.InteractiveShell.xmode = "Context"
    streams = sys.stdout, sys.stderr
    shell: EngineShell = EngineShell.instance(config=settings, user_module=module, user_ns=module.__dict__)
    sys.stdout, sys.stderr = streams
    shell._recorder = recorder
    return shell


def _of_the_user(tb: types.TracebackType | None) -> types.TracebackType | None:
    """A traceback without the frames before the cell, and without those of this package."""
    frames: list[types.TracebackType] = []
    while tb is not None:
        if tb.tb_frame.f_code is InteractiveShell.run_code.__code__:
            frames.clear()
        elif not tb.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
            frames.append(tb)
        tb = tb.tb_next
    kept: types.TracebackType | None = None
    for frame in reversed(frames):
        kept = types.TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return kept


def _portable(content: Any) -> Any:
    """What JSON can hold: bytes of images become base64, as in notebooks."""
    return base64.b64encode(content).decode() if isinstance(content, bytes | bytearray | memoryview) else content
