# %% [markdown] lang="en"
# # 00 · Start here
#
# *Titans, step by step.* About 30 minutes to read, 50 with the exercises; the code runs in about 10 seconds.
# Run the cells from top to bottom.
#
# **You will learn**
#
# - what a model with Titans' memory does that attention with a short reach cannot;
# - where in the model the facts are, when and by what they are written there;
# - how an experiment kills a plausible explanation;
# - what this small model cannot do, and why;
# - what the other lessons are about, and how to use them.
#
# **You need** a little PyTorch and a rough idea of attention. Nothing about Titans.

# %% [markdown] lang="ja" en="d6ce9e46"
# # 00 · はじめに
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン00です。読むのに約30分、演習も解くと約50分、コードの実行に約10秒かかります。
# セルは上から順に実行してください。
#
# **このレッスンで学ぶこと**
#
# - 短い範囲しか見えないアテンション（attention）にはできず、Titans のメモリ（memory）があればできること。
# - 覚えた事実がモデルのどこにあり、いつ、どうやってそこに書き込まれるのか。
# - もっともらしい説明を、実験で退ける方法。
# - この小さなモデルにはできないことと、その理由。
# - ほかのレッスンの内容と、教材の使い方。
#
# **必要な知識**：PyTorch を少しと、アテンションについてのおおまかな理解。Titans についての知識は要りません。

# %%
import copy
from dataclasses import replace

import torch

from titans import NeuralMemory
from titans.checkpoints import load_checkpoint
from titans.lesson import predict, progress, start
from titans.lesson.kit import interventions
from titans.lesson.kit.traces import gates_and_surprise, six_facts, trace
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
# import に失敗するときは、この教材のパッケージがまだインストールされていないので、
# クローンしたフォルダーで `pip install -e .` を実行してください。
# Colab では、リポジトリをクローンし、`%cd` でそのフォルダーに入って同じようにインストールしてから、上のセルを実行します。
# なお、PyPI で `titans` という名前のパッケージは別物です。
#
# ## 1. いま伝えて、ずっと後でたずねる
#
# 誰かがあなたに、6つの事実を伝えます。Ada は Lima に、Ben は Kyoto に住んでいる、といった具合です。
# その後、意味のない言葉が2,000個続きます。さて、Ben はどこに住んでいるでしょうか。
#
# 事実は、名前と場所を交互に並べた形でモデルに渡します。
# モデルの知っているトークン（token）は96種類で、名前が32種類、場所が32種類、
# そして、間を埋めるだけの**埋め草**（filler）の言葉が32種類あります。
# モデルにとってはどれもただの番号で、言葉は、あなたが読みやすいように付けた名札です。

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
# tells how such a model is trained). Nothing is trained here, but for a few more steps in section 6.

# %% [markdown] lang="ja" en="9a9081aa"
# モデルは、論文のアーキテクチャの1つである MAC で、層（layer）は1つだけです
# （MAC は memory as a context、つまり「コンテキストとしてのメモリ」の略です）。
# アテンションは16トークンの**セグメント**（segment）の中だけで働くので、トークンから見えるのは、
# 同じセグメントの中で自分より前にあるトークンだけで、前のセグメントのトークンは1つも見えません。
# モデルには、このアテンションのほかに、メモリがあります。
# モデルの重み（weights）は教材に付属していて、その訓練（training）のしかたは、レッスン07で扱います。
# このレッスンでは、6節で少しだけ続きを訓練するほかは、何も訓練しません。
#
# 次の出力は、層と重みの数、1セグメントのトークン数、訓練で使った埋め草のトークン数です。

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
# How many of the six will it know? Write it in place of the dots below and run that cell: it comes back under the result.

# %% [markdown] lang="ja" en="0f12e6c9"
# `hear` は、モデルに事実を読ませ、続けて埋め草を読ませます。
# ある呼び出しから次の呼び出しへモデルが引き継ぐものが、**状態**（state）です。
# `ask` は、モデルに名前を1つ与え、次に来る確率が最も高いとモデルが考えるトークンを答えとします。
#
# **実行する前に予想してみましょう。**
# 埋め草は2,000トークン、セグメントにして125個分で、モデルが訓練中に出会った長さをはるかに超えています。
# モデルは、6つのうちいくつを答えられるでしょうか。
# 下の「...」を予想に書き換えて、そのセルを実行してください。結果の下に、もう一度表示されます。


# %%
predict("...")


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


def right(answers):
    return sum(answers[name][0] == place for name, place in facts.items())


# %% tags=["nbval-ignore-output"]
state = hear(model, facts, 2000)
answers = {name: ask(model, state, name) for name in facts}
for name, (answer, chance) in answers.items():
    print(f"{name}? {answer} ({chance:.0%})")

# %% [markdown] lang="en"
# All six. (Each name is asked alone, from the same state: `ask` keeps nothing.)
#
# ## 2. Memory off
#
# Is it the memory? Switch it off and see. The memory has **gates**: numbers that the model computes for each token,
# such as the size of the step with which the token is written. How it computes them was found in training, with all
# other weights; lesson 04 will be about that. In this copy of the model every gate is zero: no step is taken, and
# nothing is forgotten. The memory stays as it was before the first token, whatever is told. All else is the same.
#
# **Predict before you run.** How many now? And will the model say that it does not know?

# %% [markdown] lang="ja" en="c3944b1c"
# 6つとも正解です（`ask` は状態を変えないので、どの名前も同じ状態から1つずつたずねています）。
#
# ## 2. メモリを切る
#
# 答えられたのは本当にメモリの働きなのか、メモリを切って確かめましょう。
# メモリには**ゲート**（gate）があります。これは、トークンを書き込むときのステップ幅（step size）のように、
# モデルがトークンごとに計算する数で、計算のしかたは、ほかの重みと一緒に、訓練で決まったものです
# （これがレッスン04のテーマです）。
# 次に使うモデルのコピーでは、ゲートがすべてゼロなので、メモリは1ステップも動かず、何も忘れません。
# 何を伝えても、最初のトークンを読む前のままです。それ以外は、元のモデルと変わりません。
#
# **実行する前に予想してみましょう。**
# 今度はいくつ答えられるでしょうか。また、モデルは「知らない」という態度を見せるでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
assert right(answers) == 6  # section 1

