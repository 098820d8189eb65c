# %% [markdown] lang="en"
# # 02 · The memory module
#
# *Titans, step by step.* About 35 minutes to read, 50 with the exercises; the code runs in about 7 seconds.
# Run the cells from top to bottom.
#
# **You will learn**
#
# - what it means to *read* a network and to *write* into it;
# - to work out the gradient of a write by hand, and why it is an outer product of two vectors;
# - why a first write changes only the last layer, and what a memory loses that shrinks in all of them;
# - what depth buys, and what it does not.
#
# **You need** PyTorch, matrix products, and the chain rule. Nothing about Titans.

# %% [markdown] lang="ja" en="1b74e857"
# # 02 · メモリモジュール
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン02です。読むのに約35分、演習も解くと約50分、コードの実行に約7秒かかります。
# セルは上から順に実行してください。
#
# **このレッスンで学ぶこと**
#
# - ネットワークから「読む」、ネットワークに「書く」とはどういうことか。
# - 書き込みの勾配（gradient）を手で求める方法と、それが2つのベクトルの外積（outer product、直積）になる理由。
# - 最初の書き込みで、最後の層（layer）だけが変わる理由と、すべての層を縮めると何が失われるか。
# - 深さ（depth）によって得られるものと、得られないもの。
#
# **必要な知識**：PyTorch、行列の積、連鎖律。Titans についての知識は要りません。

# %%
import torch
import torch.nn.functional as F

from titans import DeepMemory, NeuralMemory
from titans.checkpoints import load_checkpoint
from titans.lesson import predict, progress, start
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
# The smallest such memory is a matrix $M$. Give it a key, and it answers with a value: $M k$.
# [Lesson 01](01_memory_is_regression.ipynb) gave one two pairs whose keys overlap, $(1, 0) \to (3, 1)$ and
# $(0.6, 0.8) \to (0, 1)$, by adding an outer product for each. That is **linear attention**, and it adds blindly: each
# pair interferes with the answer to the other.

# %% [markdown] lang="ja" en="f9101203"
# import に失敗するときは、この教材のパッケージがまだインストールされていないので、
# クローンしたフォルダーで `pip install -e .` を実行してください。
# Colab では、リポジトリをクローンし、`%cd` でそのフォルダーに入って同じようにインストールしてから、上のセルを実行します。
# なお、PyPI で `titans` という名前のパッケージは別物です。
#
# ## 1. ネットワークは事実をどこに蓄えられるか
#
# アテンション（attention）は何も捨てず、これまでに見たキー（key）と値（value）をすべて保存して、
# クエリ（query）をその全部と比べます。テキストが長くなるほど、保存する量は増えていきます。
# これに対して、大きさの決まったメモリ（memory）では、たくさんのペア（pair）を同じ数値の中に収めなければなりません。
#
# そのようなメモリのうち最も小さいものは1つの行列 $M$ で、キーを渡すと値 $M k$ を答えます。
# [レッスン01](01_memory_is_regression.ipynb)では、キーに重なりのある2つのペア $(1, 0) \to (3, 1)$ と $(0.6, 0.8) \to (0, 1)$ を、
# ペアごとに外積を足して、行列に入れました。これは**線形アテンション**（linear attention）で、中身を見ずに足すので、
# どちらのペアも、もう一方への答えに干渉（interference）してしまいます。
# 出力の「wanted」は、答えてほしい値です。

# %%
k, v = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 1.0])
k2, v2 = torch.tensor([0.6, 0.8]), torch.tensor([0.0, 1.0])
M = torch.outer(v, k) + torch.outer(v2, k2)
print("answer to the first key: ", M @ k, "  wanted:", v)
print("answer to the second key:", M @ k2, "  wanted:", v2)

# %% [markdown] lang="en"
# So let the memory look at what is already there.
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

# %% [markdown] lang="ja" en="d540f422"
# そこで、メモリの中身を見てから書くことにします。
#
# ## 2. 書き込みは勾配降下の1ステップ
#
# あるペアについてメモリがどれだけ間違っているかを数値で表し、間違いが減る向きに1ステップ進みます。
# 間違いの大きさを表すのが論文の式(12)、連想損失（associative loss）です。
#
# $$\ell(M; k, v) = \lVert M(k) - v \rVert^2$$
#
# 和は、値のすべての成分についてとります。
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
# 書き込みが、すでに入っているものを見て修正したので、2つ目の答えは正確になりました。
# その代わり、今度は1つ目のペアの答えがずれています。これを直すために、両方を何度か書き直してみましょう。

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
# ペアが2つで列も2つなので、2×2の行列は両方のペアを保持でき、
# 書き込みをくり返せば、そのような行列にたどり着きます。
# **読み出しは順伝播（forward pass）、書き込みは訓練の1ステップです。**
# このメモリの考え方はこれに尽き、どんなネットワークにも使えます。
#
# ## 3. 勾配を手で求める
#
# 行列の場合に、$e = 2(Mk - v)$ を誤差（error）と呼ぶことにします。
# 損失は $\sum_i (\sum_j M_{ij} k_j - v_i)^2$ で、
# これを $M_{ij}$ で微分すると $2(Mk - v)_i \, k_j$ となるので、次の式が得られます。
#
# $$\nabla \ell = e \, k^\top, \qquad e = 2 (M k - v)$$
#
# つまり、勾配は「戻ってきたもの」（誤差）と「入っていったもの」（キー）の外積です。
# ここでいう外積は、3次元ベクトルの外積（cross product）ではなく、
# 2つのベクトルから行列を作る積のことで、直積とも呼ばれます。
# 係数の2は2乗の微分から出たもので、ここでもライブラリでも残しておきます（この教材の決定D8）。
# 成分についての平均をとるコードもありますが、その場合は1ステップが小さくなります。

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
# Put this gradient into the write of section 2, and it becomes
#
# $$M \leftarrow M + \beta \, (v - M k) \, k^\top, \qquad \beta = 2 \theta$$
#
# This is lesson 01's *delta rule*, the rule by which DeltaNet's layers write: what the memory should say, less what it
# says already, is added.

