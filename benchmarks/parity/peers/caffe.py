"""Writes a .caffemodel and the logits of the authors' Caffe PSPNet, interpreted in torch.

    git clone https://github.com/hszhao/PSPNet
    python benchmarks/parity/peers/caffe.py --repository PSPNet \
        --variant pspnet50_ADE20K --output out

Needs torch and grpcio-tools. Caffe itself isn't run: the layers below reimplement the
repository's C++ in torch, and evaluation/prototxt/*.prototxt is executed layer by layer. The
message classes are compiled from the repository's src/caffe/proto/caffe.proto. For sizes other
than the prototxt's, only its size-dependent numbers change; its pyramid needs a feature map
divisible by 6: sizes of 48k + 41. The default sizes are the prototxt's and 233x329.
"""

import tempfile
from collections import Counter
from pathlib import Path

import common
import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from grpc_tools import protoc
from torch.nn import functional

VARIANTS = {  # the crop in the prototxt's name
    "pspnet50_ADE20K": 473,
    "pspnet101_VOC2012": 473,
    "pspnet101_cityscapes": 713,
}
MEAN = (123.68, 116.779, 103.939)  # RGB, evaluation/eval_all.m:60-62


def net_parameter(repository):
    """Compiles the class NetParameter of the repository's caffe.proto."""
    proto = repository / "src/caffe/proto/caffe.proto"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "descriptors"
        command = ["protoc", f"-I{proto.parent}", f"--descriptor_set_out={out}", str(proto)]
        if protoc.main(command):
            raise SystemExit(f"protoc refused {proto}")
        descriptors = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in descriptors.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def with_splits(net):
    """The net with a Split after each blob that several layers read (util/insert_splits.cpp)."""
    sources, uses = [], Counter()
    latest = {name: (-1, i) for i, name in enumerate(net.input)}
    for i, layer in enumerate(net.layer):
        sources.append([latest[bottom] for bottom in layer.bottom])
        uses.update(sources[-1])
        latest.update({top: (i, j) for j, top in enumerate(layer.top)})
    if any(uses[-1, i] > 1 for i in range(len(net.input))):
        raise NotImplementedError("an input that several layers read")
    result, taken = type(net)(), Counter()
    result.CopyFrom(net)
    del result.layer[:]
    for i, layer in enumerate(net.layer):
        copy = result.layer.add()
        copy.CopyFrom(layer)
        for j, source in enumerate(sources[i]):
            if uses[source] > 1:
                name = f"{layer.bottom[j]}_{net.layer[source[0]].name}_{source[1]}_split"
                copy.bottom[j] = f"{name}_{taken[source]}"
                taken[source] += 1
        for j, top in enumerate(layer.top):
            if uses[i, j] > 1:
                name = f"{top}_{layer.name}_{j}_split"
                tops = [f"{name}_{k}" for k in range(uses[i, j])]
                result.layer.add(name=name, type="Split", bottom=[top], top=tops)
    return result


