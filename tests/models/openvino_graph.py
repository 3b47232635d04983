"""Write a network as the OpenVINO graph that Open Model Zoo has of it, batch norms folded."""

import numpy as np

HEAD = (
    '<?xml version="1.0"?>\n<net name="torch-jit-export" version="11">\n<layers>\n'
    '<layer id="0" name="data" type="Parameter"><data shape="1,3,32,16" element_type="f32" />'
    "</layer>\n"
)


class Graph:
    """Layers in a row, each with its constant; the reader looks at no other edges."""

    def __init__(self, kind="f2"):
        self.kind, self.blob = kind, b""
        self.layers, self.edges, self.count, self.last = [], [], 1, 0

    def constant(self, name, values, kind):
        content = values.astype(f"<{kind}").tobytes()
        shape = ", ".join(map(str, values.shape))
        data = (
            f'<data element_type="{kind[0]}{8 * int(kind[1])}" shape="{shape}" '
            f'offset="{len(self.blob)}" size="{len(content)}" />'
        )
        self.blob += content
        return self.layer("Const", name, data)

    def layer(self, kind, name, data="", inputs=()):
        number, self.count = self.count, self.count + 1
        self.layers.append(f'<layer id="{number}" name="{name}" type="{kind}">{data}</layer>\n')
        for port, source in enumerate(inputs):
            edge = f'from-layer="{source}" from-port="0" to-layer="{number}" to-port="{port}"'
            self.edges.append(f"<edge {edge} />\n")
        return number

    def turn(self):
        order = self.constant("order", np.array([2, 1, 0]), "i4")
        axis = self.constant("axis", np.array([1]), "i4")
        self.last = self.layer("Gather", "turn", inputs=(0, order, axis))

    def add(self, kind, values=None, name="folded", data=""):
        inputs = [self.last]
        if values is not None:
            stored = self.constant(f"{name}_compressed", values, self.kind)
            inputs.append(self.layer("Convert", name, inputs=(stored,)))
        self.last = self.layer(kind, f"op{self.count}", data, inputs)

    def text(self):
        return HEAD + "".join(self.layers) + "</layers>\n<edges>\n" + "".join(self.edges) + (
            "</edges>\n</net>\n"
        )  # fmt: skip


def write_graph(network, path, kind="f4"):
    """Write ``.xml`` and ``.bin`` of an OSNet with learned pooling."""
    graph = Graph(kind)
    graph.turn()
    graph.add("Subtract", np.full((1, 3, 1, 1), 116.0))
    graph.add("Multiply", np.full((1, 3, 1, 1), 0.0175))
    for norm, conv in ((network.in_first, network.conv1.conv), (network.conv1.bn, None)):
        graph.add("MVN")
        _affine(graph, norm)
        if conv is not None:
            graph.add("Convolution", _array(conv.weight), "conv1.conv.weight")
    for stage in ("conv2", "conv3", "conv4"):
        for index in (0, 1):
            _block(graph, getattr(network, stage)[index], f"{stage}.{index}")
        if stage != "conv4":
            _conv_bn(graph, getattr(network, stage)[2][0])
    _conv_bn(graph, network.conv5)
    pooling = network.global_avgpool
    graph.add("GroupConvolution", _array(pooling.weight)[:, None])
    graph.add("Add", _row(pooling.bias))
    linear, norm, prelu = network.fc
    graph.add("MatMul", _array(linear.weight), "fc.0.weight", '<data transpose_b="true" />')
    graph.add("Add", _array(linear.bias)[None])
    scale, shift = _folded(norm)
    graph.add("Multiply", scale[None, :, None])
    graph.add("Add", shift[None, :, None])
    graph.add("PReLU", _array(prelu.weight)[None])
    path.write_text(graph.text())
    path.with_suffix(".bin").write_bytes(graph.blob)


def _block(graph, block, name):
    _conv_bn(graph, block.conv1)
    for stream in "abcd":
        lights = getattr(block, f"conv2{stream}")
        for index, light in enumerate([lights] if stream == "a" else lights):
            number = "" if stream == "a" else f".{index}"
            known = f"{name}.conv2{stream}{number}.conv1.weight"
            graph.add("Convolution", _array(light.conv1.weight), known)
            scale, shift = _folded(light.bn)
            depthwise = _array(light.conv2.weight) * scale[:, None, None, None]
            graph.add("GroupConvolution", depthwise[:, None])
            graph.add("Add", shift[None, :, None, None])
            graph.add("ReLU")
        if name.endswith(".0"):
            for part in ("fc1", "fc2"):
                conv = getattr(block.gate, part)
                graph.add("Convolution", _array(conv.weight), f"{name}.gate.{part}.weight")
                graph.add("Add", _row(conv.bias))
        else:
            graph.add("MVN")
            _affine(graph, block.gate.gn)
        graph.add("Sigmoid")
    _conv_bn(graph, block.conv3)
    if block.downsample is not None:
        _conv_bn(graph, block.downsample)


def _conv_bn(graph, layers):
    scale, shift = _folded(layers.bn)
    graph.add("Convolution", _array(layers.conv.weight) * scale[:, None, None, None])
    graph.add("Add", shift[None, :, None, None])


def _affine(graph, norm):
    graph.add("Multiply", _row(norm.weight))
    graph.add("Add", _row(norm.bias))


def _folded(norm):
    scale = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
    return scale, _array(norm.bias) - scale * _array(norm.running_mean)


def _row(tensor):
    return _array(tensor)[None, :, None, None]


def _array(tensor):
    return tensor.detach().numpy()
