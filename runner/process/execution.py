"""Runs one command from its start to the end of its last process."""

import os
import selectors
import sys
import time
from contextlib import ExitStack
from signal import Signals

from runner.base import progress
from runner.process.link import SupervisorHandle, prepare, start_error, trace_error
from runner.process.output import Channel, Log, Screen, merges_streams, open_channels
from runner.process.own_terminal import copy_size
from runner.process.request import Echo, Outcome, ProcessRequest
from runner.process.stop_sequence import STOPPING, Inbox, StopSequence
from runner.process.terminal import Terminal

_ABANDON_SECONDS = 10.0
"""Seconds after the first SIGKILL until proj stops waiting: a process that hangs in the kernel can't be killed."""
_CHECK_INTERVAL = 1.0
"""Seconds without an event after which proj checks whether the supervisor was stopped."""

# poll(2) on macOS does not support terminals, select(2) does.
_Selector = selectors.SelectSelector if sys.platform == "darwin" else selectors.PollSelector


def run(request: ProcessRequest, prepared: SupervisorHandle | None = None) -> Outcome:
    """Run a command to its end, show and log its output at once, and end all of its processes.

    The timeout and the signals SIGINT, SIGTERM and SIGHUP to this process stop the command, see `StopSequence`.
    Outside the main thread only the timeout stops it.

    Raises:
        ExecutionError: the command can't be started.
    """
    with ExitStack() as stack:
        if request.echo is not Echo.NONE:
            stack.enter_context(progress.suspended())
        supervisor = prepared or prepare()
        stack.callback(supervisor.close)
        merge = merges_streams(request.echo)
        log = Log(request.log)
        stack.callback(log.close)
        inbox = stack.enter_context(Inbox().listening())
        supervisor.submit(request, merge=merge)
        execution = _Execution(request, supervisor, open_channels(request, supervisor, log), inbox)
        stack.callback(execution.terminal.close)
        execution.follow()
        return execution.outcome(log.fault)


