# %% [markdown] lang="en"
# # 06 · Persistent memory
#
# *Titans, step by step.* About 40 minutes to read, 70 with the exercises; the code runs in about 25 seconds.
# Run the cells from top to bottom.
#
# **You will learn**
#
# - why attention cannot say nothing, and what a learned token in front of the sequence changes;
# - to split one softmax into the part that goes to persistent tokens and the part that goes to the text;
# - why that first part is a feed-forward network;
# - what such tokens learn, and what they did *not* learn in a trained Titans model.
#
# **You need** attention: queries, keys, values, softmax. Section 9 mentions lesson 02 (what it means to write a memory).

# %% [markdown] lang="ja" en="477d3317"
# # 06 · 永続記憶
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン06です。読むのに約40分、演習も解くと約70分、コードの実行に約25秒かかります。
# セルは上から順に実行してください。
#
# **このレッスンで学ぶこと**
#
# - アテンション（attention）はなぜ「何も答えない」ことができないのか。また、
#   系列（sequence）の先頭に学習されたトークン（token）を置くと、何が変わるか。
# - 1つの softmax を、永続トークン（persistent token）に向かう分と、テキストに向かう分に分ける方法。
# - 前者が、順伝播型ネットワーク（feed-forward network、FFN）になっている理由。
# - 永続トークンは何を学ぶか。そして、訓練（training）した Titans のモデルでは何を**学ばなかった**か。
#
# **必要な知識**：アテンションのクエリ（query）、キー（key）、値（value）、softmax。
# 9節では、レッスン02で扱うメモリ（memory）への書き込みに少し触れます。

# %%
import copy

import torch
from torch import nn

from titans import TitansConfig, TitansLM
from titans.attention import attend, causal_mask, rotate
from titans.checkpoints import load_checkpoint
from titans.lesson import predict, progress, start
from titans.lesson.kit import cards
from titans.lesson.kit.interventions import without_attention
from titans.lesson.kit.watching import without_h
from titans.lesson.lesson_06 import exercises, pictures, trials
from titans.lesson.lesson_06.lab import persistent_lab
from titans.tasks import Recall
from titans.training import share_right

start()

# %% [markdown] lang="en"
# If the import fails, this course's package is not installed: run `pip install -e .` in the folder that you cloned
# (in Colab: clone the repository, go into its folder with `%cd`, install it there in the same way, then run the cell
# above). The package that PyPI calls `titans` is another one.
#
# ## 1. Attention spends everything
#
# A Titans model has three places to keep things. Attention keeps the tokens of its segment or window. The memory keeps
# what it wrote about this sequence. Both begin anew with every sequence. Where does the model keep what is true of
# *all* sequences, say how the task is done? That is the third place. It works through softmax, so first a look at
# softmax.
#
# Three tokens have the values 6, 2 and 4. A query's scores are the logarithms of 1, 1 and 2, so that softmax is easy by
# hand: the shares are $\tfrac14, \tfrac14, \tfrac12$. Work out the answer before you run.

# %% [markdown] lang="ja" en="87e2e48f"
# import に失敗するときは、この教材のパッケージがまだインストールされていないので、
# クローンしたフォルダーで `pip install -e .` を実行してください。
# Colab では、リポジトリをクローンし、`%cd` でそのフォルダーに入り、同じようにインストールしてから、
# 上のセルを実行します。
# なお、PyPI で `titans` という名前のパッケージは別物です。
#
# ## 1. アテンションは全部を使い切る
#
# Titans のモデルには、ものを覚えておく場所が3つあります。
# アテンションはセグメント（segment）やウィンドウの中のトークンを保持し、
# メモリはこの系列について書き込んだことを保持しますが、どちらも、系列が変わるたびに最初からやり直しです。
# では、**すべての**系列に当てはまること、たとえば課題の解き方は、どこに置けばよいのでしょうか。
# そのためにあるのが3つ目の場所で、softmax を通して働くので、まず softmax を見ておきましょう。
# なお、この教材では memory を2通りに訳し分けます。系列ごとに書き込まれるものが「メモリ」で、
# 訓練で決まり、その後は変わらないものが「永続記憶」（persistent memory）です。
#
# 3つのトークンの値が6、2、4で、あるクエリのスコアが1、1、2の対数だとします。
# こうすると softmax を手で計算できて、割合は $\tfrac14, \tfrac14, \tfrac12$ になります。
# 実行する前に、アテンションの答え、つまりこの割合で重みづけした値の平均を計算してみてください。


# %%
def look_up(scores, values):
    shares = scores.softmax(0)
    return shares, round((shares @ values).item(), 4)


values = torch.tensor([6.0, 2.0, 4.0])
print(look_up(torch.tensor([1.0, 1.0, 2.0]).log(), values))

# %% [markdown] lang="en"
# **Predict before you run.** Another query matches nothing: its scores are all 0. What does attention answer?

# %% [markdown] lang="ja" en="68c2b6f2"
# **実行する前に予想してみましょう。**
# 別のクエリは、どのキーにも合わず、スコアがすべて0です。アテンションは何と答えるでしょうか。

# %%
predict("...")

# %%
print(look_up(torch.tensor([0.0, 0.0, 0.0]), values))

# %% [markdown] lang="en"
# The same 4. Shares add up to 1, whatever the scores, so a query that finds nothing gets the average of everything.
# From the answer nobody can tell the two queries apart.
#
# Now put one more token in front. Its value is 0, and this query's score for it is $\ln 9$. By hand: $9 + 1 + 1 + 1 =
# 12$, so the new token takes $\tfrac{9}{12}$, and the answer shrinks to a quarter.

# %% [markdown] lang="ja" en="b6fad44c"
# 答えは、同じ4です。スコアがどうであっても割合の合計は1なので、
# 何も見つけられなかったクエリは、すべての値の平均を受け取ります。
# そのため、答えだけを見ても、2つのクエリを区別できません。
#
# ここで、値が0で、このクエリに対するスコアが $\ln 9$ のトークンを、先頭に1つ置きます。
# 手で計算すると $9 + 1 + 1 + 1 = 12$ なので、新しいトークンが $\tfrac{9}{12}$ を受け取り、答えは4分の1に縮みます。

# %%
p_score, p_value = torch.tensor([9.0]).log(), torch.tensor([0.0])
print(
    look_up(torch.cat((p_score, torch.zeros(3))), torch.cat((p_value, values)))
)

# %% [markdown] lang="en"
# The token in front is a place to put attention that nothing deserves. Equation 19 of the paper puts $N_p$ of them
# before every sequence:
#
# $$x_{\mathrm{new}} = [\, p_1 \; p_2 \; \dots \; p_{N_p} \,] \,\Vert\, x$$
#
# The $p_n$ are parameters: trained with the model, then the same for every sequence, whatever it says. The paper calls
# them *persistent memory*, and data-independent. Like any token they become keys and values,
# $p_n W_K$ and $p_n W_V$.
#
# ## 2. One softmax, two parts
#
# Write $Z_P = \sum_n e^{q \cdot k_n / \sqrt d}$ over the persistent keys, and $Z_x$ for the same sum over the tokens'
# keys. All shares have the denominator $Z_P + Z_x$. So the answer splits into two attentions that know nothing of each
# other, mixed by a gate $g$:
#
# $$y = g \, \mathrm{Attn}(q; P) + (1 - g) \, \mathrm{Attn}(q; x), \qquad g = \frac{Z_P}{Z_P + Z_x}$$
#
# ### Exercise 1: the share of the persistent tokens
#
# `q` is a vector of $d$ numbers, `persistent_keys` and `keys` have a key in each row. Return $g$.

# %% [markdown] lang="ja" en="228750aa"
# 先頭に置いたトークンは、行き場のないアテンションの受け皿になりました。
# 論文の式(19)では、このようなトークンを $N_p$ 個、どの系列の先頭にも置きます。
#
# $$x_{\mathrm{new}} = [\, p_1 \; p_2 \; \dots \; p_{N_p} \,] \,\Vert\, x$$
#
# $p_n$ はパラメータで、モデルと一緒に訓練され、その後は、系列の内容にかかわらず同じです。
# 論文では、これを**永続記憶**（persistent memory）と呼び、データに依存しない（data-independent）としています。
# 永続トークンも、ほかのトークンと同じように、キー $p_n W_K$ と値 $p_n W_V$ になります。
#
# ## 2. 1つの softmax、2つの部分
#
# 永続トークンのキーについての和を $Z_P = \sum_n e^{q \cdot k_n / \sqrt d}$ とし、
# 系列のトークンのキーについての同じ和を $Z_x$ とします。
# 割合の分母はどれも $Z_P + Z_x$ なので、答えは、互いに影響しない2つのアテンションを、
# ゲート（gate）$g$ で混ぜたものに分解できます。
#
# $$y = g \, \mathrm{Attn}(q; P) + (1 - g) \, \mathrm{Attn}(q; x), \qquad g = \frac{Z_P}{Z_P + Z_x}$$
#
# ### 演習1：永続トークンの割合
#
# `q` は $d$ 個の数からなるベクトルで、`persistent_keys` と `keys` は、各行が1つのキーです。$g$ を返してください。


