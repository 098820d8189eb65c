# %% [markdown] lang="en"
# # 01 · Memory is regression
#
# *Titans, step by step.* About 30 minutes to read, 60 with the exercises; the code runs in about 10 seconds.
# Run the cells from top to bottom.
#
# **You will learn**
#
# - to see attention as regression that keeps all its data, and linear attention as a matrix that adds;
# - why adding goes wrong, in a number that you can predict: the products $k_i \cdot k_j$;
# - the delta rule: look first, then write the difference; in the plane of the keys a write is a projection;
# - how many pairs each of the three holds in $d$ dimensions, predicted and then measured.
#
# **You need** PyTorch, matrix products, and softmax attention. Nothing about Titans.

# %% [markdown] lang="ja" en="c061126d"
# # 01 · メモリは回帰である
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン01です。読むのに約30分、演習も解くと約60分、コードの実行に約10秒かかります。
# セルは上から順に実行してください。
#
# **このレッスンで学ぶこと**
#
# - アテンション（attention）は、データを全部取っておく回帰、線形アテンション（linear attention）は、足していくだけの行列と見なせること。
# - 足すだけではうまくいかない理由と、その程度を前もって計算できる数、つまり積 $k_i \cdot k_j$。
# - 先に見てから、違っている分だけを書くデルタ則（delta rule）。キー（key）の平面で見ると、書き込みは射影（projection）になること。
# - 3種類のメモリ（memory）には、$d$ 次元でペア（pair）がそれぞれいくつ入るのか（予測してから測ります）。
#
# **必要な知識**：PyTorch、行列の積、softmax アテンション。Titans についての知識は要りません。

# %%
import torch
import torch.nn.functional as F

from titans.lesson import predict, progress, start
from titans.lesson.lesson_01 import exercises, pictures, trials
from titans.lesson.lesson_01.lab import capacity_lab, key_lab

start()

# %% [markdown] lang="en"
# If the import fails, this course's package is not installed: run `pip install -e .` in the folder that you cloned
# (in Colab: clone the repository, go into its folder with `%cd`, install it there in the same way, then run the cell
# above). The package that PyPI calls `titans` is another one.
#
# ## 1. A look-up that keeps everything
#
# You are told pairs: to this *key* belongs that *value*. Later somebody comes with a *query* and wants the value. Say
# there are three keys in the plane, and the values are plain numbers.

# %% [markdown] lang="ja" en="801290c1"
# import に失敗するときは、この教材のパッケージがまだインストールされていないので、
# クローンしたフォルダーで `pip install -e .` を実行してください。
# Colab では、リポジトリをクローンし、`%cd` でそのフォルダーに入って同じようにインストールしてから、上のセルを実行します。
# なお、PyPI で `titans` という名前のパッケージは別物です。
#
# ## 1. 全部取っておく検索
#
# 「このキー（key）には、この値（value）」というペア（pair）を、あなたがいくつか伝えられたとします。
# 後で誰かがクエリ（query）を持ってきて、それに合う値をたずねます。
# ここでは、平面上に3つのキーがあり、値はただの数だとしましょう。

# %%
keys = pictures.direction(torch.tensor([-100.0, 20.0, 140.0]))  # [3, 2]
values = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)


def look_up(query, keys, values, sharpness):
    weights = torch.softmax(sharpness * (keys @ query), dim=0)
    return weights @ values


query = pictures.direction(30.0)
for s in (0.0, 1.0, 8.0, 100.0):
    print(f"sharpness {s:5}: {look_up(query, keys, values, s):.3f}")

# %% [markdown] lang="en"
# That is attention with one query. It is also regression, and older than attention: predict the value at a new place as
# a mean of the values that you know, weighted by how near they are (Nadaraya and Watson, 1964). For keys and queries of
# length 1 "near" is even the familiar bell: $\lVert q - k \rVert^2 = 2 - 2\, q \cdot k$, so
# $e^{s\, q \cdot k}$ and $e^{-s \lVert q - k \rVert^2 / 2}$, with the sharpness $s$, differ by a factor that all keys
# share, and softmax takes it out.

# %% [markdown] lang="ja" en="2518b3a7"
# これは、クエリが1つのときのアテンションですが、同時に回帰でもあり、しかもアテンションより古くから知られています。
# 新しい場所での値を予測するために、知っている値を、近いものほど大きな重み（weight）をつけて平均する方法です（Nadaraya と Watson、1964年）。
# キーとクエリの長さがどれも1なら、「近さ」は、おなじみの釣鐘型の関数でもあります。
# 鋭さ（sharpness）を $s$ とすると、$\lVert q - k \rVert^2 = 2 - 2\, q \cdot k$ なので、$e^{s\, q \cdot k}$ と $e^{-s \lVert q - k \rVert^2 / 2}$ の違いは、
# どのキーにも共通の係数だけで、それは softmax で消えるからです。

# %%
distances = (keys - query).square().sum(-1)
bell = torch.softmax(-8.0 * distances / 2, dim=0) @ values
print(
    "the same answer:", torch.allclose(bell, look_up(query, keys, values, 8.0))
)
assert torch.allclose(bell, look_up(query, keys, values, 8.0))
pictures.looking(keys, values)

