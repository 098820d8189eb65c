# %% [markdown] lang="en"
# # 02 · The memory module
#
# *Titans, step by step.* About 30 minutes to read, 45 with the exercises; the code runs in about 5 seconds.
# Run the cells from top to bottom.
#
# **You will learn**
#
# - what it means to *read* a network and to *write* into it;
# - to work out the gradient of a write by hand, and why it is an outer product of two vectors;
# - why a first write changes only the last layer;
# - what depth buys, and what it does not.
#
# **You need** PyTorch, matrix products, and the chain rule. Nothing about Titans.

# %% [markdown] lang="ja" en="7a0238eb"
# # 02 · メモリモジュール
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン02です。読むのに約30分、演習も解くと約45分、コードの実行に約5秒かかります。
# セルは上から順に実行してください。
#
# **このレッスンで学ぶこと**
#
# - ネットワークから「読む」、ネットワークに「書く」とはどういうことか。
# - 書き込みの勾配（gradient）を手で求める方法と、それが2つのベクトルの外積（outer product、直積）になる理由。
# - 最初の書き込みで、最後の層（layer）だけが変わる理由。
# - 深さ（depth）によって得られるものと、得られないもの。
#
# **必要な知識**：PyTorch、行列の積、連鎖律。Titans についての知識は要りません。

# %%
import torch
import torch.nn.functional as F

from titans import DeepMemory
from titans.lesson import start
from titans.lesson.lesson_02 import exercises, pictures, trials
from titans.lesson.lesson_02.lab import memory_lab

start()

# %% [markdown] lang="en"
# If the import fails, this course's package is not installed: run `pip install -e .` in the folder that you cloned
# (in Colab: clone the repository, go into its folder with `%cd`, install it there in the same way, then run the cell
# above). The package that PyPI calls `titans` is another one.
#
# ## 1. Where could a network keep a fact?
#
# Attention keeps everything: it stores each key and value that it has seen and compares a query with all of them.
# The longer the text, the more it stores. A memory of fixed size has to put many pairs into the same numbers.
#
# The smallest such memory is a matrix $M$. Give it a key, and it answers with a value: $M k$. Here is one that you can
# check by hand. It should answer $(3, 1)$ to the key $(1, 0)$, and it starts empty.

# %% [markdown] lang="ja" en="5982ba09"
# import に失敗するときは、この教材のパッケージがまだインストールされていません。
# クローンしたフォルダーで `pip install -e .` を実行してください。
# Colab では、リポジトリをクローンし、`%cd` でそのフォルダーに入り、同じようにインストールしてから、
# 上のセルを実行します。
# なお、PyPI で `titans` という名前のパッケージは別物です。
#
# ## 1. ネットワークは事実をどこに覚えられるか
#
# アテンション（attention）は、何も捨てません。
# これまでに見たキー（key）と値（バリュー、value）をすべて保存し、クエリ（query）をその全部と比べます。
# テキストが長くなるほど、保存する量は増えていきます。
# 大きさの決まったメモリ（memory）では、たくさんのペア（pair）を同じ数値の中に収めなければなりません。
#
# そのようなメモリのうち最も小さいものは、1つの行列 $M$ です。キーを渡すと、値 $M k$ を答えます。
# 手で確かめられる例を見てみましょう。
# キー $(1, 0)$ に対して $(3, 1)$ と答えさせたいとします。最初、メモリは空です。

# %%
M = torch.zeros(2, 2)
k, v = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 1.0])
print("answer before:", M @ k)

M = M + torch.outer(v, k)  # write
print("memory:\n", M)
print("answer after: ", M @ k)

# %% [markdown] lang="en"
# The pair sits in the first column, because the key points at the first column. A second pair whose key points
# elsewhere does not disturb it. But what if the second key points *partly* in the same direction?
#
# **Predict before you run.** We add the pair $(0.6, 0.8) \to (0, 1)$ in the same way. What does the memory now answer
# to $(1, 0)$? Still $(3, 1)$?

# %% [markdown] lang="ja" en="58e3e309"
# ペアは第1列に入りました。キーが第1列を指しているからです。
# 2つ目のペアのキーが別の列を指していれば、このペアは乱されません。
# では、2つ目のキーが**部分的に**同じ方向を向いていたら、どうなるでしょうか。
#
# **実行する前に予想してみましょう。**
# 同じやり方で、ペア $(0.6, 0.8) \to (0, 1)$ を足します。
# このときメモリは、$(1, 0)$ に何と答えるでしょうか。$(3, 1)$ のままでしょうか。

# %%
k2, v2 = torch.tensor([0.6, 0.8]), torch.tensor([0.0, 1.0])
M = M + torch.outer(v2, k2)
print("answer to the first key: ", M @ k)
print("answer to the second key:", M @ k2, "  wanted:", v2)

