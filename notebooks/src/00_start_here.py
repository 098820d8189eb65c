# %% [markdown] lang="en"
# # 00 · Start here
#
# *Titans, step by step.* About 15 minutes to read; the code runs in about 10 seconds. Run the cells from
# top to bottom.
#
# **You will learn**
#
# - what a model with Titans' memory does that attention with a short reach cannot;
# - where in the model the facts are, and how to be sure of it;
# - what this small model cannot do;
# - what the other lessons are about, and how to use them.
#
# **You need** a little PyTorch and a rough idea of attention. Nothing about Titans.

# %% [markdown] lang="ja" en="4e7428ce"
# # 00 · はじめに
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン00です。読むのに約15分、コードの実行に約10秒かかります。
# セルは上から順に実行してください。
#
# **このレッスンで学ぶこと**
#
# - 短い範囲しか見えないアテンション（attention）にはできず、Titans のメモリ（memory）があればできること。
# - 覚えた事実は、モデルのどこにあるのか。それをどうやって確かめるのか。
# - この小さなモデルにはできないこと。
# - ほかのレッスンの内容と、教材の使い方。
#
# **必要な知識**：PyTorch を少しと、アテンションについてのおおまかな理解。Titans についての知識は要りません。

# %%
import copy
from dataclasses import replace

import torch

from titans import NeuralMemory
from titans.checkpoints import load_checkpoint
from titans.lesson import start
from titans.lesson.lesson_00 import exercises, pictures, trials, words
from titans.lesson.lesson_00.lab import telling_lab
from titans.lesson.lesson_00.words import TASK, VOCABULARY, filler, ids
from titans.recipes import LIVE
from titans.training import EVALUATION_SEED, share_right

start()

# %% [markdown] lang="en"
# If the import fails, this course's package is not installed: run `pip install -e .` in the folder that you cloned
# (in Colab: clone the repository, go into its folder with `%cd`, install it there in the same way, then run the cell
# above). The package that PyPI calls `titans` is another one.
#
# ## 1. Told now, asked much later
#
# Somebody tells you six facts: Ada lives in Lima, Ben in Kyoto, and so on. Then two thousand words about nothing go
# by. Where does Ben live?
#
# Here are the facts as a model gets them, a name and a place in turn. It knows 96 tokens: 32 names, 32 places, and 32
# words of filler. To the model they are numbers only; the words are labels for you.

# %% [markdown] lang="ja" en="a7ccbd78"
# import に失敗するときは、この教材のパッケージがまだインストールされていません。
# クローンしたフォルダーで `pip install -e .` を実行してください。Colab では、リポジトリをクローンし、`%cd` でそのフォルダーに入り、同じようにインストールしてから、
# 上のセルを実行します。
# なお、PyPI で `titans` という名前のパッケージは別物です。
#
# ## 1. いま伝えて、ずっと後でたずねる
#
# 誰かがあなたに、6つの事実を伝えます。Ada は Lima に、Ben は Kyoto に住んでいる、といった具合です。
# その後、意味のない言葉が2,000個続きます。さて、Ben はどこに住んでいるでしょうか。
#
# 事実は、名前と場所を交互に並べた形でモデルに渡します。
# モデルの知っているトークン（token）は96種類です。名前が32種類、場所が32種類、
# そして、間を埋めるだけの**埋め草**（filler）の言葉が32種類あります。
# モデルにとっては、どれもただの番号です。言葉は、あなたが読みやすいように付けた名札です。

# %%
facts = {
    "Ada": "Lima",
    "Ben": "Kyoto",
    "Chi": "Oslo",
    "Dan": "Cairo",
    "Eva": "Lyon",
    "Fumi": "Rome",
}
told = words.told_words(facts)
print(" ".join(told))
print(ids(told).tolist()[0])
print("filler:", " ".join(VOCABULARY[n] for n in filler(12)[0]), "…")

# %% [markdown] lang="en"
# The model is a MAC, short for *memory as a context*, one of the paper's architectures. It has a single layer. Its
# attention works inside **segments** of 16 tokens: a token sees the tokens before it in its own segment, and none of
# an earlier one. Beside the attention there is a memory. The weights of the model come with this course (lesson 07
# tells how such a model is trained); here nothing is trained.

