"""Recipes with a mistake, and what the answer has to tell."""

# The expected fragments of a message are separated by " | "; `@3` stands for `<file>:3`.
# Each yaml below gets the line `model: m` in front unless the case is about the whole file.
BROKEN_KEYS = {
    "misspelt key": ("learning_rat: 0.1", "@2 | unknown key 'learning_rat'"),
    "misspelt key with suggestion": ("warmup_epoch: 3", "@2 | 'warmup_epoch' | warmup_epochs"),
    "dash for underscore": ("batch-size: 3", "@2 | 'batch-size' | did you mean batch_size"),
    "wrong case": ("Momentum: 0.9", "@2 | 'Momentum' | momentum"),
    "refused key": ("enable_modelarts: True", "@2 | enable_modelarts | ModelArts"),
    "mixing by pairs": ("mixup_mode: pair", "@2 | mixup_mode | each batch is mixed as a whole"),
    "refused key with its reason": ("max_rowsize: 16", "@2 | max_rowsize | shared memory"),
    "key twice": ("lr: 0.1\nseed: 1\nlr: 0.1", "@4 | lr is set twice | @2"),
    "key twice by its older name": (
        "weight_decay_filter: auto\nfilter_bias_and_bn: True",
        "@3 | weight_decay_filter is set twice | @2",
    ),
    "number as key": ("5: 6", "@2 | unknown key '5'"),
    "list as key": ("? [lr, min_lr]\n: 0.1", "@2 | expected a key, got a list"),
    "merge key": ("<<: {lr: 0.1}", "@2 | << | got a mapping"),
    "merge of a list": ("<<: [{lr: 0.1}]", "@2 | << | nested list"),
    "blank in a key": ("'lr ': 0.1", "@2 | unknown key 'lr '"),
    "key of another alphabet": ("lг: 0.1", "@2 | unknown key 'lг'"),
    "empty key": ("'': 0.1", "@2 | unknown key ''"),
    "null key": ("~: 0.1", "@2 | unknown key '~'"),
    "long key": ("? " + "k" * 5000 + "\n: 1", "@2 | unknown key 'kkk | 5000 characters"),
    "merge of an anchor": ("lr: &a 0.1\n<<: *a", "@3 | unknown key '<<'"),
}

BROKEN_TYPES = {
    "word for a number": ("lr: fast", "@2 | lr | expected a number | 'fast'"),
    "list for a number": ("lr: [0.1, 0.2]", "@2 | lr | expected a number | '[0.1, 0.2]'"),
    "fraction for an integer": ("batch_size: 0.5", "@2 | batch_size | an integer | '0.5'"),
    "base 60": ("epoch_size: 1:30", "@2 | epoch_size | expected an integer | '1:30'"),
    "octal": ("epoch_size: 0o17", "@2 | epoch_size | expected an integer | '0o17'"),
    "hexadecimal": ("seed: 0xff", "@2 | seed | expected an integer | '0xff'"),
    "yes for a number": ("lr: yes", "@2 | lr | expected a number | 'yes'"),
    "date for a number": ("lr: 2012-01-01", "@2 | lr | expected a number | '2012-01-01'"),
    "comma for a point": ("lr: 0,1", "@2 | lr | expected a number | '0,1'"),
    "number with its unit": ("image_resize: 224px", "@2 | image_resize | '224px'"),
    "two numbers for one": ("lr: 0.1 0.2", "@2 | lr | expected a number | '0.1 0.2'"),
    "block of text": ("lr: |\n  0.1\n  0.2", "@2 | lr | expected a number"),
    "digits without end": ("epoch_size: " + "9" * 5000, "@2 | epoch_size | 5000 characters"),
    "underscores": ("lr: 1_000", "@2 | lr | expected a number | '1_000'"),
    "word for a boolean": ("shuffle: maybe", "@2 | shuffle | true or false | 'maybe'"),
    "number for a boolean": ("shuffle: 2", "@2 | shuffle | true or false | '2'"),
    "list for a text": ("data_dir: [a, b]", "@2 | data_dir | expected a text | '[a, b]'"),
    "three numbers for two": ("scale: [0.1, 0.2, 0.3]", "@2 | scale | 2 numbers | 0.3"),
    "one number for two": ("ratio: 0.5", "@2 | ratio | expected 2 numbers | '0.5'"),
    "text in a list of numbers": ("scale: [0.1, big]", "@2 | scale | 2 numbers | big"),
    "empty list": ("multi_step_decay_milestones: []", "@2 | milestones | a list of integers"),
    "two jitter strengths": ("color_jitter: [0.1, 0.2]", "@2 | color_jitter | 3 numbers"),
    "null": ("lr: null", "@2 | lr | expected a number | nothing"),
    "nothing": ("epoch_size:", "@2 | epoch_size | expected an integer | nothing"),
    "null in a list": ("scale: [0.1, null]", "@2 | scale | expected 2 numbers | null"),
    "nested list": ("scale: [0.1, [1.0]]", "@2 | scale | flat list | nested list"),
    "nested mapping": ("optimizer:\n  lr: 0.1", "@2 | optimizer | mapping | recipes are flat"),
    "mapping for a value": ("lr: {peak: 0.1}", "@2 | lr | got a mapping"),
}