# %% [markdown] lang="en"
# With $s = 0$ every query gets the mean of all values, with a large $s$ the value of the nearest key. Such a memory
# never has to learn and never mixes anything up, if $s$ is large enough. The price: it keeps all pairs, and
# compares every query with all of them.
#
# ## 2. A matrix that adds
#
# Leave the exponential out. The answer is then a sum that can be added up *before* anybody asks:
#
# $$\sum_i v_i\, (k_i \cdot q) = \Big( \sum_i v_i k_i^\top \Big)\, q = M q$$
#
# A matrix of fixed size, to which each pair adds $v_i k_i^\top$: *linear attention*. As a model of nerve cells it is
# much older, Hebb's rule: what fires together is wired together. (With a mask it is causal; lesson 05 will come back to
# that.)

# %% [markdown] lang="ja" en="d01cea90"
# $s = 0$ では、どのクエリにも値全体の平均を返し、$s$ が大きければ、いちばん近いキーの値を返します。
# このメモリは、何も学ぶ必要がなく、$s$ が十分大きければ、何も混同しません。
# その代わり、すべてのペアを取っておき、クエリが来るたびに、その全部と比べなければなりません。
#
# ## 2. 足していく行列
#
# 指数関数を取り除いてみましょう。すると答えは、たずねられる**前**に足し合わせておける和になります。
#
# $$\sum_i v_i\, (k_i \cdot q) = \Big( \sum_i v_i k_i^\top \Big)\, q = M q$$
#
# 大きさの決まった行列に、ペアごとに $v_i k_i^\top$ を足していくだけのもので、これが**線形アテンション**です。
# 神経細胞のモデルとしては、それよりずっと前から、ヘッブ則（Hebb rule）として知られています。同時に活動する細胞どうしは結びつきを強める、という規則です。
# （マスクを付けると因果的（causal）になります。これについては、レッスン05でまた触れます。）

# %%
k = torch.tensor([[1.0, 0.0], [0.6, 0.8]])  # two keys, each of length 1
v = torch.tensor([[3.0, 1.0], [0.0, 1.0]])

M = torch.zeros(2, 2)
for key, value in zip(k, v, strict=True):
    M = M + torch.outer(value, key)

q = torch.tensor([0.3, 0.9])
by_sum = (k @ q) @ v
print("from the matrix:", M @ q, " from all pairs:", by_sum)
assert torch.allclose(M @ q, by_sum)

# %% [markdown] lang="en"
# **Predict before you run.** Ask with the first key. The pair was $(1, 0) \to (3, 1)$, and the other key overlaps with
# it: $k_1 \cdot k_2 = 0.6$. What comes back?

# %% [markdown] lang="ja" en="f00f369c"
# **実行する前に予想してみましょう。**
# 1つ目のキーでたずねます。ペアは $(1, 0) \to (3, 1)$ でしたが、もう1つのキーと重なりがあり、$k_1 \cdot k_2 = 0.6$ です。
# 何が返ってくるでしょうか。出力の「wanted」は、答えてほしい値です。

# %%
predict("...")

# %%
print("answer to key 1:", M @ k[0], " wanted:", v[0])
print("answer to key 2:", M @ k[1], " wanted:", v[1])

# %% [markdown] lang="en"
# The answer to $k_1$ is $(k_1 \cdot k_1)\, v_1 + (k_1 \cdot k_2)\, v_2 = (3, 1) + 0.6 \cdot (0, 1) = (3, 1.6)$. What the
# second pair adds has a name, *interference*. Is it really the overlap that does it? Turn the second key until the
# overlap is gone, and leave everything else:

# %% [markdown] lang="ja" en="80796f51"
# $k_1$ への答えは $(k_1 \cdot k_1)\, v_1 + (k_1 \cdot k_2)\, v_2 = (3, 1) + 0.6 \cdot (0, 1) = (3, 1.6)$ です。
# 2つ目のペアが加えてしまう分を、**干渉**（interference）と呼びます。
# 答えがずれたのは、本当に重なりのせいなのでしょうか。ほかは何も変えずに、2つ目のキーを、重なりがなくなるまで回してみます。

# %%
for angle in (53.13, 70.0, 90.0, 110.0):
    turned = pictures.direction(angle).float()
    M = torch.outer(v[0], k[0]) + torch.outer(v[1], turned)
    answer = [round(number, 2) for number in (M @ k[0]).tolist()]
    print(f"k1·k2 = {float(k[0] @ turned):5.2f}: answer to key 1 {answer}")
assert abs(float((M @ k[0] - v[0])[1]) - float(k[0] @ turned)) < 1e-6

# %% [markdown] lang="en"
# With no overlap the answer is exact, and beyond a right angle the error changes its sign. A matrix of $d$ columns has
# room for $d$ keys at right angles.
#
# ### Exercise 1: interference
#
# `k` [n, d] and `v` [n, m] are n pairs that a matrix added up; keys need not have length 1. Return what the *other* pairs
# add to the answer to `k[j]`.

# %% [markdown] lang="ja" en="e31f3307"
# 重なりがなければ答えは正確で、キーどうしの角度が直角を超えると、誤差の符号が変わります。
# $d$ 列の行列には、互いに直角なキーが $d$ 個入ります。
#
# ### 演習1：干渉
#
# `k` [n, d] と `v` [n, m] は、行列に足し込んだ n 個のペアで、キーの長さは1とは限りません。
# `k[j]` への答えに、**ほかの**ペアが加える分を返してください。


# %%
def interference(k, v, j):
    return ...  # a vector as long as a value