# %%
def persistent_share(q, persistent_keys, keys):
    return ...  # g, a number between 0 and 1


exercises.SHARE.check(persistent_share)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# `(keys @ q / len(q) ** 0.5).exp().sum()` is `Z_x`. Do the same for the other keys.
#
# </details>

# %% [markdown] lang="ja" en="ec182bde"
# <details><summary>ヒント</summary>
#
# `(keys @ q / len(q) ** 0.5).exp().sum()` が `Z_x` です。もう一方のキーでも、同じように計算します。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def persistent_share(q, persistent_keys, keys):
#     Z_P = (persistent_keys @ q / len(q) ** 0.5).exp().sum()
#     Z_x = (keys @ q / len(q) ** 0.5).exp().sum()
#     return Z_P / (Z_P + Z_x)
# ```
#
# </details>

# %% [markdown] lang="en"
# Your gate against the library. `attend` computes one softmax over a prefix and a sequence; the two halves mixed by $g$
# must be the same. (If you have not solved the exercise yet, the lesson's own function stands in for yours. The cell says
# which of the two ran.)

# %% [markdown] lang="ja" en="bac2dd72"
# あなたのゲートを、ライブラリと比べてみましょう。
# `attend` は、先頭に置くプレフィックス（prefix）と系列にわたる1つの softmax を計算します。
# 2つの部分を $g$ で混ぜたものが、これと一致するはずです。
# 演習をまだ解いていない場合は、レッスンに用意してある関数が代わりに使われます。
# どちらを使ったかは、出力の「gate」に示されます（yours はあなたの関数、the lesson's own は用意してある関数です）。
# 「equal to ten digits」は、10桁まで一致したかどうかです。

# %%
solved = exercises.SHARE.check(persistent_share).outcome == "passed"
share = persistent_share if solved else trials.persistent_share
q, K, V = (torch.randn(n, 8, dtype=torch.float64) for n in (1, 5, 5))
P_K, P_V = (torch.randn(3, 8, dtype=torch.float64) for _ in range(2))

of_prefix = (q @ P_K.T / 8**0.5).softmax(1) @ P_V
of_tokens = (q @ K.T / 8**0.5).softmax(1) @ V
g = share(q[0], P_K, K)
by_parts = g * of_prefix + (1 - g) * of_tokens

# %%
as_heads = [part[None, None] for part in (q, q, K, V, P_K, P_V)]
q4, turned, K4, V4, P_K4, P_V4 = as_heads  # [batch, heads, tokens, dim]
mask = torch.ones(1, 5, dtype=torch.bool)  # the last token sees all five
by_library = attend(q4, turned, K4, V4, (P_K4, P_V4), mask)[0, 0]
difference = (by_parts - by_library).abs().max().item()
print("gate:", "yours" if solved else "the lesson's own")
print("equal to ten digits:", difference < 1e-10)
assert difference < 1e-10

# %% [markdown] lang="en"
# ## 3. The part in front is a feed-forward network
#
# Look at $\mathrm{Attn}(q; P)$ alone. Its keys and values do not depend on the sequence: they are two fixed matrices.
# That is equation 20, a feed-forward network whose activation function is softmax:
#
# $$\mathrm{FFN}(x) = W_V \, \mathrm{Softmax}(W_K\, x)$$
#
# Row $n$ of $W_K$ is a key: a pattern that hidden unit $n$ looks for. Column $n$ of $W_V$ is its value: what the unit
# says when it finds the pattern. By hand, with two units: keys $(\ln 3, 0)$ and $(0, \ln 3)$, values $(8, 0)$ and
# $(0, 4)$. The token $(1, 0)$ has the exponentials 3 and 1, so the shares are $\tfrac34$ and $\tfrac14$, and the answer
# is $(6, 1)$.
#
# ### Exercise 2: write it
#
# `x` has a token in each row, `keys` and `values` have a unit in each row. There is no $\sqrt d$ in equation 20.

# %% [markdown] lang="ja" en="a121aa80"
# ## 3. 先頭の部分は順伝播型ネットワークである
#
# $\mathrm{Attn}(q; P)$ だけを見てみます。キーも値も系列に依存せず、2つの決まった行列になっています。
# これが式(20)で、softmax を活性化関数とする順伝播型ネットワークです。
#
# $$\mathrm{FFN}(x) = W_V \, \mathrm{Softmax}(W_K\, x)$$
#
# $W_K$ の第 $n$ 行はキーで、隠れユニット（hidden unit）$n$ が探すパターンを表し、
# $W_V$ の第 $n$ 列は値で、パターンを見つけたときにそのユニットが出す答えを表します。
# ユニットが2つの場合を手で計算してみましょう。キーは $(\ln 3, 0)$ と $(0, \ln 3)$、値は $(8, 0)$ と $(0, 4)$ です。
# トークン $(1, 0)$ では、指数関数の値が3と1なので、割合は $\tfrac34$ と $\tfrac14$、答えは $(6, 1)$ です。
#
# ### 演習2：式を書く
#
# `x` は各行が1つのトークン、`keys` と `values` は各行が1つのユニットにあたります。式(20)に $\sqrt d$ はありません。


# %%
def feed_forward(x, keys, values):
    return ...  # [tokens, dim], from x, keys and values


exercises.FEED_FORWARD.check(feed_forward)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# `x @ keys.T` has a row for each token and a column for each unit. Along which of the two must the shares add up to 1?
#
# </details>

# %% [markdown] lang="ja" en="1f94b229"
# <details><summary>ヒント</summary>
#
# `x @ keys.T` では、各行がトークン、各列がユニットに対応します。割合の和が1になるべきなのは、どちらの方向に足したときでしょうか。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def feed_forward(x, keys, values):
#     return (x @ keys.T).softmax(1) @ values
# ```
#
# </details>

# %% [markdown] lang="en"
# Now give the library a sequence of *no* tokens behind the prefix. What is left of attention is the network. Attention
# divides its scores by $\sqrt d$, so the keys are multiplied by it.

# %% [markdown] lang="ja" en="f963b1a6"
# 今度は、プレフィックスの後ろにトークンが**1つもない**系列を、ライブラリに渡します。
# すると、アテンションのうち残るのは、このネットワークだけです。
# アテンションはスコアを $\sqrt d$ で割るので、キーに同じ数を掛けておきます。

# %%
W_K = torch.tensor([[3.0, 1.0], [1.0, 3.0]]).log()  # a key in each row
W_V = torch.tensor([[8.0, 0.0], [0.0, 4.0]])  # a value in each column
x = torch.tensor([[1.0, 0.0], [-0.5, 2.0]])
network = torch.stack([W_V @ (W_K @ token).softmax(0) for token in x])

x4, none = x[None, None], torch.zeros(1, 1, 0, 2)
prefix = (2**0.5 * W_K[None, None], W_V.T[None, None])
see_nothing = torch.zeros(2, 0, dtype=torch.bool)
attention = attend(x4, x4, none, none, prefix, see_nothing)[0, 0]
print(network)
assert torch.allclose(network, attention)

# %% [markdown] lang="en"
# So with persistent tokens every attention layer is three things in one: a feed-forward network, attention over the
# text, and a gate $g$ between them that depends on how well the query matches either.
#
# Two remarks. A usual feed-forward network uses ReLU, GELU or SwiGLU, where any number of units may be loud at
# once; with softmax they share out a single 1. And this network is small: $N_p$ units, where a usual one has thousands.
# The blocks of this library have persistent tokens *and* a SwiGLU network after each mixer.
#
# ## 4. Who sees them
#
# Figure 3 of the paper: persistent tokens come first and *everyone* sees them, however late in the sequence. With a
# sliding window of 2, two persistent tokens and four tokens:
#
# ```
#         p1 p2 | x0 x1 x2 x3
#   x0     1  1 |  1  0  0  0
#   x1     1  1 |  1  1  0  0
#   x2     1  1 |  0  1  1  0
#   x3     1  1 |  0  0  1  1
# ```
#
# A window of $w$ is the token itself and the $w - 1$ before it. But those have seen others in the layer before, and so a
# token far back may have a say too, through several layers.
#
# ### Exercise 3: how far back
#
# There are `layers` layers, each with a window of `window` and `persistent` tokens in front. Return how many tokens back
# the farthest one stands that still has a say in what the last layer answers. Persistent tokens are keys and values: they
# see nobody.

