"""nbgrader for instructors: `solutions/` as the source of an assignment.

With this file in the course directory, `nbgrader generate_assignment` releases the
same exercise as the one in `exercises/`: without the reasoning, with a blank to fill.
"""

from nbconvert.preprocessors import TagRemovePreprocessor
from nbgrader.converters import GenerateAssignment

from casebook.author.exercises import REASONING_TAG, STUB

c = get_config()  # noqa: F821 - given by traitlets when it reads this file
c.ClearSolutions.code_stub = {"python": STUB}
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = {REASONING_TAG}
c.GenerateAssignment.preprocessors = [
    TagRemovePreprocessor,
    *GenerateAssignment.preprocessors.default(),
]
c.Execute.timeout = 120  # seconds for a cell; nbgrader's default is 30
