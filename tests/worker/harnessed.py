"""Task files of lm-evaluation-harness over data of this machine, and its own numbers of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM

from hub.worker import child, harness
from hub.worker.errors import SuiteError
from hub.worker.suite import Suite
from hub.worker.suite_files import read_suite
from hub.worker.suites import load_suite
from sdk.models.evaluations import Evaluation
from sdk.pushing import push_archive
from tests.tiny import WORDS
from tests.tiny_adapters import make_tiny
from tests.worker.lab import Lab, is_over
from vera import fingerprint
from vera.manifest import AdaptedModule
from vera.nn.attach import attach
from vera.nn.inputs import tokenizer_of
from vera.ref import AdapterRef

LLAMA_QUERY = "model.layers.0.self_attn.q_proj"
ROWS = [
    {"question": f"the {WORDS[n]} of the {WORDS[n + 3]}", "choices": [*WORDS[n : n + 3], "old blue bird"], "label": n % 4}
    for n in range(2, 14)
]  # fmt: skip
_MEAN = {"aggregation": "mean", "higher_is_better": True}
TASKS: dict[str, dict[str, Any]] = {
    "choosing": {
        "output_type": "multiple_choice", "doc_to_text": "near {{question}} :", "doc_to_choice": "{{choices}}",
        "doc_to_target": "label", "metric_list": [{"metric": "acc", **_MEAN}, {"metric": "acc_norm", **_MEAN}],
    },
    "writing": {
        "output_type": "generate_until", "doc_to_text": "{{question}}", "doc_to_target": "{{choices[label]}}",
        "generation_kwargs": {"until": ["old"], "max_gen_toks": 6, "do_sample": False},
        "metric_list": [{"metric": "exact_match", **_MEAN}],
    },
    "reading": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{question}} and the {{choices[3]}}",
        "metric_list": [
            {"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False},
            {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False},
        ],
    },
    "guessing": {
        "output_type": "loglikelihood", "doc_to_text": "{{question}}", "doc_to_target": " {{choices[label]}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}, {"metric": "acc", **_MEAN},
        ],
    },
}  # fmt: skip


def adapted(llama: Path) -> Any:
    base = fingerprint.of_files(llama)
    adapter = make_tiny(base, modules=(AdaptedModule(LLAMA_QUERY, 32, 32),))
    return attach(AutoModelForCausalLM.from_pretrained(llama).eval(), adapter, base)


def write_task(folder: Path, of: str, **changed: Any) -> Path:
    """A folder with the file of the task `of` TASKS and its data; the folder."""
    tasks = folder / "tasks"
    tasks.mkdir(exist_ok=True)
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    stated = {
        "task": of, "dataset_path": "json", "test_split": "test", "fewshot_split": "test",
        "dataset_kwargs": {"data_files": {"test": str(folder / "items.jsonl")}, "cache_dir": str(folder / "cache")},
        "metadata": {"version": 1.0}, **TASKS[of], **changed,
    }  # fmt: skip
    (tasks / f"{stated['task']}.yaml").write_text(yaml.safe_dump(stated))
    return tasks


def suite_file(folder: Path, task: str, **stated: Any) -> Path:
    values = {
        "name": f"harness/{task}", "title": "A task", "task": "text-generation", "data": "tasks", "harness": task,
        "harness_version": harness.version(), "max_length": 64, "batch_size": 4, **stated,
    }  # fmt: skip
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return path


def suite_of(folder: Path, task: str, **stated: Any) -> Suite:
    """The suite with the sha256 that it asks for."""
    path = suite_file(folder, task, **stated)
    with pytest.raises(SuiteError, match="does not say the sha256") as said:
        load_suite(read_suite(path))
    digest = str(said.value).partition("`sha256: ")[2].rstrip("`")
    return load_suite(read_suite(suite_file(folder, task, sha256=digest, **stated)))


def own_numbers(model: Any, tasks: Path, task: str, **options: Any) -> dict[str, Any]:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    own: Any = HFLM(pretrained=model, tokenizer=tokenizer_of(model), batch_size=3, max_length=64)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    found: Any = lm_eval.simple_evaluate(own, tasks=[task], task_manager=manager, bootstrap_iters=0, **options)
    return dict(found)


def answered(model: Any, suite: Suite, folder: Path) -> Any:
    outputs = child.answers(model, suite.request(folder), 4)
    return suite.results({"outputs": outputs, "environment": {}})


def scored_at_a_hub(llama: Path, suite: Suite, folder: Path) -> Evaluation:
    """What becomes of the same adapter, pushed to a hub whose worker has the suite."""
    lab = Lab(folder, llama)
    with lab.http:
        lab.worker.suites = {suite.name: suite}
        lab.worker.hub.register_worker("w", [suite.declaration()], key=lab.worker.key)
        adapter = make_tiny(lab.base, modules=(AdaptedModule(LLAMA_QUERY, 32, 32),))
        pushed = push_archive(lab.user, adapter, AdapterRef("demo", "tiny"))
        asked = lab.user.request_evaluation(pushed.version.ref, suite.name).id
        lab.start_worker()
        try:
            done = lab.wait(asked, is_over)
        finally:
            lab.stop_worker()
    return done
