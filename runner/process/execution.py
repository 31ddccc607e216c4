"""One command from its start to the end of its last process."""

import os
import selectors
import sys
import time
from contextlib import ExitStack
from signal import Signals

from runner.process.link import SupervisorHandle, prepare, refusal
from runner.process.output import Channel, Log, Screen, is_one_place, open_channels
from runner.process.request import Outcome, ProcessRequest
from runner.process.stop_sequence import STOPPING, Inbox, StopSequence
from runner.process.terminal import Terminal

_ABANDON = 10.0
"""Seconds after the first kill until we stop waiting: a process that hangs in the kernel can't be killed."""
_LOOK_AGAIN = 1.0
"""Seconds of silence after which we look whether somebody stopped the supervisor."""

# poll(2) of macOS does not know terminals, select(2) does.
_Selector = selectors.SelectSelector if sys.platform == "darwin" else selectors.PollSelector


def run(request: ProcessRequest, prepared: SupervisorHandle | None = None) -> Outcome:
    """Run a command to its end, with its output shown and kept as it comes; no process of it survives.

    SIGINT, SIGTERM and SIGHUP to us, and the timeout, stop it: see `StopSequence`. In any thread but the main one only
    the timeout does.

    Raises:
        ExecutionError: the command can't be started.
    """
    with ExitStack() as stack:
        supervisor = prepared or prepare()
        stack.callback(supervisor.close)
        merge = is_one_place(request.echo)
        log = Log(request.log)
        stack.callback(log.close)
        inbox = stack.enter_context(Inbox().listening())
        supervisor.submit(request, merge=merge)
        execution = _Execution(
            request, supervisor, open_channels(request, supervisor.output, supervisor.errors, log), inbox
        )
        stack.callback(execution.terminal.close)
        execution.follow()
        return execution.outcome(log.fault)


