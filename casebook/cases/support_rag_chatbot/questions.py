"""Questions of exercise 16: fusion, a threshold, a judge, chunks, a leak, a cache, containment.

The texts are frozen: see :mod:`casebook.cases.support_rag_chatbot.exercise_data` for what a
student's seed draws.
"""

from __future__ import annotations

from functools import partial

from casebook.cases.support_rag_chatbot import exercise_data as data
from casebook.exercises.asked import (
    Column,
    Exercise,
    Function,
    Groups,
    Number,
    Numbers,
    Part,
    Prediction,
    Slip,
    Table,
    Word,
)

exercise = Exercise(
    "16_support_rag_chatbot",
    data.SEED,
    given={
        "words": lambda seed: data.runs(seed=seed)[0],
        "vectors": lambda seed: data.runs(seed=seed)[1],
        "judged_pairs": lambda seed: data.english(seed),
        "desk": data.answered,
        "verdicts": data.verdicts,
        "sentences": data.sentences,
        "ranked": lambda seed: partial(data.ranked, seed=seed),
        "windows": lambda seed: data.windows,
        "past": data.past,
        "relevant": data.relevant,
        "first_right": lambda seed: data.first_right,
        "versions": data.versions,
        "served": lambda seed: data.served(seed=seed),
        "contacts": data.contacts,
    },
)

EXACT = Number(1e-9)

q1 = exercise.asked(
    1,
    "`fuse`, a function, and `deepest` and `largest_k`, two whole numbers",
    setup="""
from casebook.cases.support_rag_chatbot.exercise_data import KEYS, hidden_runs
from casebook.retrieval.evaluate import per_query
from casebook.retrieval.fusion import reciprocal_rank_fusion, rerank_by
shown = [run[run["query_id"] <= words["query_id"].unique()[9]] for run in (words, vectors)]
cases = [(*shown, 60), (*hidden_runs(), 5)]
def by(points, how="sum"):  # a fusion that gives each row of a list some points
    def fusion(first, second, k=60):
        rows = [run[KEYS].assign(score=points(run, k)) for run in (first, second)]
        return pd.concat(rows).groupby(KEYS)["score"].agg(how).reset_index()
    return fusion
rrf = by(lambda run, k: 1 / (k + run["rank"]))
def lends(rank):  # a fusion that lends a rank, by the last one, to what a list did not find
    def fusion(first, second, k=60):
        pairs = pd.concat([first, second])[KEYS].drop_duplicates()
        def points(run):
            last = pairs["query_id"].map(run.groupby("query_id")["rank"].max()).fillna(0)
            found = pairs.merge(run, on=KEYS, how="left")["rank"].to_numpy()
            return 1 / (k + np.where(np.isnan(found), rank(last), found))
        return pairs.assign(score=points(first) + points(second))
    return fusion
def proportional(value, right):  # the same scores in another unit
    ratios = [v["score"] / r["score"] for v, r in zip(value, right) if v[KEYS].equals(r[KEYS])]
    ratio = pd.concat(ratios) if len(ratios) == len(right) else pd.Series([0.0])
    return ratio.min() > 0 and ratio.max() / ratio.min() < 1 + 1e-6
def rows_too_few(value, right):
    return sum(map(len, right)) - sum(map(len, value))
def ndcg(run):
    return per_query(run, judged_pairs)["ndcg"].mean()
""",
    parts=[
        Part(
            "fuse",
            "lambda a, b, k=60: reciprocal_rank_fusion([a, b], k=k)[[*KEYS, 'score']]",
            [
                Slip(
                    "by(lambda run, k: run['score'])",
                    "This adds the scores themselves. A BM25 score of 12 and a cosine of 0.6 have "
                    "no common unit: the list with the larger numbers decides alone. Only the "
                    "ranks may count.",
                ),
                Slip(
                    "by(lambda run, k: 1 / (k + run['rank'] - 1))",
                    "Ranks are counted from 0 here. The column counts them from 1, as the paper "
                    "does; nothing has to be taken away.",
                ),
                Slip(
                    "lambda a, b, k=60: rrf(a, b, k).merge(a[KEYS]).merge(b[KEYS])",
                    "This keeps only what both lists found. The point of two lists is what one of "
                    "them missed: an outer join, not an inner one.",
                ),
                Slip(
                    "by(lambda run, k: 1 / (k + run['rank']), 'max')",
                    "This takes the better of the two ranks. Then it does not matter whether the "
                    "other list agrees; RRF *adds* what the lists give.",
                ),
                Slip(
                    "by(lambda run, k: 1 / (k + run['rank']), 'mean')",
                    "This is the mean over the lists that found a document. Then to be missed by "
                    "one list costs nothing. What a list did not find gets 0 from it.",
                ),
                Slip(
                    "lends(lambda last: 1)",
                    "A document that a list did not find has its rank 1 here. A default of 0 "
                    "*points* was meant, and not a default rank.",
                ),
                Slip(
                    "lends(lambda last: last + 1)",
                    "A document that a list did not find has the rank after its last one here. "
                    "Then a short list gives away more than a long one. What is not found gets "
                    "nothing.",
                ),
                Slip(
                    "by(lambda run, k: k + 1 / run['rank'])",
                    "The constant is added after the division. It belongs below the line: "
                    "1 / (k + rank).",
                ),
                Slip(
                    "by(lambda run, k: 1 / (60 + run['rank']))",
                    "This uses 60 whatever k it is given.",
                ),
            ],
            otherwise="These are other scores than 1 / (k + rank), added up over the lists"
            "{', and pairs of a question and a document are missing or too many' "
            "if rows_too_few(value, right) else ''}. The rows of a run may come in any order, and "
            "the lists may differ in length and in their questions: use the column `rank` and the "
            "pair of names, never the place of a row.",
            kind=Function("cases", returns=Table(("query_id", "doc_id"), 1e-6)),
            also=["rrf", "by(lambda run, k: 2 / (k + run['rank']))"],
            accepts="proportional(value, right)",
        ),
        Part(
            "deepest",
            "max(r for r in range(1, 500) if 2 / (60 + r) > 1 / 61)",
            [
                Slip("62", "At rank 62 both have the same score, 1 / 61. It has to be *higher*."),
                Slip(
                    "60",
                    "At rank 60 it is still ahead, and one further, too. Solve "
                    "2 / (60 + r) > 1 / 61.",
                ),
                Slip(
                    "10",
                    "10 is where these lists end. The question is where the arithmetic ends.",
                ),
                Slip(
                    "2",
                    "Rank 2 is what reciprocal ranks without a constant would give. The constant "
                    "of 60 flattens them.",
                ),
            ],
            otherwise="{value:g} is not it: alone at rank 1 a document has 1 / 61, at rank r in "
            "both lists 2 / (60 + r). Down to which whole r is the second more?",
            kind=EXACT,
        ),
        Part(
            "largest_k",
            "max(k for k in range(500) if 1 / (k + 1) > 2 / (k + 10))",
            [
                Slip("8", "At k = 8 both have 1 / 9. The first place alone has to be *ahead*."),
                Slip(
                    "60",
                    "At 60 the first place alone has 1 / 61, and the two tenth ones have 2 / 70: "
                    "more.",
                ),
                Slip(
                    "0",
                    "At k = 0 the first place alone wins, by far. It does for some larger ones, "
                    "too.",
                ),
            ],
            otherwise="{value:g} is not it: compare 1 / (k + 1) with 2 / (k + 10) and keep the "
            "largest whole k at which the first is more.",
            kind=EXACT,
        ),
    ],
    prediction=Prediction(
        "guess_1",
        ("better", "worse"),
        "'better' if ndcg(rerank_by(fuse(words, vectors, 60))) > "
        "max(ndcg(words), ndcg(vectors)) else 'worse'",
        "The nDCG@10 of the fusion is {ndcg(rerank_by(fuse(words, vectors, 60))):.2f}, of "
        "`vectors` alone {ndcg(vectors):.2f}, of `words` {ndcg(words):.2f}.",
    ),
    shows="At k = 60 two votes beat one down to rank {deepest:.0f}: with lists of 10, whatever "
    "both hold ranks above what one holds. Only with k up to {largest_k:.0f} does a first place "
    "alone win against two tenth ones.",
    hints=(
        "What has no common unit must not be added. Ranks have one. And a document that a list "
        "does not hold has no rank there at all: what should it get?",
        "Give each row 1 / (k + rank), put the two runs below each other, and add up by question "
        "and document. For the numbers, write both scores down and solve the inequality.",
        "2 / (60 + r) > 1 / 61 holds as long as r < 62; 1 / (k + 1) > 2 / (k + 10) as long as "
        "k < 8.",
    ),
)

