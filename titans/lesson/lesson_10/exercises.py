"""The exercises of lesson 10: the bits of each byte, the names for which a memory saves most, and where the bits
are spent."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.checkpoints import load_checkpoint
from titans.corpus import Text, bits
from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.exercise import Exercise, Mistake, RefusedError, Verdict, returned, seed_of, values
from titans.model import TitansLM

BYTES = 256
FAR = 800.0  # exp of it is no number of float64 any more

# Exercise 1: the bits of each byte.


def _bits_cases(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Logits and bytes; one case's logits are all large, another's differ a lot."""
    draw, pick, cases = random_draw(seed), Random(seed), []
    for tokens, size, far in zip(pick.sample(range(4, 10), 3), (1.0, 4.0, 2.0), (0.0, 0.0, FAR), strict=True):
        logits = size * draw(tokens, BYTES) + far
        read = torch.tensor([pick.randrange(BYTES) for _ in range(tokens)])
        cases.append((logits, read))
    return cases


def _bits_truth(logits: Tensor, tokens: Tensor) -> Tensor:
    """The loss that the model was trained with, in bits."""
    return F.cross_entropy(logits[:-1], tokens[1:], reduction="none") / math.log(2)


def _of(logits: Tensor, tokens: Tensor) -> Tensor:
    """The bits of each byte by the logits in its own row."""
    return -logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0] / math.log(2)


OWN_LOGITS = (
    "Each byte is looked up in the logits of its own place. They come from a model that has read that byte already, "
    "and predict the next one.",
    "各バイトを、その場所のロジットで調べています。そのロジットは、そのバイトを読んだ後のもので、次のバイトの予測です。",
)


