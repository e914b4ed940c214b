"""An engine's process: its session, its last words, its end."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from typing import IO

from serve.engine import Program
from serve.errors import EngineDiedError, ServeError
from serve.process import Identity, dies_with_parent

LAST_LINES = 20


class Child:
    """A started program; its output goes on to our standard error, line by line.

    Raises:
        ServeError: the program cannot be run.
    """

    def __init__(self, program: Program) -> None:
        try:
            self._popen = subprocess.Popen(
                program.argv,
                env=program.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C reaches the launcher alone, and all that the engine
                # starts can be found and ended.
                start_new_session=True,
                preexec_fn=dies_with_parent(),
            )
        except OSError as error:
            raise ServeError(f"cannot run {program.argv[0]}: {error.strerror}") from error
        self.identity = Identity.of(self._popen.pid)
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        assert self._popen.stdout is not None
        self._pump = threading.Thread(target=self._forward, args=(self._popen.stdout,), daemon=True)
        self._pump.start()

    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._popen.poll() is None

    def died(self) -> EngineDiedError:
        """How the process ended, with its last lines."""
        code = self._popen.wait()
        # Its children may hold the pipe open, so the end of the output may never come.
        self._pump.join(timeout=1)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        lines = "\n".join(f"  {line}" for line in self._lines)
        return EngineDiedError(f"{how}. Its last lines:\n{lines}" if lines else f"{how}, silently")

    def end(self, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL to the whole session."""
        if self.running():
            self._popen.terminate()
            try:
                self._popen.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        self.identity.end_session(0)

    def _forward(self, output: IO[bytes]) -> None:
        for raw in output:
            self._lines.append(raw.decode(errors="replace").rstrip())
            sys.stderr.buffer.write(raw)
            sys.stderr.flush()
