"""What has arrived is dealt with once, by whichever thread."""

from __future__ import annotations

from collections import deque

from mpicluster.client.connection import Connection
from mpicluster.wire import frames
from mpicluster.wire import messages as m


class Frame:
    more = False

    def __init__(self, messages):
        self.buffer = frames.pack(messages)


def test_what_a_caller_has_taken_of_an_envelope_is_not_taken_again():
    """It reads for itself, and leaves the rest of the envelope to the listening thread. Output comes once."""
    connection = Connection.__new__(Connection)
    connection._inbox = deque([Frame([m.Written(1, 0, []), m.Written(2, 0, []), m.Engines(0, [], "")]), Frame([m.Written(3, 0, [])])])
    connection._begun = 0
    heard = []
    connection._on_message = lambda message, _frame: heard.append(("listener", getattr(message, "task", None)))

    def take(message):
        if type(message) is m.Written:
            heard.append(("caller", message.task))
            return True
        return False

    assert connection._read_for(lambda: False, take, None) is False
    connection._handle_inbox()
    assert heard == [("caller", 1), ("caller", 2), ("listener", None), ("listener", 3)]