BITS = Exercise(
    _bits_cases,
    _bits_truth,
    {
        "nats": Mistake(
            lambda logits, tokens: _bits_truth(logits, tokens) * math.log(2),
            "These are nats, of the natural logarithm. A bit is a factor of 2 in the chance: divide by log 2.",
            "それは自然対数による値で、単位はナットです。1ビットは確率の2倍の差にあたるので、log 2 で割ります。",
        ),
        "digits": Mistake(
            lambda logits, tokens: _bits_truth(logits, tokens) * math.log10(2),
            "That is the logarithm to base 10. For bits the base is 2.",
            "それは10を底とする対数です。ビットの底は2です。",
        ),
        "sign": Mistake(
            lambda logits, tokens: -_bits_truth(logits, tokens),
            "The sign is flipped: a chance is below 1, its logarithm is negative, and a cost is not.",
            "符号が逆です。確率は1より小さいので、その対数は負になります。コストは正です。",
        ),
        "own logits, all": Mistake(_of, *OWN_LOGITS),
        "own logits": Mistake(lambda logits, tokens: _of(logits[1:], tokens[1:]), *OWN_LOGITS),
        "own logits, without the last": Mistake(lambda logits, tokens: _of(logits[:-1], tokens[:-1]), *OWN_LOGITS),
        "shifted the wrong way": Mistake(
            lambda logits, tokens: _of(logits[1:], tokens[:-1]),
            "Shifted the wrong way: each byte is looked up where it has long been read. Logits t predict byte t + 1.",
            "ずらす向きが逆で、もう読んだ後のロジットで調べています。ロジット t が予測するのは、バイト t + 1 です。",
        ),
        "first byte counted": Mistake(
            lambda logits, tokens: torch.cat((torch.full((1,), 8.0), _bits_truth(logits, tokens))),
            "The first byte is counted, at 8 bits. Nothing predicted it: leave it out.",
            "最初のバイトを8ビットとして数えています。それを予測したロジットはないので、除いてください。",
        ),
        "first byte free": Mistake(
            lambda logits, tokens: F.pad(_bits_truth(logits, tokens), (1, 0)),
            "The first byte has an entry, of 0 bits. Nothing predicted it: leave it out, so that a mean stays honest.",
            "最初のバイトが0ビットとして入っています。予測がないものなので、除いてください。"
            "そうしないと、平均が小さくなってしまいます。",
        ),
        "chance": Mistake(
            lambda logits, tokens: 2 ** -_bits_truth(logits, tokens),
            "That is the chance that the byte got. Its cost is −log2 of it.",
            "それは、そのバイトに与えられた確率です。コストは、その −log2 です。",
        ),
        "no softmax": Mistake(
            lambda logits, tokens: -logits[:-1].gather(1, tokens[1:, None])[:, 0] / math.log(2),
            "A logit alone is no logarithm of a chance: take off the logarithm of the sum of all exp(logits).",
            "ロジットそのものは、確率の対数ではありません。すべての exp(ロジット) の和の対数を引いてください。",
        ),
        "softmax over tokens": Mistake(
            lambda logits, tokens: -logits[:-1].log_softmax(0).gather(1, tokens[1:, None])[:, 0] / math.log(2),
            "The softmax goes over the tokens. At each place the chances of the 256 bytes sum to 1: take the last "
            "dimension.",
            "softmax をトークンの方向にとっています。和が1になるのは、各場所での256個のバイトの確率です。"
            "最後の次元の方向にとってください。",
        ),
        "mean": Mistake(
            lambda logits, tokens: _bits_truth(logits, tokens).mean(),
            "That is the mean. Asked for is each byte's own cost.",
            "それは平均です。求めるのは、バイトごとのコストです。",
        ),
        "sum": Mistake(
            lambda logits, tokens: _bits_truth(logits, tokens).sum(),
            "That is the cost of all bytes together. Asked for is each byte's own.",
            "それは全バイトの合計です。求めるのは、バイトごとのコストです。",
        ),
        "likeliest": Mistake(
            lambda logits, tokens: _of(logits[:-1], logits[:-1].argmax(-1)),
            "That is what the likeliest byte would cost. Asked for is the byte that came.",
            "それは、最も確率の高いバイトのコストです。求めるのは、実際に来たバイトのコストです。",
        ),
        "entropy": Mistake(
            lambda logits, tokens: torch.distributions.Categorical(logits=logits[:-1]).entropy() / math.log(2),
            "That is the entropy, the cost that the model expects, whatever comes. Look up the byte that came.",
            "それはエントロピー、つまり、何が来るかを見ずにモデルが見込むコストです。"
            "実際に来たバイトの確率を調べてください。",
        ),
    },
    "Correct: the loss that the model is trained with, in bits.",
    "正解です。モデルの訓練に使う損失を、ビットで表したものになっています。",
    {
        "not finite": (
            " In one case all logits are above 700, and exp of that overflows: subtract the largest logit first, or "
            "use log_softmax.",
            "ロジットがすべて700を超えるケースがあり、その exp は大きすぎて表せません。先に最大のロジットを引くか、"
            "log_softmax を使ってください。",
        ),
        "shape": (
            " The first byte has no entry: no logits predict it.",
            "最初のバイトの値はありません。それを予測するロジットがないからです。",
        ),
    },
)

# Exercise 2: the names for which the memory saved most.

Scored = Callable[[str, Tensor, Tensor], dict[str, float]]
NAMES = (
    "key",
    "keys",
    "_key",
    "value",
    "get_value",
    "row",
    "rows",
    "row_2",
    "find",
    "find_all",
    "self",
    "path",
    "_path_1",
)
WORD = re.compile(r"[A-Za-z_0-9]+")


def _learned_cases(seed: int) -> list[tuple[str, Tensor, Tensor, int]]:
    """Text that begins with a name, bits with the memory and without, and how many names are asked for: drawn until
    every slip finds others than the memory's own and than each other slip."""
    pick, draw = Random(seed), random_draw(seed)
    while True:
        cases = [_learned_case(pick, draw, n) for n in pick.sample(range(2, 6), 3)]
        found = [_learned_truth, *(slip.answer for slip in BY_MEMORY.mistakes.values())]
        if len({repr([answer(*case) for case in cases]) for answer in found}) == len(found):
            return cases


def _learned_case(pick: Random, draw: Callable[..., Tensor], n: int) -> tuple[str, Tensor, Tensor, int]:
    names = pick.sample(NAMES, 9)
    words = names + pick.choices(names, k=pick.randrange(9, 14))
    pick.shuffle(words)
    text = "".join(word + pick.choice((".", " = ", "(", ", ", "):\n    ", " + ")) for word in words)
    off = 2 * draw(len(text) - 1).square()
    return text, (off - draw(len(text) - 1)).abs(), off, n


