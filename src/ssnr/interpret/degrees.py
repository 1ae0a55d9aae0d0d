"""What PyTorch's functions do with tensors that carry a power of two, by name; see `ssnr._scaled`."""

from __future__ import annotations

from typing import Any

import torch

from ssnr.interpret.exponents import is_number


def words(text: str) -> frozenset[str]:
    """The names in a text, as a set."""
    return frozenset(text.split())


PRODUCTS = words(
    """
    linear matmul mm bmm mv dot inner outer einsum mul multiply rmul bilinear tensordot kron conv1d conv2d
    conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution rmatmul
    """
)
BIAS_AT = {"linear": 2, "conv1d": 2, "conv2d": 2, "conv3d": 2, "conv_transpose1d": 2, "conv_transpose2d": 2,
            "conv_transpose3d": 2, "convolution": 2, "bilinear": 3}  # fmt: skip
WITH_SUM = {"addmm": torch.mm, "addmv": torch.mv, "baddbmm": torch.bmm, "addr": torch.outer}
QUOTIENTS = frozenset(("div", "true_divide", "divide"))
# In these a plain number is a term; in the joins it is a dimension.
ARITHMETIC = words(
    """
    add sub subtract rsub radd where maximum minimum fmax fmin eq ne lt le gt ge greater less equal fill
    masked_fill setitem
    """
)
JOINS = words(
    """
    lerp cat concat concatenate stack hstack vstack dstack column_stack row_stack index_add scatter_add index_copy copy
    index_put scatter scatter_reduce index_reduce slice_scatter select_scatter diagonal_scatter masked_scatter
    block_diag hypot complex
    """
)
# Of degree one in their first tensor.
PASSES = words(
    """
    relu leaky_relu prelu rrelu abs neg negative positive sum mean nansum nanmean amax amin max min median
    linalg_vector_norm linalg_norm
    topk sort kthvalue view view_as reshape reshape_as flatten unflatten permute transpose swapaxes swapdims
    movedim moveaxis t getitem select narrow expand expand_as repeat repeat_interleave tile contiguous clone
    detach to float double half bfloat16 type type_as squeeze unsqueeze pad constant_pad_nd interpolate
    upsample pixel_shuffle pixel_unshuffle channel_shuffle roll flip fliplr flipud rot90 unfold fold im2col
    col2im chunk split tensor_split split_with_sizes unbind gather take take_along_dim index_select cumsum
    diagonal diag tril triu requires_grad real broadcast_to as_strided dropout dropout1d dropout2d dropout3d
    alpha_dropout feature_dropout feature_alpha_dropout avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d
    max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d max_pool1d_with_indices max_pool2d_with_indices
    max_pool3d_with_indices adaptive_max_pool1d_with_indices lp_pool1d lp_pool2d
    adaptive_max_pool2d_with_indices max_unpool1d max_unpool2d max_unpool3d grid_sample norm vector_norm std
    embedding embedding_bag
    """
)
# From some size on the identity on what is positive.
GROWING = words(
    """
    gelu silu mish hardswish elu selu celu softplus
    """
)

# Flat far out.
LEVEL = words(
    "sigmoid hardsigmoid tanh hardtanh relu6 erf atan softsign lstm gru rnn_tanh lstm_cell gru_cell rnn_tanh_cell"
)
# Near 0 a straight line through it.
LINES = words("tanh hardtanh relu6 silu gelu mish hardswish elu selu celu erf atan sin asinh expm1 log1p softsign")
CLAMPS = words("clamp clamp_min clip")
# The same for all multiples of what they are given, but for the ε that they divide with.
INVARIANT = words("normalize layer_norm rms_norm group_norm instance_norm cosine_similarity sign sgn")
SELU = 1.0507009873554805  # what SELU multiplies positive numbers by

# What is done to tensors and not to their numbers, or to how they look.
NO_NUMBERS = words("set delete backward register_hook retain_grad repr format str len size stride dim numel hash")
# Tensors that nothing has been written to.
UNFILLED = words("empty empty_like empty_strided new_empty new_empty_strided")
# In place, of shape alone.
LAYOUT = words(
    """
    transpose t swapaxes swapdims squeeze unsqueeze as_strided zero detach requires_grad set resize resize_as
    share_memory rename
    """
)
# In place, of random numbers whatever was there.
DRAWS = words("normal uniform random bernoulli exponential geometric cauchy log_normal")
# Where these are told to work in place, without a name.
INPLACE_AT = {"relu": 1, "relu6": 1, "hardswish": 1, "hardsigmoid": 1, "silu": 1, "mish": 1, "selu": 1, "elu": 2,
              "celu": 2, "leaky_relu": 2, "hardtanh": 3, "threshold": 3, "rrelu": 4, "dropout": 3, "dropout1d": 3,
              "dropout2d": 3, "dropout3d": 3, "alpha_dropout": 3, "feature_alpha_dropout": 3}  # fmt: skip


def asks_in_place(name: str, args: Any, kwargs: Any) -> bool:
    """Whether a function's `inplace` is true, by name or by place."""
    if kwargs and kwargs.get("inplace"):
        return True
    place = INPLACE_AT.get(name)
    return place is not None and len(args) > place and args[place] is True


def out_of_place(name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments of such a call without that; what changes is the first."""
    kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
    if not args:
        args = (kwargs.pop("input"),)
    place = INPLACE_AT.get(name, len(args))
    return (*args[:place], *(False for _ in args[place : place + 1]), *args[place + 1 :]), kwargs


def lower_bound(args: Any, kwargs: Any) -> float | None:
    """The bound of a clamp that has a lower one alone, of 0 or less: what is positive stays what it is."""
    low = kwargs.get("min", args[1] if len(args) > 1 else None)
    only = kwargs.get("max") is None and all(bound is None for bound in args[2:])
    return float(low) if only and is_number(low) and low <= 0 else None
