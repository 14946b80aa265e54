#!/usr/bin/env python3
"""A small example of a trainer for `understudy specialise`: LoRA, QLoRA or full, on transformers and peft.

    pip install torch transformers peft        # 5.6 GB; for method qlora also bitsandbytes and a GPU
    understudy specialise TASK --base Qwen/Qwen2.5-0.5B-Instruct \\
        --trainer 'python deploy/train/lora.py --recipe {recipe} --data {data} --out {out}'

Reads recipe.json and train.jsonl (validation.jsonl, where there is one), learns the answers and not the prompts, and leaves
adapters, or with method full a whole model, in --out. Nobody's best trainer: it shows what the recipe means. It is not run
in CI, for the size of what it needs.
"""

import argparse
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    Trainer,
    TrainingArguments,
    set_seed,
)

# Where neither the recipe nor the model says how long an example may be.
MAX_TOKENS = 4096
# The label of tokens that are not learnt.
IGNORED = -100


def messages_of(line):
    """The messages before the answer, and the answer, of either shape of line."""
    if "prompt" in line:
        return line["prompt"], line["completion"][0]
    return line["messages"][:-1], line["messages"][-1]


def for_template(message):
    """Chat templates want arguments as objects, and text where OpenAI has null."""
    message = dict(message, content=message.get("content") or "")
    if message.get("tool_calls"):
        message["tool_calls"] = [
            dict(call, function=dict(call["function"], arguments=json.loads(call["function"]["arguments"] or "{}")))
            for call in message["tool_calls"]
        ]
    return message


def example(line, tokenizer, most):
    """Tokens of prompt and answer; only the answer's are learnt. None where it is too long."""
    prompt, answer = messages_of(line)
    prompt, answer = [for_template(message) for message in prompt], for_template(answer)
    tools = line.get("tools") or None
    asked = tokenizer.apply_chat_template(prompt, tools=tools, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*prompt, answer], tools=tools, tokenize=False)
    # A template that writes the prompt otherwise once it is answered can't be cut there.
    if not whole.startswith(asked):
        raise SystemExit("this model's chat template changes the prompt when the answer follows: use another trainer")
    prompt_ids = tokenizer(asked, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer(whole[len(asked):], add_special_tokens=False)["input_ids"]
    if len(prompt_ids) + len(answer_ids) > most:
        return None
    return {"input_ids": prompt_ids + answer_ids, "labels": [IGNORED] * len(prompt_ids) + answer_ids}


def examples(path, tokenizer, most):
    """All examples of a file that are short enough."""
    with path.open(encoding="utf-8") as file:
        found = [example(json.loads(line), tokenizer, most) for line in file]
    kept = [one for one in found if one is not None]
    print(f"{path.name}: {len(kept)} examples, {len(found) - len(kept)} too long", flush=True)
    return kept


def collator(padding):
    """Pads a batch on the right."""

    def collate(batch):
        longest = max(len(one["input_ids"]) for one in batch)

        def padded(key, with_):
            return torch.tensor([one[key] + [with_] * (longest - len(one[key])) for one in batch])

        lengths = torch.tensor([[len(one["input_ids"])] for one in batch])
        return {
            "input_ids": padded("input_ids", padding),
            "labels": padded("labels", IGNORED),
            "attention_mask": (torch.arange(longest)[None, :] < lengths).long(),
        }

    return collate


def model_of(recipe):
    """The base model, with adapters where the method has them."""
    quantised = recipe["method"] == "qlora"
    settings = {}
    if quantised:
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    model = AutoModelForCausalLM.from_pretrained(recipe["base"], **settings)
    if quantised:
        model = prepare_model_for_kbit_training(model)
    if recipe["method"] != "full":
        adapters = LoraConfig(
            r=recipe["rank"], lora_alpha=recipe["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        )
        model = get_peft_model(model, adapters)
        model.print_trainable_parameters()
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["recipe", "data", "out"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    paths = parser.parse_args()
    recipe = json.loads(paths.recipe.read_text(encoding="utf-8"))
    set_seed(recipe["seed"])
    tokenizer = AutoTokenizer.from_pretrained(recipe["base"])
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    most = recipe["max_tokens"] or MAX_TOKENS
    train = examples(paths.data / "train.jsonl", tokenizer, most)
    validation = paths.data / "validation.jsonl"
    validated = examples(validation, tokenizer, most) if validation.exists() else []
    arguments = TrainingArguments(
        output_dir=str(paths.out / "checkpoints"),
        num_train_epochs=recipe["epochs"],
        learning_rate=recipe["learning_rate"],
        per_device_train_batch_size=recipe["batch"],
        seed=recipe["seed"],
        logging_steps=10,
        save_strategy="epoch",
        eval_strategy="epoch" if validated else "no",
        report_to="none",
    )
    trainer = Trainer(
        model=model_of(recipe),
        args=arguments,
        train_dataset=train,
        eval_dataset=validated or None,
        data_collator=collator(padding),
    )
    # A run that was broken off goes on where it was.
    trainer.train(resume_from_checkpoint=any((paths.out / "checkpoints").glob("checkpoint-*")))
    trainer.save_model(str(paths.out))
    tokenizer.save_pretrained(str(paths.out))


if __name__ == "__main__":
    main()