off = copy.deepcopy(model)
for layer in off.modules():
    if isinstance(layer, NeuralMemory):
        layer.to_gates.weight.fill_(0)
        layer.to_gates.bias.fill_(-200)  # a gate is sigmoid(-200) = 0

state = hear(off, facts, 2000)
of_off = {name: ask(off, state, name) for name in facts}
for name, (answer, chance) in of_off.items():
    print(f"{name}? {answer} ({chance:.0%})")

# %% [markdown] lang="en"
# Wrong, and some of it with great confidence. (In its training this model never had to answer from a memory that had
# not been written.)
#
# You may object that this is unfair. A model that had to do without memory from the start might have found another
# way. So here is one: the same architecture without the memory, trained on the same task.

# %% [markdown] lang="ja" en="1403ef9b"
# 答えは間違っていて、しかも、中には自信満々なものもあります。
# （このモデルは、何も書き込まれていないメモリを使って答えなければならないことが、訓練では一度もありませんでした。）
#
# 「それは不公平だ」と思うかもしれません。初めからメモリなしで訓練していれば、別の方法を見つけたかもしれないからです。
# そこで、同じアーキテクチャからメモリを除き、同じ課題で訓練したモデルを試します。

# %% tags=["nbval-ignore-output"]
assert right(of_off) <= 1
assert max(chance for _, chance in of_off.values()) > 0.5

without, _, _ = load_checkpoint("recall-live/attention")
without.requires_grad_(False)
state = hear(without, facts, 2000)
of_without = {name: ask(without, state, name) for name in facts}
for name, (answer, chance) in of_without.items():
    print(f"{name}? {answer} ({chance:.0%})")
assert right(of_without) <= 1
assert max(chance for _, chance in of_without.values()) < 0.2

# %% [markdown] lang="en"
# This one knows that it does not know: it spreads its probability over all places, about 3 % for each.
#
# ### The telling lab
#
# Now it is your turn. Choose a place for each name, the number of tokens between telling and asking, and whether the
# memory is on. The map shows the probability of each of the 32 places for each name; the frames are what you told. On
# the right stands the most likely place. (Where no kernel runs, you see two
# settings below one another.) It opens at 500 tokens; `tokens` goes to 2,000.
#
# 1. Send everybody to Tokyo. Does the model get confused?
# 2. Memory on: move `tokens` all the way to the left. What happens to Fumi? How many tokens does it take?
# 3. Memory off: do the answers depend on what you told?

# %% [markdown] lang="ja" en="47d344f9"
# こちらのモデルは、自分が知らないということを知っていて、すべての場所に、およそ3%ずつの確率を割り振ります。
#
# ### 伝言実験室
#
# 今度はあなたの番です。名前ごとに場所を選び、
# 伝えてからたずねるまでのトークン数と、メモリを使うかどうかを選んでください。
# 図では、名前ごとに、32の場所それぞれの確率を色で表し、あなたが伝えた場所を枠で囲んであります。
# 右側には、確率が最も高い場所が出ます。
# （カーネルが動いていないときは、2通りの設定が上下に並びます。）最初は500トークンで、「トークン数」は2,000まで動かせます。
#
# 1. 全員を Tokyo に住まわせてみましょう。モデルは混乱するでしょうか。
# 2. メモリありで、「トークン数」を左端まで動かします。Fumi はどうなりますか。答えられるまでに何トークン必要ですか。
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
# 3. From 16 tokens on, no, not in any digit: the segment of the facts is over, and the memory holds nothing of them.
#
# </details>
#
# ## 3. Could it be luck?
#
# Six names are an anecdote. Let us count over 32 rows of a batch, with names, places and filler at random. A row asks
# for its six names in another order, in one go, and each question is followed by its right answer.

# %% [markdown] lang="ja" en="3304f412"
# <details><summary>調べた結果</summary>
#
# 1. 混乱しません。6人とも Tokyo と答えます。
# 2. すぐにたずねると、Fumi の住む場所を答えられませんが、埋め草を4トークン読んだ後なら答えられます。
#    これについては、4節でもう一度考えます。
# 3. 16トークン以上では、どの桁もまったく変わりません。事実のあったセグメントは終わり、メモリにも何も残っていないからです。
#
# </details>
#
# ## 3. 偶然ではないか
#
# 6人だけでは、たまたまかもしれません。名前、場所、埋め草をランダムに選んで、32行のバッチ（batch）で数えてみましょう。
# どの行でも、6つの名前を、伝えたときとは別の順序で続けてたずね、質問の直後に正しい答えを読ませます。
# 「right after 500 tokens」は、500トークン後の正解率です。
# 「never written」はメモリに書き込まない場合、「without」はメモリなしで訓練したモデルです。


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
for name, found in shares.items():
    print(f"{name:13}: {found:.1%} right after 500 tokens")
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
# 何も知らない人が32の場所から1つを選ぶと、約3%の確率で当たります。メモリのない2つのモデルの正解率も、このくらいです。
#
# もっとかしこく答える人もいます。その人は、**どの**場所が伝えられたかは知っていますが、それが誰の場所なのかは知らないので、
# 答えとして出た場所を、1つずつ消していきます。
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
# 残りが `n` か所のとき、当たる確率は `1 / n` で、次は `n - 1` か所が残ります。全部を足して、質問の数で割ります。
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
# Tokens are counted from 0, segments too, and each segment takes the next 16. So token 11, the last one told, is in segment
# $\lfloor 11 / 16 \rfloor = 0$, and attention sees it from there only.
#
# ### Exercise 2: segments between
#
# `told` tokens are told, `filler` tokens follow, then the first question comes. How many segments after the last told
# token is it? 0 means the same segment, where attention sees both.

# %% [markdown] lang="ja" en="0393f612"
# 6つの事実では41%です。この数を覚えておいてください。正解率が41%のモデルは、どの場所が出てきたかに気づいただけで、
# どの場所も名前と結びつけていないかもしれません。
#
# ## 4. どこまで離れられるか
#
# トークンもセグメントも0から数え、トークンは16個ずつ1つのセグメントに入れます。
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
# メモリのあるモデルの正解率が最も低いのは、どの距離でしょうか。

# %%
predict("...")

# %%
pictures.by_distance()

