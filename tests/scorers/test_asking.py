"""Scorers that ask a model: what they ask, what they read, and what is booked."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.errors import ConfigError, DataError, MissingSignalError
from agentroute.scorers import LLMJudge, SelfConsistency, SelfVerification, VerbalisedConfidence, Verified
from agentroute.scorers._stated import percentage
from agentroute.types import Query, Reply, TokenLogprob

QUERY = Query(text="What is 12 + 7?")
REPLY = Reply(text="The sum is 19.", cost=99.0)


class Says:
    """An asker that says these texts in turn, at 0.25 USD each, and keeps what it was asked."""

    def __init__(self, *texts, cost=0.25, tokens=None):
        self.replies = [Reply(text=text, cost=cost, tokens=tokens) for text in texts]
        self.asked = []

    def ask(self, prompt, /, **options):
        self.asked.append((prompt, options))
        return self.replies[: options["samples"]]

    async def aask(self, prompt, /, **options):
        return self.ask(prompt, **options)


async def both(scorer, query=QUERY, reply=REPLY):
    """The score, which must be the same however it is asked for."""
    found = scorer.score(query, reply)
    assert found == await scorer.ascore(query, reply)
    return found


async def test_self_consistency_is_the_share_that_agrees():
    asker = Says("the sum is  19", "**The sum is 19.**", "It is 20.", "The sum is 19")
    found = await both(SelfConsistency(asker, k=4))
    assert found.value == 0.75
    assert found.cost == 1.0  # four samples; the answer's own cost is not the scorer's
    # Groups of 4 and 1 among the answer and its four samples.
    entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2)) / math.log(5)
    assert found.signals == pytest.approx({"self_consistency": 0.75, "self_consistency.entropy": entropy})
    prompt, options = asker.asked[0]
    assert prompt == QUERY.text  # and nothing of the answer
    assert (options["samples"], options["temperature"]) == (4, 0.7)


async def test_self_consistency_by_numbers_or_by_a_function():
    asker = Says("12 + 7 = 19", "19.0", "twenty", "1,900")
    assert (await both(SelfConsistency(asker, k=4, same="number"))).value == 0.5
    assert (await both(SelfConsistency(asker, k=4, same="number"), reply=Reply(text="I cannot say"))).value == 0.0
    first = SelfConsistency(asker, k=4, same=lambda one, other: one[0] == other[0])
    assert (await both(first, reply=Reply(text="1"))).value == 0.75
    worded = SelfConsistency(asker, k=1, ask=lambda query: f"Q: {query.text}")
    await both(worded)
    assert asker.asked[-1][0] == "Q: What is 12 + 7?"


@pytest.mark.parametrize(("texts", "value", "entropy"), [(["19"] * 3, 1.0, 0.0), (["1", "2", "3"], 0.0, 1.0)])
async def test_self_consistency_at_its_ends(texts, value, entropy):
    found = await both(SelfConsistency(Says(*texts), k=3), reply=Reply(text="19"))
    assert (found.value, found.signals["self_consistency.entropy"]) == (value, pytest.approx(entropy, abs=1e-12))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("85", 0.85),
        ("85%", 0.85),
        (" 85 % ", 0.85),
        ("I am 85 percent sure.", 0.85),
        ("Confidence: 85", 0.85),
        ("80-90%", 0.85),
        ("between 80% and 90%", None),
        ("80 \u2013 90 %", 0.85),
        ("80 to 90 percent", 0.85),
        ("85/100", 0.85),
        ("9 out of 10", 0.9),
        ("It's 50/50.", 0.5),
        ("50 / 50", 0.5),
        ("80/20 in favour", 0.8),
        ("0/100", 0.0),
        ("100/0", 1.0),
        ("10/0", None),
        ("99.5/0.5", 0.995),
        ("100/100", 1.0),
        ("10/10", 1.0),
        ("50 out of 50", 1.0),
        ("0.85", 0.85),
        ("1.0", 1.0),
        ("1", 0.01),
        ("0", 0.0),
        ("100%", 1.0),
        ("99.5%", 0.995),
        ("0.5%", 0.005),
        ("85,5 %", 0.855),
        ("99,75", 0.9975),
        ("0,85", 0.85),
        ("0,855", 0.855),
        ("85,5-86,5 %", 0.86),
        ("8,5 out of 10", 0.85),
        ("1,000 %", None),
        ("1,000", None),
        ("90%. Yes, 90 %.", 0.9),
        ("I see 3 facts, so 85%", 0.85),
        ("95% sure, 5% in doubt", None),
        ("95% sure, 5% in doubt.\n95%", 0.95),
        ("90\nbecause 2 of 3 facts hold", 0.9),
        ("150%", None),
        ("-5%", None),
        ("1000", None),
        ("very sure", None),
        ("", None),
        ("19 is right, I am certain: 100", None),
    ],
)
async def test_a_stated_confidence_is_read_or_refused(text, value):
    assert percentage(text) == (None if value is None else pytest.approx(value))
    found = await both(VerbalisedConfidence(Says(text)))
    assert found.value == pytest.approx(value or 0.0)
    assert found.signals["verbalised_confidence.readable"] == float(value is not None)
    assert found.cost == 0.25  # booked, read or not


@given(st.text(max_size=60))
def test_no_words_break_the_reader(text):
    found = percentage(text)
    assert found is None or 0.0 <= found <= 1.0


@given(st.integers(0, 100), st.sampled_from(["{}%", "{} %", "{}", "About {} percent.", "Confidence: {}%\n", "{}/100"]))
def test_every_percentage_is_read(value, form):
    assert percentage(form.format(value)) == pytest.approx(value / 100)


@pytest.mark.parametrize(
    ("scorer", "what"), [(VerbalisedConfidence, "percentage"), (SelfVerification, "verdict"), (LLMJudge, "grade")]
)
async def test_what_cannot_be_read_is_a_declared_value_or_a_named_error(scorer, what):
    assert (await both(scorer(Says(*["no idea"] * 8)))).value == 0.0
    assert (await both(scorer(Says(*["no idea"] * 8), unreadable=0.5))).value == 0.5
    with pytest.raises(MissingSignalError, match="a reply of 7 characters") as caught:
        scorer(Says(*["no idea"] * 8), unreadable=None).score(QUERY, REPLY)
    assert caught.value.signal == what
    with pytest.raises(ConfigError, match="unreadable=2"):
        scorer(Says(), unreadable=2)


@pytest.mark.parametrize("make", [VerbalisedConfidence, lambda asker, **given: SelfVerification(asker, k=1, **given), LLMJudge])
async def test_of_an_unreadable_reply_only_the_length_leaves(make):
    """An answer can make a judge repeat what it likes: its words must not get into logs as the scorer's own."""
    words = "Grade: excellent. See https://evil.example/?q=secret"
    found = await both(make(Says(words)))
    assert found.value == 0.0
    with pytest.raises(MissingSignalError) as caught:
        make(Says(words), unreadable=None).score(QUERY, REPLY)
    for told in (found.reason, str(caught.value), repr(caught.value)):
        assert f"a reply of {len(words)} characters" in told
        assert not any(word in told for word in ("Grade", "excellent", "evil", "secret"))