q2 = exercise.asked(
    2,
    "`break_even`, `threshold` and `saved`, three numbers",
    setup="""
from casebook.cases.support_rag_chatbot.exercise_data import cheapest as best
def bill(rows, cut, wrong=7.50):  # a wrong answer costs both 5.20 + 4.60 − 2.30
    told = np.where(rows["right"], 0.30, wrong)
    return 100 * np.where(rows["margin"] >= cut, told, 4.50).mean()
def even(wrong=7.50, person=4.50):
    return (wrong - person) / (wrong - 0.30)
choose, rest = (desk[desk["part"] == part] for part in ("choose", "judge"))
def given(rows, cut):
    return (rows["margin"] >= cut).mean()
""",
    parts=[
        Part(
            "break_even",
            "even()",
            [
                Slip(
                    "0.5",
                    "One half would be right if a wrong answer cost a person more just as much as "
                    "a right one saves. Here it costs 3.00 more and saves 4.20.",
                ),
                Slip(
                    "even(5.20)",
                    "This looks at the carrier's own bill. The customer who believes a wrong "
                    "answer loses money as well, and the question asks for both.",
                ),
                Slip(
                    "even(5.20 + 4.60)",
                    "This counts the goodwill twice. It leaves the carrier's pocket and arrives "
                    "in the customer's: of the two together it costs nothing.",
                ),
                Slip(
                    "1 - even()",
                    "This is the probability of being *wrong* at which both cost the same. The "
                    "question asks for that of being right.",
                ),
                Slip(
                    "0.30 / (0.30 + 7.50)",
                    "This weighs a right answer against a wrong one. The choice is between an "
                    "answer, right or wrong, and a *person*, who costs 4.50.",
                ),
                Slip("even(person=0)", "People do not work for nothing: handing over costs 4.50."),
                Slip(
                    "1 - (4.50 - 0.30) / 7.50",
                    "This adds the price of a wrong answer to that of a right one: only one of "
                    "the two happens. The right answer's 0.30 has weight p, not 1.",
                ),
            ],
            otherwise="{value:.4g} is not it: p · 0.30 + (1 − p) · (what a wrong answer costs "
            "both) = 4.50. What does a wrong answer cost the two of them together?",
            also=["3 / 7.2"],
        ),
        Part(
            "threshold",
            "best(choose)",
            [
                Slip(
                    "even()",
                    "This takes the break-even for a margin. The margin is no probability: nobody "
                    "has taught it that 0.4 should be right in four cases of ten. Try cut-offs on "
                    "the rows to choose on, or learn probabilities there first.",
                ),
                Slip(
                    "best(choose, 5.20)",
                    "This has the lowest bill of the carrier alone. The customer's loss decides "
                    "as well.",
                ),
                Slip("best(rest)", "This has been chosen on the rows that are to judge it."),
                Slip(
                    "best(desk)",
                    "This has been chosen on *all* rows, those that are to judge it among them. "
                    "Take only those with `part` choose.",
                ),
                Slip("0", "This answers everything."),
                Slip(
                    "0.9",
                    "This hands nearly everything over. The surest answers are worth giving.",
                    when="given(choose, value) < 0.05",
                ),
            ],
            otherwise="{value:.4g} costs {distinct(bill(choose, value), bill(choose, right))} euro "
            "for 100 questions of the part to choose on, and "
            "{distinct(bill(choose, right), bill(choose, value))} are possible. Answer where the "
            "margin is *at least* the threshold, and try every margin that occurs.",
            kind=Number(1e-6),
            accepts="bill(choose, value) <= bill(choose, right) + 1e-9",
        ),
        Part(
            "saved",
            "bill(rest, 0) - bill(rest, threshold)",
            [
                Slip(
                    "bill(choose, 0) - bill(choose, threshold)",
                    "This is what the threshold saves on the questions that chose it. They "
                    "flatter: take those of the other part.",
                ),
                Slip(
                    "bill(desk, 0) - bill(desk, threshold)",
                    "This is taken over both parts, and half of them chose the threshold.",
                ),
                Slip(
                    "bill(rest, 2) - bill(rest, threshold)",
                    "This is the saving against handing everything over. The question asks for "
                    "that against answering everything.",
                ),
                Slip(
                    "bill(rest, 0, 5.20) - bill(rest, threshold, 5.20)",
                    "This is the carrier's alone: of that alone, answering everything looks "
                    "better than it is.",
                ),
                Slip(
                    "bill(rest, 0, 9.80) - bill(rest, threshold, 9.80)",
                    "This counts the goodwill twice.",
                ),
                Slip("right / 100", "This is for one question; give it for 100."),
                Slip("-right", "The sign is turned: what is saved counts as positive."),
            ],
            otherwise="{value:.4g} is not it: the bill of answering everything minus the bill with "
            "your threshold, both on the rows with `part` judge, in euro for 100 questions.",
        ),
    ],
    prediction=Prediction(
        "guess_2",
        ("more", "less"),
        "'more' if given(desk, best(choose, 5.20)) > given(desk, threshold) else 'less'",
        "On its own bill the carrier would answer {given(desk, best(choose, 5.20)):.0%} of the "
        "questions, for both together {given(desk, threshold):.0%}.",
    ),
    shows="An answer pays from {break_even:.1%} on. On questions that did not choose it, the "
    "threshold answers {given(rest, threshold):.0%} and saves {saved:.0f} euro in 100 questions "
    "against answering everything, {bill(rest, 2) - bill(rest, threshold):.0f} against handing "
    "all over.",
    hints=(
        "Follow the money of a wrong answer: what does the carrier pay, what does the customer "
        "lose, and which euro appears in both columns?",
        "A wrong answer costs the two of them 5.20 + 4.60 − 2.30. The break-even is a probability "
        "and the margin is none, so the threshold has to be found on rows whose end is known.",
        "For every margin that occurs among the rows with `part` choose, add up 0.30, 7.50 or 4.50 "
        "for each question; the cheapest is the threshold. `saved` is then a difference of two "
        "bills on the rows with `part` judge.",
    ),
)

