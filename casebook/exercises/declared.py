"""What a declared question is made of: slips, parts and a prediction, as objects or as a text."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field

from casebook.exercises.code import names
from casebook.exercises.grading import BLANK
from casebook.exercises.kinds import Kind, Number


@dataclass(frozen=True)
class Slip:
    """A misconception: code that has it, and the reason that whoever gives it reads.

    Attributes
    ----------
    code : str or tuple of str
        Expressions (statements may stand before them) for what the misconception gives;
        ``right`` is what the right answer would be.
    says : str
        The reason, a template: ``{value}``, ``{right}``, the answers so far and all names of
        the question may stand in it, in expressions.
    when : str
        A condition on ``value`` for a whole family of answers, of which ``code`` is one. It is
        asked after all slips that are known by their value.
    form : str
        A condition on ``value`` as it was given, for a form that betrays its misconception
        (a matrix on its side). It is asked only where the answer cannot be read.
    """

    code: str | tuple[str, ...]
    says: str
    when: str = ""
    form: str = ""

    @property
    def codes(self) -> tuple[str, ...]:
        return (self.code,) if isinstance(self.code, str) else self.code

    @property
    def reason(self) -> str:
        """The longest piece of ``says`` that holds no expression."""
        return max((text for text, *_ in string.Formatter().parse(self.says)), key=len).strip()


def slips(text: str) -> list[Slip]:
    """Read slips from a text: each with its code, a line for each way to it, and what it says.

    Parameters
    ----------
    text : str
        Code stands at the margin. What is said stands below it, indented by two spaces; its lines
        are joined. A first one ``when: …`` or ``form: …`` is the condition of a :class:`Slip`.

    Raises
    ------
    ValueError
        If a slip has no code or says nothing.

    Examples
    --------
    >>> slips('''
    ... 100 * right
    ...   when: value > 1
    ...   Give a share
    ...   between 0 and 1.
    ... ''')
    [Slip(code='100 * right', says='Give a share between 0 and 1.', when='value > 1', form='')]
    """
    found: list[Slip] = []
    for code, said in re.findall(r"((?:^\S.*\n)*)((?:^ .*\n)*)", f"{text}\n", re.MULTILINE):
        codes, says = code.splitlines(), " ".join(line.strip() for line in said.splitlines())
        if bool(codes) != bool(says):
            raise ValueError(
                f"a slip is code and, indented below it, what it says: {code + said!r}."
            )
        condition = re.match(r"  (when|form): (.*)\n", said)
        if condition:
            says = says.removeprefix(f"{condition[0].strip()} ")
        if codes:
            one = codes[0] if len(codes) == 1 else tuple(codes)
            found.append(Slip(one, says, **({condition[1]: condition[2]} if condition else {})))
    return found


@dataclass(frozen=True)
class Part:
    """One of the answers that a question asks for.

    Attributes
    ----------
    name, right : str
        The name that the reader assigns, and code for its value.
    slips : sequence of Slip
        Each with a reason of its own.
    otherwise : str
        Said of any other value, a template as in :class:`Slip`.
    kind : Number, Numbers, Labels, Column, Groups, Word, Table or Function
        What the answer is, with its tolerance.
    also : sequence of str
        Code for the right answer by other methods or in other forms.
    accepts : str
        A condition on ``value``, where more than one value is right.
    """

    name: str
    right: str
    slips: Sequence[Slip]
    otherwise: str
    kind: Kind = field(default_factory=Number)
    also: Sequence[str] = ()
    accepts: str = ""


def parts(text: str, **kinds: Kind) -> list[Part]:
    """Read the parts of a question from a text.

    Parameters
    ----------
    text : str
        A part begins with a line ``name = code``, which gives what is right. It is written like a
        slip, and its slips follow, as in :func:`slips`: further lines of code are
        :attr:`Part.also`, ``when: …`` is :attr:`Part.accepts`, and what is said below it is
        :attr:`Part.otherwise`.
    **kinds : Number, Numbers, Labels, ...
        By the part's name; by default a :class:`Number`.

    Raises
    ------
    ValueError
        If the text begins with no part, a right answer has a form, or a kind has no part.

    Examples
    --------
    >>> [part] = parts('''
    ... middle = trips.median()
    ... sorted(trips)[1]
    ...   {value:g} is not in the middle.
    ... trips.mean()
    ...   This is the mean.
    ... ''')
    >>> part.name, part.right, part.also
    ('middle', 'trips.median()', ('sorted(trips)[1]',))
    >>> part.otherwise, [slip.code for slip in part.slips]
    ('{value:g} is not in the middle.', ['trips.mean()'])
    """
    before, *blocks = re.split(r"^(?=[A-Za-z_]\w* = )", text, flags=re.MULTILINE)
    if before.strip() or not blocks:
        raise ValueError(f"parts begin with `name = code`: {(before or text)[:60]!r}.")
    found = []
    for block in blocks:
        right, *wrong = slips(block)
        if right.form:
            raise ValueError(f"what is right has no `form: …`: {block[:60]!r}.")
        name, code = right.codes[0].split(" = ", 1)
        kind, also = kinds.pop(name, Number()), right.codes[1:]
        found.append(Part(name, code, wrong, right.says, kind, also, right.when))
    if kinds:
        raise ValueError(f"there is no part {names(kinds)}.")
    return found


def written(text: str, **words: str) -> str:
    """Return a text in which words stand for longer pieces, for parts that are alike.

    Parameters
    ----------
    text : str
        As for :func:`parts`.
    **words : str
        What stands in the place of each, put in one after the other: the piece for one word may
        hold those after it.

    Examples
    --------
    >>> written("best_METRIC = SCORE(steps)", METRIC="rmse", SCORE="rmse")
    'best_rmse = rmse(steps)'
    """
    for word, piece in words.items():
        text = text.replace(word, piece)
    return text


@dataclass(frozen=True)
class Prediction:
    """A guess before the measurement: it has a place to be written and costs nothing.

    Attributes
    ----------
    name : str
        The name that the reader assigns.
    options : tuple of str
        What may be written.
    right : str
        Code for the option that comes true.
    says : str
        Why, a template: told with the right answer.
    """

    name: str
    options: tuple[str, ...]
    right: str
    says: str

    def told(self, answer: object, came_true: str, why: str) -> str:
        """Return what is said of the prediction once the answer is right."""
        guess = answer.strip().casefold() if isinstance(answer, str) else ""
        if answer is BLANK:
            return f"You wrote no prediction; “{came_true}” comes true. {why}"
        guess = {option.casefold(): option for option in self.options}.get(guess)
        if guess is None:
            options = " or ".join(f'"{option}"' for option in self.options)
            return f"`{self.name}` should be {options}; “{came_true}” comes true. {why}"
        if guess == came_true:
            return f"You predicted it: “{came_true}”. {why}"
        return f"You predicted “{guess}”, but “{came_true}” comes true. {why}"