# %% [markdown] lang="en"
# Both answers are wrong now. The second write leaked into the first answer, because the keys overlap
# ($k \cdot k_2 = 0.6$), and the first pair leaked into the second answer. Adding blindly does not look at what is
# already there. So let the memory look.
#
# ## 2. Write = one step of gradient descent
#
# Say how wrong the memory is about a pair, and take a step that makes it less wrong. This is equation 12 of the paper,
# the *associative loss*:
#
# $$\ell(M; k, v) = \lVert M(k) - v \rVert^2$$
#
# It sums over the features of the value. Its gradient with respect to the **weights of the memory** is what the paper
# calls *surprise*: large if the memory did not expect this value, zero if it answered it already. A write is
#
# $$M \leftarrow M - \theta \, \nabla \ell(M; k, v)$$
#
# with a step size $\theta$. We let autograd find the gradient and start again from an empty matrix.

# %% [markdown] lang="ja" en="48273c9c"
# どちらの答えも間違いになりました。キー同士に重なりがある（$k \cdot k_2 = 0.6$）からです。
# 2回目の書き込みが1つ目の答えに混ざり、1つ目のペアも2つ目の答えに混ざっています。
# やみくもに足すときは、すでに何が入っているかを見ていません。
# そこで、メモリの中身を見てから書くことにします。
#
# ## 2. 書き込みは勾配降下の1ステップ
#
# あるペアについて、メモリがどれだけ間違っているかを数値で表します。そして、間違いが減る向きに1ステップ進みます。
# 間違いの大きさを表すのが論文の式(12)、連想損失（associative loss）です。
#
# $$\ell(M; k, v) = \lVert M(k) - v \rVert^2$$
#
# 値の成分すべてについて和をとっています。
# この損失を**メモリの重み**（weights）で微分した勾配を、論文では驚き（surprise）と呼びます。
# メモリが予想していなかった値なら驚きは大きく、すでに正しく答えられる値ならゼロです。
# 書き込みは次の式で表されます。
#
# $$M \leftarrow M - \theta \, \nabla \ell(M; k, v)$$
#
# $\theta$ はステップ幅（step size）です。勾配は自動微分（autograd）に求めてもらい、空の行列からやり直します。


# %%
def write(M, k, v, theta):
    M = M.detach().requires_grad_()
    loss = (M @ k - v).square().sum()
    (gradient,) = torch.autograd.grad(loss, M)
    return (M - theta * gradient).detach()


M = write(torch.zeros(2, 2), k, v, theta=0.5)
M = write(M, k2, v2, theta=0.5)
print("answer to the first key: ", M @ k)
print("answer to the second key:", M @ k2, "  wanted:", v2)

# %% [markdown] lang="en"
# The second answer is exact now: the write saw what was already there and corrected it. The price is paid by the
# first pair. To repair it, write both again, a few times:

# %% [markdown] lang="ja" en="82a1f905"
# 2つ目の答えは正確になりました。書き込みが、すでに入っているものを見て、それを修正したからです。
# その代償として、1つ目のペアが崩れています。直すために、両方を何度か書き直してみましょう。

# %%
for _ in range(20):
    M = write(M, k, v, theta=0.5)
    M = write(M, k2, v2, theta=0.5)
print("answer to the first key: ", M @ k)
print("answer to the second key:", M @ k2, "  wanted:", v2)

# %% [markdown] lang="en"
# Two pairs, two columns: a 2 × 2 matrix can hold both, and repeated writes find the matrix that does. *Reading is a
# forward pass, writing is a training step.* That is the whole idea of this memory, and it works for any network.
#
# ## 3. The gradient by hand
#
# For the matrix, write $e = 2(Mk - v)$ for the *error*. The loss is $\sum_i (\sum_j M_{ij} k_j - v_i)^2$, so its
# derivative by $M_{ij}$ is $2(Mk - v)_i \, k_j$:
#
# $$\nabla \ell = e \, k^\top, \qquad e = 2 (M k - v)$$
#
# An outer product: what came back, times what went in. The 2 comes from the square and stays, here and in the library
# (decision D8 of this course; other code averages over the features, which makes its steps smaller).

