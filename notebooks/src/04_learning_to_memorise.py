# %% [markdown] lang="en"
# # 04 · Learning to memorise
#
# *Titans, step by step.* About 40 minutes to read, 80 with the exercises; the code runs in about 15 seconds.
# Run the cells from top to bottom.
#
# **You will learn**
#
# - which numbers change while a model reads, which change in training, and which never change;
# - to take a gradient through a gradient, by hand, and what is lost without it;
# - what a memory layer has learned when it has learned recall: one way to write, another to ask;
# - to tell two questions apart: is a trained part used, and did it have to be trained?
# - three ways to overwrite an old value, and which of them training picks.
#
# **You need** lesson 03: $\theta$, $\eta$, $\alpha$, and what a chunk is; and lesson 02 for $k = x W_K$.

# %% [markdown] lang="ja" en="e839edd7"
# # 04 · 覚え方を学ぶ
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン04です。読むのに約40分、演習も解くと約80分、コードの実行に約15秒かかります。
# セルは上から順に実行してください。
#
# **このレッスンで学ぶこと**
#
# - モデルが読んでいる間に変わる数、訓練（training）で変わる数、そして、どちらでも変わらない数。
# - 勾配（gradient）を通る勾配を手で計算する方法と、それがないと失われるもの。
# - 想起（recall）を学習したメモリ（memory）の層（layer）が、何を身に付けたのか（書き方と、それとは別のたずね方）。
# - 「訓練した部分は使われているか」と「それを訓練する必要があったか」という、2つの問いの区別。
# - 古い値を上書きする3つの方法と、訓練がそのどれを選ぶか。
#
# **必要な知識**：レッスン03の内容、つまり $\theta$、$\eta$、$\alpha$ と、チャンク（chunk）の意味。$k = x W_K$ はレッスン02で学びました。

# %%
import copy

import torch

from titans.lesson import predict, progress, start
from titans.lesson.lesson_04 import exercises, pictures, trials
from titans.lesson.lesson_04.lab import film_lab
from titans.lesson.lesson_04.runs import FIRST_ORDER, PARTS, RUN
from titans.training import share_right, train

start()

# %% [markdown] lang="en"
# If the import fails, this course's package is not installed: run `pip install -e .` in the folder that you cloned
# (in Colab: clone the repository, go into its folder with `%cd`, install it there in the same way, then run the cell
# above). The package that PyPI calls `titans` is another one.
#
# ## 1. Two loops
#
# Lessons 02 and 03 wrote into a memory with keys, values and gates that were given. In a model they come from trained
# weights. Two loops change numbers, and they never change the same ones.
#
# | | what it changes | how | when |
# |---|---|---|---|
# | **inner loop** | $M_t$, $S_t$ | equations 13 and 14 | at every token that is read, in training and afterwards |
# | **outer loop** | $W_Q, W_K, W_V, W_O, W_G$, the convolution, the gates' weights, $M_0$, persistent tokens, embeddings, the rest of the network | gradient of the model's own loss, AdamW | in training only |
# | **nobody** | the size of a chunk, the largest $\theta$, the width of the convolution | you choose | never |
#
# The inner loss, $\lVert M(k) - v \rVert^2$, trains no $W$. The outer loss, here "did you answer the question", trains
# no $M_t$: it trains where $M$ starts and how it will be written. Let us see both on the smallest model that has all
# this: one layer, in which the memory alone brings tokens together (the paper calls it LMM; there is no attention).

# %% [markdown] lang="ja" en="a800184b"
# import に失敗するときは、この教材のパッケージがまだインストールされていません。
# クローンしたフォルダーで `pip install -e .` を実行してください。Colab では、リポジトリをクローンし、`%cd` でそのフォルダーに入り、同じようにインストールしてから、
# 上のセルを実行します。
# なお、PyPI で `titans` という名前のパッケージは別物です。
#
# ## 1. 2つのループ
#
# レッスン02と03では、あらかじめ与えられたキー（key）、値（value）、ゲート（gate）を使って、メモリに書き込みました。
# モデルの中では、それらは訓練された重み（weights）から計算されます。
# 数を変えるループは2つあり、両方が同じ数を変えることはありません。
#
# | | 変えるもの | 方法 | いつ |
# |---|---|---|---|
# | **内側のループ**（inner loop） | $M_t$, $S_t$ | 式(13)と(14) | トークン（token）を読むたび。訓練中も、訓練の後も |
# | **外側のループ**（outer loop） | $W_Q, W_K, W_V, W_O, W_G$、畳み込み（convolution）、ゲートの重み、$M_0$、永続トークン（persistent token）、埋め込み（embedding）、ネットワークのほかの部分 | モデル自身の損失（loss）の勾配、AdamW | 訓練中だけ |
# | **どちらも変えない** | チャンクの大きさ、$\theta$ の上限、畳み込みの幅 | 設計者が決める | 変わらない |
#
# 内側の損失 $\lVert M(k) - v \rVert^2$ で訓練される $W$ は、1つもありません。
# 外側の損失（ここでは、質問に正しく答えたかどうか）で訓練されるのは、$M_t$ ではなく、$M$ の出発点と、そこへの書き込み方です。
# このすべてを備えた最小のモデルで、両方を見てみましょう。1層だけのモデルで、トークンを混ぜるのはメモリだけです
# （論文では LMM と呼ばれ、アテンション（attention）はありません）。

# %%
model = copy.deepcopy(trials.untrained())
before = {name: p.detach().clone() for name, p in model.named_parameters()}
batch = RUN.batch(seed=0, step=0)
output = model(batch.tokens, labels=batch.labels)
memories = output.state.layers[0].memory.weights[0]
print("M, a memory for each of 32 rows:", list(memories.shape))
assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
assert not torch.equal(memories[0], memories[1])
output.loss.backward()
trained_by_loss = [n for n, p in model.named_parameters() if p.grad.any()]
print(len(trained_by_loss), "tensors get a gradient, M and S are none")
assert trained_by_loss == list(before)

# %% [markdown] lang="en"
# Reading has changed 32 memories and no parameter; the outer loss has a gradient for every parameter.
#
# ## 2. A gradient through a gradient
#
# How does the outer loss know what $W_K$ should be? $W_K$ makes a key, the key makes a surprise, the surprise makes a
# write, the write makes an answer. A surprise is a gradient, so the way back leads through a gradient. Take the smallest
# case: a memory of *one number* $m$, one fact with input $x$, one question with input $x'$, and the answer $a$ that is
# wanted.
#
# $$k = w_K x, \quad v = w_V x, \quad u = 2 (m k - v)\, k, \quad M = m - \theta u, \quad
# L = (M\, w_Q x' - a)^2$$
#
# With $\delta = \partial L / \partial M = 2 (M q - a)\, q$ and $q = w_Q x'$, the chain rule gives
#
# $$\frac{\partial L}{\partial \theta} = -\delta\, u, \qquad
# \frac{\partial L}{\partial w_K} = -\delta\, \theta\, \frac{\partial u}{\partial k}\, x
# = -\delta\, \theta\, (4 m k - 2 v)\, x$$
#
# $$\frac{\partial L}{\partial w_V} = \delta\, \theta\, 2 k\, x, \qquad
# \frac{\partial L}{\partial m} = \delta\, (1 - 2 \theta k^2)$$
#
# $\partial u / \partial k$ is the derivative of a derivative of the inner loss: the second order that everybody speaks of.

