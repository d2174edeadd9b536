"""nbgrader for instructors: `solutions/` as the source of an assignment.

With this file in the course directory, `nbgrader generate_assignment` releases the
same exercise as the one in `exercises/`: without the reasoning, with a blank to fill.
"""

from nbconvert.preprocessors import TagRemovePreprocessor
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.preprocessors import DeduplicateIds

from casebook.author.exercises import REASONING_TAG, STUB
from casebook.author.submissions import RepairSubmission

c = get_config()  # noqa: F821 - given by traitlets when it reads this file
c.ClearSolutions.code_stub = {"python": STUB}
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = {REASONING_TAG}
c.GenerateAssignment.preprocessors = [
    TagRemovePreprocessor,
    *GenerateAssignment.preprocessors.default(),
]
c.Execute.timeout = 120  # seconds for a cell; nbgrader's default is 30

# What students do to their notebooks: copied cells, deleted cells.
steps = [*Autograde.sanitize_preprocessors.default()]
steps.insert(steps.index(DeduplicateIds) + 1, RepairSubmission)
c.Autograde.sanitize_preprocessors = steps
c.OverwriteCells.add_missing_cells = True