def _words(text: str) -> list[tuple[str, int, int]]:
    """Every name where it stands: the name, its first place and the place after its last."""
    return [(found[0], *found.span()) for found in WORD.finditer(text)]


def _saved(text: str, on: Tensor, off: Tensor) -> dict[str, float]:
    """The bits saved for each name, over all of its bytes, wherever it stands. An entry for the first byte is added."""
    saved, sums = F.pad(off - on, (1, 0)), dict.fromkeys((word for word, _, _ in _words(text)), 0.0)
    for word, first, end in _words(text):
        sums[word] += float(saved[first:end].sum())
    return sums


def _largest(scored: Scored, of: Callable[[dict[str, float], int], Iterable[str]] | None = None) -> Callable[..., Any]:
    """For each name, in the order of the text, whether it is among the n of the largest score, or those of `of`."""

    def learned(text: str, on: Tensor, off: Tensor, n: int) -> list[bool]:
        score = scored(text, on, off)
        taken = set(of(score, n) if of else sorted(score, key=lambda word: -score[word])[:n])
        return [word in taken for word in dict.fromkeys(word for word, _, _ in _words(text))]

    return learned


_learned_truth = _largest(_saved)


def _by_word(score: Callable[[Tensor, str], float]) -> Scored:
    """`score` of what was saved at the bytes of each place where a name stands, and of the name; summed."""

    def scored(text: str, on: Tensor, off: Tensor) -> dict[str, float]:
        saved, sums = F.pad(off - on, (1, 0)), dict.fromkeys((word for word, _, _ in _words(text)), 0.0)
        for word, first, end in _words(text):
            sums[word] += score(saved[first:end], word)
        return sums

    return scored


def _places_of(choose: Callable[[list[float]], float]) -> Scored:
    """`choose` of what was saved at each place where a name stands."""

    def scored(text: str, on: Tensor, off: Tensor) -> dict[str, float]:
        saved, found = F.pad(off - on, (1, 0)), dict[str, list[float]]()
        for word, first, end in _words(text):
            found.setdefault(word, []).append(float(saved[first:end].sum()))
        return {word: choose(several) for word, several in found.items()}

    return scored


def _shifted(by: int) -> Scored:
    """Entries read `by` places too late; what lies outside counts as 0."""
    return lambda text, on, off: _saved(text, F.pad(on[by:], (0, by)), F.pad(off[by:], (0, by)))


def _first_word_lost(text: str, on: Tensor, off: Tensor) -> dict[str, float]:
    _, first, end = _words(text)[0]
    saved = (off - on).index_fill(0, torch.arange(first, end - 1), 0.0)
    return _saved(text, torch.zeros_like(on), saved)


def _inside_others(text: str, on: Tensor, off: Tensor) -> dict[str, float]:
    saved = F.pad(off - on, (1, 0))
    places = {word: [found.start() for found in re.finditer(re.escape(word), text)] for word, _, _ in _words(text)}
    return {word: sum(float(saved[p : p + len(word)].sum()) for p in at) for word, at in places.items()}


def _facts(case: tuple[str, Tensor, Tensor, int]) -> dict[str, str]:
    """What decides on each name: its rank and the bits that were saved."""
    text, on, off, n = case
    saved = _saved(text, on, off)
    ranked = sorted(saved, key=lambda word: -saved[word])
    return {word: f"n = {n}, bits saved: {saved[word]:.2f}, rank {ranked.index(word) + 1}" for word in saved}


