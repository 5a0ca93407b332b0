"""The commands of `mindcv`: one module each, imported only when used.

A command module has `add_arguments(parser)` and `run(arguments)`, which raises a `MindCVError` if
it cannot do its work. A module with `STARTS_COMMANDS` leaves standard error to the programs that it
starts; the other commands show only their own messages (see process/terminal.py).
"""

# Command -> its line in `mindcv --help`; its module is `NAME.py` or `NAME/command.py`, with _
# for a hyphen.
COMMANDS = {
    "train": "train a classifier on your images or on ImageNet, as train.py does",
    "validate": "measure the accuracy of a checkpoint, as validate.py does",
    "recipes": "list the packaged recipes, or print one",
    "list": "table of the models: costs, input size, published weights",
    "info": "one model: stages, costs, the line its widths follow",
    "predict": "classify images with a checkpoint or published weights",
    "explain": "show where in an image the network sees a class (Grad-CAM)",
    "embed": "write the features of images",
    "search": "find similar images and near-duplicates by their features",
    "convert": "turn a weight file of any library into another format or naming",
    "export": "write a checkpoint as MINDIR, ONNX or AIR, batch normalisation folded in",
    "average": "average the weights of several checkpoints",
    "card": "write a model card of a checkpoint, in Markdown",
    "lr": "print and plot the learning rates of a recipe",
    "find-lr": "train a little at growing learning rates, and suggest one",
    "plan": "step time, memory, decoding and hours of a training on 8 to 1024 devices",
    "scan": "check a dataset: bad files, copies, leaks of val into train, empty classes",
    "report": "write a run folder up as one HTML page: curves, confusions, worst mistakes",
    "supervise": "restart a training that failed from its newest checkpoint",
    "design-space": "sample, train and analyze populations of networks; scale one",
    "pack": "pack an image folder into a few large MindRecord files, or check such files",
}

# A command, or an option of its own -> what other programs call it; see also those of `config`.
NAMES_ELSEWHERE = {
    "average": "avg ensemble soup swa",
    "export": "deploy onnx",
    "find-lr": "find_lr lr_find lr_finder lr-find lr-finder",
    "list": "ls models zoo",
    "plan": "benchmark profile",
    "predict": "classify detect infer inference",
    "report": "plot results summary",
    "scan": "check verify",
    "train": "finetune fine_tune fit",
    "validate": "eval evaluate test val",
    "class_names": "class_map classes label_names labels names",
    "image_size": "image_resize img_size imgsz input_size resolution",
    "output": "dest file out output_dir results_file save",
    "top_k": "k topk",
}

# These read the options of a recipe themselves; their modules are `mindcv/NAME.py`.
DOORS = ("train", "validate")