# %% [markdown] lang="ja" en="f2edf501"
# この勾配を2節の書き込みに代入すると、次の式になります。
#
# $$M \leftarrow M + \beta \, (v - M k) \, k^\top, \qquad \beta = 2 \theta$$
#
# これはレッスン01の**デルタ則**（delta rule）で、DeltaNet の層も、この規則で書き込みます。
# 足すのは、メモリが答えるべき値から、すでに答えている値を引いた残りです。

# %%
delta_rule = M + 2 * 0.3 * torch.outer(v - M @ k, k)
same = torch.allclose(write(M, k, v, theta=0.3), delta_rule, atol=1e-6)
print("a write with theta 0.3 is the delta rule with beta 0.6:", same)
assert same

# %% [markdown] lang="en"
# ### Exercise 1: a step that fits
#
# One write moves the answer to $k$ from $Mk$ to $(M - \theta\, e k^\top) k = Mk - 2\theta\,(k^\top k)(Mk - v)$.
# Which $\theta$ makes the new answer exactly $v$, whatever the key's length? (In lesson 01 it was $\beta$,
# without the factor 2.)

# %% [markdown] lang="ja" en="a259a948"
# ### 演習1：ちょうど届くステップ幅
#
# 1回の書き込みで、$k$ への答えは $Mk$ から
# $(M - \theta\, e k^\top) k = Mk - 2\theta\,(k^\top k)(Mk - v)$ に変わります。
# 新しい答えがちょうど $v$ になるのは、$\theta$ がいくつのときでしょうか。
# キーの長さ（ノルム）が1でなくても成り立つ式を考えてください。
# （レッスン01では、係数2のない $\beta$ について考えました。）


# %%
def step_for_one_write(k):
    return ...  # theta, from the key k, a vector


exercises.ONE_WRITE.check(step_for_one_write)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# The new error is `(1 − 2θ k·k)` times the old one. Make the bracket zero.
#
# </details>

# %% [markdown] lang="ja" en="844a909e"
# <details><summary>ヒント</summary>
#
# 新しい誤差は、元の誤差の `(1 − 2θ k·k)` 倍です。括弧の中をゼロにします。
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
# With this step the write is $M \leftarrow M + (v - M k)\, k^\top / (k^\top k)$. Numerical analysts know it as Kaczmarz's
# method (1937), engineers as normalised LMS. Of all matrices that answer $v$ to $k$ it picks the one nearest to $M$;
# the cell checks that against the pseudo-inverse of $k$. It corrects the answer to $k$ and disturbs as little else as
# possible.
#
# Titans gives every key the length 1, so $\theta = \tfrac12$ stores a pair in one write. What do larger steps do?

# %% [markdown] lang="ja" en="ae3a445a"
# このステップ幅では、書き込みは $M \leftarrow M + (v - M k)\, k^\top / (k^\top k)$ となります。
# 数値解析ではカチマルツ（Kaczmarz）法（1937年）、工学では正規化 LMS（normalised LMS）として知られる更新です。
# $k$ に $v$ と答える行列のうち、$M$ に最も近いものが選ばれます（次のセルで、$k$ の擬似逆行列を使って確かめます）。
# つまり、$k$ への答えを正しながら、ほかへの影響を最小限にとどめるのです。
#
# Titans では、どのキーも長さを1にそろえるので、$\theta = \tfrac12$ なら1回の書き込みでペアを記憶できます。
# それより大きなステップでは、どうなるでしょうか。
# 出力の「errors」は、書き込むたびの誤差の長さです。

# %%
long_key = torch.tensor([2.0, -1.0])
inverse = torch.linalg.pinv(long_key[:, None])[0]
nearest = M + torch.outer(v - M @ long_key, inverse)
after = write(M, long_key, v, theta=1 / (2 * (long_key @ long_key)))
print("nearest matrix that answers v:", torch.allclose(after, nearest))
assert torch.allclose(after, nearest, atol=1e-5)

for theta in (0.5, 1.0, 1.1):
    written, errors = M, []
    for _ in range(4):
        written = write(written, k, v, theta)
        errors.append(round((written @ k - v).norm().item(), 2))
    print(f"theta {theta}: errors {errors}")

# %% [markdown] lang="en"
# At $\theta = 1$ the answer swings past the value by as much as it was away from it, for ever, and beyond 1 each
# repetition makes it worse.
#
# ## 4. A deeper memory
#
# A matrix is a linear memory: the answer to a sum of keys is the sum of the answers. The paper's memory is a small
# multilayer perceptron, without biases. With two layers:
#
# $$M(x) = W_2\, \sigma(W_1 x)$$
#
# Here $\sigma$ is GELU, and the hidden layer is four times as wide as a key (`expansion=4`). The library's
# `DeepMemory` is just that. Its weights are not fixed parameters that you call but are handed in: **the weights are the
# state**, and every sequence has its own.

# %% [markdown] lang="ja" en="28b1abb1"
# $\theta = 1$ では、答えが値を通り過ぎて元と同じだけ離れ、何度くり返しても行ったり来たりします。
# 1を超えると、くり返すたびに誤差が大きくなり、発散します。
#
# ## 4. 深いメモリ
#
# 行列は線形のメモリなので、キーの和に対する答えは、それぞれのキーに対する答えの和になります。
# 一方、論文のメモリはバイアスのない小さな多層パーセプトロン（MLP）で、2層なら次の式です。
#
# $$M(x) = W_2\, \sigma(W_1 x)$$
#
# ここで $\sigma$ は GELU で、隠れ層の幅（width）はキーの次元の4倍です（`expansion=4`）。
# ライブラリの `DeepMemory` は、まさにこの式です。
# ただし、重みは、モジュールに固定されたパラメータではなく、読み書きのたびに外から渡します。
# **重みが状態**（state）であり、系列（sequence）は、それぞれ自分の重みを持ちます。

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
# lot: lesson 05 uses it to compute a whole chunk of writes at once.
#
# ### Exercise 2: back-propagation with your own hands
#
# Fill in the two gradients. `gelu_slope` gives you $\sigma'$.

