"""Load an adapter from the hub onto a base and ask it something."""

import sys

import sdk

model = sdk.load("sentence-transformers/all-MiniLM-L6-v2", sys.argv[1])
print(model.vera)  # what was proven before the first answer
for text in ["How do I sort a list in Python?", "Who won the world cup?", "I feel lonely today"]:
    print(f"  {model.classify([text])[0]:<14} {text}")
