"""Every key of nntrainer's INI files: what TOD reads, and what it refuses, with the reason.

Sources: nntrainer's documentation/configuration-ini.md and layers/common_properties.h.
"""

from __future__ import annotations

from model.networks.nntrainer.keys import (
    Key,
    Table,
    choice,
    exactly,
    flag,
    layer_names,
    number,
    numbers,
    padding,
    shape,
    unsupported,
    whole,
)

_FLOAT32 = "a .tod file trains in float32"
_MEMORY = "TOD keeps weights in memory; they are as small as the part that trains"
_BATCHES = "it depends on the other samples of a batch; do it to the data before"
_ONE = "take one network with one input and one output"

INITIALISERS = (
    "zeros", "ones", "lecun_normal", "lecun_uniform", "xavier_normal", "xavier_uniform",
    "he_normal", "he_uniform",
)  # fmt: skip
ACTIVATIONS = (
    "tanh", "sigmoid", "relu", "softmax", "leaky_relu", "swish", "gelu", "tanh_gelu",
    "sigmoid_gelu", "quick_gelu", "elu", "selu", "softplus", "mish", "none",
)  # fmt: skip
_rate = number(0, above=True)
_initialiser = choice(*INITIALISERS)

MODEL: Table = {
    "type": Key(choice("neuralnetwork"), "neuralnetwork"),
    "loss": Key(choice("cross", "mse", "cross_softmax", "cross_sigmoid"), None),
    "batch_size": Key(whole(1, 1 << 20), 1),
    # What a run does, not what a file is: said to the user, see `recipe.notices`.
    "epochs": Key(whole(), None),
    "save_path": Key(),
    "save_best_path": Key(),
    "continue_train": unsupported("give the weights with --weights; then it goes on", "false"),
    "fsu": unsupported(_MEMORY, "false"),
    "fsu_path": unsupported(_MEMORY),
    "fsu_lookahead": unsupported(_MEMORY),
    "memory_optimization": Key(),  # the planning of nntrainer's memory: no number depends on it
    "model_tensor_type": unsupported(_FLOAT32, "fp32-fp32"),
    "loss_scale": unsupported(_FLOAT32, "1", "1.0"),
}
_ADAM: Table = {
    "beta1": Key(number(0, above=True, below=1), 0.9),
    "beta2": Key(number(0, above=True, below=1), 0.999),
    "torch_ref": Key(flag, False),
}
_RATE: Table = {
    "type": Key(),
    "learning_rate": Key(_rate, None),
    # Older files; now these are a learning-rate scheduler.
    "decay_rate": Key(number(0, above=True, below=1.0000001), None),
    "decay_steps": Key(whole(), None),
}
OPTIMIZERS: dict[str, Table] = {
    "adam": {**_RATE, **_ADAM, "epsilon": Key(number(0, above=True), 1e-7)},
    "adamw": {**_RATE, **_ADAM, "epsilon": Key(number(0, above=True), 1e-8),
              "weight_decay": Key(number(0), 0.0)},
    "sgd": _RATE,
}  # fmt: skip
_TYPE: Table = {"type": Key()}
_BETWEEN: Table = {
    "max_learning_rate": Key(_rate, needed=True),
    "min_learning_rate": Key(number(0), needed=True),
    "decay_steps": Key(whole(), needed=True),
}
SCHEDULERS: dict[str, Table] = {
    "constant": {**_TYPE, "learning_rate": Key(_rate, needed=True)},
    "exponential": {**_TYPE, "learning_rate": Key(_rate, needed=True),
                    "decay_rate": Key(number(0, above=True, below=1.0000001), needed=True),
                    "decay_steps": Key(whole(), needed=True)},
    "step": {**_TYPE, "learning_rate": Key(numbers(_rate), needed=True),
             "iteration": Key(numbers(whole()), needed=True)},
    "cosine": {**_TYPE, **_BETWEEN},
    "linear": {**_TYPE, **_BETWEEN},
}  # fmt: skip
DATA: Table = {
    name: Key()
    for name in ("type", "path", "buffersize", "traindata", "validdata", "testdata", "labeldata")
}