# %% [markdown] lang="ja" en="ccd2c1dc"
# 読み出し（retrieval）は論文の式(15)、つまりクエリを入力とする順伝播 $y = M(q)$ です。読み出しは何も変えません。
#
# 次は書き込みで、連鎖律を2つの層にわたって使います。
# まず、順伝播の途中で出てくる $h_1 = W_1 k$ と $a_1 = \sigma(h_1)$ を書き留め、そこから逆向きにたどります。
#
# $$e_2 = 2\,(W_2 a_1 - v), \qquad e_1 = \sigma'(h_1) \odot (W_2^\top e_2)$$
#
# $$\nabla_{W_2} \ell = e_2\, a_1^\top, \qquad \nabla_{W_1} \ell = e_1\, k^\top$$
#
# どの層の勾配も、やはり「戻ってきたもの」と「入っていったもの」の外積です。
# これ自体は小さな事実ですが、多くのことの土台になっていて、
# チャンク（chunk）全体の書き込みを一度に計算するときにも使います（レッスン05）。
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
# ### Where keys and values come from
#
# So far keys and values were simply there. In a model every token is a vector $x_t$, and equation 11 projects it with
# two matrices; a third makes the query:
#
# $$k_t = x_t W_K, \qquad v_t = x_t W_V, \qquad q_t = x_t W_Q$$
#
# These matrices are *not* written. A write is a gradient step on $M$ alone; could it move $W_V$ too, the loss would be
# zero as soon as all values are zero, and nothing would be stored. The $W$ are ordinary parameters of the model, trained
# before by the loss of its predictions, whose gradient reaches $W_K$ and $W_V$ *through* the writes. That is the *outer loop*, the
# subject of lesson 04. (The layer also passes what comes out of the projections through a short convolution and an
# activation function, and gives keys and queries the length 1.)

# %% [markdown] lang="ja" en="ad7c9266"
# ### キーと値はどこから来るのか
#
# ここまで、キーと値は最初からあるものとしてきました。
# モデルの中では、各トークン（token）はベクトル $x_t$ で、
# 式(11)では、これを2つの行列で射影（projection）してキーと値を作り、3つ目の行列でクエリを作ります。
#
# $$k_t = x_t W_K, \qquad v_t = x_t W_V, \qquad q_t = x_t W_Q$$
#
# 書き込みは $M$ だけについての勾配ステップなので、これらの行列は**変わりません**。
# もし $W_V$ も動かせるなら、値をすべてゼロにするだけで損失がゼロになり、何も記憶されないでしょう。
# $W$ はモデルの普通のパラメータで、前もって、モデルの予測の損失によって訓練されています。
# その勾配は、書き込みを**通り抜けて** $W_K$ と $W_V$ に届きます。これが外側のループ（outer loop）で、これについてはレッスン04で扱います。
# （なお、この層では、射影したものをさらに短い畳み込み（convolution）と活性化関数に通し、
# キーとクエリの長さを1にそろえます。）
#
# 出力の最後の行（gradient of an outer loss at W_K）は、外側のループの損失の勾配が W_K に届いたときの大きさです。

# %%
layer = NeuralMemory(dim=8)
x = torch.randn(1, 20, 8)
W_K, first = layer.W_K.weight.clone(), layer.initial_state(1).weights
y, later = layer(x)
moved = (later.weights[-1] - first[-1]).norm().item()
print(f"reading 20 tokens moved the memory's last layer by {moved:.2f}")
print("and W_K not at all:", torch.equal(W_K, layer.W_K.weight))

y.square().sum().backward()  # an outer loss: any function of the answers
reached = layer.W_K.weight.grad.norm().item()
print(f"gradient of an outer loss at W_K: {reached:.3f}")
assert torch.equal(W_K, layer.W_K.weight)
assert min(moved, reached) > 0

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
# `DeepMemory` は、ランダムな $W_1$ と、$W_2 = 0$ から始まるので、
# 空のメモリは何も答えず、$M_0(x) = 0$ となります（決定D6）。
# このとき最初の誤差は、符号と係数2を除けば、値そのものです。
#
# **実行する前に予想してみましょう。**
# このまっさらなメモリに、ペアを1つ書き込みます。2つの層のうち、変わるのはどちらでしょうか。
# 出力の「size of the surprise」は、その層での驚きの大きさです。

# %%
predict("...")

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
# \sigma(0) = 0$, so the gradient of $W_2$ is zero too, and the memory stays empty for ever. And why at random? Give all
# hidden units the *same* weights, and they do the same for ever. The last lines write two pairs with perpendicular keys
# 500 times each, with random rows of $W_1$, then with equal ones.

# %% [markdown] lang="ja" en="9272be36"
# 変わるのは $W_2$ だけです。誤差が $W_1$ に届くには $W_2$ を**通って**戻らなければならないのに、
# $W_2$ はゼロなので、$e_1 = \sigma' \odot (W_2^\top e_2) = 0$ となります。
# 2回目の書き込みからは、$W_1$ も学習します。
#
# では、なぜ全部をゼロから始めないのでしょうか。
# $W_1 = 0$ かつ $W_2 = 0$ では、学習の手がかりがないからです。
# $a_1 = \sigma(0) = 0$ なので $W_2$ の勾配もゼロになり、メモリはいつまでも空のままです。
# それなら、なぜランダムにするのでしょうか。
# すべての隠れユニットに**同じ**重みを与えると、どのユニットも、いつまでも同じことしかしません。
# 次のセルの最後では、直交するキーを持つ2つのペアを500回ずつ書き込みます。
# $W_1$ の行がランダムな場合（random rows）と、すべて同じ場合（equal rows）の、2つのペアの誤差を比べてください。