# %% [markdown] lang="ja" en="769db547"
# 系列（sequence）を読むと、32個のメモリ（系列ごとに1つ）が変わりましたが、パラメータは1つも変わっていません。一方、外側の損失は、すべてのパラメータに勾配を与えます。
#
# ## 2. 勾配を通る勾配
#
# $W_K$ がどうあるべきかを、外側の損失はどうやって知るのでしょうか。
# $W_K$ がキーを作り、キーが驚き（surprise）を作り、驚きが書き込みになり、書き込みが答えを変えます。
# 驚きは勾配なので、損失からの帰り道は、勾配の中を通ります。
# いちばん小さな場合を考えましょう。メモリは**1つの数** $m$、入力 $x$ の事実が1つ、入力 $x'$ の質問が1つ、求める答えは $a$ です。
#
# $$k = w_K x, \quad v = w_V x, \quad u = 2 (m k - v)\, k, \quad M = m - \theta u, \quad
# L = (M\, w_Q x' - a)^2$$
#
# $\delta = \partial L / \partial M = 2 (M q - a)\, q$、$q = w_Q x'$ と置くと、連鎖律（chain rule）から
#
# $$\frac{\partial L}{\partial \theta} = -\delta\, u, \qquad
# \frac{\partial L}{\partial w_K} = -\delta\, \theta\, \frac{\partial u}{\partial k}\, x
# = -\delta\, \theta\, (4 m k - 2 v)\, x$$
#
# $$\frac{\partial L}{\partial w_V} = \delta\, \theta\, 2 k\, x, \qquad
# \frac{\partial L}{\partial m} = \delta\, (1 - 2 \theta k^2)$$
#
# が得られます。$\partial u / \partial k$ は、内側の損失を2回微分したものです。よく「2階」（second order）と言われるのは、これのことです。

# %%
numbers = torch.tensor([0.8, 1.1, 0.15, 0.2], dtype=torch.float64)
w_k, w_v, theta, m = leaves = [n.requires_grad_() for n in numbers.unbind()]
x, q, a = 1.0, 1.1, 1.0


def outer_loss(detached=False):
    k, v = w_k * x, w_v * x
    u = 2 * (m * k - v) * k
    M = m - theta * (u.detach() if detached else u)
    return (M * q - a) ** 2, k, v, u, M


loss, k, v, u, M = outer_loss()
autograd = torch.autograd.grad(loss, leaves)

# %%
delta = 2 * (M * q - a) * q
by_hand = {
    "w_K": -delta * theta * (4 * m * k - 2 * v) * x,
    "w_V": delta * theta * 2 * k * x,
    "theta": -delta * u,
    "M_0": delta * (1 - 2 * theta * k**2),
}
for (name, hand), torchs in zip(by_hand.items(), autograd, strict=True):
    print(f"{name:5}: {hand.item():+.10f} by hand, {torchs.item():+.10f}")
    assert abs(hand - torchs) < 1e-10

# %% [markdown] lang="en"
# **Predict before you run.** Much code cuts this way back: the surprise is *detached*, a number and not a function of
# $w_K$. Which of the four gradients stay, which vanish, and which changes?

# %% [markdown] lang="ja" en="e6b1ef1b"
# **実行する前に予想してみましょう。**
# この帰り道を切っているコードは、少なくありません。驚きを計算グラフから切り離し（detach）、$w_K$ の関数ではなく、ただの数として扱うのです。
# 4つの勾配のうち、残るのはどれで、消えるのはどれでしょうか。値が変わるのはどれでしょうか。

# %%
predict("...")

# %%
cut = torch.autograd.grad(
    outer_loss(detached=True)[0], leaves, materialize_grads=True
)
for name, full, first in zip(by_hand, autograd, cut, strict=True):
    print(f"{name:5}: {full.item():+.4f} full, {first.item():+.4f} detached")

# %% [markdown] lang="en"
# $\theta$ keeps its gradient: it multiplies the surprise from outside. $w_K$ and $w_V$ get none, as the surprise was
# their only way to the loss. $M_0$ loses the part that says "a better start would have been corrected less". The same in
# the real model, on its first batch: how large each gradient is.

# %% [markdown] lang="ja" en="0144239d"
# $\theta$ は、驚きに外から掛かっているので、勾配が残ります。$w_K$ と $w_V$ は、損失へ至る道が驚きだけだったので、勾配が消えます。
# $M_0$ の勾配からは、「出発点がよければ、書き込みによる修正も少なくなる」という部分が失われます。
# 本物のモデルでも、最初のバッチ（batch）で、勾配の大きさを比べてみましょう（full が完全な勾配、detached が切り離した勾配です）。
# 行の gates はゲート、convolution は畳み込み、persistent は永続トークン、norms は正規化、FFN は順伝播型ネットワーク、embedding は埋め込み、head は出力層です。

# %%
assert cut[0] == cut[1] == 0
assert cut[2] == autograd[2]

# %%
full = trials.gradient_norms()
detached = trials.gradient_norms(FIRST_ORDER)
for part in PARTS:
    print(f"{part:11}: {full[part]:6.3f} full, {detached[part]:6.3f} detached")
assert detached["W_K"] == detached["W_V"] == detached["persistent"] == 0
assert detached["W_Q"] == full["W_Q"] > 0
assert 0 < detached["embedding"] < full["embedding"]

# %% [markdown] lang="en"
# $W_K$, $W_V$ and the persistent tokens, which are only written here, get nothing. The convolution and the embeddings
# keep what reaches them through queries and gates. The library never cuts (decision D7). Section 7 tells what a model
# learns whose gradients were cut.
#
# ### Exercise 1: two writes
#
# A memory of one number again, with two facts, $(k_1, v_1)$ and then $(k_2, v_2)$, both written with the same $\theta$,
# each surprise taken at the memory as it finds it. Return $\partial L / \partial \theta$ for $L = (M_2\, q - a)^2$, by
# hand: no autograd. All arguments are plain numbers.