q3 = exercise.asked(
    3,
    "`position`, `both`, `corrected` and `half`, four numbers between 0 and 1",
    setup="""
person, read = verdicts["person"], verdicts["person"].notna()
first, second = verdicts["new_first"], verdicts["new_second"]
judged, same = (first + second) / 2, first[first == second]
gap = (person - judged)[read]
length = np.log2(verdicts["words_new"] / verdicts["words_old"])
def reach(x):  # half the width of a 95 % interval of a mean
    return 1.96 * x.std() / np.sqrt(len(x))
def fitted(*columns):  # people's word by regression on the judge's, and how far it reaches
    x = np.column_stack([np.ones(len(verdicts)), *columns]).astype(float)
    said = x @ np.linalg.lstsq(x[read], person[read], rcond=None)[0]
    return said.mean(), reach(person[read] - said[read])
strata = fitted(judged == 0.5, judged == 1)
lam = np.cov(person[read], judged[read])[0, 1] / judged[read].var() / (1 + read.mean())
rest = person[read] - lam * judged[read]
tuned = rest.mean() + lam * judged.mean(), reach(rest)
plain = judged.mean() + gap.mean(), reach(gap)
others = judged[~read].mean() + gap.mean(), plain[1]
known = plain, others, strata, tuned, fitted(judged), fitted(judged, length)
rates, halves = zip(*known, fitted(first, second, length))
slack, low, high = min(halves) / 8, 0.9 * min(halves), 1.1 * np.hypot(reach(gap), reach(judged))
""",
    parts=[
        Part(
            "position",
            "first.mean() - second.mean()",
            [
                Slip(
                    "second.mean() - first.mean()",
                    "The sign is turned: the new bot wins more often when it comes first.",
                ),
                Slip(
                    "right / 2",
                    "This is half of it: the distance of either order from the mean of both. The "
                    "question asks what moving from second to first place does.",
                ),
                Slip(
                    "first.mean() - 0.5",
                    "This compares the first order with one half. But the new bot need not be as "
                    "good as the old one: compare it with itself in the other place.",
                ),
                Slip(
                    "(first != second).mean()",
                    "This is the share of pairs whose verdict changed. Some of them changed "
                    "against the bias, by chance: count those against the others.",
                ),
                Slip("100 * right", "This is in points; give it as a share.", when="value > 1"),
            ],
            otherwise="{value:.4g} is not it: how much more often does the new bot win when its "
            "answer comes first than when the same answer comes second?",
            also=["(first - second).mean()"],
        ),
        Part(
            "both",
            "judged.mean()",
            [
                Slip(
                    "same.mean()",
                    "This drops the pairs on which the two orders differ. Those are the close "
                    "ones; what is left is not the same question, and exaggerates whatever the "
                    "judge leans to. A pair judged both ways is half a win.",
                ),
                Slip("first.mean()", "This is one order only, the one that helps the new bot."),
                Slip("second.mean()", "This is one order only, the one that helps the old bot."),
            ],
            otherwise="{value:.4g} is not the mean of the new bot's wins over both orders.",
        ),
        Part(
            "corrected",
            "judged.mean() + gap.mean()",
            [
                Slip(
                    "person.mean()",
                    "This is what people say of 300 pairs. That is fair, and throws away 2,100 "
                    "pairs that the judge has read. Let people measure the judge's error, and "
                    "take it from the mean over all.",
                ),
                Slip(
                    "judged.mean()",
                    "This is still the mean of both orders. Swapping takes away what depends on "
                    "the place. Length and style go with the answer, wherever it is shown.",
                ),
                Slip("same.mean()", "This drops the pairs on which the orders differ."),
                Slip(
                    "judged.mean() - gap.mean()",
                    "This adds the judge's error instead of taking it away: what people say minus "
                    "what the judge says is negative here.",
                ),
                Slip(
                    "first.mean() + (person - first)[read].mean()",
                    "This corrects one order alone. That is fair, too; but both were paid for, "
                    "and their mean follows people more closely.",
                ),
                Slip(
                    "person.fillna(judged).mean()",
                    "This takes people's word for 300 pairs and the judge's for the rest: the "
                    "bias of seven pairs in eight is still in it.",
                ),
            ],
            otherwise="{value:.4g} is far from what the pairs read by both say. The simplest fair "
            "estimate is the judge's mean over all pairs, plus the mean of what people say minus "
            "what the judge says on the pairs that both have read.",
            kind=Number(0.0005),
            also=[
                "strata[0]",
                "tuned[0]",
                "fitted(judged, length)[0]",
                "fitted(first, second)[0]",
                "others[0]",
            ],
            # Any fair estimate that uses all verdicts: they differ by less than their own error.
            accepts="min(rates) - slack <= value <= max(rates) + slack",
        ),
        Part(
            "half",
            "reach(gap)",
            [
                Slip(
                    "reach(person[read])",
                    "This is that of people alone. With the judge it is narrower: that is what he "
                    "is for.",
                ),
                Slip(
                    "reach(judged)",
                    "This is that of the judge's mean. What is uncertain is his error, which was "
                    "measured on 300 pairs.",
                ),
                Slip(
                    "1.96 * gap.std() / np.sqrt(len(verdicts))",
                    "This divides by all pairs. His error was measured on 300 of them.",
                ),
                Slip(
                    ("right / 1.96", "strata[1] / 1.96", "high / 1.1 / 1.96"),
                    "This is one standard error; 95 % reaches 1.96 of them.",
                    when="low <= 1.96 * value <= high",
                ),
                Slip(
                    ("2 * right", "2 * strata[1]"),
                    "This is the whole width; half of it was asked for.",
                    when="low <= value / 2 <= high",
                ),
            ],
            otherwise="{value:.4g} is not it: 1.96 times the standard deviation of (people − "
            "judge) over the square root of the number of pairs that people read.",
            also=[
                "strata[1]",
                "fitted(judged, length)[1]",
                "np.hypot(reach(gap), reach(judged))",
                "tuned[1]",
            ],
            accepts="low <= value <= high",
        ),
    ],
    prediction=Prediction(
        "guess_3",
        ("place", "length", "style"),
        "'place'",
        "Each answer is then judged once in either place; its length and its style stay the same.",
    ),
    shows="The judge sees the new bot ahead with {both:.1%}, after swapping. Corrected by 300 "
    "pairs it is {corrected:.1%} ± {half:.1%}: {'nothing speaks for' if corrected - half < 0.5 "
    "else 'people still prefer'} the new bot.",
    hints=(
        "Compare the new bot with itself: the same answers, first and second. What stays the same "
        "in both orders, and may still be a bias?",
        "Take each pair's mean of the two verdicts: 1, 0.5 or 0. On the pairs that people read you "
        "can see how far it is off on average.",
        "`corrected` is the judge's mean over all pairs plus the mean of (person − judge) over the "
        "300; its uncertainty is nearly all in the second.",
    ),
)

