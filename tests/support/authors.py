"""A stand-in for a checkout of the authors' PyTorch code."""

# The parts of their network that the benchmarks use, on a backbone of one convolution.
NETWORK = """
import torch
from torch import nn

class PSPNet(nn.Module):
    def __init__(self, layers, classes, criterion, pretrained):
        super().__init__()
        self.layer0 = nn.Conv2d(3, 8, 3, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (nn.BatchNorm2d(8) for _ in range(4))
        self.ppm, self.cls, self.aux = nn.ReLU(), nn.Conv2d(8, classes, 1), nn.Conv2d(8, classes, 1)
        self.criterion = criterion

    def forward(self, x, y=None):
        x = self.ppm(self.layer1(self.layer0(x)))
        scores = self.cls(x)
        if not self.training:
            return scores
        return scores.max(1)[1], self.criterion(scores, y), self.criterion(self.aux(x), y)
"""


def authors_checkout(folder):
    """Writes `model/pspnet.py` in a new folder, and returns the folder."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "pspnet.py").write_text(NETWORK)
    return folder
