"""Inputs that know the grammars: nesting, aliases, long numbers, odd tags, half words, damage to good examples."""

import copy
import io
import json
import random
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEEP = [
    "[",
    "{",
    "{a: ",
    "- ",
    "? ",
    "[{",
    '{"a":',
    "(",
    "a.",
    "!",
    "&a [",
    "a = [",
    "[[",
    "<",
    "if x:\n ",
    "lambda:",
    "-",
]
"""What nests."""
PIECES = [
    *(
        "a",
        "a.",
        "a,",
        "a=",
        "a ",
        "1",
        "1.",
        "59:",
        "é",
        "\0",
        "\n",
        "\r\n",
        "\t",
        " ",
        "'",
        '"',
        "\\",
        "\\\n",
        "#",
        "##",
        "//",
    ),
    *(
        "/*",
        "*/",
        "${",
        "{{",
        "}}",
        "{a}",
        "{a:{a}}",
        "$",
        "%",
        "%41",
        "@",
        "::",
        ";",
        "; ",
        "|",
        "&&",
        "==1",
        ">=1,",
        "~=",
        "[x]",
    ),
    *(
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "<",
        ">",
        "`",
        "!!int ",
        "!!binary ",
        "&a ",
        "*a ",
        "<<: ",
        "--",
        "---\n",
        "...\n",
        "? ",
        ": ",
    ),
    *(
        "import a.",
        "import a\n",
        "from . import b\n",
        "-r x\n",
        *(f"{option} {name}.txt\n" for option in ("-r", "-c") for name in "abcdefgh"),
        "-e .\n",
        "--hash=sha256:0 ",
        "git+https://",
        "https://a:b@",
    ),
    *(
        "RUN pip install a\n",
        "python -m a",
        "cd a;",
        "<<EOF\n",
        "x.py ",
        "token=",
        "password ",
        "AND ",
        "metrics.a > 1 AND ",
    ),
    *(
        "params.a = 'x' ",
        "1h",
        "\u2028",
        "\ud7ff",
        "\ufeff",
        "NaN",
        "1e400",
        "-inf",
        "step=",
        "[linux] ",
        "# [linux]\n",
        "a: b\n",
    ),
]
"""What repeats."""
BOMBS = [
    "a: &a [x]\n" + "".join(f"a{n}: &b{n} [{', '.join(['*a' if n == 0 else f'*b{n - 1}'] * 9)}]\n" for n in range(12)),
    "a: &a {k: v}\n"
    + "".join(f"a{n}: &b{n} {{<<: [{', '.join(['*a' if n == 0 else f'*b{n - 1}'] * 9)}]}}\n" for n in range(12)),
    "dependencies: &a [six, &b [*a]]\n",
    "&a [*a]",
    "{? &a [*a] : 1}",
    "entry_points: &e {main: {command: x, parameters: &p {a: {default: *p}}}}\n",
    "0" * 5000,
    "- " + "59:" * 50_000 + "59",
    "a: !!python/object/apply:os.system [ls]",
    "a: !!timestamp x\nb: !!binary é\nc: !!set [a]\nd: !!omap 1",
    '{"a": ' + "9" * 5000 + "}",
    "x = " + "[" * 5000,
    "a" + ".a" * 20_000 + " = 1",
    "import " + ".".join(["a"] * 20_000),
    "x = " + "+".join(["'a'"] * 30_000),
    "".join(f"ENV a{n + 1}=${{a{n}}}$a{n}\n" for n in range(60)) + "RUN pip install $a60\n",
    "".join(f"-r {chr(98 + n // 400)}.txt\n" for n in range(2_800)),
]
EXAMPLES = [
    "name: x\nentry_points:\n  main:\n    parameters:\n      a: {type: float, default: 0.5, min: 0}\n"
    "      b: path\n    command: python train.py {a} {b} ${HOME}\n    env: {A: b}\n    timeout: 1h\n",
    "python: 3.10\nbuild_dependencies: [pip]\ndependencies:\n  - numpy>=1\n  - -r requirements.txt\n",
    "name: x\nchannels: [conda-forge, defaults]\ndependencies:\n  - python=3.9\n  - numpy=1.2=py_0 # [linux]\n  - pip:\n    - six\n",
    "numpy==1.2 ; python_version < '3' --hash=sha256:00\n-e .[a,b]\n--index-url https://u:p@h/x\nx @ git+https://h/x@v1\n",
    'lock-version = "1.0"\n[[packages]]\nname = "a"\nversion = "1"\nmarker = "x"\nwheels = [{url = "u", hashes = {sha256 = "0"}}]\n',
    '[project]\nname = "x"\ndependencies = ["a>=1"]\n[tool.poetry.dependencies]\npython = "^3.8"\nb = {version = "*", optional = true}\n',
    '{"_meta": {"requires": {"python_version": "3.8"}}, "default": {"a": {"version": "==1"}}}',
    "[options]\ninstall_requires =\n    a>=1\npython_requires = >=3\n",
    "from setuptools import setup\nx = ['a']\nsetup(install_requires=x + ['b'], python_requires='>=3')\n",
    "version: 1\nmetadata: {content_hash: {linux-64: x}, channels: [{url: c}], platforms: [linux-64]}\npackage:\n"
    "- {name: a, version: '1', manager: conda, platform: linux-64, dependencies: {}, url: 'https://h/a-1-0.conda', hash: {md5: x}}\n",
    "version: 1\nmetadata: {content_hash: {linux-64: x}, channels: [{url: c}], platforms: [linux-64],\n"
    "  custom_metadata: {proj: '1', as_of: '2020-01-01', no_dates_for: a b}}\npackage:\n"
    "- {name: a, version: '1', manager: conda, platform: linux-64, url: 'https://h/linux-64/a-1-0.conda', build: '0', "
    f"hash: {{md5: {'a' * 32}}}, dependencies: {{b: '>1'}}}}\n"
    f"- {{name: p, version: '1', manager: pip, platform: linux-64, url: 'https://h/p-1.zip', hash: {{sha256: {'a' * 64}}}, "
    "source: {url: 'git+https://h/x'}}\n",
    '{"image": "x", // comment\n "containerEnv": {"A": "b",},}',
    "FROM python:3.9\nRUN pip install -r requirements.txt && \\\n  pip install 'a>=1' b\nCOPY . .\n",
    'loss=0.5 step=3\n{"loss": 0.5, "step": 3}\nrmse = 1e-3\n',
    "a,b,step\n1,2,3\n",
    "import os, numpy as np\ntry:\n    import x\nexcept ImportError:\n    pass\nmlflow.set_tracking_uri('http://h')\n",
    '{"cells": [{"cell_type": "code", "source": ["import a\\n", "%magic\\n"]}], "nbformat": 4}',
    "metrics.a > 0.5 AND params.`b c` LIKE '%x%' AND tags.t IN ('a', 'b')",
    "run_id: x\nstatus: 3\nname: ''\n",
    "_src_path: proj://x.git\n_commit: '1'\n",
    "git+https://h.example/x.git@v1#subdirectory=y",
    "1600000000000 0.5 3\n",
]
ODD_VALUES: list[object] = [
    *(None, 0, -1, 1.5, float("nan"), True, "", " ", "x\ny", "..", "/", "-", "${A}", "{a}", "a" * 3000, 10**30),
    *([], {}, [[1]], [None], {"a": None}, {"a": [{}]}, ["a", "b"]),
]
"""What stands where another type is expected."""


