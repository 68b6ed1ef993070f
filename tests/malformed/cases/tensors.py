"""Initializers that contradict themselves, and external data that is not what or where it says."""

import numpy as np
from onnx import TensorProto, helper

from .models import GEMM, QLINEAR_CONV, RESHAPE, build, constant, f32, value
from .registry import refuse, refused

GIB = 2**30


def tensor(name, change, mentions="gemm0_w", kind="tensor"):
    """Damages the 4×3 weights of GEMM, which are `raw_data` of 48 bytes."""
    refuse(f"tensor_{name}", kind, mentions, GEMM, lambda m: change(constant(m, "w")))


def put(tensor, **fields):
    for field, content in fields.items():
        tensor.ClearField(field)
        if isinstance(content, list):
            getattr(tensor, field).extend(content)
        else:
            setattr(tensor, field, content)


def instead_of_raw(**fields):
    def change(t):
        t.ClearField("raw_data")
        put(t, **fields)

    return change


for name, length in (
    ("empty", 0),
    ("one_byte_short", 47),
    ("one_byte_long", 49),
    ("one_value_short", 44),
    ("one_value_long", 52),
):
    tensor(f"raw_data_{name}", lambda t, n=length: put(t, raw_data=bytes(n)))
tensor("no_data", instead_of_raw())
tensor("float_data_one_short", instead_of_raw(float_data=[0.5] * 11))
tensor("float_data_one_long", instead_of_raw(float_data=[0.5] * 13))
tensor("data_in_the_field_of_another_type", instead_of_raw(int64_data=[1] * 12))
tensor("raw_and_float_data", lambda t: put(t, float_data=[0.5] * 12))

for name, dims in (
    ("negative", [-4, 3]),
    ("both_negative", [-4, -3]),  # the product is right
    ("min", [-(2**63), 3]),
    ("too_many", [4, 3, 2]),
    ("too_few", [4]),
    ("2_to_40", [2**40, 3]),
    ("2_to_62", [2**62, 1]),  # times 4 bytes is 0 in 64 bits
    ("product_over_i64", [2**62, 3]),
    ("product_wraps_to_0", [2**32, 2**32]),
    ("product_wraps_to_12", [12, 2**62 + 1]),
):
    kind = "tensor|limit" if max(dims) >= 2**40 or name == "product_wraps_to_0" else "tensor"
    tensor(f"dims_{name}", lambda t, d=dims: put(t, dims=d), kind=kind)
tensor("dims_wrap_to_0_without_data", lambda t: put(t, dims=[2**32, 2**32], raw_data=b""), kind="tensor|limit")
tensor("dims_2_to_62_without_data", lambda t: put(t, dims=[2**62], raw_data=b""), kind="tensor|limit")
tensor("dims_zero_with_data", lambda t: put(t, dims=[0, 3]))
tensor("scalar_with_twelve_values", lambda t: put(t, dims=[]))
tensor("rank_20000", lambda t: put(t, dims=[4, 3] + [1] * 19_998), kind="tensor|limit|shape|unsupported")

for name, dtype in (("undefined", 0), ("unknown", 99), ("negative", -1)):
    tensor(f"dtype_{name}", lambda t, d=dtype: put(t, data_type=d), kind="tensor|unsupported")
tensor("string_with_raw_data", lambda t: put(t, data_type=TensorProto.STRING), kind="tensor|unsupported")
tensor(
    "string_with_one_value_short",
    instead_of_raw(data_type=TensorProto.STRING, string_data=[b"a"] * 11),
    kind="tensor|unsupported",
)


for name, dtype in (
    ("complex", TensorProto.COMPLEX64),
    ("bfloat16", TensorProto.BFLOAT16),
    ("float8", TensorProto.FLOAT8E4M3FN),
):
    tensor(f"dtype_{name}", lambda t, d=dtype: put(t, data_type=d), kind="tensor|unsupported")
tensor("double_data_one_short", instead_of_raw(data_type=TensorProto.DOUBLE, double_data=[0.5] * 11))
tensor("uint64_data_one_long", instead_of_raw(data_type=TensorProto.UINT64, uint64_data=[1] * 13))
tensor("float16_in_int32_data_over_16_bits", instead_of_raw(data_type=TensorProto.FLOAT16, int32_data=[70_000] * 12))


@refused("tensor", "reshape0_shape", RESHAPE)
def tensor_int64_data_one_long(m):
    instead_of_raw(int64_data=[3, 4, 1])(constant(m, "shape"))


@refused("tensor|graph", "name", GEMM)
def tensor_name_empty(m):
    m.graph.initializer.append(constant(m, "b"))
    m.graph.initializer[-1].name = ""


@refused("tensor|unsupported", "gemm0_w", GEMM)
def tensor_segment(m):
    weights = constant(m, "w")
    weights.segment.begin, weights.segment.end = 0, 6
    put(weights, raw_data=bytes(24))


