"""Reads a file of its own in each way of a table; a program for a run, not imported by tests.

``make`` writes the files, ``read`` reads them. The folder is in a variable, so that no argument names a file.
"""

import ctypes
import json
import mmap
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from PIL import Image

FOLDER = Path(os.environ["FAR"])
OPEN = "import sys; open(sys.argv[1]).read()"


def read_mapped(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        mapped[:1]


def read_by_descriptor(path):
    folder = os.open(path.parent, os.O_RDONLY)
    os.close(os.open(path.name, os.O_RDONLY, dir_fd=folder))
    os.close(folder)


def read_in(kind):
    def read(path):
        worker = kind(target=open_it, args=(path,))
        worker.start()
        worker.join()

    return read


def read_forked(path):
    process = os.fork()
    if process == 0:
        open_it(path)
        os._exit(0)
    os.waitpid(process, 0)


def open_it(path):
    with open(path, "rb") as file:
        file.read()


def attach(path):
    database = sqlite3.connect(":memory:")
    database.execute("attach ? as other", (str(path),))
    database.execute("select * from other.t").fetchall()


def child(*words, **options):
    return lambda path: subprocess.run([*words, str(path)], check=True, stdout=subprocess.DEVNULL, **options)


def python(*options, **more):
    return child(sys.executable, *options, "-c", OPEN, **more)


WAYS = {
    "`open`": open_it,
    "`pathlib.Path.read_bytes`": Path.read_bytes,
    "`os.open`": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "`os.open` relative to a folder's descriptor": read_by_descriptor,
    "`mmap`": read_mapped,
    "a thread": read_in(threading.Thread),
    "`os.fork`": read_forked,
    "`multiprocessing`, spawned": read_in(multiprocessing.get_context("spawn").Process),
    "`numpy.load`": np.load,
    "`numpy.memmap`": lambda path: np.memmap(path, mode="r"),
    "`numpy.fromfile`": lambda path: np.fromfile(path, dtype=np.uint8),
    "`pandas.read_csv`": pd.read_csv,
    "`pandas.read_csv`, engine pyarrow": lambda path: pd.read_csv(path, engine="pyarrow"),
    "`pandas.read_parquet`": pd.read_parquet,
    "`pyarrow.csv.read_csv`": pa.csv.read_csv,
    "`pyarrow.parquet.read_table`": pa.parquet.read_table,
    "`h5py.File`": lambda path: h5py.File(path, "r").close(),
    "`PIL.Image.open`": lambda path: Image.open(path).load(),
    "`sqlite3.connect`": lambda path: sqlite3.connect(path).execute("select * from t").fetchall(),
    "`ATTACH` of SQLite": attach,
    "another Python of the environment": python(),
    "the same with `-I`": python("-I"),
    "the same with `-S`": python("-S"),
    "the same with a cleaned environment": python(env={}),
    "another program (`cat`)": child("cat"),
    "another program with a cleaned environment": child("cat", env={"PATH": os.environ["PATH"]}),
    "a shell's redirection": lambda path: subprocess.run(["bash", "-c", 'read -r < "$0"', path], check=False),
    "the C library by `ctypes`": lambda path: ctypes.CDLL(None).open(os.fsencode(path), os.O_RDONLY),
}


def make(way, path):
    if "load" in way and "numpy" in way:
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    elif "parquet" in way:
        pd.DataFrame({"a": [1]}).to_parquet(path)
    elif "h5py" in way:
        with h5py.File(path, "w") as file:
            file["a"] = 1
    elif "PIL" in way:
        Image.new("RGB", (2, 2)).save(path, format="png")
    elif "sqlite" in way.lower():
        with sqlite3.connect(path) as database:
            database.execute("create table t (a)")
    else:
        path.write_text("a\n1\n")


def main():
    paths = {way: FOLDER / f"{number}.dat" for number, way in enumerate(WAYS)}
    if sys.argv[1] == "make":
        for way, path in paths.items():
            make(way, path)
        print(json.dumps({way: str(path) for way, path in paths.items()}))
        return
    for way, read in WAYS.items():
        read(paths[way])


if __name__ == "__main__":
    main()