# %% [markdown] lang="ja" en="4a4f10d4"
# $W_K$、$W_V$ と、ここでは書き込まれるだけの永続トークンには、勾配が届きません。
# 畳み込みと埋め込みには、クエリ（query）とゲートを通ってくる分だけが残ります。
# このライブラリは、勾配を切りません（決定D7）。切って訓練したモデルが何を学ぶかは、7節で見ます。
#
# ### 演習1：2回の書き込み
#
# メモリは今度も1つの数で、$(k_1, v_1)$、$(k_2, v_2)$ の順に、2つの事実を書き込みます。$\theta$ はどちらも同じで、驚きは、それぞれ書き込む直前のメモリで計算します。
# $L = (M_2\, q - a)^2$ のとき、$\partial L / \partial \theta$ を手で計算して返してください。自動微分（autograd）は使いません。引数は、どれもただの数です。


# %%
def meta_gradient(m, k1, v1, k2, v2, theta, q, a):
    return ...


exercises.META_GRADIENT.check(meta_gradient)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# `M₂ = M₁ − θ u₂`, and `u₂ = 2 (M₁ k₂ − v₂) k₂` depends on `θ` through `M₁`. Start with
# `∂M₁/∂θ = −u₁`.
#
# </details>

# %% [markdown] lang="ja" en="53ef86c3"
# <details><summary>ヒント</summary>
#
# `M₂ = M₁ − θ u₂` です。`u₂ = 2 (M₁ k₂ − v₂) k₂` も、`M₁` を通して `θ` に依存します。
# `∂M₁/∂θ = −u₁` から始めてください。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def meta_gradient(m, k1, v1, k2, v2, theta, q, a):
#     u1 = 2 * (m * k1 - v1) * k1
#     M1 = m - theta * u1
#     u2 = 2 * (M1 * k2 - v2) * k2
#     M2 = M1 - theta * u2
#     slope = -u1 * (1 - 2 * theta * k2**2) - u2
#     return 2 * (M2 * q - a) * q * slope
# ```
#
# </details>

# %% [markdown] lang="en"
# ## 3. Where to start: $M_0$
#
# $M_0$ is what the memory knows before the first token, the same for every sequence. What could be worth knowing then?
# What all sequences have in common. If pairs come from a fixed distribution, the best $M_0$ is regression once more: the
# matrix with the smallest mean inner loss before any write.
#
# ### Exercise 2: the least surprised start
#
# Here are `n` pairs from such a distribution, keys `k` [n, dim] and values `v` [n, out]. Return the matrix `M_0`
# [out, dim] for which the mean of $\lVert M_0 k - v \rVert^2$ is smallest.

# %% [markdown] lang="ja" en="a4ba9cdb"
# ## 3. どこから始めるか：$M_0$
#
# $M_0$ は、最初のトークンより前からメモリが知っていることで、どの系列でも同じです。その時点で知っていて役に立つのは、すべての系列に共通することです。
# ペア（pair）が決まった分布から来るなら、最良の $M_0$ を求める問題は、またしても回帰です。まだ1回も書き込んでいないときの、内側の損失の平均が最小になる行列を求めます。
#
# ### 演習2：驚きが最小の出発点
#
# そのような分布から取った `n` 個のペアがあります。キーは `k` [n, dim]、値は `v` [n, out] です。
# $\lVert M_0 k - v \rVert^2$ の平均が最小になる行列 `M_0` [out, dim] を返してください。


# %%
def first_memory(k, v):
    return ...


exercises.FIRST_MEMORY.check(first_memory)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# Least squares: `torch.linalg.lstsq(A, B).solution` is the `X` for which `A @ X` comes nearest to `B`. Which of `k`, `v`
# and the transpose of `M_0` is `A`, `B`, `X`?
#
# </details>

# %% [markdown] lang="ja" en="17a264cb"
# <details><summary>ヒント</summary>
#
# 最小二乗法です。`torch.linalg.lstsq(A, B).solution` は、`A @ X` が `B` に最も近くなる `X` です。
# `k`、`v`、`M_0` の転置は、それぞれ `A`、`B`、`X` のどれに当たりますか。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def first_memory(k, v):
#     return torch.linalg.lstsq(k, v).solution.T
# ```
#
# </details>

# %% [markdown] lang="en"
# In the task that follows, which value belongs to which key is drawn anew for every sequence. There is nothing to know
# in advance, so keep your guess in mind: how much will a trained $M_0$ matter there?
#
# ## 4. A memory learns recall
#
# The task is the one of lesson 00: six pairs are told first, in one stretch; 24 to 56 tokens of noise pass; every key is
# asked for. A guess is right once in 32 times. You train the model now; the bar ends when 99.5 % are right.

# %% [markdown] lang="ja" en="5159dc3c"
# 次の課題では、どのキーにどの値が付くかが、系列ごとに乱数で決め直されます。
# 前もって知っておけることは何もないので、訓練した $M_0$ がそこでどれだけ効くか、予想しておいてください。
#
# ## 4. メモリが想起を学ぶ
#
# 課題はレッスン00と同じです。6つのペアを初めにまとめて伝え、24〜56トークンの雑音（noise）が過ぎてから、すべてのキーについてたずねます。
# でたらめに答えても、32回に1回は当たります。では、訓練してみましょう。正解率が99.5%になると、進捗バーが止まります。

# %% tags=["nbval-ignore-output"]
trained = train(RUN).model

# %% tags=["nbval-ignore-output"]
for name, each in {"before": trials.untrained(), "after": trained}.items():
    right = [share_right(each, RUN.task, between) for between in (24, 56)]
    print(f"{name:6}: {right[0]:.0%} and {right[1]:.0%} right")
assert min(right) > 0.97

# %% [markdown] lang="en"
# ## 5. What has changed?
#
# **Predict before you run.** The example of lesson 00: six facts and then filler. How will $\theta$, $\eta$ and $\alpha$
# differ between told tokens and filler? Will a trained memory be more surprised by what it is told, or less, than an
# untrained one? (`P` are the model's four persistent tokens, which are written before all others.)

# %% [markdown] lang="ja" en="856527a1"
# ## 5. 何が変わったのか
#
# **実行する前に予想してみましょう。**
# レッスン00の例、つまり、6つの事実とそれに続く埋め草（filler）を読ませます。
# $\theta$、$\eta$、$\alpha$ は、事実のトークンと埋め草で、どう違うでしょうか。
# 学習済みのメモリは、伝えられたことに、訓練前より強く驚くでしょうか。それとも、驚きは弱くなるでしょうか。
# （`P` は、何よりも先に書き込まれる、モデルの4つの永続トークンです。）

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
first, last = (
    trials.tell_and_ask(each) for each in (trials.untrained(), trained)
)
for name in ("theta", "eta", "alpha", "surprise"):
    for kind, seen in {"before": first, "after": last}.items():
        key, value, noise = trials.means(getattr(seen, name))
        print(f"{name:8} {kind:6}: {key:.4f} {value:.4f} {noise:.4f}")