# %% [markdown] lang="ja" en="1b4b9053"
# ペアが2つで、列も2つです。2 × 2 の行列は両方のペアを保持できます。
# 書き込みをくり返せば、両方を保持する行列にたどり着きます。
# **読み出しは順伝播（forward pass）、書き込みは訓練の1ステップです。**
# このメモリの考え方は、これに尽きます。どんなネットワークにも使えます。
#
# ## 3. 勾配を手で求める
#
# 行列の場合に、$e = 2(Mk - v)$ を誤差（error）と呼ぶことにします。
# 損失は $\sum_i (\sum_j M_{ij} k_j - v_i)^2$ です。
# これを $M_{ij}$ で微分すると $2(Mk - v)_i \, k_j$ となるので、次の式が得られます。
#
# $$\nabla \ell = e \, k^\top, \qquad e = 2 (M k - v)$$
#
# 「戻ってきたもの」（誤差）と「入っていったもの」（キー）の外積です。
# ここでいう外積は、3次元ベクトルの外積（cross product）ではありません。
# 2つのベクトルから行列を作る積のことで、直積とも呼ばれます。
# 係数の2は2乗の微分から出たもので、ここでもライブラリでも残しておきます。
# これはこの教材の決定D8です。成分についての平均をとるコードもあり、その場合は1ステップが小さくなります。

# %%
M = torch.randn(2, 2)
by_hand = torch.outer(2 * (M @ k - v), k)
by_autograd = torch.autograd.functional.jacobian(
    lambda M: (M @ k - v).square().sum(), M
)
print(
    "largest difference:", round((by_hand - by_autograd).abs().max().item(), 5)
)

# %% [markdown] lang="en"
# ### Exercise 1: a step that fits
#
# One write moves the answer to $k$ from $Mk$ to $(M - \theta\, e k^\top) k = Mk - 2\theta\,(k^\top k)(Mk - v)$.
# Which $\theta$ makes the new answer exactly $v$, whatever the key's length?

# %% [markdown] lang="ja" en="5f89efdb"
# ### 演習1：ちょうど届くステップ幅
#
# 1回の書き込みで、$k$ への答えは $Mk$ から
# $(M - \theta\, e k^\top) k = Mk - 2\theta\,(k^\top k)(Mk - v)$ に変わります。
# 新しい答えがちょうど $v$ になるのは、$\theta$ がいくつのときでしょうか。
# キーの長さ（ノルム）が1でなくても成り立つ式を考えてください。


# %%
def step_for_one_write(k):
    return ...  # theta, from the key k, a vector


exercises.ONE_WRITE.check(step_for_one_write)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# The new error is $(1 - 2\theta\, k^\top k)$ times the old one. Make the bracket zero.
#
# </details>

# %% [markdown] lang="ja" en="3f4e95b1"
# <details><summary>ヒント</summary>
#
# 新しい誤差は、元の誤差の $(1 - 2\theta\, k^\top k)$ 倍です。括弧の中をゼロにします。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def step_for_one_write(k):
#     return 1 / (2 * (k @ k))
# ```
#
# </details>

# %% [markdown] lang="en"
# Titans gives every key the length 1. Then $\theta = \tfrac12$ stores a pair in one write. At $\theta = 1$ the answer
# swings past the value by as much as it was away from it, for ever, and beyond 1 each repetition makes it worse.
#
# ## 4. A deeper memory
#
# A matrix is a linear memory: the answer to a sum of keys is the sum of the answers. The paper's memory is a small
# multilayer perceptron, without biases. With two layers:
#
# $$M(x) = W_2\, \sigma(W_1 x)$$
#
# Here $\sigma$ is GELU, and the hidden layer is four times as wide as a key (`expansion=4`). The library's
# `DeepMemory` is just that. Its weights are not fixed parameters that you call: they are handed in, because **the
# weights are the state**. Every sequence has its own.

# %% [markdown] lang="ja" en="ef46c112"
# Titans では、どのキーも長さを1にそろえます。
# すると $\theta = \tfrac12$ のとき、1回の書き込みでペアを記憶できます。
# $\theta = 1$ では、答えが値を通り過ぎて元と同じだけ離れ、何度くり返しても行ったり来たりします。
# 1を超えると、くり返すたびに誤差が大きくなり、発散します。
#
# ## 4. 深いメモリ
#
# 行列は線形のメモリです。キーの和に対する答えは、それぞれのキーに対する答えの和になります。
# 論文のメモリは小さな多層パーセプトロン（MLP）で、バイアスはありません。2層なら次の式です。
#
# $$M(x) = W_2\, \sigma(W_1 x)$$
#
# ここで $\sigma$ は GELU で、隠れ層の幅（width）はキーの次元の4倍です（`expansion=4`）。
# ライブラリの `DeepMemory` は、まさにこの式です。
# ただし、その重みは、モジュールに固定されたパラメータではありません。読み書きのたびに外から渡します。
# **重みが状態（state）だから**です。系列（sequence）は、それぞれ自分の重みを持ちます。

# %%
memory = DeepMemory(dim=3, depth=2, expansion=4)
state = memory.initial_state(batch=1)
for number, weight in enumerate(state.weights, 1):
    print(f"W_{number}: {list(weight.shape)}  [batch, heads, out, in]")

