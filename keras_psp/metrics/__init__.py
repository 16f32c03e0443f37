"""Metrics."""

from keras_psp.metrics.mean_iou import MeanIoU

__all__ = ["MeanIoU"]