BROKEN_RANGES = {
    "nan": ("lr: nan", "@2 | lr | expected a finite number | 'nan'"),
    "yaml's nan": ("lr: .nan", "@2 | lr | expected a number | '.nan'"),
    "infinity": ("loss_scale: inf", "@2 | loss_scale | expected a finite number | 'inf'"),
    "overflow": ("lr: 1e999", "@2 | lr | expected a finite number | '1e999'"),
    "negative rate": ("lr: -0.1", "@2 | lr | -0.1 | above 0"),
    "zero rate": ("lr: 0", "@2 | lr | 0.0 is out of range | above 0"),
    "negative decay": ("weight_decay: -1e-4", "@2 | weight_decay | -0.0001 | at least 0"),
    "no image in a batch": ("batch_size: 0", "@2 | batch_size | 0 | at least 1"),
    "negative seed": ("seed: -1", "@2 | seed | -1 | at least 0"),
    "seed beyond 31 bits": ("seed: 2147483648", "@2 | seed | 2147483648 | at most 2147483647"),
    "probability above 1": ("hflip: 1.5", "@2 | hflip | 1.5 | at most 1"),
    "negative mixup": ("mixup: -0.2", "@2 | mixup | -0.2 | at least 0"),
    "crop beyond the image": ("scale: [0.08, 1.5]", "@2 | scale | 1.5 | at most 1"),
    "empty crop": ("scale: [0, 1]", "@2 | scale | 0.0 | above 0"),
    "milestone 0": ("multi_step_decay_milestones: [0, 3]", "@2 | milestones | 0 | at least 1"),
    "whole smoothing": ("label_smoothing: 1.0", "@2 | label_smoothing | 1.0 | at most 0.999"),
    "three sides": ("image_resize: [8, 8, 8]", "@2 | image_resize | an integer or 2 integers"),
    "one small side": ("image_resize: [224, 7]", "@2 | image_resize | 7 | at least 8"),
    "crop beyond twice the image": ("crop_pct: 2.5", "@2 | crop_pct | 2.5 | at most 2"),
    "huge image": ("image_resize: 100000", "@2 | image_resize | 100000 | at most 4096"),
    "zero std": ("std: [0, 1, 1]", "@2 | std | 0.0 | above 0"),
    "unknown mode": ("mode: 2", "@2 | mode | 2 | 0, 1"),
    "unknown optimizer": ("opt: sgdd", "@2 | opt | 'sgdd' | sgd, momentum"),
    "unknown scheduler": ("scheduler: cosine", "@2 | scheduler | 'cosine' | cosine_decay"),
    "unknown amp level": ("amp_level: O4", "@2 | amp_level | 'O4' | O0, O1, O2, O3, auto"),
    "unknown device": ("device_target: TPU", "@2 | device_target | 'TPU' | Ascend, CPU"),
    "unknown fill": ("re_value: blue", "@2 | re_value | 'blue' | random"),
    "weight average": ("ema_decay: 1.0", "@2 | ema_decay | 1.0 is out of range | at most"),
    "clipping": ("clip_value: 0", "@2 | clip_value | 0.0 is out of range | above 0"),
    "clip mode": ("clip_mode: agc", "@2 | clip_mode | 'agc' | global_norm, norm, value"),
    "accumulation": ("gradient_accumulation_steps: 0", "@2 | gradient_accumulation_steps | 0"),
    "frozen stages": ("freeze_stages: -1", "@2 | freeze_stages | -1 | at least 0"),
    "precise statistics": ("precise_bn_samples: -1", "@2 | precise_bn_samples | -1"),
    "rate's batch": ("lr_base_size: 0", "@2 | lr_base_size | 0 | at least 1"),
    "resuming": ("ckpt_save_minutes: -1", "@2 | ckpt_save_minutes | -1.0 | at least 0"),
    "grey images": ("in_channels: 1", "@2 | in_channels | 1 makes the images grey | mean and std"),
}

