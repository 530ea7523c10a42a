"""A peer of the batch path: a DataLoader with torchvision's v2 transforms, image by image and batch by batch.

v2 can work on a whole batch at once, which is far faster, but then draws one set of random numbers for all its images:
the same crop, the same mirror, the same operation. That is not the augmentation that recipes mean; it is measured all
the same, as the most that torchvision could do.
"""

import torch
from torch.utils.data import Dataset

SIDE, PADDING, HOLE = 32, 4, 8
MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


def available():
    """None where torchvision can be used, else one phrase that says why not."""
    try:
        from torchvision.transforms import v2  # noqa: F401
    except ImportError:
        return "torchvision is not installed"
    except RuntimeError as error:
        return f"torchvision cannot be imported: it does not fit this build of torch ({error})"
    return None


def transforms(case):
    """Crop, flip, the policy of the case, normalisation and a blanked square, on uint8 tensors (..., 3, 32, 32).

    None for a case that is not transforms of single images.
    """
    from torchvision.transforms import v2

    policies = {"trivialaugment": [v2.TrivialAugmentWide()], "randaugment": [v2.RandAugment()], "crop_flip_cutout": []}
    if case not in policies:
        return None
    return v2.Compose(
        [
            v2.RandomCrop(SIDE, PADDING, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            *policies[case],
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            v2.RandomErasing(p=1.0, scale=(HOLE**2 / SIDE**2,) * 2, ratio=(1.0, 1.0)),
        ]
    )


class Images(Dataset):
    """Image by image, as torchvision's examples do. images: uint8 (N, 3, 32, 32)."""

    def __init__(self, images, labels, case):
        self.images, self.labels, self.transform = images, labels, transforms(case)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.labels[index]


def whole_batches(images, labels, case, batch_size):
    """Endless batches, each with one set of random numbers for all its images."""
    transform, labels = transforms(case), torch.as_tensor(labels)
    while True:
        for index in torch.randperm(len(images)).split(batch_size)[: len(images) // batch_size]:
            yield transform(images[index]), labels[index]