exercises.INTERFERENCE.check(interference)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# The answer to `k[j]` is the sum over `i` of `(k[i] @ k[j]) * v[i]`. One term of it is not interference.
#
# </details>

# %% [markdown] lang="ja" en="cb4fa540"
# <details><summary>ヒント</summary>
#
# `k[j]` への答えは、`(k[i] @ k[j]) * v[i]` を `i` について足したものです。そのうち1項だけは、干渉ではありません。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def interference(k, v, j):
#     overlaps = k @ k[j]
#     overlaps[j] = 0
#     return overlaps @ v
# ```
#
# </details>

# %% [markdown] lang="en"
# ## 3. Look first: the delta rule
#
# Adding does not look at what is there. So look: what does the memory answer now, and how far is that from what it
# should answer? Write the difference, and nothing else:
#
# $$M \leftarrow M + \beta\, (v - M k)\, k^\top$$
#
# This is the *delta rule* (Widrow and Hoff, 1960; also known as LMS). It is one step of regression: the gradient of
# $\tfrac12 \lVert M k - v \rVert^2$ with respect to $M$ is $(M k - v)\, k^\top$, and $\beta$ is the learning rate.

# %% [markdown] lang="ja" en="ec20ed8f"
# ## 3. 先に見る：デルタ則
#
# 足すだけのメモリは、すでに何が入っているかを見ていません。そこで、先に見ることにしましょう。
# メモリがいま何と答えるのか、それが答えるべき値からどれだけ離れているのかを調べて、その差だけを書き込みます。
#
# $$M \leftarrow M + \beta\, (v - M k)\, k^\top$$
#
# これが**デルタ則**で（Widrow と Hoff、1960年。そこでの名前は LMS です）、回帰の1ステップにほかなりません。
# $\tfrac12 \lVert M k - v \rVert^2$ を $M$ で微分した勾配（gradient）が $(M k - v)\, k^\top$ で、$\beta$ が学習率にあたるからです。


# %%
def delta_rule(M, key, value, beta=1.0):
    return M + beta * torch.outer(value - M @ key, key)


def gradient(M, key, value):
    M = M.clone().requires_grad_()
    loss = (M @ key - value).square().sum() / 2
    return torch.autograd.grad(loss, M)[0]


M = torch.randn(2, 2)
one_step = M - 1.0 * gradient(M, k[1], v[1])
print(
    "one step of regression:",
    torch.allclose(delta_rule(M, k[1], v[1]), one_step),
)
assert torch.allclose(delta_rule(M, k[1], v[1]), one_step)

# %% [markdown] lang="en"
# **Predict before you run.** The same two pairs, one after the other, from an empty matrix, $\beta = 1$. Which of the
# two answers is exact now, and which one pays?

# %% [markdown] lang="ja" en="124565e8"
# **実行する前に予想してみましょう。**
# 先ほどの2つのペアを、空の行列に、$\beta = 1$ で順に書き込みます。
# 今度はどちらの答えが正確で、どちらがしわ寄せを受けるでしょうか。

# %%
predict("...")

# %%
M = torch.zeros(2, 2)
for key, value in zip(k, v, strict=True):
    M = delta_rule(M, key, value)
print("answer to key 1:", M @ k[0], " wanted:", v[0])
print("answer to key 2:", M @ k[1], " wanted:", v[1])

# %% [markdown] lang="en"
# The pair that was written last is exact. The first one paid: it lost more than interference had cost it.
#
# ### Exercise 2: the step that fits
#
# With $\beta = 1$ the last pair is exact if its key has length 1. Which $\beta$ does it for a key of any length?
# (With that step the rule is *Kaczmarz's* method of 1937, known also as normalised LMS.)

# %% [markdown] lang="ja" en="9aaad342"
# 正確なのは、最後に書いたペアです。しわ寄せを受けたのは最初のペアで、答えは、干渉があったときよりも大きくずれてしまいました。
#
# ### 演習2：ちょうど届くステップ
#
# キーの長さが1なら、$\beta = 1$ で、最後に書いたペアが正確になります。
# では、どんな長さのキーでもそうなる $\beta$ はいくつでしょうか。
# （このステップを使うと、この規則は1937年のカチマルツ（Kaczmarz）法になります。正規化 LMS という名前でも知られています。）


# %%
def exact_step(k):
    return ...  # beta, from the key k, a vector


exercises.EXACT_STEP.check(exact_step)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# After the write the answer is `M k + β (k·k) (v − M k)`. What must stand before the bracket?
#
# </details>

# %% [markdown] lang="ja" en="dfdbbefc"
# <details><summary>ヒント</summary>
#
# 書き込んだ後の答えは `M k + β (k·k) (v − M k)` です。最後の括弧に掛かる係数は、いくつでなければなりませんか。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def exact_step(k):
#     return 1 / (k @ k)
# ```
#
# </details>

# %% [markdown] lang="en"
# ## 4. What a write does to every other key
#
# Take a key of length 1 and $\beta = 1$, and ask with any $q$. The new answer is
#
# $$M q + (v - M k)\,(k \cdot q) = M\,\big(q - (k \cdot q)\, k\big) + (k \cdot q)\, v$$
#
# Read the right side: split $q$ into the part along $k$ and the part at a right angle to it, which is the
# *projection* of $q$. The part at a right angle is answered as before; the part along $k$ is answered with the new
# value. Nothing of the old memory is left along $k$, and nothing else is touched.