# %%
zeros = [torch.zeros_like(weight) for weight in state.weights]
inputs, errors = memory.errors(zeros, k3, v3)
nothing = [
    (e.mT @ a).norm().item() for a, e in zip(inputs, errors, strict=True)
]
print("surprise of an all-zero memory:", nothing)

rows = {"random": torch.randn(32, 8), "equal": torch.randn(1, 8).repeat(32, 1)}
left = {name: trials.errors_of_two_pairs(W) for name, W in rows.items()}
for name, each in left.items():
    print(f"{name} rows: errors", [round(error, 3) for error in each])
assert nothing == [0, 0]
assert max(left["random"]) < 1e-6 < 0.2 < max(left["equal"])

# %% [markdown] lang="en"
# With equal rows one of the two pairs stays wrong, however often both are written. So it is the random $W_1$ that tells keys
# apart. In a trained model $M_0$ is itself learned (lesson 04).
#
# The picture follows one pair through three writes, each with a small step. Red is positive, blue negative. Every column
# has one colour scale, written above it, and the size (the root of the sum of squares) stands below each panel. Look at
# the gradients: each is one column pattern times one row pattern, because an outer product has rank 1. That of $W_2$
# shrinks as the error does; that of $W_1$ begins at zero.

# %% [markdown] lang="ja" en="92ca221f"
# 行がすべて同じだと、何度書き込んでも、2つのペアの片方は間違ったままです。
# つまり、キーを区別しているのはランダムな $W_1$ です。
# 学習済みのモデルでは、$M_0$ そのものも学習されています（レッスン04）。
#
# 次の図は、1つのペアを小さなステップで3回書き込む様子です。
# 赤は正、青は負を表します。色の範囲は列ごとに同じで、列の上に示してあります。
# パネルの下の「大きさ」は、成分の2乗和の平方根です。
# 勾配をよく見てください。外積の階数（rank）は1なので、どの勾配も縦の模様1つと横の模様1つの積になっています。
# $W_2$ の勾配は誤差とともに小さくなり、$W_1$ の勾配はゼロから始まります。

# %%
pictures.first_writes()

# %% [markdown] lang="en"
# ### A deep memory that shrinks
#
# Lesson 03 lets the memory forget: before each write its weights shrink by the factor $1 - \alpha$. Equation 13 says so
# for the whole memory, hidden layers and all. Take a memory that has learned something, so that neither layer is zero,
# and let it forget until every weight is half of what it was. Then until 4,096 tokens have passed at $\alpha = 0.002$.
#
# **Predict before you run.** What is left of its answers, and of the gradients of the next pair? And what if only the
# last layer shrinks? The last number is the error of a pair after one write, by the step that stores a pair in a fresh
# memory.

# %% [markdown] lang="ja" en="0429d4ef"
# ### 縮んでいく深いメモリ
#
# レッスン03では、メモリに忘却（forgetting）が加わり、書き込む前に、毎回、重みに $1 - \alpha$ を掛けて縮めます。
# 式(13)のとおりなら、隠れ層も含めてメモリ全体が縮みます。
# すでに何かを学んでいて、どの層もゼロではないメモリを用意し、
# 重みがすべて半分になるまで忘れさせてみましょう。
# 次に、$\alpha = 0.002$ で4,096トークンが過ぎるまで忘れさせます。
#
# **実行する前に予想してみましょう。**
# メモリの答えと、次のペアの勾配は、元の何倍になるでしょうか。最後の層だけが縮む場合はどうでしょうか。
#
# 出力の keep は重みの倍率、both layers は両方の層が縮む場合、last layer は最後の層だけが縮む場合です。
# answers は答えの大きさ、gradients は2つの層の勾配の大きさで、どれも縮む前との比です。
# 最後の after a write は、まっさらなメモリならペアを記憶できるステップ幅で1回書き込んだ後の、そのペアの誤差です。

# %%
predict("...")

# %%
W1, W2 = torch.randn(1, 1, 32, 8) * 0.7, torch.randn(1, 1, 8, 32) * 0.35
shrunk = {}
for keep in (0.5, (1 - 0.002) ** 4096):
    shrunk["both layers", keep] = [keep * W1, keep * W2]
    shrunk["last layer ", keep] = [W1, keep * W2]
    for layers in ("both layers", "last layer "):
        weights = shrunk[layers, keep]
        answer, *slopes = trials.sizes(weights) / trials.sizes([W1, W2])
        error = trials.error_after_a_write(weights, [W1, W2])
        print(
            f"keep {keep:.5f}, {layers}: answers × {answer:.1e}, gradients "
            f"× {slopes[0]:.1e}, {slopes[1]:.1e}; after a write {error:.3f}"
        )

# %% [markdown] lang="en"
# If both layers shrink, half the weights make less than a quarter of the answers, since the factors of the layers
# multiply. After 4,096 tokens *both* gradients are ten thousand times smaller, and a write changes nothing: it is the
# all-zero memory again, reached slowly. If the last layer alone shrinks, answers halve exactly, and the memory goes back
# to being a fresh one: $W_2$ near zero, $W_1$ as it was, ready to be written. (The gradient of $W_1$ is small then too, as
# at any first write.)
#
# Does that matter in a trained model? Two models that the course ships were trained alike, on pairs told in one stretch
# or scattered in noise; one forgets in both layers of its memory, the other in the last alone. Each reads 1,024 tokens
# of noise *first*; then six pairs are told in one stretch, 56 tokens of noise follow, and the values are asked for. In
# four more runs, one layer of the first model's memory is put back to what it was at the start: $W_1$ just before the
# telling, or $W_2$, or of $W_1$ only its size, or $W_1$ just *after* the telling.