BROKEN_POLICIES = {
    "other family": ("autoaugment", "'autoaugment' is unknown | randaug | autoaug | augmix[-mN]"),
    "term of another family": ("autoaug-m9", "'m9' | autoaug|autoaugr|original"),
    "depth of a fraction": ("augmix-d1.5", "d=1.5 | a whole number from 1 to 10"),
    "setting of a policy without": ("trivialaugwide-n2", "'n2' | expected trivialaugwide"),
    "no value": ("randaug-m", "'m'"),
    "longer than any": ("randaug" + "-m9" * 100, "307 characters | too long"),
    "empty term": ("randaug--m9", "''"),
    "unknown term": ("randaug-x3", "'x3'"),
    "term twice": ("randaug-m9-m8", "'m8'"),
    "two dots": ("randaug-m1.2.3", "'1.2.3' | not a number"),
    "strength beyond the scale": ("randaug-m31", "m=31 | from 0 to 30"),
    "fraction of an operation": ("randaug-n2.5", "n=2.5 | a whole number"),
    "no operation": ("randaug-n0", "n=0 | from 1 to 15"),
    "infinite strength": ("randaug-minf", "m=inf"),
    "probability above 1": ("randaug-p2", "p=2"),
    "comma for dash": ("randaug,m9", "'randaug,m9' is unknown"),
}