# %% tags=["nbval-ignore-output"]
pictures.before_and_after(trials.untrained(), trained)

# %% [markdown] lang="en"
# The columns are keys, values and noise, means over 64 rows. Most people expect large steps at facts and none at noise.
# The steps grew everywhere, at keys twice as much as at noise, and no gate closes. Momentum went to almost 1 and
# forgetting to almost 0: nothing is thrown away. And the trained memory is *more* surprised than the untrained one.
# Training was never asked to make surprise small. It was asked for answers.
#
# ## 6. Two keys for one thing
#
# So where is the skill? Look at a pair's three tokens: its key, its value, and the token after them. Each is written
# with a key and a value of its own, made from the token and the three before it (the convolution). At the end, ask the
# memory in two ways: with the *write key* of each token, and with the *query* of the question.
#
# **Predict before you run.** The question is the key's name. Which token's write key will its query resemble?

# %% [markdown] lang="ja" en="cadc064c"
# 列は左から、キー、値、雑音のトークンで、64系列の平均です（before は訓練前、after は訓練後）。
# 事実では大きく、雑音では0に近いステップ幅を予想した人が多いでしょう。
# 実際には、ステップ幅はどこでも大きくなり（キーでの増え方は雑音の約2倍）、閉じたゲートはありません。
# モーメンタム（momentum）はほぼ1に、忘却（forgetting）はほぼ0になり、何も捨てなくなりました。
# しかも、学習済みのメモリのほうが、訓練前より**強く**驚きます。訓練が求めたのは、驚きを小さくすることではなく、答えることでした。
#
# ## 6. 1つのことに2つのキー
#
# では、身に付けた技は、どこにあるのでしょうか。1つのペアについて、キー、値、その次のトークンの3つを見てみましょう。
# どのトークンの書き込みにも、そのトークンと直前の3トークンから畳み込みで作った、専用のキーと値が使われます。
# 最後に、2通りの方法でメモリにたずねます。各トークンの**書き込みのキー**（write key）と、質問の**クエリ**です。
#
# **実行する前に予想してみましょう。**
# 質問のトークンは、キーの名前です。そのクエリは、どのトークンの書き込みのキーに似ているでしょうか。

# %%
predict("...")

# %%
assert trials.means(last.eta)[2] > 0.95 > 0.01 > trials.means(last.alpha)[2]
assert trials.means(last.surprise)[0] > trials.means(first.surprise)[0]

# %% tags=["nbval-ignore-output"]
meets = trials.question_meets(last)
for name, product in zip(trials.OFFSETS, meets, strict=True):
    print(f"q · k, write key of {name:15}: {product:+.2f}")
pictures.two_keys(last)

# %% [markdown] lang="en"
# Not its own. The query of "Ada?" looks like the write key of the token *after* "Ada Lima", whatever that token is. Its
# convolution still sees the name two tokens back and the place one token back, so it is the first token at which both
# can be made into a key and a value. The memory holds all three writes; the question finds the third.
#
# If that is what the model does, the memory read with *that* write key, in place of the query, must give right answers,
# and with the other two wrong ones. Everything after the memory stays as it is.

# %% [markdown] lang="ja" en="f9be32c5"
# 名前自身のキーではありません。「Ada?」のクエリに似ているのは、「Ada Lima」の**次の**トークンの書き込みのキーで、そのトークンが何であっても変わりません。
# そこでは、2つ前の名前と1つ前の場所が、まだ畳み込みから見えています。つまり、その両方からキーと値を作れる、最初のトークンなのです。
# メモリは3つの書き込みをどれも保持していますが、質問が見つけるのは3つ目です。
#
# モデルが本当にそうしているなら、クエリの代わりに、**その**書き込みのキーでメモリを読めば正しい答えが出て、残りの2つでは間違えるはずです。
# メモリより後の部分は、そのまま使います。

# %%
assert meets[2] > 0.4 > 0.3 > meets[:2].abs().max()

# %% tags=["nbval-ignore-output"]
asked = {"its own query": None} | trials.OFFSETS
right = {n: trials.right_with_key(trained, last, o) for n, o in asked.items()}
for name, share in right.items():
    print(f"read with the write key of {name:15}: {share:.0%} right")
assert min(right["its own query"], right["the token after"]) > 0.95
assert max(right["the key"], right["the value"]) < 0.5

# %% [markdown] lang="en"
# (The first row is the query itself.) And what is that write key made of? Close the convolution's view of one token back
# at a time, for keys alone, then for values alone.

# %% [markdown] lang="ja" en="8dfc10a3"
# （最初の行は、クエリそのものです。）では、その書き込みのキーは、何から作られているのでしょうか。
# 畳み込みから見える過去のトークンを1つずつ隠してみます。初めはキーについてだけ、次は値についてだけ隠します
# （k without 3 back は、キーについて3つ前を隠した場合です）。

# %% tags=["nbval-ignore-output"]
closed = {}
for what in ("k", "v"):
    for back in (3, 2, 1, 0):
        model = trials.without_tap(trained, what, back)
        seen = trials.tell_and_ask(model)
        closed[what, back] = trials.right_with_key(model, seen, None)
        print(f"{what} without {back} back: {closed[what, back]:.0%} right")
assert max(closed["k", 2], closed["v", 1]) < 0.8
assert min(closed[at] for at in set(closed) - {("k", 2), ("v", 1)}) > 0.9

# %% [markdown] lang="en"
# The key needs the name, two back, and nothing else; the value needs the place, one back, and nothing else. So there are
# two keys for one thing: one to write with, made of a name two back, and one to ask with, made of the name in front of
# you. The outer loop has trained both until they point the same way. The inner loss cannot ask for that: it knows of no
# question.
#
# ### The film lab
#
# The example again, in both memories. The line is the token after which you look. Below, for each of the six pairs: how
# well the memory answers at the write key (of the token after), and to the question.
#
# 1. Drag to token 5. How many pairs are told, how many are answered?
# 2. Drag through the filler. What does the untrained memory lack?