# %% [markdown] lang="ja" en="f53710ef"
# モデルは MAC です。「コンテキストとしてのメモリ」（memory as a context）の略で、論文のアーキテクチャの1つです。
# 層（layer）は1つだけです。
# アテンションは、16トークンの**セグメント**（segment）の中だけで働きます。
# トークンに見えるのは、同じセグメントの中で自分より前にあるトークンです。それより前のセグメントは見えません。
# アテンションのほかに、メモリがあります。
# モデルの重み（weights）は、教材に付いています（訓練（training）のしかたは、レッスン07の話題です）。
# このレッスンでは、何も訓練しません。

# %%
model, _, _ = load_checkpoint("recall-live/mac")
model.requires_grad_(False)
size = sum(weight.numel() for weight in model.parameters())
print(f"{model.config.variant}: {model.config.layers} layer, {size:,} weights")
print("tokens in a segment:", model.config.segment_len)
print("tokens of filler in training: from {} to {}".format(*LIVE.between))

# %% [markdown] lang="en"
# `hear` lets a model read the facts and then filler. What the model carries from one call to the next is its *state*.
# `ask` gives it one name, and takes the token that it finds most likely to follow.
#
# **Predict before you run.** 2,000 tokens of filler: 125 segments, and far more than the model ever met in training.
# How many of the six will it know?

# %% [markdown] lang="ja" en="8d177ba4"
# `hear` は、モデルに事実を読ませ、続けて埋め草を読ませます。
# ある呼び出しから次の呼び出しへモデルが引き継ぐものが、**状態**（state）です。
# `ask` は、モデルに名前を1つ与え、次に来る確率が最も高いとモデルが考えるトークンを答えとします。
#
# **実行する前に予想してみましょう。**
# 埋め草は2,000トークン、セグメントにして125個分です。訓練のときより、はるかに長くなっています。
# モデルは、6つのうちいくつを答えられるでしょうか。


# %%
def hear(model, facts, distance):
    state = model(ids(words.told_words(facts))).state
    if distance > 0:
        state = model(filler(distance), state).state
    return state


def ask(model, state, name):
    chances = model(ids([name]), state).logits[0, -1].softmax(-1)
    best = int(chances.argmax())
    return VOCABULARY[best], float(chances[best])


# %% tags=["nbval-ignore-output"]
state = hear(model, facts, 2000)
for name, place in facts.items():
    answer, chance = ask(model, state, name)
    print(f"{name}? {answer} ({chance:.0%})")
    assert answer == place

# %% [markdown] lang="en"
# All six. Each name is asked alone, from the same state, so that no answer helps with the next one.
#
# ## 2. Memory off
#
# Is it the memory? Switch it off and see. In this copy of the model every *gate* of the memory is zero: no step is
# taken when a token is written, and nothing is forgotten. The memory stays as it was before the first token, whatever
# is told. All else is the same.
#
# **Predict before you run.** How many now? And will the model say that it does not know?

# %% [markdown] lang="ja" en="b3337731"
# 6つとも正解です。
# どの名前も、同じ状態から1つずつたずねています。前の答えが次の答えの手がかりになることはありません。
#
# ## 2. メモリを切る
#
# これは、メモリの働きでしょうか。メモリを切って確かめましょう。
# 次のコピーでは、メモリの**ゲート**（gate）がすべてゼロです。
# トークンを書き込むときのステップ幅（step size）がゼロで、忘れることもありません。
# 何を伝えても、メモリは最初のトークンの前と同じままです。それ以外は、元のモデルと変わりません。
#
# **実行する前に予想してみましょう。**
# 今度はいくつ答えられるでしょうか。また、モデルは「知らない」という態度を見せるでしょうか。

# %% tags=["nbval-ignore-output"]
off = copy.deepcopy(model)
for layer in off.modules():
    if isinstance(layer, NeuralMemory):
        layer.to_gates.weight.fill_(0)
        layer.to_gates.bias.fill_(-200)  # a gate is sigmoid(-200) = 0

state = hear(off, facts, 2000)
answers = {name: ask(off, state, name) for name in facts}
for name, (answer, chance) in answers.items():
    print(f"{name}? {answer} ({chance:.0%})")
assert sum(answers[name][0] == facts[name] for name in facts) <= 1

# %% [markdown] lang="en"
# Wrong, and some of it with great confidence: in training the memory always had something to say, so the model never
# learned to doubt it.
#
# You may object that this is unfair. A model that had to do without memory from the start might have found another
# way. So here is one: the same architecture without the memory, trained on the same task.

