"""What the paper leaves open or misprints, what is done here, and a trial for each that would come out otherwise.

`notebooks/DECISIONS.md` has the same words; `tests/lessons/test_lesson_11_decisions.py` compares them.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from titans.lesson.kit.cards import columns, space
from titans.lesson.kit.host import say
from titans.lesson.lesson_11 import decision_trials as trials
from titans.lesson.lesson_11.decision_trials import Trial


class Decision(NamedTuple):
    """question, decision: in English and in Japanese, as the page has them. code: the object that makes it, and cites
    its number."""

    number: str
    question: tuple[str, str]
    decision: tuple[str, str]
    code: str
    trials: list[Trial]


class Misprint(NamedTuple):
    """text: what is printed and what is meant, in English and in Japanese, as the page has it."""

    text: tuple[str, str]
    trials: list[Trial]


WIDTH, NUMBER, INDENT = 78, 10, 5
SYMBOLS = {r"\alpha": "α", r"\eta": "η", r"\theta": "θ", r"\otimes": "⊗", r"\mathrm{mod}": "mod", "$": ""}


def decision_table(*numbers: str) -> str:
    """Question, code and trials of each decision, or of some: decision_table("D1", "D7"). At most 80 columns wide."""
    known = [decision.number for decision in DECISIONS]
    if unknown := set(numbers) - set(known):
        raise ValueError(f"numbers must be among {known}, got {sorted(unknown)}")
    lines = [_heads(say("here", "ここ"), say("otherwise", "別の場合"))]
    for number, question, _, code, measured in DECISIONS:
        if not numbers or number in numbers:
            lines += _wrapped(f"{number:<{INDENT}}", plain(say(*question)))
            lines += [" " * INDENT + code, *(line for trial in measured for line in _trial(trial))]
    return "\n".join(lines)


def misprint_table() -> str:
    """Each misprint with the error of the formula as it is meant and as it is printed. At most 80 columns wide."""
    lines = [_heads(say("meant", "正"), say("printed", "誤"))]
    for text, measured in MISPRINTS:
        lines += [*_wrapped("-    ", plain(say(*text))), *(line for trial in measured for line in _trial(trial))]
    return "\n".join(lines)


def plain(text: str) -> str:
    """A text without the marks of LaTeX and Markdown."""
    for mark, symbol in SYMBOLS.items():
        text = text.replace(mark, symbol)
    return text.replace("`", "")


def _heads(here: str, otherwise: str) -> str:
    return " " * (WIDTH - 2 * NUMBER) + space(here, NUMBER) + here + space(otherwise, NUMBER) + otherwise


def _trial(trial: Trial) -> list[str]:
    """What is measured, in lines, and behind the last one its numbers."""
    width = WIDTH - 2 * NUMBER
    *lines, last = _wrapped(" " * INDENT, say(*trial.what), width, INDENT + 2)
    numbers = "".join(f"{_short(x):>{NUMBER}}" for x in trial.run())
    return [*lines, last + space(last, width) + numbers]


def _short(number: float) -> str:
    """Two digits; what is a rounding error counts as 0, since its digits differ from machine to machine."""
    return "0" if number < ROUNDING else f"{number:.2g}"


ROUNDING = 1e-9


def _wrapped(first: str, text: str, width: int = WIDTH, indent: int = INDENT) -> Iterator[str]:
    """The text in lines, the first with what stands before it, the others indented. Japanese breaks at any letter."""
    line = first
    for piece in re.findall(r"[!-~’–—°-ͯΑ-ω⊗]+ ?|[^!-~]", text):
        if columns(line + piece.rstrip()) > width and piece not in "、。）":
            yield line.rstrip()
            line = " " * indent
        line += piece
    yield line.rstrip()


DECISIONS = [
    Decision(
        "D1",
        (
            "At which weights are gradients taken?",
            "勾配はどの重みでとるか",
        ),
        (
            (
                "At those of the chunk's start. Forgetting and momentum still act token by token, and momentum "
                "carries over from chunk to chunk."
            ),
            (
                "チャンク（chunk）の始まりの重みです。忘却とモーメンタムはそれでもトークンごとに働き、"
                "モーメンタムはチャンクの境目を越えて続きます。"
            ),
        ),
        "titans.recurrence.recurrent_scan",
        [
            Trial(
                (
                    "distance from a loop with gradients at the chunk's start / at M_{t-1}",
                    "チャンクの始まり／M_{t-1} で勾配をとるループとの差",
                ),
                trials.gradients_at_the_chunk_start,
            ),
        ],
    ),
    Decision(
        "D2",
        (
            "Does a token read its own write?",
            "トークンは自分の書き込みを読むか",
        ),
        (
            "Yes: $y_t = M_t(q_t)$, within a chunk too.",
            "読みます。チャンクの中でも $y_t = M_t(q_t)$ です。",
        ),
        "titans.recurrence.recurrent_scan",
        [
            Trial(
                (
                    "distance of y_t from M_t(q_t) / from M_{t-1}(q_t)",
                    "y_t と M_t(q_t)／M_{t-1}(q_t) との差",
                ),
                trials.read_after_the_write,
            ),
        ],
    ),
    Decision(
        "D3",
        (
            "MAC, read literally, sees future tokens in two ways.",
            "MAC は文字どおりに読むと、2か所で未来のトークンが見えてしまう",
        ),
        (
            "A retrieved token is visible only from its own position on, and the last read is per token.",
            "読み出したトークンは自分の位置より前からは見えず、最後の読み出しはトークンごとに行います。",
        ),
        "titans.blocks.MAC",
        [
            Trial(
                (
                    "the future in o_i: h only from its token on / h seen by all",
                    "o_i に入る未来：h は自分の位置から／h はどこからも見える",
                ),
                trials.h_from_its_own_token_on,
            ),
            Trial(
                (
                    "the future in o_i: read per token / at the segment's end",
                    "o_i に入る未来：トークンごとに読む／セグメントの終わりで読む",
                ),
                trials.the_last_read_is_per_token,
            ),
        ],
    ),
    Decision(
        "D4",
        (
            "Which positions do MAC's retrieved tokens have?",
            "MAC で読み出したトークンの位置は何か",
        ),
        (
            "Each has that of its own token; persistent tokens have none.",
            "それぞれ元のトークンの位置です。永続トークンは位置を持ちません。",
        ),
        "titans.attention.rotate",
        [
            Trial(
                (
                    "distance from attention that turns h as its token / not at all",
                    "h をトークンと同じだけ回す／回さないアテンションとの差",
                ),
                trials.positions_of_h,
            ),
        ],
    ),
    Decision(
        "D5",
        (
            "How do the gates start?",
            "ゲートの初期値はどうするか",
        ),
        (
            (
                r"$\alpha$ and $\eta$ are sigmoids, $\theta$ a sigmoid times a maximum. Their biases make early "
                "writes gentle, and give a memory a half-life of hundreds of tokens."
            ),
            (
                r"$\alpha$ と $\eta$ はシグモイド、$\theta$ はシグモイドに最大値を掛けたものです。"
                "初めは少しずつ書き込み、メモリの半減期が数百トークンになるようにバイアスを決めます。"
            ),
        ),
        "titans.neural_memory.NeuralMemory.initial_gates",
        [
            Trial(
                (
                    "error left by a chunk of 16 equal tokens; gates at a half",
                    "同じ16トークンのチャンクの後の誤差／ゲートがすべて0.5",
                ),
                trials.gentle_first_steps,
                1,
            ),
            Trial(
                (
                    "share that 100 tokens forget; gates at a half",
                    "100トークンで忘れる割合／ゲートがすべて0.5",
                ),
                trials.long_half_life,
                0.5,
            ),
        ],
    ),
    Decision(
        "D6",
        (
            "What is $M_0$?",
            "$M_0$ は何か",
        ),
        (
            (
                "Learned. It starts as the zero function, so that the first errors are the values themselves; with "
                "N's residual, where LayerNorm at zero would make the first write some 300 times as large, the last "
                "layer starts at random."
            ),
            (
                "学習します。最初の誤差が値そのものになるよう、常にゼロを返す関数から始めます。ただし N "
                "の残差接続では、ゼロから始めると、ゼロでのレイヤー正規化のために最初の書き込みが約300倍になるので、"
                "最後の層を乱数で始めます。"
            ),
        ),
        "titans.memory.DeepMemory",
        [
            Trial(
                (
                    "what an empty memory answers; last layer at random",
                    "空のメモリの答えの大きさ／最後の層が乱数",
                ),
                trials.nothing_at_first,
            ),
            Trial(
                (
                    "first write beside a residual; last layer at zero",
                    "残差接続があるときの最初の書き込み／最後の層がゼロ",
                ),
                trials.first_write_beside_a_residual,
                100,
            ),
        ],
    ),
    Decision(
        "D7",
        (
            "Which outer gradient?",
            "外側の勾配はどこまで流すか",
        ),
        (
            "The full one, through the inner gradient. `state.detach()` truncates it between calls.",
            "内側の勾配も通して、すべて流します。呼び出しの間では `state.detach()` で切れます。",
        ),
        "titans.state.State.detach",
        [
            Trial(
                (
                    "outer gradient against finite differences; inner ones cut",
                    "外側の勾配と差分商との差／内側の勾配を切る",
                ),
                trials.the_outer_gradient_is_full,
            ),
            Trial(
                (
                    "gradient through two calls against one call; after detach",
                    "2回の呼び出しを通る勾配と1回のときとの差／detach の後",
                ),
                trials.gradients_cross_calls,
            ),
        ],
    ),
    Decision(
        "D8",
        (
            "Is the loss a sum or a mean?",
            "損失は和か平均か",
        ),
        (
            "The sum over features, as in equation 12, and its gradient keeps the factor 2.",
            "式(12)のとおり、成分についての和です。勾配の係数2も残します。",
        ),
        "titans.memory.DeepMemory.errors",
        [
            Trial(
                (
                    "distance of the surprise from the sum's slope / the mean's",
                    "驚きと、和／平均の傾きとの差",
                ),
                trials.the_loss_is_a_sum,
            ),
        ],
    ),
    Decision(
        "D9",
        (
            "Do persistent tokens enter the memory in MAG and MAL?",
            "MAG と MAL で、永続トークンはメモリに入るか",
        ),
        (
            "Yes, they are written, and their outputs dropped.",
            "入ります。永続トークンも書き込まれますが、それに対する出力は捨てます。",
        ),
        "titans.blocks.PrefixedMemory",
        [
            Trial(
                (
                    "distance of LMM from its memory over [P | x] / over x alone",
                    "LMM と、[P | x]／x だけを読んだメモリとの差",
                ),
                trials.persistent_tokens_are_written,
            ),
        ],
    ),
    Decision(
        "D10",
        (
            "What does the state hold at test time?",
            "テスト時の状態は何を持つか",
        ),
        (
            (
                "Weights, momentum, the chunk's start weights and the place in the chunk. So any split of a sequence "
                "into calls gives the same outputs as one call."
            ),
            (
                "重み、モーメンタム、チャンクの始まりの重み、チャンクの中の位置です。そのため、"
                "系列をどこで区切って呼び出しても、1回で呼び出したときと同じ出力になります。"
            ),
        ),
        "titans.state.MemoryState",
        [
            Trial(
                (
                    "two calls against one; without the chunk's start",
                    "2回の呼び出しと1回との差／チャンクの始まりがない",
                ),
                trials.any_split,
            ),
        ],
    ),
    Decision(
        "D11",
        (
            r"Is $\alpha$ per channel, as in N?",
            r"$\alpha$ は N のようにチャンネルごとか",
        ),
        (
            "No: one for each head and layer of the memory, as in the first version.",
            "いいえ。初版のとおり、ヘッドとメモリの層ごとに1つです。",
        ),
        "titans.neural_memory.NeuralMemory.gates",
        [
            Trial(
                (
                    "how unequally channels forget; an alpha for each",
                    "チャンネルによる忘れ方の違い／チャンネルごとの α",
                ),
                trials.channels_forget_alike,
            ),
        ],
    ),
    Decision(
        "D12",
        (
            "What bounds a write?",
            "書き込みの大きさを抑えるものは何か",
        ),
        (
            (
                "`max_surprise`: a larger gradient is scaled down to that norm, for each token and layer, and what "
                "is no number counts as 0 there. Off in the bare scans, on in `NeuralMemory`."
            ),
            (
                "`max_surprise` です。トークンと層ごとに、これより大きな勾配のノルムをこの値まで縮めます。"
                "数でないもの（NaN）は、そこでは0とみなします。スキャン単体では無効、`NeuralMemory` では有効です。"
            ),
        ),
        "titans.recurrence.surprise",
        [
            Trial(
                (
                    "|M - M_0| of 512 equal tokens over its bound; no bound",
                    "同じ512トークンによる |M - M_0| と上限の比／上限なし",
                ),
                trials.writes_are_bounded,
                1,
            ),
        ],
    ),
    Decision(
        "D13",
        (
            "The paper has a residual around each block. Around MAC's attention too?",
            "論文の各ブロックにある残差接続を、MAC のアテンションにも付けるか",
        ),
        (
            (
                r"Yes: $y = x + \mathrm{Attn}(\dots)$, and normalised it is what is written; in MAL, $x + M(x)$ is "
                "what attention sees. Without it the memory is written with averages over the segment, and key–value "
                "recall stalls at what a guesser among the told values gets."
            ),
            (
                r"付けます。$y = x + \mathrm{Attn}(\dots)$ とし、これを正規化したものを書き込みます。MAL では、"
                "アテンションは $x + M(x)$ を見ます。残差接続がないと、"
                "メモリに書き込まれるのはセグメントの平均になり、キーと値の想起の正解率は、"
                "伝えられた値の中から当てずっぽうで選んだ場合と同じところで止まります。"
            ),
        ),
        "titans.blocks.MAC",
        [
            Trial(
                (
                    "lost of a token in what is written, 1 - cos; no residual",
                    "書き込まれるもので失われる割合 1 - cos／残差接続なし",
                ),
                trials.a_residual_around_attention,
                0.5,
            ),
        ],
    ),
    Decision(
        "D14",
        (
            r"Which non-linearity does $\otimes$ have?",
            r"$\otimes$ の非線形関数は何か",
        ),
        (
            (
                r"$\sigma(\mathrm{RMSNorm}(y)) \cdot \mathrm{RMSNorm}(M(y))$: only the gate is squashed. The memory's "
                "side has an epsilon of 0.01, and its own norm one of 0.001: what an empty memory answers is next to "
                "nothing, and its rounding must not be enlarged."
            ),
            (
                r"$\sigma(\mathrm{RMSNorm}(y)) \cdot \mathrm{RMSNorm}(M(y))$ です。シグモイドを使うのは、"
                "ゲートの側だけです。メモリの側のイプシロンは0.01、メモリ自身の正規化のイプシロンは0.001です。"
                "空のメモリの答えはほとんどゼロなので、その丸め誤差を大きくしないためです。"
            ),
        ),
        "titans.blocks.Combine",
        [
            Trial(
                (
                    "distance from one sigmoid / from two",
                    "シグモイド1つ／2つのゲートとの差",
                ),
                trials.only_one_side_is_squashed,
            ),
            Trial(
                (
                    "how much an answer of 1e-7 is enlarged; epsilon 1e-6",
                    "1e-7の答えが拡大される倍率／イプシロン1e-6",
                ),
                trials.an_empty_answer_stays_small,
                50,
            ),
        ],
    ),
    Decision(
        "D15",
        (
            "How do the models start?",
            "モデルの初期値をどうするか",
        ),
        (
            (
                "Embeddings with a standard deviation of 0.02, attention's $W_O$ at a third of its usual size, and "
                "MAC's retrieved $h$ at a tenth, so that a token is first of all itself. With embeddings of size 1 "
                "recall was not learned at all."
            ),
            (
                "トークンが、まず自分自身を表すように、埋め込みの標準偏差は0.02、アテンションの $W_O$ "
                "は通常の3分の1、MAC が読み出す $h$ は10分の1から始めます。埋め込みの大きさを1にすると、"
                "想起をまったく学習できませんでした。"
            ),
        ),
        "titans.model.TitansLM",
        [
            Trial(
                (
                    "embedding / what the first mixer adds; size 1",
                    "埋め込みと最初のミキサーが加えるものの比／大きさ1",
                ),
                trials.embeddings_start_small,
                0.3,
            ),
            Trial(
                (
                    "lost of a token in what is written, 1 - cos; W_O whole",
                    "書き込まれるもので失われる割合 1 - cos／W_O が通常",
                ),
                trials.attention_starts_faint,
                0.0003,
            ),
            Trial(
                (
                    "|h| / |x| after a segment; h at full size",
                    "1セグメントの後の |h| / |x|／h が通常の大きさ",
                ),
                trials.h_starts_faint,
                0.4,
            ),
        ],
    ),
    Decision(
        "D16",
        (
            "Equation 13 pulls every layer of a memory to zero. Of a deep one too?",
            "式(13)は、メモリのすべての層をゼロに近づける。深いメモリでもそうするか",
        ),
        (
            (
                r"No: $\alpha$ acts on the last layer alone. Pulled to zero, hidden layers take with them the "
                'gradients of all that is written later. With `forget_layers="all"` it is the paper\'s form; the '
                "table of `recall-scattered` has both."
            ),
            (
                r"しません。$\alpha$ は最後の層だけに働きます。隠れ層までゼロに近づくと、"
                'その後に書き込むものの勾配まで失われるからです。`forget_layers="all"` なら論文の形になります。'
                "`recall-scattered` の表に両方の結果があります。"
            ),
        ),
        "titans.neural_memory.NeuralMemory",
        [
            Trial(
                (
                    "lost of the last layer's input in 64 tokens; all layers forget",
                    "64トークンで失われる最後の層の入力／すべての層が忘れる",
                ),
                trials.hidden_layers_stay,
            ),
        ],
    ),
]

MISPRINTS = [
    Misprint(
        (
            (
                r"Equation 16: at a chunk's last token, $t = b$, its $t' = t - \mathrm{mod}(t, b)$ is $b$ itself; the "
                "text there says 0. The text is meant: $t'$ is the end of the previous chunk."
            ),
            (
                r"式(16)：$t' = t - \mathrm{mod}(t, b)$ は、チャンクの最後のトークン $t = b$ では $b$ "
                "自身になりますが、本文では0です。正しいのは本文のほうで、$t'$ は前のチャンクの終わりです。"
            ),
        ),
        [
            Trial(
                (
                    "M_b with t' = 0 / with t' = b",
                    "t' = 0／t' = b による M_b",
                ),
                trials.equation_16,
            ),
        ],
    ),
    Misprint(
        (
            (
                "Equation 17 leaves out the factor 2, writes $x$ for both key and value, and misplaces the diagonal "
                "matrices."
            ),
            "式(17)：係数2がなく、キーも値も $x$ と書かれ、対角行列の位置がずれています。",
        ),
        [
            Trial(
                (
                    "mended / as printed",
                    "訂正した式／印刷された式",
                ),
                trials.equation_17,
            ),
            Trial(
                (
                    "with the 2 / without",
                    "係数2あり／なし",
                ),
                trials.equation_17_factor,
            ),
            Trial(
                (
                    "K and V / X for both",
                    "K と V／どちらも X",
                ),
                trials.equation_17_values,
            ),
            Trial(
                (
                    "diagonals between the factors / in front",
                    "対角行列が間／前",
                ),
                trials.equation_17_diagonals,
            ),
        ],
    ),
    Misprint(
        (
            "Equation 32 has $M_t$ on its right side, where $M_{t-1}$ is meant.",
            "式(32)：右辺の $M_t$ は、$M_{t-1}$ の意味です。",
        ),
        [
            Trial(
                (
                    "M_{t-1} / M_t on the right, solved for M_t",
                    "右辺が M_{t-1}／M_t（M_t について解く）",
                ),
                trials.equation_32,
            ),
        ],
    ),
    Misprint(
        (
            '"Gradient with respect to the input" in the prose is the gradient with respect to the memory\'s weights.',
            "本文の「入力に関する勾配」は、メモリの重みに関する勾配のことです。",
        ),
        [
            Trial(
                (
                    "error left by a step of 1/2: by the weights / by the input",
                    "1/2のステップの後に残る誤差：重み／入力に関する勾配",
                ),
                trials.surprise_of_what,
            ),
        ],
    ),
    Misprint(
        (
            (
                r"Titans with $\eta = 0$ is called equivalent to Gated DeltaNet. It is, with a memory of one matrix "
                "and chunks of one token, but only after a change of parameters: Gated DeltaNet forgets before it "
                "takes the error, Titans after."
            ),
            (
                r"$\eta = 0$ の Titans は Gated DeltaNet と等価だと書かれています。行列1つのメモリで、"
                "1トークンを1チャンクとすれば確かに等価ですが、パラメータの変換が必要です。Gated DeltaNet "
                "は誤差をとる前に忘れ、Titans は誤差をとった後に忘れるからです。"
            ),
        ),
        [
            Trial(
                (
                    "Gated DeltaNet with changed parameters / with the same",
                    "パラメータを変換した／しない Gated DeltaNet",
                ),
                trials.gated_delta_net,
            ),
        ],
    ),
]
