"""Attention and rotary embeddings of opset 23 on."""
import numpy as np
from onnx import helper

from builder import Graph
from case import add, bind

# tract has neither.
WITHOUT = "refused: operator"


def attention() -> None:
    def attend(g: Graph, q: tuple, k: tuple, v: tuple | None = None, past: int = 0, mask=None, outputs: int = 1, **attributes) -> None:
        """`mask` makes one."""
        inputs = [g.input(*shape) for shape in (q, k, v or k)]
        inputs.append(mask(g) if mask else "")
        if past:
            heads = attributes.get("kv_num_heads", k[1])
            depths = [s[-1] // heads if len(k) == 3 else s[-1] for s in (k, v or k)]
            inputs += [g.input(k[0], heads, past, depth) for depth in depths]
        names = [f"{name}_out" for name in ("y", "key", "value", "scores")]
        wanted = {1: [0], 3: [0, 1, 2], 4: [0, 3], 2: [0, 1]}[outputs]
        made = [names[index] if index in wanted else "" for index in range(max(wanted) + 1)]
        while not inputs[-1]:
            inputs.pop()
        g.nodes.append(helper.make_node("Attention", inputs, made, "attention", **attributes))
        g.output(*[name for name in made if name])

    def case(name: str, opset: int = 23, **options) -> None:
        add(f"attention_{name}", bind(attend, **options), opset=opset, without_tract=WITHOUT)

    four = {"q": (2, 4, 5, 8), "k": (2, 4, 6, 8), "v": (2, 4, 6, 10)}
    three = {"q": (2, 5, 24), "k": (2, 6, 12), "q_num_heads": 6, "kv_num_heads": 3}

    def floats(*shape):
        return lambda g: g.input(*shape, low=-3.0, high=3.0)

    def truths(*shape):
        return lambda g: g.op("Greater", g.input(*shape), g.const(-0.5))

    case("4d", **four)
    case("3d", q=(2, 5, 24), k=(2, 6, 24), q_num_heads=3, kv_num_heads=3)
    case("3d_shared_keys", **three)
    case("4d_shared_keys", q=(1, 6, 5, 8), k=(1, 2, 7, 8))
    case("one_query", q=(1, 4, 1, 8), k=(1, 2, 1, 8), is_causal=1, past=8, outputs=3)
    case("scale", **four, scale=0.3)
    case("softcap", **four, softcap=1.5)
    case("causal", **four, is_causal=1)
    case("causal_past", **three, is_causal=1, past=4, outputs=3)
    case("mask", **four, mask=floats(5, 6))
    case("mask_of_heads", **four, mask=floats(2, 4, 5, 6))
    case("mask_of_batch_causal", **four, mask=floats(2, 1, 5, 6), is_causal=1, softcap=2.0)
    case("mask_of_truths", **four, mask=truths(5, 6))
    case("mask_of_truths_causal", **three, mask=truths(2, 1, 5, 6), is_causal=1)
    case("mask_stored", **four, mask=lambda g: g.const(g.normal(5, 6)))
    case("scores", **four, outputs=4, scale=0.5)
    case("scores_capped", **four, outputs=4, softcap=1.0, qk_matmul_output_mode=1)
    case("scores_masked", **four, outputs=4, mask=floats(5, 6), qk_matmul_output_mode=2)
    case("scores_softened", **three, outputs=4, is_causal=1, qk_matmul_output_mode=3)

    def layer(g: Graph) -> None:
        """As an exporter writes one: products before and behind, quantized."""
        x = g.qdq(g.input(1, 6, 16))
        q, k, v = (g.qdq(g.matmul(x, width)) for width in (16, 8, 8))
        y = g.op("Attention", q, k, v, q_num_heads=4, kv_num_heads=2, is_causal=1)
        g.output(g.qdq(g.matmul(g.qdq(y), 16)))
    add("attention_between_int8_products", layer, opset=23, without_tract=WITHOUT, floats=True)


def rotary() -> None:
    def turn(g: Graph, shape: tuple, half: int, places: bool = False, stored: bool = True, **attributes) -> None:
        x = g.input(*shape)
        batch, rows = shape[0], shape[-2]
        angles = g.rng.uniform(-3, 3, (11, half) if places else (batch, rows, half))
        if stored:
            caches = [g.const(f(angles)) for f in (np.cos, np.sin)]
        else:
            turned = g.input(*angles.shape)
            caches = [g.op(kind, turned) for kind in ("Cos", "Sin")]
        behind = [g.const(g.rng.integers(0, 11, (batch, rows)), np.int64)] if places else []
        g.output(g.op("RotaryEmbedding", x, *caches, *behind, **attributes))

    def case(name: str, **options) -> None:
        add(f"rotary_{name}", bind(turn, **options), opset=23, without_tract=WITHOUT)

    case("4d", shape=(2, 3, 5, 8), half=4)
    case("4d_with_heads", shape=(1, 3, 5, 8), half=4, num_heads=3)
    case("3d", shape=(2, 5, 24), half=4, num_heads=3)
    case("interleaved", shape=(2, 3, 5, 8), half=4, interleaved=1)
    case("3d_interleaved_places", shape=(1, 5, 24), half=4, num_heads=3, interleaved=1, places=True)
    case("places", shape=(2, 3, 5, 8), half=4, places=True)
    case("a_part", shape=(2, 3, 5, 8), half=2, rotary_embedding_dim=4)
    case("a_part_interleaved", shape=(1, 5, 24), half=3, num_heads=3, rotary_embedding_dim=6, interleaved=1, places=True)
    case("computed", shape=(2, 3, 5, 8), half=4, stored=False)
    case("computed_places", shape=(2, 3, 5, 8), half=4, stored=False, places=True)
