"""Workers behind one port: started, watched, replaced when they die, and ended together.

The supervisor answers no request and touches no database. Its workers are its forks: they take over the listening
socket and the application, which is made and not yet open, so that no key is written anywhere or shown in a list of
processes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from types import FrameType

from muxi_identity.errors import ConfigurationError
from muxi_identity.server.app import Served
from muxi_identity.server.running import Settings
from muxi_identity.server.worker import STARTED, leave, work

logger = logging.getLogger("muxi_identity.server")

_LOOK_SECONDS = 0.5
_SILENT_LOOKS = 120
"""After how many looks, a minute's worth, a worker that says nothing is killed. Looks are counted, not seconds: when
the machine was asleep or the supervisor stopped, nobody is to blame."""
_EARLY_SECONDS = 10.0
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
"""How long to wait before the next worker in a place whose last ones died early, one after the other."""
_LATE_SECONDS = 5.0  # how much longer than it has for its last requests a worker may take to end
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_HEARD = (*_STOPPING, signal.SIGHUP, signal.SIGCHLD)


@dataclass(slots=True, eq=False)
class _Worker:
    pid: int
    told: int
    """Where it says how it does."""
    begun: float
    app: Served | None = None
    """What it serves: by this it is seen whether it has the present configuration."""
    started: bool = False
    silent: int = 0
    kill_at: float | None = None
    """When it is ended by force; None unless it was told to stop."""


@dataclass(slots=True, eq=False)
class _Place:
    worker: _Worker | None = None
    successor: _Worker | None = None
    """Takes over when it has started; until then the worker goes on."""
    failures: int = 0
    not_before: float = field(default=0.0)


class Supervisor:
    """Keeps ``workers`` processes serving at ``listener`` until SIGTERM or SIGINT.

    ``app`` is opened by each worker for itself. SIGHUP calls ``reload``, which returns another or raises
    ConfigurationError, and replaces one worker after the other, each only when its successor has started; where it
    comes because the terminal is gone, it ends them. For ``drain`` seconds before the end everything is answered, and
    ``/ready`` says that the end is near; told to stop again, it waits no longer.
    """

    def __init__(
        self,
        app: Served,
        listener: socket.socket,
        settings: Settings,
        *,
        workers: int,
        drain: int = 0,
        reload: Callable[[], Served],
    ) -> None:
        self._app = app
        self._before: Served | None = None
        """What they all had before a restart that has not come to its end."""
        self._listener = listener
        self._settings = settings
        self._drain = drain
        self._reload = reload
        self._terminals = [number for number in range(3) if os.isatty(number)]
        self._places = [_Place() for _ in range(workers)]
        self._leaving: list[_Worker] = []
        self._stop_at: float | None = None
        """When the end begins, once it is near."""
        self._stopping = False
        self._next_look = 0.0
        self._alive_read, self._alive_write = os.pipe()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve until told to stop, and return when every worker has ended."""
        handlers = {number: signal.signal(number, _heard) for number in _HEARD}
        before = signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        try:
            while not self._stopping or self._all():
                if not self._stopping:
                    self._fill()
                self._listen()
                self._bury()
                self._judge()
                if self._stop_at is not None and not self._stopping and monotonic() >= self._stop_at:
                    self._end()
        finally:
            for worker in self._all():
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._close()

    def _all(self) -> list[_Worker]:
        known = (worker for place in self._places for worker in (place.worker, place.successor))
        return [*(worker for worker in known if worker is not None), *self._leaving]

    # Starting

    def _fill(self) -> None:
        now = monotonic()
        for place in self._places:
            if place.worker is None and place.successor is None and now >= place.not_before:
                place.worker = self._start()
        # One at a time: at least all but one serve all the while, and the machine bears one more.
        if not any(place.successor for place in self._places):
            for place in self._places:
                if place.worker is not None and place.worker.app is not self._app and now >= place.not_before:
                    place.successor = self._start()
                    break
        if all(self._has_present(place) for place in self._places):
            self._before = None

    def _has_present(self, place: _Place) -> bool:
        """Tell whether a worker serves there with the present configuration."""
        return place.worker is not None and place.worker.started and place.worker.app is self._app

    def _start(self) -> _Worker:
        read, write = os.pipe()
        # Held back until the child has handlers of its own: ours would tell this process of the child's signals.
        held_back = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        pid = os.fork()
        if pid == 0:
            self._become_worker(read, write, held_back)
        signal.pthread_sigmask(signal.SIG_SETMASK, held_back)
        os.close(write)
        os.set_blocking(read, False)
        self._selector.register(read, selectors.EVENT_READ)
        logger.info("worker %d begins", pid)
        return _Worker(pid, read, monotonic(), self._app)

    def _become_worker(self, read: int, write: int, held_back: set[int]) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _HEARD:
                signal.signal(number, signal.SIG_DFL)
            for number in (signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)  # the supervisor's: from a terminal, everybody gets it
            signal.pthread_sigmask(signal.SIG_SETMASK, held_back)
            os.close(read)
            os.close(self._alive_write)
            for worker in self._all():
                os.close(worker.told)
            self._selector.close()
            self._wake_read.close()
            self._wake_write.close()
            os.set_blocking(write, False)
            code = work(self._app, self._listener, self._settings, told=write, supervisor=self._alive_read)
            if self._app.failure is not None:
                logger.error("worker %d cannot start: %s", os.getpid(), self._app.failure.message)
        except BaseException:
            logger.exception("worker %d failed", os.getpid())
        finally:
            leave(code)

    # Listening

    def _listen(self) -> None:
        for key, _ in self._selector.select(_LOOK_SECONDS):
            if key.fileobj is self._wake_read:
                for number in self._wake_read.recv(4096):
                    self._obey(number)
            else:
                self._hear(key.fd)

    def _obey(self, number: int) -> None:
        if number in _STOPPING or (number == signal.SIGHUP and self._hung_up()):
            if self._stopping and number == signal.SIGINT:  # asked for twice: now
                for worker in self._all():
                    worker.kill_at = 0.0
            elif self._drain and self._stop_at is None:
                self._announce()
            elif not self._stopping:
                self._end()
        elif number == signal.SIGHUP and self._stop_at is None:
            self._restart()

    def _hung_up(self) -> bool:
        """Tell whether a terminal that was there is gone, and SIGHUP comes from that: nobody asks for a restart."""
        return not all(os.isatty(number) for number in self._terminals)

    def _announce(self) -> None:
        logger.info("told to stop; for %d seconds more everything is answered, and /ready says so", self._drain)
        self._stop_at = monotonic() + self._drain
        for app in {self._app, *(worker.app for worker in self._all())}:
            if app is not None:
                app.announce_stop()

    def _end(self) -> None:
        logger.info("told to stop; the workers answer what they have begun")
        self._stopping = True
        self._stop_at = self._stop_at or monotonic()
        # As the workers do with theirs. As long as one is open, the kernel takes connections that nobody will answer.
        self._listener.close()
        for worker in self._all():
            self._stop(worker)

    def _restart(self) -> None:
        try:
            app = self._reload()
        except ConfigurationError as error:
            logger.error("told to restart, and goes on as it was: %s", error.message)
            return
        logger.info("told to restart: the workers are replaced, one after the other")
        self._before, self._app = self._before or self._app, app

    def _hear(self, told: int) -> None:
        with contextlib.suppress(BlockingIOError):
            words = os.read(told, 4096)
            if not words:  # it is gone, or as good as gone
                self._selector.unregister(told)
                return
            for worker in self._all():
                if worker.told == told:
                    worker.silent = 0
                    if STARTED in words and not worker.started:
                        worker.started = True
                        logger.info("worker %d serves", worker.pid)
                        self._take_over(worker)

    def _take_over(self, successor: _Worker) -> None:
        for place in self._places:
            if place.successor is successor:
                if place.worker is not None:
                    self._leaving.append(place.worker)
                    self._stop(place.worker)
                # Told to restart while it was starting, it serves what was read before, and is replaced next.
                place.worker, place.successor = successor, None

    def _stop(self, worker: _Worker) -> None:
        worker.kill_at = monotonic() + self._settings.grace + _LATE_SECONDS
        os.kill(worker.pid, signal.SIGTERM)

    # Watching

    def _bury(self) -> None:
        for worker in self._all():
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid == 0:
                continue
            self._forget(worker.told)
            how = os.waitstatus_to_exitcode(status)
            logger.log(logging.INFO if how == 0 else logging.WARNING, "worker %d ended (%d)", pid, how)
            if worker in self._leaving:
                self._leaving.remove(worker)
            for place in self._places:
                if place.worker is worker:
                    place.worker = None
                    self._put_off(place, worker)
                elif place.successor is worker:
                    place.successor = None
                    self._put_off(place, worker)
                    if not self._stopping and worker.app is self._app:
                        self._reconsider_restart()

    def _put_off(self, place: _Place, worker: _Worker) -> None:
        early = not worker.started or monotonic() - worker.begun < _EARLY_SECONDS
        place.failures = place.failures + 1 if early else 0
        pause = _PAUSES[min(place.failures, len(_PAUSES)) - 1] if early else 0.0
        place.not_before = monotonic() + pause

    def _reconsider_restart(self) -> None:
        """Go on with a restart whose successor did not start, or back where nobody serves with the new configuration.

        Where somebody does, it is good: to give up then would leave two configurations in service for ever.
        """
        if any(self._has_present(place) for place in self._places):
            logger.error("the successor of a worker did not start, and is started again: others have taken over")
            return
        logger.error("the successor of a worker did not start; the others go on as they were")
        if self._before is not None:
            self._app, self._before = self._before, None

    def _judge(self) -> None:
        now = monotonic()
        looks = now >= self._next_look
        if looks:
            self._next_look = now + _LOOK_SECONDS
        for worker in self._all():
            worker.silent += looks
            late = worker.kill_at is not None and now >= worker.kill_at
            if late or (worker.kill_at is None and worker.silent > _SILENT_LOOKS):
                logger.error("worker %d does not %s and is killed", worker.pid, "end" if late else "answer")
                os.kill(worker.pid, signal.SIGKILL)
                worker.kill_at = now + _LATE_SECONDS  # it is told once; the next look buries it

    def _forget(self, told: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(told)
        os.close(told)

    def _close(self) -> None:
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
        os.close(self._alive_read)
        os.close(self._alive_write)


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Let a signal come in by the socket that wakes the supervisor."""