# %% [markdown] lang="ja" en="49611e88"
# 間違いです。しかも、自信満々な答えが混じっています。
# 訓練のときには、メモリにいつも何かが入っていました。そのため、モデルはメモリを疑うことを学んでいません。
#
# 「それは不公平だ」と思うかもしれません。初めからメモリなしで訓練していれば、別の方法を見つけたかもしれないからです。
# そこで、同じアーキテクチャからメモリを除き、同じ課題で訓練したモデルを試します。

# %% tags=["nbval-ignore-output"]
without, _, _ = load_checkpoint("recall-live/attention")
without.requires_grad_(False)
state = hear(without, facts, 2000)
answers = {name: ask(without, state, name) for name in facts}
for name, (answer, chance) in answers.items():
    print(f"{name}? {answer} ({chance:.0%})")
assert sum(answers[name][0] == facts[name] for name in facts) <= 1
assert max(chance for _, chance in answers.values()) < 0.2

# %% [markdown] lang="en"
# This one knows that it does not know: it spreads its probability over all places, about 3 % each.
#
# ### The telling lab
#
# Now it is your turn. Choose a place for each name, the number of tokens between telling and asking, and whether the
# memory is on. The map shows the probability of each of the 32 places for each name; the frames are what you told. On
# the right stands the most likely place. (Where no kernel runs, you see four settings below one another.)
#
# 1. Send everybody to Tokyo. Does the model get confused?
# 2. Memory on: move `tokens` all the way to the left. What happens to Fumi? How many tokens does it take?
# 3. Memory off: do the answers depend on what you told?

# %% [markdown] lang="ja" en="c942e9e5"
# こちらは、「知らない」ということを知っています。すべての場所に、およそ3%ずつの確率を割り振っています。
#
# ### 伝言実験室
#
# 今度はあなたの番です。名前ごとに場所を選び、
# 伝えてからたずねるまでのトークン数（tokens）と、メモリ（memory）を使うかどうかを選んでください。
# 「on」はメモリあり、「off (never written)」は、メモリに何も書き込まない場合です。
# 図は、それぞれの名前に対する32の場所の確率（probability）を色で表します。枠は、あなたが伝えた場所です。
# 右側（answer, probability）には、確率が最も高い場所が出ます。
# （カーネルが動いていないときは、4通りの設定が上から順に並びます。）
#
# 1. 全員を Tokyo に住まわせてみましょう。モデルは混乱するでしょうか。
# 2. メモリありで、`tokens` を左端まで動かします。Fumi はどうなりますか。答えられるまでに何トークン必要ですか。
# 3. メモリなしのとき、答えは、伝えた内容によって変わりますか。

# %%
lab = telling_lab()
lab

# %% [markdown] lang="en"
# <details><summary>What you should have seen</summary>
#
# 1. No: all six are answered with Tokyo.
# 2. Asked at once, the model does not know where Fumi lives. Four tokens of filler later it does. Section 4 returns to
#    this.
# 3. From 16 tokens on, no, not in any digit: the segment of the facts is over, and nothing of them is left anywhere.
#
# </details>
#
# ## 3. Could it be luck?
#
# Six names are an anecdote. Let us count over 32 rows of a batch, with names, places and filler at random. A row asks
# for its six names in another order, in one go, and each question is followed by its right answer.

# %% [markdown] lang="ja" en="8596ff08"
# <details><summary>調べた結果</summary>
#
# 1. 混乱しません。6人とも Tokyo と答えます。
# 2. すぐにたずねると、Fumi の住む場所を答えられません。埋め草を4トークン読んだ後なら、答えられます。
#    これについては、4節でもう一度考えます。
# 3. 16トークン以上では、まったく変わりません。事実のあったセグメントは終わり、伝えたことはどこにも残っていないからです。
#
# </details>
#
# ## 3. 偶然ではないか
#
# 6人だけでは、たまたまかもしれません。名前、場所、埋め草をランダムに選んで、32行のバッチ（batch）で数えてみましょう。
# どの行でも、6つの名前を、伝えたときとは別の順序で続けてたずねます。質問の直後には、正しい答えが来ます。