# %% [markdown] lang="ja" en="256a5a0b"
# ## 4. 1回の書き込みで、ほかのキーはどうなるか
#
# キーの長さが1で、$\beta = 1$ のとき、任意の $q$ でたずねると、新しい答えは次のようになります。
#
# $$M q + (v - M k)\,(k \cdot q) = M\,\big(q - (k \cdot q)\, k\big) + (k \cdot q)\, v$$
#
# 右辺を読むために、$q$ を、$k$ に沿った成分と、それと直角な成分に分けます。直角な成分が、$q$ の**射影**（projection）です。
# メモリは、直角な成分には前と同じ答えを返し、$k$ に沿った成分には新しい値で答えます。
# 前のメモリの中身は、$k$ に沿った方向では跡形もなくなりますが、そのほかの方向では、まったく変わりません。

# %%
k1 = F.normalize(torch.randn(5), dim=0)
old, new_value, asked = torch.randn(3, 5), torch.randn(3), torch.randn(5)
along = (k1 @ asked) * k1
new = delta_rule(old, k1, new_value)
print(
    "projection:",
    torch.allclose(
        new @ asked,
        old @ (asked - along) + (k1 @ asked) * new_value,
        atol=1e-5,
    ),
)
assert torch.allclose(
    new @ asked, old @ (asked - along) + (k1 @ asked) * new_value, atol=1e-5
)

# %% [markdown] lang="en"
# ### The key lab
#
# A memory of one row knows pair A, value 1. Now B is written, value −0.5. Turn and stretch B's key. The curves show
# the answer to every direction, before the write, after adding and after the delta rule.
#
# **Predict before you move anything.** A stands at 30°. Move B to 60°: what will the delta rule have left of A's answer,
# about a half, about nothing, or less than nothing? (The square is what B's direction should answer: the value divided by
# the key's length.)
#
# 1. Where must B stand so that A is not touched? And where does the delta rule hurt A most?
# 2. Which keys does the delta rule never touch, wherever B stands?
# 3. Leave β at 1 and make B longer. When does the curve miss the square, and when is it worse than before?

# %% [markdown] lang="ja" en="80b184b2"
# ### キー実験室
#
# 1行だけのメモリが、値1のペア A を覚えていて、そこに、値 −0.5 のペア B を書き込みます。
# B のキーの角度と長さを変えてみてください。
# 右の曲線は、あらゆる向きのキーに対する答えを、書く前、足した後、デルタ則の後について示したものです。
#
# **動かす前に予想してみましょう。**
# A は30度にあります。B を60度に動かすと、デルタ則の後、A の答えはどれだけ残るでしょうか。
# 半分くらいでしょうか、ほぼゼロでしょうか、それともゼロより下でしょうか。
# （四角は、B の向きが答えるべきもの、つまり値をキーの長さで割ったものです。）
#
# 1. A への答えがまったく変わらないのは、B がどこにあるときですか。また、デルタ則で A への答えがいちばん損なわれるのは、B がどこにあるときですか。
# 2. B がどこにあっても、デルタ則で答えがけっして変わらないのは、どのようなキーですか。
# 3. β を1のままにして B を長くすると、曲線が四角い印から外れるのはいつですか。また、書く前より悪くなるのはいつですか。

# %%
lab = key_lab()
lab

# %% [markdown] lang="en"
# <details><summary>Answers</summary>
#
# At 60° the answer to A is `1 + 0.87 × (−0.5 − 0.87) = −0.18`: less than nothing. The memory answered 0.87 to B,
# so the write had to move it by −1.37, and A gets 0.87 of that.
#
# 1. At a right angle, 120° or −60°. It hurts most near A: on A itself, A's value is replaced by B's.
# 2. Those at a right angle to B; there the curves before and after cross.
# 3. At once: the answer to B moves by `β k·k` of its error. At `β k·k = 2` it lands as far on the other
#    side, and beyond that each write makes it worse. The title gives the number.
#
# </details>
#
# ## 5. How much fits?
#
# Now many pairs. Keys and values have length 1 and random directions in $d$ dimensions; all are told once, and then
# each key is asked for. The error $\lVert \text{answer} - v \rVert^2$ is 0 for a perfect memory and 1 for one that
# always answers nothing.
#
# Two random directions have a product of 0 in the mean, and its square is $1/d$ in the mean. So the $n - 1$ other pairs
# of a matrix that adds give an error of
#
# $$\frac{n - 1}{d}$$
#
# and the delta rule? Each later write takes away what stands along its key. That is $1/d$ of the answer in the mean, so
# after $t$ writes of others the answer still has
#
# $$\Big(1 - \frac1d\Big)^t$$
#
# of its value. (The error of the delta rule can be predicted in the same way, pair by pair, and so can that of
# a look-up of sharpness 8: both are in `titans/lesson/lesson_01/trials.py`.)
#
# **Predict before you run.** 16 pairs in 16 dimensions. What is the error of the matrix that adds? How much of the
# first value does the delta rule still have?

