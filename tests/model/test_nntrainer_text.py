"""INI files as text: what is read, and the one error about what is not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.networks.nntrainer import text
from model.networks.nntrainer.load import load
from model.networks.nntrainer.tables import LAYERS, REFUSED
from model.step.losses import LOSSES
from model.step.optimizers import OPTIMIZERS
from tests.support.ini_files import HEAD, LENET, MLP, RESNET
from tod.errors import UsageError

HERE = Path("net.ini")


def loaded(folder, content):
    path = folder / "net.ini"
    path.write_text(content)
    return load(path)


def refusal(folder, content):
    with pytest.raises(UsageError) as refused:
        loaded(folder, content)
    return str(refused.value)


@given(st.text())
def test_any_text_is_sections_or_one_error(content):
    try:
        found = text.parse(content, HERE)
    except UsageError as error:
        assert error.problem.startswith("net.ini, line ")
    else:
        assert all(item.value for section in found for item in section.items.values())


@st.composite
def mutated(draw):
    """A real file with lines exchanged for others, cut, doubled or changed."""
    lines = draw(st.sampled_from([LENET, MLP, RESNET])).split("\n")
    words = [line for line in lines if line] + ["", "x", "unit = 0", "type = lstm", "stride = -1"]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["exchange", "cut", "double", "value"]))
        if kind == "exchange":
            lines[at] = draw(st.sampled_from(words))
        elif kind == "cut":
            lines[at] = ""
        elif kind == "double":
            lines.insert(at, lines[at])
        else:
            value = draw(st.sampled_from(["", "0", "1", "-1", "1e9", "99999999", "3,3", "a,b",
                                          "1:1:1", "true", "none", "9" * 40, "²"]))  # fmt: skip
            lines[at] = f"{lines[at].partition('=')[0]}= {value}"
    return "\n".join(lines)


@given(mutated())
def test_a_spoilt_file_is_a_network_or_one_error(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "spoilt"
    folder.mkdir(exist_ok=True)
    try:
        loaded(folder, content)
    except UsageError as error:
        assert "net.ini" in error.problem


def test_names_quotes_and_comments():
    (section,) = text.parse(
        '\ufeff[Model] # one\n ; two\nLoss = cross#three\nSave_Path = "a # b" ; four\n'
        .removeprefix("\ufeff"), HERE,
    )  # fmt: skip
    assert section.name == "model"
    assert {name: item.value for name, item in section.items.items()} == {
        "loss": "cross",
        "save_path": "a # b",
    }
    assert section.items["loss"].place.line == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a = 1", "line 1: this stands before the first [section]"),
        ("[a", "line 1: '[a' is no section"),
        ("[]", "is no section"),
        ("[a] b", "'b' follows a section"),
        ("[a]\nb", "line 2, [a]: 'b' is neither a section nor key = value"),
        ("[a]\n= b", "neither a section nor key = value"),
        ("[a]\nb =", "line 2, [a]: b has no value"),
        ("[a]\nb = # c", "b has no value"),
        ("[a]\nb = 1\nB = 2", "b is given a second time, first in line 2"),
        ("[a]\n[A]", "this section stands in line 1 already"),
        ('[a]\nb = "c', "the quotes of b do not end"),
        ('[a]\nb = "c" d', "the quotes of b do not end"),
    ],
)
def test_lines_that_are_none(content, said):
    with pytest.raises(UsageError) as refused:
        text.parse(content, HERE)
    assert said in str(refused.value)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "net.ini"
    with pytest.raises(UsageError, match="no such file"):
        text.read(path)
    path.write_bytes(b"[a]\nb = \xff")
    with pytest.raises(UsageError, match="line 2: it is no text in UTF-8"):
        text.read(path)
    path.write_bytes(b"#" * (text.MAX_BYTES + 1))
    with pytest.raises(UsageError, match="more than 1,048,576 bytes"):
        text.read(path)
    with pytest.raises(UsageError, match="it cannot be read"):
        text.read(tmp_path)


CHANGES = [
    ("Type = conv2d", "Type = conv2D2", "there is no layer 'conv2D2'"),
    ("Type = conv2d", "Type = lstm", "the layer lstm is not supported"),
    ("filters = 6", "filter = 6", "conv2d has no key 'filter'"),
    ("filters = 6", "filters = 0", "filters is '0', wanted a whole number from 1"),
    ("filters = 6", "filters = ٣", "filters is '٣', wanted a whole number"),
    ("filters = 6\n", "", "conv2d needs filters"),
    ("kernel_size = 5,5", "kernel_size = 5", "wanted 2 numbers with a comma"),
    ("kernel_size = 5,5", "kernel_size = 5,5\npadding = full", "wanted valid, same, or 1 or"),
    ("Activation = sigmoid", "Activation = sigmod", "did you mean sigmoid"),
    ("Activation = sigmoid", "Activation = sigmoid\nlora_rank = 4", "LoRA layers are not made"),
    ("Activation = sigmoid", "Activation = sigmoid\ntrainable = yes", "wanted true or false"),
    ("Activation = softmax", "Activation = relu", "Loss = cross after the activation relu"),
    ("Input_Shape = 1:28:28", "Input_Shape = 1:28:28:1:1", "wanted channels:height:width"),
    ("Input_Shape = 1:28:28\n", "", "give input_shape"),
    ("Input_Shape = 1:28:28", "Input_Shape = 1:28:28\nnormalization = true", "other samples of a"),
    ("Loss = cross", "Loss = kld", "loss is 'kld', wanted cross, mse"),
    ("Loss = cross\n", "", "it has no loss"),
    ("Loss = cross", "Loss = cross\nfsu = true", "fsu = true is not supported"),
    ("Loss = cross", "Loss = cross\nmodel_tensor_type = FP16-FP16", "trains in float32"),
    ("Loss = cross", "Loss = cross\ncontinue_train = true", "give the weights with --weights"),
    ("Loss = cross", "Loss = cross\nbeta1 = 0.9", "beta1 stands here, and there is a section"),
    ("Type = NeuralNetwork", "Type = knn", "type is 'knn', wanted neuralnetwork"),
    ("Type = adam", "Type = adagrad", "there is no optimizer 'adagrad'"),
    ("Type = adam", "Type = adam\nbeta2 = 1", "beta2 is '1', wanted a number above 0 and below 1"),
    ("Type = adam", "Type = adam\nmomentum = 0.9", "the optimizer adam has no key 'momentum'"),
    ("Type = adam", "Type = adam\nlearning_rate = 1", "there is a section [LearningRateScheduler]"),
    ("Type = constant", "Type = cyclic", "there is no learning-rate scheduler 'cyclic'"),
    ("Learning_rate = 1e-3", "Learning_rate = 0", "wanted a number above 0"),
    ("Learning_rate = 1e-3", "Learning_rate = nan", "wanted a number above 0"),
    ("[flat]\nType = flatten", "[flat]\nType = identity", "the output is 12:4:10"),
    ("[flat]", "[fl at]", "is no name of a layer"),
    ("Type = flatten", "color = red", "a layer needs a type"),
    ("[in]\nType = input", "[in]\nType = input\ninput_layers = out", "which reads it"),
    ("Type = flatten", "Type = flatten\ninput_layers = pool(2)", "there is no layer 'pool'"),
    ("Type = flatten", "Type = flatten\ninput_layers = pool2(1", "'pool2(1' is no layer"),
    ("Type = flatten", "Type = flatten\ninput_layers = pool2,", "wanted names of layers"),
    ("Type = flatten", "Type = flatten\ninput_layers = pool1", "no layer reads "),
    ("Unit = 10", "Unit = 10\ntrainable = false", "the layer with the classes must train"),
    ("[out]", "[loss]\ntype = mse\n[out]", "a loss is the last layer"),
    ("filters = 6", "filters = 6\nweight_decay = 0.1", "supported with the optimizer sgd only"),
    ("filters = 6", "filters = 6\nclip_grad_by_norm = 1", "is not the same in all layers"),
    ("filters = 12", "filters = 99999999", "its weight would have 14,999,999,850 numbers"),
    ("Unit = 10", "Unit = 99999999", "its weight would have"),
    ("filters = 6", "filters = 6\npadding = 99999999", "its padded input would have"),
    ("filters = 6", "filters = 6\nname = a", "the section is the layer's name"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "said"), CHANGES)
def test_a_mistake_is_named_with_its_place(tmp_path, before, after, said):
    assert before in LENET
    found = refusal(tmp_path, LENET.replace(before, after, 1))
    assert said in found
    assert "net.ini, line " in found


@pytest.mark.parametrize("section", ["[Model]", "[Optimizer]", "[LearningRateScheduler]"])
def test_a_section_that_is_missing(tmp_path, section):
    lines = LENET.split("\n")
    start = lines.index(section)
    end = next(i for i in range(start + 1, len(lines)) if lines[i].startswith("["))
    said = refusal(tmp_path, "\n".join(lines[:start] + lines[end:]))
    assert "Model" in said or "Optimizer" in said or "learning rate" in said


@pytest.mark.parametrize("kind", REFUSED)
def test_a_layer_that_is_refused_says_why(tmp_path, kind):
    said = refusal(tmp_path, f"{HEAD}\n[x]\ntype = {kind}\n")
    assert f"the layer {kind} is not supported" in said
    assert REFUSED[kind] in said
    assert kind not in LAYERS


def test_no_layers(tmp_path):
    assert "it has no layers" in refusal(tmp_path, HEAD)
    assert "it has no layers" in refusal(tmp_path, "")


def replaced(before, after, content=LENET):
    assert before in content
    return content.replace(before, after, 1)


@pytest.mark.parametrize(
    ("optimizer", "name", "wanted"),
    [
        ("Type = adam", "keras-adam", {"eps": 1e-7, "beta1": 0.9}),
        ("Type = adam\ntorch_ref = true\nepsilon = 1e-8", "adam", {"eps": 1e-8}),
        ("Type = adamw", "keras-adam", {"eps": 1e-8, "decoupled": False}),
        ("Type = adamw\nweight_decay = 0.1", "keras-adam",
         {"weight_decay": 0.1, "decoupled": True}),
        ("Type = adamw\ntorch_ref = true", "adamw", {"weight_decay": 0.0}),
        ("Type = sgd", "sgd", {"momentum": 0.0}),
    ],
)  # fmt: skip
def test_optimizers(tmp_path, optimizer, name, wanted):
    made = loaded(tmp_path, replaced("Type = adam", optimizer)).recipe
    assert made.optimizer == name
    assert {key: made.settings[key] for key in wanted} == wanted
    OPTIMIZERS[made.optimizer](**made.settings)
    assert made.loss in LOSSES


@pytest.mark.parametrize(
    ("keys", "rates"),
    [
        ("type = constant\nlearning_rate = 0.1", {0: 0.1, 99: 0.1}),
        ("type = exponential\nlearning_rate = 0.1\ndecay_rate = 0.5\ndecay_steps = 10",
         {0: 0.1, 5: 0.1 * 0.5**0.5, 20: 0.025}),
        ("type = step\nlearning_rate = 0.1, 0.05, 0.2\niteration = 5, 7",
         {0: 0.1, 5: 0.1, 6: 0.05, 7: 0.05, 8: 0.2, 99: 0.2}),
        ("type = cosine\nmax_learning_rate = 0.2\nmin_learning_rate = 0.1\ndecay_steps = 10",
         {0: 0.2, 5: 0.15, 10: 0.2}),
        ("type = linear\nmax_learning_rate = 0.2\nmin_learning_rate = 0.1\ndecay_steps = 10",
         {0: 0.2, 5: 0.15, 10: 0.1, 50: 0.1}),
    ],
)  # fmt: skip
def test_learning_rates_of_iterations(tmp_path, keys, rates):
    made = loaded(tmp_path, replaced("Type = constant\nLearning_rate = 1e-3", keys)).recipe
    lr = made.settings["learning_rate"]
    found = {step: made.schedule.rate(lr, step, 1000) for step in rates}
    assert found == pytest.approx(rates)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("type = step\nlearning_rate = 1\niteration = 5", "1 learning rates for 1 iterations"),
        ("type = step\nlearning_rate = 1,2,3\niteration = 5,5", "increases"),
        ("type = cosine\nmax_learning_rate = 1\nmin_learning_rate = 2\ndecay_steps = 1", "above"),
        ("type = linear\nmax_learning_rate = 1", "needs min_learning_rate and decay_steps"),
    ],
)
def test_rates_without_a_meaning(tmp_path, keys, said):
    assert said in refusal(tmp_path, replaced("Type = constant\nLearning_rate = 1e-3", keys))


def test_an_older_file_has_the_optimizer_in_its_model(tmp_path):
    start = LENET.index("[Optimizer]")
    end = LENET.index("[in]")
    old = LENET[:start] + LENET[end:]
    more = "Optimizer = adam\nLearning_rate = 1e-2\ndecay_rate = 0.5\ndecay_steps = 2\nbeta1 = 0.8"
    made = loaded(tmp_path, replaced("Loss = cross", f"Loss = cross\n{more}", old)).recipe
    assert made.optimizer == "keras-adam"
    assert (made.settings["learning_rate"], made.settings["beta1"]) == (1e-2, 0.8)
    assert made.schedule.rate(1.0, 2, 9) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "loss", "activation"),
    [
        ({}, "cross-entropy", "none"),
        ({"Activation = softmax": "Activation = sigmoid"}, "bce", "none"),
        ({"Loss = cross": "Loss = mse"}, "mse", "softmax"),
        ({"Loss = cross\n": "", "Activation = softmax\n": "[l]\ntype = cross_softmax\n"},
         "cross-entropy", "none"),
        ({"Loss = cross\n": "", "Activation = softmax\n": "[l]\ntype = cross_sigmoid\n"},
         "bce", "none"),
        ({"Activation = softmax": "[act]\ntype = activation\nactivation = softmax"},
         "cross-entropy", "none"),
    ],
)  # fmt: skip
def test_the_end_belongs_to_the_loss(tmp_path, change, loss, activation):
    content = LENET
    for before, after in change.items():
        content = replaced(before, after, content)
    made = loaded(tmp_path, content)
    assert made.recipe.loss == loss
    assert made.layers[-1].values["activation"] == activation
    assert made.classes == 10


def test_weight_decay_of_the_layers(tmp_path):
    made = loaded(tmp_path, MLP)
    assert made.recipe.settings["weight_decay"] == 0.005
    assert made.decayed == ("head.fc1.weight",)
    two = replaced("unit = 3", "unit = 3\nweight_regularizer = l2norm", MLP)
    assert "its weights decay by 1, others by 0.005" in refusal(tmp_path, two)
    sgd = replaced("Type = adam", "Type = sgd", LENET)
    made = loaded(tmp_path, replaced("Unit = 10", "Unit = 10\nbias_decay = 0.5", sgd))
    assert made.decayed == ("head.out.bias",)
    both = replaced("Type = adam", "Type = adamw\nweight_decay = 0.1", MLP)
    assert "and weight_decay of the optimizer" in refusal(tmp_path, both)


def test_gradients_are_clipped_together(tmp_path):
    content = LENET
    for key in ("filters = 6", "filters = 12", "Unit = 10"):
        content = replaced(key, f"{key}\nclip_grad_by_norm = 0.5", content)
    assert loaded(tmp_path, content).recipe.clip_norm == 0.5


def test_what_a_run_decides_is_said(tmp_path):
    more = "Loss = cross\nEpochs = 7\nSave_Path = x.bin"
    content = replaced("Loss = cross", more) + "\n[train_set]\ntype = file\npath = a.dat\n"
    notices = loaded(tmp_path, content).recipe.notices
    assert "epochs = 7 belongs to a run: net_runner -c N" in notices[0]
    assert notices[1].startswith("save_path: net_runner -o")
    assert notices[2].startswith("[train_set]: net_runner -d")


def test_layers_that_do_not_train(tmp_path):
    made = loaded(tmp_path, replaced("filters = 6", "filters = 6\ntrainable = false"))
    assert made.network.trainable == "head.conv2.*,head.out.*"


BACKBONE = """
[in]
type = input
input_shape = 1:28:28
[conv.a]
type = conv2d
filters = 4
kernel_size = 5,5
activation = relu
[pool]
type = pooling2d
pooling = global_average
"""
OUTER = (
    HEAD
    + """
