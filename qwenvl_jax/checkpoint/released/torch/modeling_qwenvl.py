"""Qwen-VL in PyTorch for current transformers: images, decoder, cache and generation.

Shape letters: B rows, T positions, S keys, I image slots, R image side, V vocabulary, N heads,
H head width. Tensors have the released names.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_qwenvl import QwenVLConfig
from .decoder_qwenvl import DecoderBlock, RMSNorm, ntk_alpha, rotations
from .vision_qwenvl import Visual

_DTYPES = ("float32", "bfloat16", "float16")


class QwenVLPreTrainedModel(PreTrainedModel):
    """Loading: every tensor of the model must be in the files, and nothing else."""

    config_class = QwenVLConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _supports_sdpa = True
    _no_split_modules = ["DecoderBlock", "VisionBlock"]
    # Fixed positions, a tensor of the released files; computed here.
    _keys_to_ignore_on_load_unexpected = [r"attn_pool\.pos_embed$"]

    def _init_weights(self, module: nn.Module) -> None:
        """A random start, for a model made from a config alone."""
        if isinstance(module, (nn.LayerNorm, RMSNorm)):
            return  # PyTorch's own start: ones and zeros
        for name, parameter in module.named_parameters(recurse=False):
            if "bias" in name:
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As in transformers, but a tensor that is missing, unknown or mis-shaped is an error.

        Raises:
          ValueError: names the first such tensor, or a dtype that the model does not compute in.
        """
        dtype = str(kwargs.get("dtype", kwargs.get("torch_dtype", "auto"))).removeprefix("torch.")
        if dtype not in ("None", "auto", *_DTYPES):
            raise ValueError(f"dtype={dtype}: the model computes in {', '.join(_DTYPES)}")
        wanted = kwargs.pop("output_loading_info", False)
        kwargs.setdefault("ignore_mismatched_sizes", True)  # to be named below
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
        )
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if found := sorted(info[kind]):
                first = found[0]
                if kind == "mismatched_keys":
                    first = f"{first[0]}: {tuple(first[1])} in the file, {tuple(first[2])} wanted"
                raise ValueError(
                    f"{pretrained_model_name_or_path}: {kind.replace('_keys', '')} tensor {first}"
                    f" ({len(found)} such)"
                )
        return (model, info) if wanted else model