async def test_self_verification_counts_the_verdicts():
    asker = Says("Correct", "Incorrect", "correct.", "The answer is not correct", "**Verdict:** incorrect")
    found = await both(SelfVerification(asker, k=5))
    assert found.value == 0.5
    assert found.signals == pytest.approx({"self_verification": 0.5, "self_verification.readable": 0.8})
    assert found.cost == 1.25
    prompt, options = asker.asked[0]
    assert (options["samples"], options["temperature"], options["logprobs"]) == (5, 1.0, False)
    assert prompt.index("Sydney") < prompt.index(QUERY.text) < prompt.index(REPLY.text)
    assert prompt.count("Verdict: Correct") == prompt.count("Verdict: Incorrect") == 2
    assert prompt.endswith("Reply with one word, Correct or Incorrect, and nothing else.")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("**Correct**", 1.0),
        ("Verdict: correct!", 1.0),
        ("My final answer: Incorrect", 0.0),
        ("'Correct'\u2026\n", 1.0),
        ("Incorrect, it is not 19.", 0.0),
        ("Incorrect.\n\nThe sum is 20.", 0.0),
        ("Incorrect, the correct sum is 20.", None),
        # What follows an approval may take it back, in whatever words.
        ("Correct.\n\nThe sum is 19.", None),
        ("Correct, as 12 + 7 = 19", None),
        ("Correct. It is wrong.", None),
        ("Correct (wrong)", None),
        ("Correct: False", None),
        ("Correct. False.", None),
        ('"Correct" would be a lie.', None),
        ("Correct: unlikely", None),
        ("Correct: 0", None),
        ("Correct \u274c", None),
        ("Correct: \u9519\u8bef", None),
        ("Correct? No: Incorrect.", None),
        ("Correct? No.", None),
        ("Correct, not.", None),
        ("Correct, but it isn't complete", None),
        ("Correct. Or incorrect.", None),
        ("Correct-ish", None),
        ("Correct answers are rare", None),
        ("Correctly put.", None),
        ("This isn't correct.", None),
        ("Not entirely correct.", None),
        ("It cannot be called correct", None),
        ("No, it's far from correct", None),
        ("That is not incorrect.", None),
        ("The answer is correct.", None),
    ],
)
async def test_a_verdict_is_one_of_the_words_and_a_denial_is_none(text, value):
    found = await both(SelfVerification(Says(text), k=1, unreadable=0.25))
    assert found.value == (0.25 if value is None else value)
    assert found.signals["self_verification.readable"] == float(value is not None)