q4 = exercise.asked(
    4,
    "`recall`, a dict by (size, overlap), `best`, one of its keys, and `growth`, a number",
    setup="""
from casebook.cases.support_rag_chatbot.exercise_data import CUTS
def joined(size, overlap):
    found = ranked(size, overlap).join(sentences, on="question", rsuffix="_s")
    return found.assign(total=found.groupby("question")["words"].cumsum())
found = {cut: joined(*cut) for cut in CUTS}
def within(t):
    return t["total"] <= 120
def inside(t):
    return right_article(t) & (t["start"] <= t["start_s"]) & (t["end"] >= t["end_s"])
def recalls(read=within, holds=inside):
    hits = {cut: t.loc[read(t) & holds(t), "question"] for cut, t in found.items()}
    return pd.Series({cut: hit.nunique() / len(sentences) for cut, hit in hits.items()})
def right_article(t):
    return t["article"] == t["article_s"]
def articles():
    return recalls(holds=right_article)
def whatever_fits(t):  # go on past a passage that does not fit
    left, taken = {}, []
    for question, words in zip(t["question"], t["words"]):
        fits = words <= left.setdefault(question, 120)
        left[question] -= words * fits
        taken.append(fits)
    return np.array(taken)
def words_of(size, overlap):
    return windows(int(size), int(overlap))["words"].sum()
def cut_of(value):
    return tuple(int(number) for number in value)
""",
    parts=[
        Part(
            "recall",
            "recalls()",
            [
                Slip(
                    "articles()",
                    "This is the recall of the *article*. A passage of the right article that does "
                    "not hold the sentence gives the model nothing to quote.",
                ),
                Slip(
                    "recalls(holds=lambda t: right_article(t) & (t['start'] < t['end_s']) & "
                    "(t['start_s'] < t['end']))",
                    "This counts a passage that holds a *part* of the sentence. Half a sentence, "
                    "cut before its number, answers nothing: it has to be there whole.",
                ),
                Slip(
                    "recalls(lambda t: t['rank'] <= 3)",
                    "Three passages are read here, whatever their size: 60 words of one cut and "
                    "240 of another. Compare at equal cost, 120 words.",
                ),
                Slip(
                    "recalls(lambda t: t['rank'] > 0)",
                    "All 16 passages that were found are read here. The model reads 120 words.",
                ),
                Slip(
                    "recalls(lambda t: t['total'] - t['words'] < 120)",
                    "This reads on until the budget is spent, and over it. A passage that does "
                    "not fit any more is not read.",
                ),
                Slip(
                    "recalls(lambda t: t['total'] < 120)",
                    "Fewer than 120 words are read here. At most 120 are allowed: three windows "
                    "of 40 fit exactly.",
                ),
                Slip(
                    "recalls(whatever_fits)",
                    "This skips a passage that does not fit and reads on behind it. The first one "
                    "that does not fit ends what is read.",
                ),
                Slip(
                    tuple(
                        f"recalls(holds=lambda t: right_article(t) & (t['start'] {a} t['start_s']) "
                        f"& (t['end'] {b} t['end_s']))"
                        for a, b in (("<", ">"), ("<", ">="), ("<=", ">"))
                    ),
                    "A sentence at the very beginning or end of a passage is not counted here. It "
                    "is there whole: compare with ≤ and ≥.",
                ),
                Slip(
                    "recalls(holds=lambda t: (t['start'] <= t['start_s']) & "
                    "(t['end'] >= t['end_s']))",
                    "This compares places and forgets whose they are. Character 100 of another "
                    "article is another text: the article has to be the same.",
                ),
                Slip("100 * right", "These are per cent; give shares.", when="value.max() > 1"),
            ],
            otherwise="{value[(value - right).abs().idxmax()]:.3f} for "
            "{cut_of((value - right).abs().idxmax())} is not it: for each question add up the "
            "words of the passages in their order and stop at 120. Does one of them begin at or "
            "before the sentence and end at or after it, in its article? Divide by all "
            "{len(sentences)}.",
            kind=Column(),
        ),
        Part(
            "best",
            "recall.idxmax()",
            [
                Slip(
                    "articles().idxmax()",
                    "{cut_of(value)} is the best cut for finding the *article*: more small "
                    "passages fit into the budget. Look at the sentences.",
                ),
                Slip(
                    "recalls(lambda t: t['rank'] <= 3).idxmax()",
                    "{cut_of(value)} is the best cut if three passages are read, at any length. At "
                    "120 words another one is.",
                ),
            ],
            otherwise="At {cut_of(value)} the recall is not the highest of the {len(CUTS)} cuts.",
            kind=Numbers((2,), 1e-9),
        ),
        Part(
            "growth",
            "words_of(*best) / words_of(best[0], 0)",
            [
                Slip(
                    "best[0] / (best[0] - best[1])",
                    "This is that of an endless text. An article ends, and no window begins where "
                    "the last one has reached its end: measure it.",
                ),
                Slip(
                    "len(windows(*cut_of(best))) / len(windows(int(best[0]), 0))",
                    "This counts passages. An embedder is paid by what it reads: words.",
                ),
                Slip("right - 1", "This is what comes on top; give the factor."),
                Slip(
                    "1.5",
                    "This adds the overlap once. Each word but a few is in two windows.",
                ),
            ],
            otherwise="{value:.4g} is not it: all words of the passages at {cut_of(best)}, over "
            "those at ({best[0]:.0f}, 0).",
        ),
    ],
    prediction=Prediction(
        "guess_4",
        ("both", "article", "sentence", "neither"),
        "['neither', 'sentence', 'article', 'both']"
        "[2 * (articles()[20, 0] > articles()[40, 0]) + (recall[20, 0] > recall[40, 0])]",
        "From 40 to 20 words, the article is found for "
        "{articles()[20, 0]:.0%} of the questions instead of {articles()[40, 0]:.0%}, the whole "
        "sentence for {recall[20, 0]:.0%} instead of {recall[40, 0]:.0%}.",
    ),
    shows="{best[0]:.0f} words with {best[1]:.0f} of overlap bring the whole sentence to "
    "{recall.max():.0%} of the questions, for {growth:.2f} times the words to embed.",
    hints=(
        "What has to reach the model so that it can answer, and what does it cost to send it "
        "there? Both belong into the comparison.",
        "Within a question, in the order of the ranks: a running sum of `words`, kept up to 120. "
        "Then merge with `sentences` and compare the ends.",
        "A passage counts if article is article, start ≤ start and end ≥ end. The share is over "
        "all questions, those with nothing found as well.",
    ),
)