# %% [markdown] lang="ja" en="8197d517"
# つまり、永続トークンのあるアテンション層（layer）は、1つで3つの役割を果たします。
# 順伝播型ネットワークと、テキストへのアテンションと、
# クエリがそれぞれにどれだけ合うかに応じてその2つを混ぜる、ゲート $g$ です。
#
# ここで、2点だけ断っておきます。
#
# まず、ReLU、GELU、SwiGLU などを使う普通の順伝播型ネットワークでは、いくつのユニットでも同時に大きな値を出せますが、
# softmax では、1つしかない「1」を全部のユニットで分け合います。
#
# また、このネットワークは小さく、普通なら数千個あるユニットが $N_p$ 個しかありません。
# このライブラリのブロックは、永続トークンに**加えて**、各ミキサー（mixer）の後ろに SwiGLU のネットワークを持っています。
#
# ## 4. どこから見えるか
#
# 論文の図3では、永続トークンが先頭にあり、系列のどんなに後ろのトークンも含めて、**すべての**トークンから見えます。
# 大きさ2のスライディングウィンドウ（sliding window）、永続トークン2個、トークン4個なら、次のようになります。
#
# ```
#         p1 p2 | x0 x1 x2 x3
#   x0     1  1 |  1  0  0  0
#   x1     1  1 |  1  1  0  0
#   x2     1  1 |  0  1  1  0
#   x3     1  1 |  0  0  1  1
# ```
#
# 大きさ $w$ のウィンドウに入るのは、そのトークン自身と、その前の $w - 1$ 個です。
# ただし、そのトークンも前の層でさらに前を見ているので、層を重ねると、もっと遠くのトークンの影響も届きます。
#
# ### 演習3：どれだけ前まで届くか
#
# 層が `layers` 個あり、どの層にも、大きさ `window` のウィンドウと、先頭の `persistent` 個の永続トークンがあります。
# 最後の層の答えに影響しうるトークンのうち、いちばん遠いものは何個前にあるかを返してください。
# 永続トークンはキーと値になるだけで、何も見ません。


# %%
def reach(layers, persistent, window):
    return ...  # a number of tokens


exercises.REACH.check(reach)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# How far back does one layer go? The farthest token that it sees goes as far back again in the layer before. Could a
# persistent token be a shortcut?
#
# </details>

# %% [markdown] lang="ja" en="1beda812"
# <details><summary>ヒント</summary>
#
# 1層では、どこまでさかのぼれるでしょうか。そこで見えるいちばん遠いトークンは、前の層で、同じだけ前を見ています。
# 永続トークンは近道になるでしょうか。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def reach(layers, persistent, window):
#     return layers * (window - 1)
# ```
#
# </details>

# %% [markdown] lang="en"
# Now the experiment: three layers with random weights, a window of 4, and a change to one token. How many tokens further
# on does what comes out still change? We try it with nothing in front, with four persistent tokens, and with four tokens
# that read the text in every layer, which persistent tokens do not.
#
# **Predict before you run.** Three numbers. There are 29 tokens behind the one that we change.

# %% [markdown] lang="ja" en="e097aa38"
# 今度は実験です。重みが乱数の3つの層と、大きさ4のウィンドウを使い、トークンを1つだけ変えます。
# 最後の層の出力は、何個先のトークンまで変わるでしょうか。
# 先頭に何も置かない場合（nothing in front）、永続トークンを4個置いた場合（four persistent tokens）、
# そして、永続トークンとは違って、どの層でもテキストを読むトークンを4個置いた場合（four that read the text）を比べます。
#
# **実行する前に予想してみましょう。** 数は3つです。なお、変えるトークンの後ろには、トークンが29個あります。

# %%
predict("...")

# %%
gets = {
    "nothing in front": trials.how_far_it_gets(0, window=4, layers=3),
    "four persistent tokens": trials.how_far_it_gets(4, window=4, layers=3),
    "four that read the text": trials.how_far_it_gets(4, 4, 3, P_reads=True),
}
for name, far in gets.items():
    print(f"{name:23}: {far} tokens")

assert list(gets.values()) == [9, 9, 29]

# %% [markdown] lang="en"
# Everyone sees the persistent tokens, and yet they relay nothing, because they read nobody. What one token tells another
# goes through the windows, or through the memory.

# %% [markdown] lang="ja" en="cb472372"
# 永続トークンはすべてのトークンから見えますが、自分では何も読まないので、何も伝えません。
# トークンからトークンへの情報は、ウィンドウかメモリを通って伝わります。

# %% [markdown] lang="en"
# ## 5. First tokens are special, before anything is learned
#
# Causal attention is not fair. Take four tokens, no persistent ones, and scores that are all equal.
#
# **Predict before you run.** Averaged over the four queries, which share does the first token receive? One quarter?

# %% [markdown] lang="ja" en="a5b8eea3"
# ## 5. 最初のトークンは、学習する前から特別である
#
# 因果的（causal）なアテンションは公平ではありません。永続トークンはなく、トークンが4個で、スコアはすべて等しいとします。
#
# **実行する前に予想してみましょう。**
# 4つのクエリで平均すると、最初のトークンが受け取る割合はどれだけでしょうか。4分の1でしょうか。
# （出力の received, on average が、その平均です。）

# %%
predict("...")

# %%
seen = causal_mask(4, 0, torch.device("cpu")).float()
shares = seen / seen.sum(1, keepdim=True)
print(shares)
print("received, on average:", shares.mean(0))

# %% [markdown] lang="en"
# More than half: $\tfrac14 (1 + \tfrac12 + \tfrac13 + \tfrac14) = 0.52$. The first query has nowhere else to look, and
# every later one sees the first token too. It is the one token that all queries share, so it is where a model *can* put
# attention that nothing else deserves. Large language models do: Xiao et al. found that they put much of their attention
# on the first tokens, whatever those say (an *attention sink*), and break when a sliding window drops them.
#
# Persistent tokens stand in that place before the text begins. Below, 32 tokens with equal scores, and the mean of 500
# random draws.

# %% [markdown] lang="ja" en="283680fe"
# $\tfrac14 (1 + \tfrac12 + \tfrac13 + \tfrac14) = 0.52$ で、半分を超えます。
# 最初のクエリにはほかに見るところがなく、後のどのクエリからも、最初のトークンが見えるからです。
# すべてのクエリから見えるトークンはこれだけなので、
# モデルは、ほかに行き場のないアテンションをここに**置くことができます**。
# Xiao らの報告によれば、大規模言語モデルは実際にそうしています。
# 最初の数個のトークンに、その内容にかかわらず多くのアテンションを向けていて（アテンションシンク、attention sink）、
# これらのトークンがスライディングウィンドウの外に出て見えなくなると、うまく働かなくなります。
#
# 永続トークンは、テキストが始まる前からこの場所を占めています。
# 次の図は、トークンが32個の場合です。
# 棒はスコアがすべて等しいとき、丸印はランダムなとき（500回の平均）で、
# 斜線の入った棒が永続トークンです。

# %%
pictures.sinks()

# %% [markdown] lang="en"
# On the left, the first token receives 13 percent and the last 0.1, with nothing learned at all. On the right, the four
# persistent tokens receive 6 to 7 percent each, and the first token, with as much as each of them, falls to about half
# of what it had. This is counting alone: any four columns that all queries see would receive as much.
#
# ## 6. The persistent lab
#
# One head over a sequence of 24 tokens. All queries have a direction in common (in the trained model of section 8 it
# makes up about a fifth of their squared length, here more), and the persistent keys lie near it. `key scale` makes
# these keys longer or shorter, `window` is the sliding window, `query` the row that is framed. (Where no kernel runs,
# you see two settings below one another.) Find out:
#
# 1. No persistent tokens: where does query 0 look?
# 2. Eight persistent tokens with a key scale of 0: what do early and late queries give to them? And with a window of 6?
# 3. What does a *negative* key scale do?

# %% [markdown] lang="ja" en="b3591bf4"
# 左の図では、何も学習していないのに、最初のトークンは13%、最後のトークンは0.1%を受け取っています。
# 右の図では、4個の永続トークンがそれぞれ6〜7%を受け取り、最初のトークンの分は、それと同じくらい、つまり左の図の半分ほどに減っています。
# これは列を数えただけの結果なので、すべてのクエリから見える列が4つあれば、どんな列でも同じだけ受け取ります。
#
# ## 6. 永続トークン実験室
#
# 実験室で動かすのは、24トークンの系列を見る1つのヘッド（head）です。
# すべてのクエリが共通の向きの成分を持ち、永続トークンのキーもその向きの近くにあります
# （8節の学習済みのモデルでは、この成分がクエリの長さの2乗の5分の1ほどを占めますが、ここでは多めにしてあります）。
#
# 「永続トークン」はその個数、「キーの倍率」はそのキーの長さの倍率、
# 「ウィンドウ」はスライディングウィンドウの大きさ、「クエリ」は枠で囲まれる行です。
# 左はアテンション行列、右上は枠で囲まれた行の割合、右下は永続トークンに向かう割合をクエリごとに示したものです
# （カーネルが動いていないときは、2通りの設定が上から順に並びます）。次のことを調べてみましょう。
#
# 1. 永続トークンがないとき、クエリ0はどこを見ますか。
# 2. 永続トークンが8個でキーの倍率が0のとき、前のほうのクエリと後のほうのクエリは、どれだけを永続トークンに向けますか。
#    ウィンドウを6にするとどうなりますか。
# 3. キーの倍率を**負**にすると、どうなりますか。

