"""Train Wide ResNet-28-10 on CIFAR-100, on your own machine or on AWS SageMaker."""

__version__ = "0.1.0"
