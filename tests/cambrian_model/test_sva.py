"""The samplers: against golden case A (see golden/), a plain double loop, and what they promise."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import cambrian_model.sva_attention as attention
from benchmarks.sva_plain import PlainSampler
from cambrian_data.records import UserError
from cambrian_model.pictures import content_span
from cambrian_model.sva import VisionSampler, Windows, cut_windows, window_masks
from tests.cambrian_model.golden import kind_a
from tests.cambrian_model.golden.cases import find_cases

SIDES = (1, 2, 1, 3)
WIDTHS = {"query_width": 10, "context_width": 6, "key_width": [5, 8, 7, 8]}
PICTURES, CELLS = 2, 3


def _sampler(layer_type="joint", sides=SIDES, **settings):
    torch.manual_seed(0)
    settings = {"num_heads": 4, "num_layers": 2, **WIDTHS, **settings}
    sampler = VisionSampler(8, sides, layer_type=layer_type, **settings).double()
    with torch.no_grad():
        for parameter in sampler.parameters():  # norms too, so that one left out shows
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return sampler


def _inputs(sides=SIDES, key_widths=WIDTHS["key_width"], shared=False, seed=1):
    torch.manual_seed(seed)
    rows = PICTURES * CELLS
    masks = [torch.rand(rows, side**2) > 0.3 for side in sides]
    masks[0][:] = True
    windows = Windows(
        [
            torch.randn(rows, side**2, width).double()
            for side, width in zip(sides, key_widths, strict=True)
        ],
        masks,
        torch.randn(PICTURES, 6).double(),
        torch.arange(PICTURES).repeat_interleave(CELLS),
        CELLS,
    )
    return torch.randn(1 if shared else rows, 10).double(), windows


def _leaves(queries, windows):
    return [queries, windows.context, *windows.keys]


def _gradients(sampler, queries, windows, seed=2):
    """Return output and gradients, in which every element of the output has a weight of its own."""
    leaves = [*_leaves(queries, windows), *sampler.parameters()]
    for leaf in leaves:
        leaf.requires_grad_().grad = None
    out = sampler(queries, windows)
    generator = torch.Generator().manual_seed(seed)
    (out * torch.randn(out.shape, generator=generator, dtype=out.dtype)).sum().backward()
    named = {name: parameter.grad for name, parameter in sampler.named_parameters()}
    inputs = {f"input {at}": leaf.grad for at, leaf in enumerate(_leaves(queries, windows))}
    return {"output": out.detach(), **named, **inputs}


def _same(found, expected, **limit):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}", **limit)


# ------------------------------------------------------------------------------ the right numbers


def _norm(x, module):
    centred = x - x.mean()
    return centred / (x.var(correction=0) + 1e-5).sqrt() * module.weight + module.bias


def _project(x, norm_linear):
    return norm_linear[1].weight @ _norm(x, norm_linear[0])


def _loop_attend(module, names, inside, sets, masks):
    """Attend with loops over heads and keys; `names` of the projections, one a set of keys."""
    query, heads = _project(inside, module.q_proj), module.num_heads
    width = len(query) // heads
    keys, values = [], []
    for name, window, mask in zip(names, sets, masks, strict=True):
        for key, visible in zip(window, mask, strict=True):
            if visible:
                keys.append(_project(key, getattr(module, f"k_proj{name}")))
                values.append(_project(key, getattr(module, f"v_proj{name}")))
    out = torch.zeros_like(query)
    for head in range(heads if keys else 0):
        part = slice(head * width, (head + 1) * width)
        scores = [torch.dot(query[part], key[part]) / math.sqrt(width) for key in keys]
        shares = [score.exp() for score in scores]
        for share, value in zip(shares, values, strict=True):
            out[part] += share / sum(shares) * value[part]
    return module.o_proj.weight @ out


def _loop_mlp(module, x):
    return module.linear_2.weight @ torch.nn.functional.gelu(module.linear_1.weight @ x)


def _loop_layer(layer, query, context, windows, masks):
    both = torch.cat([query, layer.proj_context.weight @ context])
    inside = layer.proj_in.weight @ both
    windows = [
        window + layer.get_parameter(f"pos_embed_{number}") if len(window) > 1 else window
        for number, window in enumerate(windows)
    ]
    if hasattr(layer, "cross_attn"):
        names = [f"_{number}" for number in range(len(windows))]
        gathered = _loop_attend(layer.cross_attn, names, inside, windows, masks)
    else:
        shares = _loop_mlp(layer.weight_mlp, both).softmax(0)
        gathered = torch.zeros_like(inside)
        for number, (window, mask) in enumerate(zip(windows, masks, strict=True)):
            module = layer.get_submodule(f"aggregate_{number}.attention_layer")
            if len(window) == 1:
                taken = _loop_mlp(module, window[0])
            else:
                taken = _loop_attend(module, [""], inside, [window], [mask])
            gathered = gathered + shares[number] * taken
    return query + _loop_mlp(layer.proj_out, _norm(inside + gathered, layer.norm))


@torch.no_grad()
@pytest.mark.parametrize("layer_type", ["joint", "sep"])
def test_equals_a_double_loop(layer_type):
    sampler = _sampler(layer_type)
    queries, windows = _inputs()
    windows.masks[0][1] = False
    out = sampler(queries, windows)
    for row, query in enumerate(queries):
        context = windows.context[windows.picture[row]]
        keys = [tensor[row] for tensor in windows.keys]
        masks = [mask[row].tolist() for mask in windows.masks]
        for layer in sampler.layers:
            query = _loop_layer(layer, query, context, keys, masks)
        assert_close(out[row], query, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("layer_type", ["joint", "sep"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("block", [1, 64, 96, 2**19])
def test_equals_the_plain_formula_with_gradients(layer_type, shared, block, monkeypatch):
    """Whatever the size of the blocks: part of a picture, a picture, several."""
    monkeypatch.setattr(attention, "_CACHE_BLOCK", block)
    sampler = _sampler(layer_type)
    plain = PlainSampler(8, SIDES, num_heads=4, num_layers=2, layer_type=layer_type, **WIDTHS)
    plain.double().load_state_dict(sampler.state_dict())
    queries, windows = _inputs(shared=shared)
    windows.masks[1][:, 0] = windows.masks[3][:, 0] = True
    expected = _gradients(plain, queries, windows)
    found = _gradients(sampler, queries, windows)
    _same(found, {name: expected[name] for name in found}, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("sides", [(1,), (3,), (1, 1), (2, 2)])
@pytest.mark.parametrize("layer_type", ["joint", "sep"])
def test_any_number_of_towers(sides, layer_type):
    settings = {"num_heads": 2, "num_layers": 1, "layer_type": layer_type}
    settings |= {"query_width": 10, "context_width": 6}
    sampler = _sampler(sides=sides, key_width=None, **settings)
    plain = PlainSampler(8, sides, **settings).double()
    plain.load_state_dict(sampler.state_dict())
    queries, windows = _inputs(sides, [8] * len(sides))
    for mask in windows.masks:
        mask[:, 0] = True
    expected = _gradients(plain, queries, windows)
    found = _gradients(sampler, queries, windows)
    _same(found, {name: expected[name] for name in found}, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("shared", [False, True])
def test_gradients_are_those_of_finite_differences(shared):
    sampler = _sampler(num_layers=1)
    queries, windows = _inputs(shared=shared)
    windows.masks[0][0] = windows.masks[2][0] = False
    names = [name for name, _ in sampler.named_parameters()]

    def run(queries, context, *rest):
        keys, parameters = rest[: len(SIDES)], rest[len(SIDES) :]
        seen = Windows(list(keys), windows.masks, context, windows.picture, CELLS)
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(sampler, named, (queries, seen))

    leaves = [*_leaves(queries, windows), *(p.detach() for p in sampler.parameters())]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


def test_the_plain_formula_is_the_published_one(golden_folder):
    """So that a comparison with it is one with the published numbers."""
    cases = [case for case in find_cases(golden_folder) if case.kind == "A"]
    assert cases
    for case in cases:
        kind_a.check(case, PlainSampler)


def test_widths_of_samplers_inside_a_decoder_are_as_published(read_case):
    meta, _, _ = read_case("e_param_groups")
    prefix = "model.vision_sampler_layers.0."
    published = {
        name.removeprefix(prefix): entry["shape"]
        for name, entry in meta["runs"][0]["parameters"].items()
        if name.startswith(prefix)
    }
    sampler = VisionSampler(32, (1, 1, 2), query_width=64, num_layers=1)
    assert {name: list(p.shape) for name, p in sampler.named_parameters()} == published


# ------------------------------------------------------------------------------------ its promises


@pytest.mark.parametrize("layer_type", ["joint", "sep"])
@pytest.mark.parametrize("shared", [False, True])
def test_what_stands_behind_masked_keys_does_not_matter(layer_type, shared):
    sampler = _sampler(layer_type)
    queries, windows = _inputs(shared=shared)
    before = _gradients(sampler, queries, windows)
    with torch.no_grad():
        for keys, mask in zip(windows.keys, windows.masks, strict=True):
            if layer_type == "joint" or keys.shape[1] > 1:
                keys[~mask] = 100 * torch.rand_like(keys[~mask]) - 7
    after = _gradients(sampler, queries, windows)
    assert torch.equal(after["output"], before["output"])
    _same(after, before, atol=0, rtol=1e-13)
    assert not after["input 5"][~windows.masks[3]].any()


@pytest.mark.parametrize("layer_type", ["joint", "sep"])
def test_a_row_that_sees_nothing_takes_nothing(layer_type):
    """No NaN, and the row's result depends on its query and context alone."""
    sampler = _sampler(layer_type, sides=(2, 3), key_width=8)
    queries, windows = _inputs((2, 3), [8, 8])
    for mask in windows.masks:
        mask[2] = False
    found = _gradients(sampler, queries, windows)
    assert all(value.isfinite().all() for value in found.values())
    windows.keys = [torch.randn_like(keys) for keys in windows.keys]
    assert torch.equal(sampler(queries, windows)[2], found["output"][2])