# %% [markdown] lang="ja" en="389047fa"
# 両方の層が縮むと、層ごとの倍率が掛け合わされるので、重みが半分なら答えは4分の1より小さくなります。
# 4,096トークンの後では、**どちらの**勾配も1万分の1ほどで、書き込んでも何も変わりません。
# 時間をかけて、全部がゼロのメモリに戻ってしまったのです。
# 最後の層だけが縮む場合は、答えがちょうど半分になり、メモリはまっさらな状態に戻っていきます。
# $W_2$ はゼロに近づきますが、$W_1$ は元のままなので、いつでも書き込めます
# （$W_1$ の勾配もこのときは小さくなりますが、最初の書き込みではいつもそうです）。
#
# 学習済みのモデルでも、この違いは問題になるでしょうか。
# この教材には、ペアが1か所でまとめて伝えられる系列と、雑音（noise）の中に散らばって伝えられる系列の両方で
# 同じように訓練した2つのモデルが付いていて、
# 一方はメモリの両方の層で、もう一方は最後の層だけで忘れます。
# どちらにも、**まず**雑音を1,024トークン読ませます。
# その後で6つのペアを1か所でまとめて伝え、さらに雑音を56トークン読ませてから、値をたずねます。
# 加えて、両方の層で忘れるモデルについては、
# メモリの1つの層だけを系列の最初の重みに戻す実験を4つします。
# ペアを伝える直前に $W_1$ を戻すもの、同じところで $W_2$ を戻すもの、同じところで $W_1$ の大きさだけを戻すもの、
# そして、ペアを伝えた**直後**に $W_1$ を戻すものです。
#
# 出力は正解率です。put back は伝える直前に戻した場合、its size はそこで大きさだけを戻した場合、too late は伝えた直後に戻した場合を表します。

# %% tags=["nbval-ignore-output"]
both, last = (
    load_checkpoint(f"recall-scattered/{name}")[0]
    for name in ("deep-all-layers-forget", "deep")
)
right = {
    "both layers forget": trials.right_after_noise(both),
    "last layer forgets": trials.right_after_noise(last),
    "both, W_1 put back": trials.right_after_noise(both, 0),
    "both, W_2 put back": trials.right_after_noise(both, 1),
    "both, W_1 its size": trials.right_after_noise(both, 0, only_size=True),
    "both, W_1 too late": trials.right_after_noise(both, 0, True),
}
for name, share in right.items():
    print(f"{name}: {share:.0%} right")

# %% [markdown] lang="en"
# The pairs came after the noise, so nothing of them can have been forgotten in it. What is lost is the ability to learn
# them, and it hangs on $W_1$: put back in time, it brings nearly all answers back; $W_2$ does not. Scaled
# to its old size alone, $W_1$ brings back 64 %: most of what it lacked, not all, was size. And put back after the telling
# it helps little, so it is the writing that had failed, not the reading. Therefore in this library $\alpha$ acts on the last
# layer alone (decision D16); `forget_layers="all"` is the paper's form. The whole table is among the
# [results](../RESULTS.md#recall-scattered), under `recall-scattered`.

# %% [markdown] lang="ja" en="598c659d"
# ペアを伝えたのは雑音の後なので、雑音の間にペアを忘れたわけではありません。
# 失われたのはペアを学ぶ力で、それを左右するのは $W_1$ です。
# 伝える前にこれを戻せば、ほとんどすべてに正しく答えられますが、$W_2$ を戻しても効果はありません。
# $W_1$ の大きさだけを戻すと64%なので、足りなかったのは、全部ではないにしても、おもに大きさです。
# また、伝えた後で戻してもあまり効果がないので、うまくいかなかったのは読み出しではなく、書き込みのほうです。
# そこで、このライブラリでは、$\alpha$ を最後の層だけに使います（決定D16）。
# `forget_layers="all"` とすると論文の形になります。
# 全体の表は、[すべての結果](../RESULTS_ja.md#recall-scattered)の `recall-scattered` にあります。

# %%
small = {name: trials.sizes(weights) for name, weights in shrunk.items()}
whole = trials.sizes([W1, W2])
assert small["both layers", 0.5][0] < whole[0] / 4
assert small["both layers", keep][1:].max() < 1e-3 * whole[1:].min()
assert small["last layer ", keep][2] > whole[2] / 4
assert right["both layers forget"] < 0.3 < 0.9 < right["last layer forgets"]
assert right["both, W_2 put back"] < 0.3 < 0.9 < right["both, W_1 put back"]
assert right["both, W_1 too late"] < 0.4
assert 0.5 < right["both, W_1 its size"] < 0.8

# %% [markdown] lang="en"
# ## 6. Interference
#
# Many pairs share the same weights, so a write moves the answers to other keys too. Below, a memory of 8 features is
# told one pair A, then 30 other random pairs, one write each. After each write we ask for A again, once with a matrix
# and once with a two-layer memory.

# %% [markdown] lang="ja" en="42e75b1f"
# ## 6. 干渉
#
# たくさんのペアが同じ重みを共有しているので、1つ書き込むと、ほかのキーへの答えも動きます。
# これが干渉（interference）です。
#
# 次の実験では、8次元のメモリに、まずペアAを伝え、続けて、ランダムなペアを30個伝えます。書き込みは1回ずつです。
# 書き込みのたびにAについてたずね、これを行列と2層のメモリで比べます。

# %%
pictures.interference()

# %% [markdown] lang="en"
# Neither holds A for long, and both end up *worse than an empty memory*. Three questions, each with its experiment:
#
# - Is A merely gone, or have the others left something in its place? Write the same other keys with values of *zero*:
#   A fades as before, but nothing can be left behind.
# - Is the overlap of the keys to blame? Take perpendicular keys: A and the seven others that fit into 8 dimensions.
# - In more dimensions random keys overlap less. How many others does A survive with 8 features, with 16, with 32?