# %%
def share(model, between, rows=32):
    random = torch.Generator().manual_seed(EVALUATION_SEED)
    told = TASK.tell(rows, random)
    state = model(told.tokens).state
    state = model(TASK.pass_time(rows, between, random), state).state
    questions, answers = told.asked.tokens, told.asked.tokens[:, 1::2]
    best = model(questions, state).logits[:, 0::2].argmax(-1)
    return float((best == answers).float().mean())


# %% tags=["nbval-ignore-output"]
models = {"memory": model, "never written": off, "without": without}
shares = {name: share(one, 500) for name, one in models.items()}
for name, right in shares.items():
    print(f"{name:13}: {right:.1%} right after 500 tokens")
assert shares["memory"] > 0.97
assert max(shares["never written"], shares["without"]) < 0.1

# %% [markdown] lang="en"
# The library has the same test, `share_right`. It gives the same number:

# %% [markdown] lang="ja" en="39f6dc4b"
# ライブラリにも、同じテスト `share_right` があります。同じ値になることを確かめましょう。

# %%
by_library = share_right(model, TASK, between=500, rows=32)
print("equal:", abs(by_library - shares["memory"]) < 1e-6)
assert abs(by_library - shares["memory"]) < 1e-6

# %% [markdown] lang="en"
# ### Exercise 1: a clever guesser
#
# Somebody who knows nothing guesses one place in 32, and is right in about 3 % of the cases. That is where the two
# models without memory are.
#
# A cleverer guesser knows *which* places were told, but not whose they are, and crosses off each place once it was an
# answer. With two facts: the first guess is right with probability $\tfrac12$, the second is certain, so the share is
# $(\tfrac12 + 1)/2 = \tfrac34$. What is it with `n` facts, all of different places?

# %% [markdown] lang="ja" en="6db5b4f1"
# ### 演習1：かしこい当てずっぽう
#
# 何も知らない人が32の場所から1つを選ぶと、約3%の確率で当たります。
# メモリのない2つのモデルは、ちょうどこのあたりにいます。
#
# もっとかしこく答える人もいます。その人は、**どの**場所が伝えられたかは知っていますが、それが誰の場所なのかは知りません。
# そこで、答えとして出た場所を、1つずつ消していきます。
# 事実が2つなら、最初の質問は確率 $\tfrac12$ で当たり、2つ目は必ず当たるので、
# 正解の割合は $(\tfrac12 + 1)/2 = \tfrac34$ です。
# 場所がすべて異なる `n` 個の事実では、割合はいくつになるでしょうか。


# %%
def clever_guesser(n):
    return ...  # the share of right answers, between 0 and 1


exercises.CROSSING_OFF.check(clever_guesser)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# With `n` places left, a guess is right with probability `1 / n`; then `n - 1` are left. Add up, and divide by the
# number of questions.
#
# </details>

# %% [markdown] lang="ja" en="7fa4db70"
# <details><summary>ヒント</summary>
#
# 残りが `n` か所のとき、当たる確率は `1 / n` です。次は `n - 1` か所が残ります。全部を足して、質問の数で割ります。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def clever_guesser(n):
#     return sum(1 / left for left in range(1, n + 1)) / n
# ```
#
# </details>

# %% [markdown] lang="en"
# For six facts it is 41 %. Keep that number in mind: a model that reaches 41 % here has noticed which places were
# mentioned, and need not have bound a single one to a name.
#
# ## 4. How far is far?
#
# Tokens are counted from 0, and each segment takes the next 16. So token 11, the last one told, is in segment
# $\lfloor 11 / 16 \rfloor = 0$, and attention sees it from there only.
#
# ### Exercise 2: segments between
#
# `told` tokens are told, `filler` tokens follow, then the first question comes. How many segments after the last told
# token is it? 0 means the same segment, where attention sees both.

# %% [markdown] lang="ja" en="9dc455da"
# 6つの事実では41%です。この数を覚えておいてください。ここまで届いただけなら、どの場所が出てきたかに気づいただけで、どの場所も名前と結びつけていないかもしれません。
#
# ## 4. どこまで離れられるか
#
# トークンは0から数え、16個ずつ1つのセグメントに入れます。
# 最後に伝えたトークンの番号は11なので、入るのはセグメント $\lfloor 11 / 16 \rfloor = 0$ です。
# アテンションでこのトークンが見えるのは、同じセグメントの中からだけです。
#
# ### 演習2：間にあるセグメント
#
# `told` 個のトークンで事実を伝え、`filler` 個の埋め草が続き、その次に最初の質問が来ます。
# 質問は、最後に伝えたトークンの何セグメント後にありますか。答えが0なら同じセグメントで、アテンションから両方が見えます。


