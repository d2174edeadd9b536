"""Questions of exercise 16: fusion, a threshold, a judge, chunks, a leak, a cache, containment.

:mod:`casebook.cases.support_rag_chatbot.exercise_data` and ``exercise_logs`` say what a student's
seed draws.
"""

from __future__ import annotations

from casebook.cases.support_rag_chatbot.questions_of_money import exercise, q2, q3, q7  # noqa: F401
from casebook.exercises.asked import (
    Column,
    Function,
    Groups,
    Number,
    Numbers,
    Prediction,
    Table,
    Word,
    parts,
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
  A document that a list did not find has rank 1 here. A default of 0 *points* was meant, no rank.
lends(lambda last: last + 1)
  A document that a list did not find has the rank after its last one here, so that a short list
  gives away more than a long one. What is not found gets nothing.
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
        "fused, *alone = map(ndcg, (rerank_by(rrf(words, vectors)), words, vectors))\n"
        "'better' if fused > max(alone) else 'worse'",
        "The nDCG@10 of the fusion is {fused:.2f}, of `vectors` alone {alone[1]:.2f}, of `words` "
        "{alone[0]:.2f}.",
    ),
    shows="At k = 60 two votes beat one down to rank {deepest:.0f}: with lists of 10, whatever "
    "both hold ranks above what one holds. Only with k up to {largest_k:.0f} does a first place "
    "alone win against two tenth ones.",
    hints=(
        "What has no common unit must not be added. Ranks have one. And a document that a list "
        "does not hold has no rank there at all: what should it get?",
        "Give each row 1 / (k + rank), put the two runs below each other, and add up by question "
        "and document. For the numbers, write both scores down and solve the inequality.",
        "2 / (60 + r) > 1 / 61 holds for r < 62, and 1 / (k + 1) > 2 / (k + 10) for k < 8.",
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
  Three passages are read here: 60 words of one cut, 240 of another. Compare at 120 words.
recalls(lambda t: t['rank'] > 0)
  All 16 passages that were found are read here. The model reads 120 words.
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
        "From 40 to 20 words, the article is found for {articles[20, 0]:.0%} of the questions "
        "instead of {articles[40, 0]:.0%}, the whole sentence for {recall[20, 0]:.0%} instead of "
        "{recall[40, 0]:.0%}.",
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
by('group') % 2
  when: value.nunique() < 3
  All questions are in {value.nunique()} fold{'' if value.nunique() == 1 else 's'}. Make at least
  three, or a memory learns from too little.
by('voice')
by('kind')
  when: apart(value, 'voice') or apart(value, 'kind')
  No {'voice' if apart(value, 'voice') else 'kind of question'} is in two folds, but
  {len(shared(value))} articles are. What the memory keeps is which article it was.
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
        folds=Groups(called="fold"),
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
from casebook.cases.support_rag_chatbot.exercise_logs import moments
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
  At noon of a last day this returns nothing of the article. `valid_to` is the midnight at which
  that day *begins*, and the article is valid to its end.
rule(lambda b, end, now: b & (now < end))
  This leaves the moment `valid_to` out, so that an article is missing on its last day. That day
  belongs to it.
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
again.sum()
  when: value > 1
  {value:,.0f} is a number of contacts, or a percentage; give a share of all contacts.
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
    shows="{stale:.0f} of {len(served):,} answers were stale. With the version in the key none can "
    "be, and the hits rise from {served.from_cache.mean():.1%} to {hits:.1%}: what cannot go stale "
    "need not expire.",
    hints=(
        "Draw two versions on a line and mark their midnights. At which moment does the old one "
        "end? The time of an answer has hours; `valid_to` has none.",
        "A version ends at `valid_to` plus one day, that moment left out, and never where it is "
        "missing. An answer is stale if its version had ended when it was given.",
        "For `hits`, find for each contact the version in force at its time (merge on the article, "
        "then your rule); a contact is a hit unless its version comes for the first time.",
    ),
)
