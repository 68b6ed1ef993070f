"""Prints src/model/check/operators.txt: what each version of ONNX's operators takes, by the onnx package's schemas."""

import onnx
from onnx import defs

# The oldest opset that is taken: of what came before, the newest counts.
OLDEST = 7
KINDS = {"INT": "i", "FLOAT": "f", "STRING": "s", "TENSOR": "t", "GRAPH": "g",
         "INTS": "I", "FLOATS": "F", "STRINGS": "S", "TENSORS": "T", "GRAPHS": "G"}

HEADER = f"""\
# Made by scripts/operators.py from the schemas of onnx {onnx.__version__}, opset {defs.onnx_opset_version()}. A line for each change:
# operator, the opset that it came with, inputs (x: needed, ?: may be left out, *: any number more; !: withdrawn), most outputs (!: all are
# needed), types of the inputs (NumPy's characters; *: any; -: none that is run; =0: that of input 0; the last goes for all that follow),
# attributes with their kinds (i, f, s, t, g: integer, float, string, tensor, graph; capitals: lists; -: another; !: needed)."""

# Of those that are run.
TYPES = {"bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "l",
         "uint64": "L", "float16": "e", "float": "f", "double": "d"}


def inputs(schema):
    options = defs.OpSchema.FormalParameterOption
    return "".join({options.Single: "x", options.Optional: "?"}.get(entry.option) or "x" * entry.min_arity + "*"
                   for entry in schema.inputs) or "-"


def types(schema):
    """Inputs that share a variable of the schema are of one type."""
    constraints = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}
    known, first = [], {}
    for index, entry in enumerate(schema.inputs):
        variable = entry.type_str
        allowed = constraints.get(variable, [variable])
        letters = "".join(letter for name, letter in TYPES.items() if f"tensor({name})" in allowed)
        if variable in first and variable in constraints:
            known.append(f"={first[variable]}")
        else:
            known.append("*" if len(letters) == len(TYPES) else letters or "-")
        # Each of them may be of a type of its own.
        if entry.option == defs.OpSchema.FormalParameterOption.Variadic and not entry.is_homogeneous:
            known[-1] = "*"
        first.setdefault(variable, index)
        if entry.option == defs.OpSchema.FormalParameterOption.Variadic and entry.is_homogeneous:
            known.append(f"={first[variable]}")
    return ",".join(known) or "-"


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
            if 1 < schema.min_output == schema.max_output:
                outputs = f"{outputs}!"
            withdrawn = ["!", "0", "-"] if schema.deprecated and since == max(of_name) else None
            line = " ".join(withdrawn or [inputs(schema), str(outputs), types(schema), *attributes(schema)])
            if not superseded and line != last:
                print(name, since, line)
                last = line


main()