# %% [markdown] lang="en"
# Not far away, but at once. 2,048 tokens cost nothing that you could see. What fails is the **last** fact, and now and
# then the one before it, when it is asked for right after it was told. Four tokens of filler later it is known, whatever
# they say.
#
# (Here and below, we ask a copy that reads its memory and does not write: a question is a token too, and would be
# written before it is answered.)
#
# ### What happens in these four tokens?
#
# Two explanations come to mind.
#
# 1. **The push goes on.** A written token moves the memory not once but, like a kicked ball, for some tokens more. This
#    is called *momentum* (lesson 03). So the fact was written when it was told, and the push needs some time.
# 2. **Attention gathers.** The four tokens still see the fact in their segment. Attention brings it to them, and they
#    write it.
#
# Each can be put to the test. Let the four tokens take steps of size 0: then only the push is left. Or erase the push
# and let them write. Or switch attention off while they are read.
#
# **Predict before you run.** In which of the three is the last fact known?

# %% [markdown] lang="ja" en="c345cf5b"
# 正解率が最も低いのは、遠いところではなく、すぐにたずねたときでした。埋め草が2,048トークンあっても、目に見えて下がることはありません。
# 答えられないのは、伝えた直後にたずねた**最後**の事実で、その1つ前の事実も、ときどき答えられません。
# 埋め草を4トークン読んだ後なら、その中身が何であっても答えられます。
#
# （ここから先は、メモリを読むだけで書き込まないコピーにたずねます。質問もトークンなので、
# 元のモデルでは、答える前に質問がメモリに書き込まれてしまうからです。）
#
# ### この4トークンの間に何が起こるのか
#
# すぐに思いつく説明が2つあります。
#
# 1. **勢いが続く。** 書き込まれたトークンは、メモリを1回だけ動かすのではなく、蹴られたボールのように、その後もしばらく動かし続けます。
#    これを**モーメンタム**（momentum）といいます（レッスン03で学びます）。
#    つまり、事実は伝えられたときに書き込まれていて、その勢いがメモリを動かし終えるまでに少し時間がかかる、という説明です。
# 2. **アテンションが集める。** 4つのトークンからは、同じセグメントにある事実がまだ見えています。
#    アテンションがそれを集め、4つのトークンが書き込む、という説明です。
#
# どちらも、実験で確かめられます。
# 4つのトークンのステップ幅を0にすると（their steps 0）、残るのは勢いだけです。
# 逆に、勢いを消してから書き込ませることもできます（the push erased first）。
# また、4つのトークンを読む間、アテンションを切ることもできます（attention off in them）。
# 「at once」はすぐにたずねた場合、「after four tokens」は4トークン後の場合です。
#
# **実行する前に予想してみましょう。** この3つのうち、最後の事実を答えられるのはどれでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
rows = trials.rows_told()  # 64 times six facts, and four tokens of filler
heard = model(rows.told).state
blind = interventions.without_attention(model)
erased = interventions.without_momentum(heard)
last = {
    "at once": rows.last(heard),
    "after four tokens": rows.last_after(model, heard),
    "the push erased first": rows.last_after(model, erased),
    "attention off in them": rows.last_after(blind, heard),
}
with interventions.held(model, theta=0.0):  # theta: a token's step
    last["their steps 0"] = rows.last_after(model, heard)
for name, found in last.items():
    print(f"{name:22} {found:4.0%}")

# %% [markdown] lang="en"
# The push is not it: alone it leaves 6 %, and without it nothing is missing. The four tokens themselves write the fact.
#
# And attention? Without it fewer than half of the rows know the fact, which looks like a proof of the second
# explanation. But attention might do something else than bring the fact: a token's gates are computed from what
# attention makes of it, so without attention the steps change too. Switch it off once more, now with the gates held at
# what they were.
#
# There is one more part that looks back, a small one. Before the memory is written, a **convolution** of width 4 mixes
# each token's key and value (what the memory is asked with, and what it shall answer) with those of the three tokens
# before it, each feature by itself. The paper mentions it in section 4.4. Let it forget the facts, and leave attention
# on.
#
# **Predict before you run.** Which of these two experiments leaves the fact in place?

# %% [markdown] lang="ja" en="3b95d08d"
# 答えは、勢いではありませんでした。勢いだけでは6%しか答えられず、勢いを消しても正解率は変わりません。
# 事実を書き込んでいるのは、4つのトークン自身です。
#
# では、アテンションはどうでしょうか。切ると半分も答えられないので、2つ目の説明が証明されたように見えます。
# しかし、アテンションの働きは、事実を運ぶことではないかもしれません。トークンのゲートも、アテンションの結果から計算されるので、
# アテンションを切ると、ステップ幅も変わってしまうのです。
# そこで、ゲートを元の値に固定して、もう一度アテンションを切ってみます（attention off, gates held）。
#
# 過去を振り返る部品は、もう1つあります。論文の4.4節に出てくる、幅4の小さな**畳み込み**（convolution）です。
# 畳み込みは、メモリに書き込む前に、各トークンのキー（key）と値（value）を、その前の3トークンのものと、成分ごとに混ぜ合わせます。
# （キーはメモリに問い合わせるときに使うもの、値はメモリに答えてほしいものです。）
# 今度はアテンションを元に戻し、畳み込みに事実を忘れさせます（convolution cleared）。
#
# **実行する前に予想してみましょう。** この2つの実験のうち、最後の事実を答えられるのはどちらでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
assert last["their steps 0"] < 0.2 < 0.9 < last["the push erased first"]
assert last["attention off in them"] < 0.6 < 0.9 < last["after four tokens"]

forgetful = interventions.without_recent_tokens(heard)
more = {"convolution cleared": rows.last_after(model, forgetful)}
means = {"theta": 0.045, "eta": 0.955, "alpha": 0.0}  # in the four tokens
with interventions.held(blind, **means):
    more["attention off, gates held"] = rows.last_after(blind, heard)
more["attention always off"] = rows.last_after(blind, blind(rows.told).state)
for part, token in (("key", 10), ("key", 11), ("value", 10), ("value", 11)):
    cleared = trials.history_cleared(heard, part, token)
    more[f"only {part} of token {token}"] = rows.last_after(model, cleared)
