"""Questions of exercise 16: fusion, a threshold, a judge, chunks, a leak, a cache, containment.

:mod:`casebook.cases.support_rag_chatbot.exercise_data` says what a student's seed draws.
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
    Prediction,
    Table,
    Word,
    parts,
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
        ranks = first.merge(second, on=KEYS, how="outer").set_index(KEYS)[["rank_x", "rank_y"]]
        last = ranks.groupby("query_id").transform("max").fillna(0)
        return (1 / (k + ranks.fillna(rank(last)))).sum(axis=1).rename("score").reset_index()
    return fusion
def proportional(value, right):  # the same scores in another unit
    v, r = pd.concat(value, ignore_index=True), pd.concat(right, ignore_index=True)
    ratio = v["score"] / r["score"] if v[KEYS].equals(r[KEYS]) else pd.Series([0.0])
    return ratio.min() > 0 and ratio.max() / ratio.min() < 1 + 1e-6
def ndcg(run):
    return per_query(run, judged_pairs)["ndcg"].mean()
""",
    parts=parts(
        """
fuse = lambda a, b, k=60: reciprocal_rank_fusion([a, b], k=k)[[*KEYS, 'score']]
rrf
by(lambda run, k: 2 / (k + run['rank']))
  when: proportional(value, right)
  These are other scores than 1 / (k + rank), added up over the lists{', and pairs of a question and
  a document are missing or too many' if len(pd.concat(value)) - len(pd.concat(right)) else ''}. The
  lists may differ in their questions and in length, and their rows may come in any order: use the
  column `rank` and the pair of names, never the place of a row.
by(lambda run, k: run['score'])
  This adds scores that have no common unit: a BM25 score of 12 outweighs any cosine. Add by rank.
by(lambda run, k: 1 / (k + run['rank'] - 1))
  Ranks are counted from 0 here. The column counts them from 1, as the paper does.
lambda a, b, k=60: rrf(a, b, k).merge(a[KEYS]).merge(b[KEYS])
  This keeps only what both lists found. Keep what one of them missed, too: take an outer join.
by(lambda run, k: 1 / (k + run['rank']), 'max')
  This takes the better of the two ranks. RRF *adds*, so that it matters whether both lists agree.
by(lambda run, k: 1 / (k + run['rank']), 'mean')
  This is the mean over the lists that found a document. What a list did not find gets 0 from it.
lends(lambda last: 1)
lends(lambda last: last + 1)
  This gives a rank to a document that a list did not find. Such a list should give it 0 *points*.
by(lambda run, k: k + 1 / run['rank'])
  The constant is added after the division. It belongs below the line: 1 / (k + rank).
by(lambda run, k: 1 / (60 + run['rank']))
  This uses 60 whatever k it is given.

deepest = max(r for r in range(1, 500) if 2 / (60 + r) > 1 / 61)
  {value:g} is not it: find the largest whole r at which 2 / (60 + r) is more than 1 / 61.
62
  At rank 62 both have the same score, 1 / 61. It has to be *higher*.
60
  At rank 60 it is still ahead, and one further, too. Solve 2 / (60 + r) > 1 / 61.
10
  10 is where these lists end. The question is where the arithmetic ends.
2
  Rank 2 is what reciprocal ranks without a constant would give. The constant of 60 flattens them.

largest_k = max(k for k in range(500) if 1 / (k + 1) > 2 / (k + 10))
  {value:g} is not it: find the largest whole k at which 1 / (k + 1) is more than 2 / (k + 10).
8
  At k = 8 both have 1 / 9. The first place alone has to be *ahead*.
60
  At 60 the first place alone has 1 / 61, and the two tenth ones have 2 / 70: more.
0
  At k = 0 the first place alone wins, by far. It does for some larger ones, too.
""",
        fuse=Function("cases", returns=Table(("query_id", "doc_id"), 1e-6)),
        deepest=Number(1e-9),
        largest_k=Number(1e-9),
    ),
    prediction=Prediction(
        "guess_1",
        ("better", "worse"),
        "'better' if ndcg(rerank_by(fuse(words, vectors, 60))) > "
        "max(ndcg(words), ndcg(vectors)) else 'worse'",
        "The nDCG@10 of the fusion is {ndcg(rerank_by(fuse(words, vectors, 60))):.2f}, of "
        "`vectors` alone {ndcg(vectors):.2f}, of `words` {ndcg(words):.2f}.",
    ),
    shows="At k = 60 two votes beat one down to rank {deepest:.0f}, so anywhere in lists of 10. "
    "Only up to k = {largest_k:.0f} does a first place alone win against two tenth ones.",
    hints=(
        "What has no common unit must not be added. Ranks have one. And a document that a list "
        "does not hold has no rank there at all: what should it get?",
        "Give each row 1 / (k + rank), put the two runs below each other, and add up by question "
        "and document. For the numbers, write both scores down and solve the inequality.",
        "2 / (60 + r) > 1 / 61 holds for r < 62, and 1 / (k + 1) > 2 / (k + 10) for k < 8.",
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
    parts=parts(
        """
break_even = even()
3 / 7.2
  {value:.4g} is not it: p · 0.30 + (1 − p) · (what a wrong answer costs both together) = 4.50.
0.5
  A wrong answer costs 3.00 more than a person, a right one 4.20 less. One half needs them equal.
even(5.20)
  This is the carrier's own bill. The customer who believes a wrong answer loses money as well.
even(5.20 + 4.60)
  This counts the goodwill twice. It leaves the carrier's pocket and arrives in the customer's.
1 - even()
  This is the probability of being *wrong* at which both cost the same; give that of being right.
0.30 / (0.30 + 7.50)
  This weighs a right answer against a wrong one. The choice is between an answer and a *person*.
even(person=0)
  People do not work for nothing: handing over costs 4.50.
1 - (4.50 - 0.30) / 7.50
  This pays 0.30 for a wrong answer, too. Only one of the two prices is paid: 0.30 has weight p.

threshold = best(choose)
  when: bill(choose, value) <= bill(choose, right) + 1e-9
  {value:.4g} costs {distinct(bill(choose, value), bill(choose, right))} euro for 100 questions of
  the part to choose on, and {distinct(bill(choose, right), bill(choose, value))} are possible.
  Answer where the margin is *at least* the threshold, and try every margin that occurs.
even()
  This takes the break-even for a margin. The margin is no probability: try all margins that occur.
best(choose, 5.20)
  This has the lowest bill of the carrier alone. The customer's loss decides as well.
best(rest)
  This has been chosen on the rows that are to judge it.
best(desk)
  This has been chosen on *all* rows. Take only those with `part` choose; the others judge it.
0
  This answers everything.
0.9
  when: given(choose, value) < 0.05
  This hands nearly everything over. The surest answers are worth giving.

saved = bill(rest, 0) - bill(rest, threshold)
  {value:.4g} is not it: the bill of answering everything minus the bill with your threshold, both
  on the rows with `part` judge, in euro for 100 questions.
bill(choose, 0) - bill(choose, threshold)
bill(desk, 0) - bill(desk, threshold)
  The questions that chose the threshold are in this, and flatter it. Take the other part alone.
bill(rest, 2) - bill(rest, threshold)
  This is the saving against handing everything over. Take that against answering everything.
bill(rest, 0, 5.20) - bill(rest, threshold, 5.20)
  This is the carrier's alone: of that alone, answering everything looks better than it is.
bill(rest, 0, 9.80) - bill(rest, threshold, 9.80)
  This counts the goodwill twice.
right / 100
  This is for one question; give it for 100.
-right
  The sign is turned: what is saved counts as positive.
""",
        threshold=Number(1e-6),
    ),
    prediction=Prediction(
        "guess_2",
        ("more", "less"),
        "'more' if given(desk, best(choose, 5.20)) > given(desk, threshold) else 'less'",
        "On its own bill the carrier would answer {given(desk, best(choose, 5.20)):.0%} of the "
        "questions, for both together {given(desk, threshold):.0%}.",
    ),
    shows="An answer pays from {break_even:.1%} on. On questions that did not choose it, the "
    "threshold answers {given(rest, threshold):.0%} and saves {saved:.0f} euro per 100 against "
    "answering all, {bill(rest, 2) - bill(rest, threshold):.0f} against handing all over.",
    hints=(
        "Follow the money of a wrong answer: what does the carrier pay, what does the customer "
        "lose, and which euro appears in both columns?",
        "A wrong answer costs the two of them 5.20 + 4.60 − 2.30. The break-even is a probability "
        "and the margin is none, so the threshold has to be found on rows whose end is known.",
        "For every margin among the rows with `part` choose, add up 0.30, 7.50 or 4.50 a question; "
        "the cheapest is the threshold. `saved` is a difference of two bills on the other rows.",
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
plain, others = ((x.mean() + gap.mean(), reach(gap)) for x in (judged, judged[~read]))
known = plain, others, strata, tuned, fitted(judged), fitted(judged, length)
rates, halves = zip(*known, fitted(first, second, length))  # all fair, so all are right
slack, low, high = min(halves) / 8, 0.9 * min(halves), 1.1 * np.hypot(reach(gap), reach(judged))
""",
    parts=parts(
        """
position = first.mean() - second.mean()
(first - second).mean()
  {value:.4g} is not it: how much more often does the new bot win in first place than in second?
second.mean() - first.mean()
  The sign is turned: the new bot wins more often when it comes first.
right / 2
  This is half of it: from either order to the mean of both. Go all the way from second to first.
first.mean() - 0.5
  This compares the new bot with one half, as if both were equally good. Compare the two orders.
(first != second).mean()
  This is the share of changed verdicts. Those that changed against the bias count with a minus.
100 * right
  when: value > 1
  This is in points; give it as a share.

both = judged.mean()
  {value:.4g} is not the mean of the new bot's wins over both orders.
same.mean()
  This drops pairs whose orders differ, half a win each; the rest exaggerates the judge's leaning.
first.mean()
second.mean()
  This is one order only, the one that helps the {'new' if value > right else 'old'} bot.

corrected = judged.mean() + gap.mean()
strata[0]
tuned[0]
fitted(judged, length)[0]
fitted(first, second)[0]
others[0]
  when: min(rates) - slack <= value <= max(rates) + slack
  {value:.4g} is far from what the pairs read by both say. The simplest fair estimate is the judge's
  mean over all pairs, plus the mean of (people − judge) on the pairs that both have read.
person.mean()
  This is fair, but wastes 2,100 pairs: let people measure the judge's error, and correct his mean.
judged.mean()
same.mean()
  Swapping takes away what depends on the place. Length and style go with the answer, and stay.
judged.mean() - gap.mean()
  This adds the judge's error instead of taking it away: people minus judge is negative here.
first.mean() + (person - first)[read].mean()
  This corrects one order alone. That is fair; the mean of both follows people more closely.
person.fillna(judged).mean()
  This takes people's word for 300 pairs only: the bias of seven pairs in eight is still in it.

half = reach(gap)
strata[1]
fitted(judged, length)[1]
np.hypot(reach(gap), reach(judged))
tuned[1]
  when: low <= value <= high
  {value:.4g} is not it: 1.96 times the standard deviation of (people − judge), over √300.
reach(person[read])
  This is that of people alone. With the judge it is narrower: that is what he is for.
reach(judged)
1.96 * gap.std() / np.sqrt(len(verdicts))
  What is uncertain is the judge's error, and that was measured on 300 pairs, not on all.
right / 1.96
strata[1] / 1.96
high / 1.1 / 1.96
  when: low <= 1.96 * value <= high
  This is one standard error; 95 % reaches 1.96 of them.
2 * right
2 * strata[1]
  when: low <= value / 2 <= high
  This is the whole width; half of it was asked for.
""",
        corrected=Number(0.0005),
    ),
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
def right_article(t):
    return t["article"] == t["article_s"]
def inside(t):
    return right_article(t) & (t["start"] <= t["start_s"]) & (t["end"] >= t["end_s"])
def recalls(read=lambda t: t["total"] <= 120, holds=inside):
    hits = {cut: t.loc[read(t) & holds(t), "question"] for cut, t in found.items()}
    return pd.Series({cut: hit.nunique() / len(sentences) for cut, hit in hits.items()})
articles = recalls(holds=right_article)
def whatever_fits(t):  # go on past a passage that does not fit
    left, taken = {}, []
    for question, words in zip(t["question"], t["words"]):
        taken.append(words <= left.setdefault(question, 120))
        left[question] -= words * taken[-1]
    return np.array(taken)
def cut_of(value):
    return tuple(int(number) for number in value)
""",
    parts=parts(
        """
recall = recalls()
  {value[(value - right).abs().idxmax()]:.3f} for {cut_of((value - right).abs().idxmax())} is not
  it: add up the words of a question's passages in their order and stop at 120. Does one of them
  hold the sentence, from its start to its end, in its article? Divide by all {len(sentences)}.
articles
  This is the recall of the *article*. Without the sentence the model has nothing to quote.
recalls(holds=lambda t: right_article(t) & (t['start'] < t['end_s']) & (t['start_s'] < t['end']))
  This counts a *part* of the sentence. Cut before its number, a sentence answers nothing.
recalls(lambda t: t['rank'] <= 3)
recalls(lambda t: t['rank'] > 0)
  Passages are counted here: three are 60 words of one cut, 240 of another. Compare at 120 words.
recalls(lambda t: t['total'] - t['words'] < 120)
  This reads on until the budget is spent, and over it. What does not fit any more is not read.
recalls(lambda t: t['total'] < 120)
  Fewer than 120 words are read here. At most 120 are allowed: three windows of 40 fit exactly.
recalls(whatever_fits)
  This skips a passage that does not fit and reads on. That passage should end what is read.
recalls(holds=lambda t: right_article(t) & (t['start'] < t['start_s']) & (t['end'] > t['end_s']))
recalls(holds=lambda t: right_article(t) & (t['start'] < t['start_s']) & (t['end'] >= t['end_s']))
recalls(holds=lambda t: right_article(t) & (t['start'] <= t['start_s']) & (t['end'] > t['end_s']))
  A sentence at the very beginning or end of a passage is there whole: compare with ≤ and ≥.
recalls(holds=lambda t: (t['start'] <= t['start_s']) & (t['end'] >= t['end_s']))
  Character 100 of another article is another text: the article has to be the same.
100 * right
  when: value.max() > 1
  These are per cent; give shares.

best = recall.idxmax()
  At {cut_of(value)} the recall is not the highest of the {len(CUTS)} cuts.
articles.idxmax()
  {cut_of(value)} is best for the *article*: more small passages fit in. Look at the sentences.
recalls(lambda t: t['rank'] <= 3).idxmax()
  {cut_of(value)} is best if three passages are read, at any length. At 120 words another one is.

growth = windows(*cut_of(best))['words'].sum() / windows(cut_of(best)[0], 0)['words'].sum()
  {value:.4g} is not it: all words of the passages at {cut_of(best)} over those without overlap.
best[0] / (best[0] - best[1])
  This is that of an endless text. An article ends, and its last window has no next one: measure it.
len(windows(*cut_of(best))) / len(windows(cut_of(best)[0], 0))
  This counts passages. An embedder is paid by what it reads: words.
right - 1
  This is what comes on top; give the factor.
1.5
  This adds the overlap once. Each word but a few is in two windows.
""",
        recall=Column(),
        best=Numbers((2,), 1e-9),
    ),
    prediction=Prediction(
        "guess_4",
        ("both", "article", "sentence", "neither"),
        "['neither', 'sentence', 'article', 'both']"
        "[2 * (articles[20, 0] > articles[40, 0]) + (recall[20, 0] > recall[40, 0])]",
        "From 40 to 20 words, the share with the article goes from {articles[40, 0]:.0%} to "
        "{articles[20, 0]:.0%}, with the sentence from {recall[40, 0]:.0%} to {recall[20, 0]:.0%}.",
    ),
    shows="{best[0]:.0f} words with {best[1]:.0f} of overlap bring the whole sentence to "
    "{recall.max():.0%} of the questions, for {growth:.2f} times the words to embed.",
    hints=(
        "What has to reach the model so that it can answer, and what does sending it there cost?",
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
    return past[column].astype("category").cat.codes % 5
def shared(folds):  # articles that answer questions of several folds
    several = relevant["question"].map(folds).groupby(relevant["article"]).nunique() > 1
    return several.index[several]
def apart(folds, column):  # no value of a column is in two folds
    return folds.groupby(past[column]).nunique().max() == 1
def parts_of(folds):
    return [first_right(folds.index.difference(f.index), f.index) for _, f in folds.groupby(folds)]
def crossed(folds):
    return pd.concat(parts_of(folds)).mean()
def largest(folds):
    return folds.value_counts(normalize=True).max()
without = first_right([], past.index).mean()
""",
    parts=parts(
        """
folds = by('group')
  when: len(shared(value)) == 0 and value.nunique() >= 3 and largest(value) <= 0.5
  {len(shared(value))} articles answer questions of more than one fold, such as
  `{shared(value)[0]}`. Keep together whatever shares an article: whole groups of topics.
past['fold']
  These are the colleague's folds: other questions with the same article are in the training.
by('voice')
by('kind')
  when: apart(value, 'voice') or apart(value, 'kind')
  No {'voice' if apart(value, 'voice') else 'kind of question'} is in two folds, but
  {len(shared(value))} articles are. What the memory keeps is which article it was.
by('group') % 2
  when: value.nunique() < 3
  These are {value.nunique()} folds: make at least three, or a memory learns from too little.
by('group').where(by('group') > 2, 2)
  when: largest(value) > 0.5
  More than half of the questions are in one fold.

share = crossed(folds)
  {value:.4g} is not it: let `first_right` answer each fold from all *others*; take the mean of all.
crossed(past['fold'])
  This is still the colleague's, of folds drawn at random.
without
  This is that of the bot without a memory.
np.mean([part.mean() for part in parts_of(folds)])
  This is a mean over folds of unlike size. Each question counts once.

promise = 'known articles'
  {value} is not it.
'any question'
  On articles that nobody has asked about, the colleague's number is far off: `share` says so.
'new articles'
  On new articles expect `share`. The colleague's number is for articles asked about before.
""",
        folds=Groups(),
        promise=Word(("any question", "known articles", "new articles")),
    ),
    prediction=Prediction(
        "guess_5",
        ("small help", "no help", "harm"),
        "['no help', 'small help', 'harm'][int(np.sign(round(share - without, 2)))]",
        "Without a memory the bot is right in {without:.0%}.",
    ),
    shows="{crossed(past['fold']):.0%} are right with the memory by folds at random, {share:.0%} "
    "when no article is on both sides.",
    hints=(
        "What does the memory learn, and so must not be shared by a test and a training question?",
        "An article has one topic, and similar topics form a group. Put whole groups into folds.",
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
probes = [(versions, time) for time in moments(versions)]
def rule(keeps):  # of whether it has begun, the midnight of its last day, and the time
    return lambda t, now: t[keeps(t["valid_from"] <= now, t["valid_to"].fillna(FAR), now)]
def first_gap(value, right):
    for time, found, there in zip(moments(versions), value, right):
        if more := set(found["id"]) ^ set(there["id"]):
            few = len(more - set(found["id"]))
            return f"{time}: {len(more) - few} versions too many, {few} missing"
said = served.merge(versions, left_on="said", right_on="id")
over, last = said["valid_to"].fillna(FAR) + DAY, served["time"].max()
newest = versions.groupby("article_id")["valid_from"].transform("max") == versions["valid_from"]
both = served.reset_index().merge(versions, left_on="question", right_on="article_id")
then = both["time"] < both["valid_to"].fillna(FAR) + DAY
again = both.loc[then & (both["valid_from"] <= both["time"]), "id"].duplicated()
# A contact with no version in force may be left out of the count of `hits`, or be no hit.
""",
    parts=parts(
        """
in_force = lambda t, now: rule(lambda b, end, now: b & (now < end + DAY))(t, now)[['id']]
lambda t, now: t[(t['valid_from'] <= now.normalize()) & ~(t['valid_to'] < now.normalize())]
  At {first_gap(value, right)}. A version is in force from `valid_from` to the end of `valid_to`.
rule(lambda b, end, now: b & (now <= end))
rule(lambda b, end, now: b & (now < end))
  An article is missing on its last day. `valid_to` is the midnight at which that day *begins*.
rule(lambda b, end, now: b & (now <= end + DAY))
  This returns two versions at the midnight between them, when the old one has ended: <, not ≤.
lambda t, now: t[(t['valid_from'] <= now) & (now < t['valid_to'] + DAY)]
  This loses every version without an end. A comparison with a missing date is False.
rule(lambda b, end, now: now < end + DAY)
  This never looks at `valid_from`: it returns what has only been announced.
lambda t, now: t[t['valid_from'] <= now].sort_values('valid_from').groupby('article_id').tail(1)
  This never looks at `valid_to`. An article that was withdrawn has no version in force any more.
rule(lambda b, end, now: b)
  This returns every version that has ever begun, old ones too.

stale = int((said['time'] >= over).sum())
  {value:.6g} is not it: join `served` with `versions` on `said`. Was that in force at the `time`?
(said['time'] > said['valid_to']).sum()
  This calls answers of the last day stale: `valid_to` is the midnight at which that day begins.
(~(said['time'] < said['valid_to'] + DAY)).sum()
  This counts every answer from a version without an end.
(last >= over).sum()
  An answer is stale if its version had ended when it was *given*, not by the end of the log.
(said['time'] >= over + DAY).sum()
  A version lives one day too long.
((said['time'] >= over) & ~said['id'].isin(versions.loc[newest, 'id'])).sum()
  Answers from articles that were withdrawn, with nothing new after them, are stale, too.
served['from_cache'].sum()
  This counts all answers from the cache. Most of them were still right.
right / len(served)
  This is a share; give the number of answers.

hits = again.sum() / len(served)
again.mean()
  when: abs(value / again.mean() - 1) <= 2e-4
  {value:.4g} is not it: a pair of question and version is a miss the first time, later a hit.
served['question'].duplicated().mean()
  This is that of a cache that knows the question alone: it never sees that an article changed.
(served['question'] + served['time'].dt.strftime('%F')).duplicated().mean()
  This is that of a key with the day. It is never stale, but forgets each night what did not change.
served['from_cache'].mean()
  This is that of the cache as it is, with its 14 days.
1 - right
  This is the share of misses.
""",
        in_force=Function("probes", returns=Table(("id",))),
        stale=Number(1e-9),
        hits=Number(2e-4),
    ),
    prediction=Prediction(
        "guess_6",
        ("above", "below"),
        "'above' if stale / len(served) > 0.01 else 'below'",
        "Stale are {stale / len(served):.2%}: changes are rare, and no answer lives long.",
    ),
    shows="{stale:.0f} of {len(served):,} answers were stale. With the version in the key none is, "
    "and hits rise from {served.from_cache.mean():.1%} to {hits:.1%}: nothing has to expire.",
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
fates = everything.loc[everything["contained"], "fate"]
def gap_of(*columns):
    euro = contacts.set_index(["contact", "policy"])[list(columns)].sum(axis=1).unstack()
    return euro["answers all"] - euro["hands over"]
gap, of = gap_of("carrier", "customer"), everything.set_index("contact")["question"]
by = gap.groupby(of).agg(["sum", "size"])
left = by["sum"] - by["size"] * gap.mean()
half = 1.96 * np.sqrt((left**2).sum() * len(by) / (len(by) - 1)) / len(gap)
narrow = 1.96 * gap.std() / np.sqrt(len(gap))
def around(reach, middle=gap.mean()):
    return middle - reach, middle + reach
def reach_of(value):
    return (value[1] - value[0]) / 2
def drawn(units):  # a bootstrap over rows of sums and sizes
    rows, rng = units.to_numpy(), np.random.default_rng(0)
    sums = [rows[rng.integers(0, len(rows), len(rows))].sum(axis=0) for _ in range(1000)]
    return np.quantile([total / size for total, size in sums], [0.025, 0.975])
""",
    parts=parts(
        """
unhelped = unresolved(everything)
  {value:.4g} is not it: where all is answered, the share of contained contacts not resolved.
(everything['contained'] & ~everything['resolved']).mean()
1 - everything['resolved'].mean()
  This is a share of all contacts. Take that of the contained ones, the dashboard's successes.
(fates == 'believed').mean()
(fates == 'gave_up').mean()
  Who gives up is not helped, and neither is who believes a wrong answer: count both.
unresolved(other)
unresolved(contacts)
  The other policy is in this, alone or pooled. The question asks for the one that answers all.
1 - right
  This is the share that *was* helped.
100 * right
  when: value > 1
  This is in per cent; give a share.

dearer = gap.mean()
  {value:.4g} is not it: carrier plus customer, the mean if all is answered less the other policy's.
gap_of('carrier').mean()
  This is the carrier's bill alone. What customers lose counts as well, though no dashboard has it.
gap_of('customer').mean()
  This is the customers' loss alone. The carrier's own bill belongs to it.
-right
  The sign is turned: answering all minus handing over.
gap.groupby(of).mean().mean()
  This gives each *question* the same weight, but some are asked ten times as often as others.
2 * right
right / 2
  Divide by the contacts: not by half of them, nor by the rows, two for each contact.
100 * gap.mean() / other[['carrier', 'customer']].sum(axis=1).mean()
  This is in per cent of the other policy's euro; give the euro.

interval = around(half)
drawn(by)
list(around(1.96 * np.sqrt((left**2).sum()) / len(gap)))
  when: abs(reach_of(value) / half - 1) <= 0.1 and abs(sum(value) / 2 - dearer) <= half / 4
  This reaches {reach_of(value):.2f} euro to each side. Draw questions with replacement, each with
  all its contacts, and take the middle 95 % of the means of their differences.
around(narrow)
drawn(pd.DataFrame({'sum': gap, 'size': 1}))
  when: abs(reach_of(value) / narrow - 1) <= 0.08 and value[0] < dearer < value[1]
  The same question gets the same answer however often it is asked: draw *questions*, not contacts.
around(half / 1.96)
around(reach_of(drawn(by)) / 1.96)
  when: abs(1.96 * reach_of(value) / half - 1) <= 0.1
  This is one standard error to each side; 95 % needs 1.96.
around(-half)
  when: value[0] >= value[1]
  The upper end comes first.
around(half, middle=0)
  when: abs(sum(value) / 2 - dearer) > reach_of(value) / 2
  This does not hold `dearer` itself, or holds it far from its middle.
""",
        interval=Numbers((2,)),
    ),
    prediction=Prediction(
        "guess_7",
        ("more than half", "less than half"),
        "'more than half' if unhelped < 0.5 else 'less than half'",
        "Of the contained contacts {1 - unhelped:.0%} were helped.",
    ),
    shows="{everything['contained'].mean():.0%} are contained; {unhelped:.0%} of them got no help. "
    "Handing over saves {dearer:.2f} euro a contact ({interval[0]:.2f} to {interval[1]:.2f}).",
    hints=(
        "Who is contained? Read the definition again: it says what did *not* happen. Then ask for "
        "whom the euro are lost.",
        "`dearer` is a mean of differences, one for each contact. How many independent pieces of "
        "evidence are behind it: contacts, or questions?",
        "Sum the differences and count the contacts of each question; draw questions with "
        "replacement, divide the drawn sum by the drawn count, a few hundred times.",
    ),
)