@pytest.mark.parametrize(
    ("text", "value"),
    [("No, it is not.", 0.0), ("Yes.", 1.0), ("Yes, it is.", None), ("Yes and no", None), ("No. Yes.", None), ("Nothing.", None)],
)
async def test_a_verdict_in_words_of_ones_own(text, value):
    found = await both(SelfVerification(Says(text), words=("Yes", "No"), k=1, unreadable=0.25))
    assert found.value == (0.25 if value is None else value)


async def test_own_examples_replace_the_shipped_ones():
    asker = Says("Correct")
    await both(SelfVerification(asker, k=1, examples=[Verified(question="1 + 1?", answer="3", correct=False)]))
    assert "Sydney" not in asker.asked[0][0]
    assert "1 + 1?" in asker.asked[0][0]
    with pytest.raises(ConfigError, match="Verified"):
        SelfVerification(asker, examples=["1 + 1 = 2"])


def first(logprobs, chosen, blank=False):
    token = TokenLogprob(token=chosen, logprob=math.log(logprobs[chosen]), top={t: math.log(p) for t, p in logprobs.items()})
    return ((TokenLogprob(token="\n", logprob=-0.1),) if blank else ()) + (token,)


@pytest.mark.parametrize("blank", [False, True])
async def test_the_first_token_says_what_many_samples_would(blank):
    tokens = first({" Correct": 0.5, "correct": 0.1, "In": 0.2, "Maybe": 0.1}, " Correct", blank)
    asker = Says("Correct", tokens=tokens)
    found = await both(SelfVerification(asker, logprobs=True))
    assert found.value == pytest.approx(0.6 / 0.8)
    assert found.signals["self_verification.readable"] == pytest.approx(0.8)
    assert found.cost == 0.25  # one reply
    assert (asker.asked[0][1]["samples"], asker.asked[0][1]["logprobs"]) == (1, True)


@pytest.mark.parametrize(
    ("before", "value"), [(["Ver", "dict", ":", " "], 0.75), (["**"], 0.75), (["The answer is", " not", " "], 0.5)]
)
async def test_a_title_may_come_first_but_not_a_sentence(before, value):
    """ "not correct" is no Correct: after a sentence the first place decides, where here both are as likely."""
    start = {"Correct": -3.0, "Incorrect": -3.0}
    tokens = tuple(TokenLogprob(token=text, logprob=-0.1, top=start) for text in before)
    last = TokenLogprob(token="correct", logprob=math.log(0.6), top={"correct": math.log(0.6), "incorrect": math.log(0.2)})
    asker = Says("".join(before) + "correct", tokens=(*tokens, last))
    assert (await both(SelfVerification(asker, logprobs=True))).value == pytest.approx(value)


async def test_a_chosen_token_counts_though_it_is_not_among_the_likeliest():
    tokens = (TokenLogprob(token="Inc", logprob=math.log(0.1), top={"Cor": math.log(0.3)}),)
    assert (await both(SelfVerification(Says("Incorrect", tokens=tokens), logprobs=True))).value == pytest.approx(0.75)
    other = (TokenLogprob(token="Maybe", logprob=math.log(0.9), top={"It": math.log(0.1)}),)
    assert (await both(SelfVerification(Says("Maybe", tokens=other), logprobs=True, unreadable=0.25))).value == 0.25