class QwenVLForCausalLM(QwenVLPreTrainedModel, GenerationMixin):
    """Vision tower, adapter and decoder with an untied head."""

    def __init__(self, config: QwenVLConfig):
        super().__init__(config)
        decoder, way = config.decoder_sizes, config._attn_implementation or "sdpa"
        if way not in ("sdpa", "eager"):
            raise ValueError(f"attn_implementation={way!r} is none of 'sdpa', 'eager'")
        self.decoder_sizes = decoder
        blocks = (DecoderBlock(decoder, i, way) for i in range(decoder.layers))
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(decoder.vocab_size, decoder.width),
                "visual": Visual(config.vit_sizes, config.adapter_sizes, decoder.width, way),
                "h": nn.ModuleList(blocks),
                "ln_f": RMSNorm(decoder.width, decoder.eps),
            }
        )
        self.lm_head = nn.Linear(decoder.width, decoder.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.transformer["wte"]

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def image_features(self, pixels_MRR3: Tensor) -> Tensor:
        """RGB bytes (M, R, R, 3), uint8 -> features (M, Q, D) as the decoder sees them."""
        return self.transformer["visual"](pixels_MRR3)

    def embed(self, input_ids: Tensor, pixel_values: Tensor | None) -> Tensor:
        """Token embeddings (B, T, D) with image features in place of `<imgpad>` tokens.

        Args:
          pixel_values: (B, I, R, R, 3) uint8; a row's images first, then empty slots.
        """
        x_BTD = self.transformer["wte"](input_ids)
        if pixel_values is None:
            return x_BTD
        queries, slots = self.config.adapter_sizes.num_queries, pixel_values.shape[1]
        is_pad = input_ids == self.decoder_sizes.image_pad_id
        counts_B = is_pad.sum(1).clamp(max=slots * queries)
        used_BI = torch.arange(slots, device=input_ids.device) < counts_B[:, None] / queries
        if not used_BI.any():
            return x_BTD
        features = self.image_features(pixel_values[used_BI])
        spread = features.new_zeros((*used_BI.shape, *features.shape[1:]))
        spread[used_BI] = features
        # The n-th <imgpad> of a row takes the row's n-th feature.
        is_pad = is_pad & (is_pad.cumsum(1) <= slots * queries)
        taken = torch.arange(slots * queries, device=input_ids.device) < counts_B[:, None]
        x_BTD = x_BTD.clone()
        x_BTD[is_pad] = spread.flatten(1, 2)[taken].to(x_BTD.dtype)
        return x_BTD

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        prompt_lengths: Tensor | None = None,
        logits_to_keep: int = 0,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> CausalLMOutputWithPast | tuple:
        """Scores of the next token, float32.

        Beyond the training length, in evaluation mode, dynamic NTK goes by each row's prompt
        length, and log-n by position; training mode has neither.

        Args:
          pixel_values: (B, I, R, R, 3) uint8, as the processor makes them.
          attention_mask: (B, S) over cached and new positions, 1 where a token stands.
          labels: (B, T) aligned with input_ids; -100 is ignored. The loss is a mean over labels.
          prompt_lengths: (B,) of the first pass over a prompt; None: this is the first pass.
          logits_to_keep: scores of so many last positions; 0: all.
        """
        x_BTD = self.embed(input_ids, pixel_values) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        B, T = x_BTD.shape[:2]
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if attention_mask is not None and attention_mask.shape != (B, past + T):
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}, wanted is"
                f" {(B, past + T)}: rows, cached and new positions"
            )
        if attention_mask is not None and attention_mask.all():
            attention_mask = None
        shared = self._shared(
            T, past, attention_mask, position_ids, prompt_lengths, B=B, device=x_BTD.device
        )
        states = []
        for block in self.transformer["h"]:
            states.append(x_BTD)
            x_BTD = block(x_BTD, shared, past_key_values)
        x_BTD = self.transformer["ln_f"](x_BTD)
        states = (*states, x_BTD) if output_hidden_states else None
        logits = self.lm_head(x_BTD[:, -logits_to_keep:]).float()
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        output = CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=past_key_values, hidden_states=states
        )
        return output.to_tuple() if return_dict is False else output

    def _shared(self, T, past, attention_mask, position_ids, prompt_lengths, *, B, device) -> dict:
        """What all blocks of a pass have in common: rotations, scale of queries, visibility."""
        decoder = self.decoder_sizes
        if attention_mask is not None:
            positions = (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, past:]
        elif position_ids is not None:
            positions = position_ids.expand(B, T)
        else:
            positions = torch.arange(past, past + T, device=device).expand(B, T)
        alpha, q_scale = torch.ones(B, device=device), None
        beyond = int(positions.max()) >= decoder.train_length
        if beyond and not self.training:
            if past and prompt_lengths is None:
                raise ValueError(
                    f"beyond the training length of {decoder.train_length}, a pass with a cache"
                    " needs prompt_lengths: the rotary base is that of the prompt"
                )
            count = positions.float() + 1.0
            n = torch.tensor(float(decoder.train_length), device=device)
            scale = torch.where(count > n, count.log() / n.log(), torch.ones_like(count))
            q_scale = scale[:, None, :, None]
        if not self.training:
            lengths = positions.amax(1) + 1 if prompt_lengths is None else prompt_lengths
            alpha = ntk_alpha(lengths, decoder.train_length)
        mask = None
        if attention_mask is not None or (past and T > 1):
            keys = torch.arange(past + T, device=device)
            queries = keys[past:, None]
            mask = (keys <= queries)[None, None]
            if attention_mask is not None:
                mask = mask & attention_mask.bool()[:, None, None]
            # A padding position sees itself: a row of scores without a key would be NaN.
            mask = mask | (keys == queries)
        width = decoder.width // decoder.heads
        return {
            "rotations": rotations(positions, width, decoder.rope_base, alpha),
            "q_scale": q_scale,
            "mask": mask,
            "causal": mask is None and T > 1,
        }

    def generate(self, inputs: Tensor | None = None, generation_config=None, **kwargs):
        """As in transformers; prompts of a batch are padded on the left.

        Raises:
          ValueError: images and `<imgpad>` tokens of a row do not match, or padding on the right.
        """
        ids = kwargs.get("input_ids") if inputs is None else inputs
        if ids is not None:
            if kwargs.get("attention_mask") is None:
                kwargs["attention_mask"] = torch.ones_like(ids)
            mask = kwargs["attention_mask"]
            if not mask[:, -1].all():
                raise ValueError("generate: a prompt is padded on the right; pad on the left")
            self._check_images(ids, kwargs.get("pixel_values"))
            kwargs["prompt_lengths"] = mask.sum(1)
        return super().generate(inputs, generation_config, **kwargs)

    def _check_images(self, ids: Tensor, pixel_values: Tensor | None) -> None:
        queries = self.config.adapter_sizes.num_queries
        slots = 0 if pixel_values is None else pixel_values.shape[1]
        counts = (ids == self.decoder_sizes.image_pad_id).sum(1).tolist()
        wrong = [row for row, n in enumerate(counts) if n % queries or n > slots * queries]
        if not wrong and max(counts) < slots * queries:  # no row has images for all slots
            wrong = [counts.index(max(counts))]
        if wrong:
            raise ValueError(
                f"generate: row {wrong[0]} has {counts[wrong[0]]} <imgpad> tokens for {slots}"
                f" image slots of {queries} queries"
            )