W1, W2 = (weight[0, 0].detach() for weight in state.weights)
q = torch.randn(3)
by_hand = W2 @ F.gelu(W1 @ q)
by_library = memory.read(
    state.weights, q.reshape(1, 1, 1, 3)
)  # [batch, heads, tokens, dim]
print("equal:", torch.allclose(by_hand, by_library[0, 0, 0]))

# %% [markdown] lang="en"
# Reading, equation 15, is this forward pass with a query: $y = M(q)$. It changes nothing.
#
# Now a write. The chain rule goes through two layers. Write down what the forward pass keeps, $h_1 = W_1 k$ and
# $a_1 = \sigma(h_1)$, then walk back:
#
# $$e_2 = 2\,(W_2 a_1 - v), \qquad e_1 = \sigma'(h_1) \odot (W_2^\top e_2)$$
#
# $$\nabla_{W_2} \ell = e_2\, a_1^\top, \qquad \nabla_{W_1} \ell = e_1\, k^\top$$
#
# Each layer's gradient is again an outer product of what came back and what went in. This fact is small and carries a
# lot: it is the reason why a whole chunk of writes can be computed at once (lesson 03, section 9).
#
# ### Exercise 2: back-propagation with your own hands
#
# Fill in the two gradients. `gelu_slope` gives you $\sigma'$.

# %% [markdown] lang="ja" en="9dea7e28"
# 読み出し（retrieval）は論文の式(15)、つまりクエリを入力とする順伝播 $y = M(q)$ です。読み出しは何も変えません。
#
# 次は書き込みです。連鎖律を2つの層にわたって使います。
# まず、順伝播の途中で出てくる $h_1 = W_1 k$ と $a_1 = \sigma(h_1)$ を書き留めます。
# そこから逆向きにたどります。
#
# $$e_2 = 2\,(W_2 a_1 - v), \qquad e_1 = \sigma'(h_1) \odot (W_2^\top e_2)$$
#
# $$\nabla_{W_2} \ell = e_2\, a_1^\top, \qquad \nabla_{W_1} \ell = e_1\, k^\top$$
#
# どの層の勾配も、やはり「戻ってきたもの」と「入っていったもの」の外積です。
# 小さな事実ですが、多くのことがこれに支えられています。
# チャンク（chunk）全体の書き込みを一度に計算できるのも、この事実のおかげです（レッスン03の9節）。
#
# ### 演習2：誤差逆伝播を自分の手で
#
# 2つの勾配を書いてください。$\sigma'$ は `gelu_slope` で計算できます。


# %%
def gelu_slope(h):
    return torch.ops.aten.gelu_backward(torch.ones_like(h), h)


def gradient(W1, W2, k, v):
    h1 = W1 @ k
    a1 = F.gelu(h1)
    return ..., ...  # the gradients with respect to W1 and W2


exercises.HAND_GRADIENT.check(gradient)

# %% [markdown] lang="en"
# <details><summary>Hint 1</summary>
#
# Start at the end: `e2` is what you have minus what you want, times 2. Then `torch.outer(e2, a1)` is the gradient of
# `W2`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `W2.T @ e2` is the error that arrives behind the activation. Multiply it by the slope at `h1`.
#
# </details>

# %% [markdown] lang="ja" en="82a58880"
# <details><summary>ヒント1</summary>
#
# 最後の層から始めます。`e2` は「いまの答え」から「ほしい答え」を引き、2倍したものです。
# すると `W2` の勾配は `torch.outer(e2, a1)` です。
#
# </details>
#
# <details><summary>ヒント2</summary>
#
# `W2.T @ e2` は、活性化関数の出口に届いた誤差です。これに、`h1` での傾きを掛けます。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def gradient(W1, W2, k, v):
#     h1 = W1 @ k
#     a1 = F.gelu(h1)
#     e2 = 2 * (W2 @ a1 - v)
#     e1 = gelu_slope(h1) * (W2.T @ e2)
#     return torch.outer(e1, k), torch.outer(e2, a1)
# ```
#
# </details>

# %% [markdown] lang="en"
# The library keeps the two factors apart and never multiplies them out: `memory.errors` returns the inputs $a$ and the
# errors $e$ of every layer. Their outer products are autograd's gradients.

# %% [markdown] lang="ja" en="c54a788d"
# ライブラリは2つの因子を別々に持っていて、掛け合わせることはありません。
# `memory.errors` は、すべての層について入力 $a$ と誤差 $e$ を返します。
# 両者の外積をとると、自動微分の勾配に一致します。

