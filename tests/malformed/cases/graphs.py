"""Names, edges, declared inputs and outputs, operator sets, types."""

import onnx
from onnx import TensorProto, TypeProto, helper

from .models import (
    ADD,
    FLOAT,
    GEMM,
    IF,
    INT64,
    LOOP,
    QLINEAR_MATMUL,
    RELU,
    RELUS,
    SPLIT,
    UPSAMPLE,
    build,
    f32,
    functions,
    node,
    set_constant,
    value,
)
from .registry import refuse, refuse_bytes, refused, serialized
from .wire import GRAPH_NODE, message, model

CALLS = functions(2)


@refused("graph", "missing", RELU)
def graph_node_input_missing(m):
    m.graph.node[0].input[0] = "missing"


@refused("graph", "pixels", RELU)
def graph_declared_input_missing(m):
    del m.graph.input[:]


@refused("graph", "gemm0_w", GEMM)
def graph_initializer_missing(m):
    del m.graph.initializer[0]


@refused("graph", "unknown", RELU)
def graph_output_unknown(m):
    m.graph.output[0].name = "unknown"


@refused("graph", "scores", RELUS)
def graph_output_not_produced(m):
    del m.graph.node[2]


@refused("graph", "output", RELU)
def graph_output_name_empty(m):
    m.graph.output[0].name = ""


@refused("graph|unsupported", "output", RELU)
def graph_without_outputs(m):
    del m.graph.output[:]


@refused("graph|malformed", "graph", RELU)
def graph_absent(m):
    m.ClearField("graph")


@refused("graph|malformed", "", RELU)
def graph_empty(m):
    m.graph.Clear()


@refused("graph", "scores", RELU)
def graph_without_nodes(m):
    del m.graph.node[:]


@refused("graph", "relu0_out", RELUS)
def graph_two_nodes_make_one_tensor(m):
    m.graph.node.add(op_type="Neg", name="neg0", input=["pixels"], output=["relu0_out"])


@refused("graph", "scores0", SPLIT)
def graph_node_makes_one_tensor_twice(m):
    m.graph.node[0].output[1] = "scores0"
    del m.graph.output[1]


@refused("graph|unsupported", "scores$float", QLINEAR_MATMUL)
def graph_name_of_a_step(m):
    """What the product is before it is quantized would have the name of its scale."""
    m.graph.initializer[0].name = m.graph.node[0].input[1] = "scores$float"


@refused("graph", "pixels", RELUS)
def graph_node_makes_a_graph_input(m):
    m.graph.node.add(op_type="Neg", name="neg0", input=["scores"], output=["pixels"])


@refused("graph", "gemm0_b", GEMM)
def graph_node_makes_an_initializer(m):
    m.graph.node.add(op_type="Neg", name="neg0", input=["scores"], output=["gemm0_b"])


@refused("graph|tensor", "gemm0_b", GEMM)
def graph_initializer_twice(m):
    m.graph.initializer.append(m.graph.initializer[1])


@refused("graph", "pixels", RELU)
def graph_input_twice(m):
    m.graph.input.append(m.graph.input[0])


@refused("graph", "input", RELU)
def graph_input_name_empty(m):
    m.graph.input.add().CopyFrom(value("", [1, 4]))


@refused("graph", "relu0", RELUS)
def graph_cycle_of_one(m):
    node(m, "relu0").input[0] = "relu0_out"


@refused("graph", "relu", RELUS)
def graph_cycle_of_two(m):
    node(m, "relu0").input[0] = "relu1_out"


@refused("graph", "add", ADD)
def graph_cycle_beside_the_path(m):
    m.graph.node[0].input[1] = "add1_out"
    m.graph.node.add(op_type="Add", name="add1", input=["pixels", "scores"], output=["add1_out"])


@refused("graph|attribute", "relu0", RELUS)
def graph_node_without_inputs(m):
    del node(m, "relu0").input[:]


@refused("graph|attribute", "dead0", RELU)
def graph_node_without_outputs(m):
    m.graph.node.add(op_type="Neg", name="dead0", input=["pixels"])