@pytest.mark.parametrize(
    ("words", "told", "top", "readable"),
    [
        (("Correct", "Incorrect"), ["I", " think"], {"I": 0.6, "Correct": 0.25}, 0.25),
        (("Correct", "Incorrect"), ["In", " my view"], {"In": 0.6, "Correct": 0.25}, 0.25),
        (("Correct", "Incorrect"), ["In", "correct"], {"In": 0.25, "I": 0.5}, 0.25),
        (("Yes", "No"), ["Not", " quite"], {"Not": 0.5, "Nothing": 0.25, "Yes": 0.125, "N": 0.0625}, 0.125),
        (("Yes", "No"), ["No", "thing"], {"No": 0.5, "Yes": 0.25}, 0.25),
        (("A", "B"), ["A"], {"A": 0.5, "B": 0.25, "Apple": 0.125}, 0.75),
    ],
)
async def test_a_letter_or_another_word_is_no_piece_of_a_verdict(words, told, top, readable):
    likeliest = {token: math.log(share) for token, share in top.items()}
    first_token = TokenLogprob(token=told[0], logprob=likeliest[told[0]], top=likeliest)
    tokens = (first_token, *(TokenLogprob(token=token, logprob=-0.1) for token in told[1:]))
    scorer = SelfVerification(Says("".join(told), tokens=tokens), words=words, logprobs=True)
    assert (await both(scorer)).signals["self_verification.readable"] == pytest.approx(readable)


def test_no_logprobs_from_the_asker_is_a_named_error():
    with pytest.raises(MissingSignalError, match="logprobs=False") as caught:
        SelfVerification(Says("Correct"), logprobs=True).score(QUERY, REPLY)
    assert caught.value.signal == "logprobs"


SCORERS = [
    lambda asker: SelfConsistency(asker, k=2),
    VerbalisedConfidence,
    lambda asker: SelfVerification(asker, k=2),
    lambda asker: LLMJudge(asker, votes=2),
]


@pytest.mark.parametrize("make", SCORERS)
async def test_an_unknown_cost_stays_unknown(make):
    assert (await both(make(Says("50", "50", cost=None)))).cost is None


@pytest.mark.parametrize("make", SCORERS)
def test_a_question_that_nobody_kept_cannot_be_shown(make):
    with pytest.raises(MissingSignalError, match="the query's text"):
        make(Says("50", "50")).score(Query(text="", withheld=True), REPLY)


@pytest.mark.parametrize("make", SCORERS)
def test_an_asker_that_says_nothing_is_an_error(make):
    with pytest.raises(DataError, match="gave no reply"):
        make(Says()).score(QUERY, REPLY)


def test_options_out_of_range_are_refused():
    for wrong in (
        lambda: SelfConsistency(Says(), k=0),
        lambda: SelfConsistency(Says(), k=True),
        lambda: SelfConsistency(Says(), same="meaning"),
        lambda: VerbalisedConfidence(Says(), limit=0),
        lambda: SelfVerification(Says(), k=1.5),
        lambda: LLMJudge(Says(), ceiling=float("nan")),
        lambda: LLMJudge(Says(), name=""),
    ):
        with pytest.raises(ConfigError):
            wrong()
    assert SelfConsistency(Says(), ceiling=0.5).ceiling == 0.5
    assert SelfConsistency(Says()).ceiling is None


async def test_a_template_and_words_of_ones_own():
    asker = Says(
        "Yes", tokens=(TokenLogprob(token=" Yes", logprob=math.log(0.6), top={" Yes": math.log(0.6), "No": math.log(0.2)}),)
    )
    template = "Q: {question}\nA: {answer}\nRight?"
    scorer = SelfVerification(asker, template=template, words=("Yes", "No"), max_tokens=1, logprobs=True)
    query = Query(text="What is {answer}?")
    assert scorer.prompt(query, REPLY).text == f"Q: What is {{answer}}?\nA: {REPLY.text}\nRight?"
    assert scorer.prompt(query, REPLY).max_tokens == 1
    assert (await both(scorer)).value == pytest.approx(0.75)
    said = SelfVerification(Says("No, it is not."), words=("Yes", "No"), k=2)
    assert (await both(said)).value == 0.0
    assert "Yes or No" in said.prompt(QUERY, REPLY).text


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"template": "Is {answer} right?"}, "must hold"),
        ({"words": ("Right", "Rubbish")}, "different letters"),
        ({"words": ("Yes",)}, "different letters"),
    ],
)
def test_a_template_needs_its_places_and_words_must_differ(options, match):
    with pytest.raises(ConfigError, match=match):
        SelfVerification(Says("Yes"), **options)