_EVERY: Table = {
    "type": Key(),
    "name": unsupported("the section is the layer's name"),
    "trainable": Key(flag, True),
    "input_layers": Key(layer_names, None),
    "input_shape": Key(shape, None),
    "activation": Key(choice(*ACTIVATIONS), "none"),
    "flatten": Key(flag, False),
    "clip_grad_by_norm": Key(_rate, None),
    "lora_rank": unsupported("LoRA layers are not made; train the layer, or set trainable = false"),
    "lora_alpha": unsupported("LoRA layers are not made"),
    "packed": unsupported(_FLOAT32, "true", "false"),
    "loss_scale": unsupported(_FLOAT32, "1", "1.0"),
    "label_layers": unsupported(_ONE),
    "shared_from": unsupported("each layer has weights of its own"),
    "print": Key(flag, False),
}
_REGULARISED: Table = {
    "weight_regularizer": Key(choice("l2norm", "none"), "none"),
    "weight_regularizer_constant": Key(number(0), 1.0),
    "weight_decay": Key(number(0), 0.0),
}
_WEIGHTS: Table = {
    **_EVERY,
    **_REGULARISED,
    "weight_initializer": Key(_initialiser, "xavier_uniform"),
    "bias_initializer": Key(_initialiser, "zeros"),
    "bias_decay": Key(number(0), 0.0),
    "disable_bias": Key(flag, False),
}
_pair = exactly(2, whole())
_KERNEL: Table = {
    "kernel_size": Key(_pair, needed=True),
    "stride": Key(_pair, (1, 1)),
    "padding": Key(padding(4), "valid"),
    "dilation": Key(_pair, (1, 1)),
}
_NORM: Table = {
    "gamma_initializer": Key(_initialiser, "ones"),
    "beta_initializer": Key(_initialiser, "zeros"),
    "weight_decay": Key(number(0), 0.0),
    "bias_decay": Key(number(0), 0.0),
}
_axis = whole(1, 3)
LAYERS: dict[str, Table] = {
    "input": {**_EVERY, "normalization": unsupported(_BATCHES, "false"),
              "standardization": unsupported(_BATCHES, "false")},
    "fully_connected": {**_WEIGHTS, "unit": Key(whole(), needed=True)},
    "conv1d": {**_WEIGHTS, "filters": Key(whole(), needed=True),
               "kernel_size": Key(whole(), needed=True), "stride": Key(whole(), 1),
               "padding": Key(padding(2), "valid"), "dilation": Key(whole(), 1)},
    "conv2d": {**_WEIGHTS, **_KERNEL, "filters": Key(whole(), needed=True)},
    "conv2dtranspose": {**_WEIGHTS, **_KERNEL, "filters": Key(whole(), needed=True)},
    "depthwiseconv2d": {**_WEIGHTS, **_KERNEL, "filters": Key(whole(), None)},
    "pooling2d": {**_EVERY, "pooling": Key(choice("max", "average", "global_max",
                                                  "global_average"), needed=True),
                  "pool_size": Key(_pair, None), "stride": Key(_pair, (1, 1)),
                  "padding": Key(padding(4), "valid")},
    "batch_normalization": {**_EVERY, **_NORM, "epsilon": Key(number(0, above=True), 1e-3),
                            "momentum": Key(number(0, above=True, below=1), 0.99),
                            "moving_mean_initializer": Key(_initialiser, "zeros"),
                            "moving_variance_initializer": Key(_initialiser, "ones")},
    "layer_normalization": {**_EVERY, **_NORM, "epsilon": Key(number(0, above=True), 1e-3),
                            "axis": Key(numbers(_axis), needed=True)},
    "activation": _EVERY,
    "flatten": {**_EVERY, "start_dimension": unsupported("every axis is flattened", "1"),
                "end_dimension": unsupported("every axis is flattened", "3")},
    "reshape": {**_EVERY, "target_shape": Key(shape, needed=True)},
    "permute": {**_EVERY, "direction": Key(exactly(3, _axis), needed=True)},
    "dropout": {**_EVERY, "dropout_rate": Key(number(0, below=1), 0.0)},
    "embedding": {**_EVERY, **_REGULARISED, "weight_initializer": Key(_initialiser,
                                                                      "xavier_uniform"),
                  "in_dim": Key(whole(), needed=True), "out_dim": Key(whole(), needed=True),
                  "zero_idx_mask": unsupported("give that index a row of its own")},
    "addition": _EVERY,
    "concat": {**_EVERY, "axis": Key(_axis, 1)},
    "split": {**_EVERY, "axis": Key(_axis, needed=True), "split_number": Key(whole(), None)},
    "multiout": _EVERY,
    "identity": _EVERY,
    "slice": {**_EVERY, "axis": Key(_axis, needed=True), "start_index": Key(whole(), needed=True),
              "end_index": Key(whole(), needed=True)},
    "upsample2d": {**_EVERY, "upsample": Key(choice("nearest", "bilinear"), needed=True),
                   "kernel_size": Key(_pair, needed=True)},
    "mse": _EVERY,
    "cross_softmax": _EVERY,
    "cross_sigmoid": _EVERY,
}  # fmt: skip
BACKBONE: Table = {
    "backbone": Key(),
    "trainable": Key(flag, False),
    "input_layers": Key(layer_names, None),
    "input_shape": Key(shape, None),
    "preload": unsupported("give the weights of the whole network with --weights", "false"),
    "scalesize": unsupported("write the sizes that you want into the backbone's file", "1", "1.0"),
    "inputlayer": unsupported("write the layers that you want into the backbone's file"),
    "outputlayer": unsupported("write the layers that you want into the backbone's file"),
}

_SERIES = "TOD trains feed-forward networks; a layer over a series cannot be one yet"
_TENSORS = "operators on whole tensors are not read; addition, concat and slice are"
# Layers that nntrainer has and TOD refuses, with the reason.
REFUSED: dict[str, str] = {
    **dict.fromkeys(
        ("rnn", "lstm", "gru", "rnncell", "lstmcell", "grucell", "zoneout_lstmcell", "time_dist",
         "attention", "mol_attention", "multi_head_attention", "positional_encoding"), _SERIES
    ),
    **dict.fromkeys(
        ("weight", "tensor", "matmul", "add", "subtract", "multiply", "divide", "pow", "sqrt",
         "sin", "cos", "tan", "cast", "negative", "gather", "reduce_mean", "reduce_sum",
         "channel_shuffle"), _TENSORS
    ),
    "centroid_knn": "it trains without a gradient: net_runner --init imprint sets such a head",
    "preprocess_flip": "augment the pictures before they are trained on",
    "preprocess_translate": "augment the pictures before they are trained on",
    "preprocess_l2norm": "take layer_normalization or batch_normalization",
    "backbone_nnstreamer": "only a backbone in an INI file can be read",
    "backbone_tflite": "only a backbone in an INI file can be read",
    "constant_derivative": "take Loss = cross or mse",
    "kld": "take Loss = cross or mse",
}  # fmt: skip