@refused("graph|attribute", "relu0", RELU)
def graph_node_with_an_input_too_many(m):
    m.graph.node[0].input.append("pixels")


@refused("graph|attribute", "relu0", RELU)
def graph_node_with_an_output_too_many(m):
    m.graph.node[0].output.append("z")


@refused("graph|attribute", "gemm0", GEMM)
def graph_node_with_an_input_too_few(m):
    del m.graph.node[0].input[1:]
    del m.graph.initializer[:]


@refused("graph|attribute", "gemm0", GEMM)
def graph_mandatory_input_name_empty(m):
    m.graph.node[0].input[1] = ""
    del m.graph.initializer[0]


@refused("graph|attribute", "dead0", RELU)
def graph_mandatory_output_name_empty(m):
    m.graph.node.add(op_type="Neg", name="dead0", input=["pixels"], output=[""])


@refused("graph|unsupported", "relu0", RELU)
def graph_op_type_empty(m):
    m.graph.node[0].op_type = ""


# 200 kB that ask a reader for 100,000 nodes.
refuse(
    "graph_100k_empty_nodes",
    "graph|limit|unsupported",
    "",
    RELU,
    lambda _: model(graph=message(GRAPH_NODE, b"") * 100_000),
)


@refused("graph|unsupported", "missing", IF)
def graph_branch_uses_a_missing_tensor(m):
    m.graph.node[0].attribute[0].g.node[0].input[0] = "missing"


@refused("graph|attribute|unsupported", "if0", IF)
def graph_branch_has_an_output_too_many(m):
    branch = m.graph.node[0].attribute[0].g
    branch.node.add(op_type="Neg", name="extra0", input=["pixels"], output=["extra"])
    branch.output.append(value("extra", [1, 4]))


@refused("graph|attribute|unsupported", "if0", IF)
def graph_branch_without_outputs(m):
    for attribute in m.graph.node[0].attribute:
        del attribute.g.output[:]


@refused("graph|limit|unsupported", "function", CALLS)
def graph_function_calls_itself(m):
    m.functions[1].node[1].op_type = "function0"
    m.functions[1].node[1].domain = "local"


@refused("graph|unsupported", "function0", CALLS)
def graph_function_missing(m):
    del m.functions[0]


@refused("graph|unsupported", "opset", RELU)
def opset_none(m):
    del m.opset_import[:]


for name, version in (("zero", 0), ("negative", -1), ("10_to_9", 10**9), ("i64_max", 2**63 - 1)):

    def change(m, v=version):
        m.opset_import[0].version = v

    refuse(f"opset_{name}", "unsupported|graph", "opset", RELU, change)


@refused("unsupported|graph", "nowhere", RELU)
def opset_domain_unknown(m):
    m.opset_import.append(helper.make_opsetid("nowhere", 1))
    m.graph.node[0].domain = "nowhere"


@refused("unsupported|graph", "Relux", RELU)
def opset_op_unknown(m):
    m.graph.node[0].op_type = "Relux"


@refused("unsupported|graph", "Gelu", RELU)
def opset_op_newer_than_the_import(m):
    m.graph.node[0].op_type = "Gelu"  # since opset 20


@refused("unsupported|graph", "TreeEnsembleRegressor", RELU)
def opset_domain_of_classical_models(m):
    m.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    m.graph.node[0].domain, m.graph.node[0].op_type = "ai.onnx.ml", "TreeEnsembleRegressor"


@refused("unsupported|graph", "Adam", RELU)
def opset_domain_of_training(m):
    m.opset_import.append(helper.make_opsetid("ai.onnx.preview.training", 1))
    m.graph.node[0].domain, m.graph.node[0].op_type = "ai.onnx.preview.training", "Adam"


@refused("unsupported|graph", "AI.ONNX", RELU)
def opset_domain_in_capitals(m):
    m.graph.node[0].domain = "AI.ONNX"


@refused("unsupported|graph|malformed", "opset", RELU)
def opset_default_domain_by_both_names(m):
    m.opset_import.append(helper.make_opsetid("ai.onnx", 13))