# %% [markdown] lang="ja" en="045d2eb3"
# キーに必要なのは2つ前の名前だけ、値に必要なのは1つ前の場所だけでした。つまり、1つのことに、キーが2つあるのです。
# 書くためのキーは2つ前の名前から、たずねるためのキー（クエリ）は目の前の名前から作られます。
# 外側のループは、この2つが同じ方向を向くまで、両方を訓練しました。
# 内側の損失は、質問というものを知らないので、それを求めることができません。
#
# ### フィルム実験室
#
# 同じ例を、2つのメモリに読ませます。縦線は、どのトークンの後を見ているかを示します。
# 下の棒は、6つのペアのそれぞれについて、（次のトークンの）書き込みのキーと質問に、メモリがどれだけよく答えるかを示します。
# 「棒」で、表示する棒を選べます。
#
# 1. トークン5まで動かしてください。伝えられたペアはいくつで、そのうち、答えられるのはいくつですか。
# 2. 埋め草の上で動かしてください。訓練前のメモリには、何が足りませんか。

# %% tags=["nbval-ignore-output"]
film = film_lab(trials.untrained(), trained)
film

# %% [markdown] lang="en"
# <details><summary>Answers</summary>
#
# 1. Three are told, two are answered: the third needs the token after it.
# 2. Not the storing. It answers all six write keys well. It has no query for them.
#
# </details>
#
# ## 7. Which trained part does the work?
#
# Thirteen parts were trained. Put one back to its start, leave the others as trained, and measure.
#
# **Predict before you run.** Which three cost the most? Where does $M_0$ come?

# %% [markdown] lang="ja" en="3752cda1"
# <details><summary>答え</summary>
#
# 1. 伝えられたのは3つ、答えられるのは2つです。3つ目には、その次のトークンが必要です。
# 2. 蓄えることはできていて、6つの書き込みのキーのどれにもよく答えます。足りないのは、それに合うクエリです。
#
# </details>
#
# ## 7. 働いているのは、訓練されたどの部分か
#
# 訓練された部分は13個あります。1つだけ初期値に戻し、ほかは学習済みのままにして、正解率を測ってみましょう。
#
# **実行する前に予想してみましょう。**
# 最も影響が大きい3つはどれでしょうか。$M_0$ は何番目でしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
reset = {}
for part in PARTS:
    without = trials.with_reset(trained, part)
    reset[part] = share_right(without, RUN.task, 56)
for part in sorted(reset, key=reset.get):
    print(f"{part:11}: {reset[part]:.0%} right")

# %% [markdown] lang="en"
# Embeddings first, then gates and convolution; $M_0$ hardly at all. Is a part
# that costs much when put back a part that *had to be trained*? That is another experiment: train again, with the part
# frozen at its start (three seeds, `python -m titans.lesson.lesson_04.runs`).
#
# **Predict before you run.** Gates frozen for the whole training: what will be right?

# %% [markdown] lang="ja" en="43c26059"
# 影響が最も大きいのは埋め込みで、ゲートと畳み込みが続きます。$M_0$ は、ほとんど影響しません。
# では、戻すと正解率が大きく下がる部分は、**訓練する必要があった**部分なのでしょうか。それは別の実験です。
# その部分を初期値のまま凍結（freeze）して、訓練をやり直します（3つのシード（seed）、`python -m titans.lesson.lesson_04.runs`）。
#
# **実行する前に予想してみましょう。**
# 訓練の間ずっとゲートを凍結すると、正解率はどうなるでしょうか。

# %%
predict("...")

# %%
assert reset["embedding"] < 0.5 < reset["gates"] < 0.95 < reset["M_0"]

# %% tags=["nbval-ignore-output"]
never = trials.never_trained()
for part in PARTS:
    shares = " ".join(f"{100 * share:3.0f}" for share in never[part])
    print(f"{part:11}: {shares} % right")
pictures.which_part(reset, never)

# %% [markdown] lang="en"
# Put back, the gates cost a quarter; never trained, two percent at most, and some more steps. The same start of the
# gates, the same model otherwise: the difference is what the other parts have become. Trained beside learning gates they
# rely on them; trained beside frozen ones they learn to do without. So it is with the convolution, $W_K$, $W_Q$ and $W_V$: the
# trained model uses each of them, and learning needs none of them by itself.
#
# The embedding is another matter. Frozen, two seeds of three have hardly begun after 400 steps. Whoever says of a
# part that it "does the work" says which of the two experiments was made.
#
# Now back to section 2. Detaching the inner gradient leaves $W_K$ and $W_V$ without training. Is that its price?
#
# **Predict before you run.** $W_K$ and $W_V$ both frozen, all else trained with the full gradient. And then all trained,
# with the inner gradient detached.

# %% [markdown] lang="ja" en="b48426b7"
# ゲートを後から初期値に戻すと、正解率は4分の1ほど下がりますが、一度も訓練しなければ、下がるのは多くても2%ほどで、必要なステップがいくらか増えるだけです。
# どちらもゲートは初期値のままなので、違うのは、ほかの部分の育ち方です。
# ゲートとともに訓練された部分はゲートに頼り、凍結されたゲートとともに訓練された部分は、それなしで済ませることを学びます。
# 畳み込み、$W_K$、$W_Q$、$W_V$ も同じです。学習済みモデルはどれも使っていますが、そのうちの1つを訓練しなくても、学習はできます。
#
# 埋め込みは違います。凍結すると、3つのうち2つのシードは、400ステップたってもほとんど学習できませんでした。
# ある部分が「働いている」と言うときは、2つの実験のどちらによるのかも言いましょう。
#
# ここで2節に戻ります。内側の勾配を切り離すと、$W_K$ と $W_V$ は訓練されません。切り離す代償は、それなのでしょうか。
#
# **実行する前に予想してみましょう。**
# $W_K$ と $W_V$ を両方とも凍結し、残りを完全な勾配で訓練したらどうなるでしょうか。
# また、すべてを訓練し、内側の勾配だけを切り離したら（inner gradient detached）どうなるでしょうか。

# %%
predict("...")

# %%
for name in ("W_K W_V", "inner gradient detached"):
    print(f"{name:38}:", [f"{share:.0%}" for share in never[name]])
for name in never:
    if name.startswith("writes"):
        print(f"{name:38}:", [f"{share:.0%}" for share in never[name]])

# %% [markdown] lang="en"
# The price is not $W_K$ and $W_V$: both frozen, the model learns as well as ever. Detached, it stays at 7 to 33 %. What is
# written is made in three places, by the embeddings, by $W_K$ and $W_V$, and by the convolution, and the cut closes the
# way to all three. The last rows open one again: what is written is trained in that place alone. With $W_K$ and $W_V$, or
# with the embeddings, most is learned; with the convolution alone, seeds differ (7, 68 and 88 %). Something has to be able
# to shape what is written; it need not be $W_K$ and $W_V$.
#
# ### Exercise 3: who was sabotaged?
#
# Three copies of your model: in each one part was put back to its start. Decide from the numbers which one, among
# `gates`, `convolution`, `W_K`, `W_V`, `W_Q` and `M_0`. The last three rows are about the token after each pair: how
# much the question's query is like its key, how much the keys of *different* pairs overlap, how long its value is.

