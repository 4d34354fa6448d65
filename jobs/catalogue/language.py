"""Tasks on texts: their parameters and facts."""

from typing import Annotated

from pydantic import Field

from jobs.catalogue.task import Task
from jobs.params import BatchSize, Dropout, LearningRate, Params, TrainingParams
from jobs.spec import Objective

KOGPT2 = "skt/kogpt2-base-v2"

Name = Annotated[str, Field(min_length=1, max_length=1000)]
Prompt = Annotated[str, Field(max_length=100_000)]
Size = Annotated[int, Field(ge=1, le=1_000_000)]


class WritingParams(Params):
    """How texts are written: which of the likely next tokens is drawn, and how many."""

    temperature: float = Field(
        1.0, ge=0, le=100, description="below 1 likely tokens become likelier; 0: always the likeliest (greedy)"
    )
    top_k: int = Field(50, ge=0, le=1_000_000, description="draw among so many of the likeliest tokens; 0: all")
    top_p: float = Field(1.0, gt=0, le=1, description="draw among the likeliest tokens that together are so likely")
    repetition_penalty: float = Field(
        1.0, gt=0, le=100, description="above 1 tokens that stand in the text already become less likely"
    )
    max_length: Size = Field(64, description="tokens of a text, its prompt among them")


class KoGpt2Params(WritingParams):
    model: Name = Field(KOGPT2, description="a causal language model: a folder, a data set or a name on the hub")
    tokenizer: Name | None = Field(None, description="folder, data set or name on the hub; null: the model's")
    fingerprint: str | None = Field(None, description="sha256 of model and tokenizer; filled in at submission")
    prompts: list[Prompt] = Field(
        ["안녕하세요", "오늘 날씨는", "근육이 커지기 위해서는"],
        min_length=1,
        max_length=10_000,
        description='how the texts begin; "" begins with the token for the begin of a text',
    )
    top_p: float = Field(0.95, gt=0, le=1, description="draw among the likeliest tokens that together are so likely")


class CausalLmParams(WritingParams, TrainingParams):
    data: Name | None = Field(None, description="your text: a file in UTF-8, or a data set of one text")
    fingerprint: str | None = Field(None, description="sha256 of the text; filled in at submission")
    model: Name | None = Field(
        None, description="fine-tune it: a folder, a data set or a name on the hub; null: a new GPT-2"
    )
    tokenizer: Name | None = Field(None, description="folder, data set or name on the hub; null: the model's")
    context: Size = Field(128, ge=2, description="tokens of one sample: so far back it sees")
    layers: int = Field(4, ge=1, le=1000, description="of a new GPT-2")
    heads: int = Field(4, ge=1, le=1000, description="of each layer of a new GPT-2; they share the width")
    width: int = Field(128, ge=1, le=65_536, description="numbers that stand for a token in a new GPT-2")
    dropout: Dropout = Field(0.1, description="where the network has dropout; none in attention")
    batch_size: BatchSize = Field(16, description="samples of one step, each of `context` tokens")
    lr: LearningRate = 0.001
    prompts: list[Prompt] = Field(
        [],
        max_length=10_000,
        description="at its end the best model writes on from these; none: from the first words of the validation part",
    )
    split_seed: None = Field(None, description="not used: a text is cut by place")


TASKS = (
    Task(
        name="kogpt2",
        summary="a language model, KoGPT2 or another, writes texts (generation; trains nothing)",
        params=KoGpt2Params,
        metrics=("perplexity", "distinct_1", "distinct_2", "repetition", "tokens_per_second"),
        objective=Objective(metric="val_distinct_2", mode="max"),
        epochs=1,
        module="jobs.tasks.kogpt2",
        prepare="jobs.language.prepare_writing",
        fixed_only=("model", "tokenizer", "fingerprint"),
        trains=False,
    ),
    Task(
        name="causal_lm",
        summary="your text: fine-tune a language model, or train a small GPT-2 (next token)",
        params=CausalLmParams,
        metrics=("perplexity",),
        objective=Objective(metric="val_perplexity", mode="min"),
        epochs=10,
        module="jobs.tasks.causal_lm",
        prepare="jobs.language.prepare_text",
        fixed_only=("data", "fingerprint", "model", "tokenizer"),
    ),
)
