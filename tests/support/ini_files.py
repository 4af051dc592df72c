"""INI files of networks like those of nntrainer's applications, written from their description."""

from __future__ import annotations

HEAD = """
[Model]
Type = NeuralNetwork
Loss = cross
Batch_Size = 4

[Optimizer]
Type = adam

[LearningRateScheduler]
Type = constant
Learning_rate = 1e-3
"""
LENET = (
    HEAD
    + """
[in]
Type = input
Input_Shape = 1:28:28

[conv1]
Type = conv2d            # a comment after a value
kernel_size = 5,5
filters = 6
Activation = sigmoid

[pool1]
Type = pooling2d
pooling = average
pool_size = 2,2
stride = 2,2

[conv2]
Type = conv2d
kernel_size = 5,5
filters = 12
Activation = sigmoid

[pool2]
Type = pooling2d
pooling = average
pool_size = 2,2
stride = 2,2

[flat]
Type = flatten

[out]
Type = fully_connected
Unit = 10
Activation = softmax
"""
)
# A table of 10 columns, with batch normalisation of rows, dropout and a regulariser.
MLP = (
    HEAD
    + """
[in]
type = input
input_shape = 1:1:10

[fc1]
type = fully_connected
unit = 16
weight_regularizer = l2norm
weight_regularizer_constant = 0.005
weight_initializer = he_normal

[bn]
type = batch_normalization
activation = relu

[drop]
type = dropout
dropout_rate = 0.25

[out]
type = fully_connected
unit = 3
activation = softmax
"""
)
RESNET = (
    HEAD
    + """
[in]
type = input
input_shape = 3:16:16

[stem]
type = conv2d
filters = 8
kernel_size = 3,3
padding = same
disable_bias = true

[stem_bn]
type = batch_normalization
activation = relu

[a1]
type = conv2d
filters = 12
kernel_size = 3,3
stride = 2,2
padding = 1,1
input_layers = stem_bn

[a1_bn]
type = batch_normalization
activation = relu

[a2]
type = conv2d
filters = 12
kernel_size = 3,3
padding = same

[shortcut]
type = conv2d
filters = 12
kernel_size = 1,1
stride = 2,2
input_layers = stem_bn

[sum]
type = addition
input_layers = a2, shortcut
activation = relu

[pool]
type = pooling2d
pooling = global_average

[flat]
type = flatten

[out]
type = fully_connected
unit = 10
activation = softmax
"""
)
MOBILENET = (
    HEAD
    + """
[in]
type = input
input_shape = 3:16:16

[expand]
type = conv2d
filters = 12
kernel_size = 1,1
activation = swish

[depth]
type = depthwiseconv2d
kernel_size = 3,3
stride = 2,2
padding = same

[depth_bn]
type = batch_normalization
activation = relu

[project]
type = conv2d
filters = 6
kernel_size = 1,1

[pool]
type = pooling2d
pooling = max
pool_size = 3,3
stride = 2,2
padding = 1

[flat]
type = flatten

[out]
type = fully_connected
unit = 5
activation = softmax
"""
)
# One layer of each other kind. No bias goes into the layer normalisation, which takes it out again:
# its gradient would be rounding, and Adam makes full steps of that.
REST = (
    HEAD
    + """
[in]
type = input
input_shape = 4:8:8

[up]
type = upsample2d
upsample = bilinear
kernel_size = 2,2

[down]
type = conv2d
filters = 4
kernel_size = 2,2
stride = 2,2
padding = 0,1,1,0

[wide]
type = conv2dtranspose
filters = 4
kernel_size = 3,3
disable_bias = true
stride = 2,2
padding = 1

[split]
type = split
axis = 1
split_number = 2

[left]
type = activation
activation = tanh
input_layers = split(0)

[right]
type = layer_normalization
axis = 3
input_layers = split(1)

[join]
type = concat
axis = 1
input_layers = left, right

[turned]
type = permute
direction = 2,3,1

[part]
type = slice
axis = 1
start_index = 2
end_index = 8

[average]
type = pooling2d
pooling = average
pool_size = 3,3
stride = 2,2
padding = 1

[shaped]
type = reshape
target_shape = 6:1:16

[line]
type = conv1d
filters = 5
kernel_size = 3
padding = causal

[most]
type = pooling2d
pooling = global_max

[flat]
type = flatten

[out]
type = fully_connected
unit = 4
activation = softmax
"""
)
ALL = {"lenet": LENET, "mlp": MLP, "resnet": RESNET, "mobilenet": MOBILENET, "rest": REST}
