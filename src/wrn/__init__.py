"""Train Wide ResNet-28-10 on CIFAR-100, on the machine at hand or on AWS SageMaker."""

__version__ = "0.1.0"
