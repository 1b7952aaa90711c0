"""The convolutional classifier of CaloChallenge: a residual network over layer, alpha and r."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PLANES = (32, 64, 64, 128)
"""Channels of the four stages."""
BLOCKS = 2
"""Residual blocks in each stage; with the first convolution and the last linear map: 18 layers."""


class ResNet18(nn.Module):
    """Take log10 E_inc and the voxels over E_inc of each shower to the logit that it is Geant4's.

    The three-dimensional residual network of Hara, Kataoka and Satoh (2018, arXiv:1711.09577) with
    the channels of CaloChallenge (Krause et al. 2024, arXiv:2410.21611). Convolutions are padded
    with zeros in all directions, alpha too, as the published one is: it sees the seam at alpha = pi.
    The incident energy enters, normalised over the batch, before the last linear map.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Take the number of layers, of alpha bins and of r bins."""
        super().__init__()
        self.shape = shape
        self.stem = nn.Sequential(
            nn.Conv3d(1, PLANES[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm3d(PLANES[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(3, stride=2, padding=1),
        )
        channels, blocks = PLANES[0], []
        for i, planes in enumerate(PLANES):
            for j in range(BLOCKS):
                blocks.append(_Block(channels, planes, stride=2 if i > 0 and j == 0 else 1))
                channels = planes
        self.stages = nn.Sequential(*blocks)
        self.energy = nn.BatchNorm1d(1)
        self.head = nn.Linear(channels + 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Take (B, 1 + V) inputs to (B, 1) logits."""
        images = x[:, 1:].reshape(-1, 1, *self.shape)
        features = self.stages(self.stem(images)).mean(dim=(2, 3, 4))
        logit: Tensor = self.head(torch.cat([features, self.energy(x[:, :1])], dim=1))
        return logit


class _Block(nn.Module):
    """Two 3x3x3 convolutions beside a shortcut, which is a 1x1x1 convolution where the shape changes."""

    def __init__(self, channels: int, planes: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv3d(channels, planes, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(planes),
            nn.ReLU(inplace=True),
            nn.Conv3d(planes, planes, 3, padding=1, bias=False),
            nn.BatchNorm3d(planes),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != planes:
            self.shortcut = nn.Sequential(
                nn.Conv3d(channels, planes, 1, stride=stride, bias=False), nn.BatchNorm3d(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))