@refused("unsupported|graph", "opset", RELU)
def opset_version_missing(m):
    m.opset_import[0].ClearField("version")


@refused("unsupported|graph", "opset", RELU)
def opset_of_other_domains_alone(m):
    m.opset_import[0].domain = "com.microsoft"


for name, version in (("too_old", 6), ("too_new", 999)):

    def change(m, v=version):
        m.opset_import[0].version = v

    refuse(f"opset_{name}", "unsupported", "opset", RELU, change)


@refused("unsupported|graph", "relu0", RELU)
def opset_op_in_lower_case(m):
    m.graph.node[0].op_type = "relu"


@refused("unsupported|graph", "relu0", RELU)
def opset_op_with_a_blank(m):
    m.graph.node[0].op_type = "Relu "


@refused("unsupported|attribute", "upsample0", UPSAMPLE)
def opset_op_withdrawn(m):
    m.opset_import[0].version = 13


@refused("unsupported|malformed|graph", "ir_version", RELU)
def opset_ir_version_negative(m):
    m.ir_version = -1


@refused("graph|shape|tensor", "gemm0_b", GEMM)
def type_of_input_is_not_its_initializer_s(m):
    m.graph.input.append(value("gemm0_b", [3], INT64))


@refused("graph|shape|tensor", "gemm0_b", GEMM)
def shape_of_input_is_not_its_initializer_s(m):
    m.graph.input.append(value("gemm0_b", [1, 3]))


@refused("graph|unsupported", "pixels", IF)
def graph_branch_defines_a_tensor_of_the_graph(m):
    branch = m.graph.node[0].attribute[0].g
    branch.node.add(op_type="Neg", name="neg0", input=[branch.output[0].name], output=["pixels"])


@refused("graph|unsupported", "then", IF)
def graph_node_reads_what_a_branch_makes(m):
    m.graph.node.add(op_type="Neg", name="neg0", input=["then"], output=["unused"])


@refused("graph|unsupported", "then", IF)
def graph_output_is_what_a_branch_makes(m):
    m.graph.output.append(value("then", [1, 4]))


@refused("graph|unsupported", "then", IF)
def graph_branch_reads_what_the_other_makes(m):
    other = next(a for a in m.graph.node[0].attribute if a.name == "else_branch").g
    other.node[0].input[0] = "then"


@refused("graph|unsupported", "neg", IF)
def graph_cycle_in_a_branch(m):
    branch = m.graph.node[0].attribute[0].g
    branch.node[0].input[0] = "b"
    branch.node.add(op_type="Neg", name="neg0", input=[branch.output[0].name], output=["b"])


@refused("graph|unsupported", "later", IF)
def graph_branch_reads_what_comes_later(m):
    m.graph.node[0].attribute[0].g.node[0].input[0] = "later"
    m.graph.node.add(op_type="Neg", name="neg0", input=["scores"], output=["later"])


@refused("graph|unsupported|attribute", "loop0", LOOP)
def graph_loop_body_without_a_condition(m):
    body = next(a for a in m.graph.node[0].attribute if a.name == "body").g
    del body.output[0]


@refused("limit", "graphs within graphs", IF)
def bomb_branches_within_branches(m):
    """Twenty deep: a reader of any depth would take twice as many steps at each, were both branches nested."""
    whole = onnx.NodeProto()
    whole.CopyFrom(m.graph.node[0])
    for level in range(20):
        inner = onnx.NodeProto()
        inner.CopyFrom(whole)
        outer = onnx.NodeProto()
        outer.CopyFrom(m.graph.node[0])
        inner.output[0] = outer.attribute[0].g.output[0].name
        del outer.attribute[0].g.node[:]
        outer.attribute[0].g.node.append(inner)
        whole = outer
    m.graph.node[0].CopyFrom(whole)


@refused("limit", "attributes", RELU)
def bomb_attributes_of_a_node(m):
    for index in range(100):
        m.graph.node[0].attribute.append(helper.make_attribute(f"a{index}", 1))