q5 = exercise.asked(
    5,
    "`folds`, a Series by question, `share`, a number, and `promise`, a word",
    setup="""
def by(column):
    places = {name: i for i, name in enumerate(sorted(past[column].unique()))}
    return past[column].map(places) % 5
def shared(folds):  # articles that answer questions of several folds
    several = relevant["question"].map(folds).groupby(relevant["article"]).nunique() > 1
    return several.index[several]
def apart(folds, column):  # no value of a column is in two folds
    return folds.groupby(past[column]).nunique().max() == 1
def parts_of(folds):
    return [first_right(f.index.symmetric_difference(folds.index), f.index)
            for _, f in folds.groupby(folds)]
def crossed(folds):
    return pd.concat(parts_of(folds)).mean()
without = first_right([], past.index).mean()
""",
    parts=[
        Part(
            "folds",
            "by('group')",
            [
                Slip(
                    "past['fold']",
                    "These are the colleague's folds. A question's neighbours, with the same "
                    "article, are in the training.",
                ),
                Slip(
                    "by('voice')",
                    "No voice is in two of them. What the memory keeps is not who wrote but which "
                    "article it was: {len(shared(value))} articles answer questions of several "
                    "folds.",
                    when="apart(value, 'voice')",
                ),
                Slip(
                    "by('kind')",
                    "No kind of question is in two of them, but {len(shared(value))} articles are.",
                    when="apart(value, 'kind')",
                ),
                Slip(
                    "by('group') % 2",
                    "These are {value.nunique()} folds: make at least three, or a memory learns "
                    "from too little.",
                    when="value.nunique() < 3",
                ),
                Slip(
                    "by('group').where(by('group') > 2, 2)",
                    "More than half of the questions are in one fold.",
                    when="value.value_counts(normalize=True).max() > 0.5",
                ),
            ],
            otherwise="{len(shared(value))} articles answer questions of more than one fold, such "
            "as `{shared(value)[0]}`. Keep together whatever shares an article: whole groups of "
            "topics.",
            kind=Groups(),
            accepts="len(shared(value)) == 0 and value.nunique() >= 3 "
            "and value.value_counts(normalize=True).max() <= 0.5",
        ),
        Part(
            "share",
            "crossed(folds)",
            [
                Slip(
                    "crossed(past['fold'])",
                    "This is still the colleague's, of folds drawn at random.",
                ),
                Slip("without", "This is that of the bot without a memory."),
                Slip(
                    "np.mean([part.mean() for part in parts_of(folds)])",
                    "This is a mean over folds of unlike size. Each question counts once.",
                ),
            ],
            otherwise="{value:.4g} is not it: for each fold let `first_right` learn from all "
            "*other* folds, put the answers of all folds together, and take the mean.",
        ),
        Part(
            "promise",
            "'known articles'",
            [
                Slip(
                    "'any question'",
                    "For questions on articles that nobody has asked about, the colleague's number "
                    "is far off: `share` says so. So not for any.",
                ),
                Slip(
                    "'new articles'",
                    "On new articles `share` is what to expect. The colleague's number comes from "
                    "questions whose article had been asked about before.",
                ),
            ],
            otherwise="{value} is not it.",
            kind=Word(("any question", "known articles", "new articles")),
        ),
    ],
    prediction=Prediction(
        "guess_5",
        ("small help", "no help", "harm"),
        "['no help', 'small help', 'harm'][int(np.sign(round(share - without, 2)))]",
        "Without a memory the bot is right in {without:.0%}.",
    ),
    shows="{crossed(past['fold']):.0%} are right with the memory by folds at random, {share:.0%} "
    "when no article is on both sides.",
    hints=(
        "What exactly does the memory learn? Ask of a test question which of its properties a "
        "training question must not share with it.",
        "An article answers the questions of one topic, and topics that are confused form a group. "
        "Put whole groups into folds.",
        "Number the groups, take the number modulo 5, and map it to the questions; then five calls "
        "of `first_right`, put together.",
    ),
)

