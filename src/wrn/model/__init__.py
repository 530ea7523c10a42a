"""The network, its averaged copy, its file format and its forward pass."""

from wrn.model.cpu import tune_cpu
from wrn.model.ema import AveragedModel
from wrn.model.files import ModelInfo, load_model, read_info, save_model
from wrn.model.forward import NOT_FINITE, predict_logits
from wrn.model.precision import Precision, pick_device, pick_precision
from wrn.model.wide_resnet import WideResNet

__all__ = [
    "NOT_FINITE",
    "AveragedModel",
    "ModelInfo",
    "Precision",
    "WideResNet",
    "load_model",
    "pick_device",
    "pick_precision",
    "predict_logits",
    "read_info",
    "save_model",
    "tune_cpu",
]