def make_input(chosen: random.Random, size: int = 60_000) -> bytes:
    """Return one input: an example with damage, a structure, a repetition, a bomb, or noise; up to ``size`` bytes."""
    kind = chosen.choice(("damage", "damage", "shape", "shape", "deep", "repeat", "repeat", "bomb", "mixed", "noise"))
    if kind == "noise":
        return chosen.randbytes(chosen.randrange(300))
    text = {
        "shape": _misshapen,
        "damage": _damaged,
        "deep": _deep,
        "repeat": _repeated,
        "bomb": _bomb,
        "mixed": _mixed,
    }[kind](chosen, size)
    encoding = chosen.choice(("utf-8", "utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig"))
    return text[:size].encode(encoding, "surrogatepass")


def _deep(chosen: random.Random, size: int) -> str:
    piece = chosen.choice(DEEP)
    before, after = chosen.choice(("", "a: ", "a = ", "x = ", "dependencies: ")), chosen.choice(("", "]", "}", "1"))
    return before + piece * (chosen.choice((100, 1000, size)) // len(piece)) + after


def _repeated(chosen: random.Random, size: int) -> str:
    example = chosen.choice(EXAMPLES)
    at = chosen.randrange(len(example) + 1)
    piece = "".join(chosen.choices(PIECES, k=chosen.choice((1, 1, 2, 3))))
    times = chosen.choice((10, 1000, size)) // len(piece) + 1
    if chosen.random() < 0.5:
        return piece * times
    return example[:at] + piece * times + example[at:]


def _bomb(chosen: random.Random, size: int) -> str:
    del size
    return chosen.choice(("", "dependencies:\n", "x: 1\n")) + chosen.choice(BOMBS)


def _mixed(chosen: random.Random, size: int) -> str:
    pieces = [*PIECES, *DEEP, *EXAMPLES]
    return "".join(chosen.choices(pieces, k=chosen.choice((5, 50, 500))))[:size]


def _damaged(chosen: random.Random, size: int) -> str:
    text = chosen.choice(EXAMPLES)
    for _ in range(chosen.randrange(1, 6)):
        start = chosen.randrange(len(text) + 1)
        end = min(len(text), start + chosen.choice((0, 0, 1, 5, 30)))
        text = text[:start] + chosen.choice((*PIECES, *BOMBS[2:9], "", text[start:end] * 3)) + text[end:]
    return text[:size]


def _misshapen(chosen: random.Random, size: int) -> str:
    """Return an example in YAML or JSON in which some values are of another type."""
    trees = [(text, tree) for text in EXAMPLES if isinstance(tree := _tree(text), dict)]
    text, tree = chosen.choice(trees)
    for _ in range(chosen.choice((1, 1, 3))):
        parents = list(_collections(tree))
        parent = chosen.choice(parents)
        key = chosen.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        parent[key] = copy.deepcopy(chosen.choice(ODD_VALUES))
    return (json.dumps(tree) if text.startswith("{") else yaml.safe_dump(tree, sort_keys=False))[:size]


def _tree(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _collections(tree: Any) -> Iterator[Any]:
    """Yield the mappings and lists of a tree that have values."""
    if isinstance(tree, dict | list) and tree:
        yield tree
        for child in tree.values() if isinstance(tree, dict) else tree:
            yield from _collections(child)


def make_zip(chosen: random.Random) -> bytes:
    """Return a zip with names, links and headers that lie."""
    names = [
        "a",
        "A",
        "a/b",
        "../x",
        "/abs",
        "a\\b",
        "C:/x",
        "a/../../x",
        "x/" * 200,
        "\0",
        "é",
        "a" * 300,
        ".git/config",
        "",
    ]
    target = io.BytesIO()
    warnings.simplefilter("ignore", UserWarning)  # of names that are there twice
    with zipfile.ZipFile(target, "w", chosen.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))) as archive:
        for _ in range(chosen.choice((0, 1, 3, 30))):
            entry = zipfile.ZipInfo(chosen.choice(names) or "n")
            entry.compress_type = chosen.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2))
            kind = chosen.choice((stat.S_IFREG, stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR))
            entry.external_attr = (kind | 0o755) << 16
            content = chosen.choice((b"", b"x", b"../../etc", b"\0" * 5_000_000, b"a" * 100_000, b"a/b"))
            archive.writestr(entry, content)
    data = bytearray(target.getvalue())
    for _ in range(chosen.choice((0, 0, 1, 4))):
        at = chosen.randrange(len(data))
        field = struct.pack("<I", chosen.choice((0, 1, 2**32 - 1, 2**31, 0x0800)))
        data[at : at + 4] = field
    return bytes(data)


def save(folder: Path, name: str, data: bytes) -> Path:
    """Write an input to a file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    return path
