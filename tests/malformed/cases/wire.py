"""Damage below the model: cut files, broken protobuf, files of other kinds."""

import gzip
import random

from .models import CONV, RELU
from .registry import refuse, refuse_bytes, serialized

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)

# Field numbers of onnx.proto.
MODEL_IR_VERSION, MODEL_GRAPH, MODEL_OPSET = 1, 7, 8
GRAPH_NODE, GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_VALUE_INFO = 1, 2, 5, 11, 12, 13
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
UNUSED = 900

DEPTH = 10_000


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def key(field, wire):
    return varint(field << 3 | wire)


def message(field, payload):
    return key(field, BYTES) + varint(len(payload)) + payload


NODE = (
    message(NODE_INPUT, b"pixels")
    + message(NODE_OUTPUT, b"scores")
    + message(NODE_NAME, b"relu0")
    + message(NODE_OP, b"Relu")
)
INPUT, OUTPUT = (serialized(v[0]) for v in (RELU.graph.input, RELU.graph.output))
GRAPH = message(GRAPH_NAME, b"relu") + message(GRAPH_INPUT, INPUT) + message(GRAPH_OUTPUT, OUTPUT)


def model(node=None, graph=b"", tail=b""):
    """RELU by hand: its node, and bytes to add at the end of the graph and of the model."""
    node = message(GRAPH_NODE, NODE) if node is None else node
    return headed(message(MODEL_GRAPH, node + GRAPH + graph)) + tail


def headed(graph_field):
    ir_version = key(MODEL_IR_VERSION, VARINT) + varint(RELU.ir_version)
    return ir_version + graph_field + message(MODEL_OPSET, serialized(RELU.opset_import[0]))


assert type(RELU).FromString(model()) == RELU


def wire(name, data, mentions="graph", kind="malformed"):
    refuse(f"wire_{name}", kind, mentions, RELU, lambda _: data)


def truncated(name, end, mentions="graph", kind="malformed"):
    refuse(f"truncated_{name}", kind, mentions, CONV, lambda m: serialized(m)[:end])


# A cut inside a field leaves a length that points beyond the end of the file.
_conv = serialized(CONV)
_graph = len(_conv) - len(message(MODEL_OPSET, serialized(CONV.opset_import[0]))) - CONV.graph.ByteSize()
_opset = _graph + CONV.graph.ByteSize()
assert _conv[_graph:_opset] == serialized(CONV.graph)

