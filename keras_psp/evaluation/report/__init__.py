"""The HTML report of an evaluation: one page with its measures, images and mistakes."""

from keras_psp.evaluation.report.explaining import ExplainedExample, Explanations, explain_examples
from keras_psp.evaluation.report.images import Example
from keras_psp.evaluation.report.page import report_page

__all__ = ["Example", "ExplainedExample", "Explanations", "explain_examples", "report_page"]
