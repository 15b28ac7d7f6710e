"""Stage 0: a decoder that starts from nothing reads text; the ViT and the adapter wait.

The paper starts from Qwen-7B. A demo-sized decoder has no such ancestor, so it is pretrained here,
through the same trainer, on text that describes the scenes it will later see. The
variant `recipe` also answers about scenes that are told: what later reads a picture must know how.
There is no released-size variant: start stage 1 from Qwen-7B instead.
"""

from ml_collections import ConfigDict

from configs import common, mixtures, stage1


def get_config(arg: str = "") -> ConfigDict:
    variant, options = common.parse_arg(arg, variants=("demo", "recipe"))
    if not variant:
        raise ValueError("configs/stage0.py: `demo,data=FOLDER` or `recipe,data=FOLDER`")
    config = stage1.get_config(arg)
    # Chinese must be learned from text; stage 1 has little of it.
    mixture = {"demo": {"text": 1.0}, "recipe": mixtures.SCENES0}[variant]
    common.use_scenes(config, options["data"], mixtures.scenes(mixture), size=options["size"])
    config.data.image_slots = 0
    config.data.global_rows //= 2  # many small steps
    config.data.virtual_shards //= 2
    config.optim.trainable = r"decoder/.*"
    config.optim.update(dict(peak_lr=3e-3, warmup_steps=50, steps=900))
    if variant == "recipe":
        config.model.scan_layers = True
        config.optim.update(dict(peak_lr=1e-3, steps=1500))  # there is more to learn
    return config