# %% [markdown] lang="ja" en="5838d062"
# 代償は、$W_K$ と $W_V$ ではありませんでした。両方を凍結しても、モデルはこれまでと同じように学習します。ところが、勾配を切り離すと、正解率は7〜33%にとどまります。
# 書き込まれるものは、埋め込み、$W_K$ と $W_V$、畳み込みの3か所で作られますが、切り離すと、書き込みを通って勾配が届く道は、3か所とも閉じます。
# 残りの3行（writes shaped by …）では、そのうちの1か所だけに勾配が届くようにし、書き込まれるものをそこだけで訓練しました。
# $W_K$ と $W_V$（W_K, W_V alone）や埋め込み（the embedding alone）なら大部分を学習し、畳み込み（the convolution alone）だけでは、シードによって7%、68%、88%と分かれます。
# 書き込まれるものを作る部分のどこかは訓練する必要がありますが、それが $W_K$ と $W_V$ である必要はありません。
#
# ### 演習3：どこが壊されたか
#
# あなたのモデルの3つのコピー A、B、C では、それぞれ1つの部分が初期値に戻されています。
# `gates`、`convolution`、`W_K`、`W_V`、`W_Q`、`M_0` のうち、どれが戻されたのかを、数値から判断してください。
# 最後の3行は、各ペアの次のトークンについて、質問のクエリがそのキーにどれだけ似ているか（q·k）、
# **異なる**ペアのキーがどれだけ重なるか、値の長さ（|v|）です。「学習済み」の列は、元のモデルです。

# %%
assert min(never["W_K W_V"]) > 0.95
assert max(never["inner gradient detached"]) < 0.4

# %% tags=["nbval-ignore-output"]
models = {"trained": trained} | {
    name: trials.with_reset(trained, part)
    for name, part in exercises.SABOTAGED.items()
}
numbers = {name: trials.clue(each) for name, each in models.items()}
print(exercises.clues(numbers, trials.CLUES))


# %%
def sabotaged():
    return ...  # three names, for A, B and C


exercises.DETECTIVE.check(sabotaged)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# Which rows would *not* change if it were `W_V`? If it were `W_Q`? The convolution mixes queries, keys and values.
#
# </details>

# %% [markdown] lang="ja" en="843f64c3"
# <details><summary>ヒント</summary>
#
# `W_V` だったとしたら、**変わらない**行はどれですか。`W_Q` だったとしたら、どうでしょうか。畳み込みは、クエリもキーも値も混ぜています。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def sabotaged():
#     return "W_Q", "convolution", "W_K"
# ```
#
# </details>

# %% [markdown] lang="en"
# ## 8. A task that requires overwriting
#
# Nothing above needed anything old to go. Here is a task that does: six pairs are told, then all six keys again, in
# another order and with *other values*; then noise; then the newest value is asked for. Three parts of the update can
# let the newest win:
#
# - the **correction**: the error of a second write contains what the memory answers already, and takes it out (lesson
#   01's delta rule). It needs gradients at weights that know the first telling: chunks of 4 have it; with everything in
#   one chunk of 256 there is none, and only adding is left.
# - **forgetting**: what was told first has faded more.
# - **momentum**: lesson 03 says what is written last is still being written.
#
# Five small models, each with one of them, with none, or with all; trained on this task, three seeds.
#
# **Predict before you run.** Which of them learns the task? Is there one that cannot?

# %% [markdown] lang="ja" en="ff0e612b"
# ## 8. 上書きが必要な課題
#
# ここまでは、古いものが消える必要はありませんでした。今度は、それが必要な課題です。
# 6つのペアを伝え、続いて6つのキーを全部もう一度、別の順序で、**別の値**とともに伝えます。雑音の後で、新しいほうの値をたずねます。
# 更新式の中で、新しいほうを勝たせることができる部分は、3つあります。
#
# - **修正**（correction）：2回目に書き込むときの誤差には、メモリがいま返す答えが含まれているので、書き込むとそれが取り除かれます（レッスン01のデルタ則（delta rule））。
#   それには、最初に伝えたことを知っている重みで、勾配をとらなければなりません。チャンクが4ならそうなりますが、
#   全部が256トークンの1チャンクに入ると、修正は働かず、足し算だけになります。
# - **忘却**：先に伝えたことのほうが、多く薄れています。
# - **モーメンタム**：レッスン03で見たように、最後に書いたものは、まだ書き込まれている途中です。
#
# このうちの1つだけを備えたモデル、どれもないモデル（なし、none）、全部あるモデル（3つとも、all three）の5種類を、この課題で、3つのシードで訓練しました。
#
# **実行する前に予想してみましょう。**
# この課題を学習するのは、どれでしょうか。学習できないものはあるでしょうか。

# %%
predict("...")

# %%
card = trials.retold_card()
print(trials.retold_table(card))

# %% [markdown] lang="en"
# The columns are tokens of noise before the question, the cells percent right for seeds 0, 1 and 2. Trained were 24 to
# 56.
#
# - With *none*, two of three: it hardly distinguishes the newest value from the old one.
# - *Correction* alone does it, in all seeds.
# - *Momentum* alone does it too, nearly as well.
# - *Forgetting* alone is the weakest: 92 and 71 % at 56 tokens, and one seed never got off the ground.
# - *All three*: perfect where they were trained, but two seeds of three are worse than correction alone at 200 tokens.
#
# These models differ in one thing more: $\theta$ starts at 0.05 with chunks of 4, and at 0.0008 with one chunk of 256, so that
# the sum over a chunk is bounded (decision D5). So train them again, each with the other start (`runs` as above; right at 56
# tokens):

# %% [markdown] lang="ja" en="36518b4f"
# 列は、質問までの雑音のトークン数、欄は、シード0、1、2の正解率（%）です。訓練では24〜56トークンでした。
#
# - **なし**の正解率は、およそ3分の2です。新しい値と古い値を、あまり区別できていません。
# - **修正**だけで、どのシードでも解けます。
# - **モーメンタム**だけでも、ほぼ同じくらい解けます。
# - **忘却**だけがいちばん弱く、56トークンで92%と71%、1つのシードは最後まで学習できませんでした。
# - **3つとも**のモデルは、訓練した範囲では完璧です。しかし200トークンでは、3つのうち2つのシードが、修正だけのモデルに劣ります。
#
# 実は、これらのモデルには、もう1つ違いがあります。$\theta$ は、チャンクが4なら0.05、256トークンの1チャンクなら0.0008から始まるのです。
# チャンク全体の合計が大きくなりすぎないようにするためです（決定D5）。
# そこで、それぞれをもう一方の値から訓練し直します（前と同じ `runs` です。出力は56トークンでの正解率で、seeds はシード0、1、2）。

