#!/usr/bin/env python3
"""Writes the corpus of malformed models and its three lists. See README.md."""

import csv
from pathlib import Path

import onnx

from cases import attributes, bombs, graphs, leniency, operators, quantization, tensors, wire  # noqa: F401  (they register)
from cases.registry import LENIENT, REFUSED, serialized

HERE = Path(__file__).parent
TOTAL_BYTES_MAX = 1_500_000


def main():
    for old in HERE.glob("*.onnx"):
        old.unlink()
    (HERE / tensors.EXTERNAL_FILE).write_bytes(tensors.EXTERNAL_DATA)

    bases = {}
    for case in REFUSED + LENIENT:
        if case.base is not None:
            bases.setdefault(case.base.graph.name, case.base)
            assert bases[case.base.graph.name] == case.base, f"two bases are called {case.base.graph.name}"
    for name, base in bases.items():
        path = HERE / f"valid_{name}.onnx"
        path.write_bytes(serialized(base))
        # Inference knows no sparse operands.
        onnx.checker.check_model(str(path), full_check=not base.graph.sparse_initializer)

    seen = {serialized(base): name for name, base in bases.items()}
    for case in REFUSED + LENIENT:
        path = HERE / f"{case.name}.onnx"
        assert not path.exists(), f"two cases are called {case.name}"
        assert case.data not in seen, f"{case.name} is {seen[case.data]} again"
        seen[case.data] = case.name
        path.write_bytes(case.data)

    table("expected.csv", ["file", "kind", "mentions"], [(c.name, c.kind, c.mentions) for c in REFUSED])
    table("lenient.csv", ["file", "why"], [(c.name, c.why) for c in LENIENT])
    table(
        "valid.csv",
        ["file", "ops"],
        [(f"valid_{name}", " ".join(n.op_type for n in base.graph.node)) for name, base in bases.items()],
    )

    total_bytes = sum(p.stat().st_size for p in HERE.glob("*.onnx"))
    assert total_bytes <= TOTAL_BYTES_MAX, f"{total_bytes} bytes are too many for a repository"
    print(f"{len(REFUSED)} to refuse, {len(LENIENT)} to survive, {len(bases)} valid, {total_bytes} bytes")


def table(file, header, rows):
    with open(HERE / file, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows((f"{name}.onnx", *rest) for name, *rest in sorted(rows))


if __name__ == "__main__":
    main()