# %%
lab = persistent_lab()
lab

# %% [markdown] lang="en"
# <details><summary>Answers</summary>
#
# 1. At itself, with all of its attention. It has no choice.
# 2. With keys of zero nothing is recognised, and the orange curve runs along the dotted one: a persistent token is just
#    one of many. Early queries give most of their attention to `P`, the last one about a sixth. A window of 6 keeps the
#    competition small: there the last query still gives about half.
# 3. The persistent tokens fade from view: with two of them and a scale of −1 the last query gives them 2 percent. A
#    model that does not need them can learn to ignore them.
#
# </details>
#
# ## 7. What can they learn?
#
# A task in which they have something to say. Each sequence tells eight pairs of a key and a value and asks one question,
# of one of three kinds:
#
# - **told**: the key of one of the eight pairs; the answer is its value;
# - **always true**: one of four keys A to D, whose values are the same in *every* sequence and are never told;
# - **unknown**: a key that occurs nowhere; the right answer is nothing, the zero vector.
#
# The model is one look-up, section 2's $y$ with learned $W_Q$ and $W_K$. To see clearly, the persistent keys and values
# are parameters themselves, instead of $p_n W_K$ and $p_n W_V$.

# %% [markdown] lang="ja" en="6817ba28"
# <details><summary>答え</summary>
#
# 1. ほかに選びようがないので、すべてのアテンションを自分自身に向けます。
# 2. キーがゼロだと何も見分けられないので、永続トークンは多くのトークンの中の1つにすぎなくなり、橙色の曲線はおよそ点線に沿います。
#    前のほうのクエリはアテンションのほとんどを `P` に向け、最後のクエリは6分の1ほどです。
#    ウィンドウが6なら競争相手が増えないので、最後のクエリも半分ほどを向けます。
# 3. 永続トークンはほとんど見られなくなり、2個で倍率が−1のとき、最後のクエリが向けるのは2%です。
#    永続トークンが要らないモデルは、無視することを学習できます。
#
# </details>
#
# ## 7. 永続トークンは何を学べるか
#
# 永続トークンが役立ちうる課題で試してみましょう。
# どの系列でも、キーと値のペアを8つ伝え、その後で、次の3種類のどれかの質問を1つします。
#
# - **伝えたもの**（told）：8つのペアのうちの1つのキーで、答えはその値です。
# - **いつも正しいもの**（always true）：4つのキーAからDのどれかで、その値は**どの系列でも**同じですが、伝えられることはありません。
# - **知らないもの**（unknown）：どこにも出てこないキーで、正しい答えは「何もない」、つまりゼロベクトルです。
#
# モデルが行うのは1回の検索（look-up）だけで、2節の $y$ に、学習する $W_Q$ と $W_K$ を加えたものです。
# 見通しをよくするために、永続トークンのキーと値は、$p_n W_K$ と $p_n W_V$ ではなく、それ自体をパラメータにします。


# %%
class LookUp(nn.Module):
    def __init__(self, dim, persistent):
        super().__init__()
        self.W_Q, self.W_K = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.P_K = nn.Parameter(torch.randn(persistent, dim) / 2)
        self.P_V = nn.Parameter(torch.randn(persistent, dim) / 2)

    def forward(self, q, keys, values):
        q, keys = self.W_Q(q), self.W_K(keys)
        to_x = (keys @ q[:, :, None])[:, :, 0]
        scores = torch.cat((q @ self.P_K.T, to_x), 1)
        shares = (scores / q.shape[1] ** 0.5).softmax(1)
        n = len(self.P_K)
        from_x = (shares[:, None, n:] @ values)[:, 0]
        return shares[:, :n] @ self.P_V + from_x, shares


# %%
def train_look_up(persistent, seed, kind=LookUp, steps=400):
    torch.manual_seed(seed)
    model = kind(trials.DIM, persistent)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    random = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = trials.questions(96, random)
        y, _ = model(batch.q, batch.keys, batch.values)
        loss = (y - batch.wanted).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


# %% [markdown] lang="en"
# **Predict before you run.** Three seeds each with 0, 1 and 6 persistent tokens. Which of the three kinds of question
# suffers without any? Is one token enough?

# %% [markdown] lang="ja" en="74ac9ca6"
# **実行する前に予想してみましょう。**
# 永続トークンを0個、1個、6個として、それぞれ3つの乱数シードで訓練します。
# 1個もないと、3種類の質問のうち、どれにうまく答えられなくなるでしょうか。また、1個あれば足りるでしょうか。

# %%
predict("...")

# %%
fresh = trials.questions(3000, torch.Generator().manual_seed(99))


@torch.no_grad()
def errors_of(model):
    y, _ = model(fresh.q, fresh.keys, fresh.values)
    error = (y - fresh.wanted).square().sum(1)
    return torch.stack([error[fresh.kind == kind].mean() for kind in range(3)])


models, errors = {}, {}
for persistent in (0, 1):
    models[persistent] = [train_look_up(persistent, seed) for seed in range(3)]

# %%
models[6] = [train_look_up(6, seed) for seed in range(3)]
for persistent, trained in models.items():
    errors[persistent] = torch.stack([errors_of(model) for model in trained])

pictures.three_kinds(errors)

# %% [markdown] lang="en"
# Told keys are found with any number. Without persistent tokens the other two kinds are out of reach. The facts cannot
# be known: an answer of zero would have the error 1, and attention cannot even say zero. And silence is impossible: with
# equal shares an average of eight random unit values has a mean squared length of $\tfrac18 = 0.125$, and no other fixed
# shares bring it lower. One token is not enough for four facts and silence. Six are.
#
# **Predict before you run.** How have the six tokens divided the work?

# %% [markdown] lang="ja" en="fd910d7e"
# 伝えたキーは、永続トークンが何個でも見つけられますが、残りの2種類には、永続トークンがないと正しく答えられません。
#
# まず、いつも正しい事実は、知りようがありません。ゼロと答えれば誤差は1で済みますが、アテンションはゼロと答えることさえできません。
# 次に、「何もない」と答えて黙っていることもできません。割合をすべて等しくして、ランダムな長さ1の値を8つ平均すると、
# 長さの2乗は平均で $\tfrac18 = 0.125$ になり、等しくない割合に固定しても、これより小さくはなりません。
# 4つの事実と沈黙には、トークン1個では足りませんが、6個あれば足ります。
#
# **実行する前に予想してみましょう。**
# 6個のトークンは、4つの事実と沈黙をどう分担したでしょうか。

# %%
predict("...")

# %%
with torch.no_grad():
    _, by_row = models[6][0](fresh.q, fresh.keys, fresh.values)
lengths = models[6][0].P_V.detach().norm(dim=1)
pictures.who_is_asked(by_row, fresh)

# %% [markdown] lang="en"
# Rows are questions, columns the persistent tokens $p_1$ to $p_6$ and the eight told pairs together. One token takes the
# unknown keys, and its value has almost no length: it looks like silence, learned. Each of the four facts has a token of
# its own, a key and a value, as equation 20 says. The silent token takes a share of these questions too, and the facts'
# values are longer than 1, as if to make up for it. And the told keys go past all of them.
#
# Is that how it works? Then taking one of them out should hurt its own question and no other; and without the silent one
# nothing could keep silent, while the facts' answers should come out too *long*. (We look at the first seed. With the
# second, two tokens share the silence: their values point in opposite directions and cancel.)

# %% [markdown] lang="ja" en="30c581b6"
# 行は質問の種類、列は永続トークン $p_1$ 〜 $p_6$ と、伝えた8つのペアの合計です。
# 知らないキーについての質問は1個のトークンが引き受けていて、その値の長さはほとんどゼロなので、学習された「沈黙」のように見えます。
# 4つの事実には、式(20)のとおり、それぞれキーと値を持つ専用のトークンがあります。
# 事実についての質問でも「沈黙」のトークンが一部を受け取りますが、事実の値は、それを補うかのように1より長くなっています。
# そして、伝えたキーについての質問は、どの永続トークンにも向かいません。
#
# 本当にそういう仕組みなのでしょうか。
# もしそうなら、事実のトークンをどれか1つ取り除くと、そのトークンが担当する質問だけが悪くなるはずです。
# また、「沈黙」のトークンがないと、黙っていることができなくなり、事実への答えは**長すぎる**ものになるはずです
# （ここで見るのは最初のシードです。2番目のシードでは、2個のトークンが沈黙を分担し、
# 互いに逆を向いた値が打ち消し合います）。
#
# 出力は、永続トークンを6個とも残した場合（all six）と、1個ずつ取り除いた場合（without）の、
# 事実AからD、伝えたキー（told）、知らないキー（unknown）の誤差と、
# 事実への答えの長さ（facts' answers）です。


