"""The method measured on real models and public tasks: experiments, the runner, and the tables of docs/results.md.

glue.yaml …       what is measured: models × tasks × methods × seeds
experiments       such a file, checked, as the cells it stands for
places            where a model or a set lies on this machine
cells             one cell: train it with vera.nn.experiment, and what it gave
kept              finished cells on disk
run               all cells, several at once on one device, resumable
publish           finished cells into docs/results: numbers, and the adapters small enough
table             docs/results.md from those numbers
rescore           `make results`: the adapters scored again, against the numbers
"""
