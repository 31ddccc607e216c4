"""Configuration of the documentation: ``sphinx-build -W -n docs build/docs``."""

from importlib.metadata import version as installed_version

project = "proj"
author = "The proj developers"
release = version = installed_version("proj-runner")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["requirements.txt", "_static"]

nitpicky = True
nitpick_ignore_regex = [
    # napoleon takes the text before a colon in the docstring of an attribute for a type.
    (r"py:.*", r".*\s.*"),
    # Types of other libraries: their documentation is on other hosts, and none is contacted.
    (r"py:.*", r"(pandas|pd|collections|pathlib|typing|datetime|enum|msgspec|builtins)\b.*"),
    (r"py:.*", r"(UnsetType|Reproduction|os\.PathLike)"),
    # Types of constructors that programs do not call: the functions of `runner` return the objects.
    (r"py:.*", r"runner\.(settings\.Home|model\.RunRequest|interactive\.process_record\.ProcessRecord)"),
    (
        r"py:.*",
        r"(Sequence|Mapping|Path|Literal|Struct|object|str|int|float|bool|None|dict|list|tuple|optional)",
    ),
]
autodoc_typehints = "description"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"proj {release}"
html_static_path = ["_static"]
