"""Prints src/model/check/operators.txt: what each version of ONNX's operators takes, by the onnx package's schemas."""

import onnx
from onnx import defs

# The oldest opset that is taken: of what came before, the newest counts.
OLDEST = 7
KINDS = {"INT": "i", "FLOAT": "f", "STRING": "s", "TENSOR": "t", "GRAPH": "g",
         "INTS": "I", "FLOATS": "F", "STRINGS": "S", "TENSORS": "T", "GRAPHS": "G"}

HEADER = f"""\
# Made by scripts/operators.py from the schemas of onnx {onnx.__version__}, opset {defs.onnx_opset_version()}. A line for each change:
# operator, the opset that it came with, inputs (x: needed, ?: may be left out, *: any number more), most outputs,
# attributes with their kinds (i, f, s, t, g: integer, float, string, tensor, graph; capitals: lists; -: another; !: needed)."""


def inputs(schema):
    options = defs.OpSchema.FormalParameterOption
    return "".join({options.Single: "x", options.Optional: "?"}.get(entry.option) or "x" * entry.min_arity + "*"
                   for entry in schema.inputs) or "-"


def attributes(schema):
    return [f"{name}:{KINDS.get(a.type.name, '-')}{'!' * a.required}" for name, a in sorted(schema.attributes.items())]


def main():
    print(HEADER)
    versions = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, {})[schema.since_version] = schema
    for name, of_name in sorted(versions.items()):
        last = None
        for since, schema in sorted(of_name.items()):
            superseded = any(since < later <= OLDEST for later in of_name)
            outputs = schema.max_output if schema.max_output < 1 << 30 else "*"
            line = " ".join([inputs(schema), str(outputs), *attributes(schema)])
            if not superseded and line != last:
                print(name, since, line)
                last = line


main()