# %% [markdown] lang="ja" en="e8f7c6bc"
# <details><summary>答え</summary>
#
# 60度では、A への答えは `1 + 0.87 × (−0.5 − 0.87) = −0.18` で、ゼロより下になります。
# メモリは B に0.87と答えていたので、書き込みは B への答えを −1.37 だけ動かさなければならず、その0.87倍が A への答えにも及ぶのです。
#
# 1. A と直角、つまり120度か −60度のときです。いちばん損なわれるのは B が A の近くにあるときで、A と同じ向きなら、A の値が B の値に置き換わります。
# 2. B と直角なキーです。そこでは、書く前と後の曲線が交わります。
# 3. すぐに外れます。B への答えは、誤差の `β k·k` 倍だけ動くからです。`β k·k = 2` では反対側に同じだけ外れ、
#    それを超えると、書くたびに悪くなります。この数は図の上に出ています。
#
# </details>
#
# ## 5. どれだけ入るか
#
# 今度は、ペアの数を増やします。キーと値は、$d$ 次元のランダムな向きで、長さは1です。全部を1回ずつ伝えてから、すべてのキーについてたずねます。
# 誤差 $\lVert \text{answer} - v \rVert^2$ は、完全なメモリなら0、いつも何も答えないメモリなら1です。
#
# ランダムな2つの向きの内積は、平均すると0で、その2乗は平均 $1/d$ です。
# したがって、足すだけの行列では、ほかの $n - 1$ 個のペアによる誤差は
#
# $$\frac{n - 1}{d}$$
#
# になります。では、デルタ則ではどうでしょうか。後から来る書き込みは、どれも、自分のキーに沿ったものを取り去ります。
# 失われるのは平均して答えの $1/d$ なので、ほかのペアを $t$ 回書いた後の答えに残っているのは、値の
#
# $$\Big(1 - \frac1d\Big)^t$$
#
# 倍です。（デルタ則の誤差は、同じやり方でペアごとに予測できます。鋭さ8の検索の誤差も予測できます。どちらも `titans/lesson/lesson_01/trials.py` にあります。）
#
# **実行する前に予想してみましょう。**
# 16次元で16ペアのとき、足すだけの行列の誤差はいくつでしょうか。また、デルタ則では、最初の値がどれだけ残っているでしょうか。
# 出力の「look-up」は検索、「adding」は足す場合、「delta rule」はデルタ則で、
# 「error」は測った誤差、「predicted」は予測した値です。その下の2行は、デルタ則（the delta rule）と足すだけの行列（the matrix that adds）に、
# 最初の値がどれだけ残っているかを示します。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
d, n = 16, 16
seen = {name: trials.measured(name, n, d, 400) for name in trials.MEMORIES}
for name in seen:
    wanted = trials.predicted(name, n, d)
    print(f"{name:10}: error {seen[name].mean:.3f}, predicted {wanted:.3f}")

# %% tags=["nbval-ignore-output"]
kept, added = seen["delta rule"].kept, seen["adding"].kept
left = (1 - 1 / d) ** (n - 1)
print(
    f"of the first value the delta rule has {kept:.2f}, predicted {left:.2f}"
)
print(f"the matrix that adds has {added:.2f}")

# %% [markdown] lang="en"
# Nearly 1: with as many pairs as dimensions, the matrix that adds is hardly better than no answer. The delta rule makes
# 0.6 of it, and still has 38 % of the first value, where adding has all of it, under noise. So the two fail in
# different ways: **adding drowns, the delta rule forgets**. Here is every number of pairs; lines are predicted, dots
# measured.

# %% [markdown] lang="ja" en="da9c5f9a"
# 足していく行列の誤差はほぼ1で、次元と同じ数のペアを入れると、何も答えないのとほとんど変わりません。
# デルタ則の誤差は約0.6で、最初の値はまだ38%残っています。足す場合は、最初の値は全部残っていますが、雑音（noise）に埋もれています。
# つまり、2つのメモリは失敗のしかたが違い、**足すメモリは雑音に埋もれ、デルタ則は忘れる**のです。
#
# 次の2つの図は、ペアの数を変えた結果で、線が予測、点が測った値です。
# 1つ目の図の右は、同じものの0付近を拡大した図です。2つ目の図は、デルタ則で、最初の値の何割が残っているかを示します。

# %%
assert abs(kept - left) < 0.03
assert abs(added - 1) < 0.03

# %%
pictures.capacity()

# %%
pictures.kept_of_first()

# %% [markdown] lang="en"
# One more thing stands in the first picture, and it is easy to overlook: from about 30 pairs on, even the delta rule is
# worse than no answer. It is loud where it should be unsure. What if the matrix that adds spoke more softly? Multiply
# all its answers by one number, the best one:
#
# **Predict before you run.** Can the adding memory, with the right volume, beat the delta rule?

# %% [markdown] lang="ja" en="35162982"
# 1つ目の図には、見落としやすいことがもう1つ現れています。約30ペアを超えると、デルタ則でさえ、何も答えないより誤差が大きくなるのです。
# 自信がないはずのところで、いわば大きな声で答えています。では、足していく行列が、もっと小さな声で答えたらどうでしょうか。
# つまり、すべての答えに、最もよい1つの数を掛けてみます。
#
# **実行する前に予想してみましょう。**
# 足すメモリは、声の大きさ（volume）をちょうどよくすれば、デルタ則に勝てるでしょうか。
# 出力の列は、ペアの数（pairs）、足すメモリの声を最もよい大きさにした場合（adding softly）、デルタ則（delta rule）、
# デルタ則の声も最もよい大きさにした場合（delta rule softly）の誤差です。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
by_pairs = {}
print("pairs  adding softly  delta rule  delta rule softly")
for n in (4, 8, 16, 32, 64):
    many_k, many_v = trials.draw_pairs(n, 16, rows=200)
    answers = {
        name: memory(many_k, many_v)
        for name, memory in trials.MEMORIES.items()
    }
    loud, delta = answers["adding"], answers["delta rule"]
    soft = loud * (loud * many_v).sum() / loud.square().sum()
    softer = delta * (delta * many_v).sum() / delta.square().sum()
    both = (soft, delta, softer)
    by_pairs[n] = [float((y - many_v).square().sum(-1).mean()) for y in both]
    texts = "".join(f"{error:14.2f}" for error in by_pairs[n])
    print(f"{n:5}{texts}")

