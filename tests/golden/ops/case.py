"""The list of cases, and what most of them begin and end with."""
from builder import Graph


CASES = {}


def add(name: str, build, *, opset: int = 13, refused: str | None = None, floats: bool = False, without_tract: str | None = None) -> None:
    """`build` makes a graph; `refused` says why a plan cannot take it, `without_tract` why tract does not run it; `floats`,
    that a plan computes some of it in f32."""
    assert name not in CASES, name
    CASES[name] = (build, opset, refused, floats, without_tract)


def bind(build, /, **options):
    return lambda g: build(g, **options)


def image(g: Graph, *shape: int, quantized: bool = True, dtype: str = "i8", batch: int = 1, **options) -> str:
    x = g.input(batch, *shape)
    return g.qdq(x, dtype, **options) if quantized else x


def finish(g: Graph, y: str, quantized: bool = True, dtype: str = "i8") -> None:
    g.output(g.qdq(y, dtype) if quantized else y)
