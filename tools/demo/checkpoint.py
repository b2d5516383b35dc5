"""The checkpoint's layout: tokenizer, chat template, picture processor and model, saved as a hub checkpoint is.

Token ids differ from the real Gemma 3's on purpose, so that nothing can hard-code them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaTokenizer,
    GenerationConfig,
    SiglipVisionConfig,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from demo import words

#: Ids 0 to 8, in this order; `<image_soft_token>` comes last of all, as in the real vocabulary.
FIRST_SPECIALS = (
    "<unk>", "<bos>", "<pad>", "<eos>", "<end_of_image>", "<start_of_image>", "<end_of_turn>", "<start_of_turn>",
    "<mask>",
)  # fmt: skip
IMAGE_SOFT_TOKEN = "<image_soft_token>"
TOKENIZER_SIZE = 2040
#: The embedding has a few rows more than the tokenizer has pieces, as the real one has.
VOCABULARY_ROWS = 2048
CONTEXT_TOKENS = 8192
IMAGE_SIDE = 64
TOKENS_PER_IMAGE = 16

CHAT_TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""


def build_tokenizer() -> GemmaTokenizer:
    """A BPE like Gemma's (spaces as `▁`, digits alone, every byte a piece of its own), learnt from `words.corpus()`."""
    blueprint = Tokenizer(models.BPE())
    blueprint.normalizer = normalizers.Replace(" ", "▁")
    blueprint.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("▁", behavior="merged_with_next"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(behavior="isolated"),
            pre_tokenizers.Split("\n", behavior="isolated"),
        ]
    )
    specials = list(FIRST_SPECIALS)
    byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    reserved = len(specials) + len(byte_pieces) + len(("\n\n", "▁▁", IMAGE_SOFT_TOKEN))
    alphabet = [chr(code) for code in range(0x21, 0x7F)] + ["▁", "\n", "\t"]
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENIZER_SIZE - reserved, initial_alphabet=alphabet, min_frequency=1, show_progress=False
    )
    blueprint.train_from_iterator(words.corpus(), trainer)
    learnt = models_of(blueprint)
    merges = [("\n", "\n"), ("▁", "▁"), *learnt["merges"]]
    pieces = sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)
    ordered = [*specials, *byte_pieces, "\n\n", "▁▁", *pieces, IMAGE_SOFT_TOKEN]
    if len(ordered) != TOKENIZER_SIZE:
        raise ValueError(f"the corpus gave {len(ordered)} pieces in place of {TOKENIZER_SIZE}")
    tokenizer = GemmaTokenizer(
        vocab={piece: index for index, piece in enumerate(ordered)},
        merges=merges,
        extra_special_tokens={
            "image_token": IMAGE_SOFT_TOKEN,
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "sot_token": "<start_of_turn>",
            "eot_token": "<end_of_turn>",
        },
        model_max_length=CONTEXT_TOKENS,
        add_bos_token=True,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    return tokenizer


def models_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """The learnt vocabulary (piece to id) and merges (pairs, first learnt first) of a BPE tokenizer."""
    import json

    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def build_processor() -> Gemma3Processor:
    """Tokenizer, chat template and picture processor in one, as the hub's `Gemma3Processor`."""
    pictures = Gemma3ImageProcessorPil(
        size={"height": IMAGE_SIDE, "width": IMAGE_SIDE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        rescale_factor=1 / 255,
        do_pan_and_scan=None,
        image_seq_length=TOKENS_PER_IMAGE,
    )
    return Gemma3Processor(
        image_processor=pictures,
        tokenizer=build_tokenizer(),
        chat_template=CHAT_TEMPLATE,
        image_seq_length=TOKENS_PER_IMAGE,
    )


def build_config(tokenizer: GemmaTokenizer) -> Gemma3Config:
    """Gemma 3's shape scaled down: sliding and full layers, grouped heads, two RoPE bases, a SigLIP tower."""
    ids = {piece: tokenizer.convert_tokens_to_ids(piece) for piece in (*FIRST_SPECIALS, IMAGE_SOFT_TOKEN)}
    text = Gemma3TextConfig(
        vocab_size=VOCABULARY_ROWS,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        max_position_embeddings=CONTEXT_TOKENS,
        sliding_window=64,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
        sliding_window_pattern=3,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
        },
        pad_token_id=ids["<pad>"],
        bos_token_id=ids["<bos>"],
        eos_token_id=ids["<eos>"],
    )
    vision = SiglipVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=IMAGE_SIDE,
        patch_size=8,
        vision_use_head=False,
    )
    return Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=TOKENS_PER_IMAGE,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids[IMAGE_SOFT_TOKEN],
        pad_token_id=ids["<pad>"],
        bos_token_id=ids["<bos>"],
        eos_token_id=[ids["<eos>"], ids["<end_of_turn>"]],
    )


def build_model(config: Gemma3Config) -> Gemma3ForConditionalGeneration:
    """A fresh model in float32, initialised for a short training.

    The projector, which transformers leaves at zero, gets random weights; the embedding is larger and each layer's
    contribution smaller than by default, and attention starts sharper.
    """
    config._attn_implementation = "sdpa"
    model = Gemma3ForConditionalGeneration(config).float()
    with torch.no_grad():
        projection = model.model.multi_modal_projector.mm_input_projection_weight
        projection.normal_(std=config.vision_config.hidden_size**-0.5)
        model.model.language_model.embed_tokens.weight.normal_(std=0.05)
        for layer in model.model.language_model.layers:
            layer.post_attention_layernorm.weight.fill_(-0.5)
            layer.post_feedforward_layernorm.weight.fill_(-0.5)
            layer.self_attn.q_norm.weight.fill_(0.5)
            layer.self_attn.k_norm.weight.fill_(0.5)
    return model


def load_model(folder: Path) -> Gemma3ForConditionalGeneration:
    """The model of a saved checkpoint, in float32."""
    model: Gemma3ForConditionalGeneration = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model


def save_checkpoint(
    model: Gemma3ForConditionalGeneration, state: dict[str, torch.Tensor], processor: Gemma3Processor, folder: Path
) -> None:
    """Write `state` in bf16 under `model`'s shape, with all a hub checkpoint has beside it, replacing `folder` at once.

    `state` is a state dict of `model`; `model` itself is left as it is.
    """
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    rounded = Gemma3ForConditionalGeneration(model.config)
    rounded.load_state_dict(state)
    rounded.to(torch.bfloat16)
    tokenizer = processor.tokenizer
    rounded.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
        top_k=64,
        top_p=0.95,
    )
    rounded.save_pretrained(fresh)
    processor.save_pretrained(fresh)
    # The hub's checkpoints carry the picture processor's settings in a file of their own as well.
    processor.image_processor.save_pretrained(fresh)
    for file in fresh.iterdir():
        file.chmod(0o644)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
