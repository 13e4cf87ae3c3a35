"""The demo model's corpus, recall documents, tokenizer and committed files. Nothing here trains or imports torch."""

import json
import re
from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer

from xpod_model.demo import corpus, demo_path, recall, tokenizer
from xpod_model.demo.recall import FORMATS, Case


@pytest.fixture(scope="module")
def vocabulary() -> Tokenizer:
    return tokenizer.load(demo_path())


def filler(rng: Random) -> list[str]:
    return [f"line_{rng.randrange(10)} = None\n"] * 30


def small_library(root: Path) -> Path:
    for name in ("a.py", "pkg/b.py", "test/test_a.py", "site-packages/c.py", "encodings/d.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f'"""The file {name}."""\n')
    return root


def test_sources_are_in_order_and_leave_out_tests_tables_and_other_peoples_packages(tmp_path: Path) -> None:
    assert [source.name for source in corpus.sources(small_library(tmp_path))] == ["a.py", "pkg/b.py"]


def test_the_split_is_fixed_and_a_twentieth_is_held_out() -> None:
    names = [f"package/module_{i}.py" for i in range(2000)]
    assert [corpus.held_out(name) for name in names] == [corpus.held_out(name) for name in names]
    assert 60 <= sum(map(corpus.held_out, names)) <= 140


def test_train_and_held_out_code_share_no_file() -> None:
    train = {source.name for source in corpus.code(held=False)}
    held = {source.name for source in corpus.code(held=True)}
    assert held
    assert train
    assert not train & held
    assert train | held == {source.name for source in corpus.sources()}


def test_entries_carry_docstring_signature_and_code() -> None:
    text = '"""Top."""\n\nclass A:\n    """A class."""\n\n    def f(self, x=1):\n        """Doc."""\n        return x\n'
    top, a, f = corpus.entries(corpus.Source("pkg/__init__.py", text))
    assert (top.name, a.name, f.name) == ("pkg", "pkg.A", "pkg.A.f")
    assert f.signature == "f(self, x=1)"
    assert f.code == 'def f(self, x=1):\n    """Doc."""\n    return x'


@pytest.mark.parametrize("seed", range(40))
def test_every_answer_of_a_recall_document_is_the_value_its_key_was_bound_to(seed: int) -> None:
    text = recall.document(Random(seed), filler, 30)
    assert text == recall.document(Random(seed), filler, 30)
    form = max(FORMATS, key=lambda f: bound(f, text) is not None)
    pairs = bound(form, text)
    assert pairs
    lines = [recall.asked(form, key, value) for key, value in pairs.items()]
    prompts = [form.ask.format(k=key) for key in pairs]
    assert sum(text.count(prompt + " ") for prompt in prompts) == sum(text.count(line) for line in lines) > 0


def bound(form: recall.Format, text: str) -> dict[str, str] | None:
    """The bindings that `text` holds in `form`, if it asks for one of them."""
    escaped = re.escape(form.define).replace(r"\{k\}", r"(\w+)").replace(r"\{v\}", r"(\w+)")
    pairs = dict(re.findall("^" + escaped if form.name != "chat" else escaped, text, re.MULTILINE))
    return pairs if any(form.ask.format(k=key) in text for key in pairs) else None


def test_cases_keep_the_gap_and_hold_the_answer(vocabulary: Tokenizer) -> None:
    found = recall.cases(7, filler, lambda text: len(vocabulary.encode(text).ids), each=1)
    assert len(found) == len(recall.GAPS) * len(FORMATS) * 2
    assert all(answer_of(case) in case.prompt for case in found)
    for case in found:
        assert case.gap <= case.bucket or case.format == "chat"
        assert len(vocabulary.encode(case.prompt + case.answer).ids) <= 2048


def answer_of(case: Case) -> str:
    form = next(form for form in FORMATS if form.name == case.format)
    key = next(k for k in candidates(form, case.prompt) if case.prompt.endswith(form.ask.format(k=k)))
    return form.define.format(k=key, v=case.answer.strip())


def candidates(form: recall.Format, prompt: str) -> list[str]:
    return sorted(bound(form, prompt) or {}, key=len, reverse=True)


def test_prompt_and_answer_may_be_encoded_apart(vocabulary: Tokenizer) -> None:
    for case in recall.cases(3, filler, len, each=1):
        apart = vocabulary.encode(case.prompt).ids + vocabulary.encode(case.answer).ids
        assert apart == vocabulary.encode(case.prompt + case.answer).ids


@pytest.mark.parametrize(
    "text", ["def f():\n    return x\n", "\t\u00e9\u4e2d\U0001f600  \n", "k31 = v70", "a\r\nb"]
)
def test_the_tokenizer_gives_back_what_it_got(vocabulary: Tokenizer, text: str) -> None:
    assert vocabulary.decode(vocabulary.encode(text).ids) == text


def test_special_tokens_come_first_and_a_digit_is_a_token(vocabulary: Tokenizer) -> None:
    assert [vocabulary.token_to_id(token) for token in tokenizer.SPECIAL] == [0, 1, 2, 3]
    assert vocabulary.encode("123").tokens == ["1", "2", "3"]
    assert vocabulary.get_vocab_size() == tokenizer.VOCABULARY


def test_the_checkpoint_is_whole_small_and_described() -> None:
    folder = demo_path()
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen3MoeForCausalLM"]
    assert config["vocab_size"] == tokenizer.VOCABULARY
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    assert (folder / "model.safetensors").stat().st_size <= 40_000_000
    assert {"README.md", "tokenizer.json", "chat_template.jinja"} <= {path.name for path in folder.iterdir()}
    assert "Python Software Foundation" in (folder.parent / "NOTICE").read_text()


def test_the_chat_template_writes_what_the_corpus_writes() -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    source = (demo_path() / "chat_template.jinja").read_text()
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert template.render(messages=messages) == corpus.chat(turns)
    asked = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    prompt = template.render(messages=asked, add_generation_prompt=True)
    assert prompt == corpus.chat([("user", "Hi")]) + "<|im_start|>assistant\n"