@refused("limit", "", RELU)
def bomb_name_of_100_kilobytes(m):
    m.graph.node[0].name = "relu" * 25_000


@refused("limit", "pixels", RELU)
def type_of_input_has_20_dimensions(m):
    m.graph.input[0].CopyFrom(value("pixels", [1] * 19 + [4]))


@refused("unsupported|malformed", "ir_version", RELU)
def opset_ir_version_10_to_9(m):
    m.ir_version = 10**9


def typed(name, make, nodes, tail=(), domains=()):
    """A legal model whose input is no tensor."""
    kind = TypeProto()
    make(kind)
    x = onnx.ValueInfoProto(name="pixels", type=kind)
    m = build(name, nodes, [x, *tail], [value("scores", [None])], domains=domains)
    onnx.checker.check_model(m, full_check=True)
    refuse_bytes(f"type_of_input_is_{name}", "unsupported", serialized(m), "pixels")


def _tensor(t):
    t.tensor_type.elem_type = FLOAT
    t.tensor_type.shape.dim.add()


def _map(t):
    t.map_type.key_type = INT64
    t.map_type.value_type.tensor_type.elem_type = FLOAT
    t.map_type.value_type.tensor_type.shape.Clear()


typed(
    "sequence",
    lambda t: _tensor(t.sequence_type.elem_type),
    [helper.make_node("SequenceAt", ["pixels", "i"], ["scores"], name="at0")],
    [value("i", [], INT64)],
)
typed(
    "map",
    _map,
    [helper.make_node("CastMap", ["pixels"], ["scores"], name="cast0", domain="ai.onnx.ml")],
    domains=["ai.onnx.ml"],
)


@refused("unsupported|graph", "pixels", RELU)
def type_of_input_is_optional(m):
    inner = TypeProto()
    inner.CopyFrom(m.graph.input[0].type)
    m.graph.input[0].type.optional_type.elem_type.CopyFrom(inner)


@refused("graph|shape", "relu0_out", RELUS)
def type_of_inner_tensor_is_another(m):
    m.graph.value_info.append(value("relu0_out", [1, 4], INT64))


@refused("graph|shape", "gemm0_w", GEMM)
def type_of_stored_tensor_is_another(m):
    m.graph.value_info.append(value("gemm0_w", [4, 3], INT64))


@refused("unsupported|graph", "scores", RELU)
def type_of_output_is_opaque(m):
    m.graph.output[0].type.opaque_type.name = "image"


@refused("unsupported|graph", "pixels", RELU)
def type_of_input_is_sparse(m):
    m.graph.input[0].type.sparse_tensor_type.elem_type = FLOAT


@refused("unsupported|graph", "pixels", RELU)
def type_of_input_is_string(m):
    m.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


@refused("graph|unsupported", "pixels", RELU)
def type_of_input_is_absent(m):
    m.graph.input[0].ClearField("type")


for name, dtype in (("undefined", 0), ("unknown", 99), ("negative", -1)):

    def change(m, d=dtype):
        m.graph.input[0].type.tensor_type.elem_type = d

    refuse(f"type_of_elements_{name}", "graph|unsupported", "pixels", RELU, change)


@refused("graph|unsupported|shape", "scores", RELU)
def type_of_output_is_another(m):
    m.graph.output[0].type.tensor_type.elem_type = INT64


@refused("graph|shape|unsupported", "relu0", RELU)
def type_not_taken_by_op(m):
    m.graph.node[0].op_type = "Not"


@refused("graph|shape|unsupported|tensor", "add0", ADD)
def type_of_two_operands_differ(m):
    set_constant(m, "b", f32(1, 4).astype("int64"))


for name, dim in (("negative", -4), ("min", -(2**63))):

    def change(m, d=dim):
        for v in (m.graph.input[0], m.graph.output[0]):
            v.type.tensor_type.shape.dim[1].dim_value = d

    refuse(f"type_dimension_{name}", "graph|shape|unsupported", "pixels", RELU, change)
