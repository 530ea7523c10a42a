"""The peer: Wide ResNet on CIFAR-100 as a competent user writes it in an afternoon, with PyTorch alone.

fp32, NCHW, a DataLoader with worker processes, transforms per image (Pillow and NumPy), Nesterov SGD, a cosine
learning rate per epoch, the usual evaluation loop. Nothing in it is slowed down on purpose. It shares no code with
the `wrn` package, so that its model also serves as an independent reference for the logits.

    python benchmarks/peers/plain_pytorch.py --depth 16 --widen-factor 4 --data-dir data/cifar-100-python
"""

import argparse
import math
import pickle
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

MEAN = np.array([0.5071, 0.4865, 0.4409], dtype=np.float32)
STD = np.array([0.2673, 0.2564, 0.2762], dtype=np.float32)


class PreActBlock(nn.Module):
    """BN-ReLU-conv3x3 twice with dropout between, added to the input, or to its 1x1 projection if the width changes."""

    def __init__(self, in_planes, out_planes, stride, drop_rate):
        super().__init__()
        self.norm_a = nn.BatchNorm2d(in_planes)
        self.conv_a = nn.Conv2d(in_planes, out_planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm_b = nn.BatchNorm2d(out_planes)
        self.conv_b = nn.Conv2d(out_planes, out_planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.drop_rate = drop_rate
        self.project = None
        if in_planes != out_planes:
            self.project = nn.Conv2d(in_planes, out_planes, kernel_size=1, stride=stride, bias=False)

    def forward(self, x):
        activated = F.relu(self.norm_a(x), inplace=True)
        residual = self.conv_a(activated)
        residual = F.relu(self.norm_b(residual), inplace=True)
        if self.drop_rate > 0:
            residual = F.dropout(residual, p=self.drop_rate, training=self.training)
        residual = self.conv_b(residual)
        if self.project is not None:
            x = self.project(activated)
        return x + residual


class WRN(nn.Module):
    """WRN-depth-widen_factor of arXiv:1605.07146; depth = 6n + 4."""

    def __init__(self, depth=28, widen_factor=10, drop_rate=0.0, num_classes=100):
        super().__init__()
        if (depth - 4) % 6 != 0:
            raise ValueError("depth must be 6n + 4")
        blocks = (depth - 4) // 6
        planes = [16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        self.stem = nn.Conv2d(3, planes[0], kernel_size=3, padding=1, bias=False)
        self.stage1 = self.make_stage(planes[0], planes[1], blocks, 1, drop_rate)
        self.stage2 = self.make_stage(planes[1], planes[2], blocks, 2, drop_rate)
        self.stage3 = self.make_stage(planes[2], planes[3], blocks, 2, drop_rate)
        self.norm = nn.BatchNorm2d(planes[3])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(planes[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def make_stage(in_planes, out_planes, blocks, stride, drop_rate):
        layers = [PreActBlock(in_planes, out_planes, stride, drop_rate)]
        for _ in range(blocks - 1):
            layers.append(PreActBlock(out_planes, out_planes, 1, drop_rate))
        return nn.Sequential(*layers)

    def forward(self, x):
        x = self.stem(x)
        x = self.stage3(self.stage2(self.stage1(x)))
        x = F.relu(self.norm(x), inplace=True)
        return self.head(self.pool(x).flatten(1))


def random_crop_and_flip(image):
    """A 32x32 window of the image padded by 4 black pixels, mirrored half of the time."""
    padded = ImageOps.expand(image, border=4)
    left, top = np.random.randint(0, 9, size=2)
    image = padded.crop((left, top, left + 32, top + 32))
    if np.random.rand() < 0.5:
        image = ImageOps.mirror(image)
    return image


class CIFAR100(Dataset):
    """A split held in memory as (N, 32, 32, 3) bytes; each item is transformed on its own."""

    def __init__(self, images, labels, train):
        self.images, self.labels, self.train = images, labels, train

    @classmethod
    def from_folder(cls, folder, train):
        """From the official `cifar-100-python` folder. It holds pickles: read none from a source you do not trust."""
        with (Path(folder) / ("train" if train else "test")).open("rb") as file:
            entries = pickle.load(file, encoding="latin1")
        images = entries["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return cls(np.ascontiguousarray(images), entries["fine_labels"], train)

    @classmethod
    def of_noise(cls, count, train):
        """Random images and labels: enough to measure speed."""
        random = np.random.RandomState(0)
        images = random.randint(0, 256, size=(count, 32, 32, 3), dtype=np.uint8)
        return cls(images, random.randint(0, 100, size=count).tolist(), train)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = Image.fromarray(self.images[index])
        if self.train:
            image = random_crop_and_flip(image)
        array = np.asarray(image, dtype=np.float32) / 255.0
        array = (array - MEAN) / STD
        return torch.from_numpy(array.transpose(2, 0, 1).copy()), self.labels[index]


def seed_worker(worker_id):
    """NumPy's generator would otherwise be the same in all workers."""
    np.random.seed(torch.initial_seed() % 2**32)


def make_loader(dataset, batch_size, workers):
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=dataset.train,
        drop_last=dataset.train,
        num_workers=workers,
        worker_init_fn=seed_worker,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )


def make_optimizer(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, nesterov=True)


def train_step(model, optimizer, images, labels):
    """One step; returns the loss as a tensor."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def evaluate(model, loader, device):
    """Top-1 over the loader, as a fraction."""
    model.eval()
    correct = total = 0
    for images, labels in loader:
        logits = model(images.to(device))
        correct += (logits.argmax(dim=1) == labels.to(device)).sum().item()
        total += len(labels)
    return correct / total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=28)
    parser.add_argument("--widen-factor", type=int, default=10)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data-dir", help="the extracted cifar-100-python folder; without it, random images")
    parser.add_argument("--max-steps", type=int, help="stop after so many steps")
    args = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    if args.data_dir:
        train_set, test_set = (CIFAR100.from_folder(args.data_dir, train) for train in (True, False))
    else:
        train_set, test_set = CIFAR100.of_noise(50_000, True), CIFAR100.of_noise(10_000, False)
    train_loader = make_loader(train_set, args.batch_size, args.workers)
    test_loader = make_loader(test_set, args.batch_size, args.workers)
    model = WRN(args.depth, args.widen_factor, args.dropout).to(device)
    print(f"WRN-{args.depth}-{args.widen_factor}, {sum(p.numel() for p in model.parameters()):,} parameters, {device}")
    optimizer = make_optimizer(model, args.lr)

    steps = 0
    for epoch in range(args.epochs):
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * args.lr * (1 + math.cos(math.pi * epoch / args.epochs))
        model.train()
        started, seen, total_loss = time.perf_counter(), 0, 0.0
        for images, labels in train_loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            total_loss += train_step(model, optimizer, images, labels).item() * len(labels)
            seen += len(labels)
            steps += 1
            if steps == args.max_steps:
                break
        speed = seen / (time.perf_counter() - started)
        print(f"epoch {epoch + 1}: loss {total_loss / seen:.4f}, {speed:.1f} images/s", flush=True)
        if steps == args.max_steps:
            return
        print(f"epoch {epoch + 1}: test top-1 {evaluate(model, test_loader, device):.4f}", flush=True)


if __name__ == "__main__":
    main()