for name, found in more.items():
    print(f"{name:26} {found:4.0%}")

# %% [markdown] lang="en"
# It is the convolution. Attention brings nothing of the fact here: all it does is to raise the gates, and with the gates
# held it is hardly missed. Even when it is off from the first token on, most rows know the fact. And of all that the
# convolution looks back at, two things matter: the *key* of token 10, which is the name, and the *value* of token 11,
# the place.
#
# Who writes, then? Take the 16 tokens one by one, hold the step of this one at 0, and ask for all six facts after the
# last.
#
# **Predict before you run.** Which token's step does the first fact need, the one in tokens 0 and 1?

# %% [markdown] lang="ja" en="533e131c"
# 答えは畳み込みでした。アテンションは、ここでは事実を運んでいません。
# しているのはゲートの値を上げることだけで、その値に固定すれば、アテンションがなくても正解率はほとんど同じです。
# 最初のトークンからずっとアテンションを切っておいても（attention always off）、ほとんどの行で答えられます。
# 畳み込みが振り返るもののうち、大事なのは、名前であるトークン10の**キー**と、場所であるトークン11の**値**の2つだけです。
# （「only key of token 10」は、トークン10のキーだけを忘れさせた場合です。ほかの行も同じように読みます。）
#
# では、書き込んでいるのはどのトークンでしょうか。
# 16個のトークンから1つを選んで、そのステップ幅を0にし、最後のトークンの後で6つの事実をすべてたずねます。
# これを、どのトークンについても行います。
#
# **実行する前に予想してみましょう。** トークン0と1の事実には、どのトークンのステップが必要でしょうか。

# %%
predict("...")

# %%
lost = [name for name, found in more.items() if found < 0.4]
assert lost[:1] == ["convolution cleared"]
assert lost[1:] == ["only key of token 10", "only value of token 11"]
pictures.silent()

# %% [markdown] lang="en"
# Each fact hangs on one token, the one *behind* it. Told in one stretch, as here, a fact stands in tokens $t$ and
# $t + 1$, and token $t + 2$ writes it, whatever that token is: its key comes from two tokens back, the name, and its
# value from one token back, the place. So one write binds the two. For the last fact this is the first token of filler.
#
# The three tokens after it need not write. But they are needed, and here the push comes back: with momentum 0 in the
# four tokens, only 33 to 41 % know the fact (in four draws of rows). What was wrong with the first explanation is
# *whose* push it is.
#
# ## 5. Where are the facts?
#
# Let two copies of the model listen. One is told the six facts, the other one different facts about the same people; then
# both read the same 2,000 tokens. Now we take the weights of the memory out of the second state, and put them into the
# first. Nothing else is moved.
#
# **Predict before you run.** Whose facts will it tell?

# %% [markdown] lang="ja" en="53e4af6d"
# どの事実も、答えられるかどうかは、すぐ**後ろ**にある1つのトークンで決まります。
# ここのように事実を続けて伝えるなら、トークン $t$ と $t + 1$ にある事実を書き込むのは、トークン $t + 2$ です。
# このトークンは何であってもよく、キーには2つ前の名前が、値には1つ前の場所が使われるので、1回の書き込みで両方が結びつきます。
# 最後の事実では、埋め草の最初のトークンがこれに当たります。
#
# その後の3トークンは、何も書き込まなくてもかまいません。それでも必要なのは、ここでモーメンタムが働くからです。
# 4つのトークンでモーメンタムを0にすると、事実を答えられるのは33〜41%に下がります（ランダムな行を4回選び直した結果です）。
# 最初の説明で間違っていたのは、**どのトークンの**勢いなのか、という点でした。
#
# ## 5. 事実はどこにあるか
#
# モデルのコピーを2つ用意して、話を聞かせます。一方には先ほどの事実を、もう一方には、同じ人たちについての別の事実を伝えます。
# その後、どちらも同じ2,000トークンを読みます。
# ここで、別の事実を聞いたほうの状態からメモリの重みを取り出し、先ほどの事実を聞いたほうの状態に入れます。ほかのものは移しません。
#
# **実行する前に予想してみましょう。** モデルは、どちらの事実を答えるでしょうか。
# 出力の「told」は先ほどの事実、「other」は別の事実です。

# %%
predict("...")

# %%
known = trials.silent_token()  # [tokens, facts]
assert all(known[2 * fact + 2, fact] < 0.4 for fact in range(6))
places = ("Oslo", "Tokyo", "Riga", "Nara", "Perth", "Milan")
others = dict(zip(facts, places, strict=True))
mine, yours = hear(model, facts, 2000), hear(model, others, 2000)
weights = yours.layers[0].memory.weights
moved = interventions.edited_memory(
    mine, lambda memory: replace(memory, weights=weights)
)
swapped = {name: ask(model, moved, name)[0] for name in facts}
for name, answer in swapped.items():
    print(f"{name}? {answer}   (told: {facts[name]}, other: {others[name]})")
print("M is a matrix:", list(weights[0].shape), "[batch, heads, out, in]")

# %% [markdown] lang="en"
# The other copy's facts, all six. All the rest of the state was the first copy's, and made no difference: what it
# answers comes from the weights of the memory and from nothing else. And the memory $M$ is not a list of notes: it is a
# matrix of 64 × 64 weights, as large after 2,000 tokens as after one.
#
# ### The idea in one picture
#
# Attention looks back at tokens, and keeps them for that: here, those of one segment. The memory keeps no tokens. It is
# a small network (in this model the smallest, one matrix), and each token takes a step of gradient descent on its
# weights, *while the model reads*:
#
# $$M_t = M_{t-1} - \theta_t \, \nabla \ell(M_{t-1}; x_t)$$
#
# (equation 8; lesson 03 adds what is missing, momentum and forgetting). The loss $\ell$ is large where the memory did
# not expect the token. A question is answered by a forward pass. The bars show how far each token moved $M$:

