"""Vector instructions with one meaning on every machine, for the numba kernels.

Each intrinsic emits LLVM vectors of a fixed width: the compiler may split them for a narrower
machine but never reorders their arithmetic, and every multiply-add is a true fused one (one
rounding). So a kernel gives the same bits on AVX-512, AVX2 and NEON, whatever the batch.

The fixed summation order of an fp32 dot product, everywhere in the scorer: LANES partial sums (lane
``i % LANES`` takes element i, in order, by fused multiply-add), then halves added pairwise.
`models.scorer.reference.dot_reference` spells it out in numpy.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import llvmlite.ir as ir  # type: ignore[import-untyped]
import numba
import numba.core.cgutils
import numba.extending
import numpy as np
from numba import types
from numba.core.errors import TypingError

intrinsic: Any = numba.extending.intrinsic  # its annotations count the typing context as an argument
cgutils: Any = numba.core.cgutils

LANES = 16
TILE = 64
"""Ads per tile of the integer scan: one word of the eligibility bitset."""

_F32 = ir.FloatType()
_I1, _I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_VEC = ir.VectorType(_F32, LANES)


def padded(width: int) -> int:
    """Return `width` rounded up to a multiple of LANES, at least LANES."""
    return max(LANES, -(-width // LANES) * LANES)


def has_vnni() -> bool:
    """Return whether this machine multiplies 64 pairs of bytes in one instruction (AVX-512 VNNI)."""
    wanted: Any = numba.config
    if wanted.CPU_NAME or wanted.CPU_FEATURES:  # numba was told to compile for another machine
        return "+avx512vnni" in (wanted.CPU_FEATURES or "")
    return bool(llvm.get_host_cpu_features().get("avx512vnni", False))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, element: Any) -> Any:
    """Return the address of flat element ``offset`` of a C-contiguous array, as ``element*``."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), element.as_pointer())


def _load(builder: Any, base: Any, index: Any, align: int = 4) -> Any:
    value = builder.load(builder.gep(base, [index]))
    value.align = align
    return value


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    name = f"llvm.fma.v{a.type.count}f32" if isinstance(a.type, ir.VectorType) else "llvm.fma.f32"
    function_type = ir.FunctionType(a.type, [a.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), [a, b, c])


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    vector = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _I32(0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def _pick(builder: Any, vector: Any, indices: list[int]) -> Any:
    order = ir.Constant(ir.VectorType(_I32, len(indices)), indices)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), order)


def _fold(builder: Any, vector: Any, combine: Any) -> Any:
    """Combine the upper half with the lower until one lane is left."""
    lanes = vector.type.count
    while lanes > 1:
        lanes //= 2
        low, high = (_pick(builder, vector, list(range(at, at + lanes))) for at in (0, lanes))
        vector = combine(builder, low, high)
    return builder.extract_element(vector, _I32(0))


def _lane_sum(builder: Any, vector: Any) -> Any:
    return _fold(builder, vector, lambda _, low, high: builder.fadd(low, high))


def _require_c_array(name: str, array: Any, dtype: Any) -> None:
    if not (isinstance(array, types.Array) and array.layout == "C" and array.dtype == dtype):
        raise TypingError(f"{name}: got {array}, expected a C-contiguous array of {dtype}")


@intrinsic
def lowest_bit(typingctx: Any, word: Any) -> Any:
    """Index of the lowest set bit of a uint64 (64 when none is)."""
    signature = types.int64(types.uint64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], _I1(0))

    return signature, codegen


