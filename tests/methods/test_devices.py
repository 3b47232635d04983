"""Every loss on tensors that claim to lie on a GPU: no value, but an error where devices meet."""

import warnings
from dataclasses import fields

import pytest
from methods.builders import CASES, random_batch, small_case
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from resolute.core.images import Batch

# How many images take a route is read from rates or labels: no fact of shapes, and an end here.
READ_VALUES = ("sing", "csr-gan", "rain, few labels")


def moved(tensor):
    return tensor.to("cuda")


def move(module):
    """Do what ``Module.to`` cannot: put a tensor of another kind in the place of each."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(
                moved(parameter.detach()), requires_grad=parameter.requires_grad
            )
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = moved(buffer)


@pytest.mark.parametrize("name", sorted(CASES))
def test_all_that_a_loss_reads_lies_on_the_device_of_the_batch(name):
    method, batch = small_case(name).train(), random_batch()
    with warnings.catch_warnings(), FakeTensorMode(allow_non_fake_inputs=True):
        warnings.simplefilter("ignore")
        move(method)
        on_gpu = Batch(**{f.name: moved(getattr(batch, f.name)) for f in fields(Batch)})
        for phase in method.phases:
            try:
                losses = method.losses(on_gpu, phase)
            except (DataDependentOutputException, DynamicOutputShapeException):
                assert name.startswith(READ_VALUES)
                continue
            assert {loss.device.type for loss in losses.values()} == {"cuda"}


def test_a_tensor_left_behind_is_found():
    method, batch = small_case("ftwa").train(), random_batch()
    with FakeTensorMode(allow_non_fake_inputs=True):
        move(method.network)
        on_gpu = Batch(**{f.name: moved(getattr(batch, f.name)) for f in fields(Batch)})
        with pytest.raises(RuntimeError, match=r"device"):
            method.losses(on_gpu, method.phases[-1])