# %%
def without_token(model, n):
    less = copy.deepcopy(model)
    others = [other for other in range(len(model.P_K)) if other != n]
    less.P_K = nn.Parameter(model.P_K[others].detach())
    less.P_V = nn.Parameter(model.P_V[others].detach())
    return less


@torch.no_grad()
def errors_and_length(model):
    y, _ = model(fresh.q, fresh.keys, fresh.values)
    error = (y - fresh.wanted).square().sum(1)
    facts = [error[(fresh.kind == 1) & (fresh.fact == n)] for n in range(4)]
    groups = [*facts, error[fresh.kind == 0], error[fresh.kind == 2]]
    length = y[fresh.kind == 1].norm(dim=1).mean()
    return [group.mean().item() for group in groups], length.item()


# %%
knocked, answer_lengths = {}, {}
print("                A     B     C     D    told  unknown")
for n in (None, *range(6)):
    one = models[6][0] if n is None else without_token(models[6][0], n)
    knocked[n], answer_lengths[n] = errors_and_length(one)
    name = "all six     " if n is None else f"without p_{n + 1} "
    each = "  ".join(f"{error:4.2f}" for error in knocked[n])
    print(f"{name}: {each}   facts' answers: {answer_lengths[n]:.2f}")

# %%
by_kind = [
    torch.stack([errors[n][:, kind] for n in (0, 1, 6)]) for kind in range(3)
]
assert by_kind[0].max() < 0.1
assert min(by_kind[1][0].min() - 1, by_kind[1][1].min() - 0.5) > 0
assert by_kind[2][0].min() > 0.125
assert max(by_kind[1][2].max() - 0.05, by_kind[2][2].max() - 0.1) < 0
silent = by_row[fresh.kind == 2, :6].mean(0).argmax().item()
assert lengths.argmin() == silent
assert lengths[silent] < 0.3 < 1.2 < answer_lengths[silent]
assert knocked[silent][5] > 0.3 > 0.1 > knocked[None][5]

# %%
with torch.no_grad():
    _, second = models[6][1](fresh.q, fresh.keys, fresh.values)
pair = second[fresh.kind == 2, :6].mean(0).topk(2).indices
assert torch.cosine_similarity(*models[6][1].P_V[pair], dim=0) < -0.8

# %%
owners = {silent}
for fact in range(4):
    own = by_row[(fresh.kind == 1) & (fresh.fact == fact), :6].mean(0).argmax()
    before, after = (
        torch.tensor(knocked[None]),
        torch.tensor(knocked[own.item()]),
    )
    hurt = after - before
    assert hurt.argmax() == fact
    assert hurt[fact] > 0.5
    assert hurt.sort().values[-2] < 0.1
    owners.add(own.item())

(sixth,) = set(range(6)) - owners
assert answer_lengths[sixth] > answer_lengths[None] + 0.1

# %% [markdown] lang="en"
# So it is. Without the token of a fact, that fact is lost and nothing else. Without the silent one unknown keys get an
# answer, and the facts' answers are too long. (The sixth token has no question of its own; it shortens the answers to
# some of the facts a little.)
#
# The look-up has no other place for facts, and a model has. Let a feed-forward network of 32 units stand beside it, which
# sees the question and adds its output to the answer.
#
# **Predict before you run.** With that network and *no* persistent token: are the facts known now? Can the model keep
# silent? And what does one persistent token add?

# %% [markdown] lang="ja" en="855c3403"
# そのとおりでした。ある事実のトークンを取り除くと、その事実だけが失われます。
# 「沈黙」のトークンがないと、知らないキーにも何かを答えてしまい、事実への答えは長くなりすぎます
# （残る1個には担当する質問がなく、いくつかの事実への答えを少し短くしています）。
#
# 検索だけのモデルには、事実を置く場所がほかにありませんが、普通のモデルにはあります。
# そこで、検索と並べて32ユニットの順伝播型ネットワークを置きます。
# このネットワークは質問を受け取り、その出力が答えに足されます。
#
# **実行する前に予想してみましょう。**
# このネットワークがあり、永続トークンが**ない**場合、事実に答えられるでしょうか。黙っていることはできるでしょうか。
# 永続トークンを1個加えると、何が変わるでしょうか。
#
# 出力の各行は、永続トークンの個数（a network and … persistent）と、3つのシードで平均した
# told、always true、unknown の誤差です。


# %%
predict("...")


# %%
class LookUpAndNetwork(LookUp):
    def __init__(self, dim, persistent):
        super().__init__(dim, persistent)
        self.network = nn.Sequential(
            nn.Linear(dim, 32), nn.GELU(), nn.Linear(32, dim)
        )

    def forward(self, q, keys, values):
        y, shares = super().forward(q, keys, values)
        return y + self.network(q), shares


# %%
def errors_beside(kind, persistent):
    trained = [train_look_up(persistent, seed, kind) for seed in range(3)]
    each = torch.stack([errors_of(model) for model in trained])
    return each, "  ".join(f"{error:.2f}" for error in each.mean(0))


beside = {}
for persistent in (0, 1):
    beside[persistent], means = errors_beside(LookUpAndNetwork, persistent)
    print(f"a network and {persistent} persistent: {means}")

assert (beside[0][:, 1] - 0.15).abs().max() < 0.02
assert (beside[0][:, 2] - errors[0][:, 2]).abs().max() < 0.02
assert beside[1].max() < 0.05

# %% [markdown] lang="en"
# The network knows the facts; an error of 0.15 is left. And it cannot make the look-up silent: unknown keys are as wrong
# as without it. One persistent token mends both. So facts can be held elsewhere.
#
# Does silence need a place in the softmax, then? Another way out is a gate that multiplies what the look-up answers.
# Below there are two such gates, without persistent tokens: one is shown the question, like the network, the other the
# best score alone, that is, how well the best of the keys matches.
#
# **Predict before you run.** Which of the two can keep the model silent?

# %% [markdown] lang="ja" en="aae94928"
# ネットワークは事実を覚えましたが、0.15ほどの誤差が残りました。
# また、ネットワークがあっても検索は黙っていられず、知らないキーの誤差はネットワークがないときと変わりません。
# 永続トークンが1個あれば、どちらも解決します。つまり、事実はほかの場所にも置けます。
#
# では、黙っているためには softmax の中の場所が必要なのでしょうか。検索の答えにゲートを掛けるという方法もあります。
# 次のセルでは、永続トークンなしで、2通りのゲートを試します。
# 1つはネットワークと同じように質問を見るゲート、もう1つは最高スコア、つまり、いちばんよく合うキーがどれだけ合うかだけを見るゲートです。
#
# **実行する前に予想してみましょう。** 黙っていられるようになるのは、どちらのゲートでしょうか。
#
# 出力の各行は、ゲートが見るもの（a gate that sees …、the question は質問、the best score は最高スコア）と、
# told、always true、unknown の誤差です。


# %%
predict("...")


# %%
class Gated(LookUpAndNetwork):
    shown = "the question"

    def __init__(self, dim, persistent):
        super().__init__(dim, persistent)
        self.gate = nn.Sequential(
            nn.Linear(dim, 32), nn.GELU(), nn.Linear(32, 1)
        )

    def see(self, q, keys):
        return q

    def forward(self, q, keys, values):
        y, shares = LookUp.forward(self, q, keys, values)
        y = y * self.gate(self.see(q, keys)).sigmoid()
        return y + self.network(q), shares


# %%
class GatedByScore(Gated):
    shown = "the best score"

    def __init__(self, dim, persistent):
        super().__init__(dim, persistent)
        self.gate = nn.Linear(1, 1)

    def see(self, q, keys):
        return (self.W_K(keys) @ self.W_Q(q)[:, :, None]).amax(1)


# %%
for kind in (Gated, GatedByScore):
    beside[kind.shown], means = errors_beside(kind, 0)
    print(f"a gate that sees {kind.shown}: {means}")

assert beside["the question"][:, 1].max() < 0.02
assert beside["the question"][:, 2].min() > 0.15
assert beside["the best score"].max() < 0.05

# %% [markdown] lang="en"
# The first gate closes for the four facts, which it can learn. An unknown key it cannot tell from a told one: the
# question alone does not say what was told. The best score does, and the gate that sees it keeps silent as well as one
# persistent token. So a place in the softmax is one way to be silent, not the only one. What it takes is something that
# compares the question with the text.
#
# ## 8. What did they learn in a trained Titans?
#
# The course ships a small MAC, trained to be told six pairs in one stretch, to read noise, and to answer for each key
# (lesson 00 shows it at work). It has one layer, two heads and four persistent tokens. We read 64 such sequences and add
# up where the attention goes: to $P$, to what was retrieved from the memory ($h$, lesson 07), or to the segment's own
# tokens.