@intrinsic
def dot(typingctx: Any, a: Any, a_at: Any, b: Any, b_at: Any, width: Any) -> Any:
    """Dot product of ``width`` (a multiple of LANES) floats of two arrays from flat offsets on."""
    _require_c_array("dot", a, types.float32)
    _require_c_array("dot", b, types.float32)
    signature = types.float32(a, types.intp, b, types.intp, types.intp)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left = _pointer(context, builder, sig.args[0], args[0], args[1], _VEC)
        right = _pointer(context, builder, sig.args[2], args[2], args[3], _VEC)
        total = cgutils.alloca_once_value(builder, ir.Constant(_VEC, [0.0] * LANES))
        chunks = builder.lshr(args[4], _I64(LANES.bit_length() - 1))
        with cgutils.for_range(builder, chunks) as loop:
            x, y = _load(builder, left, loop.index), _load(builder, right, loop.index)
            builder.store(_fma(builder, x, y, builder.load(total)), total)
        return _lane_sum(builder, builder.load(total))

    return signature, codegen


def _quad_dot(builder: Any, total: Any, unsigned: Any, signed: Any) -> Any:
    """``total[i] += sum over 4 of unsigned[4i+j] * signed[4i+j]``, bytes into int32, exactly."""
    if has_vnni():
        int_vec = ir.VectorType(_I32, LANES)
        function_type = ir.FunctionType(int_vec, [int_vec, unsigned.type, signed.type])
        name = "llvm.x86.avx512.vpdpbusd.512"
        instruction = cgutils.get_or_insert_function(builder.module, function_type, name)
        return builder.call(instruction, [total, unsigned, signed])
    wide = ir.VectorType(_I32, TILE)
    product = builder.mul(builder.zext(unsigned, wide), builder.sext(signed, wide))
    for lanes in (TILE // 2, TILE // 4):
        even = _pick(builder, product, list(range(0, 2 * lanes, 2)))
        product = builder.add(even, _pick(builder, product, list(range(1, 2 * lanes, 2))))
    return builder.add(total, product)


def _join(builder: Any, parts: list[Any]) -> Any:
    """Concatenate vectors of equal width."""
    while len(parts) > 1:
        width = parts[0].type.count
        order = ir.Constant(ir.VectorType(_I32, 2 * width), list(range(2 * width)))
        parts = [builder.shuffle_vector(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


@intrinsic
def tile_hits(
    typingctx: Any,
    codes: Any,
    codes_at: Any,
    quads: Any,
    user: Any,
    user_at: Any,
    offset: Any,
    scale: Any,
    base: Any,
    extra: Any,
    extra_at: Any,
    ad_at: Any,
    user_scale: Any,
    limit: Any,
) -> Any:
    """Scan one tile of TILE ads; return the set of those whose approximate score reaches ``limit``.

    The approximate score of ad a is ``(sum_d user[d] * codes[d, a] - offset[a]) * scale[a] * user_scale
    + (base[a] + extra[a])``; the sum is exact in int32. ``codes`` holds the tile as int8
    ``[quads, TILE, 4]``, ``user`` the query as uint8 ``[quads, 4]``.
    """
    arrays = {"codes": (codes, types.int8), "user": (user, types.uint8), "offset": (offset, types.int32)}
    arrays |= {"scale": (scale, types.float32), "base": (base, types.float32)}
    arrays |= {"extra": (extra, types.float32)}
    for name, (array, dtype) in arrays.items():
        _require_c_array(f"tile_hits {name}", array, dtype)
    index, real = types.intp, types.float32
    signature = types.uint64(
        codes, index, index, user, index, offset, scale, base, extra, index, index, real, real
    )
    return signature, _tile_hits_code


def _tile_hits_code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    def pointer(which: int, at: Any, element: Any) -> Any:
        return _pointer(context, builder, sig.args[which], args[which], at, element)

    groups = TILE // LANES
    int_vec, bytes_vec = ir.VectorType(_I32, LANES), ir.VectorType(_I8, TILE)
    code_type = int_vec if has_vnni() else bytes_vec
    codes, query = pointer(0, args[1], code_type), pointer(3, args[4], _I32)
    zero = ir.Constant(int_vec, [0] * LANES)
    totals = [cgutils.alloca_once_value(builder, zero) for _ in range(groups)]
    with cgutils.for_range(builder, args[2]) as loop:
        user = _splat(builder, _load(builder, query, loop.index, 1), LANES)
        user = builder.bitcast(user, code_type)
        for g, total in enumerate(totals):
            at = builder.add(builder.mul(loop.index, _I64(groups)), _I64(g))
            builder.store(_quad_dot(builder, builder.load(total), user, _load(builder, codes, at, 1)), total)
    user_scale, limit = (_splat(builder, args[i], LANES) for i in (11, 12))
    hits = []
    for g, total in enumerate(totals):
        offset, scale, base = (
            _load(builder, pointer(i, args[10], kind), _I64(g))
            for i, kind in ((5, int_vec), (6, _VEC), (7, _VEC))
        )
        extra = _load(builder, pointer(8, args[9], _VEC), _I64(g))
        exact = builder.sitofp(builder.sub(builder.load(total), offset), _VEC)
        approximate = builder.fmul(builder.fmul(exact, scale), user_scale)
        score = builder.fadd(approximate, builder.fadd(base, extra))
        hits.append(builder.fcmp_ordered(">=", score, limit))
    return builder.bitcast(_join(builder, hits), _I64)


F32_EPSILON = float(np.finfo(np.float32).eps)


def _matrix_block(rows: int, vectors: int) -> Any:
    """Return the intrinsic that multiplies ``rows`` rows of x by ``vectors * LANES`` columns of w.

    ``out[r, j] = sum over i of x[r, i] * w[i, j]``, i in order, by fused multiply-add from 0. Arguments:
    (array, flat offset, row stride) of x, of w and of out, with ``n_in`` before those of out.
    """

    @intrinsic
    def block(
        typingctx: Any,
        x: Any,
        x_at: Any,
        x_stride: Any,
        w: Any,
        w_at: Any,
        w_stride: Any,
        n_in: Any,
        out: Any,
        out_at: Any,
        out_stride: Any,
    ) -> Any:
        for name, array in (("x", x), ("w", w), ("out", out)):
            _require_c_array(f"matrix block {name}", array, types.float32)
        i = types.intp
        return types.void(x, i, i, w, i, i, i, out, i, i), partial(_matrix_block_code, rows, vectors)

    return block


def _matrix_block_code(rows: int, vectors: int, context: Any, builder: Any, sig: Any, args: Any) -> Any:
    x, w, out = (_pointer(context, builder, sig.args[i], args[i], args[i + 1], _F32) for i in (0, 3, 7))
    x_stride, w_stride, n_in, out_stride = args[2], args[5], args[6], args[9]
    zero = ir.Constant(_VEC, [0.0] * LANES)
    cells = [(r, v) for r in range(rows) for v in range(vectors)]
    totals = {cell: cgutils.alloca_once(builder, _VEC) for cell in cells}
    for cell in cells:
        builder.store(zero, totals[cell])

    def vector_at(base: Any, row: Any, stride: Any, v: int) -> Any:
        at = builder.add(builder.mul(row, stride), _I64(v * LANES))
        return builder.bitcast(builder.gep(base, [at]), _VEC.as_pointer())

    with cgutils.for_range(builder, n_in) as loop:
        columns = [_load(builder, vector_at(w, loop.index, w_stride, v), _I64(0)) for v in range(vectors)]
        for r in range(rows):
            at = builder.add(builder.mul(_I64(r), x_stride), loop.index)
            value = _splat(builder, _load(builder, x, at), LANES)
            for v in range(vectors):
                total = totals[r, v]
                builder.store(_fma(builder, value, columns[v], builder.load(total)), total)
    for r, v in cells:
        stored = builder.store(builder.load(totals[r, v]), vector_at(out, _I64(r), out_stride, v))
        stored.align = 4
    return context.get_dummy_value()


block_4x2 = _matrix_block(4, 2)
block_4x1 = _matrix_block(4, 1)
block_1x8 = _matrix_block(1, 8)
block_1x4 = _matrix_block(1, 4)
block_1x2 = _matrix_block(1, 2)
block_1x1 = _matrix_block(1, 1)


@intrinsic
def softmax_slots(typingctx: Any, scores: Any, at: Any, newest: Any, seen: Any, ring: Any) -> Any:
    """Turn the scores of a ring's slots into ``e^(score - best)`` in place; return their sum.

    Slot r holds the event that is ``(newest - r) mod ring`` back; the ``seen`` latest (1 or more) take part
    and the others get exactly 0. ``ring`` is a multiple of LANES.
    """
    _require_c_array("softmax_slots", scores, types.float32)
    i = types.intp
    return types.float32(scores, i, i, i, i), _softmax_slots_code


def _softmax_slots_code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    scores = _pointer(context, builder, sig.args[0], args[0], args[1], _VEC)
    newest, seen, ring = (builder.trunc(arg, _I32) for arg in args[2:])
    chunks = builder.lshr(args[4], _I64(LANES.bit_length() - 1))
    nothing, zeros = ir.Constant(_VEC, [float("-inf")] * LANES), ir.Constant(_VEC, [0.0] * LANES)
    best = cgutils.alloca_once_value(builder, nothing)
    with cgutils.for_range(builder, chunks) as loop:
        valid = _latest(builder, builder.trunc(loop.index, _I32), newest, seen, ring)
        score = builder.select(valid, _load(builder, scores, loop.index), nothing)
        builder.store(score, builder.gep(scores, [loop.index])).align = 4
        builder.store(_maximum(builder, score, builder.load(best)), best)
    top = _splat(builder, _fold(builder, builder.load(best), _maximum), LANES)
    total = cgutils.alloca_once_value(builder, zeros)
    with cgutils.for_range(builder, chunks) as loop:
        score = _load(builder, scores, loop.index)
        weight = _exp(builder, builder.fsub(score, top))
        weight = builder.select(builder.fcmp_ordered(">", score, nothing), weight, zeros)
        builder.store(weight, builder.gep(scores, [loop.index])).align = 4
        builder.store(builder.fadd(builder.load(total), weight), total)
    return _lane_sum(builder, builder.load(total))


def _latest(builder: Any, chunk: Any, newest: Any, seen: Any, ring: Any) -> Any:
    """Return for LANES slots from ``chunk * LANES`` on whether they are among the latest ``seen``."""
    first = builder.mul(chunk, _I32(LANES))
    lanes = ir.Constant(ir.VectorType(_I32, LANES), list(range(LANES)))
    slots = builder.add(_splat(builder, first, LANES), lanes)
    age = builder.sub(_splat(builder, newest, LANES), slots)
    wrapped = builder.add(age, _splat(builder, ring, LANES))
    negative = builder.icmp_signed("<", age, ir.Constant(age.type, [0] * LANES))
    return builder.icmp_signed("<", builder.select(negative, wrapped, age), _splat(builder, seen, LANES))


def _maximum(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _exp(builder: Any, x: Any) -> Any:
    """Return e^x of a vector of x <= 0, within 2 ulp; that of -87 below (Cephes' polynomial, fused)."""

    def many(value: float) -> Any:
        return ir.Constant(x.type, [float(np.float32(value))] * x.type.count)

    x = _maximum(builder, x, many(-87.0))
    magic = many(12582912.0)  # 1.5 * 2^23: adding and subtracting it rounds to an integer
    power = builder.fsub(builder.fadd(builder.fmul(x, many(1.44269504)), magic), magic)
    r = _fma(builder, power, many(2.12194440e-4), _fma(builder, power, many(-0.693359375), x))
    p = many(1.9875691500e-4)
    for term in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = _fma(builder, p, r, many(term))
    mantissa = builder.fadd(_fma(builder, p, builder.fmul(r, r), r), many(1.0))
    integers = ir.VectorType(_I32, x.type.count)
    biased = builder.add(builder.fptosi(power, integers), ir.Constant(integers, [127] * x.type.count))
    shifted = builder.shl(biased, ir.Constant(integers, [23] * x.type.count))
    return builder.fmul(mantissa, builder.bitcast(shifted, x.type))