# %%
def segments_between(told, filler, segment_len):
    return ...  # a whole number


exercises.SEGMENTS_BETWEEN.check(segments_between)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# Find the place of the last told token and of the question, both counted from 0. Divide each by `segment_len` with
# `//`.
#
# </details>

# %% [markdown] lang="ja" en="690730c3"
# <details><summary>ヒント</summary>
#
# 最後に伝えたトークンと質問の位置を、どちらも0から数えて求めます。それぞれを `segment_len` で割った商の整数部分が、セグメントの番号です（`//` で計算できます）。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def segments_between(told, filler, segment_len):
#     return (told + filler) // segment_len - (told - 1) // segment_len
# ```
#
# </details>

# %% [markdown] lang="en"
# **Predict before you run.** We ask after 0, 1, 2, 4, … up to 2,048 tokens of filler, 32 rows each. At which distance
# does the model with memory do worst?

# %% [markdown] lang="ja" en="579e6aba"
# **実行する前に予想してみましょう。**
# 埋め草を0、1、2、4、…、2,048トークンと変えながら、それぞれ32行でたずねます。
# メモリのあるモデルの成績が最も悪いのは、どの距離でしょうか。
#
# 図の横軸は、伝えてからたずねるまでの埋め草の長さ、縦軸は正解の割合（share of right answers）です。
# 「memory on」はメモリあり（first five facts は最初の5つの事実、last fact は最後の事実）、
# 「memory never written」はメモリに書き込まない場合、「trained without memory」はメモリなしで訓練したモデルです。
# 水平な点線は、32か所から1つをランダムに選んだ場合を表します。

# %%
right = trials.share_by_distance("memory on").right  # [distances, facts]
assert right[-1].mean() > 0.95 > 0.5 > right[0, -1]
pictures.by_distance()

# %% [markdown] lang="en"
# Not far away, but at once. 2,048 tokens cost nothing that you could see. What fails is the **last** fact, asked for
# right after it was told. It needs about four more tokens, whatever they say.
#
# What happens in these four tokens? Let the model read them once more from the same state, but with the memory's
# writing held off.

# %% [markdown] lang="ja" en="9285d563"
# 成績が最も悪いのは、遠いところではなく、すぐにたずねたときでした。
# 埋め草が2,048トークンあっても、目に見えて悪くなることはありません。
# 答えられないのは、伝えた直後にたずねた**最後**の事実です。あと4トークンほど必要なのです。その中身は何でもかまいません。
#
# この4トークンの間に、何が起こるのでしょうか。
# 同じ状態から、もう一度同じ4トークンを読ませます。ただし、その間はメモリへの書き込みを止めておきます。

# %% tags=["nbval-ignore-output"]
last = trials.last_fact(tokens=4)
print(f"last fact, at once:      {last.at_once:.0%}")
print(f"after 4 tokens:          {last.after:.0%}")
print(f"after 4, no writing:     {last.after_without_writing:.0%}")
assert last.at_once < 0.5 < 0.9 < last.after
assert last.after_without_writing < 0.2

# %% [markdown] lang="en"
# So the last fact is written *after* it was told, while the tokens behind it are read. This model writes what its
# attention has gathered, and those tokens still see the fact in their segment. In training it was never asked sooner
# than after 24 tokens. It had no reason to be quick, and you would not have seen it in any single score.
#
# ## 5. Where are the facts?
#
# Let two copies of the model listen. One is told the six facts, the other one different facts about the same people; then
# both read the same 2,000 tokens. Now we take the memory out of the second state, and put it into the first.
#
# **Predict before you run.** Whose facts will it tell?

