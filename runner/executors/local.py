"""Runs commands as processes of this machine."""

from runner.executors.contract import Capabilities, ExecutionRequest
from runner.model import EnvironmentDeclaration, EnvironmentKind, Event, EventKind, Report
from runner.process import Outcome, ProcessRequest, find_program, run


class LocalExecutor:
    """Runs a command on this machine, in the run folder."""

    name = "local"
    capabilities = Capabilities(traces=True)

    def why_not(self, environment: EnvironmentDeclaration) -> str | None:
        """Return the reason why a command can't run on this machine, None if it can."""
        if environment.kind == EnvironmentKind.DOCKER_ENV:
            return "the project needs a container, and the local executor runs commands without one"
        if find_program("bash") is None:
            return "bash was not found on PATH; it runs the commands of projects"
        return None

    def execute(self, request: ExecutionRequest, report: Report) -> Outcome:
        """Run the command to its end and report timeouts, leftover processes and log faults."""
        outcome = run(
            ProcessRequest(
                argv=request.argv,
                cwd=request.cwd,
                env=request.variables,
                log=request.log,
                echo=request.echo,
                stdin=request.stdin,
                timeout=request.timeout,
                grace=request.grace,
                masks=request.masks,
                dead_addresses=request.dead_addresses,
                trace=request.trace,
            ),
            request.prepared,
        )
        for notice in outcome_notices(outcome, request):
            report(notice)
        return outcome


def outcome_notices(outcome: Outcome, request: ExecutionRequest) -> list[Event]:
    """Return warnings about how a command ended."""
    notices = []
    if outcome.stopped_by == "timeout":
        notices.append(f"the command was stopped: it took longer than {request.timeout:g} s")
    if outcome.left_behind and outcome.stopped_by is None:
        names = ", ".join(outcome.left_behind)
        notices.append(f"processes that the command left running were ended: {names}")
    if outcome.log_fault:
        notices.append(outcome.log_fault)
    return [Event(kind=EventKind.WARNING, message=notice) for notice in notices]