# %% [markdown] lang="ja" en="e213bd5e"
# 答えは6つとも、もう一方のコピーに伝えた事実でした。重み以外の状態はすべて先ほどの事実を聞いたコピーのものでしたが、答えには影響しませんでした。
# つまり、モデルの答えは、メモリの重みだけから来ていて、ほかのどこからも来ていません。
# しかも、メモリ $M$ はメモ書きの一覧ではなく、64×64個の重みからなる行列です。
# その大きさは、2,000トークンの後でも、1トークンの後でも同じです。
#
# ### 1枚の図で見る考え方
#
# アテンションは、過去のトークンを振り返るために、トークンそのものを取っておきます。ここでは1セグメント分です。
# 一方、メモリはトークンを取っておきません。
# メモリは小さなネットワークで（このモデルでは最も小さいもの、つまり1つの行列です）、
# **モデルが読んでいる間に**、トークンごとに、その重みが勾配降下（gradient descent）で1ステップ動きます。
#
# $$M_t = M_{t-1} - \theta_t \, \nabla \ell(M_{t-1}; x_t)$$
#
# 論文の式(8)です（足りないもの、つまりモーメンタムと忘却（forgetting）は、レッスン03で加えます）。
# 損失（loss）$\ell$ は、メモリが予想していなかったトークンで大きくなります。
# 質問には、順伝播（forward pass）で答えます。
#
# 下の段の棒は、トークンごとに $M$ がどれだけ動いたかを表します。

# %%
assert swapped == others
pictures.idea(facts)

# %% [markdown] lang="en"
# The memory moves while the facts are told. But the tallest bars are filler, tokens 12 to 15! Token 12 we know: it
# writes the last fact. The next three are nearly all push: with steps of size 0 their bars would be nine tenths as
# tall. Then the bars fall twice, from token 16 on and from token 32 on.
#
# What decides how far $M$ moves? Four numbers of each token: how large its gradient is, which is called its **surprise**
# $|u_t|$, and three gates. $\theta_t$ is the step, $\eta_t$ the share of the push that goes on, $\alpha_t$ the share of
# $M$ that is forgotten. The next picture draws them one below the other for the same six facts and their filler. You
# will see it again in lessons 07 and 09.
#
# **Predict before you run.** Which of the four falls at token 16, and which at token 32?

# %% [markdown] lang="ja" en="a95fb72f"
# メモリは、事実が伝えられている間に動いています。ところが、棒が最も高いのは、埋め草であるトークン12〜15です。
# このうちトークン12は、先ほど見たとおり、最後の事実を書き込むトークンです。
# 続く3つの棒はほとんどが勢いによるもので、ステップ幅を0にしても、高さは9割ほど残ります。
# その後、棒はトークン16からと、トークン32からの2回、低くなります。
#
# $M$ がどれだけ動くかは、トークンごとの4つの数で決まります。
# 1つは勾配（gradient）の大きさ $|u_t|$ で、これを**驚き**（surprise）といいます。
# 残りの3つはゲートで、$\theta_t$ はステップ幅、$\eta_t$ は勢いのうち次に続く割合、
# $\alpha_t$ は $M$ のうち忘れる割合です。
# 次の図は、同じ6つの事実と埋め草について、この4つの数を上から順に表します。
# 点線の意味は、図の後で説明します。この図は、レッスン07と09でも使います。
#
# **実行する前に予想してみましょう。** トークン16で小さくなるのは、4つのうちどれでしょうか。トークン32ではどれでしょうか。

# %%
predict("...")

# %%
tokens, spans = six_facts()
gates_and_surprise(model, tokens, spans)

# %% [markdown] lang="en"
# At token 16 the gates fall: $\theta$ from about 0.04 to 0.013, $\eta$ from 0.95 to about 0.6. At token 32 they stay
# where they are, and the *surprise* falls, from 5 to 1. Each fall has a reason that can be tested.
#
# - At token 16 a segment begins, and attention no longer sees the facts. If that is why $\theta$ falls, then without
#   attention it must not fall there.
# - At token 32 a **chunk** begins. The gradients of 16 successive tokens are all taken at the weights with which
#   their chunk began (lesson 03). So tokens 16 to 31 surprise a memory that has met four tokens of filler, tokens 32 to 47
#   one that has met 20. If that is why, then with nothing written in chunk 1 (tokens 16 to 31) the surprise must stay
#   high.
#
# The output gives the mean step $\theta$, and the mean surprise $|u|$ of each of the four chunks.

# %% [markdown] lang="ja" en="05bc5d67"
# トークン16で小さくなるのはゲートです。$\theta$ は約0.04から0.013に、$\eta$ は0.95から約0.6に下がります。
# トークン32ではゲートは変わらず、**驚き**が5から1に下がります。どちらの理由も、実験で確かめられます。
#
# - トークン16からは新しいセグメントなので、アテンションから事実が見えなくなります。
#   $\theta$ が下がる理由がこれなら、アテンションを切れば、ここで下がることはないはずです。
# - トークン32からは新しい**チャンク**（chunk）です。連続する16トークンの勾配は、どれもチャンクの始まりの重みで求めます
#   （レッスン03で学びます）。そのため、トークン16〜31に驚くのは、埋め草をまだ4トークンしか読んでいないメモリで、
#   トークン32〜47に驚くのは、埋め草を20トークン読んだメモリです。
#   驚きが下がる理由がこれなら、トークン16〜31で何も書き込まなければ、驚きは大きいままのはずです。
#
# 出力の「step」は $\theta$ の平均、「surprise」は4つのチャンクそれぞれの $|u|$ の平均です。
# 「as trained」は元のまま、「attention off」はアテンションを切った場合、
# 「chunk 1 silent」はチャンク1（トークン16〜31）で何も書き込まない場合です。

# %% tags=["nbval-ignore-output"]
for name, one in {"as trained": model, "attention off": blind}.items():
    theta = trace(one, tokens).theta
    before, after = float(theta[12:16].mean()), float(theta[16:32].mean())
    print(f"{name:16} step {before:.3f} up to token 15, then {after:.3f}")
    assert (after < 0.5 * before) == (name == "as trained")
for name, silent in {"as trained": None, "chunk 1 silent": 1}.items():
    chunks = trials.surprise_by_chunk(model, tokens, silent)
    print(f"{name:16} surprise", *(f"{surprise:.1f}" for surprise in chunks))
    assert (chunks[2] > 0.8 * chunks[1]) == (silent == 1)

