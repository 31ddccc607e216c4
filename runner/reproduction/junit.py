"""Writes a reproduction as a JUnit file, which CI systems show: one test case for each compared result."""

from xml.etree import ElementTree as ET

from runner.reproduction.verdict import Comparison, Reproduction, Verdict


def junit_xml(found: Reproduction) -> bytes:
    """Return the JUnit XML of a reproduction; its first test case is the verdict as a whole."""
    whole = Comparison(name="verdict", verdict=found.verdict, detail=found.reason)
    cases = [("reproduction", whole)]
    cases += [("end", one) for one in (found.status, found.exit_code) if one is not None]
    cases += [("metric", one) for one in found.metrics] + [("output", one) for one in found.outputs]
    suite = ET.Element("testsuite", name=f"reproduction of run {found.original}", tests=str(len(cases)))
    suite.set("failures", str(sum(not one.verdict.is_reproduced for _, one in cases)))
    for kind, one in cases:
        case = ET.SubElement(suite, "testcase", classname=f"proj.{kind}", name=_clean(one.name))
        if not one.verdict.is_reproduced:
            failure = ET.SubElement(case, "failure", message=_clean(_message(one)), type=one.verdict.value)
            failure.text = _clean(f"original: {one.original}\nreproduced: {one.reproduced}\n")
        elif one.verdict is Verdict.WITHIN_TOLERANCE and one.rule:
            ET.SubElement(case, "system-out").text = _clean(f"within tolerance: {one.rule}")
    text: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _message(one: Comparison) -> str:
    return ": ".join(part for part in (one.verdict.value, one.detail) if part)


def _clean(text: str) -> str:
    """Return a text without the characters that XML 1.0 can't contain."""
    return "".join(letter if letter in "\t\n" or letter.isprintable() else "\ufffd" for letter in text)
