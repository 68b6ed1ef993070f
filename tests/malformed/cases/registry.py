"""What a case is: a valid model, one defect, and what a runtime has to say about the result."""

from dataclasses import dataclass

import onnx

KINDS = {"io", "malformed", "limit", "graph", "tensor", "attribute", "unsupported", "external", "shape"}

REFUSED = []
LENIENT = []


@dataclass(frozen=True)
class Case:
    name: str
    base: onnx.ModelProto | None  # None: nothing was damaged to make the file
    data: bytes
    kind: str = ""
    mentions: str = ""
    why: str = ""


def refuse(name, kind, mentions, base, defect):
    """Registers a file that must be refused. `defect` changes a copy of `base`, or returns what replaces it."""
    assert set(kind.split("|")) <= KINDS, f"{name}: unknown kind {kind}"
    REFUSED.append(Case(name, base, damaged(base, defect), kind=kind, mentions=mentions))


def refused(kind, mentions, base):
    """`refuse` as a decorator: the function is the defect, its name the file's."""
    return lambda defect: refuse(defect.__name__, kind, mentions, base, defect)


def lenient(why, base):
    """Registers a file that may be run or refused, but never crash."""
    return lambda defect: LENIENT.append(Case(defect.__name__, base, damaged(base, defect), why=why))


def refuse_bytes(name, kind, data, mentions=""):
    """`refuse` for a file that is no damaged model: of another kind altogether, or legal and not taken."""
    REFUSED.append(Case(name, None, data, kind=kind, mentions=mentions))


def damaged(base, defect):
    copy = onnx.ModelProto()
    copy.CopyFrom(base)
    result = defect(copy)
    if isinstance(result, bytes):
        return result
    return serialized(copy if result is None else result)


def serialized(model):
    return model.SerializeToString(deterministic=True)
