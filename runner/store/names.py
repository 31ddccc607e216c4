"""Generates names for unnamed runs."""

import os

_ADJECTIVES = (
    "able agile amber apt azure bold brave bright brisk calm clear clever cosmic crisp curious deft eager early "
    "fair famous fleet fond gentle glad golden grand happy hardy honest humble jolly keen kind lively lucky mellow "
    "merry mighty modest neat nimble noble patient placid polite proud quick quiet rapid rare ready sleek smart "
    "snowy steady sunny swift tidy upbeat valiant vivid warm wise witty zesty"
)

_NOUNS = (
    "alder badger beaver birch bison brook canyon cedar cliff comet cove crane dolphin eagle egret falcon fern finch "
    "fjord fox gecko glade grove gull hare harbor hawk heron hill ibis island jay koala lagoon lake lark lemur lynx "
    "maple marten meadow moose newt oak orca osprey otter owl panda peak pine plover puffin quail raven reef ridge "
    "river robin salmon seal shore sparrow spruce stork swan tern thrush trout vale walrus whale willow wolf wren"
)


def make_name() -> str:
    """Return a random name like ``quiet-otter-417``; it is not unique."""
    adjectives, nouns = _ADJECTIVES.split(), _NOUNS.split()
    rest, number = divmod(int.from_bytes(os.urandom(8), "big"), 900)
    rest, adjective = divmod(rest, len(adjectives))
    return f"{adjectives[adjective]}-{nouns[rest % len(nouns)]}-{number + 100}"