# %% [markdown] lang="ja" en="62b023e0"
# 質問だけを見るゲートは、覚えられる4つの事実については閉じますが、知らないキーと伝えたキーを区別できません。
# 何が伝えられたかは、質問だけを見てもわからないからです。
# 最高スコアを見ればそれがわかり、このゲートは、永続トークンが1個あるときと同じくらいよく黙っていられます。
# つまり、softmax の中に場所を置くのは、黙るための方法の1つであって、唯一の方法ではありません。
# 必要なのは、質問をテキストと比べるものです。
#
# ## 8. 学習済みの Titans では何を学んだか
#
# この教材には、学習済みの小さな MAC が付いています。
# 6つのペアを続けて伝えられ、雑音（noise）を読み、その後で各キーの値を答えるように訓練したモデルで
# （レッスン00でその働きを見ます）、層は1つ、ヘッドは2つ、永続トークンは4個です。
# このような系列を64本読ませて、アテンションの行き先を集計します。
# 行き先は、$P$、メモリから読み出したもの（$h$、レッスン07）、セグメント自身のトークンの3つです。
#
# 図の黒い印については、図の後で説明します。
# 図の後の出力では、told がペアを伝える間、noise が雑音の間、asked がたずねる間です。

# %%
task = Recall()
model, facts, _ = load_checkpoint("recall-live/mac")
tokens = task.sample(64, 36, torch.Generator().manual_seed(5)).tokens
told, noise, asked = slice(0, 12), slice(12, 48), slice(48, 60)
shares = trials.attention_shares(model, tokens)
place = torch.arange(60) % model.config.segment_len + 1  # tokens seen
even = 4 / (4 + 2 * place)  # P's share among P, h and x, equal scores

assert even[told].mean() + 0.05 < shares[:, told, 0].mean()
assert shares[:, noise, 0].mean() + 0.05 < even[noise].mean()
stretches = {"told": told, "noise": noise, "asked": asked}
pictures.where_it_goes(shares, even, stretches)

# %% tags=["nbval-ignore-output"]
for name, part in stretches.items():
    found, expected = shares[:, part, 0].mean(), even[part].mean()
    print(f"{name:5}: {found:.0%} on P; with equal scores {expected:.0%}")
assert min(shares[:, told, 0].mean(), shares[:, asked, 0].mean()) > 0.35

# %% [markdown] lang="en"
# Where pairs are told and asked for, the four tokens take about 40 percent of the attention. Part of that is counting:
# both stretches begin a segment, where there is little else to see. The black marks say what equal scores would give,
# here 29 percent. The rest looks like something that the tokens have learned, the more so as it is the other way round in
# the noise. That looks important.
#
# **Predict before you run.** We put other tokens in their place, without training again: zero vectors, then fresh random
# ones of the same size, three times. How much attention do these get while pairs are told? Then we take the tokens out.
# How many answers are right, after 56 and after 1,024 tokens of noise?

# %% [markdown] lang="ja" en="45297e12"
# ペアを伝える間とたずねる間は、4個の永続トークンがアテンションの約40%を受け取っています。
# どちらの区間もセグメントの初めにあって、ほかに見るものが少ないので、その一部は個数だけで説明がつきます。
# 黒い印は、スコアがすべて等しい場合の割合で、この2つの区間では29%です。
# 残りは永続トークンが学んだもののように見え、雑音の間は逆に少なくなっているので、なおさらそう思えます。
# この割合は、重要なものに見えます。
#
# **実行する前に予想してみましょう。**
# 訓練し直さずに、永続トークンを別のもので置き換えます。まずゼロベクトルで、次に、同じ大きさの新しい乱数で3回置き換えます。
# ペアを伝える間、置き換えたトークンはどれだけのアテンションを受け取るでしょうか。
# その後で、トークンを取り除きます。
# 56トークンの雑音の後と、1,024トークンの雑音の後で、正しい答えはどれだけあるでしょうか。
#
# 出力の「on P」は、ペアを伝える間に永続トークンが受け取る割合、「right」は正解率、「taken out」は取り除いた場合です。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
P = model.blocks[0].mixer.persistent.detach()
placed = {
    "as trained": model,
    "zero vectors": trials.with_persistent(model, torch.zeros_like(P)),
}
for seed in range(3):
    torch.manual_seed(seed)
    other = torch.randn_like(P) * P.std()
    placed[f"random, seed {seed}"] = trials.with_persistent(model, other)

on_prefix, right = {}, {}
for name, one in placed.items():
    on_prefix[name] = trials.attention_shares(one, tokens)[:, told, 0].mean()
    right[name] = [share_right(one, task, n, rows=64) for n in (56, 1024)]
    many = " and ".join(f"{share:.1%}" for share in right[name])
    print(f"{name:14}: {on_prefix[name]:.0%} on P, right {many}")

# %% tags=["nbval-ignore-output"]
bare = trials.without_persistent(model)
right["taken out"] = [share_right(bare, task, n, rows=64) for n in (56, 1024)]
print("taken out:", " and ".join(f"{n:.1%}" for n in right["taken out"]))

# %% [markdown] lang="en"
# Zero vectors get about 32 percent, random ones 33 in the mean of 60 draws; 29 would be counting. So most of the 40
# percent goes to whatever stands there. And the answers stay as they are, whatever stands there, or if nothing does.
#
# So is no place needed for attention that nothing deserves? Not so fast: $h$ is still there. Below, the share that goes
# to $h$ while pairs are told, before and after. Then the answers where $h$ is silent too (zero vectors, but they can
# still be looked at), and where it cannot even be looked at: with the tokens, without them, and with zero vectors in
# their place (256 sequences, after 56 tokens of noise).

# %% [markdown] lang="ja" en="6cf7a800"
# ゼロベクトルは約32%、乱数は60回の平均で33%を受け取ります。個数だけで決まるなら29%です。
# つまり、40%のうちの大部分は、そこに何があっても受け取る分です。
# そして、そこに何を置いても、何も置かなくても、答えは変わりません。
#
# それでは、行き場のないアテンションの受け皿は、要らないのでしょうか。
# まだ $h$ が残っているので、そう決めるのは早すぎます。
# 次のセルでは、まず、ペアを伝える間に $h$ に向かう割合（share of h）を、永続トークンを取り除く前と後（with P taken out）で比べます。
# その後で、$h$ もゼロベクトルにして黙らせた場合（h silent。クエリからはまだ見えます）と、
# それをクエリから見えなくした場合（h out of sight）の正解率を調べます。
# 後の場合は、永続トークンがあるとき、ないとき、1個か4個のゼロベクトル（zero vector）で置き換えたときを比べます
# （雑音は56トークン、系列は256本です）。

# %% tags=["nbval-ignore-output"]
on_h = [
    trials.attention_shares(one, tokens)[:, told, 1].mean()
    for one in (model, bare)
]
print(f"share of h: {on_h[0]:.0%}, with P taken out {on_h[1]:.0%}")

# %%
places = {
    "P taken out": bare,
    "P taken out, h silent": without_h(bare),
    "h out of sight": trials.without_columns_of_h(model),
    "P taken out, h out of sight": trials.without_columns_of_h(bare),
}
for n in (1, 4):
    with_zeros = trials.with_zero_tokens(model, n)
    name = f"{n} zero vector(s), h out of sight"
    places[name] = trials.without_columns_of_h(with_zeros)

# %% tags=["nbval-ignore-output"]
for name, one in places.items():
    right[name] = trials.right_in_one_call(one, task, 56)
    print(f"{name:32}: {right[name]:.1%}")

# %% [markdown] lang="en"
# Now some answers are lost. Most of what the tokens had goes to $h$ instead, and there it does not matter what $h$ says.
# But where both are out of sight, and a query can look at the text alone, about one answer in twenty is wrong. One zero
# vector in that place wins back about half of these answers, four win back all that $P$ does. So places to put attention
# *are* worth something to this model. Either $P$ or $h$ is enough, and there need be nothing learned in them.
#
# And how loud must such tokens be to do harm? First ten times their keys, which take more attention, and values of zero.
# Then three times their keys, and after that three times their values too. The last line takes out the *whole* attention
# and leaves the memory alone.

# %% [markdown] lang="ja" en="77025def"
# 今度は、間違いがいくらか出ました。
# 永続トークンに向かっていた分の大部分は $h$ に移りますが、そのとき $h$ の内容は答えに影響しません。
# ところが、クエリからどちらの受け皿も見えず、テキストしか見られないと、20個に1個ほどの答えが間違いになります。
# そこにゼロベクトルを1つ置くと、その間違いの半分ほどがなくなり、4つ置くと、$P$ があるときと変わらなくなります。
# つまり、このモデルにとって、アテンションの受け皿には**意味があります**。
# $P$ と $h$ のどちらか一方があれば足り、学習されたものである必要はありません。
#
# では、永続トークンは、どれだけ働きを強めると害になるのでしょうか。
# まず、キーを10倍にしてより多くのアテンションを集め、値はゼロにします。
# 次に、キーだけを3倍にし、その後で値も3倍にします。
# 最後の行では、アテンションを**丸ごと**取り除き、メモリだけを残します（without attention）。
# 出力の keys はキーの倍率、values は値の倍率です。