q6 = exercise.asked(
    6,
    "`in_force`, a function, `stale`, a whole number, and `hits`, a share",
    setup="""
from casebook.cases.support_rag_chatbot.exercise_data import moments
DAY, FAR = pd.Timedelta(days=1), pd.Timestamp("2200-01-01")
def rule(keeps):  # of whether it has begun, the midnight of its last day, and the time
    return lambda table, time: table[
        keeps(table["valid_from"] <= time, table["valid_to"].fillna(FAR), time)
    ]
def first_difference(value, right):
    for time, found, there in zip(moments(versions), value, right):
        if more := set(found["id"]) ^ set(there["id"]):
            few = len(more - set(found["id"]))
            return f"{time}: {len(more) - few} versions too many, {few} missing"
said = served.merge(versions, left_on="said", right_on="id")
over, last = said["valid_to"].fillna(FAR) + DAY, served["time"].max()
newest = versions.groupby("article_id")["valid_from"].transform("max") == versions["valid_from"]
both = served.reset_index().merge(versions, left_on="question", right_on="article_id")
then = both["time"] < both["valid_to"].fillna(FAR) + DAY
now = both[(both["valid_from"] <= both["time"]) & then]
""",
    parts=[
        Part(
            "in_force",
            "lambda table, time: rule(lambda b, end, t: b & (t < end + DAY))(table, time)[['id']]",
            [
                Slip(
                    "rule(lambda b, end, t: b & (t <= end))",
                    "At noon of a last day this returns nothing of the article. `valid_to` is the "
                    "midnight at which that day *begins*, and it is valid to its end.",
                ),
                Slip(
                    "rule(lambda b, end, t: b & (t < end))",
                    "This takes `valid_to` for an end that is left out: on its last day an article "
                    "is missing. The day belongs to it.",
                ),
                Slip(
                    "rule(lambda b, end, t: b & (t <= end + DAY))",
                    "This returns two versions at the midnight at which one follows the other: at "
                    "that moment the old one has ended. Less than, not at most.",
                ),
                Slip(
                    "lambda table, time: table[(table['valid_from'] <= time) & "
                    "(time < table['valid_to'] + DAY)]",
                    "This loses every version without an end. A comparison with a missing date is "
                    "False: say what a missing `valid_to` means.",
                ),
                Slip(
                    "rule(lambda b, end, t: t < end + DAY)",
                    "This never looks at `valid_from`: it returns what has only been announced.",
                ),
                Slip(
                    "lambda table, time: table[table['valid_from'] <= time].sort_values("
                    "'valid_from').drop_duplicates('article_id', keep='last')",
                    "This never looks at `valid_to`: it returns the newest version that has begun. "
                    "An article that was withdrawn has no version in force any more.",
                ),
                Slip(
                    "rule(lambda b, end, t: b)",
                    "This returns every version that has ever begun, old ones too.",
                ),
            ],
            otherwise="At {first_difference(value, right)}. A version is in force from the first "
            "moment of `valid_from` until the last of the day `valid_to`.",
            kind=Function(
                "[(versions, time) for time in moments(versions)]", returns=Table(("id",))
            ),
            also=[
                "lambda table, time: table[(table['valid_from'] <= time.normalize()) & ~(table"
                "['valid_to'] < time.normalize())]"
            ],
        ),
        Part(
            "stale",
            "int((said['time'] >= over).sum())",
            [
                Slip(
                    "(said['time'] > said['valid_to']).sum()",
                    "This calls answers of the last day stale: `time <= valid_to` ends at the "
                    "midnight at which that day begins.",
                ),
                Slip(
                    "(~(said['time'] < said['valid_to'] + DAY)).sum()",
                    "This counts every answer from a version without an end.",
                ),
                Slip(
                    "(last >= over).sum()",
                    "This asks what has ended by the end of the log. An answer is stale if its "
                    "version had ended when it was *given*.",
                ),
                Slip("(said['time'] >= over + DAY).sum()", "A version lives one day too long."),
                Slip(
                    "((said['time'] >= over) & ~said['id'].isin(versions.loc[newest, 'id'])).sum()",
                    "This counts the answers that a newer version had replaced. Those from "
                    "articles that were withdrawn, with nothing new after them, are stale, too.",
                ),
                Slip(
                    "served['from_cache'].sum()",
                    "This counts all answers from the cache. Most of them were still right.",
                ),
                Slip("right / len(served)", "This is a share; give the number of answers."),
            ],
            otherwise="{value:.6g} is not it: join `served` with `versions` on the version that "
            "was cited, and ask whether it was in force at the time of the answer.",
            kind=EXACT,
        ),
        Part(
            "hits",
            "now['id'].duplicated().sum() / len(served)",
            [
                Slip(
                    "served['question'].duplicated().mean()",
                    "This is that of a cache that knows the question alone, for ever: each change "
                    "of an article stays unseen.",
                ),
                Slip(
                    "(served['question'] + served['time'].dt.strftime('%F')).duplicated().mean()",
                    "This is that of a key with the day. That is never stale either, and forgets "
                    "every night what did not change.",
                ),
                Slip(
                    "served['from_cache'].mean()",
                    "This is that of the cache as it is, with its 14 days.",
                ),
                Slip("1 - right", "This is the share of misses."),
            ],
            otherwise="{value:.4g} is not it: the first contact with a pair of question and "
            "version is a miss, each later one a hit.",
            kind=Number(2e-4),
            also=["now['id'].duplicated().mean()"],
            # A contact with no version in force may be left out of the count, or be no hit.
            accepts="abs(value / now['id'].duplicated().mean() - 1) <= 2e-4",
        ),
    ],
    prediction=Prediction(
        "guess_6",
        ("above", "below"),
        "'above' if stale / len(served) > 0.01 else 'below'",
        "Stale are {stale / len(served):.2%}: changes are rare, and no answer lives long.",
    ),
    shows="{stale:.0f} of {len(served):,} answers were stale. With the version in the key none can "
    "be, and the hits rise from {served['from_cache'].mean():.1%} to {hits:.1%}: what cannot go "
    "stale need not expire.",
    hints=(
        "Draw two versions on a line and mark their midnights. At which moment does the old one "
        "end? The time of an answer has hours; `valid_to` has none.",
        "A version ends at `valid_to` plus one day, that moment left out, and never where it is "
        "missing. An answer is stale if its version had ended when it was given.",
        "For `hits`, find for each contact the version in force at its time (merge on the article, "
        "then your rule); a contact is a hit unless its version comes for the first time.",
    ),
)