CONTRADICTIONS = {
    "more cycles than epochs": (
        "epoch_size: 5\nnum_cycles: 3\nlr_epoch_stair: on",
        "@3 | num_cycles | 3 cycles | 2 epochs",
    ),
    "growing rate": ("lr: 0.1\nmin_lr: 0.2", "@3 | min_lr | 0.2 | lr 0.1"),
    "step without length": ("scheduler: step_decay", "@2 | scheduler | needs decay_epochs"),
    "unordered milestones": (
        "scheduler: multi_step_decay\nmulti_step_decay_milestones: [60, 30]",
        "@3 | multi_step_decay_milestones | [60, 30] | increase",
    ),
    "milestone twice": (
        "scheduler: multi_step_decay\nmulti_step_decay_milestones: [30, 30]",
        "@3 | multi_step_decay_milestones | [30, 30] | increase",
    ),
    "one cycle after a warm-up": (
        "scheduler: one_cycle",
        "default: warmup_epochs | one_cycle climbs by itself | set warmup_epochs 0",
    ),
    "one cycle after steps of warm-up": (
        "warmup_steps: 5\nscheduler: one_cycle",
        "@2: warmup_steps | one_cycle | set warmup_steps 0",
    ),
    "cyclic stair": (
        "scheduler: cyclic\nwarmup_epochs: 0\nlr_epoch_stair: on",
        "@4: lr_epoch_stair | cyclic | step to step",
    ),
    "cyclic upwards": ("scheduler: cyclic\nwarmup_epochs: 0\nmin_lr: 1", "@4: min_lr | 1.0"),
    "steps of warm-up in a stair": (
        "warmup_steps: 5\nlr_epoch_stair: on",
        "@2: warmup_steps | lr_epoch_stair | use warmup_epochs",
    ),
    "final decay beyond the end": (
        "scheduler: wsd\ndecay_epochs: 88",
        "@3: decay_epochs | warmup_epochs 3 | 88 | use decay_epochs 87",
    ),
    "no room for the final decay": (
        "scheduler: wsd\nwarmup_epochs: 85",
        "@2: scheduler | a tenth of the run of 90 epochs | set decay_epochs",
    ),
    "cycles below the floor": (
        "num_cycles: 3\ncycle_decay: 0.01\nmin_lr: 1e-6",
        "@3: cycle_decay | 1e-07 | min_lr",
    ),
    "growing drops": (
        "scheduler: step_decay\ndecay_epochs: 30\ndecay_rate: 1.5",
        "@4: decay_rate | 1.5 | above 1",
    ),
    "cast list of no level": (
        "amp_cast_list: [nn.Dense]",
        "@2 | amp_cast_list | O1 or O2, not O0",
    ),
    "half precision of no level": (
        "keep_bn_fp32: False\namp_level: O1",
        "@2 | keep_bn_fp32 | O2 or O3, not O1",
    ),
    "two sources of weights": (
        "ckpt_path: a.ckpt\npretrained: torchvision_v2",
        "@3 | pretrained | ckpt_path",
    ),
    "empty crop range": ("scale: [1.0, 0.08]", "@2 | scale | 1.0 to 0.08"),
    "empty aspect range": ("ratio: [1.333, 0.75]", "@2 | ratio | 1.333 to 0.75"),
    "empty erasing range": ("re_scale: [0.3, 0.1]", "@2 | re_scale | 0.3 to 0.1"),
    "two means": ("mean: [1, 2]", "@2 | mean | 2 values | in_channels 3"),
    "std of the scale 0-1": ("std: [0.229, 0.224, 0.225]", "@2 | std | 0.229 | 255"),
    "mean of the scale 0-1": ("mean: [0.485, 0.456, 0.406]", "@2 | mean | 0.485 | 255"),
    "antialiasing of single pixels": (
        "interpolation: nearest\nantialias: yes",
        "@3 | antialias | nearest takes single pixels",
    ),
    "hue beyond the circle": ("color_jitter: [0.1, 0.1, 0.1, 0.6]", "@2 | color_jitter | 0.6"),
    "one split": ("aug_splits: 1\nauto_augment: augmix", "@2 | aug_splits | 1 copy"),
    "splits without a policy": ("aug_splits: 3", "@2 | aug_splits | auto_augment"),
    "mixed splits": ("aug_splits: 3\nauto_augment: 3a\nmixup: 0.2", "@2 | aug_splits | mixup"),
    "end of no mixing": ("mixup_off_epoch: 5", "@2 | mixup_off_epoch | nothing is mixed"),
    "mixing of unfinished images": (
        "mixup: 0.2\naugment_on_device: yes",
        "@3 | augment_on_device | mixup 0.2",
    ),
    "sides on the device": (
        "augment_on_device: yes\nimage_resize: [64, 96]",
        "@2 | augment_on_device | image_resize (64, 96)",
    ),
    "hue on the device": (
        "augment_on_device: yes\ncolor_jitter: [0.1, 0.1, 0.1, 0.1]",
        "@2 | augment_on_device | color_jitter",
    ),
    "repeats in order": ("aug_repeats: 3\nshuffle: no", "@2 | aug_repeats | shuffle"),
    "repeats of a part": ("aug_repeats: 3\nnum_samples: 500", "@2 | aug_repeats | num_samples"),
    "less than a batch": ("num_samples: 100", "@2 | num_samples | 100 | batch_size 128"),
    "top_k without accuracy": (
        "ckpt_save_policy: top_k",
        "@2 | ckpt_save_policy | val_while_train",
    ),
    "checkpoint without accuracy": (
        "ckpt_save_policy: top_k\nval_while_train: on\nval_interval: 2\nckpt_save_interval: 3",
        "@5 | ckpt_save_interval | val_interval 2",
    ),
    "not launched": ("distribute: True", "@2 | distribute | msrun | --distribute False"),
    "Ascend's engine on CPU": (
        "device_target: CPU\njit_level: O2",
        "@3 | jit_level | O2 | on CPU",
    ),
    "partial batch in the sink": (
        "device_target: Ascend\ndrop_remainder: no",
        "@3 | drop_remainder | one shape | dataset_sink_mode False",
    ),
    "save within a sink": (
        "device_target: Ascend\nckpt_save_steps: 500",
        "@3 | ckpt_save_steps | 500 | ckpt_save_interval",
    ),
    "Nesterov's AdamW": ("opt: adamw\nuse_nesterov: True", "@3 | use_nesterov | opt adamw"),
    "Nesterov without momentum": ("opt: nesterov\nmomentum: 0", "@3 | momentum | Nesterov"),
    "threshold without BCE": (
        "loss: CE\nbce_target_thresh: 0.2",
        "@3 | bce_target_thresh | BCE | loss CE",
    ),
    "JSD without copies": ("loss: jsd", "@2 | loss | jsd | aug_splits 3"),
    "JSD of mixed images": ("loss: jsd\ncutmix: 1.0", "@2 | loss | jsd | cutmix"),
    "focal loss of mixed labels": (
        "loss: asl_single_label\nmixup: 0.8",
        "@2 | loss | asl_single_label | mixup",
    ),
    "several at once": (
        "scale: [1, 0.5]\nmin_lr: 1\naug_splits: 1",
        "@2: scale | @3: min_lr | @4: aug_splits",
    ),
}