# %% [markdown] lang="ja" en="f2cfdbd8"
# つまり、最後の事実は、伝えられた**後**、次のトークンを読んでいる間に書き込まれます。
# このモデルが書き込むのは、アテンションが集めたものです。
# 続くトークンからも、同じセグメントにある事実は、まだ見えています。
# 訓練では、たずねられるのは早くても24トークン後でした。急いで書き込む理由がなかったのです。
# 成績を1つの数字にまとめていたら、これには気づかなかったでしょう。
#
# ## 5. 事実はどこにあるか
#
# モデルのコピーを2つ用意して、話を聞かせます。一方には先ほどの事実を、もう一方には、同じ人たちについての別の事実を伝えます。
# その後、どちらも同じ2,000トークンを読みます。
# ここで、別の事実を聞いたほうの状態からメモリを取り出し、先ほどの事実を聞いたほうの状態に入れます。
#
# **実行する前に予想してみましょう。** モデルは、どちらの事実を答えるでしょうか。

# %%
places = ("Oslo", "Tokyo", "Riga", "Nara", "Perth", "Milan")
others = dict(zip(facts, places, strict=True))
mine, yours = hear(model, facts, 2000), hear(model, others, 2000)
layer = replace(
    mine.layers[0],
    memory=yours.layers[0].memory,
    segment_weights=yours.layers[0].segment_weights,  # at its start
)
moved = replace(mine, layers=(layer,))
for name in facts:
    answer, _ = ask(model, moved, name)
    print(f"{name}? {answer}   (told: {facts[name]}, other: {others[name]})")
    assert answer == others[name]
(M,) = yours.layers[0].memory.weights
print("M is a matrix:", list(M.shape), "[batch, heads, out, in]")

# %% [markdown] lang="en"
# The other copy's facts, all six. What was told is in the memory and nowhere else. And the memory $M$ is not a list of
# notes: it is a matrix of 64 × 64 weights, as large after 2,000 tokens as after one.
#
# ### The idea in one picture
#
# Attention looks back at tokens, so it has to keep them, and here it keeps one segment. The memory keeps no tokens. It
# is a small network (in this model the smallest, one matrix), and each token takes a step of gradient descent on its
# weights, *while the model reads*:
#
# $$M_t = M_{t-1} - \theta_t \, \nabla \ell(M_{t-1}; x_t)$$
#
# (equation 8; lesson 03 adds what is missing, momentum and forgetting). The loss $\ell$ is large where the memory did
# not expect the token. A question is answered by a forward pass. The bars show how far each token moved $M$:

# %% [markdown] lang="ja" en="a3120b85"
# 6つとも、もう一方のコピーに伝えた事実です。伝えたことは、メモリの中だけにあり、ほかのどこにもありません。
# しかも、メモリ $M$ はメモ書きの一覧ではありません。64 × 64個の重みからなる行列です。その大きさは、2,000トークンの後でも、1トークンの後でも同じです。
#
# ### 1枚の図で見る考え方
#
# アテンションは、過去のトークンを振り返ります。そのため、トークンを取っておかなければなりません。
# ここで取っておくのは、1セグメント分です。
# メモリは、トークンを取っておきません。
# メモリは小さなネットワークです（このモデルでは最も小さいもの、つまり1つの行列です）。
# そして、**モデルが読んでいる間に**、トークンごとに、その重みが勾配降下（gradient descent）で1ステップ動きます。
#
# $$M_t = M_{t-1} - \theta_t \, \nabla \ell(M_{t-1}; x_t)$$
#
# 論文の式(8)です（足りないもの、つまりモーメンタム（momentum）と忘却（forgetting）は、レッスン03で加えます）。
# 損失（loss）$\ell$ は、メモリが予想していなかったトークンで大きくなります。
# 質問には、順伝播（forward pass）で答えます。
#
# 図の上の段は、トークンの流れとセグメント（segment）です。「told」は伝えた事実、「filler」は埋め草、
# 「asked」は質問で、「attention sees this」は質問からアテンションで見える範囲を示します。
# 下の棒グラフは、トークンごとに $M$ がどれだけ動いたか（change of memory）を表します。

# %% tags=["nbval-ignore-output"]
changes = trials.writes(model, torch.cat((ids(told), filler(45)), dim=1))
early, late = sum(changes[:32]) / 32, sum(changes[36:]) / len(changes[36:])
print(f"mean change: tokens 0 to 31 {early:.2f}, from token 36 on {late:.2f}")
assert early > 4 * late
pictures.idea(facts)

# %% [markdown] lang="en"
# The facts move the memory most, with the segment that follows them, and then hardly anything does. Nobody wrote a rule
# that says "names and places matter, filler does not". How large a step a token takes is itself learned, in training.
#
# ## 6. What it cannot do
#
# **Predict before you run.** Ada moves: after the six facts the model is told "Ada Tokyo". Where does it say that she
# lives, 100 tokens later? And where does Mio live, of whom nobody ever spoke?

