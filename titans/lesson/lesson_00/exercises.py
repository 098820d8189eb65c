"""Exercises of lesson 00: how far the question is from the facts, and what a guesser gets."""

import math
from itertools import permutations
from random import Random

from titans.lesson.kit.exercise import Exercise, Mistake

# Exercise 1: a guesser who knows which places were told, but not whose they are.


def _guess(pairs: int) -> float:
    """The mean over all orders in which answers can come: guess one that is left, learn the right
    one, go on."""
    orders = list(permutations(range(pairs)))
    right = sum(answer == min(order[place:]) for order in orders for place, answer in enumerate(order))
    return right / (len(orders) * pairs)


CROSSING_OFF = Exercise(
    lambda seed: [(pairs,) for pairs in Random(seed).sample(range(1, 8), 5)],
    _guess,
    {
        "no crossing off": Mistake(
            lambda pairs: 1 / pairs,
            "That is a guesser who forgets what was answered already. After each question one place fewer is left.",
            "それは、すでに出た答えを忘れる人の当てずっぽうです。質問のたびに、残る場所は1つずつ減ります。",
        ),
        "number, not share": Mistake(
            lambda pairs: sum(1 / left for left in range(1, pairs + 1)),
            "That is the number of right answers. Divide it by the number of questions to have the share.",
            "それは正解の個数です。割合にするには、質問の数で割ります。",
        ),
        "all of them": Mistake(
            lambda pairs: 1 / math.factorial(pairs),
            "That is the chance that all answers are right. Asked for is the share that is right on average.",
            "それは全問正解する確率です。求めるのは、平均して何割が正解になるかです。",
        ),
        "first and last": Mistake(
            lambda pairs: (1 / pairs + 1) / 2,
            "That is the middle between the first question and the last. In between the chance does not rise evenly: "
            "add all of them up.",
            "それは最初と最後の質問の中間の値です。途中の確率は一定の割合では増えません。全部を足してください。",
        ),
        "any place": Mistake(
            lambda pairs: 1 / 32,
            "That is a guesser who knows nothing. This one knows which places were told.",
            "それは、何も知らない人の当てずっぽうです。この人は、どの場所が伝えられたかを知っています。",
        ),
        "last one left out": Mistake(
            lambda pairs: sum(1 / left for left in range(2, pairs + 1)) / pairs,
            "The last question is missing: only one place is left then, and the guess is certainly right.",
            "最後の質問が抜けています。残る場所は1つなので、必ず当たります。",
        ),
        "one question too many": Mistake(
            lambda pairs: sum(1 / left for left in range(1, pairs + 1)) / (pairs + 1),
            "You divide by one question more than there are.",
            "実際より1つ多い質問数で割っています。",
        ),
    },
    "Correct: it agrees with a count over every order in which the answers can come.",
    "正解です。答えの出る順序をすべて数え上げた結果と一致しました。",
)


# Exercise 2: segments between the last token told and the question.


def _borders(told: int, filler: int, segment_len: int) -> int:
    """Number every token with its segment, and compare."""
    segment_of = [place // segment_len for place in range(told + filler + 1)]
    return segment_of[-1] - segment_of[:told][-1]


def _stretches(seed: int) -> list[tuple]:
    """Any, and some where something stands at a border of segments or the filler is short or of whole segments."""
    pick, cases = Random(seed), []
    for _ in range(3):
        told, rest, segment_len, segments = pick.sample(range(3, 17), 4)
        cases += [
            (told, rest + 17 * segments, segment_len),
            (segments * segment_len, rest, segment_len),
            (told, -told % segment_len + (rest % 3) * segment_len, segment_len),
            (segments * segment_len + 1, 1, segment_len),
            (segments * segment_len, segment_len - 1, segment_len),
            (1, segments * segment_len - 1, segment_len),
            (told, segments * segment_len, segment_len),
        ]
    return cases


SEGMENTS_BETWEEN = Exercise(
    _stretches,
    _borders,
    {
        "only the filler": Mistake(
            lambda told, filler, segment_len: filler // segment_len,
            "You count segments in the filler alone. It begins where the telling ends, in the middle of a segment.",
            "埋め草だけでセグメントを数えています。埋め草は、伝え終わったところ（セグメントの途中）から始まります。",
        ),
        "rounded up": Mistake(
            lambda told, filler, segment_len: -(-filler // segment_len),
            "You round the filler up to whole segments. A short filler can end in the segment in which it began.",
            "埋め草の長さをセグメント単位に切り上げています。短い埋め草なら、始まったセグメントの中で終わることもあります。",
        ),
        "from the start": Mistake(
            lambda told, filler, segment_len: (told + filler) // segment_len,
            "That is the question's segment, counted from the very start. Subtract the last told token's segment.",
            "それは、最初から数えた質問のセグメントの番号です。最後に伝えたトークンのセグメントの番号を引いてください。",
        ),
        "one too far at the telling": Mistake(
            lambda told, filler, segment_len: (told + filler) // segment_len - told // segment_len,
            "Off by one at the telling: counted from 0, its last token stands at told - 1.",
            "伝えた部分の数え方が1つずれています。0から数えると、最後に伝えたトークンの位置は told - 1 です。",
        ),
        "one short at the question": Mistake(
            lambda told, filler, segment_len: (told + filler - 1) // segment_len - (told - 1) // segment_len,
            "Off by one at the question: counted from 0, it stands at told + filler.",
            "質問の数え方が1つずれています。0から数えると、質問の位置は told + filler です。",
        ),
        "no whole number": Mistake(
            lambda told, filler, segment_len: filler / segment_len,
            "Segments are whole: use // to find a token's segment.",
            "セグメントの数は整数です。トークンのセグメントを求めるには // を使います。",
        ),
        "the question with the filler": Mistake(
            lambda told, filler, segment_len: (filler + 1) // segment_len,
            "You count segments in the filler and the question alone, as if a segment began with the filler.",
            "埋め草と質問だけでセグメントを数えています。埋め草の始まりがセグメントの始まりとは限りません。",
        ),
        "one more than the filler": Mistake(
            lambda told, filler, segment_len: filler // segment_len + 1,
            "One more than fits into the filler is right only sometimes: it depends on where in a segment the "
            "telling ends.",
            "埋め草に入る数に1を足しても、正しいとは限りません。伝え終わりがセグメントのどこにあるかで変わります。",
        ),
    },
    "Correct: it agrees with numbering every token, in 21 settings.",
    "正解です。トークンに1つずつ番号を付けて数えた結果と、21通りの設定で一致しました。",
)
