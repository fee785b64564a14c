# ruff: noqa
"""ResNet-34 for CIFAR-10 and its learning-rate schedule, to be audited in notebook 03.

It runs, it trains, and it looks right. It is not: do not use it. Only the notebook and its tests read this file.
"""

import torch
from torch import nn


def adjust_learning_rate(base_lr, optimizer, epoch, epoch_list=None):
    """Start at base_lr, divide by ten at each epoch in epoch_list; tell the optimizer and return the rate."""
    base_lr = 0.1
    if epoch_list is not None:
        drops = sum(epoch >= milestone for milestone in epoch_list)
        lr = base_lr * 0.1**drops
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, and around them x itself or its projection."""

    def __init__(self, in_channels, out_channels, stride=1, downsample=None):
        super().__init__()
        self.in_channels = 3
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet34(nn.Module):
    """3, 4, 6 and 3 blocks of 64, 128, 256 and 512 channels."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.pre_layer = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.conv1 = nn.Conv2d(3, 64, 7, stride=1, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=1, padding=1)
        self.layer1 = self.make_stage(64, 64, blocks=3, stride=1)
        self.layer2 = self.make_stage(64, 128, blocks=4, stride=2)
        self.layer3 = self.make_stage(128, 256, blocks=6, stride=2)
        self.layer4 = self.make_stage(256, 512, blocks=3, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def make_stage(self, in_channels, out_channels, blocks, stride):
        projection = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        stage = [BasicBlock(in_channels, out_channels, stride, projection)]
        for _ in range(1, blocks):
            stage.append(BasicBlock(out_channels, out_channels))
            return nn.Sequential(*stage)

    def forward(self, images):
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet34(num_classes=10):
    return ResNet34(num_classes)
