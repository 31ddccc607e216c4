"""Names what the trace hook, which runs in the command's Python, and the reader of its lines share."""

from pathlib import Path

TRACE_HOOK = Path(__file__).parent / "trace_hook"
"""The folder whose `.pth` file loads the hook in environments that proj builds."""
TRACE_HOOK_BY_PATH = TRACE_HOOK / "by_path"
"""The folder whose `sitecustomize` loads it anywhere else."""
TRACE_VARIABLE = "PROJ_TRACE"
"""The variable with the file to which the hook writes."""
SYSTEM = ("/usr/", "/lib", "/bin/", "/sbin/", "/proc/", "/sys/", "/dev/", "/etc/", "/run/")
"""Beginnings of the paths of system files, which are no inputs."""