BY_MEMORY = Exercise(
    _learned_cases,
    _learned_truth,
    {
        "sign": Mistake(
            _largest(lambda text, on, off: _saved(text, off, on)),
            "The sign is flipped: these are the names for which the memory saved least, or did harm. "
            "Saved are bits_off - bits_on.",
            "符号が逆です。これは、メモリによる節約が最も小さい、またはかえって損をした名前です。"
            "節約したビットは bits_off - bits_on です。",
        ),
        "mean of bytes": Mistake(
            _largest(_by_word(lambda saved, word: float(saved.mean()))),
            "Bits saved are averaged over a name's bytes. Sum them: a long name that is spared counts in full.",
            "名前の中でバイトの平均をとっています。合計してください。長い名前が節約できれば、それだけ大きく効きます。",
        ),
        "mean of places": Mistake(
            _largest(_places_of(lambda several: sum(several) / len(several))),
            "You average over the places where a name stands. Sum over them: what is saved at each adds up.",
            "名前の現れる場所で平均をとっています。合計してください。節約は、場所ごとに積み重なります。",
        ),
        "first letter only": Mistake(
            _largest(_by_word(lambda saved, word: float(saved[0]))),
            "Only the first byte of a name is counted. Take all of its bytes.",
            "名前の最初のバイトしか数えていません。すべてのバイトを数えてください。",
        ),
        "last letter only": Mistake(
            _largest(_by_word(lambda saved, word: float(saved[-1]))),
            "Only the last byte of a name is counted. Take all of its bytes.",
            "名前の最後のバイトしか数えていません。すべてのバイトを数えてください。",
        ),
        "last byte left out": Mistake(
            _largest(_by_word(lambda saved, word: float(saved[:-1].sum()))),
            "The last byte of every name is missing: a slice ends before its second number.",
            "どの名前も、最後のバイトが抜けています。スライスは、2つ目の数の手前で終わります。",
        ),
        "first place only": Mistake(
            _largest(_places_of(lambda several: several[0])),
            "Only the first place of a name is counted. Sum over all places where it stands.",
            "名前が最初に現れる場所しか数えていません。名前の現れるすべての場所を合計してください。",
        ),
        "last place only": Mistake(
            _largest(_places_of(lambda several: several[-1])),
            "Only the last place of a name counts: is each place written over the one before? Use +=.",
            "名前が最後に現れる場所だけが残っています。前の値を上書きしていませんか。+= で足してください。",
        ),
        "first place left out": Mistake(
            _largest(_places_of(lambda several: sum(several[1:]))),
            "The first place of every name is missing. It counts too.",
            "どの名前も、最初に現れる場所が抜けています。そこも数えます。",
        ),
        "byte after": Mistake(
            _largest(_shifted(1)),
            "One place too late: bits have no entry for the first byte, so that entry t is about byte t + 1.",
            "1つ後ろにずれています。最初のバイトの値はないので、値 t はバイト t + 1 のものです。",
        ),
        "two bytes after": Mistake(
            _largest(_shifted(2)),
            "Shifted the wrong way, and so two places too late: entry t is about byte t + 1.",
            "ずらす向きが逆で、2つ後ろになっています。値 t はバイト t + 1 のものです。",
        ),
        "first word lost": Mistake(
            _largest(_first_word_lost),
            "The name that begins the text is lost. With first = 0 the slice [first - 1 : end - 1] begins at −1, the "
            "last entry.",
            "テキストの最初にある名前が抜けています。first = 0 のとき、[first - 1 : end - 1] は −1、"
            "つまり最後の値から始まってしまいます。",
        ),
        "dear without": Mistake(
            _largest(lambda text, on, off: _saved(text, torch.zeros_like(on), off)),
            "These are the names that cost most without the memory. Whether it helped, only the difference tells.",
            "これは、メモリなしで最もコストの高い名前です。メモリが役に立ったかどうかは、差を見ないとわかりません。",
        ),
        "dear with": Mistake(
            _largest(lambda text, on, off: _saved(text, torch.zeros_like(on), on)),
            "These are the names that cost most with the memory. Whether it helped, only the difference tells.",
            "これは、メモリがあるときに最もコストの高い名前です。メモリが役に立ったかどうかは、差を見ないとわかりません。",
        ),
        "without a sign": Mistake(
            _largest(lambda text, on, off: _saved(text, torch.zeros_like(on), (off - on).abs())),
            "You sum sizes: bytes that became dearer count as saved. Keep the sign.",
            "差の絶対値を足しています。コストが増えたバイトまで、節約したことになります。符号を残してください。",
        ),
        "gains only": Mistake(
            _largest(lambda text, on, off: _saved(text, torch.zeros_like(on), (off - on).clamp(min=0))),
            "Bytes that became dearer are left out. The memory's harm counts against it.",
            "コストが増えたバイトを除いています。メモリによる損も、差し引いてください。",
        ),
        "inside other names": Mistake(
            _largest(_inside_others),
            "A name is also counted inside longer ones, as key in keys. Take whole runs of letters, digits and _.",
            "keys の中の key のように、長い名前の一部も数えています。"
            "英数字と _ が続く限りを、1つの名前としてください。",
        ),
        "largest left out": Mistake(
            _largest(_saved, lambda score, n: sorted(score, key=lambda word: -score[word])[1 : n + 1]),
            "The name with the largest saving is left out: a list begins at 0.",
            "節約の最も大きい名前が抜けています。リストは0から始まります。",
        ),
        "one too many": Mistake(
            _largest(_saved, lambda score, n: sorted(score, key=lambda word: -score[word])[: n + 1]),
            "One name too many: asked for are n.",
            "名前が1つ多くなっています。求めるのは n 個です。",
        ),
        "all of them": Mistake(
            _largest(_saved, lambda score, n: score),
            "These are all names. Asked for are the n of the largest savings.",
            "すべての名前が入っています。求めるのは、節約の大きい n 個です。",
        ),
    },
    "Correct: the names for which the two predictions differ most, in favour of the memory.",
    "正解です。2つの予測が、メモリに有利な向きに最も大きく分かれた名前です。",
    names=_facts,
)