# %%
starts = trials.other_first_steps()
for name, right in starts.items():
    print(f"{name:10}: seeds", "/".join(f"{share:.0%}" for share in right))

# %% [markdown] lang="en"
# It was the start: with the larger one, forgetting alone is right in 91 to 98 %, every seed. The others stay what they
# are: *none* at two of three, correction and momentum at 97 % and more.
#
# Is the correction what its name says? Take it away *after* training: the same weights, read as one chunk.

# %% [markdown] lang="ja" en="bc640bc3"
# 忘却が弱く見えたのは、始まりの値のせいでした。大きいほうから始めれば、忘却だけでも、どのシードでも91〜98%正解します。
# ほかは変わりません。「なし」は3分の2ほど、修正とモーメンタムは97%以上です。
#
# では、修正は本当に名前のとおりの働きをしているのでしょうか。訓練の**後で**取り除いてみます。重みは同じまま、全体を1つのチャンクとして読ませます。
# 出力の newest は新しい値、old value は古い値を答えた割合で、ここからの実験でも同じです。

# %%
assert min(starts["forgetting"]) > 0.9 > 0.7 > max(starts["none"])
assert min(starts["correction"] + starts["momentum"]) > 0.97
far = [
    card["runs"][n]["right"]["200"]["each"]
    for n in ("all three", "correction")
]
assert [a < b for a, b in zip(*far, strict=True)] == [True, True, False]

# %%
retold = trials.retold_models()
for size in (1, 4, 16, 256):
    newest, old = trials.newest_and_old(retold["correction"], chunk_size=size)
    print(
        f"correction, chunk {size:3}: newest {newest:.0%}, old value {old:.0%}"
    )
assert newest < 0.65
assert old > 0.35

# %% [markdown] lang="en"
# It is. Now momentum, which ought not to work: without a correction every telling only adds, and a fact told earlier has
# been written for longer.
#
# **Predict before you run.** Ask the model that has momentum alone right after the last pair, then after more and more
# noise. Noise tells nothing about any key. How will the answers change?

# %% [markdown] lang="ja" en="0a95ee3d"
# そのとおりでした。次はモーメンタムですが、うまくいくはずがないように見えます。
# 修正がなければ、伝えるたびに足されるだけで、しかも、先に伝えた事実のほうが、長く書き込まれ続けているからです。
#
# **実行する前に予想してみましょう。**
# モーメンタムだけのモデルに、まず最後のペアの直後に、それから雑音を増やしながら、たずねていきます。
# 雑音は、どのキーについても何も伝えません。答えはどう変わるでしょうか。

# %%
predict("...")

# %%
waits = (1, 2, 4, 8, 16, 32, 56)
shares = {
    name: {n: trials.newest_and_old(retold[name], n) for n in waits}
    for name in ("correction", "momentum")
}
pictures.waiting(shares)

# %% [markdown] lang="en"
# At first it answers the *old* value. Some six tokens of noise later the two are even, and after thirty it answers the
# newest. Waiting does it. What happens in the wait? While it is told, this model's $\eta$ is 0.80 to 0.94, so at the end
# $S$ holds more of the second telling than of the first. At noise $\eta$ is 0.9995, so $S$ stays, and is added to $M$ at
# every token. If that is the reason, three interventions must leave the old value in place: $\eta = 1$ while it is told,
# $S$ erased at the end of that, $\eta = 0$ in the noise. And $\theta = 0$ in the noise, so that noise writes nothing of
# its own, must change nothing.

# %% [markdown] lang="ja" en="dce35216"
# はじめは**古い**値を答えます。雑音が6トークンほど過ぎると五分五分になり、30トークンもすると新しい値を答えます。待っていると、答えが変わるのです。
# 待っている間に、何が起こるのでしょうか。伝えている間、このモデルの $\eta$ は0.80〜0.94なので、伝え終わったとき、$S$ には、1回目より2回目のほうが多く含まれています。
# 雑音では $\eta$ が0.9995なので、$S$ はそのまま残り、トークンごとに $M$ に足されます。
# もしこれが理由なら、次の3つのどれを行っても、古い値のままになるはずです。伝えている間 $\eta = 1$ に固定する。伝え終わったところで $S$ を消す。雑音の間 $\eta = 0$ に固定する。
# 一方、雑音の間 $\theta = 0$ に固定して、雑音自身には何も書かせなくても、結果は変わらないはずです。
# 出力の1行目は訓練したまま（as trained）の場合で、2行目からは、ここに挙げた順に並んでいます。

# %%
assert shares["momentum"][1][1] > 0.7
assert shares["momentum"][56][0] > 0.9

# %%
momentum, three = retold["momentum"], retold["all three"]
experiments = {
    "as trained": {},
    "η = 1 while it is told": {"in_told": {"eta": 1.0}},
    "S erased after the last pair": {"erased": True},
    "η = 0 in the noise": {"in_noise": {"eta": 0.0}},
    "θ = 0 in the noise": {"in_noise": {"theta": 0.0}},
}
by_momentum = {
    n: trials.newest_and_old(momentum, **e) for n, e in experiments.items()
}
for name, (newest, old) in by_momentum.items():
    print(f"{name:28}: newest {newest:.0%}, old value {old:.0%}")
assert max(by_momentum[name][0] for name in list(by_momentum)[1:4]) < 0.35
assert by_momentum["θ = 0 in the noise"][0] > 0.9

# %% [markdown] lang="en"
# So momentum can overwrite: not by taking the old value out, but by drowning it. And *all three*, when it may choose?
# Switch off one at a time, after training.

# %% [markdown] lang="ja" en="7657390e"
# モーメンタムでも、上書きはできます。古い値を取り除くのではなく、新しい値で圧倒するのです。
# では、3つとも使えるモデルは、どれを選ぶのでしょうか。訓練の後で、1つずつ止めてみます。
# 上から順に、訓練したまま、修正なし（1つのチャンク）、雑音の間だけモーメンタムなし、忘却なしです。

# %%
none = {"alpha": 0.0}
switched_off = {
    "as trained": {},
    "no correction (one chunk)": {"chunk_size": 256},
    "no momentum in the noise": {"in_noise": {"eta": 0.0}},
    "no forgetting": {"in_told": none, "in_noise": none},
}
by_three = {
    n: trials.newest_and_old(three, **e) for n, e in switched_off.items()
}
for name, (newest, old) in by_three.items():
    print(f"{name:26}: newest {newest:.0%}, old value {old:.0%}")
assert by_three["no correction (one chunk)"][0] > 0.85
assert by_three["no momentum in the noise"][0] < 0.75

