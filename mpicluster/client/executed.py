"""What `execute` gives for each engine."""

from __future__ import annotations

from typing import Any

from mpicluster.client.metadata import Metadata

__all__ = ["ExecuteReply"]

_LONGEST = 32


class ExecuteReply:
    """A cell that has run on one engine: how many cells ran there, and, as attributes, all that `Metadata` knows of it.

    ``execution_count``
        the number of the cell there;
    ``metadata``
        where and when it ran, what it wrote.
    """

    def __init__(self, execution_count: int, metadata: Metadata) -> None:
        self.execution_count = execution_count
        self.metadata = metadata

    def __getattr__(self, key: str) -> Any:
        metadata = self.__dict__.get("metadata")
        if metadata is None or key not in metadata:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {key!r}")
        return metadata[key]

    def __getitem__(self, key: str) -> Any:
        return self.metadata[key]

    @property
    def data(self) -> dict[str, Any]:
        """What the last expression evaluated to, by MIME type; empty if it was not shown."""
        result = self.metadata.execute_result or {}
        found: dict[str, Any] = result.get("data", {})
        return found

    def display(self) -> None:
        """Show what it displayed and what it evaluated to, here."""
        from mpicluster.client.display import display_reply

        display_reply(self)

    def __repr__(self) -> str:
        text = self.data.get("text/plain", "")
        if len(text) > _LONGEST:
            text = text[: _LONGEST - 3] + "..."
        return f"<ExecuteReply[{self.execution_count}]: {text}>"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        text = self.data.get("text/plain", "")
        if not text:
            printer.text(repr(self))
            return
        where = self.metadata.engine_id
        printer.text(f"Out[{where}:{self.execution_count}]:{chr(10) if chr(10) in text else ' '}{text}")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {mime: content for mime, content in self.data.items() if mime != "text/plain"}