# %% [markdown] lang="ja" en="83baf6c3"
# メモリを最も動かすのは、事実と、それに続くセグメントです。その後は、ほとんど動きません。
# 「名前と場所は大事で、埋め草は大事ではない」という規則を、誰かが書いたわけではありません。
# トークンごとにどれだけ大きなステップをとるかも、訓練で学習したことです。
#
# ## 6. できないこと
#
# **実行する前に予想してみましょう。**
# Ada が引っ越したとします。6つの事実の後で、モデルに「Ada Tokyo」と伝えます。
# それから100トークン後に、モデルは、Ada がどこに住んでいると答えるでしょうか。
# また、誰も話題にしなかった Mio は、どこに住んでいると答えるでしょうか。

# %% tags=["nbval-ignore-output"]
state = model(ids([*told, "Ada", "Tokyo"])).state
state = model(filler(100), state).state
for name in ("Ada", "Mio"):
    answer, chance = ask(model, state, name)
    print(f"{name}? {answer} ({chance:.0%})")

many = trials.told_again()
print("over 64 rows:")
print(f"told twice: old place {many.old:.0%}, new place {many.new:.0%}")
print(f"never told: answers with somebody else's place {many.invented:.0%}")
assert many.old > 0.6 > 0.4 > many.new
assert many.invented > 0.6

# %% [markdown] lang="en"
# It mostly keeps the old place, and it invents one for a stranger. Nothing in the equations asks for that. In its
# training no name was told twice and no stranger was asked for, so nothing taught it to overwrite, or to say "I do not
# know". A memory that learns at test time still has to *learn how to memorise*, and it learns what its training asks
# for. Lesson 04 is about that.
#
# ## 7. The map of the course
#
# | | lesson | you leave with | minutes |
# |---|---|---|---|
# | 00 | Start here | what the memory does, and where it is | 15 |
# | 01 | Memory is regression | attention as lookup, memory as a matrix, and how much fits | not there yet |
# | 02 | [The memory module](02_memory_module.ipynb) | reading is a forward pass, writing a gradient step | 30 |
# | 03 | [Surprise, momentum, forgetting](03_surprise_momentum_forgetting.ipynb) | what the three gates do; a chunk at once | 40 |
# | 04 | Learning to memorise | how training teaches a memory to write | not there yet |
# | 05 | Training in parallel | whole chunks at once, for deep memories and with momentum | not there yet |
# | 06 | [Persistent memory](06_persistent_memory.ipynb) | tokens that are learned and always there | 30 |
# | 07 | [MAC](07_mac.ipynb) | the model of this lesson, line by line, and trained | 40 |
# | 08 | MAG, MAL, LMM and ablations | the other architectures, and what each part is good for | not there yet |
# | 09 | [At test time](09_at_test_time.ipynb) | the memory token by token, far past the training length | 40 |
# | 10 | A language model | real text, with and without memory | not there yet |
# | 11 | After Titans | relatives, decisions, open questions | not there yet |
#
# Read 02 next, then 03, and go on with whichever is there. Each lesson says at its top what it needs.
#
# ## 8. How to use the lessons
#
# - **Run** the cells from top to bottom with Shift+Enter. If something looks odd, choose *Restart Kernel and Run All
#   Cells* from the menu.
# - **Predict.** Where it says so, write your guess down before you run the cell. A wrong guess is worth most.
# - **Exercises**: replace the dots and run the cell. The check compares with the truth and names the mistake, if it
#   knows it. Hints and solutions are folded away below.
# - **Sliders** need a running kernel. Without one you see pictures of a few settings.
# - The numbers of the equations are those of the paper's first version. Where the paper leaves something open, this
#   course decides, and gives the decision a number, D1, D2, … ([the list](../../README.md)).
#
# ## Summary
#
# - A MAC that sees 16 tokens answered what it was told 2,000 tokens earlier. With its memory never written, or trained
#   without one, it guesses.
# - The facts are in the weights of the memory: put them into another state, and they are known there.
# - The memory is written while the model reads, and the last fact only with the tokens behind it.
# - It does what its training asked for. It does not overwrite, and it does not say that it does not know.
#
# ## References
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663).
# - S. Arora et al.: *Zoology: Measuring and Improving Recall in Efficient Language Models*, arXiv
#   [2312.04927](https://arxiv.org/abs/2312.04927): recall of told pairs as a test of sequence models.