# %%
for seed, right in trials.switched_off().items():
    print(f"seed {seed}:", "".join(f"{x:6.0%}" for x in right.values()))

# %% [markdown] lang="en"
# Seed 0 leans on momentum: without the correction it loses little, without momentum in the noise much, and without
# forgetting nothing. The last three lines are what `runs` found for all seeds, in the same order: seed 1 leans on
# momentum too, and seed 2 on the correction; none needs its forgetting. At the lengths of training both ways are
# right, and the loss cannot tell them apart. At 200 tokens it is seed 2 that is still perfect. ([Lesson
# 00](00_start_here.ipynb), section 6, meets overwriting in a model that was never trained for it.)
#
# ## 9. What training has not seen
#
# The model of section 4 was trained with at most 56 tokens of noise. With $\eta$ close to 1 and $\alpha$ close to 0,
# what becomes of it at 256 and 1,024?
#
# **Predict before you run.** If it fails: is it the momentum of the facts that goes too far, or what noise writes? Hold
# $\eta = 0$ in the noise, or hold $\theta = 0$.

# %% [markdown] lang="ja" en="ab18b9ec"
# シード0のモデルが頼っているのは、モーメンタムです。修正をなくしてもほとんど下がりませんが、雑音の間のモーメンタムをなくすと大きく下がり、忘却をなくしても何も変わりません。
# 最後の3行は、同じことを `runs` が3つのシードで測った結果で、上の4つと同じ順に並んでいます。シード1はやはりモーメンタムに、シード2は修正に頼っていて、
# 忘却は、どのシードにも必要ありません。
# 訓練した長さでは、どちらの方法でも正しく答えられるので、損失からは見分けられません。200トークンでも完璧なのは、シード2です。
# （[レッスン00](00_start_here.ipynb)の6節では、上書きを一度も訓練していないモデルで、上書きを試します。）
#
# ## 9. 訓練で見なかったもの
#
# 4節のモデルは、最大56トークンの雑音で訓練しました。$\eta$ がほぼ1、$\alpha$ がほぼ0のままで、256トークン、1,024トークンではどうなるでしょうか。
#
# **実行する前に予想してみましょう。**
# うまくいかないとしたら、原因は、事実のモーメンタムの行き過ぎでしょうか、それとも、雑音の書き込みでしょうか。
# 雑音の間、$\eta = 0$ に固定するか、$\theta = 0$ に固定して確かめます。出力は、左から56、256、1,024トークンでの正解率です。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
holds = {
    "as trained": {},
    "η = 0 in the noise": {"eta": 0.0},
    "θ = 0 in the noise": {"theta": 0.0},
}
lasts = {}
for name, gates in holds.items():
    lasts[name] = [
        trials.newest_and_old(trained, n, gates, task=RUN.task)[0]
        for n in (56, 256, 1024)
    ]
    print(f"{name:19}:", [f"{share:.0%}" for share in lasts[name]])

# %% [markdown] lang="en"
# It fails, and what noise writes is the cause: with $\theta = 0$ the facts' own momentum may run for 1,024 tokens and
# does no harm. Without momentum the facts are only four fifths known, at any distance. Training chose gates that are
# good up to 56 tokens, and saw no more.

# %% [markdown] lang="ja" en="bf4e17e0"
# 雑音が長いとうまくいかず、その原因は雑音の書き込みでした。$\theta = 0$ なら、事実自身のモーメンタムは、1,024トークンの間働き続けても害になりません。
# 一方、モーメンタムがなければ、どの距離でも、事実の5分の4ほどしかわかりません。
# 訓練が選んだのは、56トークンまでならうまく働くゲートで、その先は見ていませんでした。

# %%
assert lasts["as trained"][2] < 0.5
assert lasts["θ = 0 in the noise"][2] > 0.9

# %% [markdown] lang="en"
# ## Summary
#
# - The inner loop changes $M$ and $S$ at every token; the outer loop trains the projections, the convolution, the gates'
#   weights, $M_0$, persistent tokens and embeddings; sizes are changed by nobody.
# - The outer gradient leads through the inner one. Cut there, $W_K$, $W_V$ and persistent tokens get nothing.
# - Training did not make the memory less surprised. It made one key to write with and another to ask with, which meet.
# - That a part is used, and that it had to be trained, are two findings, from two experiments.
# - An old value can be corrected away, drowned by momentum, or faded by forgetting. With all three at hand, two seeds
#   chose momentum, one the correction.
# - What training saw is what it made gates for.
#
# ## References
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663), sections 3.1 and 3.2.
# - C. Finn, P. Abbeel, S. Levine: *Model-Agnostic Meta-Learning*, arXiv [1703.03400](https://arxiv.org/abs/1703.03400):
#   a gradient through a gradient, and the first-order form without it.
# - Y. Sun et al.: *Learning to (Learn at Test Time)*, arXiv [2407.04620](https://arxiv.org/abs/2407.04620).
# - D. Ha, A. Dai, Q. V. Le: *HyperNetworks*, arXiv [1609.09106](https://arxiv.org/abs/1609.09106): weights made by other
#   weights.

# %% [markdown] lang="ja" en="a35baf39"
# ## まとめ
#
# - 内側のループは、トークンごとに $M$ と $S$ を変えます。外側のループは、射影（projection）、畳み込み、ゲートの重み、$M_0$、永続トークン、埋め込みを訓練します。
#   大きさの設定は、どちらのループも変えません。
# - 外側の勾配は、内側の勾配を通ります。そこを切ると、$W_K$、$W_V$、永続トークンには何も届きません。
# - 訓練で、メモリの驚きが小さくなったわけではありません。書くためのキーと、たずねるためのクエリが、同じ方向を向くようになったのです。
# - ある部分が使われていることと、それを訓練する必要があったことは、別の実験でわかる、別の事実です。
# - 古い値は、修正で取り除くことも、モーメンタムで圧倒することも、忘却で薄れさせることもできます。3つとも使えるとき、2つのシードはモーメンタムを、1つは修正を選びました。
# - ゲートは、訓練で見たものに合わせて作られます。
#
# ## 参考文献
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663)。3.1節と3.2節。
# - C. Finn, P. Abbeel, S. Levine: *Model-Agnostic Meta-Learning*, arXiv [1703.03400](https://arxiv.org/abs/1703.03400)。
#   勾配を通る勾配と、それを省いた1階の形。
# - Y. Sun et al.: *Learning to (Learn at Test Time)*, arXiv [2407.04620](https://arxiv.org/abs/2407.04620)。
# - D. Ha, A. Dai, Q. V. Le: *HyperNetworks*, arXiv [1609.09106](https://arxiv.org/abs/1609.09106)。重みを、ほかの重みから作ります。

# %% tags=["nbval-ignore-output"]
progress()