# %% [markdown] lang="en"
# With few pairs the delta rule wins, with many the soft adding memory does. Given its own best volume (last column) the
# delta rule comes back, but with many pairs it stays behind: it has spent its room on the pairs that came last.
# So looking first is no free gift. It pays where a key comes again, or where the newest counts; where every pair is told
# once, all count the same and there are too many, adding keeps more.
#
# ### The capacity lab
#
# 1. What must you do to the dimensions to keep the errors while you double the pairs?
# 2. The look-up has hardly any error. What does it cost? From how many pairs on does it keep more numbers than the
#    matrix?

# %% [markdown] lang="ja" en="b6b7df35"
# ペアが少なければデルタ則が勝ち、多ければ、声を抑えた足すメモリが勝ちます。
# デルタ則の声も最もよい大きさにすると（最後の列）、差は縮まりますが、ペアが多いときは、やはり及びません。
# 最後に来たペアのために、場所を使ってしまったからです。
# つまり、先に見ることにも代償があります。同じキーがまた来るときや、最新のものが大事なときには役に立ちますが、
# どのペアも1回しか伝えられず、どれも同じだけ大事で、しかも多すぎるときには、足すほうが多くを保ちます。
#
# ### 容量実験室
#
# 次元とペアの数を変えてみてください。
#
# 1. ペアを2倍にしても誤差を同じに保つには、次元をどうすればよいですか。
# 2. 検索には、ほとんど誤差がありません。その代償は何ですか。検索が行列より多くの数値を保持するのは、何ペアからですか。

# %%
assert by_pairs[8][1] < by_pairs[8][0]
assert by_pairs[64][0] < by_pairs[64][1]

# %%
capacity = capacity_lab()
capacity

# %% [markdown] lang="en"
# <details><summary>Answers</summary>
#
# 1. Double them: only `n / d` counts, nearly. (The look-up gains more, since its sharpness acts on `1/d` in the
#    exponent.)
# 2. It keeps `2 n d` numbers, the matrix `d²`: from `d / 2` pairs on the look-up keeps more, and it goes on growing.
#
# </details>
#
# ## 6. Read it again: regression
#
# The delta rule is one step of regression. Then many steps should do what regression does: find the matrix that fits
# best. Read the same pairs again and again, and compare with least squares, `torch.linalg.lstsq`.
#
# **Predict before you run.** 12, 16 and 32 pairs in 16 dimensions, read 300 times over. Which of them will be stored
# exactly?

# %% [markdown] lang="ja" en="48f844a9"
# <details><summary>答え</summary>
#
# 1. 次元も2倍にします。ほとんど `n / d` だけで決まるからです。（検索では、鋭さが指数の中で `1/d` に掛かるので、誤差はさらに小さくなります。）
# 2. 保持する数値は、検索が `2 n d` 個、行列が `d²` 個です。`d / 2` ペアからは検索のほうが多くなり、その後も増え続けます。
#
# </details>
#
# ## 6. もう一度読む：回帰
#
# デルタ則は、回帰の1ステップでした。それなら、何度もくり返すことで、回帰と同じように、最もよく合う行列が見つかるはずです。
# 同じペアを何度も読ませて、最小2乗法（`torch.linalg.lstsq`）と比べましょう。
#
# **実行する前に予想してみましょう。**
# 16次元で、12、16、32ペアを300回くり返して読みます。正確に覚えられるのは、どれでしょうか。
#
# 出力の「once」は1回、「after 300 times」は300回読んだ後の誤差、「least squares」は最小2乗法の誤差、「expected」はその期待値です。

# %%
predict("...")

# %%
d, curves = 16, {}
for n in (12, 16, 32):
    K, V = (part[0] for part in trials.draw_pairs(n, d, rows=1))
    best = torch.linalg.lstsq(K, V).solution.mT
    bound = float((K @ best.mT - V).square().sum(-1).mean())
    N, errors = torch.zeros(d, d, dtype=K.dtype), []
    for _ in range(300):
        for key, value in zip(K, V, strict=True):
            N = delta_rule(N, key, value)
        errors.append(float((K @ N.mT - V).square().sum(-1).mean()))
    curves[f"{n} pairs"] = errors

# %%
for name, errors in curves.items():
    print(
        f"{name}: error {errors[0]:.2f} once, {errors[-1]:.4f} after 300 times"
    )
print(
    f"least squares, 32 pairs: {bound:.2f}, expected 1 - d / n = {1 - d / 32}"
)
pictures.reading_again(curves, bound)