[base]
backbone = base.ini
input_shape = 1:20:20
[flat]
type = flatten
input_layers = base
[train]
type = fully_connected
unit = 3
activation = softmax
"""
)


def test_a_backbone_is_frozen_unless_it_says_else(tmp_path):
    (tmp_path / "base.ini").write_text(BACKBONE)
    made = loaded(tmp_path, OUTER)
    assert [layer.name for layer in made.layers][:2] == ["base/in", "base/conv.a"]
    assert made.network.input.shape == (1, 20, 20)
    names = [name for name, _ in made.network.build(3).named_parameters()]
    # `train` is a method of a torch module, "." and "/" are no names in one.
    assert names[0] == "head.base_conv_a.weight"
    assert names[2] == "head.train_.weight"
    assert made.network.trainable == "head.train_.*"
    made = loaded(tmp_path, replaced("backbone = ", "trainable = true\nbackbone = ", OUTER))
    assert made.network.trainable == "all"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("base.ini", "base.tflite", "only a backbone in an INI file is read"),
        ("base.ini", "none.ini", "none.ini: no such file"),
        ("base.ini", "net.ini", "backbones stand in each other 8 deep"),
        ("input_shape = 1:20:20", "scalesize = 2", "scalesize = 2 is not supported"),
        ("input_shape = 1:20:20", "filters = 2", "a backbone has no key 'filters'"),
        ("input_layers = base", "input_layers = bas", "did you mean base"),
    ],
)
def test_a_backbone_that_cannot_be_read(tmp_path, before, after, said):
    (tmp_path / "base.ini").write_text(BACKBONE)
    assert said in refusal(tmp_path, replaced(before, after, OUTER))