LETTERS = range(ord("b"), ord("z"))

BROKEN_FILES = {
    "empty": (b"", "model | no model given"),
    "only a comment": (b"# nothing yet\n", "model | no model given"),
    "no model": (b"lr: 0.1\n", "model | no model given"),
    "empty model": (b"model: ''\n", "@1 | model | no model given"),
    "null model": (b"model: null\n", "@1 | model | expected a text"),
    "one word": (b"regnet_x_800mf\n", "@1 | key: value | a single value"),
    "list": (b"- model: m\n- lr: 0.1\n", "@1 | key: value | a list"),
    "line without a value": (b"model: m\nlr\nseed: 1\n", "not valid yaml | line 2"),
    "tab": (b"model: m\n\tlr: 0.1\n", "@2 | not valid yaml | '\\t'"),
    "no blank after the colon": (b"model: m\nlr:0.1\nseed: 1\n", "not valid yaml | line 2"),
    "open quote": (b"seed: 1\nmodel: 'm\nlr: 0.1\n", "not valid yaml | line 2 | unexpected end"),
    "open bracket": (b"model: m\nscale: [0.1, 1\n", "not valid yaml | line 2"),
    "indented line": (b"model: m\n  lr: 0.1\n", "@2 | not valid yaml"),
    "undefined alias": (b"model: m\nlr: *peak\n", "@2 | not valid yaml | undefined alias 'peak'"),
    "anchor in itself": (b"model: m\nscale: &a [*a, 1]\n", "@2 | scale | nested list"),
    "file in itself": (b"&a {model: *a}\n", "@1 | model | a mapping"),
    "merged base": (b"base: &b {lr: 1}\n<<: *b\nmodel: m\n", "@1 | base | a mapping"),
    "python object": (
        b"model: !!python/object/apply:os.system ['ls']\n",
        "@1 | model | !!python/object/apply:os.system | not allowed",
    ),
    "python name": (b"model: m\nopt: !!python/name:os.system sgd\n", "@2 | opt | !!python/name"),
    "tag on a key": (b"!!python/name:os.system lr: 0.1\n", "@1 | lr | !!python/name"),
    "python call": (b"lr: !!python/object/new:os.system [ls]\n", "@1 | lr | !!python/object/new"),
    "tag within a list": (b"scale: [!!python/name:os.system '', 1]\n", "@1 | scale | !!python"),
    "set tag": (b"model: !!set {m}\n", "@1 | model | !!set"),
    "own tag": (b"model: m\nlr: !env LR\n", "@2 | lr | !env"),
    "binary tag": (b"model: !!binary bQ==\n", "@1 | model | !!binary"),
    "unknown tag prefix": (b"model: m\nlr: !x!y 1\n", "@2 | not valid yaml | '!x!'"),
    "two documents": (b"model: m\n---\nmodel: n\n", "@2 | not valid yaml | document"),
    "later yaml version": (b"%YAML 2.0\n---\nmodel: m\n", "@1 | not valid yaml | version"),
    "Latin-1": ("model: m\ndata_dir: größer\n".encode("latin-1"), "@2 | not UTF-8 text"),
    "UTF-16": ("model: m\n".encode("utf-16"), "@1 | not UTF-8 text"),
    "zero byte": (b"model: m\nlr: 0.1\x00\n", "@2 | not valid yaml | special characters"),
    "picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "@1 | not UTF-8 text"),
    "archive": (b"PK\x03\x04\x14\x00\x00\x00", "@1 | not valid yaml"),
    "impossible escape": (b'model: "\\UFFFFFFFF"\n', "@1 | not valid yaml | no character"),
    "impossible escape further on": (b'model: m\nopt: "\\UFFFFFFFF"\n', "@2 | no character"),
    "UTF-16 without mark": ("model: m\n".encode("utf-16-le"), "@1 | special characters"),
    "escape of a terminal": (b"model: m\nlr: \x1b[31m1\n", "@2 | special characters"),
    "mark, then a mistake": (b"\xef\xbb\xbfmodel: m\nlr: fast\n", "@2 | lr | 'fast'"),
    "lines of an old Macintosh": (b"model: m\rlr: fast\r", "@2 | lr | 'fast'"),
    "JSON with a mistake": (b'{"model": "m",\n "lr": "fast"}', "@2 | lr | 'fast'"),
    "a million laughs": (
        b"a: &a [x, x]\n"
        + b"".join(b"%c: &%c [*%c, *%c]\n" % (c, c, c - 1, c - 1) for c in LETTERS),
        "@1 | unknown key 'a'",
    ),
    "laughs in a value": (b"scale: &a [&b [x, x], *b, *b]\n", "@1 | scale | nested list"),
    "larger than a recipe": (b"model: m\n" + b"#" * 70_000, "larger than 65536 bytes"),
    "deep mappings": (b"{a: " * 5000, "@1 | nested too deeply"),
    "deep dashes": (b"- " * 5000, "@1 | nested too deeply"),
    "deep nesting": (b"model: " + b"[" * 8000, "@1 | nested too deeply"),
}

YAML_CASES = {
    f"{group}: {name}": (b"model: m\n" + text.encode() + b"\n", fragments)
    for group, table in {
        "key": BROKEN_KEYS,
        "type": BROKEN_TYPES,
        "range": BROKEN_RANGES,
        "contradiction": CONTRADICTIONS,
    }.items()
    for name, (text, fragments) in table.items()
}
YAML_CASES |= {
    f"policy: {name}": (
        f"model: m\nauto_augment: '{text}'\n".encode(),
        f"@2 | auto_augment | {text[:60]} | {fragments}",
    )
    for name, (text, fragments) in BROKEN_POLICIES.items()
}
YAML_CASES |= {f"file: {name}": case for name, case in BROKEN_FILES.items()}