# %% [markdown] lang="en"
# Both hold (0.022 to 0.019 is hardly a fall). So the model takes large steps while facts are in sight and small ones in
# mere filler, and nobody wrote a rule for that: it was found in training.
#
# It is tempting to go on: *and that is why 2,000 tokens of filler do not wash the facts away.* Test it. Give every token
# the same step, fact or filler; then only the facts, and only the filler.
#
# **Predict before you run.** The mean step in the picture is 0.017. With that for every token, how many of the facts are
# known 250 tokens later?

# %% [markdown] lang="ja" en="c1c75514"
# どちらも、そのとおりでした（アテンションを切ると、0.022から0.019へと、ほとんど下がりません）。
# モデルのステップは、事実が見えている間は大きく、埋め草だけになると小さくなります。
# そうするという規則を誰かが書いたわけではなく、訓練で見つかったものです。
#
# 「だから、埋め草を2,000トークン読んでも、事実は洗い流されない」と続けたくなります。これも確かめましょう。
# 事実にも埋め草にも、すべて同じステップ幅を使います（everywhere）。
# 次に、事実だけ（facts only）、埋め草だけ（filler only）を同じステップ幅にします。
#
# **実行する前に予想してみましょう。**
# 先ほどの図のステップ幅は、平均すると0.017です。これをすべてのトークンに使うと、250トークン後に、事実の何割を答えられるでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
steps = (0.005, 0.017, 0.045, 0.1)
fixed = {theta: trials.fixed_step(theta) for theta in steps}
print("step   everywhere  facts only filler only")
for theta, three in fixed.items():
    print(f"{theta:5.3f}", *(f"{found:11.0%}" for found in three))

# %% [markdown] lang="en"
# With 0.017 for every token nearly all are known, and after 2,000 tokens of filler they still are. The model has learned
# to tell facts from filler, but these answers do not need it. What they need is a step of the right size. With 0.005 the
# facts are not written well. 0.045, the largest step in the picture, suits the facts, but not the filler: that many large
# steps wash the facts away.
#
# ## 6. What it cannot do
#
# **Predict before you run.** Ada moves: after the six facts the model is told "Ada Tokyo". Where does it say that she
# lives, 100 tokens later? And where does Mio live, of whom nobody ever spoke?

# %% [markdown] lang="ja" en="12fb6c3a"
# すべてのトークンで0.017にしても、ほとんど全部を答えられ、埋め草が2,000トークンでも同じです。
# モデルは事実と埋め草を見分けることを学びましたが、ここで答えるだけなら、その区別は要りません。必要なのは、適切な大きさのステップです。
# 0.005では、事実が十分に書き込まれません。
# 図の中で最も大きい0.045は、事実には適していますが、埋め草には適さず、大きなステップがこれだけ多いと、事実が洗い流されてしまいます。
#
# ## 6. できないこと
#
# **実行する前に予想してみましょう。**
# Ada が引っ越したとします。6つの事実の後で、モデルに「Ada Tokyo」と伝えます。
# それから100トークン後に、モデルは、Ada がどこに住んでいると答えるでしょうか。
# また、誰も話題にしなかった Mio は、どこに住んでいると答えるでしょうか。
#
# 出力の「over 64 rows」より下は、ランダムな64行での割合です。
# 「told twice」は、2回伝えた名前に古い場所（old place）と新しい場所（new place）を答えた割合、
# 「never told」は、一度も伝えていない名前に、ほかの誰かの場所を答えた割合です。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
assert fixed[0.017].everywhere > 0.9 > 0.8 > fixed[0.005].facts_only
assert fixed[0.045].facts_only > 0.9 > 0.8 > fixed[0.045].filler_only

state = model(ids([*told, "Ada", "Tokyo"])).state
state = model(filler(100), state).state
for name in ("Ada", "Mio"):
    answer, chance = ask(model, state, name)
    print(f"{name}? {answer} ({chance:.0%})")
twice, strangers = trials.told_again(), trials.strangers()
print("over 64 rows:")
print(f"told twice: old place {twice.old:.0%}, new place {twice.new:.0%}")
print(f"never told: somebody else's place {strangers.invented:.0%}")

# %% [markdown] lang="en"
# It mostly keeps the old place, and it gives the stranger somebody else's. Is this a limit of the memory? Perhaps the
# second telling is not written, or too weakly, or too little is forgotten. Change one thing while it is read (and the
# four tokens behind it).
#
# - *Emptied first*: the memory is put back to its start. If the new place is not known now, it was never written.
# - *Step 0.1*: twice the largest step that the model takes there.
# - *Forgetting 0.2*: the model's own is below 0.002.
#
# **Predict before you run.** With which of them does it answer the new place, and what does that do to the other five?

# %% [markdown] lang="ja" en="1b4ddc84"
# モデルは、たいてい前の場所を答え、知らない人については、ほかの誰かの場所を答えます。これは、メモリの限界なのでしょうか。
# 2回目に伝えたことが書き込まれていないのかもしれませんし、書き込みが弱すぎるのかもしれません。忘れる量が足りないとも考えられます。
# そこで、2回目に伝えたこととその後ろの4トークンを読む間だけ、1つずつ変えてみます。
#
# - 「emptied first」：直前に、メモリを最初の状態に戻します。これで新しい場所を答えられなければ、書き込まれていなかったことになります。
# - 「step 0.1」：ステップ幅を、モデルがここで使う最大の値の2倍にします。
# - 「forgetting 0.2」：忘れる割合を0.2にします。モデルが使う値は0.002未満です。
#
# **実行する前に予想してみましょう。**
# 新しい場所（new）を答えるのは、どの場合でしょうか。また、ほかの5つの事実（other five）はどうなるでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
assert twice.old > 0.6 > 0.4 > twice.new
assert strangers.invented > 0.6

changed = {
    "as trained": twice,
    "emptied first": trials.told_again(emptied=True),
    "step 0.1": trials.told_again(theta=0.1),
    "forgetting 0.2": trials.told_again(alpha=0.2),
}
for name, (old, new, other) in changed.items():
    print(f"{name:14} old {old:4.0%}, new {new:4.0%}, other five {other:4.0%}")

