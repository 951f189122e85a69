"""The E2E NLG challenge (Novikova et al. 2017) as a suite: its test set, whose references are public.

Decoded as in LoRA's experiments, and so VeRA's. At Hugging Face the set is a program, which is never run, and a copy of its rows
that is made anew at times: what the items are is said by their digest, which the challenge's own testset_w_refs.csv has too.
"""

from __future__ import annotations

from hub.worker.suite_files import SuiteFile
from vera.data import TEXT_GENERATION

E2E = SuiteFile(
    name="e2e/nlg", title="How does it put the facts about a restaurant?", task=TEXT_GENERATION,
    data="tuetschek/e2e_nlg@refs/convert/parquet", folder="e2e/nlg", split="test",
    sha256="sha256:08577ddbe7691901e92a14987db61c1e6b9e0a1ce831b944c469bf77fbef59c5",
    metric="bleu", also=("nist", "meteor", "rouge_l", "cider"), beams=10, length_penalty=0.8, no_repeat_ngram=4,
)  # fmt: skip