q7 = exercise.asked(
    7,
    "`unhelped` and `dearer`, two numbers, and `interval`, two ends",
    setup="""
everything, other = (contacts[contacts["policy"] == p] for p in ("answers all", "hands over"))
def unresolved(rows):
    return 1 - rows.loc[rows["contained"], "resolved"].mean()
contained = everything[everything["contained"]]
def gap_of(*columns):
    rows = contacts.assign(euro=contacts[list(columns)].sum(axis=1))
    wide = rows.pivot(index="contact", columns="policy", values="euro")
    return wide["answers all"] - wide["hands over"]
gap, of = gap_of("carrier", "customer"), everything.set_index("contact")["question"]
by = gap.groupby(of).agg(["sum", "size"])
left = by["sum"] - by["size"] * gap.mean()
half = 1.96 * np.sqrt((left**2).sum() * len(by) / (len(by) - 1)) / len(gap)
narrow = 1.96 * gap.std() / np.sqrt(len(gap))
def around(reach, middle=gap.mean()):
    return middle - reach, middle + reach
def lies_within(middle, value):
    return value[0] < middle < value[1]
def reach_of(value):
    return (value[1] - value[0]) / 2
def drawn(units):  # a bootstrap over rows of sums and sizes
    rows, rng = units.to_numpy(), np.random.default_rng(0)
    sums = [rows[rng.integers(0, len(rows), len(rows))].sum(axis=0) for _ in range(1000)]
    return np.quantile([total / size for total, size in sums], [0.025, 0.975])
""",
    parts=[
        Part(
            "unhelped",
            "unresolved(everything)",
            [
                Slip(
                    "(everything['contained'] & ~everything['resolved']).mean()",
                    "This is a share of all contacts. The question asks for that of those that the "
                    "dashboard counts as a success, the contained ones.",
                ),
                Slip(
                    "(contained['fate'] == 'believed').mean()",
                    "This counts only those who believe something wrong. Who gives up is not "
                    "helped either.",
                ),
                Slip(
                    "(contained['fate'] == 'gave_up').mean()",
                    "This counts only those who gave up. Who goes home with a wrong answer and "
                    "believes it is not helped either.",
                ),
                Slip(
                    "1 - everything['resolved'].mean()",
                    "This is the share without help among all contacts, called or not.",
                ),
                Slip("unresolved(other)", "This is that of the other policy."),
                Slip(
                    "unresolved(contacts)",
                    "Both policies are pooled here. The question asks for the one that answers "
                    "all.",
                ),
                Slip("1 - right", "This is the share that *was* helped."),
                Slip("100 * right", "This is in per cent; give a share.", when="value > 1"),
            ],
            otherwise="{value:.4g} is not it: among the contained contacts of the policy that "
            "answers all, the share that is not resolved.",
        ),
        Part(
            "dearer",
            "gap.mean()",
            [
                Slip(
                    "gap_of('carrier').mean()",
                    "This is the carrier's bill alone. What customers lose is on nobody's "
                    "dashboard, and it counts as well.",
                ),
                Slip(
                    "gap_of('customer').mean()",
                    "This is the customers' loss alone. The carrier's own bill belongs to it.",
                ),
                Slip("-right", "The sign is turned: answering all minus handing over."),
                Slip(
                    "gap.groupby(of).mean().mean()",
                    "This gives each *question* the same weight. Some are asked ten times as often "
                    "as others; the euro are spent by contacts.",
                ),
                Slip("2 * right", "This is divided by half of the contacts."),
                Slip(
                    "right / 2",
                    "This is divided by the rows of both policies, two for each contact.",
                ),
                Slip(
                    "100 * gap.mean() / other[['carrier', 'customer']].sum(axis=1).mean()",
                    "This is in per cent of the other policy's euro; give the euro.",
                ),
            ],
            otherwise="{value:.4g} is not it: carrier and customer together, a contact's euro when "
            "all is answered minus its euro under the other policy, on average.",
        ),
        Part(
            "interval",
            "around(half)",
            [
                Slip(
                    ("around(narrow)", "drawn(pd.DataFrame({'sum': gap, 'size': 1}))"),
                    "This takes each contact for a piece of evidence of its own. The same question "
                    "gets the same answer, right or wrong, however often it is asked: draw "
                    "*questions*, each with all its contacts.",
                    when="abs(reach_of(value) / narrow - 1) <= 0.08 and lies_within(dearer, value)",
                ),
                Slip(
                    ("around(half / 1.96)", "around(reach_of(drawn(by)) / 1.96)"),
                    "This is one standard error to each side; 95 % needs 1.96.",
                    when="abs(1.96 * reach_of(value) / half - 1) <= 0.1",
                ),
                Slip("around(-half)", "The upper end comes first.", when="value[0] >= value[1]"),
                Slip(
                    "around(half, middle=0)",
                    "This does not hold `dearer` itself, or holds it far from its middle.",
                    when="abs(sum(value) / 2 - dearer) > reach_of(value) / 2",
                ),
            ],
            otherwise="This reaches {reach_of(value):.2f} euro to each side. Draw questions with "
            "replacement, each with all its contacts, and take the middle 95 % of the means of "
            "their differences.",
            kind=Numbers((2,)),
            also=["drawn(by)", "list(around(1.96 * np.sqrt((left**2).sum()) / len(gap)))"],
            accepts="abs(reach_of(value) / half - 1) <= 0.1 and "
            "abs(sum(value) / 2 - dearer) <= half / 4",
        ),
    ],
    prediction=Prediction(
        "guess_7",
        ("more than half", "less than half"),
        "'more than half' if unhelped < 0.5 else 'less than half'",
        "Of the contained contacts {1 - unhelped:.0%} were helped.",
    ),
    shows="{everything['contained'].mean():.0%} are contained, and {unhelped:.0%} of these were "
    "not helped. Answering all is dearer by {dearer:.2f} euro a contact ({interval[0]:.2f} to "
    "{interval[1]:.2f}, by question).",
    hints=(
        "Who is contained? Read the definition again: it says what did *not* happen. Then ask for "
        "whom the euro are lost.",
        "`dearer` is a mean of differences, one for each contact. How many independent pieces of "
        "evidence are behind it: contacts, or questions?",
        "Sum the differences and count the contacts of each question; draw questions with "
        "replacement, divide the drawn sum by the drawn count, a few hundred times.",
    ),
)