# %% [markdown] lang="ja" en="1a9feb46"
# どちらのメモリも、Aを長くは保てず、最後には**空のメモリよりも悪く**なります。
# そこで、3つの疑問を実験で確かめましょう。
#
# - Aが消えただけでしょうか。それとも、ほかのペアが代わりに何かを残したのでしょうか。
#   ほかのキーをそのまま使い、値を**ゼロ**にして書き込んでみます。Aは同じように薄れますが、後には何も残りません。
# - 原因はキーの重なりでしょうか。
#   互いに直交するキーを使ってみます（8次元なので、Aのほかに7つまでです）。
# - 次元が高いほど、ランダムなキーの重なりは小さくなります。
#   8次元、16次元、32次元で、Aはほかのペアをいくつまで書き込まれても残るでしょうか。
#
# 出力は順に、深さ（depth）、値をゼロにした場合のAの誤差の最大値、直交するキーを7つ書き込んだ後のAの誤差、
# そして8、16、32次元で、空のメモリより悪くなるまでに書き込んだペアの数です。

# %%
other = {}
for depth in (1, 2):
    silent = trials.forgetting_of_first_pair(depth, others_say=0).max()
    apart = trials.forgetting_of_first_pair(depth, 7, perpendicular=True)[-1]
    curves = [
        trials.forgetting_of_first_pair(depth, 3 * dim, dim)
        for dim in (8, 16, 32)
    ]
    worse = [int((curve > 1).nonzero()[0]) for curve in curves]
    print(
        f"depth {depth}: values of zero, at most {silent:.2f}; perpendicular "
        f"keys {apart:.2f}; worse than an empty memory after {worse}"
    )
    other[depth] = silent, apart, worse

# %% [markdown] lang="en"
# With values of zero the error never passes 1, that of an empty memory. So what makes it worse than empty is what the
# *others' values* left. With perpendicular keys the matrix loses nothing of A: there the overlap was all. The deep memory
# loses some even so, for behind $W_1$ and GELU perpendicular keys are perpendicular no longer. And with more features A
# survives more others, about as many as a key has features, with depth 2 up to half as many again. But depth does not
# protect a pair that is never repeated. (Real models use 64 features and more per head.)
#
# ## 7. What depth buys
#
# Now let the memory write a set of pairs again and again, all of them in each write, as a network is trained on a data
# set (with momentum 0.9, which lesson 03 explains). How many can it hold in the end? A matrix with $d$ columns can
# answer $d$ independent keys exactly. With more pairs than that something has to give: for random pairs a share of
# about $1 - d/n$ of the error has to stay.
#
# **Predict before you run.** $d = 8$, $n = 16$ pairs. Where does the matrix stop, and where does a two-layer memory?

# %% [markdown] lang="ja" en="c3aae0c2"
# 値をゼロにすると、Aの誤差は空のメモリの1を超えません。
# したがって、空のメモリより悪くなるのは、**ほかのペアの値**が残したもののためです。
# 直交するキーなら、行列はAを少しも失わないので、行列での原因はキーの重なりだけでした。
# 一方、深いメモリは、$W_1$ と GELU を通ると直交していたキーが直交しなくなるので、それでもいくらか失います。
# 次元が高いほど、Aはより多くのペアに耐えます。その数はおよそキーの次元と同じで、深さ2なら最大でその1.5倍ほどです。
# それでも、ペアが一度もくり返されなければ、メモリを深くしても、そのペアが失われるのを防ぐことはできません。
# （実際のモデルは、ヘッド（head）あたり64次元以上を使います。）
#
# ## 7. 深さで得られるもの
#
# 今度は、データセットでネットワークを訓練するときのように、
# ひとそろいのペアを毎回すべてまとめて書き込み、これを何度もくり返します。
# モーメンタム（momentum）は0.9とします（レッスン03で説明します）。
# 最終的に、いくつのペアを保持できるでしょうか。
# $d$ 列の行列は、線形独立な $d$ 個のキーに正確に答えられますが、ペアがそれより多いと、どこかにしわ寄せがいきます。
# ランダムなペアなら、誤差のうち、およそ $1 - d/n$ の割合がどうしても残ります。
#
# **実行する前に予想してみましょう。**
# $d = 8$、$n = 16$ ペアとします。行列の誤差はどこで止まるでしょうか。2層のメモリではどうでしょうか。
# 出力は、深さ（depth）ごとの重みの数（weights）と、20回、200回書き込んだ後の誤差（error）です。

# %%
predict("...")

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
# The matrix stops near $1 - 8/16 = 0.5$. The deeper memories go on falling. Would the matrix get there with more
# writes? The best matrix there is, by least squares, says no:

# %% [markdown] lang="ja" en="6ff34243"
# 行列の誤差は $1 - 8/16 = 0.5$ の近くで止まり、深いメモリの誤差は、その後も下がり続けます。
# 行列も、もっと何回も書き込めば下がるのでしょうか。最小2乗法で求めた最良の行列が、その答えです。
# 出力の「best matrix」はその行列の誤差、「written 200 times」は200回書き込んだ行列の誤差です。

# %%
keys, values = trials.random_pairs(16, dim=8)
best = torch.linalg.lstsq(keys, values).solution
lowest = (keys @ best - values).square().sum(1).mean()
matrix, deep, deeper = (
    trials.write_repeatedly(depth=depth, expansion=4, pairs=16).errors.mean(1)
    for depth in (1, 2, 3)
)
print(f"best matrix: {lowest:.3f}; written 200 times: {matrix[200]:.3f}")
assert abs(matrix[200] - lowest) < 0.001
assert 0.4 < lowest < 0.55
assert max(deep[200], deeper[200]) < 0.1

