"""How good a model's alpha mattes are: `mattehorn evaluate` and `mattehorn compare`.

metrics.py defines the scores, evaluation_set.py finds photos with their truth, evaluate.py scores one model over them,
compare.py two models side by side; tables.py and sheet.py show the result. docs/evaluation.md says how to read it.
"""
