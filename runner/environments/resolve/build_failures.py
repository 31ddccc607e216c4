"""Parses the output of uv or pip for the package that could not be built and the last error of its build."""

import re

_UV = re.compile(r"(?m)Failed to (?:build|download and build) `?(?P<package>[^`\s]+)`?")
_PIP_WHEEL = re.compile(r"(?m)^[ \t]*(?:ERROR: )?Failed building wheel for (?P<package>\S+)")
_PIP_STATUS = re.compile(r"(?m)^[ \t]*Building (?:wheel|editable) for (?P<package>\S+).*finished with status 'error'")
_PIP_COLLECTING = re.compile(r"(?m)^[ \t]*(?:Collecting|Processing) (?P<package>\S+)")
_UV_OUTPUT = re.compile(r"(?m)^(?P<indent>[ \t]*)\[stderr\]\n(?P<text>(?:(?P=indent).*\n|[ \t]*\n)*)")
_PIP_OUTPUT = re.compile(r"\[\d+ lines of output\]\n(?P<text>.*?)\n\s*\[end of output\]", re.DOTALL)
_ERROR = re.compile(
    r"(?:[\w.]+\.)?\w*(?:Error|Exception|SystemExit|Interrupt)\b: ?\S.*"
    r"|(?:.*\b)?(?:fatal )?error: .*|.*\bcommand not found"
)
_OF_PIP = re.compile(r"error: (?:subprocess-exited-with-error|metadata-generation-failed)")
_TRIVIAL = re.compile(r"error: (?:command .* failed|Failed building|legacy-install)|hint: |note: |\[end of output\]")


def build_failure(output: str) -> str | None:
    """Return in one line which package could not be built and why, or None if no build failed."""
    found = _UV.search(output)
    package = found["package"] if found else _pip_package(output)
    if package is None:
        return None
    why = _last_error(output)
    return f"Failed to build {package}: {why}" if why else f"Failed to build {package}"


def _pip_package(output: str) -> str | None:
    found = _PIP_WHEEL.search(output) or _PIP_STATUS.search(output)
    if found:
        return found["package"]
    match = _OF_PIP.search(output)
    collected = _PIP_COLLECTING.findall(output[: match.start()]) if match else []
    return collected[-1] if collected else None


def _last_error(output: str) -> str | None:
    """Return the last error in the output of the build: an exception or a compiler error, else the last line."""
    found = _UV_OUTPUT.search(output) or _PIP_OUTPUT.search(output)
    if found is None:
        causes = re.findall(r"(?m)^[ \t]*(?:cause:|[├╰]─▶) (.+)$", output)
        return causes[-1].strip() if causes else None
    lines = [line.strip() for line in found["text"].splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.fullmatch(line)]
    telling = [line for line in errors if not _TRIVIAL.match(line)]
    return next((few[-1] for few in (telling, errors, lines) if few), None)