# Exercise 3: where the bits are spent, told from the text alone.

PASSAGES, LENGTH = 24, 768  # how many, and the bytes of each
DEAREST = 10  # one byte in so many is among the dearest
BEYOND = 1.1  # what is asked for, as a multiple of what the first letters of words find
Places = frozenset[int]


@cache
def _model() -> TitansLM:
    model, _, _ = load_checkpoint("text/mac")
    return model


def passages(seed: int) -> Tensor:
    """Pieces of files that the model was not trained on: [PASSAGES, LENGTH]."""
    pick, files = Random(seed), Text().part("held out")
    found = []
    for name in pick.choices(sorted(files), k=PASSAGES):
        first = pick.randrange(len(files[name]) - LENGTH)
        found.append(files[name][first : first + LENGTH])
    return torch.stack(found).long()


def as_text(tokens: Tensor) -> str:
    """Bytes as a text of one character each."""
    return bytes(tokens.tolist()).decode("latin-1")


def dearest(tokens: Tensor) -> list[Places]:
    """The tenth of the places of each passage whose bytes cost the model most; the first byte has no cost."""
    costs = F.pad(bits(_model(), tokens), (1, 0))
    return [frozenset(row.topk(len(row) // DEAREST).indices.tolist()) for row in costs]


def first_letters(text: str, n: int) -> list[int]:
    """The rule to beat: the first letters of the first n words."""
    return [found.start() for found in re.finditer(r"\w+", text)][:n]


def share_found(named: Sequence[Iterable[int]], wanted: Sequence[Places], by: int = 0) -> float:
    """The share of the wanted places that are named, each place moved `by` bytes; the mean over passages."""
    shares = [len({p + by for p in places} & want) / len(want) for places, want in zip(named, wanted, strict=True)]
    return sum(shares) / len(shares)


def check_spikes(guess: Callable[[str, int], Any]) -> Verdict:
    """Let guess(text, n) name up to n places of passages that it has not seen, and judge how many of the n dearest
    bytes it names: more than the first letters of words, by a factor."""
    tokens = passages(seed_of(guess))
    texts = [as_text(row) for row in tokens]
    try:
        named = [_places(guess, text, LENGTH // DEAREST) for text in texts]
    except RefusedError as refusal:
        return refusal.verdict
    return _judge(texts, named, dearest(tokens))


def _places(guess: Callable[[str, int], Any], text: str, n: int) -> Places:
    """What a guess names, as places of the text."""
    given = returned(guess, (text, n))
    (places,) = values(list(given) if isinstance(given, set | frozenset | range) else given, 1, (n,))
    if places.ndim != 1:
        raise RefusedError(
            "shape",
            f"A list of places is asked for; what came back has the shape {list(places.shape)}.",
            f"求めるのは場所のリストですが、形 {list(places.shape)} の値が返されました。",
        )
    if len(places) > n:
        raise RefusedError(
            "count",
            f"Your function named {len(places)} places, and may name {n}.",
            f"関数が挙げた場所は{len(places)}個ですが、挙げてよいのは{n}個までです。",
        )
    for place in places.tolist():
        if place != int(place) or not 0 <= place < len(text):
            raise RefusedError(
                "range",
                f"{place:g} is no place of the text: places are the whole numbers from 0 to {len(text) - 1}.",
                f"{place:g} という場所はありません。場所は、0から{len(text) - 1}までの整数です。",
            )
    return frozenset(map(int, places.tolist()))


def _judge(texts: Sequence[str], named: Sequence[Places], wanted: Sequence[Places]) -> Verdict:
    n, chance = len(wanted[0]), 1 / DEAREST
    share, letters = share_found(named, wanted), share_found([first_letters(text, n) for text in texts], wanted)
    moved = {by: share_found(named, wanted, by) for by in (-1, 1)}
    by = max(moved, key=lambda by: moved[by])
    english = (
        f"Your places hold {share:.0%} of the dearest bytes. Chance finds {chance:.0%}, the first letters of words "
        f"{letters:.0%}; asked for are {BEYOND * letters:.0%}."
    )
    japanese = (
        f"最もコストの高いバイトのうち、{share:.0%}を当てました。でたらめなら{chance:.0%}、単語の最初の文字なら"
        f"{letters:.0%}で、目標は{BEYOND * letters:.0%}です。"
    )
    if share >= BEYOND * letters:
        return Verdict(
            "passed",
            f"Correct, from the text alone. {english}",
            f"正解です。テキストだけから予想できました。{japanese}",
        )
    missed = " ".join(_missed(*passage) for passage in list(zip(texts, named, wanted, strict=True))[:3])
    english, japanese = f"{english} Missed, for example: {missed}.", f"{japanese}外したものの例：{missed}。"
    outcome, more_english, more_japanese = _kind(share, chance, by, moved[by], sum(map(len, named)) / len(named) / n)
    return Verdict(outcome, f"{more_english} {english}", f"{more_japanese}{japanese}")


def _kind(share: float, chance: float, by: int, moved: float, used: float) -> tuple[str, str, str]:
    """What to say first about a share that is too small. moved: the share, had each place been moved `by`; used: the
    share of the places that it might name."""
    if used < 0.5:
        return "few", "You may name more places: n of them.", "もっと多くの場所を挙げられます。n 個までです。"
    if moved >= 1.5 * max(share, chance):
        side, ja = ("after", "後ろ") if by > 0 else ("before", "前")
        return (
            "one off",
            f"Moved by one, to the byte {side}, your places would hold more of the dearest: {moved:.0%}. Dear is the "
            "byte itself that cannot be foreseen.",
            f"挙げた場所の1つ{ja}のバイトのほうが、よく当たります（{moved:.0%}）。"
            "コストが高いのは、予測できなかったバイトそのものです。",
        )
    if share < 0.5 * chance:
        return (
            "turned round",
            "Fewer than by chance: the dear bytes are among those that you left out. Turn your rule round.",
            "でたらめより少なくなっています。コストの高いバイトは、挙げなかったほうにあります。"
            "規則を逆にしてみてください。",
        )
    if share < 1.5 * chance:
        return (
            "chance",
            "About as many as by chance. What can a reader not know before it comes?",
            "でたらめとあまり変わりません。読み手が事前に知りえないのは、何でしょうか。",
        )
    return (
        "first letters",
        "More than chance, but not much more than the first letters of words. Which bytes are dear inside words and "
        "between them?",
        "でたらめよりは多いのですが、単語の最初の文字を挙げるのとあまり変わりません。"
        "単語の中や、単語と単語の間では、どのバイトのコストが高いでしょうか。",
    )


def _missed(text: str, named: Places, wanted: Places) -> str:
    """A place that was not named, in its surroundings: the byte between « and »."""
    place = min(wanted - named)
    before, after = text[max(place - 8, 0) : place], text[place + 1 : place + 5]
    return repr(f"{before}«{text[place]}»{after}")