# %% [markdown] lang="en"
# Two remarks. First, the deep memory has more weights, and *per weight* it is no better: a pair has 8 numbers, so 64
# weights cannot hold more than 8 random pairs exactly, in a matrix or in any other network. But a matrix cannot be given more
# weights without keys of more features, and an MLP can.
#
# Second, here the gain needs **many writes**. At test time a model sees most pairs once. What learned gates, learned
# projections and a learned $M_0$ can make of a single write is the subject of lesson 04. A first answer is among the
# [results](../RESULTS.md#recall-many), under `recall-many`: trained for it, a deep memory holds more pairs than the matrix has room
# for, although each is told once.
#
# ### The memory lab
#
# Move the controls (where no kernel runs, you see two settings below one another). A few things to find out:
#
# 1. With depth 1, where is the largest number of pairs that still reaches error 0? Does the width change anything?
# 2. With depth 2 and 48 pairs, is it better to widen the memory or to deepen it?
# 3. At few writes (5 to 20), which depth is ahead? With 8 pairs, and with 24?

# %% [markdown] lang="ja" en="728170d3"
# ここで、2点だけ断っておきます。
#
# 1つ目は、重みの数です。深いメモリは重みも多いので、**重み1個あたり**で比べれば、行列よりよいわけではありません。
# 1つのペアは8個の数でできているので、64個の重みでは、行列でもほかのネットワークでも、
# ランダムなペアを8つまでしか正確には保持できません。
# ただし、行列の重みを増やすにはキーの次元を増やすしかないのに対し、MLP なら、キーはそのままで重みを増やせます。
#
# 2つ目は、書き込みの回数です。ここでこの効果を得るには**何回もの書き込み**が必要ですが、
# テスト時（test time）には、モデルはほとんどのペアを1回しか見ません。
# 学習されたゲート（gate）、学習された射影、学習された $M_0$ があれば、1回の書き込みでどこまでできるのかが、
# レッスン04のテーマです。最初の答えは、[すべての結果](../RESULTS_ja.md#recall-many)の `recall-many` にあります。
# そのように訓練すれば、深いメモリは、どのペアも1回しか伝えられなくても、行列には入りきらない数のペアを保持します。
#
# ### メモリ実験室
#
# コントロールを動かして、次のことを調べてみましょう
# （カーネルが動いていないときは、2通りの設定が上から順に並びます）。
#
# 1. 深さ1で、誤差が0になるペア数は最大でいくつですか。幅を変えると何か変わりますか。
# 2. 深さ2で48ペアのとき、幅を広げるのと、層を増やすのとでは、どちらがよいですか。
# 3. 書き込みが少ないとき（5〜20回）、誤差がいちばん小さいのは、どの深さですか。8ペアと24ペアで比べてください。
#
# スライダーの「幅」は、隠れ層がキーの何倍かを表します。

# %%
lab = memory_lab()
lab

# %% [markdown] lang="en"
# <details><summary>What you should have seen</summary>
#
# 1. With 8 pairs: there are 8 columns. Width does nothing at depth 1, because there is no hidden layer.
# 2. After 200 writes, with 512 weights each, the wide one: 0.44 at depth 2 and width 4, 0.60 at depth 3 and width 2. At
#    the same width 4, depth 3 is ahead, with three times as many weights.
# 3. At width 4: with 8 pairs the matrix (only at 15 writes depth 2 is a little better). With 24 it is ahead at 5 writes
#    by a hair, and depth 2 from 10 writes on. Depth 3 is ahead that early only if it is wide: at width 8, with 24 pairs,
#    from 10 writes on.
#
# </details>
#
# ## 8. Shapes, heads, and what it costs
#
# One memory belongs to **one sequence and one head**. A batch of 4 sequences in a layer with 2 heads has 8 memories,
# and none of them sees another. The weights are the state, so a layer's state is as large as its memories together:

# %% [markdown] lang="ja" en="9ac5a95d"
# <details><summary>調べた結果</summary>
#
# 1. 列が8つあるので、8ペアです。深さ1には隠れ層がないので、幅を変えても何も変わりません。
# 2. 200回書き込んだ時点で、重みの数が同じ512個なら、幅を広げたほう（深さ2、幅4）が0.44で、層を増やしたほう（深さ3、幅2）の0.60より
#    誤差が小さくなります。幅が同じ4なら、深さ3のほうが小さくなりますが、重みの数は3倍です。
# 3. 幅4で比べます。8ペアなら行列です（15回の時点だけは、深さ2のほうがわずかに小さくなります）。
#    24ペアでは、5回の時点では行列の誤差がわずかに小さく、10回からは深さ2の誤差のほうが小さくなります。
#    これほど早いうちに深さ3が一番になるのは、幅が広いとき（24ペアで幅8なら、10回から）だけです。
#
# </details>
#
# ## 8. 形、ヘッド、コスト
#
# 1つのメモリは、**1つの系列の1つのヘッド**に属します。
# 4系列のバッチ（batch）を2ヘッドの層で処理すると、メモリは8個になり、どのメモリにも、ほかのメモリは見えません。
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
# 状態の数値は、モーメンタムの S を含めても131,072個で、1トークンでも100万トークンでも、この数は変わりません。
# 一方、アテンションの状態はテキストとともに大きくなり、
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
# of its input, and at zero input its slope is $1/\sqrt{\epsilon}$, about 316. The cell compares the error that a first
# write would send back, with LN and without it, for 1,000 random pairs.