# %% [markdown] lang="en"
# With all three. The second telling *is* written. (Emptied, the memory has of course lost most of the rest.) It
# overwrites the old place if the step is larger, or if much more is forgotten, and the other five facts stay. So it is
# not the memory that cannot; the gates that it gets are too small for it.
#
# Were they never taught otherwise? In training, every name was told once. Train two copies for 20 steps more, the first
# on sequences whose last fact gives one of the names a new place, the other, for comparison, on the old ones.
#
# **Predict before you run.** Are 20 steps enough? And if the name is told again not at once, but 20 tokens later?

# %% [markdown] lang="ja" en="244f89b7"
# 3つの場合とも、新しい場所を答えました。2回目に伝えたことも、書き込まれては**いる**のです（メモリを空にすれば、当然、ほかの事実はほとんど失われます）。
# ステップがもっと大きいか、忘れる量がずっと多ければ、古い場所は上書きされ、ほかの5つの事実はそのまま残ります。
# つまり、メモリに上書きができないのではなく、上書きするには、与えられるゲートの値が小さすぎるのです。
#
# では、ゲートがこうなったのは、上書きを教わらなかったからでしょうか。訓練では、どの名前も1回しか伝えられませんでした。
# そこで、コピーを2つ作り、20ステップだけ訓練を続けます。
# 1つ目は、最後の事実で、すでに出てきた名前に新しい場所を伝える系列（sequence）を使い（told twice）、
# 2つ目は、比べるために、これまでと同じ系列を使います（told once）。
# 「new」は、すぐにもう一度伝えた場合に新しい場所を答える割合、「20 tokens later」は、20トークン後に伝えた場合の割合です。
# 最後の行（a new name, …）は、元のモデルで、初めて出てくる名前を20トークン後に伝えた場合です。
#
# **実行する前に予想してみましょう。**
# 20ステップで足りるでしょうか。また、すぐにではなく、20トークン後にもう一度伝えると、どうなるでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
assert changed["emptied first"].new > 0.9
for name in ("step 0.1", "forgetting 0.2"):
    assert changed[name].new > 0.7
    assert changed[name].others > 0.9

practised, control = (
    trials.practised(trials.ToldTwice()),
    trials.practised(TASK),
)
for name, copied in (("twice", practised), ("once", control)):
    now, late = trials.told_again(copied), trials.told_again(copied, wait=20)
    print(f"told {name}: new {now.new:.0%}, 20 tokens later {late.new:.0%}")
print(f"a new name, told 20 tokens later: {strangers.told_late:.0%}")

# %% [markdown] lang="en"
# Twenty steps are enough, and twenty of the old kind do not do it: it is the training. But what was practised is
# telling everything in one stretch. Told 20 tokens later, the old place wins again; and there the lesson's own model
# seldom keeps even a name that was not told before.
#
# Did practice change the gates only? Let each of the two models, fresh and practised, read the second telling (and the
# four tokens behind it) with the gates that the other one has there.

# %% [markdown] lang="ja" en="051aaf07"
# 20ステップで足りました。これまでと同じ系列では、20ステップ訓練しても上書きするようにならないので、理由は訓練の内容にあったとわかります。
# ただし、練習したのは、すべての事実を続けて伝える場合だけです。
# 20トークン後に伝えると、やはり古い場所が勝ちます。また、そのように後から伝えると、元のモデルは、初めて出てくる名前さえあまり覚えられません。
#
# では、練習で変わったのはゲートだけでしょうか。練習前（fresh）と練習後（practised）のモデルに、それぞれ相手のゲートの値を使わせて、
# 2回目に伝えたことと、その後ろの4トークンを読ませてみます。

# %% tags=["nbval-ignore-output"]
half = {
    "fresh, gates of practised": trials.told_again(model, gates_of=practised),
    "practised, gates of fresh": trials.told_again(practised, gates_of=model),
}
for name, (old, new, _) in half.items():
    print(f"{name}: old {old:.0%}, new {new:.0%}")
assert all(0.35 < shares.new < 0.65 for shares in half.values())

# %% [markdown] lang="en"
# Each of the two comes about half the way: half of it are the gates, half the rest of the model.
#
# A memory that learns at test time still has to *learn how to memorise*, and it learns what its training asks for.
# [Lesson 04](04_learning_to_memorise.ipynb) is about that.
#
# ## 7. The map of the course
#
# | | lesson | you leave with | to read (minutes) | with exercises |
# |---|---|---|---|---|
# | 00 | Start here | what the memory does, and where it is | 30 | 50 |
# | 01 | [Memory is regression](01_memory_is_regression.ipynb) | attention as lookup, memory as a matrix, and how much fits | 30 | 60 |
# | 02 | [The memory module](02_memory_module.ipynb) | reading is a forward pass, writing a gradient step | 35 | 50 |
# | 03 | [Surprise, momentum, forgetting](03_surprise_momentum_forgetting.ipynb) | what the three gates do; a chunk at once | 45 | 80 |
# | 04 | [Learning to memorise](04_learning_to_memorise.ipynb) | how training teaches a memory to write | 40 | 80 |
# | 05 | [Training in parallel](05_training_in_parallel.ipynb) | whole chunks at once, what they cost, when they explode | 35 | 70 |
# | 06 | [Persistent memory](06_persistent_memory.ipynb) | tokens that are learned and always there | 40 | 70 |
# | 07 | [MAC](07_mac.ipynb) | the model of this lesson, line by line, and trained | 45 | 95 |
# | 08 | [MAG, MAL, LMM, and what each part is for](08_variants.ipynb) | the other architectures; what can be left out | 45 | 95 |
# | 09 | [At test time](09_at_test_time.ipynb) | the memory token by token, far past the training length | 50 | 85 |
# | 10 | [A language model](10_language_model.ipynb) | real text, with and without memory; what it holds, and how long | 45 | 80 |
# | 11 | [After Titans](11_after_titans.ipynb) | relatives, decisions, costs, open questions | 70 | 120 |
#
# Read them in this order. Each lesson says at its top what it needs.
#
# ## 8. How to use the lessons
#
# - **Run** the cells from top to bottom with Shift+Enter. If something looks odd, choose *Restart Kernel and Run All
#   Cells* from the menu.
# - **Predict.** Where it says so, write your guess down before you run the cell, in place of the dots of `predict("...")`:
#   you see it again under the result. A wrong guess is worth most. JupyterLab hides the answer that came with the
#   notebook until then; other programs may show it, so cover it with a hand.
# - **Exercises**: replace the dots and run the cell. The check compares with the truth and names the mistake, if it
#   knows it. Hints and solutions are folded away below. The last cell of a lesson shows which exercises are done.
# - **Sliders** need a running kernel. Without one you see pictures of a few settings.
# - The numbers of the equations are those of the paper's first version. Where the paper leaves something open, this
#   course decides, and gives the decision a number, D1, D2, … ([the list](../DECISIONS.md)).
#
# ## Summary
#
# - A MAC that sees 16 tokens answered what it was told 2,000 tokens earlier. With its memory never written, or trained
#   without one, it guesses.
# - The facts are in the weights of the memory: put the weights into another state, and the facts are known there.
# - The memory is written while the model reads. A fact is written by the token behind it: the convolution hands that
#   token the name as its key and the place as its value.
# - The model takes larger steps while facts are in sight, but one fixed step answers just as well here.
# - It does what its training asked for. It does not overwrite, though larger steps would; 20 steps of other training
#   change that.
#
# ## References
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663).
# - S. Arora et al.: *Zoology: Measuring and Improving Recall in Efficient Language Models*, arXiv
#   [2312.04927](https://arxiv.org/abs/2312.04927): recall of told pairs as a test of sequence models.