class _Execution:
    """The state of a command while it runs."""

    def __init__(
        self, request: ProcessRequest, supervisor: SupervisorHandle, channels: tuple[Channel, Channel], inbox: Inbox
    ) -> None:
        self.request = request
        self.supervisor = supervisor
        self.channels = channels
        self.inbox = inbox
        self.terminal = Terminal(supervisor.process.pid)
        self.stop_sequence = StopSequence(request.grace)
        self.last_step_at = time.monotonic()
        self.deadline: float | None = None
        self.started_at, self.started_clock = time.time(), time.monotonic()
        self.start_errno: int | None = None
        self.trace_errno: int | None = None
        self.status: int | None = None
        self.wall = 0.0
        self.usage = (0.0, 0.0, 0)
        self.stopped_by: str | None = None
        self.is_interrupted = False
        self.is_over = False
        self.left_behind: dict[str, None] = {}

    def follow(self) -> None:
        """Handle output, signals, timers and messages of the supervisor until all have ended."""
        with _Selector() as selector:
            while not (self.is_over and self._is_drained()):
                self._register(selector)
                if self.supervisor.has_terminal:
                    copy_size(self.supervisor.output)
                ready = selector.select(self._wait_seconds())
                for key, _ in ready:
                    self._dispatch(key)
                if not ready:
                    self.supervisor.wake()
                self._escalate()
        for number in self.inbox.take():  # a signal that arrives at the very end counts too
            self._handle_signal(number)

    def outcome(self, log_fault: str | None) -> Outcome:
        """Return how the command ended.

        Raises:
            ExecutionError: the command was not started.
        """
        if self.start_errno is not None:
            raise start_error(self.request, self.start_errno)
        if self.trace_errno is not None:
            raise trace_error(self.request, self.trace_errno)
        code = os.waitstatus_to_exitcode(self.status) if self.status is not None else -Signals.SIGKILL
        if self.is_interrupted and code and self.stopped_by is None:
            self.stopped_by = Signals.SIGINT.name
        user, system, memory = self.usage
        return Outcome(
            exit_code=code if code >= 0 else 128 - code,
            signal=-code if code < 0 else None,
            started_at=round(self.started_at * 1000),
            ended_at=round((self.started_at + self.wall) * 1000),
            wall_seconds=self.wall,
            user_seconds=user,
            system_seconds=system,
            peak_memory=memory or None,
            stopped_by=self.stopped_by,
            left_behind=tuple(self.left_behind),
            log_fault=log_fault,
        )

    def _is_drained(self) -> bool:
        """Read what is left in the pipes; return whether all of it has been shown."""
        for channel in self.channels:
            while channel.is_readable and channel.read():
                continue
            if channel.is_readable:
                channel.end()  # a process outside of the command may hold the pipe open for ever
        return not any(channel.is_open or channel.screen.backlog for channel in self.channels)

    def _register(self, selector: selectors.BaseSelector) -> None:
        """Register the descriptors to wait for."""
        wanted: dict[int, tuple[int, object]] = {self.inbox.descriptor: (selectors.EVENT_READ, self.inbox)}
        if not self.is_over:
            wanted[self.supervisor.control.fileno()] = (selectors.EVENT_READ, self.supervisor)
        for channel in self.channels:
            if channel.is_readable:
                wanted[channel.descriptor] = (selectors.EVENT_READ, channel)
            if channel.screen.backlog:
                wanted[channel.screen.descriptor] = (selectors.EVENT_WRITE, channel.screen)
        for known in tuple(selector.get_map()):
            if known not in wanted:
                selector.unregister(known)
        for descriptor, (events, what) in wanted.items():
            if descriptor not in selector.get_map():
                selector.register(descriptor, events, what)

    def _wait_seconds(self) -> float | None:
        """Return the seconds until the next timer or the next check of the supervisor, None to wait for events only."""
        if self.is_over:
            return None
        times = [at for at in (self.stop_sequence.due_at, self.deadline) if at is not None]
        return min(_CHECK_INTERVAL, max(0.0, min(times) - time.monotonic())) if times else _CHECK_INTERVAL

    def _dispatch(self, key: selectors.SelectorKey) -> None:
        if isinstance(key.data, Channel):
            key.data.read()
        elif isinstance(key.data, Screen):
            key.data.flush()
        elif key.data is self.inbox:
            for number in self.inbox.take():
                self._handle_signal(number)
        else:
            self._read_messages()

    def _handle_signal(self, number: Signals) -> None:
        """Handle a signal to this process: stop the command, or suspend it with this process."""
        if self.is_over:
            for channel in self.channels:
                channel.screen.drop()
        if number in STOPPING:
            self._stop(number.name, number)
        else:
            self.supervisor.send(f"signal {Signals.SIGSTOP:d}")
            self.terminal.take_back()
            os.kill(os.getpid(), Signals.SIGSTOP)
            self.supervisor.send("continue")

    def _stop(self, reason: str, first: Signals) -> None:
        self.stopped_by = self.stopped_by or reason
        self.stop_sequence.escalate(first, time.monotonic())

    def _escalate(self) -> None:
        """Send the next signal of the stop sequence if it is due."""
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline and not self.is_over:
            self.deadline = None
            if self.status is None:
                self._stop("timeout", Signals.SIGINT)
        number = None if self.is_over else self.stop_sequence.step(now)
        if number is None:
            return
        self.supervisor.wake()
        is_relayed = self.request.relays and self.status is None and number != Signals.SIGKILL
        self.supervisor.send(f"{'relay' if is_relayed else 'signal'} {number:d}")
        if number != Signals.SIGKILL:
            self.supervisor.send("continue")
            self.last_step_at = now
        elif now - self.last_step_at > self.request.grace + _ABANDON_SECONDS:
            self.is_over = True
            self.supervisor.abandon()

    def _read_messages(self) -> None:
        """Read and handle the messages of the supervisor."""
        messages = self.supervisor.read()
        if messages is None:
            # The supervisor was killed. Its process group has the same number and may outlive it.
            self.is_over = True
            self.wall = self.wall or time.monotonic() - self.started_clock
            self.supervisor.end_group()
        for kind, *rest in messages or ():
            if kind == "ended":
                self.status, self.wall = int(rest[0]), float(rest[1])
                self.stop_sequence.end_leftovers(time.monotonic())
            elif kind == "over":
                self.usage = (float(rest[0]), float(rest[1]), int(rest[2]))
                self.is_over = True
            else:
                self._handle_message(kind, rest)

    def _handle_message(self, kind: str, rest: list[str]) -> None:
        if kind == "started":
            self.started_at, self.started_clock = float(rest[0]), time.monotonic()
            if self.request.timeout is not None:
                self.deadline = time.monotonic() + self.request.timeout
        elif kind == "failed":
            self.start_errno = int(rest[0])
        elif kind == "untraced":
            self.trace_errno = int(rest[0])
        elif kind == "left":
            self.left_behind.update(dict.fromkeys(rest))
        elif kind == "stopped" and self.terminal.on_stop(int(rest[0])):
            self.supervisor.send("continue")
        elif kind == "interrupted" and int(rest[0]) == Signals.SIGINT:
            self.is_interrupted = True