# %% [markdown] lang="ja" en="29a62cce"
# ## 9. メモリに残差接続を加える
#
# 論文の後の版では、残差接続（residual）とレイヤー正規化（layer normalisation）を加えた
# $M(x) = x + \mathrm{LN}(W_2\, \sigma(W_1 x))$ を使います。`DeepMemory(..., residual=True)` がこれにあたります。
# この形は、$W_2 = 0$ から始めることができません。
# LN は入力をその大きさで割るので、入力がゼロのところでは、LN の傾きが $1/\sqrt{\epsilon}$、つまり約316になるからです。
# 次のセルでは、最初の書き込みで戻ってくる誤差の大きさを、LN がある場合とない場合とで、
# 1,000個のランダムなペアについて比べます。

# %%
h = torch.zeros(8, requires_grad=True)
slope = torch.autograd.functional.jacobian(lambda h: F.layer_norm(h, (8,)), h)
steepest = torch.linalg.matrix_norm(slope, 2).item()
print("largest slope of LN at zero:", round(steepest))

fresh = DeepMemory(dim=8, residual=True)
keys, values = (part[None] for part in trials.random_pairs(1000, dim=8))
zeroed = [fresh.weights[0], torch.zeros_like(fresh.weights[1])]
with_norm = fresh.errors(zeroed, keys, values)[1][-1].norm(dim=-1)
without = (2 * (keys - values)).norm(dim=-1)  # M(k) = k + 0
ratio = (with_norm / without).mean().item()
print(f"error of a first write, with LN / without: {ratio:.0f}")
assert 250 < ratio < steepest
assert fresh.weights[-1].any()  # the library does not start it at zero

# %% [markdown] lang="en"
# Some 300 times too large. So with a residual the library starts the last layer at random too.
#
# ## Summary
#
# - A memory is a small network. **Read**: a forward pass, $y = M(q)$. **Write**: one gradient step on
#   $\lVert M(k) - v \rVert^2$, with respect to the memory's weights; the projections that make $k$, $v$ and $q$ are
#   trained elsewhere.
# - A matrix that adds is linear attention; one that is written by the gradient follows the delta rule.
# - The gradient of each layer is an outer product $e\,a^\top$: error times input.
# - A fresh memory answers zero and learns in its last layer first. All-zero weights would never learn, and a memory
#   that shrinks in all its layers ends up near them.
# - Writes interfere, more so if keys are alike. A matrix holds as many pairs as a key has features; depth goes beyond
#   that, if it may write often, or was trained to make the most of a single write.
# - The state is the weights: as large for a million tokens as for one.
#
# In **lesson 03** the writes come as a stream, with step sizes, momentum and forgetting.
#
# ## References
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663), section 3.1, equations 11, 12, 13 and 15.
# - A. Katharopoulos et al.: *Transformers are RNNs*, arXiv [2006.16236](https://arxiv.org/abs/2006.16236): linear
#   attention.
# - B. Widrow, M. E. Hoff: *Adaptive switching circuits*, 1960: the delta rule, $M \leftarrow M - \theta\, e k^\top$.
# - S. Yang et al.: *Parallelizing Linear Transformers with the Delta Rule over Sequence Length*, arXiv
#   [2406.06484](https://arxiv.org/abs/2406.06484): DeltaNet.
# - S. Kaczmarz: *Angenäherte Auflösung von Systemen linearer Gleichungen*, 1937: the step of exercise 1.
# - Y. Sun et al.: *Learning to (Learn at Test Time)*, arXiv [2407.04620](https://arxiv.org/abs/2407.04620): networks as
#   states, written by gradient steps.

# %% [markdown] lang="ja" en="2805c093"
# 戻ってくる誤差は、LN がない場合の約300倍にもなります。そこで、残差接続を使うときは、このライブラリでは最後の層もランダムな値から始めます。
#
# ## まとめ
#
# - メモリは小さなネットワークです。**読み出し**は順伝播 $y = M(q)$、
#   **書き込み**は、$\lVert M(k) - v \rVert^2$ をメモリの重みで微分した勾配による1ステップです。
#   $k$、$v$、$q$ を作る射影は、別のところで訓練されます。
# - 足していくだけの行列は線形アテンションで、勾配で書き込む行列はデルタ則に従います。
# - 各層の勾配は外積 $e\,a^\top$、つまり「誤差」と「入力」の積です。
# - まっさらなメモリはゼロを返し、最後の層から学習を始めます。
#   重みが全部ゼロだといつまでも学習せず、すべての層が縮むメモリは、それに近い状態になってしまいます。
# - 書き込みは互いに干渉し、キーが似ているほど強く干渉します。
#   行列が保持できるペアの数は、キーの次元と同じです。深いメモリは、何回も書き込めるか、
#   1回の書き込みを生かすように訓練されていれば、それを超えます。
# - 状態は重みです。100万トークンでも1トークンでも、大きさは変わりません。
#
# **レッスン03**では、書き込みがストリーム（stream）として続き、
# ステップ幅、モーメンタム、忘却がそこに加わります。
#
# ## 参考文献
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663)。3.1節、式(11)、(12)、(13)、(15)。
# - A. Katharopoulos et al.: *Transformers are RNNs*, arXiv [2006.16236](https://arxiv.org/abs/2006.16236)。
#   線形アテンションの論文です。
# - B. Widrow, M. E. Hoff: *Adaptive switching circuits*, 1960。
#   デルタ則 $M \leftarrow M - \theta\, e k^\top$ の原典です。
# - S. Yang et al.: *Parallelizing Linear Transformers with the Delta Rule over Sequence Length*, arXiv
#   [2406.06484](https://arxiv.org/abs/2406.06484)。DeltaNet を扱っています。
# - S. Kaczmarz: *Angenäherte Auflösung von Systemen linearer Gleichungen*, 1937。演習1のステップ幅の原典です。
# - Y. Sun et al.: *Learning to (Learn at Test Time)*, arXiv [2407.04620](https://arxiv.org/abs/2407.04620)。
#   ネットワークを状態とし、勾配ステップで書き込みます。

# %% tags=["nbval-ignore-output"]
progress()