# %% [markdown] lang="ja" en="f52f9fbd"
# モデルは、たいてい前の場所を答え、知らない人については場所をでっち上げます。式のどこにも、そうしろとは書かれていません。
# 訓練では、同じ名前を2回伝えたことも、伝えていない人についてたずねたこともありませんでした。
# そのため、上書きすることも、「知らない」と答えることも、教わっていないのです。
# テスト時（test time）に学ぶメモリも、**覚え方**は前もって学ばなければなりません。
# そして学ぶのは、訓練で求められたことです。これがレッスン04のテーマです。
#
# ## 7. 教材の地図
#
# | | レッスン | 身につくこと | 時間（分） |
# |---|---|---|---|
# | 00 | はじめに | メモリは何をするのか、どこにあるのか | 15 |
# | 01 | メモリは回帰である | 検索としてのアテンション、行列としてのメモリ、入る量 | 準備中 |
# | 02 | [メモリモジュール](02_memory_module.ipynb) | 読み出しは順伝播、書き込みは勾配の1ステップ | 30 |
# | 03 | [驚き、モーメンタム、忘却](03_surprise_momentum_forgetting.ipynb) | 3つのゲートの働き。チャンク全体を一度に書く方法 | 40 |
# | 04 | 覚え方を学ぶ | 訓練が、メモリに書き方を教えるしくみ | 準備中 |
# | 05 | 並列に訓練する | 深いメモリとモーメンタムのための、チャンク全体の計算 | 準備中 |
# | 06 | [永続記憶](06_persistent_memory.ipynb) | 学習され、いつもそこにあるトークン | 30 |
# | 07 | [MAC](07_mac.ipynb) | このレッスンのモデルを1行ずつ。その訓練 | 40 |
# | 08 | MAG、MAL、LMM とアブレーション | ほかのアーキテクチャと、それぞれの部品の役割 | 準備中 |
# | 09 | [テスト時に起こること](09_at_test_time.ipynb) | トークンごとのメモリの動き。訓練よりはるかに長い系列 | 40 |
# | 10 | 言語モデル | 本物のテキストで、メモリありとなしを比べる | 準備中 |
# | 11 | Titans のその後 | 似た手法、この教材の決定、残された問い | 準備中 |
#
# 次は02、その次は03に進み、その後は、準備のできているものを順に読んでください。必要な知識は、各レッスンの初めに書いてあります。
#
# ## 8. レッスンの使い方
#
# - **実行する**：セルを上から順に、Shift+Enter で実行します。
#   様子がおかしいときは、メニューから「Restart Kernel and Run All Cells」（カーネルを再起動し、全セルを実行）を選びます。
# - **予想する**：「実行する前に予想してみましょう」とあるところでは、予想を書き留めてから実行してください。
#   外れた予想ほど、得るものがあります。
# - **演習**：「...」を書き換えて、セルを実行します。答え合わせでは、正しい値と比べ、
#   よくある間違いなら、何が違うのかを示します。ヒントと解答は、その下に折りたたんであります。
# - **スライダー**を動かすには、カーネルが必要です。動いていないときは、いくつかの設定の図が表示されます。
# - 式の番号は、論文の第1版のものです。論文に書かれていない点は、この教材で決めて、D1、D2、…という番号を付けました（[一覧](../../README_ja.md)）。
#
# ## まとめ
#
# - 16トークンしか見えない MAC が、2,000トークン前に伝えられたことを答えました。
#   メモリに書き込まない場合や、メモリなしで訓練した場合は、当てずっぽうになります。
# - 事実は、メモリの重みの中にあります。それを別の状態に入れると、そこで答えられるようになります。
# - メモリへの書き込みは、モデルが読んでいる間に行われます。最後の事実が書き込まれるのは、その後のトークンを読むときです。
# - モデルは、訓練で求められたことをします。上書きはせず、「知らない」とも答えません。
#
# ## 参考文献
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663)。
# - S. Arora et al.: *Zoology: Measuring and Improving Recall in Efficient Language Models*, arXiv
#   [2312.04927](https://arxiv.org/abs/2312.04927)。伝えたペアを思い出せるかどうかで、系列モデルを調べます。