# %% tags=["nbval-ignore-output"]
for k, v in ((10, 0), (3, 1), (3, 3)):
    louder = trials.with_prefix(model, k, v)
    part = trials.attention_shares(louder, tokens)[:, told, 0].mean()
    on_prefix[k, v] = part
    right[k, v] = [share_right(louder, task, n, rows=64) for n in (56, 1024)]
    many = " and ".join(f"{share:.1%}" for share in right[k, v])
    print(f"keys × {k:2}, values × {v}: {part:.0%} on P, right {many}")

mute = without_attention(model)
right["mute"] = [share_right(mute, task, n, rows=64) for n in (56, 1024)]
print("without attention:", " and ".join(f"{n:.1%}" for n in right["mute"]))

# %%
others = [name for name in on_prefix if name[:4] in ("zero", "rand")]
assert max(on_prefix[name] for name in others) < 0.395
assert on_prefix["as trained"] > 0.395
same = ["as trained", *others, "taken out", (10, 0), (3, 1)]
assert min(min(right[name]) for name in same) > 0.95
assert on_prefix[10, 0] > 0.85
assert max(right[3, 3]) < 0.9
assert on_prefix[3, 3] == on_prefix[3, 1]
assert right["mute"][1] < 0.9
assert on_h[1] > on_h[0] + 0.2

# %%
*enough, no_place, one_zero, four_zeros = (right[name] for name in places)
assert min(*enough, four_zeros) > 0.98
assert no_place < 0.95 < 0.96 < one_zero < 0.975

# %% [markdown] lang="en"
# Nine tenths of the attention on tokens that say nothing, and next to nothing happens. The next two lines have the same
# share, 62 percent; with values three times as large a quarter of the answers goes wrong, with their own values hardly
# any. A share alone says little: what counts is what comes back. Attention as a whole does matter here, at least for long
# noise, as the last line shows; these tokens in front of it do not, as long as $h$ is there.
#
# Have they learned anything, then? A seed gives the same random start again, so we can compare, put the start back, and
# put the trained tokens into the untrained model.

# %% [markdown] lang="ja" en="4e2fd411"
# 値がゼロのトークンがアテンションの9割を集めても、ほとんど何も起こりません。
# 次の2行では、受け取る割合がどちらも62%ですが、
# 値が元のままなら間違いはほとんどなく、値を3倍にすると、答えの4分の1ほどが間違いになります。
# 割合だけでは、ほとんど何もわかりません。大切なのは、アテンションの結果として何が返ってくるかです。
# 最後の行からわかるように、少なくとも雑音が長いときには、アテンション全体は役立っていますが、
# 先頭に置いたトークンは、$h$ があるかぎり、なくてもかまいません。
#
# では、永続トークンは何かを学んだのでしょうか。
# 乱数シードから同じ初期値を再現できるので、訓練後の値を初期値と比べ、そのうえで初期値に戻してみましょう。
# 逆に、訓練後の値を、訓練前のモデルにも入れてみます。
# 出力は、長さに対して何%動いたか（moved by）と、初期値に戻したとき（put back to their start）、
# 訓練前のモデルに移したとき（moved into the untrained model）に受け取る割合です。

# %% tags=["nbval-ignore-output"]
torch.manual_seed(facts["seed"])
untrained = TitansLM(model.config)
at_start = untrained.blocks[0].mixer.persistent.detach()
at_end = model.blocks[0].mixer.persistent.detach()
moved = (at_end - at_start).norm() / at_start.norm()
print(f"in {facts['steps']} steps they moved by {moved:.0%} of their length")
back = trials.with_persistent(model, at_start)
on_start = trials.attention_shares(back, tokens)[:, told, 0].mean()
print(f"put back to their start, they get {on_start:.0%}")

moved_over = trials.with_persistent(untrained, at_end)
on_end = trials.attention_shares(moved_over, tokens)[:, told, 0].mean()
print(f"moved into the untrained model, they get {on_end:.0%}")

# %%
assert moved < 0.3
assert on_start > 0.39
assert abs(on_end - even[told].mean()) < 0.01

# %% [markdown] lang="en"
# They are nearly where chance had put them, and from there they get the same share. In a model whose other weights have
# learned nothing, the trained tokens get 29 percent, what counting gives. So the rest is the learning of those other
# weights, not of the tokens.
#
# Here is what we have seen, and no more. In section 7 persistent tokens learned facts, which a network could hold as
# well, and silence, which a network beside the look-up could not. In this recall task, told in one stretch, they are
# random tokens that take part in softmax, one of two places to put attention, and the trained model can do without
# them. This task has no facts that hold for all sequences; whether they would be learned if it had, we have not tried.
# The paper's own ablation is on language: without persistent memory its LMM goes from a perplexity of 27.01 to 27.63,
# the smallest loss among the parts that it takes away.
#
# That they are not needed *after* training does not mean that training goes the same way without them. The course ships
# the results of training both ways on this task, three seeds each, with a memory of depth 2.
#
# **Predict before you run.** Which of the two answers better?

# %% [markdown] lang="ja" en="61e8e9dd"
# トークンは、乱数で決まった初期値からほとんど動いておらず、初期値に戻しても、受け取る割合は変わりません。
# 一方、ほかの重み（weights）が何も学んでいないモデルに移すと、訓練後のトークンでも、個数だけで決まる29%しか受け取りません。
# したがって、それを超える分は、トークン自身ではなく、ほかの重みが学んだ結果です。
#
# ここまでに見たことだけをまとめます。
# 7節では、永続トークンが事実と沈黙を学びました。事実は隣に置いたネットワークでも覚えられますが、沈黙はそうはいきません。
# ペアを続けて伝えるこの想起の課題では、永続トークンは softmax に加わるランダムなトークンで、
# 2つあるアテンションの受け皿の1つであり、学習済みのモデルは永続トークンなしでも答えられます。
# この課題には、すべての系列に当てはまる事実がありません。もしあれば永続トークンがそれを学ぶのかどうかは、試していません。
#
# 論文のアブレーション（ablation、要素を1つずつ外して調べる実験）は、言語の課題についてのもので、
# LMM から永続記憶を外すと、パープレキシティ（perplexity）は27.01から27.63になります。
# この悪化の幅は、外してみた要素の中で最も小さなものです。
#
# 訓練の**後で**不要だからといって、永続トークンなしでも訓練が同じように進むとはかぎりません。
# この教材には、この課題を両方のやり方で訓練した結果が付いています。
# メモリの深さ（depth）は2で、乱数シードは3つずつです。
#
# **実行する前に予想してみましょう。** 正解率が高いのは、どちらでしょうか。
#
# 出力の full は永続トークンあり、no persistent tokens は永続トークンなしで、3つのシードの正解率が並びます。

# %%
predict("...")

# %%
card = cards.card("ablation")
found = {
    name: card["runs"][name]["right"]["56"]["each"]
    for name in ("full", "no persistent tokens")
}
for name, each in found.items():
    print(f"{name:20}:", "  ".join(f"{share:6.1%}" for share in each))


# %% [markdown] lang="en"
# Neither: every seed of both is right nearly always. So training does not need them either, on this task. (These models
# were trained on pairs told in one stretch and on scattered ones; asked for are the former.) To train them yourself (it
# takes some minutes):
#
# ```sh
# python -m titans.recipes ablation --runs full "no persistent tokens" --out checkpoints
# ```
#
# ## 9. Questions that people ask
#
# **One set for all layers, or one a layer?** One a layer: `persistent_tokens=4` with three layers makes twelve.
#
# **Are they written into the memory?** In MAG, MAL and LMM, yes: equations 26 and 29 hand $[P \,\Vert\, x]$ to the memory,
# so before the first token it has already learned from $P$ (decision D9; what it answers to them is dropped). In MAC,
# no: only attention sees them.