# %%
k3, v3 = torch.randn(1, 1, 1, 3), torch.randn(1, 1, 1, 3)
weights = [torch.randn_like(w).requires_grad_() for w in state.weights]
inputs, errors = memory.errors(weights, k3, v3)
loss = (memory.read(weights, k3) - v3).square().sum()
by_autograd = torch.autograd.grad(loss, weights)
for a, e, wanted in zip(inputs, errors, by_autograd, strict=True):
    outer = e.mT @ a  # [1, 1, out, 1] @ [1, 1, 1, in]
    same = torch.allclose(outer, wanted, rtol=1e-4, atol=1e-4)
    sizes = f"{e.shape[-1]} errors and {a.shape[-1]} inputs"
    print(f"outer product of {sizes} is autograd's gradient: {same}")
    assert same

# %% [markdown] lang="en"
# ## 5. The first write
#
# `DeepMemory` starts with a random $W_1$ and with $W_2 = 0$, so that the empty memory answers nothing,
# $M_0(x) = 0$ (decision D6). The first error is then the value itself, up to sign and the factor 2.
#
# **Predict before you run.** We write one pair into this fresh memory. Which of the two layers changes?

# %% [markdown] lang="ja" en="85bef6f2"
# ## 5. 最初の書き込み
#
# `DeepMemory` は、ランダムな $W_1$ と、$W_2 = 0$ から始まります。
# 空のメモリが何も答えない、つまり $M_0(x) = 0$ となるようにするためです（決定D6）。
# このとき最初の誤差は、符号と係数2を除けば、値そのものです。
#
# **実行する前に予想してみましょう。**
# このまっさらなメモリに、ペアを1つ書き込みます。2つの層のうち、変わるのはどちらでしょうか。
# 出力の「size of the surprise」は、その層での驚きの大きさです。

# %%
inputs, errors = memory.errors(
    [weight.detach() for weight in state.weights], k3, v3
)
for number, (a, e) in enumerate(zip(inputs, errors, strict=True), 1):
    print(
        f"size of the surprise at W_{number}: {(e.mT @ a).norm().item():.3f}"
    )

# %% [markdown] lang="en"
# Only $W_2$. The error has to come back *through* $W_2$ to reach $W_1$, and $W_2$ is zero: $e_1 = \sigma' \odot
# (W_2^\top e_2) = 0$. From the second write on, $W_1$ learns too.
#
# Why not start everything from zero, then? With $W_1 = 0$ and $W_2 = 0$ there is nothing to learn with: $a_1 =
# \sigma(0) = 0$, so the gradient of $W_2$ is zero too, and the memory stays empty for ever. The random $W_1$ is what
# tells keys apart. In a trained model $M_0$ is itself learned (lesson 04).

# %% [markdown] lang="ja" en="9f37edb4"
# 変わるのは $W_2$ だけです。誤差が $W_1$ に届くには、$W_2$ を**通って**戻らなければなりません。
# ところが $W_2$ はゼロなので、$e_1 = \sigma' \odot (W_2^\top e_2) = 0$ となります。
# 2回目の書き込みからは、$W_1$ も学習します。
#
# では、なぜ全部をゼロから始めないのでしょうか。
# $W_1 = 0$ かつ $W_2 = 0$ では、学習の手がかりがないからです。
# $a_1 = \sigma(0) = 0$ なので $W_2$ の勾配もゼロになり、メモリはいつまでも空のままです。
# キーを区別できるのは、ランダムな $W_1$ があるからです。
# 学習済みのモデルでは、$M_0$ そのものも学習されています（レッスン04）。

# %%
zeros = [torch.zeros_like(weight) for weight in state.weights]
inputs, errors = memory.errors(zeros, k3, v3)
print(
    "surprise of an all-zero memory:",
    [(e.mT @ a).norm().item() for a, e in zip(inputs, errors, strict=True)],
)

# %% [markdown] lang="en"
# The picture below follows one pair through three writes, each with a small step. Red is positive, blue negative, and
# every panel has a colour scale of its own. Look at the gradients: each is one column pattern times one row pattern,
# because an outer product has rank 1.

# %% [markdown] lang="ja" en="cc3a22d9"
# 次の図は、1つのペアを小さなステップで3回書き込む様子です。
# 上の段から順に、1回目（write 1）、2回目、3回目の書き込みです。
# 「before」は書き込む前の重み、「gradient」は勾配、「all zero」は全部ゼロという意味です。
# 赤は正、青は負で、色の範囲はパネルごとに違います。
# 勾配をよく見てください。どれも、縦の模様1つと横の模様1つの積になっています。外積の階数（rank）は1だからです。

# %%
pictures.first_writes()

# %% [markdown] lang="en"
# ## 6. Interference
#
# Many pairs share the same weights, so each write moves the answers to all other keys. How much depends on how alike
# the keys look to the memory. Below, a memory of 8 features is told one pair A, then 30 other random pairs, one write
# each. After each write we ask for A again, once with a matrix and once with a two-layer memory.