# %% [markdown] lang="en"
# Up to $d$ pairs all of them fit, and the delta rule finds the matrix. With 16 it is slow, and it is the overlap of the
# keys that makes it so: 16 keys at right angles are stored by one reading. Beyond $d$ no matrix can hold them, $1 - d/n$ is the best in the mean; and a step of
# $\beta = 1$ does not even reach that, since each write insists on its own pair. A smaller step does not insist:

# %% [markdown] lang="ja" en="28dae8bc"
# $d$ ペアまでなら全部入り、デルタ則はその行列を見つけます。16ペアのときに遅いのは、キーどうしの重なりのせいです。
# 互いに直角な16個のキーなら、1回読むだけで覚えられます。
# $d$ を超えると、どんな行列にも入りきりません。平均では $1 - d/n$ が最善で、$\beta = 1$ のステップでは、そこにも届きません。
# どの書き込みも、自分のペアに完全に合わせようとするからです。ステップを小さくすれば、そうはなりません。

# %%
assert curves["12 pairs"][-1] < 1e-3 < bound < curves["32 pairs"][-1]

# %%
finals = {}
for beta in (1.0, 0.3, 0.1):
    N = torch.zeros(d, d, dtype=K.dtype)
    for _ in range(300):
        for key, value in zip(K, V, strict=True):
            N = delta_rule(N, key, value, beta)
    finals[beta] = float((K @ N.mT - V).square().sum(-1).mean())
    print(f"β = {beta}: {finals[beta]:.3f}  (least squares {bound:.3f})")
assert finals[0.1] < finals[0.3] < finals[1.0]
assert finals[0.1] < 1.02 * bound

# %%
right_angles, some = torch.eye(d, dtype=K.dtype), V[:d]
N = torch.zeros(d, d, dtype=K.dtype)
for key, value in zip(right_angles, some, strict=True):
    N = delta_rule(N, key, value)
print(
    "16 keys at right angles, one reading:",
    torch.equal(right_angles @ N.mT, some),
)

# %% [markdown] lang="en"
# ## 7. The delta rule is attention, to its own errors
#
# Unroll the rule from an empty matrix: $M_t = \sum_{i \le t} e_i k_i^\top$ with the errors $e_i = v_i - M_{i-1} k_i$. So
# the answer to a query after token $t$ is
#
# $$y_t = \sum_{i \le t} (q_t \cdot k_i)\, e_i, \qquad e_t = v_t - \sum_{i < t} (k_t \cdot k_i)\, e_i$$
#
# That is linear attention with a mask, not to the values but to the errors that were met on the way. Lesson 05 computes
# whole chunks so, with one difference: all errors of a chunk are taken at its first weights.
#
# ### Exercise 3: without a matrix
#
# `c` tokens, `q`, `k` [c, d] and `v` [c, m], $\beta = 1$. Return `y` [c, m], where `y[t]` is read after token `t` was
# written. Can you do it without building $M$?

# %% [markdown] lang="ja" en="41d53c53"
# ## 7. デルタ則は、自分の誤差へのアテンション
#
# 空の行列から始めて、規則を展開してみましょう。誤差を $e_i = v_i - M_{i-1} k_i$ とすると $M_t = \sum_{i \le t} e_i k_i^\top$ です。
# したがって、トークン（token）$t$ の後のクエリへの答えは、次のようになります。
#
# $$y_t = \sum_{i \le t} (q_t \cdot k_i)\, e_i, \qquad e_t = v_t - \sum_{i < t} (k_t \cdot k_i)\, e_i$$
#
# これはマスク付きの線形アテンションですが、アテンションの対象は、値ではなく、途中で出会った誤差です。
# レッスン05では、チャンク（chunk）全体をこのように計算します。ただし、誤差はどれも、チャンクの始まりの重みで求めます。
#
# ### 演習3：行列なしで
#
# トークンは `c` 個で、`q` と `k` は [c, d]、`v` は [c, m]、$\beta = 1$ です。
# トークン `t` を書き込んだ後に読み出した答えを `y[t]` として、`y` [c, m] を返してください。$M$ を作らずにできるでしょうか。


# %%
def delta_as_attention(q, k, v):
    return ...  # [c, m]


exercises.DELTA_AS_ATTENTION.check(delta_as_attention)

# %% [markdown] lang="en"
# <details><summary>Hint 1</summary>
#
# First the errors, one after another: the first is `v[0]`; the next takes away what the earlier errors answer.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.tril(q @ k.mT)` are the weights of a mask that lets a token see itself and what came before.
#
# </details>

# %% [markdown] lang="ja" en="ec635d54"
# <details><summary>ヒント1</summary>
#
# まず、誤差を順に求めます。最初の誤差は `v[0]` で、次からは、値から、前の誤差による答えを引きます。
#
# </details>
#
# <details><summary>ヒント2</summary>
#
# `torch.tril(q @ k.mT)` は、トークンから自分自身とそれより前だけが見えるように、マスクを掛けた重みです。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def delta_as_attention(q, k, v):
#     errors = []
#     for t in range(len(k)):
#         known = sum((k[t] @ k[i]) * errors[i] for i in range(t))
#         errors.append(v[t] - known)
#     return torch.tril(q @ k.mT) @ torch.stack(errors)
# ```
#
# </details>

# %% [markdown] lang="en"
# ## 8. What a matrix cannot do
#
# Two things. It holds at most $d$ keys. And it is linear: its answer to a sum of keys is the sum of its answers. Give
# it four pairs whose fourth key is the sum of the others' keys, and it has no choice about the fourth value:

