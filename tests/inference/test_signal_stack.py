"""OpenVINO must not leave a signal stack behind: the end of a child process would kill ours."""

import ctypes
import sys

import pytest

from resolute.inference.signal_stack import _SignalStack, signal_stack_kept

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sigaltstack of Linux")


def current():
    stack = _SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack.base, stack.flags, stack.size


def test_the_stack_is_what_it_was():
    before = current()
    memory = ctypes.create_string_buffer(1 << 16)
    other = _SignalStack(base=ctypes.addressof(memory), flags=0, size=len(memory))
    with signal_stack_kept():
        ctypes.CDLL(None).sigaltstack(ctypes.byref(other), None)
        assert current() == (ctypes.addressof(memory), 0, 1 << 16)
    assert current() == before


def test_openvino_leaves_none_behind():
    openvino = pytest.importorskip("openvino")
    opset = pytest.importorskip("openvino.opset13")
    before = current()
    value = opset.parameter([1, 3], name="x")
    graph = openvino.Model([opset.relu(value)], [value])
    with signal_stack_kept():
        openvino.Core().compile_model(graph, "CPU")
    assert current() == before