# %% [markdown] lang="ja" en="dcf1ec50"
# ## 6. 干渉
#
# たくさんのペアが同じ重みを共有しています。そのため、書き込むたびに、ほかのすべてのキーへの答えが動きます。
# これが干渉（interference）です。
# どれだけ動くかは、メモリから見てキー同士がどれだけ似ているかで決まります。
#
# 次の実験では、8次元のメモリに、まずペアAを伝えます。
# 続けて、ランダムなペアを30個伝えます。どのペアも、1回ずつ書き込みます。
# 書き込みのたびにAについてたずね、これを行列（図の matrix）と2層のメモリ（two layers）で比べます。
# 横軸「other pairs written since」はAの後に書き込んだペアの数、縦軸はAの誤差です。
# 水平な点線「an empty memory's error」は、空のメモリの誤差を表します。

# %%
for depth in (1, 2):
    errors = trials.forgetting_of_first_pair(depth)
    worse = int((errors > 1).nonzero()[0])  # an empty memory's error is 1
    print(f"depth {depth}: worse than an empty memory after {worse} pairs")

pictures.interference()

# %% [markdown] lang="en"
# Neither holds A for long, and both end up *worse than an empty memory*: after a handful of other pairs, nearly as many
# as the key has features, what the others left behind outweighs what is left of A. The deep memory loses A nearly as
# fast: depth does not protect a pair that is never repeated. In 8 dimensions random keys overlap a lot. Keys with more
# features overlap less, which is one reason why real models use 64 features and more per head.
#
# ## 7. What depth buys
#
# Now let the memory write a set of pairs again and again, all of them in each write, as a network is trained on a data
# set (with momentum 0.9, which lesson 03 explains). How many can it hold in the end? A matrix with $d$ columns can
# answer $d$ independent keys exactly. With more pairs than that something has to give: for random pairs a share of
# about $1 - d/n$ of the error has to stay.
#
# **Predict before you run.** $d = 8$, $n = 16$ pairs. Where does the matrix stop, and where does a two-layer memory?

# %% [markdown] lang="ja" en="a405eacf"
# どちらのメモリも、Aを長くは保てません。しかも、最後には**空のメモリよりも悪く**なります。
# 出力の「worse than an empty memory after … pairs」が、そうなるまでに書き込んだペアの数です。
# キーの次元に近い数のペアを書き込むと、
# それらが残したもののほうが、まだ残っているAより大きくなるのです。
# 深いメモリも、ほとんど同じ速さでAを失います。くり返されないペアを、深さは守ってくれません。
#
# 8次元では、ランダムなキー同士が大きく重なります。キーの次元が高いほど、重なりは小さくなります。
# 実際のモデルがヘッド（head）あたり64次元以上を使う理由の1つは、ここにあります。
#
# ## 7. 深さで得られるもの
#
# 今度は、ひとそろいのペアを毎回すべてまとめて書き込み、これを何度もくり返します。
# データセットでネットワークを訓練するのと同じです。
# モーメンタム（momentum）は0.9とします（レッスン03で説明します）。
# 最終的に、いくつのペアを保持できるでしょうか。
# $d$ 列の行列は、線形独立な $d$ 個のキーに正確に答えられます。
# ペアがそれより多いと、どこかにしわ寄せがいきます。
# ランダムなペアなら、誤差のうち、およそ $1 - d/n$ の割合がどうしても残ります。
#
# **実行する前に予想してみましょう。**
# $d = 8$、$n = 16$ ペアとします。行列の誤差はどこで止まるでしょうか。2層のメモリではどうでしょうか。

# %%
for depth in (1, 2, 3):
    course = trials.write_repeatedly(depth=depth, expansion=4, pairs=16)
    size = sum(weight.numel() for weight in course.weights[0])
    means = course.errors.mean(1)
    print(
        f"depth {depth}, {size:4} weights: error after 20 writes "
        f"{means[20]:.2f}, after 200 writes {means[200]:.2f}"
    )

# %% [markdown] lang="en"
# The matrix stops near $1 - 8/16 = 0.5$, and no number of writes will change that. The deeper memories go on falling.
#
# Two honest remarks. First, the deep memory has more weights, and *per weight* it is no better: a matrix with 64
# weights holds 8 pairs. But a matrix cannot be given more weights without keys of more features, and an MLP can.
# Second, here the gain needs **many writes**. At test time a model sees most pairs once. What learned gates, learned
# projections and a learned $M_0$ can make of a single write is the subject of lesson 04. A first answer is in the
# [README](../../README.md), under `recall-many`: trained for it, a deep memory holds more pairs than the matrix has room
# for, although each is told once.
#
# ### The memory lab
#
# Move the controls (where no kernel runs, you see four settings below one another). A few things to find out:
#
# 1. With depth 1, where is the largest number of pairs that still reaches error 0? Does the width change anything?
# 2. With depth 2 and 48 pairs, is it better to widen the memory or to deepen it?
# 3. At few writes (5 to 20), which depth is ahead?