# %% [markdown] lang="ja" en="f2510bef"
# どちらも半分ほどでした。上書きするようになった理由は、半分がゲートの変化、残りの半分がモデルのほかの部分の変化です。
#
# テスト時（test time）に学ぶメモリも、**覚え方**は前もって学ばなければならず、
# 身につくのは、訓練で求められた覚え方です。これが[レッスン04](04_learning_to_memorise.ipynb)のテーマです。
#
# ## 7. 教材の地図
#
# | | レッスン | 身につくこと | 読む時間（分） | 演習も含めると |
# |---|---|---|---|---|
# | 00 | はじめに | メモリは何をするのか、どこにあるのか | 30 | 50 |
# | 01 | [メモリは回帰である](01_memory_is_regression.ipynb) | 検索としてのアテンション、行列としてのメモリ、入る量 | 30 | 60 |
# | 02 | [メモリモジュール](02_memory_module.ipynb) | 読み出しは順伝播、書き込みは勾配の1ステップ | 35 | 50 |
# | 03 | [驚き、モーメンタム、忘却](03_surprise_momentum_forgetting.ipynb) | 3つのゲートの働き。チャンク全体を一度に書く方法 | 45 | 80 |
# | 04 | [覚え方を学ぶ](04_learning_to_memorise.ipynb) | 訓練が、メモリに書き方を教えるしくみ | 40 | 80 |
# | 05 | [並列に訓練する](05_training_in_parallel.ipynb) | チャンク全体の計算、その代償、発散するとき | 35 | 70 |
# | 06 | [永続記憶](06_persistent_memory.ipynb) | 学習され、いつもそこにあるトークン | 40 | 70 |
# | 07 | [MAC](07_mac.ipynb) | このレッスンのモデルを1行ずつ。その訓練 | 45 | 95 |
# | 08 | [MAG、MAL、LMM と、それぞれの部品の役割](08_variants.ipynb) | ほかのアーキテクチャ。外せる部品と外せない部品 | 45 | 95 |
# | 09 | [テスト時に起こること](09_at_test_time.ipynb) | トークンごとのメモリの動き。訓練よりはるかに長い系列 | 50 | 85 |
# | 10 | [言語モデル](10_language_model.ipynb) | 本物の文章で、メモリありとなしを比べる。何が、どれだけの間入っているか | 45 | 80 |
# | 11 | [Titans のその後](11_after_titans.ipynb) | 似た手法、この教材の決定、かかる計算、残された問い | 70 | 120 |
#
# この順に読んでください。必要な知識は、各レッスンの初めに書いてあります。
#
# ## 8. レッスンの使い方
#
# - **実行する**：セルを上から順に、Shift+Enter で実行します。
#   様子がおかしいときは、メニューから「Restart Kernel and Run All Cells」（カーネルを再起動し、全セルを実行）を選びます。
# - **予想する**：「実行する前に予想してみましょう」とあるところでは、`predict("...")` の「...」を予想に書き換えてから実行してください。
#   結果の下に、書いた予想がもう一度表示されます。外れた予想ほど、得るものがあります。
#   JupyterLab では、ノートブックに入っている答えは、セルを実行するまで隠れています。
#   ほかの環境では見えていることがあるので、手で隠しておいてください。
# - **演習**：「...」を書き換えて、セルを実行します。答え合わせでは、正しい値と比べ、
#   よくある間違いなら、何が違うのかを示します。ヒントと解答は、その下に折りたたんであります。
#   レッスンの最後のセルでは、どの演習が済んだかがわかります。
# - **スライダー**を動かすには、カーネルが必要です。動いていないときは、いくつかの設定の図が表示されます。
# - 式の番号は、論文の第1版のものです。論文に書かれていない点は、この教材で決めて、D1、D2、…という番号を付けました（[一覧](../DECISIONS_ja.md)）。
#
# ## まとめ
#
# - 16トークンしか見えない MAC が、2,000トークン前に伝えられたことを答えました。
#   メモリに書き込まない場合や、メモリなしで訓練した場合は、当てずっぽうになります。
# - 事実は、メモリの重みの中にあります。その重みを別の状態に入れると、そこで答えられるようになります。
# - メモリへの書き込みは、モデルが読んでいる間に行われます。事実を書き込むのは、すぐ後ろのトークンです。
#   畳み込みが、このトークンに、名前をキーとして、場所を値として渡します。
# - モデルは、事実が見えている間は大きなステップをとりますが、ここでは、1つの決まったステップ幅でも同じように答えられます。
# - モデルは、訓練で求められたことをします。このままでは上書きをしません（ステップを大きくすれば、します）が、別の訓練を20ステップするだけで変わります。
#
# ## 参考文献
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663)。
# - S. Arora et al.: *Zoology: Measuring and Improving Recall in Efficient Language Models*, arXiv
#   [2312.04927](https://arxiv.org/abs/2312.04927)。伝えたペアを思い出せるかどうかで、系列モデルを調べます。

# %% tags=["nbval-ignore-output"]
progress()