@refused("tensor", "qlinearconv0_w", QLINEAR_CONV)
def tensor_int8_in_int32_data_one_short(m):
    instead_of_raw(int32_data=[1] * 53)(constant(m, "w"))


@refused("tensor", "qlinearconv0_w", QLINEAR_CONV)
def tensor_int8_in_int32_data_out_of_range(m):
    instead_of_raw(int32_data=[300] * 54)(constant(m, "w"))


@refused("tensor", "qlinearconv0_b", QLINEAR_CONV)
def tensor_int32_raw_data_of_int64_size(m):
    put(constant(m, "b"), raw_data=bytes(24))


@refused("tensor", "reshape0_shape", RESHAPE)
def tensor_int64_raw_data_of_int32_size(m):
    put(constant(m, "shape"), raw_data=np.int32([3, 4]).tobytes())


_INT4 = helper.make_tensor("dq0_q", TensorProto.INT4, [3], [1, -2, 3])
INT4 = build(
    "int4",
    [
        helper.make_node("DequantizeLinear", ["dq0_q", "dq0_scale"], ["w"], name="dq0"),
        helper.make_node("Add", ["pixels", "w"], ["scores"], name="add0"),
    ],
    [value("pixels", [3])],
    [value("scores", [3])],
    {"dq0_scale": np.float32(0.5)},
    opset=21,
)
INT4.graph.initializer.append(_INT4)


@refused("tensor|unsupported", "dq0_q", INT4)
def tensor_int4_half_a_byte_short(m):
    constant(m, "q").ClearField("int32_data")
    put(constant(m, "q"), raw_data=b"\x21")


# External data: a Gemm whose weights are the first 48 bytes of a file that lies next to the models.
EXTERNAL_FILE = "external.bin"
EXTERNAL_DATA = f32(4, 4).tobytes()


def entries(tensor, **content):
    """Rewrites the tensor's external entries; `None` takes one away."""
    kept = {"location": EXTERNAL_FILE, "offset": "0", "length": "48"} | content
    del tensor.external_data[:]
    for k, v in kept.items():
        if v is not None:
            tensor.external_data.add(key=k, value=v)


EXTERNAL = type(GEMM)()
EXTERNAL.CopyFrom(GEMM)
EXTERNAL.graph.name = "external"
constant(EXTERNAL, "w").ClearField("raw_data")
constant(EXTERNAL, "w").data_location = TensorProto.EXTERNAL
entries(constant(EXTERNAL, "w"))


def external(name, kind="external", **content):
    refuse(f"external_{name}", kind, "gemm0_w", EXTERNAL, lambda m: entries(constant(m, "w"), **content))


external("location_absolute", location="/etc/passwd")
external("location_device", location="/dev/zero")
external("location_parent", location="../README.md")
external("location_far_parent", location="../../../../../../../../etc/passwd")
external("location_parent_in_the_middle", location=f"here/../../{EXTERNAL_FILE}")
external("location_directory", location=".")
external("location_empty", location="")
external("location_with_nul", location=f"{EXTERNAL_FILE}\0.txt")
external("location_url", location="https://example.com/weights.bin")
external("location_none", location=None)
external("file_missing", location="absent.bin")
external("offset_beyond_end", offset="4096")
external("offset_leaves_too_few_bytes", offset="32")
external("offset_negative", offset="-16")
external("offset_not_a_number", offset="sixteen")
external("offset_over_u64", offset="99999999999999999999999")
external("offset_plus_length_wraps", offset=str(2**64 - 16))
external("offset_with_sign", offset="+0")
external("offset_with_blank", offset=" 0")
external("offset_hexadecimal", offset="0x10")
external("offset_a_fraction", offset="0.0")
external("location_of_another_system", location=f"..\\{EXTERNAL_FILE}")
external("location_of_a_home", location=f"~/{EXTERNAL_FILE}")
external("location_in_a_file", location=f"{EXTERNAL_FILE}/weights")
external("location_of_another_process", location="/proc/self/mem")
external("location_ends_with_a_slash", location=f"{EXTERNAL_FILE}/")
external("key_misspelt", offest="16")
external("key_in_capitals", location=None, Location=EXTERNAL_FILE)
for name, entry in (("location", "other.bin"), ("offset", "16"), ("length", "48")):

    def add(m, k=name, v=entry):
        constant(m, "w").external_data.add(key=k, value=v)

    refuse(f"external_{name}_twice", "external|malformed", "gemm0_w", EXTERNAL, add)
external("length_too_short", kind="external|tensor", length="44")
external("length_too_long", kind="external|tensor", length="52")
external("length_beyond_end", length="4096")
external("length_negative", length="-48")
external("length_not_a_number", length="many")
external("length_and_dims_huge", kind="external|limit|tensor", length=str(16 * GIB))


@refused("external|tensor", "data_location", EXTERNAL)
def external_without_saying_so(m):
    constant(m, "w").ClearField("data_location")


@refused("external|tensor", "gemm0_w", EXTERNAL)
def external_and_raw_data(m):
    put(constant(m, "w"), raw_data=bytes(48))