# %% [markdown] lang="ja" en="2aeb9af7"
# 行列の誤差は $1 - 8/16 = 0.5$ の近くで止まります。何回書き込んでも、これは変わりません。
# 深いメモリの誤差は、その後も下がり続けます。
#
# 正直に言っておきたいことが2つあります。
#
# 1つ目。深いメモリは重みの数も多く、**重み1個あたり**で比べれば行列よりよいわけではありません。
# 行列は64個の重みで8ペアを保持します。
# ただし、行列の重みを増やすにはキーの次元を増やすしかありません。MLP なら、キーはそのままで重みを増やせます。
#
# 2つ目。ここでこの効果を得るには、**何回もの書き込み**が必要です。
# ところがテスト時（test time）には、モデルはほとんどのペアを1回しか見ません。
# 学習されたゲート（gate）、学習された射影（projection）、学習された $M_0$ があれば、1回の書き込みでどこまでできるのか。
# それがレッスン04のテーマです。最初の答えは、[README](../../README.md) の `recall-many` にあります。
# そのように訓練すれば、深いメモリは、それぞれ1回しか伝えられなくても、行列には入りきらない数のペアを保持します。
#
# ### メモリ実験室
#
# コントロールを動かして、次のことを調べてみましょう
# （カーネルが動いていないときは、4通りの設定が上から順に並びます）。
#
# 1. 深さ1で、誤差が0になるペア数は最大でいくつですか。幅を変えると何か変わりますか。
# 2. 深さ2で48ペアのとき、幅を広げるのと、層を増やすのとでは、どちらがよいですか。
# 3. 書き込みが少ないとき（5〜20回）、誤差がいちばん小さいのは、どの深さですか。
#
# スライダーは、depth が深さ、width が幅（隠れ層がキーの何倍か）、pairs がペア数、writes が書き込みの回数です。
# 右上の「error of every pair」は、ペアごとの誤差です。
# 下のグラフは、横軸「writes of all pairs」が全ペアを書き込んだ回数、縦軸「mean error」が平均の誤差です。
# 点線は、行列で到達できる限界のおよその値を示します。

# %%
lab = memory_lab()
lab

# %% [markdown] lang="en"
# <details><summary>What you should have seen</summary>
#
# 1. With 8 pairs: there are 8 columns. Width does nothing at depth 1, because there is no hidden layer.
# 2. It depends. At width 4 and 200 writes depth 3 is ahead of depth 2, with three times as many weights; at width 2 it
#    is behind.
# 3. The matrix, as long as it has room (up to 8 pairs). Depth pays late.
#
# </details>
#
# ## 8. Shapes, heads, and what it costs
#
# One memory belongs to **one sequence and one head**. A batch of 4 sequences in a layer with 2 heads has 8 memories,
# and none of them sees another. The weights are the state, so a layer's state is as large as its memories together:

# %% [markdown] lang="ja" en="55c904b8"
# <details><summary>調べた結果</summary>
#
# 1. 8ペアです。列が8つあるからです。深さ1には隠れ層がないので、幅を変えても何も変わりません。
# 2. 場合によります。200回書き込んだ時点で、幅4なら深さ3のほうが深さ2より誤差が小さくなります
#    （ただし、重みの数は3倍です）。幅2では逆です。
# 3. 余裕があるうち（8ペアまで）は、行列です。深さの効果は遅れて現れます。
#
# </details>
#
# ## 8. 形、ヘッド、コスト
#
# 1つのメモリは、**1つの系列の1つのヘッド**に属します。
# 4系列のバッチ（batch）を2ヘッドの層で処理すると、メモリは8個になります。どのメモリにも、ほかのメモリは見えません。
# 重みが状態なので、層の状態の大きさは、その層のメモリを全部合わせた大きさです。

# %%
weights = DeepMemory(dim=32, heads=2).initial_state(batch=4).weights
numbers = sum(weight.numel() for weight in weights)
print("weights of a layer:", [list(weight.shape) for weight in weights])
print(f"numbers in M: {numbers:,}; with the momentum S: {2 * numbers:,}")
print("for one token or a million")

# %% [markdown] lang="en"
# In attention the state grows with the text: keys and values of this width would take $4 \cdot 64 \cdot 2$ numbers per
# token. Here it stays what it is. Beyond this many tokens the memory is the smaller of the two:

# %% [markdown] lang="ja" en="80013102"
# モーメンタムの S を含めても131,072個です。1トークン（token）でも100万トークンでも、この数は変わりません。
# 一方、アテンションの状態はテキストとともに大きくなります。
# 同じ幅のキーと値なら、1トークンにつき $4 \cdot 64 \cdot 2$ 個の数値が必要です。
# 次のセルが示すトークン数を超えると、メモリのほうが小さくなります。

# %%
print(
    "tokens at which attention's cache has as many numbers:",
    2 * numbers // (4 * 64 * 2),
)

# %% [markdown] lang="en"
# ## 9. A residual around the memory
#
# The paper's later version uses $M(x) = x + \mathrm{LN}(W_2\, \sigma(W_1 x))$: with a residual and a layer
# normalisation. `DeepMemory(..., residual=True)` is that form. It cannot start with $W_2 = 0$: LN divides by the size
# of its input, and at zero input its slope is $1/\sqrt{\epsilon}$, about 316. A first write would be 316 times
# what it is without LN. So with a residual the last layer starts at random.

# %% [markdown] lang="ja" en="9e436a38"
# ## 9. メモリに残差を加える
#
# 論文の後の版では、$M(x) = x + \mathrm{LN}(W_2\, \sigma(W_1 x))$ を使います。
# 残差（residual）とレイヤー正規化（layer normalisation）を加えた形です。
# `DeepMemory(..., residual=True)` がこれにあたります。
# この形は、$W_2 = 0$ から始めることができません。
# LN は入力をその大きさで割るので、入力がゼロのところでの傾きは $1/\sqrt{\epsilon}$ で、約316になります。
# これでは、最初の書き込みが316倍になってしまいます。
# そこで、残差を使うときは、最後の層もランダムな値から始めます。

# %%
h = torch.zeros(8, requires_grad=True)
slope = torch.autograd.functional.jacobian(lambda h: F.layer_norm(h, (8,)), h)
print(
    "largest slope of LN at zero:",
    round(torch.linalg.matrix_norm(slope, 2).item()),
)
fresh = DeepMemory(dim=8, residual=True)
print("last layer starts at zero:", bool((fresh.weights[-1] == 0).all()))

# %% [markdown] lang="en"
# ## Summary
#
# - A memory is a small network. **Read**: a forward pass, $y = M(q)$. **Write**: one gradient step on
#   $\lVert M(k) - v \rVert^2$, with respect to the weights.
# - The gradient of each layer is an outer product $e\,a^\top$: error times input.
# - A fresh memory answers zero and learns in its last layer first. All-zero weights would never learn.
# - Writes interfere, more so if keys are alike. A matrix holds as many pairs as a key has features; depth goes beyond
#   that, if it may write often, or was trained to make the most of a single write.
# - The state is the weights: as large for a million tokens as for one.
#
# In **lesson 03** the writes come as a stream, with step sizes, momentum and forgetting.
#
# ## References
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663), section 3.1, equations 11, 12 and 15.
# - B. Widrow, M. E. Hoff: *Adaptive switching circuits*, 1960: the rule $M \leftarrow M - \theta\, e k^\top$, also
#   called the delta rule.
# - Y. Sun et al.: *Learning to (Learn at Test Time)*, arXiv [2407.04620](https://arxiv.org/abs/2407.04620): networks as
#   states, written by gradient steps.

# %% [markdown] lang="ja" en="0f347fed"
# ## まとめ
#
# - メモリは小さなネットワークです。**読み出し**は順伝播 $y = M(q)$ です。
#   **書き込み**は、$\lVert M(k) - v \rVert^2$ を重みで微分した勾配による1ステップです。
# - 各層の勾配は外積 $e\,a^\top$、つまり「誤差」と「入力」の積です。
# - まっさらなメモリはゼロを答え、最後の層から学習を始めます。重みが全部ゼロだと、いつまでも学習しません。
# - 書き込みは互いに干渉します。キーが似ているほど、干渉は強くなります。
#   行列が保持できるペアの数は、キーの次元と同じです。深いメモリは、何回も書き込めるか、
#   1回の書き込みを生かすように訓練されていれば、それを超えます。
# - 状態は重みです。100万トークンでも1トークンでも、大きさは変わりません。
#
# **レッスン03**では、書き込みがストリーム（stream）として続きます。
# ステップ幅、モーメンタム、忘却（forgetting）がそこに加わります。
#
# ## 参考文献
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663)。3.1節、式(11)、(12)、(15)。
# - B. Widrow, M. E. Hoff: *Adaptive switching circuits*, 1960。
#   更新則 $M \leftarrow M - \theta\, e k^\top$ の原典です。この更新則はデルタ則（delta rule）とも呼ばれます。
# - Y. Sun et al.: *Learning to (Learn at Test Time)*, arXiv [2407.04620](https://arxiv.org/abs/2407.04620)。
#   ネットワークを状態とし、勾配ステップで書き込みます。
