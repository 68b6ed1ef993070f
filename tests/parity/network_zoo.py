"""Networks as PyTorch users have them, with random weights from a fixed seed, exported to ONNX by PyTorch.

Needs torch and torchvision of 2025 or later, whose exporter is the one by torch.export, and onnxscript: 2.15.0, 0.29.2 and 0.7.2 were
used.
"""
import math
import warnings

import torch
import torchvision
from torch import nn


def mobilenet_v2():
    return torchvision.models.mobilenet_v2(num_classes=100), image(96)


def mobilenet_v3_small():
    return torchvision.models.mobilenet_v3_small(num_classes=100), image(96)


def squeezenet():
    return torchvision.models.squeezenet1_1(num_classes=100), image(96)


class InvertedResidual(nn.Module):
    """EfficientNet-Lite's block: no squeeze and excitation, ReLU6."""

    def __init__(self, inputs, outputs, kernel, stride, expand):
        super().__init__()
        wide = inputs * expand
        layers = [] if expand == 1 else [nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
        layers += [
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


def efficientnet_lite0():
    # Repeats, kernel, stride, expansion, channels: "EfficientNet: Rethinking Model Scaling", table 1.
    stages = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
              (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
    layers, channels = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()], 32
    for repeats, kernel, stride, expand, outputs in stages:
        for index in range(repeats):
            layers.append(InvertedResidual(channels, outputs, kernel, stride if index == 0 else 1, expand))
            channels = outputs
    layers += [nn.Conv2d(channels, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6(), nn.AdaptiveAvgPool2d(1),
               nn.Flatten(), nn.Linear(1280, 100)]
    return nn.Sequential(*layers), image(96)


class Attention(nn.Module):
    """Self-attention of several heads, spelled out, so that it is exported as MatMul and Softmax."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.head = heads, width // heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        length, width = x.shape[1], self.heads * self.head
        q, k, v = (t.reshape(-1, length, self.heads, self.head).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        weights = (q @ k.transpose(2, 3) / math.sqrt(self.head)).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(-1, length, width))


class EncoderLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attention, self.first, self.second = Attention(width, heads), nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.first(x))
        return x + self.feed(self.second(x))


class Transformer(nn.Module):
    """Frames of features, a learned position each, four layers of 64, a class."""

    def __init__(self, features=40, length=50, width=64, layers=4):
        super().__init__()
        self.enter, self.position = nn.Linear(features, width), nn.Parameter(torch.randn(1, length, width) * 0.1)
        self.layers = nn.Sequential(*[EncoderLayer(width, 4) for _ in range(layers)])
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, 12)

    def forward(self, x):
        return self.leave(self.norm(self.layers(self.enter(x) + self.position)).mean(1))


def transformer():
    return Transformer(), torch.randn(1, 50, 40)


class TorchTransformer(nn.Module):
    """PyTorch's own encoder layer, after the norm."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(48, 4, 96, batch_first=True)
        self.layers, self.leave = nn.TransformerEncoder(layer, 2), nn.Linear(48, 10)

    def forward(self, x):
        return self.leave(self.layers(x)[:, 0])


def transformer_torch():
    return TorchTransformer(), torch.randn(1, 32, 48)


class Recurrent(nn.Module):
    def __init__(self, kind, hidden, layers, bidirectional):
        super().__init__()
        self.recurrent = kind(40, hidden, layers, batch_first=True, bidirectional=bidirectional)
        self.leave = nn.Linear(hidden * (2 if bidirectional else 1), 12)

    def forward(self, x):
        return self.leave(self.recurrent(x)[0][:, -1])


def lstm():
    return Recurrent(nn.LSTM, 64, 2, False), torch.randn(1, 50, 40)


def lstm_bidirectional():
    return Recurrent(nn.LSTM, 48, 1, True), torch.randn(1, 50, 40)


def gru():
    return Recurrent(nn.GRU, 64, 2, False), torch.randn(1, 50, 40)


def gru_bidirectional():
    return Recurrent(nn.GRU, 48, 1, True), torch.randn(1, 50, 40)


def double(inputs, outputs):
    layers = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Three levels; `up` makes the layer that doubles an image."""

    def __init__(self, up):
        super().__init__()
        self.down = nn.ModuleList([double(3, 16), double(16, 32), double(32, 64)])
        self.ups = nn.ModuleList([up(64, 32), up(32, 16)])
        self.joins = nn.ModuleList([double(64, 32), double(32, 16)])
        self.leave = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        kept = []
        for index, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if index else x)
            kept.append(x)
        for up, join, side in zip(self.ups, self.joins, reversed(kept[:-1])):
            x = join(torch.cat([up(x), side], 1))
        return self.leave(x)


def unet_transposed():
    return UNet(lambda inputs, outputs: nn.ConvTranspose2d(inputs, outputs, 2, 2)), image(64)


def unet_bilinear():
    def up(inputs, outputs):
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(inputs, outputs, 1))

    return UNet(up), image(64)


class GroupNet(nn.Module):
    """Group and instance norms, a nearest upsampling, a PReLU: an image to an image."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.GroupNorm(8, 32), nn.SiLU(), nn.Conv2d(32, 32, 3, padding=1),
            nn.InstanceNorm2d(32, affine=True), nn.PReLU(32), nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(32, 3, 3, padding=1), nn.Tanh())

    def forward(self, x):
        return self.layers(x)


def norms():
    return GroupNet(), image(64)


class TcnBlock(nn.Module):
    """Two dilated causal convolutions beside a residual."""

    def __init__(self, inputs, outputs, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.first, self.second = (nn.Conv1d(i, outputs, 3, dilation=dilation) for i in (inputs, outputs))
        self.side = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        y = torch.relu(self.first(nn.functional.pad(x, (self.pad, 0))))
        y = torch.relu(self.second(nn.functional.pad(y, (self.pad, 0))))
        return torch.relu(y + self.side(x))


def tcn():
    blocks = [TcnBlock(16, 32, 1), TcnBlock(32, 32, 2), TcnBlock(32, 32, 4), TcnBlock(32, 32, 8)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 8)), torch.randn(1, 16, 128)


NETWORKS = [mobilenet_v2, mobilenet_v3_small, efficientnet_lite0, squeezenet, transformer, transformer_torch, lstm,
            lstm_bidirectional, gru, gru_bidirectional, unet_transposed, unet_bilinear, norms, tcn]


def image(side):
    return torch.randn(1, 3, side, side)


def export(make, path, count, opset=18):
    """Writes the network in ONNX; `count` samples of its input."""
    torch.manual_seed(sum(make.__name__.encode()))
    network, sample = make()
    network.train()
    with torch.no_grad():
        # Batch norms of random weights need statistics of what really arrives, or activations vanish.
        for _ in range(20):
            network(torch.cat([torch.randn_like(sample) for _ in range(4)]))
    network.eval()
    with warnings.catch_warnings():
        # Its exporter warns of batches that it fixes, which is what is wanted.
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (sample,), str(path), opset_version=opset, input_names=["x"], output_names=["y"],
                          external_data=False, verbose=False)
    return [torch.randn_like(sample).numpy() for _ in range(count)]