def adapted(net, height, width):
    """The net for another input size: input_dim, the average pooling and the fixed Interps."""
    if (height, width) == tuple(net.input_dim[2:]):
        return net
    if (height - 41) % 48 or (width - 41) % 48:
        raise SystemExit(f"{height}x{width}: the prototxt's pyramid needs sizes of 48k + 41")
    own, *feature = [(n - 1) // 8 + 1 for n in (net.input_dim[2], height, width)]
    result = type(net)()
    result.CopyFrom(net)
    result.input_dim[2:] = height, width
    for layer in result.layer:
        pool, interp = layer.pooling_param, layer.interp_param
        if layer.type == "Pooling" and pool.pool == pool.AVE:
            bins = own // pool.kernel_size
            pool.ClearField("kernel_size")
            pool.ClearField("stride")
            pool.kernel_h, pool.kernel_w = (n // bins for n in feature)
            pool.stride_h, pool.stride_w = pool.kernel_h, pool.kernel_w
        elif layer.type == "Interp" and interp.HasField("height"):
            interp.height, interp.width = feature
    return result


def pair(param, name, default=None, prefix=None):
    """(height, width) of a field that is given once, once per axis, or as name_h and name_w."""
    prefix = prefix or name
    if param.HasField(f"{prefix}_h") or param.HasField(f"{prefix}_w"):
        return getattr(param, f"{prefix}_h"), getattr(param, f"{prefix}_w")
    value = getattr(param, name)
    if isinstance(value, int):
        return value, value
    values = list(value) or [default]
    return tuple(values * 2) if len(values) == 1 else tuple(values)


def random_blobs(net, seed):
    """Returns random blobs by layer, shaped as in base_conv_layer.cpp and bn_layer.cpp."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(shape, low, high):
        return torch.rand(shape, generator=generator) * (high - low) + low

    def normal(shape, deviation):
        return torch.randn(shape, generator=generator) * deviation

    blobs, channels = {}, {net.input[0]: net.input_dim[1]}
    for layer in net.layer:
        width = channels[layer.bottom[0]]
        if layer.type == "Convolution":
            param = layer.convolution_param
            kernel = pair(param, "kernel_size", prefix="kernel")
            shape = (param.num_output, width // param.group, *kernel)
            # He's deviation; pixels have one of about 70, which is divided out here, or the
            # statistics drawn below would be negligible next to the stem's feature maps.
            scale = 1 / 70 if layer.bottom[0] in net.input else 1
            blobs[layer.name] = [normal(shape, scale * (2 / np.prod(shape[1:])) ** 0.5)]
            width = param.num_output
            if param.bias_term:
                blobs[layer.name].append(normal((width,), 0.1))
        elif layer.type == "BN":
            shape = (1, width, 1, 1)  # slope, bias, mean, variance
            ranges = (0.5, 1.5), (0.5, 1.5)
            slope, variance = (uniform(shape, *limits) for limits in ranges)
            if layer.name.endswith("_increase/bn"):
                slope *= 0.2  # so that the residual sum doesn't explode
            blobs[layer.name] = [slope, normal(shape, 0.1), normal(shape, 0.1), variance]
        elif layer.type == "Concat":
            width = sum(channels[bottom] for bottom in layer.bottom)
        channels.update(dict.fromkeys(layer.top, width))
    return blobs


def save(net, blobs, path):
    """Net::ToProto (net.cpp:911) and WriteProtoToBinaryFile (util/io.cpp), as a snapshot does."""
    result = type(net)(name=net.name, input=net.input)
    for layer in net.layer:
        copy = result.layer.add()
        copy.CopyFrom(layer)
        copy.phase = 1  # TEST, which net.cpp:87 writes into each layer
        for tensor in blobs.get(layer.name, ()):
            blob = copy.blobs.add()
            blob.shape.dim.extend(tensor.shape)
            blob.data.extend(tensor.numpy().ravel())
    path.write_bytes(result.SerializeToString())


def pooled(x, param):
    """pooling_layer.cpp:79-220."""
    sides, pad = pair(param, "kernel_size", prefix="kernel"), pair(param, "pad")
    stride, size = pair(param, "stride"), tuple(x.shape[2:])
    if param.global_pooling:
        sides = size
    extra = []  # how far the last window extends past the padding; negative if it doesn't
    for n, k, p, s in zip(size, sides, pad, stride, strict=True):
        out = -((k - n - 2 * p) // s) + 1  # rounded up
        if any(pad) and (out - 1) * s >= n + p:
            out -= 1
        extra.append((out - 1) * s + k - n - 2 * p)
    ends = (pad[1], pad[1] + extra[1], pad[0], pad[0] + extra[0])
    if param.pool == param.MAX:
        return functional.max_pool2d(functional.pad(x, ends, value=-torch.inf), sides, stride)
    if param.pool != param.AVE:
        raise NotImplementedError("stochastic pooling")
    # A window is divided by its area within the map and its padding.
    inside = torch.ones(1, 1, size[0] + 2 * pad[0], size[1] + 2 * pad[1])
    inside = functional.pad(inside, (0, extra[1], 0, extra[0]))
    sums = functional.avg_pool2d(functional.pad(x, ends), sides, stride)
    return sums / functional.avg_pool2d(inside, sides, stride)


def interpolated(x, param):
    """interp_layer.cpp:21-70 and caffe_cpu_interp2 of util/interp.cpp."""
    before, after = -param.pad_beg, -param.pad_end
    x = x[:, :, before : x.shape[2] - after, before : x.shape[3] - after]
    shrink, zoom = param.HasField("shrink_factor"), param.HasField("zoom_factor")
    out = tuple(x.shape[2:])
    if shrink or zoom:
        if shrink:
            out = tuple((n - 1) // param.shrink_factor + 1 for n in out)
        if zoom:
            out = tuple(n + (n - 1) * (param.zoom_factor - 1) for n in out)
    else:
        out = param.height, param.width
    if out == tuple(x.shape[2:]):
        return x
    for axis in (3, 2):
        n, m = x.shape[axis], out[axis - 2]
        ratio = np.float32(n - 1) / np.float32(m - 1) if m > 1 else np.float32(0)
        where = ratio * np.arange(m, dtype=np.float32)
        low = where.astype(int)  # rounds towards 0, as C++ does
        high = low + (low < n - 1)
        shape = [m if i == axis else 1 for i in range(4)]
        share = torch.from_numpy(where - low.astype(np.float32)).reshape(shape)
        x = (1 - share) * x[(slice(None),) * axis + (low,)] + share * x[
            (slice(None),) * axis + (high,)
        ]
    return x


def run(layer, bottoms, blobs):
    """Returns the layer's tops in the phase TEST."""
    x = bottoms[0]
    if layer.type == "Convolution":
        param = layer.convolution_param
        geometry = (pair(param, "stride", 1), pair(param, "pad", 0))
        dilation = [*param.dilation] * (2 if len(param.dilation) == 1 else 1) or [1, 1]
        bias = blobs[1] if param.bias_term else None
        y = functional.conv2d(x, blobs[0], bias, *geometry, dilation, param.group)
    elif layer.type == "BN":  # bn_layer.cpp:95-212; the factory never makes the cuDNN one
        slope, bias, mean, variance = blobs
        y = (x - mean) * (variance + layer.bn_param.eps) ** -0.5 * slope + bias
    elif layer.type == "ReLU":  # relu_layer.cpp:9
        y = x.clamp(min=0) + layer.relu_param.negative_slope * x.clamp(max=0)
    elif layer.type == "Pooling":
        y = pooled(x, layer.pooling_param)
    elif layer.type == "Interp":
        y = interpolated(x, layer.interp_param)
    elif layer.type == "Concat":
        param = layer.concat_param
        y = torch.cat(bottoms, param.concat_dim if param.HasField("concat_dim") else param.axis)
    elif layer.type == "Eltwise" and layer.eltwise_param.operation == layer.eltwise_param.SUM:
        factors = layer.eltwise_param.coeff or [1.0] * len(bottoms)
        y = sum(factor * bottom for factor, bottom in zip(factors, bottoms, strict=True))
    elif layer.type in ("Dropout", "Split"):  # dropout_layer.cpp:44 copies in TEST
        y = x
    else:
        raise NotImplementedError(f"{layer.name}: {layer.type}")
    return [y] * len(layer.top)


@torch.no_grad()
def forward(net, blobs, x):
    """Returns the net's output, the top that no layer reads."""
    maps = {net.input[0]: x}
    last = {bottom: i for i, layer in enumerate(net.layer) for bottom in layer.bottom}
    for i, layer in enumerate(net.layer):
        tops = run(layer, [maps[bottom] for bottom in layer.bottom], blobs.get(layer.name))
        maps.update(zip(layer.top, tops, strict=True))
        for name in {*layer.bottom}:
            if last[name] == i and name not in layer.top:
                del maps[name]
    (output,) = maps.values()
    return output


def main():
    options = common.arguments(__doc__.splitlines()[0], list(VARIANTS), sizes=(), num_classes=None)
    if options.repository is None:
        raise SystemExit("--repository is needed: a checkout of hszhao/PSPNet")
    crop = VARIANTS[options.variant]
    prototxt = f"evaluation/prototxt/{options.variant}_{crop}.prototxt"
    net = text_format.Parse(
        (options.repository / prototxt).read_text(), net_parameter(options.repository)()
    )
    (classifier,) = (layer for layer in net.layer if layer.name == "conv6")
    if options.num_classes is None:
        options.num_classes = classifier.convolution_param.num_output
    classifier.convolution_param.num_output = options.num_classes
    options.sizes = options.sizes or [(crop, crop), (233, 329)]
    net = with_splits(net)
    blobs = random_blobs(net, options.seed)
    files = [f"{options.variant}.caffemodel"]
    save(net, blobs, options.output / files[0])

    def logits(pixels):
        # evaluation/pre_img.m:23-28: subtract the mean, RGB to BGR, no scaling.
        inputs = (pixels.astype("float32") - np.float32(MEAN))[..., ::-1]
        inputs = torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy())
        # evaluation/caffe_process.m:2-3 takes the net's output, conv6_interp; its softmax is later.
        scores = forward(adapted(net, *pixels.shape[1:3]), blobs, inputs)
        return scores.permute(0, 2, 3, 1).numpy()

    what = f"hszhao/PSPNet {prototxt}, reimplemented in torch {torch.__version__}; not Caffe"
    common.write(options, family="caffe", files=files, logits=logits, what=what)


if __name__ == "__main__":
    main()