# %% [markdown] lang="ja" en="f491af8a"
# 差はありません。ありでもなしでも、どのシードもほとんどすべて正しく答えます。
# つまり、この課題では、訓練にも永続トークンは必要ありません。
# （モデルは、続けて伝えたペアと分散させたペアの両方で訓練してあり、ここでたずねているのは、続けて伝えたほうです。）
# 自分で訓練するには、次のようにします（数分かかります）。
#
# ```sh
# python -m titans.recipes ablation --runs full "no persistent tokens" --out checkpoints
# ```
#
# ## 9. よくある質問
#
# **永続トークンは、全部の層で1組ですか、層ごとに1組ですか。**
# 層ごとに1組なので、`persistent_tokens=4` で3層なら、12個になります。
#
# **永続トークンは、メモリに書き込まれますか。**
# MAG、MAL、LMM では書き込まれます。式(26)と式(29)では $[P \,\Vert\, x]$ をメモリに渡すので、
# メモリは、最初のトークンが来る前に、すでに $P$ から学んでいます
# （決定D9。永続トークンに対するメモリの答えは捨てます）。
# MAC では、永続トークンを見るのはアテンションだけなので、書き込まれません。
# 次の出力は、3層のモデルが持つ組の数（sets）と、テキストの前に書き込まれるかどうか（written before the text）です。

# %%
assert min(min(each) for each in found.values()) > 0.95

# %%
for variant in ("mac", "mag", "mal", "lmm"):
    config = TitansConfig(variant, layers=3, persistent_tokens=4)
    mixers = [block.mixer for block in TitansLM(config).blocks]
    own = {id(mixer.persistent) for mixer in mixers}
    first = mixers[0].initial_state(1).memory.weights
    M_0 = mixers[0].memory.initial_state(1).weights
    written = any(
        not torch.equal(a, b) for a, b in zip(first, M_0, strict=True)
    )
    print(f"{variant}: {len(own)} sets; written before the text: {written}")
    assert len(own) == 3
    assert written == (variant != "mac")

# %% [markdown] lang="en"
# **Do they have positions?** No (decision D4). Titans turns queries and keys by their positions, so that scores depend on
# distance. A persistent token with a position would look different from token 10 and from token 1,000. Without one, it
# looks the same from everywhere: the query is used as it is. Below, one query and the same eight keys, further and
# further back in a sequence, and the share that goes to $p$.

# %% [markdown] lang="ja" en="c3d35919"
# **永続トークンに位置（position）はありますか。** ありません（決定D4）。
# Titans では、クエリとキーを位置に応じて回転させ、スコアが距離で決まるようにします。
# 永続トークンに位置があると、10番目のトークンから見るのと1,000番目のトークンから見るのとで、違って見えます。
# 位置がなければ、クエリを回転させずに使うので、どこからでも同じに見えます。
#
# 次のセルでは、同じクエリと同じ8つのキーを系列の後ろへずらしていき、$p$ に向かう割合を求めます。
# 出力の「with a position」は永続トークンに位置0を与えた場合、「without」は位置がない場合です。

# %%
torch.manual_seed(0)
query, p = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)
keys = torch.randn(1, 1, 8, 16, dtype=torch.float64)
one, zero = torch.ones_like(p[..., :1]), torch.zeros_like(keys[..., :1])
no_p, all_seen = (p[:, :, :0], one[:, :, :0]), torch.ones(1, 9).bool()


def share_of_p(place):
    """p's value is 1 and the others' 0, so the answer is its share."""
    turned, near = rotate(query, place), rotate(keys, place - 7)
    first = torch.cat((rotate(p, 0), near), 2)  # p as a token, at place 0
    says = torch.cat((one, zero), 2)
    as_token = attend(query, turned, first, says, no_p, all_seen)
    in_front = attend(query, turned, near, zero, (p, one), all_seen[:, 1:])
    return as_token.item(), in_front.item()


# %%
at = torch.tensor([share_of_p(place) for place in (8, 10, 1000)])
for place, (with_one, without) in zip((8, 10, 1000), at, strict=True):
    print(
        f"token {place:4}: with a position {with_one:.1%}, "
        f"without {without:.1%}"
    )

assert at[:, 1].max() - at[:, 1].min() < 1e-6
assert at[:, 0].max() - at[:, 0].min() > 0.01

# %% [markdown] lang="en"
# **Are they repeated in every segment?** Yes. MAC starts each segment's attention with $[P \,\Vert\, h \,\Vert\, x]$, and the
# same $P$ stands in front each time. They are parameters, so they take no room in the state that is carried along:

# %% [markdown] lang="ja" en="897c287f"
# **永続トークンは、セグメントごとにくり返されますか。**
# はい。MAC のアテンションの入力は、どのセグメントでも $[P \,\Vert\, h \,\Vert\, x]$ で、毎回同じ $P$ が先頭に付きます。
# 永続トークンはパラメータなので、次へ引き継ぐ状態（state）の大きさは変わりません。
# 出力は、永続トークンの個数（tokens）、そのためのパラメータの数（parameters）、状態に含まれる数値の個数（state）です。

# %%
for persistent in (0, 4, 128):
    config = TitansConfig("mac", persistent_tokens=persistent)
    small = TitansLM(config)
    with torch.no_grad():
        state = small(torch.zeros(1, 40, dtype=torch.long)).state
    numbers = sum(tensor.numel() for tensor in state.tensors().values())
    extra = sum(block.mixer.persistent.numel() for block in small.blocks)
    print(f"{persistent:3} tokens: {extra:6,} parameters, state {numbers:,}")

# %% [markdown] lang="en"
# What they cost is time: every query has $N_p$ more keys to look at. The paper's later version uses 128 of them before
# segments of 512.
#
# ## Summary
#
# - **Equation 19** puts $N_p$ learned tokens before every sequence. All queries see them, and they have no positions.
# - Softmax shares out exactly 1. Persistent tokens can take the part that nothing deserves.
# - One softmax over $[P \,\Vert\, x]$ is a **feed-forward network** (equation 20) and attention over the text, mixed by
#   $g = Z_P / (Z_P + Z_x)$.
# - Causal attention favours first tokens before anything is learned; persistent tokens stand there first.
# - They can learn facts, as other networks can, and silence, which takes something that compares the question with the
#   text: softmax does, and so can a gate.
# - Whether a model needs them is to be measured, not to be read off attention maps: ours gave them 40 percent, gave most
#   of that to any others in their place, and did as well without, as long as $h$ could take their place.
# - One set a layer; written into the memory in MAG, MAL and LMM, not in MAC.
#
# In **lesson 07** the prefix, the retrieved $h$ and the segment become one block, MAC.
#
# ## References
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663), section 3.3, equations 19 and 20, figure 3 and the ablation.
# - S. Sukhbaatar et al.: *Augmenting Self-attention with Persistent Memory*, arXiv
#   [1907.01470](https://arxiv.org/abs/1907.01470): feed-forward layers replaced by learned keys and values in
#   attention.
# - G. Xiao et al.: *Efficient Streaming Language Models with Attention Sinks*, arXiv
#   [2309.17453](https://arxiv.org/abs/2309.17453): why first tokens attract attention, and a learned token that does
#   it better.

# %% [markdown] lang="ja" en="463e42cd"
# 代償は計算時間で、どのクエリでも、見るキーが $N_p$ 個増えます。
# 論文の後の版では、512トークンのセグメントの先頭に128個を置きます。
#
# ## まとめ
#
# - **式(19)** では、学習された $N_p$ 個のトークンを、どの系列の先頭にも置きます。
#   このトークンはすべてのクエリから見え、位置を持ちません。
# - softmax では割合の合計がちょうど1になりますが、永続トークンは、行き場のない分を引き受けられます。
# - $[P \,\Vert\, x]$ にわたる1つの softmax は、**順伝播型ネットワーク**（式(20)）とテキストへのアテンションを、
#   $g = Z_P / (Z_P + Z_x)$ で混ぜたものです。
# - 因果的なアテンションは、学習する前から最初のトークンに偏りますが、その先頭の場所に永続トークンが入ります。
# - 永続トークンは、事実も沈黙も学べます。事実はほかのネットワークでも学べますが、沈黙には質問をテキストと比べるものが必要です。
#   softmax はそれをしていて、ゲートにもできます。
# - モデルに必要かどうかは、アテンションの図からは読み取れないので、測って確かめます。
#   この教材のモデルは、アテンションの40%を永続トークンに向けていましたが、その大部分は何を置いても受け取る分で、
#   $h$ が代わりになるかぎり、なくても同じように答えました。
# - 永続トークンは、層ごとに1組あります。MAG、MAL、LMM ではメモリに書き込まれ、MAC では書き込まれません。
#
# **レッスン07**では、プレフィックス、読み出した $h$、セグメントを合わせて、MAC という1つのブロックにします。
#
# ## 参考文献
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663)。3.3節、式(19)、(20)、図3、アブレーション。
# - S. Sukhbaatar et al.: *Augmenting Self-attention with Persistent Memory*, arXiv
#   [1907.01470](https://arxiv.org/abs/1907.01470)。
#   順伝播型の層を、アテンションの中の学習されたキーと値に置き換えます。
# - G. Xiao et al.: *Efficient Streaming Language Models with Attention Sinks*, arXiv
#   [2309.17453](https://arxiv.org/abs/2309.17453)。
#   最初のトークンがアテンションを集める理由と、それをうまく引き受ける学習されたトークンについて述べています。

# %% tags=["nbval-ignore-output"]
progress()