class _Execution:
    """What is known of a command while it runs."""

    def __init__(
        self, request: ProcessRequest, supervisor: SupervisorHandle, channels: tuple[Channel, Channel], inbox: Inbox
    ) -> None:
        self.request = request
        self.supervisor = supervisor
        self.channels = channels
        self.inbox = inbox
        self.terminal = Terminal(supervisor.process.pid)
        self.ladder = StopSequence(request.grace)
        self.last_step_at = time.monotonic()
        self.deadline: float | None = None
        self.started_at = time.time()
        self.refused: int | None = None
        self.status: int | None = None
        self.wall = 0.0
        self.usage = (0.0, 0.0, 0)
        self.stopped_by: str | None = None
        self.is_interrupted = False
        self.is_over = False
        self.left: dict[str, None] = {}

    def follow(self) -> None:
        """Serve output, signals, clocks and the supervisor until all has ended."""
        with _Selector() as selector:
            while not (self.is_over and self._is_drained()):
                self._choose(selector)
                ready = selector.select(self._patience())
                for key, _ in ready:
                    self._serve(key)
                if not ready:
                    self.supervisor.wake()
                self._climb()
        for number in self.inbox.take():  # one that came at the very end counts too
            self._heed(number)

    def outcome(self, log_fault: str | None) -> Outcome:
        """Return how it ended."""
        if self.refused is not None:
            raise refusal(self.request, self.refused)
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
            left_behind=tuple(self.left),
            log_fault=log_fault,
        )

    def _is_drained(self) -> bool:
        """Take what is still in the pipes; say whether all of it has been shown."""
        for channel in self.channels:
            while channel.is_wanted and channel.pump():
                continue
            if channel.is_wanted:
                channel.finish()  # a process that is not of the command may hold the pipe open for ever
        return not any(channel.is_open or channel.screen.backlog for channel in self.channels)

    def _choose(self, selector: selectors.BaseSelector) -> None:
        """Say what to wait for."""
        wanted: dict[int, tuple[int, object]] = {self.inbox.descriptor: (selectors.EVENT_READ, self.inbox)}
        if not self.is_over:
            wanted[self.supervisor.control.fileno()] = (selectors.EVENT_READ, self.supervisor)
        for channel in self.channels:
            if channel.is_wanted:
                wanted[channel.descriptor] = (selectors.EVENT_READ, channel)
            if channel.screen.backlog:
                wanted[channel.screen.descriptor] = (selectors.EVENT_WRITE, channel.screen)
        for known in tuple(selector.get_map()):
            if known not in wanted:
                selector.unregister(known)
        for descriptor, (events, what) in wanted.items():
            if descriptor not in selector.get_map():
                selector.register(descriptor, events, what)

    def _patience(self) -> float | None:
        """Return the seconds until a clock runs out, or the supervisor is looked after."""
        if self.is_over:
            return None
        times = [at for at in (self.ladder.due_at, self.deadline) if at is not None]
        return min(_LOOK_AGAIN, max(0.0, min(times) - time.monotonic())) if times else _LOOK_AGAIN

    def _serve(self, key: selectors.SelectorKey) -> None:
        if isinstance(key.data, Channel):
            key.data.pump()
        elif isinstance(key.data, Screen):
            key.data.pour()
        elif key.data is self.inbox:
            for number in self.inbox.take():
                self._heed(number)
        else:
            self._listen()

    def _heed(self, number: Signals) -> None:
        """Do what a signal to us asks for."""
        if self.is_over:
            for channel in self.channels:
                channel.screen.drop()
        if number in STOPPING:
            self._stop(number.name, number)
        else:
            self.supervisor.tell(f"signal {Signals.SIGSTOP:d}")
            self.terminal.take_back()
            os.kill(os.getpid(), Signals.SIGSTOP)
            self.supervisor.tell("continue")

    def _stop(self, reason: str, first: Signals) -> None:
        self.stopped_by = self.stopped_by or reason
        self.ladder.escalate(first, time.monotonic())

    def _climb(self) -> None:
        """Send the signal that is due."""
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline and not self.is_over:
            self.deadline = None
            if self.status is None:
                self._stop("timeout", Signals.SIGINT)
        number = None if self.is_over else self.ladder.step(now)
        if number is None:
            return
        self.supervisor.wake()
        is_relayed = self.request.relays and self.status is None and number != Signals.SIGKILL
        self.supervisor.tell(f"{'relay' if is_relayed else 'signal'} {number:d}")
        if number != Signals.SIGKILL:
            self.supervisor.tell("continue")
            self.last_step_at = now
        elif now - self.last_step_at > self.request.grace + _ABANDON:
            self.is_over = True
            self.supervisor.abandon()

    def _listen(self) -> None:
        """Take in what the supervisor says."""
        messages = self.supervisor.read()
        if messages is None:
            # Somebody killed the supervisor; the group has the same number and may outlive it.
            self.is_over = True
            self.wall = self.wall or time.time() - self.started_at
            self.supervisor.end_group()
        for word, *rest in messages or ():
            if word == "ended":
                self.status, self.wall = int(rest[0]), float(rest[1])
                self.ladder.sweep(time.monotonic())
            elif word == "over":
                self.usage = (float(rest[0]), float(rest[1]), int(rest[2]))
                self.is_over = True
            else:
                self._note(word, rest)

    def _note(self, word: str, rest: list[str]) -> None:
        if word == "started":
            self.started_at = float(rest[0])
            if self.request.timeout is not None:
                self.deadline = time.monotonic() + self.request.timeout
        elif word == "failed":
            self.refused = int(rest[0])
        elif word == "left":
            self.left.update(dict.fromkeys(rest))
        elif word == "stopped" and self.terminal.on_stop(int(rest[0])):
            self.supervisor.tell("continue")
        elif word == "interrupted" and int(rest[0]) == Signals.SIGINT:
            self.is_interrupted = True
