"""If these break, pairs are kept or dropped by scores that are not CLIP's."""

import io
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.clip.scorer import ClipScorer
from qwenvl_jax.checkpoint.clip import load_clip
from qwenvl_jax.model.clip import Clip
from qwenvl_jax.text.clip_bpe import load_clip_tokenizer
from tests.clip_pairs import REFERENCE, clip_pairs
from tests.data_pipelines.crawl_data import picture

TEXTS = [
    "A dog on a red sofa, 12345 of them.",
    "一只狗在红色沙发上。",
    "Isn't it caf\u00e9 &amp; cr\u00e8me <b>x</b>?  it's  2 \U0001f415\U0001f415 ###!!",
    "",
    "word " * 200,
    "mojibake dogâ€™s ball\nnext\tline",
] * 2
SIZES = [(128, 96), (50, 133), (64, 64), (37, 36), (300, 40), (33, 200)] * 2
VISION = dict(image_size=32, patch_size=8, width=48, layers=3, head_width=12, mlp_ratio=2.5)
READING = dict(context_length=20, vocab_size=49408, width=40, layers=2, heads=5)


def vocabulary() -> Path:
    import open_clip

    return Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")


def shake(model) -> None:
    """Biases, norms and tables away from their start, where several mistakes cancel."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def openclip_folder(folder: Path, *, quick: bool):
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.CLIP(24, dict(VISION), dict(READING), quick_gelu=quick).eval()
    shake(model)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    model_cfg = dict(embed_dim=24, quick_gelu=quick, vision_cfg=VISION, text_cfg=READING)
    colours = dict(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25])
    (folder / "open_clip_config.json").write_text(
        json.dumps(dict(model_cfg=model_cfg, preprocess_cfg=colours))
    )
    shutil.copy(vocabulary(), folder)
    return model, colours


@pytest.mark.parametrize("quick", [False, True])
def test_openclip(tmp_path, quick):
    """From files and texts to cosines: preprocessing, tokenizer and both towers at once."""
    import open_clip
    import torch

    model, colours = openclip_folder(tmp_path, quick=quick)
    files = [picture(i, size, "PNG") for i, size in enumerate(SIZES)]
    transform = open_clip.image_transform(32, is_train=False, **colours)
    with torch.no_grad():
        pixels = torch.stack([transform(Image.open(io.BytesIO(data))) for data in files])
        ids = open_clip.tokenizer.SimpleTokenizer()(TEXTS, context_length=20)
        images = model.encode_image(pixels, normalize=True)
        want = (images * model.encode_text(ids, normalize=True)).sum(1).numpy()
    scorer = ClipScorer(tmp_path, batch_size=8, dtype="float32")
    np.testing.assert_allclose(scorer(files, TEXTS), want, atol=1e-4)
    assert np.ptp(want) > 0.05  # pairs that all score alike would prove nothing
    got = scorer([files[0], b"no picture", files[2]], TEXTS[:3])
    assert np.isnan(got[1]) and np.allclose(got[[0, 2]], want[[0, 2]], atol=1e-4)
    rough = ClipScorer(tmp_path, batch_size=8, dtype="bfloat16")(files, TEXTS)
    np.testing.assert_allclose(rough, want, atol=0.03)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_huggingface(tmp_path, activation):
    import torch
    from transformers import CLIPConfig, CLIPModel

    text = dict(
        vocab_size=600, hidden_size=40, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=5, max_position_embeddings=20, hidden_act=activation,
        layer_norm_eps=1e-3, eos_token_id=599, bos_token_id=598, pad_token_id=599,
    )  # fmt: skip
    vision = dict(
        hidden_size=48, intermediate_size=120, num_hidden_layers=3, num_attention_heads=4,
        image_size=32, patch_size=8, hidden_act=activation, layer_norm_eps=1e-3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    shake(model)
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(dict(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25], resample=3))
    )
    shutil.copy(REFERENCE / "open_clip_config.json", tmp_path)  # many folders hold both
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    ids = rng.integers(0, 598, (5, 20)).astype(np.int32)
    ids[:, 0] = 598
    for row, end in zip(ids, (1, 5, 9, 13, 19)):
        row[end:] = 599  # they pad with the end token, of which the first counts
    pixels = ((images / 255.0 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.25]).astype(np.float32)
    with torch.no_grad():
        out = model(
            input_ids=torch.from_numpy(ids).long(),
            pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2),
        )
    want = (out.image_embeds * out.text_embeds).sum(1).numpy()
    config, params = load_clip(tmp_path)
    with jax.default_matmul_precision("highest"):
        got = Clip(config).apply({"params": params}, images, ids)
    np.testing.assert_allclose(got, want, atol=1e-4)
    assert np.ptp(want) > 0.05


def test_tokenizer_is_openclips(tmp_path):
    """One merge out of order and every text is another text to the model."""
    import open_clip

    shutil.copy(vocabulary(), tmp_path)
    ours, theirs = load_clip_tokenizer(tmp_path, vocab_size=49408), open_clip.SimpleTokenizer()

    @settings(max_examples=300)
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(TEXTS))
    def same(text):
        assert (ours([text], length=77) == theirs([text], 77).numpy()).all()

    same()


def test_tokenizer_reads_huggingface_files(tmp_path):
    import gzip

    from transformers import CLIPTokenizer

    lines = gzip.decompress(vocabulary().read_bytes()).decode().split("\n")[1:48895]
    merges = [tuple(line.split()) for line in lines]
    shutil.copy(vocabulary(), tmp_path)
    known = load_clip_tokenizer(tmp_path, vocab_size=49408)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
    plain = load_clip_tokenizer(tmp_path, vocab_size=49408)
    vocab = {entry: i for entry, i in known._ids.items()}
    vocab |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    theirs = CLIPTokenizer(vocab=vocab, merges=merges)
    theirs.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    whole = load_clip_tokenizer(tmp_path, vocab_size=49408)
    for text in TEXTS[:2] + TEXTS[3:5]:  # theirs mends no text
        want = theirs(text)["input_ids"][1:-1]
        assert plain.encode(text) == whole.encode(text) == want


def test_recorded_scores_are_openclips():
    """The numbers that tests without torch compare with were computed by this model, and still
    are.
    """
    import open_clip
    import torch
    from safetensors.torch import load_file

    config = json.loads((REFERENCE / "open_clip_config.json").read_text())
    sizes, colours = config["model_cfg"], config["preprocess_cfg"]
    model = open_clip.CLIP(
        sizes["embed_dim"], sizes["vision_cfg"], sizes["text_cfg"], sizes["quick_gelu"]
    ).eval()
    weights = load_file(REFERENCE / "open_clip_model.safetensors")
    missing = model.load_state_dict(weights, strict=False)
    assert missing.unexpected_keys == [] and set(missing.missing_keys) <= {"attn_mask"}
    transform = open_clip.image_transform(24, False, colours["mean"], colours["std"])
    pixels = torch.stack([transform(Image.open(io.BytesIO(data))) for data, _ in clip_pairs()])
    # Their tokenizer brings its own vocabulary; ours is compared with it above.
    tokenizer = load_clip_tokenizer(REFERENCE, vocab_size=sizes["text_cfg"]["vocab_size"])
    ids = torch.from_numpy(tokenizer([text for _, text in clip_pairs()], length=12)).long()
    with torch.no_grad():
        images, texts = model.encode_image(pixels, True), model.encode_text(ids, True)
    scores = (images * texts).sum(1).numpy()
    recorded = json.loads((REFERENCE / "scores.json").read_text())
    np.testing.assert_allclose(scores, recorded, atol=1e-5)
