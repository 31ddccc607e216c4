"""Finds tracking servers that were not reachable in the output of a command."""

import re

_REFUSED = re.compile(
    r"HTTP(?P<secure>S?)ConnectionPool\(host='(?P<host>[^'\s]+)', port=(?P<port>\d+)\): Max retries exceeded with url: "
    r"\S*/2\.0/(?:preview/)?mlflow"
)
_FAILED = re.compile(r"API request to (?P<url>https?://[^\s'\"]+?)/(?:ajax-)?api/2\.0/(?:preview/)?mlflow\S* failed")


def unreachable_servers(log: str) -> tuple[str, ...]:
    """Return the URLs of the tracking servers that the client could not reach, without duplicates."""
    found: dict[str, None] = {}
    for match in _REFUSED.finditer(log):
        host = f"[{match['host'].strip('[]')}]" if ":" in match["host"] else match["host"]
        found[f"http{match['secure'].lower()}://{host}:{match['port']}"] = None
    for match in _FAILED.finditer(log) if not found else ():
        found[match["url"]] = None
    return tuple(found)