@pytest.mark.parametrize("layer_type", ["joint", "sep"])
def test_one_query_for_all_rows_equals_a_query_a_row(layer_type):
    sampler = _sampler(layer_type)
    queries, windows = _inputs(shared=True)
    shared = _gradients(sampler, queries, windows)
    windows.cells_per_picture = None
    _same(_gradients(sampler, queries, windows), shared, atol=1e-10, rtol=1e-10)
    repeated = queries.detach().repeat(PICTURES * CELLS, 1)
    each = _gradients(sampler, repeated, windows)
    each["input 0"] = each["input 0"].sum(0, keepdim=True)
    _same(each, shared, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("layer_type", ["joint", "sep"])
def test_selected_rows_are_those_of_the_whole(layer_type):
    sampler = _sampler(layer_type)
    queries, windows = _inputs()
    rows = torch.tensor([4, 0, 5, 4])
    selected = windows.select(rows)
    assert selected.cells_per_picture is None
    whole = sampler(queries, windows)
    assert_close(sampler(queries[rows], selected), whole[rows], atol=1e-12, rtol=1e-12)
    assert_close(sampler(queries[:1], selected), sampler(queries[:1], windows)[rows])


def test_float32_and_bfloat16_stay_near():
    queries, windows = _inputs()
    exact = _sampler()(queries, windows)

    def cast(dtype):
        keys = [keys.to(dtype) for keys in windows.keys]
        context = windows.context.to(dtype)
        return queries.to(dtype), Windows(keys, windows.masks, context, windows.picture)

    assert_close(_sampler().float()(*cast(torch.float32)).double(), exact, atol=2e-5, rtol=2e-5)
    half = _sampler().bfloat16()
    found = _gradients(half, *cast(torch.bfloat16))
    assert {value.dtype for value in found.values()} == {torch.bfloat16}
    assert ((found["output"].double() - exact).norm() / exact.norm()) < 0.03


def test_autocast_learns_in_float32_and_computes_in_bfloat16():
    sampler = _sampler().float()
    queries, windows = _inputs()
    queries, windows.context = queries.float(), windows.context.float()
    windows.keys = [keys.float() for keys in windows.keys]
    exact = _gradients(sampler, queries, windows)
    with torch.autocast("cpu", torch.bfloat16):
        found = _gradients(sampler, queries, windows)
    for name, value in exact.items():
        assert found[name].dtype == torch.float32 or name == "output"
        error = (found[name].float() - value).norm() / value.norm().clamp(min=1e-2)
        assert error < 0.1, name


@pytest.mark.parametrize("layer_type", ["joint", "sep"])
def test_checkpointing_and_use_in_several_samplers(layer_type):
    """The same windows in two samplers, each recomputed, give the gradients of a plain run."""
    first, second = _sampler(layer_type), _sampler(layer_type, num_layers=1)
    queries, windows = _inputs()

    class Both(torch.nn.Module):
        def __init__(self, recompute):
            super().__init__()
            self.first, self.second, self.recompute = first, second, recompute

        def forward(self, queries, windows):
            for sampler in (self.first, self.second):
                if self.recompute:
                    queries = checkpoint(sampler, queries, windows, use_reentrant=False)
                else:
                    queries = sampler(queries, windows)
            return queries

    expected = _gradients(Both(False), queries, windows)
    _same(_gradients(Both(True), queries, windows), expected, atol=0, rtol=0)


@pytest.mark.parametrize("shared", [False, True])
def test_it_compiles_in_one_graph(shared):
    sampler = _sampler()
    queries, windows = _inputs(shared=shared)

    def run(queries, windows):
        return sampler(queries, windows)

    expected = _gradients(sampler, queries, windows)
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    out = compiled(queries, windows)
    assert_close(out, expected["output"], atol=1e-12, rtol=1e-12)


def test_heads_that_do_not_divide_the_width_are_named():
    with pytest.raises(UserError, match="3 attention heads do not divide the sampler's width 8"):
        VisionSampler(8, (1,), num_heads=3)


# ---------------------------------------------------------------------------------------- windows


def test_windows_are_the_blocks_of_the_map():
    side, grid = 6, 3
    feats = torch.arange(2 * side * side).view(2, side * side, 1).float()
    windows = cut_windows(feats, side, grid)
    row = 0
    for picture in feats.view(2, side, side):
        for y in range(grid):
            for x in range(grid):
                block = picture[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].flatten()
                assert torch.equal(windows[row, :, 0], block)
                row += 1


def test_a_window_without_any_picture_is_left_open():
    (rows,) = window_masks([(80, 20)], 8, 4, torch.device("cpu")).view(1, 4, 4, 4)
    top, bottom, _, _ = content_span((80, 20), 8)
    assert (top, bottom) == (3, 5)
    assert rows[0].all() and rows[3].all()
    assert rows[1].tolist() == [[False, False, True, True]] * 4
