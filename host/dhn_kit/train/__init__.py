"""Trains hooks from samples while the main network stays as it is, and certifies their thresholds."""
# SPDX-License-Identifier: Apache-2.0

from dhn_kit.train.certify import Costs
from dhn_kit.train.data import Split, split_from_inputs, split_from_samples
from dhn_kit.train.trainer import Options, TrainResult, train

__all__ = ["Costs", "Options", "Split", "TrainResult", "split_from_inputs", "split_from_samples", "train"]