# %% [markdown] lang="ja" en="4909485f"
# ## 8. 行列にできないこと
#
# できないことは、2つあります。1つは、$d$ 個より多くのキーを保持することです。
# もう1つは、線形でない答え方をすることで、キーの和に対する答えは、いつでも、それぞれのキーへの答えの和になります。
# ですから、3つのキーの和が4つ目のキーになるように4つのペアを与えると、行列には、4つ目の値を選ぶ余地がありません。
# 出力の「best answers」は最もよい行列の答え、「wanted」は答えてほしい値です。

# %%
four = torch.eye(4)[:3]
four = torch.cat((four, four.sum(0, keepdim=True)))  # the fourth is the sum
told = torch.tensor([[1.0], [1.0], [1.0], [2.0]])
fitted = four @ torch.linalg.pinv(four) @ told
print("best answers:", [round(answer, 2) for answer in fitted[:, 0].tolist()])
print("wanted:      ", told[:, 0].tolist())

# %% [markdown] lang="en"
# Four pairs, four columns, and no matrix fits: what three keys answer settles what their sum does. A memory that can hold
# them needs a bend between key and answer: a small network. To *write* into one, there is still the gradient step of section 3,
# which never needed $M$ to be a matrix. That is lesson 02.
#
# ## Summary
#
# - Attention is regression with all data kept: the mean of the values, weighted by nearness.
# - Linear attention is a matrix to which every pair adds $v k^\top$. The others interfere by $(k_i \cdot k_j)\, v_i$; with
#   random keys the error is $(n - 1)/d$.
# - The delta rule writes the difference, $M + \beta (v - Mk) k^\top$: one step of regression, exact for the pair at hand at
#   $\beta = 1/|k|^2$, and a projection for all others. Of an old value $(1 - 1/d)^t$ is left after $t$ random writes.
# - Adding drowns, the delta rule forgets. Neither is better everywhere.
# - Read often enough with a small step, the delta rule finds least squares. Beyond $d$ pairs no matrix is exact.
# - In Titans $\theta = \beta / 2$, since its loss has no $\tfrac12$; the gradient is called surprise.
#
# ## References
#
# - E. A. Nadaraya: *On Estimating Regression*, 1964; G. S. Watson: *Smooth Regression Analysis*, 1964.
# - B. Widrow, M. E. Hoff: *Adaptive Switching Circuits*, 1960. S. Kaczmarz: *Angenäherte Auflösung von Systemen linearer
#   Gleichungen*, 1937.
# - A. Katharopoulos et al.: *Transformers are RNNs*, arXiv [2006.16236](https://arxiv.org/abs/2006.16236).
# - I. Schlag, K. Irie, J. Schmidhuber: *Linear Transformers Are Secretly Fast Weight Programmers*, arXiv
#   [2102.11174](https://arxiv.org/abs/2102.11174): the delta rule in attention.

# %% [markdown] lang="ja" en="fa1f9bc8"
# ペアが4つで列も4つあるのに、どんな行列も合いません。3つのキーへの答えで、その和への答えが決まってしまうからです。
# これを保持できるメモリには、キーと答えの間に非線形な「曲がり」が必要です。それが、小さなネットワークです。
# そこに**書き込む**ときも、3節の勾配のステップを使えます。$M$ が行列である必要は、まったくなかったからです。これがレッスン02のテーマです。
#
# ## まとめ
#
# - アテンションは、データを全部取っておく回帰で、近さで重みをつけた値の平均を返します。
# - 線形アテンションは、ペアごとに $v k^\top$ を足していく行列です。ほかのペアが $(k_i \cdot k_j)\, v_i$ だけ干渉し、
#   ランダムなキーでは、誤差が $(n - 1)/d$ になります。
# - デルタ則は、違っている分を書きます。$M + \beta (v - Mk) k^\top$ は回帰の1ステップで、$\beta = 1/|k|^2$ なら、そのペアは正確になり、
#   ほかのキーにとっては射影になります。ランダムな書き込みを $t$ 回した後、古い値は $(1 - 1/d)^t$ だけ残ります。
# - 足すメモリは雑音に埋もれ、デルタ則は忘れます。いつでも優れているほう、というものはありません。
# - 小さなステップで十分に何度も読めば、デルタ則は最小2乗法の解を見つけます。$d$ ペアを超えると、どんな行列も正確ではありません。
# - Titans では、損失（loss）に $\tfrac12$ が付いていないので、$\theta = \beta / 2$ です。また、その勾配を、驚き（surprise）と呼びます。
#
# ## 参考文献
#
# - E. A. Nadaraya: *On Estimating Regression*, 1964；G. S. Watson: *Smooth Regression Analysis*, 1964。
# - B. Widrow, M. E. Hoff: *Adaptive Switching Circuits*, 1960。S. Kaczmarz: *Angenäherte Auflösung von Systemen linearer
#   Gleichungen*, 1937。
# - A. Katharopoulos et al.: *Transformers are RNNs*, arXiv [2006.16236](https://arxiv.org/abs/2006.16236)。
# - I. Schlag, K. Irie, J. Schmidhuber: *Linear Transformers Are Secretly Fast Weight Programmers*, arXiv
#   [2102.11174](https://arxiv.org/abs/2102.11174)。アテンションにデルタ則を使います。

# %% tags=["nbval-ignore-output"]
progress()