truncated("in_the_first_key_value", 1, "ir_version")
truncated("before_the_graph", 2, "graph", "malformed|graph")
truncated("after_the_key_of_the_graph", 3)
truncated("in_the_length_of_the_graph", 4)
truncated("at_the_first_byte_of_the_graph", _graph)
for percent in range(5, 100, 5):
    truncated(f"in_the_graph_at_{percent:02}_percent", _graph + CONV.graph.ByteSize() * percent // 100)
for word in ("Conv", "kernel_shape", "conv0_w", "conv0_b"):
    truncated(f"in_the_word_{word.lower()}", _conv.rindex(word.encode()) + 3)
truncated("at_the_last_byte_of_the_graph", _opset - 1)
truncated("before_the_opset_import", _opset, "opset", "malformed|graph|unsupported")
truncated("after_the_key_of_the_opset_import", _opset + 1, "opset_import")
truncated("at_the_last_byte", -1, "opset_import")

for bits in (6, 7):
    wire(f"type_{bits}", model(graph=key(UNUSED, bits)))
wire("type_of_graph_is_varint", headed(key(MODEL_GRAPH, VARINT) + varint(1)), kind="malformed|graph")
wire("type_of_node_is_fixed64", model(node=key(GRAPH_NODE, FIXED64) + NODE[:8]), "", "malformed|graph")
wire(
    "type_of_op_type_is_varint",
    model(node=message(GRAPH_NODE, NODE[:-6] + key(NODE_OP, VARINT) + varint(1))),
    "op_type",
    "malformed|graph",
)

wire("varint_of_11_bytes_as_key", model(graph=b"\xff" * 10 + b"\x01"))
wire("varint_of_11_bytes_as_length", model(graph=key(GRAPH_NAME, BYTES) + b"\x80" * 10 + b"\x00"))
wire("varint_of_11_bytes_as_value", model(graph=key(UNUSED, VARINT) + b"\x80" * 10 + b"\x00"))
wire("varint_without_end_in_graph", model(graph=key(UNUSED, VARINT) + b"\x80"))
wire("varint_without_end_at_end_of_file", model(tail=key(UNUSED, VARINT) + b"\xff"), "")

for name, length in (
    ("one_too_long", len(GRAPH) + len(message(GRAPH_NODE, NODE)) + 1000),
    ("2g", 2**31 - 1),
    ("4g", 2**32 + 8),
    ("i64_max", 2**63 - 1),
    ("u64_max", 2**64 - 1),
):
    wire(
        f"length_of_graph_{name}", headed(key(MODEL_GRAPH, BYTES) + varint(length) + message(GRAPH_NODE, NODE) + GRAPH)
    )
wire(
    "length_of_node_beyond_graph", model(node=b"", graph=key(GRAPH_NODE, BYTES) + varint(len(NODE) + 3) + NODE), "node"
)
wire("length_of_name_beyond_node", model(node=message(GRAPH_NODE, NODE + key(NODE_INPUT, BYTES) + b"\x05x")), "node")
wire(
    "length_of_name_u64_max",
    model(node=message(GRAPH_NODE, NODE + key(NODE_INPUT, BYTES) + varint(2**64 - 1) + b"pixels")),
    "node",
)
wire("fixed32_beyond_end", model(tail=key(UNUSED, FIXED32) + b"\0\0"), "")
wire("fixed64_beyond_end", model(tail=key(UNUSED, FIXED64) + b"\0\0\0\0"), "")

wire("field_0_in_model", model(tail=key(0, VARINT) + b"\x01"), "")
wire("field_0_in_graph", model(graph=key(0, BYTES) + b"\x00"))
wire("field_above_32_bits", model(graph=key(2**30, VARINT) + b"\x01"))
wire("zeros_behind_the_model", model(tail=bytes(16)), "")
wire("two_models_in_one_file", model(tail=model()), "", "malformed|graph")

wire("group_without_end", model(graph=key(UNUSED, GROUP)))
wire("group_without_start", model(graph=key(UNUSED, GROUP_END)))
wire("group_ends_as_another", model(graph=key(UNUSED, GROUP) + key(UNUSED + 1, GROUP_END)))
wire("group_ends_outside_its_message", model(graph=key(UNUSED, GROUP), tail=key(UNUSED, GROUP_END)), "")

_BAD = b"\xff\xfe\x80"
wire("utf8_in_node_name", model(node=message(GRAPH_NODE, NODE + message(NODE_NAME, _BAD))), "name", "malformed|graph")
wire(
    "utf8_in_op_type",
    model(node=message(GRAPH_NODE, NODE + message(NODE_OP, _BAD))),
    "op_type",
    "malformed|graph|unsupported",
)
wire(
    "utf8_in_tensor_name",
    model(
        node=message(GRAPH_NODE, NODE.replace(b"\x06pixels", b"\x03" + _BAD)),
        graph=message(GRAPH_INITIALIZER, message(8, _BAD) + b"\x08\x01\x10\x01" + message(9, bytes(4))),
    ),
    "name",
    "malformed|graph|tensor",
)
wire(
    "utf8_in_attribute_name",
    model(node=message(GRAPH_NODE, NODE + message(NODE_ATTRIBUTE, message(1, _BAD) + b"\x18\x01" + b"\xa0\x01\x02"))),
    "name",
    "malformed|graph|attribute",
)


wire("utf8_in_domain", model(node=message(GRAPH_NODE, NODE + message(7, _BAD))), "domain", "malformed|graph")
wire("utf8_in_graph_output", model(graph=message(GRAPH_OUTPUT, message(1, _BAD))), "name", "malformed|graph")
wire(
    "utf8_in_dimension",
    model(
        graph=message(
            GRAPH_OUTPUT,
            message(1, b"z") + message(2, message(1, b"\x08\x01" + message(2, message(1, message(2, _BAD))))),
        )
    ),
    "dim_param",
    "malformed|graph",
)
wire(
    "utf8_in_external_location",
    model(
        graph=message(
            GRAPH_INITIALIZER,
            b"\x08\x01\x10\x01"
            + message(8, b"w")
            + b"\x70\x01"
            + message(13, message(1, b"location") + message(2, _BAD)),
        )
    ),
    "value",
    "malformed|external",
)

# Fields of a kind that the schema does not have there.
_TENSOR = b"\x08\x01\x10\x01" + message(8, b"w")
for name, at, data in (
    ("type_of_ir_version_is_bytes", "ir_version", message(MODEL_IR_VERSION, b"10") + model()[2:]),
    ("type_of_opset_version_is_bytes", "version", model()[:-2] + b"\x12\x00"),
    ("type_of_dims_is_fixed64", "dims", model(graph=message(GRAPH_INITIALIZER, key(1, FIXED64) + bytes(8) + _TENSOR))),
    (
        "type_of_data_type_is_bytes",
        "data_type",
        model(graph=message(GRAPH_INITIALIZER, message(2, b"1") + message(8, b"w"))),
    ),
    (
        "type_of_raw_data_is_varint",
        "raw_data",
        model(graph=message(GRAPH_INITIALIZER, _TENSOR + key(9, VARINT) + b"\x01")),
    ),
    (
        "type_of_attribute_is_varint",
        "attribute",
        model(node=message(GRAPH_NODE, NODE + key(NODE_ATTRIBUTE, VARINT) + b"\x01")),
    ),
    (
        "type_of_float_attribute_is_varint",
        "f",
        model(
            node=message(
                GRAPH_NODE,
                NODE + message(NODE_ATTRIBUTE, message(1, b"alpha") + key(2, VARINT) + b"\x01" + b"\xa0\x01\x01"),
            )
        ),
    ),
    (
        "type_of_float_data_is_varint",
        "float_data",
        model(graph=message(GRAPH_INITIALIZER, _TENSOR + key(4, VARINT) + b"\x01")),
    ),
    (
        "packed_floats_end_within_one",
        "float_data",
        model(graph=message(GRAPH_INITIALIZER, _TENSOR + message(4, bytes(7)))),
    ),
    (
        "packed_dims_end_within_one",
        "dims",
        model(graph=message(GRAPH_INITIALIZER, message(1, b"\x01\x80") + b"\x10\x01" + message(8, b"w"))),
    ),
    (
        "raw_data_beyond_its_tensor",
        "raw_data",
        model(graph=message(GRAPH_INITIALIZER, _TENSOR + key(9, BYTES) + b"\x08" + bytes(4))),
    ),
    (
        "raw_data_twice",
        "raw_data",
        model(graph=message(GRAPH_INITIALIZER, _TENSOR + message(9, bytes(4)) + message(9, bytes(4)))),
    ),
    (
        "data_location_unknown",
        "data_location",
        model(graph=message(GRAPH_INITIALIZER, _TENSOR + message(9, bytes(4)) + b"\x70\x02")),
    ),
    (
        "data_type_twice",
        "data_type",
        model(graph=message(GRAPH_INITIALIZER, _TENSOR + b"\x10\x07" + message(9, bytes(4)))),
    ),
    ("op_type_twice", "op_type", model(node=message(GRAPH_NODE, NODE + message(NODE_OP, b"Neg")))),
    ("graph_twice", "graph", model(tail=message(MODEL_GRAPH, message(GRAPH_NODE, NODE) + GRAPH))),
    (
        "dimension_by_number_and_by_name",
        "dim",
        model(
            graph=message(
                GRAPH_OUTPUT,
                message(1, b"z")
                + message(2, message(1, b"\x08\x01" + message(2, message(1, b"\x08\x04" + message(2, b"n"))))),
            )
        ),
    ),
    ("type_twice", "type", model(graph=message(GRAPH_OUTPUT, message(1, b"z") + message(2, b"") + message(2, b"")))),
    ("varint_over_64_bits", "", model(graph=key(UNUSED, VARINT) + b"\xff" * 9 + b"\x7f")),
    ("key_of_11_bytes_at_end_of_file", "", model(tail=b"\x80" * 10 + b"\x01")),
):
    wire(name, data, at, "malformed|graph|tensor|unsupported")


def nested(*fields):
    payload = b""
    for _ in range(DEPTH):
        for field in reversed(fields):
            payload = message(field, payload)
    return payload


# 10,000 levels overflow the stack of a reader that recurses without a limit.
wire(
    "deep_subgraphs",
    model(node=message(GRAPH_NODE, NODE + nested(NODE_ATTRIBUTE, 6, GRAPH_NODE))),
    "",
    "limit|malformed|graph|attribute",
)
wire("deep_groups", model(graph=key(UNUSED, GROUP) * DEPTH + key(UNUSED, GROUP_END) * DEPTH), "", "limit|malformed")
wire("deep_groups_without_end", model(graph=key(UNUSED, GROUP) * DEPTH), "", "limit|malformed")

refuse_bytes("empty", "io|malformed", b"")
refuse_bytes("not_onnx_text", "malformed|graph", b"This is a text, and no model.\n" * 20)
refuse_bytes(
    "not_onnx_html",
    "malformed|graph",
    b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n",
)
refuse_bytes(
    "not_onnx_lfs_pointer",
    "malformed|graph",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0123456789abcdef" * 4 + b"\nsize 315249\n",
)
refuse_bytes(
    "not_onnx_png",
    "malformed|graph",
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
        "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
    ),
)
refuse_bytes("not_onnx_random", "malformed|graph", random.Random(0).randbytes(4096))
refuse_bytes("not_onnx_zeros", "malformed|graph", bytes(4096))
refuse_bytes(
    "not_onnx_tflite_header",
    "malformed|graph",
    b"\x1c\0\0\0TFL3\x14\0\x20\0\x1c\0\x18\0\x14\0\x10\0\x0c\0\0\0\x08\0\x04\0\x14\0\0\0",
)
refuse_bytes("not_onnx_gzip", "malformed|graph", gzip.compress(serialized(RELU), mtime=0))
refuse_bytes(
    "not_onnx_zip_header", "malformed|graph", b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(16) + b"\x0a\0\0\0model.onnx"
)
refuse_bytes("not_onnx_pickle_header", "malformed|graph", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
refuse_bytes(
    "not_onnx_elf_header", "malformed|graph", b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0\x01\0\0\0" + bytes(40)
)
